"""From every kind of store to every other: pairs of them, not all pairs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from tests.conftest import Place, folder_place, gcs_place, http_place, memory_place, s3_place
from tests.support import copies, seed
from tests.support.servers import S3Account, moto_server, real_s3

pytestmark = pytest.mark.slow

PAIRS = [
    ("local", "s3-a"),
    ("s3-a", "s3-b"),
    ("s3-b", "local"),
    ("s3-a", "s3-a"),
    ("http", "s3-b"),
    ("http", "local"),
    ("gs", "s3-a"),
    ("local", "gs"),
    ("s3-b", "gs"),
    ("gs", "gs"),
    ("memory", "s3-a"),
    ("s3-b", "memory"),
    ("local", "memory"),
]
"""Source and destination: each kind of store is read and written beside at least two others."""
PATTERN = "t{t}_z{z}.tif"
PIXELS = np.arange(2 * 6 * 40 * 56, dtype=np.uint32).astype(np.uint16).reshape(2, 6, 40, 56)
ARGUMENTS: dict[str, Any] = {
    "chunks": 16, "shards": {"z": 1, "y": 48, "x": 64}, "levels": 2, "max_mem": 100_000,
}  # fmt: skip
WORDS = ["--chunks", "16", "--shards", "z=1,y=48,x=64", "--levels", "2"]
N_BEFORE_KILL = 3
KILLED = """
import json, os, signal, sys
import cloudimg

def kill(advance):
    if advance.n_done >= {n}:
        os.kill(os.getpid(), signal.SIGKILL)

cloudimg.migrate(*sys.argv[1:3], progress=kill, **json.load(sys.stdin))
"""


@dataclass(frozen=True, slots=True)
class Stores:
    """One place on each kind of store."""

    request: pytest.FixtureRequest
    other_s3: S3Account
    stack: ExitStack = field(default_factory=ExitStack)

    def place(self, name: str) -> Place:
        return self.stack.enter_context(PLACES[name](self))


def s3_a(stores: Stores) -> Any:
    account = S3Account(stores.request.getfixturevalue("moto"), key="key-of-a", secret="secret-a")
    return s3_place("s3-a", account, f"a-{uuid.uuid4().hex[:12]}")


def s3_b(stores: Stores) -> Any:
    return s3_place("s3-b", stores.other_s3, f"b-{uuid.uuid4().hex[:12]}")


@contextmanager
def local(stores: Stores) -> Iterator[Place]:
    folder = stores.request.getfixturevalue("tmp_path") / uuid.uuid4().hex
    with folder_place("local", folder, str(folder)) as place:
        yield place


PLACES: dict[str, Callable[[Stores], Any]] = {
    "local": local,
    "s3-a": s3_a,
    "s3-b": s3_b,
    "http": lambda stores: http_place(stores.request),
    "gs": lambda stores: gcs_place(stores.request),
    "memory": lambda stores: memory_place(stores.request),
}


@pytest.fixture(scope="module")
def other_s3() -> Iterator[S3Account]:
    """Another S3 than that of `moto`, with other keys: a real one, if there is one."""
    account = real_s3()
    if account is not None:
        yield account
        return
    with moto_server() as endpoint:
        yield S3Account(endpoint, key="key-of-b", secret="secret-b")


@pytest.fixture
def stores(request: pytest.FixtureRequest, other_s3: S3Account) -> Iterator[Stores]:
    made = Stores(request, other_s3)
    with made.stack:
        yield made


def interrupt(source: str, out: str, options: dict[str, Any], *, kills: bool) -> None:
    """Migrate, and end that without warning after some cells."""
    arguments = {**ARGUMENTS, **options}
    if not kills:  # other processes cannot see this one's memory

        def stop(advance: Any) -> None:
            if advance.n_done >= N_BEFORE_KILL:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cloudimg.migrate(source, out, progress=stop, **arguments)
        return
    ended = subprocess.run(
        [sys.executable, "-c", KILLED.format(n=N_BEFORE_KILL), source, out],
        input=json.dumps(arguments).encode(),
        check=False,
        timeout=120,
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("source_name", "target_name"), PAIRS)
def test_a_pair_of_stores(
    stores: Stores,
    source_name: str,
    target_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    set_variable: Callable[[str, str], None],
) -> None:
    if target_name == "gs":  # the emulator does not fence, so the lease of the killed is awaited
        set_variable("CLOUDIMG_LEASE_TTL_S", "5")
    source = stores.place(source_name)
    is_one = source_name == target_name
    target = source if is_one else stores.place(target_name)
    for t, z in np.ndindex(2, 6):
        source.put(f"tiffs/t{t}_z{z}.tif", seed.encode(PIXELS[t, z]))
    pattern, out = f"{source.url}/tiffs/{PATTERN}", f"{target.url}/copy.zarr"
    options = {"source_options": source.storage_options, "target_options": target.storage_options}
    kills = "memory" not in (source_name, target_name)

    interrupt(pattern, out, options, kills=kills)
    of_source = ["--source-options", json.dumps(source.storage_options)]
    of_target = ["--target-options", json.dumps(target.storage_options)]
    assert main(["migrate", pattern, out, *WORDS, *of_source, *of_target]) == 0, capsys.readouterr()
    assert main(["migrate", pattern, out, *WORDS, *of_source, *of_target]) == 0
    assert "nothing left to do" in capsys.readouterr().out

    check = ["verify", out, "--storage-options", json.dumps(target.storage_options)]
    # Where a source needs options and is in another store, they are its own.
    needs_options = bool(source.storage_options) and not is_one
    words = of_source if needs_options else []
    assert main([*check, "--against-source", "--yes", *words, "--json"]) == 0, capsys.readouterr()
    found = json.loads(capsys.readouterr().out)
    assert found["n_problems"] == 0
    assert found["n_compared"] > 0
    assert main([*check, "--source", pattern, *words]) == 0

    copied = ["--source-options", json.dumps(target.storage_options)]
    assert main(["export", out, str(tmp_path / "files"), *copied]) == 0
    for t, z in np.ndindex(2, 6):
        pixels = tifffile.imread(tmp_path / "files" / f"t{t}_z{z}.tif")
        np.testing.assert_array_equal(pixels, PIXELS[t, z])

    for data in copies.objects(out, target.storage_options).values():
        for secret in ("secret-a", stores.other_s3.secret):
            assert secret.encode() not in data
