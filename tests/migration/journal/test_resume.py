"""Killed, failing and concurrent migrations: the same call ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import DamagedCopyError, LeaseError
from cloudimg.migration.journal import acquiring
from cloudimg.migration.journal.sealing import unsealed
from tests.support import copies, faulty_store, killing, seed
from tests.support.counting import Clock
from tests.support.metering import Meter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # all of them together

SHAPE = {"chunks": 32, "shards": {"t": 1, "c": 1, "z": 5, "y": 32, "x": 96}, "levels": 4}
"""Many small cells, and a second stage."""
KILLS = 128 if "CLOUDIMG_TEST_KILLS" in os.environ else 13


def copy(source: str, url: str, options: dict[str, Any], arguments: dict[str, Any]) -> None:
    """The call that is killed; runs in a process of its own."""
    cloudimg.migrate(
        source,
        url,
        source_options=options,
        target_options=options,
        **arguments,
    )


@pytest.fixture(scope="module")
def processes() -> Any:
    return killing.processes_with(
        "cloudimg.migration.run.write", "tests.migration.journal.test_resume"
    )


@pytest.fixture
def archive(meter: Meter, bucket: str) -> str:
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data))
    return f"s3://{bucket}/src/{seed.PATTERN}"


@pytest.mark.timeout(900)
def test_killed_at_random_moments_and_started_again(
    processes: Any, meter: Meter, bucket: str, archive: str
) -> None:
    options, arguments = meter.storage_options, {**SHAPE, "companions": True}
    meter.put(bucket, "src/Index.xml", b"<index/>")
    meter.latency(2)
    undisturbed = f"s3://{bucket}/undisturbed.zarr"
    for url in (f"s3://{bucket}/warm.zarr", undisturbed):
        begin = time.monotonic()
        first = processes.Process(target=copy, args=(archive, url, options, arguments))
        first.start()
        first.join()
        assert first.exitcode == 0
        duration_s = time.monotonic() - begin
    expected = copies.image_of(copies.objects(undisturbed, options))
    assert len(expected) > 30
    assert expected["companions/Index.xml"] == b"<index/>"
    draw = random.Random(11)
    n_killed = number = 0
    while n_killed < KILLS:
        number += 1
        url = f"s3://{bucket}/killed-{number}.zarr"
        while True:
            work = processes.Process(target=copy, args=(archive, url, options, arguments))
            work.start()
            work.join(draw.uniform(0, duration_s))
            work.kill()  # nothing happens to one that has just ended
            work.join()
            if work.exitcode != -signal.SIGKILL:
                break
            n_killed += 1
        assert work.exitcode == 0
        found = copies.objects(url, options)
        assert copies.image_of(found) == expected
        leases = [key for key in found if "/lease/" in key]
        assert len(leases) >= 1
    proof = cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )
    assert proof, str(proof)


def test_only_unfinished_cells_are_done_again(
    processes: Any, meter: Meter, bucket: str, archive: str
) -> None:
    options = meter.storage_options
    url = f"s3://{bucket}/copy.zarr"
    meter.latency(10)
    work = processes.Process(target=copy, args=(archive, url, options, SHAPE))
    work.start()
    while sum("/cells/" in key for key in copies.names(url, options)) < 5:
        time.sleep(0.01)
    os.kill(work.pid, signal.SIGKILL)
    work.join()
    meter.latency(0)
    before = copies.objects(url, options)
    finished: list[Any] = [unsealed(data) for key, data in before.items() if "/cells/" in key]
    stored = {
        item[0] for record in finished for level in record["levels"] for item in level["objects"]
    }
    with meter.measure() as traffic:
        result = cloudimg.migrate(
            archive,
            url,
            source_options=options,
            target_options=options,
            **SHAPE,
        )
    assert result.n_done_before == len(finished) >= 5
    rewritten = {r.key.removeprefix("copy.zarr/") for r in traffic.requests if r.kind == "put"}
    assert not rewritten & stored


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([{"kind": "status", "status": 503}], id="503"),
        pytest.param([{"kind": "status", "status": 500}], id="500"),
        pytest.param([{"kind": "reset"}], id="reset"),
        pytest.param([{"kind": "stall"}], id="timeout"),
        pytest.param([{"kind": "slow", "seconds": 0.3}], id="slow drip"),
        pytest.param([{"kind": "truncate", "match": "^GET"}], id="truncated"),
        pytest.param([{"kind": "status", "status": 500, "apply": True}], id="stored, then 500"),
        pytest.param([{"kind": "reset", "apply": True}], id="stored, then reset"),
    ],
)
def test_faults_at_one_request_in_twenty(
    meter: Meter, bucket: str, archive: str, faults: list[dict[str, Any]]
) -> None:
    options = meter.storage_options
    plain, url = f"s3://{bucket}/plain.zarr", f"s3://{bucket}/copy.zarr"
    copy(archive, plain, options, SHAPE)
    meter.faults([{"match": "", "probability": 0.05, **fault} for fault in faults])
    code = (
        "import sys, json; from tests.migration.journal.test_resume import copy, SHAPE\n"
        "copy(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), SHAPE)"
    )
    # In a process of its own, because the time-out is read once.
    environment = {**os.environ, "CLOUDIMG_TIMEOUT_S": "0.5"}
    try:
        subprocess.run(
            [sys.executable, "-c", code, archive, url, json.dumps(options)],
            check=True,
            env=environment,
            cwd=Path(__file__).parents[3],
            timeout=120,
        )
    finally:
        meter.faults([])
    expected = copies.image_of(copies.objects(plain, options))
    assert copies.image_of(copies.objects(url, options)) == expected
    assert cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )


# ------------------------------------------------------------------------------------------- leases


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for z in range(4):
        tifffile.imwrite(tmp_path / f"a_{z}.tif", np.full((64, 64), z, np.uint8))
    return tmp_path


def test_concurrent_migrations_to_one_destination_are_rejected(
    processes: Any, meter: Meter, bucket: str, archive: str
) -> None:
    options = meter.storage_options
    url = f"s3://{bucket}/copy.zarr"
    meter.faults([faulty_store.held("PUT", "copy.zarr/0/c/", nth=1)])
    first = processes.Process(target=copy, args=(archive, url, options, SHAPE))
    first.start()
    wait_until(lambda: bool(meter.held()), "storing")
    with pytest.raises(LeaseError, match=f"another migration is writing to {url}"):
        copy(archive, url, options, SHAPE)
    with pytest.raises(LeaseError):
        copy(archive, url, options, {**SHAPE, "overwrite": True})
    meter.release()
    first.join()
    assert first.exitcode == 0
    assert cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )


def test_many_migrations_that_start_at_once(small: Path) -> None:
    image, out = cloudimg.open(f"{small}/a_{{z}}.tif"), small / "copy.zarr"
    outcomes: list[Any] = []

    def run() -> None:
        try:
            outcomes.append(image.to_zarr(out))
        except LeaseError as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert any(not isinstance(each, LeaseError) for each in outcomes)
    assert cloudimg.verify(out, against_source=True)


@pytest.fixture
def held(small: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A destination whose lease a process of another machine holds."""
    out = small / "copy.zarr"
    folder = out / ".cloudimg" / "lease"
    folder.mkdir(parents=True)
    holder = {"host": "elsewhere", "boot": "x", "space": "y", "pid": 1, "born": "1"}
    holder |= {"owner": "z", "ttl_s": 1.0, "counter": 0, "released": False}
    (folder / "00000007.json").write_text(json.dumps(holder))
    yield out, holder
    shutil.rmtree(out, ignore_errors=True)


