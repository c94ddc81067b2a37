"""Operating systems without what only POSIX has: reading, copying and checking work there too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cloudimg.errors import ArgumentError
from cloudimg.migration.run.memory import default_max_bytes
from cloudimg.settings import operating_system

HIDE = """
import asyncio, contextlib, multiprocessing, os, signal, subprocess, sys

with contextlib.suppress(ImportError):
    import psutil  # like the ones above, it chooses its code by the name of the system

for name in (
    "fork", "forkpty", "pread", "preadv", "pwrite", "pwritev", "register_at_fork", "sysconf",
    "sysconf_names", "getuid", "geteuid", "mkfifo", "statvfs",
    "O_TMPFILE",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD"):
    delattr(signal, name)

flag = os.O_NONBLOCK
del os.O_NONBLOCK
import cloudimg.settings.operating_system

os.O_NONBLOCK = flag  # without it Python 3.13 deletes no folder here
"""

WORK = """
import numpy as np
import cloudimg

folder, total = sys.argv[1], int(sys.argv[2])
pattern = f"{folder}/z{{z}}.tif"
image = cloudimg.open(pattern)
assert image.shape == (3, 64, 96), image.shape
assert int(image.read().sum()) == total
assert int(cloudimg.imread(pattern).compute().sum()) == total
cloudimg.migrate(pattern, f"{folder}/copy.ome.zarr")
assert cloudimg.verify(f"{folder}/copy.ome.zarr", against_source=True)
assert cloudimg.export(f"{folder}/copy.ome.zarr", f"{folder}/again").n_files == 3
assert int(cloudimg.open(f"{folder}/again/z{{z}}.tif").read().sum()) == total

from cloudimg.cli.main import main

assert main(["info", pattern]) == 0

import cloudimg.cluster
from cloudimg.cluster import node

description = {
    "version": 1, "kind": "aws-ecs", "region": "r", "cluster": "c",
    "scheduler_task_definition": "s", "worker_task_definition": "w", "container": "c",
    "subnets": [], "scheduler_security_groups": [], "worker_security_groups": [],
    "parameter_prefix": "p",
}
for use in (
    lambda: cloudimg.cluster.up(description, 1),
    lambda: cloudimg.cluster.start(description, 1).__enter__(),
    lambda: cloudimg.cluster.connect(description).__enter__(),
    lambda: cloudimg.cluster.down(description),
    lambda: cloudimg.cluster.status(description),
    lambda: node.main(["scheduler"]),
):
    try:
        use()
    except cloudimg.errors.ArgumentError as error:
        assert "need Linux or macOS" in str(error), error
    else:
        raise AssertionError("a cluster was not refused")
print("all works")
"""


@pytest.mark.slow
def test_an_archive_is_read_migrated_and_verified_without_posix(tmp_path: Path) -> None:
    pixels = np.arange(3 * 64 * 96, dtype=np.uint16).reshape(3, 64, 96)
    for z, plane in enumerate(pixels):
        tifffile.imwrite(tmp_path / f"z{z}.tif", plane, compression="zlib")
    done = subprocess.run(
        [sys.executable, "-c", HIDE + WORK, str(tmp_path), str(pixels.sum())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all works\n")


def test_reading_at_an_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    handle = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        expected = [operating_system.read_at(handle, 4, start) for start in (3, 8, 20)]
        assert expected == [b"3456", b"89", b""]
        monkeypatch.delattr(os, "pread")
        assert [operating_system.read_at(handle, 4, start) for start in (3, 8, 20)] == expected
    finally:
        os.close(handle)


def test_memory_of_a_machine_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operating_system.memory_bytes() > 2**28
    monkeypatch.setattr(os, "sysconf", lambda name: int(name))  # an unknown name is a ValueError
    assert operating_system.memory_bytes() == operating_system.ASSUMED_MEMORY_BYTES
    monkeypatch.delattr(os, "sysconf")
    assert operating_system.memory_bytes() == operating_system.ASSUMED_MEMORY_BYTES
    assert 0 < default_max_bytes() <= 0.4 * operating_system.ASSUMED_MEMORY_BYTES


def test_callbacks_after_a_fork_need_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    monkeypatch.setattr(os, "register_at_fork", lambda **names: registered.append(names))
    operating_system.run_after_fork(print)
    assert registered == [{"after_in_child": print}]
    monkeypatch.delattr(os, "register_at_fork")
    operating_system.run_after_fork(print)
    assert len(registered) == 1


def test_what_needs_posix_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    operating_system.require_posix("clusters")
    monkeypatch.delattr(os, "fork")
    with pytest.raises(ArgumentError, match="clusters need Linux or macOS"):
        operating_system.require_posix("clusters")
