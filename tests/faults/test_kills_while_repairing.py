"""A repair, killed at each of its calls to the store: another one mends the rest.

By default a tenth of the calls, chosen by seed; all of them with ``CLOUDIMG_TEST_KILLS``.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from tests.support import copies, killing
from tests.support.metering import Meter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 3}
"""Four cells, and one in a second stage."""

Objects = dict[str, bytes]


def repair(url: str, options: dict[str, Any], kill_at: int = 0) -> None:
    """The call that is killed; runs in a process of its own."""
    if kill_at:
        killing.kill_at(url, kill_at)
    cloudimg.repair(url, storage_options=options, remove_orphans=True)


@pytest.fixture(scope="module")
def processes() -> Any:
    return killing.processes_with("cloudimg.api.repairs", "tests.faults.test_kills_while_repairing")


@pytest.fixture
def archive(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(0)
    for z in range(4):
        plane = draw.integers(1, 255, (64, 64), np.uint8)
        tifffile.imwrite(tmp_path / f"in/a_{z}.tif", plane, photometric="minisblack")
    return f"{tmp_path}/in/a_{{z}}.tif"


def damaged(whole: Objects) -> Objects:
    """A copy with damage of each kind."""
    found = dict(whole)
    for key in ("0/c/1/0/0", "1/c/2/0/0", "2/c/0/0/0", "zarr.json", PLAN):
        found[key] = found[key][:-2]
    for key in ("1/c/3/0/0", "0/zarr.json", ".cloudimg/cells/0/000000000.json"):
        del found[key]
    return {**found, "0/c/9/0/0": b"x"}


def store(url: str, options: dict[str, Any], found: Objects) -> None:
    fs, root = fsspec.core.url_to_fs(url, **options)
    for key, data in found.items():
        fs.makedirs(f"{root}/{key}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{key}", data)


def assert_safe(url: str, options: dict[str, Any], whole: Objects, archive: str) -> None:
    """A repair that was killed leaves a copy that is damaged and says so, and has a plan."""
    found = copies.objects(url, options)
    assert END_MARK in found
    assert whole[PLAN] in (found.get(PLAN), found.get(PLAN_COPY))
    try:
        done = cloudimg.migrate(archive, url, target_options=options, **PARTS)
    except cloudimg.CloudimgError:
        return
    assert done.n_objects == 0
    proof = cloudimg.verify(url, storage_options=options)
    assert proof, str(proof)


def assert_mended(url: str, options: dict[str, Any], whole: Objects, at: int) -> None:
    done = cloudimg.repair(url, storage_options=options, remove_orphans=True)
    assert done, str(done)
    now = copies.objects(url, options)
    assert copies.image_of(now) == copies.image_of(whole), at
    assert now[PLAN] == now[PLAN_COPY] == whole[PLAN]
    assert cloudimg.verify(url, storage_options=options)


def run(processes: Any, *arguments: Any) -> int:
    """Do a repair in a process; return its exit code."""
    return killing.exit_code(processes, repair, *arguments)


def test_in_a_folder(processes: Any, archive: str, tmp_path: Path) -> None:
    cloudimg.migrate(archive, tmp_path / "whole.zarr", **PARTS)
    whole = copies.objects(str(tmp_path / "whole.zarr"), {})
    at, n_killed = 0, 0
    while True:
        at = killing.next_call(at)
        url = f"{tmp_path}/copy-{at}.zarr"
        store(url, {}, damaged(whole))
        code = run(processes, url, {}, at)
        n_killed += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        assert_safe(url, {}, whole, archive)
        assert_mended(url, {}, whole, at)
        if code == 0:  # it makes fewer calls
            break
    assert n_killed >= 5


@pytest.mark.parametrize("arrives", [False, True], ids=["lost", "arrives"])
def test_in_a_bucket(
    processes: Any, archive: str, meter: Meter, bucket: str, arrives: bool
) -> None:
    """The request that is under way is never carried out, or after the process has died."""
    options = meter.storage_options
    url = f"s3://{bucket}/whole.zarr"
    cloudimg.migrate(archive, url, target_options=options, **PARTS)
    whole = copies.objects(url, options)
    store(f"s3://{bucket}/first.zarr", options, damaged(whole))
    with meter.measure() as traffic:
        assert run(processes, f"s3://{bucket}/first.zarr", options) == 0
    for number in killing.chosen_calls(len(traffic.requests), 17):
        url = f"s3://{bucket}/copy-{number}.zarr"
        store(url, options, damaged(whole))
        killing.kill_during_request(
            processes,
            repair,
            (url, options),
            meter=meter,
            bucket=bucket,
            number=number,
            arrives=arrives,
        )
        assert_safe(url, options, whole, archive)
        assert_mended(url, options, whole, number)