def test_a_lease_without_heartbeat_is_taken_over_after_a_wait(
    small: Path, held: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = held
    notes: list[str] = []
    clock = Clock()
    monkeypatch.setattr(acquiring, "time", clock)
    monkeypatch.setattr(acquiring, "elapsed_s", clock.monotonic)
    cloudimg.open(f"{small}/a_{{z}}.tif").to_zarr(
        out, progress=lambda advance: notes.append(advance.note)
    )
    assert sum(clock.sleeps_s) == pytest.approx(1)
    assert len(clock.sleeps_s) == pytest.approx(20, abs=1)  # a look at the lease after each
    waiting, taking_over = (note for note in notes if "process 1 on elsewhere" in note)
    assert "process 1 on elsewhere: waiting 1 s" in waiting
    assert "taking over" in taking_over
    assert (out / ".cloudimg/lease/00000008.json").exists()
    assert cloudimg.verify(out, against_source=True)


def test_a_lease_with_a_heartbeat_is_not_taken_over(
    small: Path, held: tuple[Path, dict[str, Any]]
) -> None:
    out, holder = held
    path = out / ".cloudimg/lease/00000007.json"
    renewing = threading.Timer(0.3, lambda: path.write_text(json.dumps({**holder, "counter": 1})))
    renewing.start()
    with pytest.raises(LeaseError, match="process 1 on elsewhere"):
        cloudimg.open(f"{small}/a_{{z}}.tif").to_zarr(out)
    renewing.join()
    assert not (out / "zarr.json").exists()


def test_a_migration_that_lost_its_lease_stores_nothing_more(
    small: Path, set_variable: Callable[[str, str], None]
) -> None:
    """As after a long sleep of the machine: another migration took over meanwhile."""
    set_variable("CLOUDIMG_LEASE_TTL_S", "0.4")
    out = small / "copy.zarr"

    def take_over(advance: Any) -> None:
        if advance.n_done == 1:
            path = out / ".cloudimg/lease/00000002.json"
            path.write_text(json.dumps({"owner": "other", "counter": 0, "ttl_s": 1}))
            time.sleep(0.5)

    image = cloudimg.open(f"{small}/a_{{z}}.tif")
    with pytest.raises(LeaseError, match="another migration took over"):
        image.to_zarr(out, chunks=32, shards=32, levels=1, progress=take_over, max_mem=30_000)
    assert not (out / "zarr.json").exists()
    # Its own lease has ended, the other one has not.
    set_variable("CLOUDIMG_LEASE_TTL_S", "1")
    image.to_zarr(out, chunks=32, shards=32, levels=1)
    assert cloudimg.verify(out, against_source=True)


# ------------------------------------------------------------------------------- missing objects

PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 32, "x": 32}, "levels": 3}
"""Sixteen cells, and one in a second stage."""


@pytest.fixture
def whole(small: Path) -> Path:
    """A finished copy."""
    rng = np.random.default_rng(3)
    for z in range(4):
        pixels = rng.integers(1, 2**8, (64, 64), np.uint8)
        tifffile.imwrite(small / f"a_{z}.tif", pixels, photometric="minisblack")
    again(small)
    return small / "copy.zarr"


def again(folder: Path, pattern: str = "a_{z}.tif", **arguments: Any) -> Any:
    return cloudimg.migrate(f"{folder}/{pattern}", folder / "copy.zarr", **PARTS, **arguments)


RECORD = ".cloudimg/cells/0/000000003.json"
LOST = {
    "a shard": ["0/c/1/0/1"],
    "a shard of a higher level": ["1/c/0/0/0"],
    "shards of one cell": ["0/c/1/0/0", "1/c/0/0/0", "2/c/0/0/0"],
    "a commit record": [RECORD],
    "a commit record of the second stage": [".cloudimg/cells/1/000000000.json"],
    "a commit record and its shard": [RECORD, "0/c/0/1/1"],
    "the root metadata": ["zarr.json"],
    "the metadata of an array": ["1/zarr.json"],
    "originals": ["originals/part-000000004.parquet"],
}


@pytest.mark.parametrize("what", LOST)
def test_missing_objects_of_a_finished_copy_are_named(small: Path, whole: Path, what: str) -> None:
    """Nothing is written, and without its end mark the copy is continued."""
    before = copies.image_of(copies.objects(str(whole), {}))
    for key in LOST[what]:
        (whole / key).unlink()
    lacking = copies.image_of(copies.objects(str(whole), {}))
    assert not cloudimg.verify(whole)
    for _ in range(2):
        with pytest.raises(DamagedCopyError) as caught:
            again(small)
        named = [key for key in LOST[what] if f"{whole}/{key}: missing" in caught.value.message]
        assert named == (LOST[what] if RECORD not in LOST[what] else [RECORD])
        assert "Nothing was written" in caught.value.message
        assert "overwrite=True" in caught.value.message
        assert copies.image_of(copies.objects(str(whole), {})) == lacking
    (whole / ".cloudimg/done.json").unlink()
    done = again(small)
    assert done.n_done_before >= done.n_cells - 2
    assert "nothing left to do" not in str(done)
    assert copies.image_of(copies.objects(str(whole), {})) == before
    proof = cloudimg.verify(whole, against_source=True)
    assert proof, str(proof)
    assert "nothing left to do" in str(again(small))


@pytest.mark.parametrize("what", ["all", "a shard"])
def test_what_lacks_its_end_mark_is_continued(small: Path, whole: Path, what: str) -> None:
    before = copies.image_of(copies.objects(str(whole), {}))
    (whole / ".cloudimg/done.json").unlink()
    if what == "a shard":
        (whole / "zarr.json").unlink()
        (whole / "0/c/1/0/1").unlink()
    assert not cloudimg.verify(whole)
    assert again(small).n_done_before >= 16
    assert copies.image_of(copies.objects(str(whole), {})) == before
    assert cloudimg.verify(whole, against_source=True)


def test_a_truncated_shard_is_named_and_written_again(small: Path, whole: Path) -> None:
    path = whole / "0/c/1/0/1"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    what = re.escape(f"{path}: {len(data) - 1} bytes instead of {len(data)}")
    with pytest.raises(DamagedCopyError, match=what):
        again(small)
    assert path.read_bytes() == data[:-1]
    (whole / ".cloudimg/done.json").unlink()
    assert again(small).n_objects > 0
    assert path.read_bytes() == data
    path.unlink()
    again(small, overwrite=True)
    assert path.read_bytes() == data


def test_a_replaced_shard_of_equal_size_is_told_by_its_version(small: Path, whole: Path) -> None:
    moved = small.with_name("moved")
    shutil.copytree(small, moved)
    for folder in (small, moved):
        path = folder / "copy.zarr/0/c/1/0/1"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedCopyError, match=re.escape(f"{whole}/0/c/1/0/1: other bytes")):
        again(small)
    # All of a copy that was moved has other versions: that is left to `verify`.
    assert cloudimg.migrate(f"{small}/a_{{z}}.tif", moved / "copy.zarr", **PARTS).n_objects == 0
    assert not cloudimg.verify(moved / "copy.zarr")


def test_foreign_objects_do_not_make_a_copy_unfinished(small: Path, whole: Path) -> None:
    (whole / "README.txt").write_text("mine")
    done = again(small)
    assert (done.n_objects, done.n_done_before) == (0, done.n_cells)
    assert (whole / "README.txt").read_text() == "mine"


def test_leftovers_are_deleted(small: Path, whole: Path) -> None:
    leftover = whole / "0/.0.6f1c.cloudimg-part"
    leftover.write_bytes(b"half a shard")
    assert not cloudimg.verify(whole)
    again(small)
    assert not leftover.exists()
    assert cloudimg.verify(whole)


def test_a_complete_copy_costs_few_requests(meter: Meter, bucket: str, archive: str) -> None:
    """However many cells it has."""
    options = meter.storage_options
    url = f"s3://{bucket}/copy.zarr"
    copy(archive, url, options, SHAPE)
    names = copies.names(url, options)
    assert sum("/cells/" in name for name in names) > 10
    with meter.measure() as traffic:
        copy(archive, url, options, SHAPE)
    ours = [r for r in traffic.requests if r.key.startswith("copy.zarr") or "prefix" in str(r)]
    # Among them are two requests that prove that listings are complete, and one for the lease.
    assert len(ours) <= 17, [(r.method, r.key) for r in ours]
    assert not [r for r in ours if "/cells/" in r.key]


@pytest.mark.parametrize("stage", [0, 1])
def test_objects_that_a_worker_of_another_migration_stored_late(
    small: Path, whole: Path, stage: int
) -> None:
    """Its cells are done again, and all cells that were made from them."""
    expected = copies.image_of(copies.objects(str(whole), {}))
    other = small.parent / f"{small.name}-other"
    other.mkdir()
    rng = np.random.default_rng(4)
    for z in range(4):
        pixels = rng.integers(1, 2**8, (64, 64), np.uint8)
        tifffile.imwrite(other / f"a_{z}.tif", pixels, photometric="minisblack")
    again(other)
    key = f".cloudimg/cells/{stage}/000000000.json"
    stray: Any = unsealed((other / "copy.zarr" / key).read_bytes())
    for name, *_ in (item for level in stray["levels"] for item in level["objects"]):
        shutil.copy(other / "copy.zarr" / name, whole / name)
    shutil.copy(other / "copy.zarr" / key, whole / key)
    assert not cloudimg.verify(whole)
    if stage == 0:  # a cell that this migration made from what the late worker stored
        shutil.copy(other / "copy.zarr/2/c/0/0/0", whole / "2/c/0/0/0")
    for name in (".cloudimg/done.json", "zarr.json"):
        (whole / name).unlink()
    again(small)
    assert copies.image_of(copies.objects(str(whole), {})) == expected
    assert cloudimg.verify(whole, against_source=True)


def test_a_late_shard_of_an_empty_cell(small: Path) -> None:
    """Empty shards are stored, too: the place is taken."""
    for z in range(4):
        tifffile.imwrite(small / f"a_{z}.tif", np.full((64, 64), z, np.uint8))
    again(small)
    out = small / "copy.zarr"
    expected = copies.image_of(copies.objects(str(out), {}))
    other = small.parent / f"{small.name}-other"
    other.mkdir()
    for z in range(4):
        tifffile.imwrite(other / f"a_{z}.tif", np.full((64, 64), 9, np.uint8))
    again(other)
    for name in ("0/c/0/0/0", ".cloudimg/cells/0/000000000.json"):
        assert (out / name).exists()
        shutil.copy(other / "copy.zarr" / name, out / name)
    (out / ".cloudimg/done.json").unlink()
    again(small)
    assert copies.image_of(copies.objects(str(out), {})) == expected
    assert cloudimg.verify(out, against_source=True)
