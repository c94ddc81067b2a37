"""Two migrations to one destination that do not see each other's ends.

One of them is paused, interrupted, hidden, cut off or asleep, and takes itself for the holder of
the lease. The second is refused, or exactly one right copy remains.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import CloudimgError, CloudimgWarning, ClusterError, LeaseError
from tests.support import clusters, copies
from tests.support.faulty_store import CONDITION, held, no_conditions, refused, unconditional
from tests.support.metering import Meter
from tests.support.waiting import wait_until
from tests.support.writers import (
    Writer,
    migrated,
    require_hidden_processes,
    require_other_machines,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHAPE = (6, 64, 64)
PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 2}
"""Six cells."""
LEASE = ".cloudimg/lease/00000001.json"


def image(name: str) -> Any:
    return np.random.default_rng(sum(map(ord, name))).integers(1, 255, SHAPE, np.uint8)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three images: the contents at first, and those of the two writers."""
    for name in ("old", "one", "two"):
        (tmp_path / name).mkdir()
        for z, plane in enumerate(image(name)):
            path = tmp_path / name / f"a_{z}.tif"
            tifffile.imwrite(path, plane, photometric="minisblack")
    return tmp_path


class Place:
    """A destination."""

    def __init__(self, archive: Path, url: str, options: Mapping[str, Any]) -> None:
        self.archive, self.url, self.options = archive, url, dict(options)

    def of(self, name: str, /, **more: Any) -> dict[str, Any]:
        """Arguments of a migration of one of the images."""
        source = f"{self.archive}/{name}/a_{{z}}.tif"
        options = {"target_options": self.options}
        return {"source": source, "url": self.url, **options, **PARTS, **more}

    def names(self) -> list[str]:
        return copies.names(self.url, self.options)

    def read(self, name: str) -> Any:
        return json.loads(copies.objects(self.url, self.options)[name])

    def pixels(self) -> Any:
        """Level 0 of the copy, read by Zarr."""
        if not self.options:
            return zarr.open_group(self.url, mode="r")["0"][:]
        store = zarr.storage.FsspecStore.from_url(self.url, storage_options=self.options)
        return zarr.open_group(store, mode="r")["0"][:]

    def check(self, name: str) -> None:
        """Check that it holds a whole copy of one of the images."""
        proof = cloudimg.verify(self.url, storage_options=self.options)
        assert proof, str(proof)
        np.testing.assert_array_equal(self.pixels(), image(name))


@pytest.fixture
def local(archive: Path) -> Place:
    return Place(archive, str(archive / "copy.zarr"), {})


@pytest.fixture
def on_s3(archive: Path, meter: Meter, bucket: str) -> Place:
    return Place(archive, f"s3://{bucket}/copy.zarr", meter.storage_options)


# ------------------------------------------------------------------------- a paused --overwrite


@pytest.mark.parametrize("move", [1, 2, 4, 6])
def test_a_paused_overwrite_deletes_nothing_of_its_successor(local: Place, move: int) -> None:
    """It pauses between its look at the lease and the call that moves a file or folder."""
    require_other_machines()
    assert migrated(local.of("old"))[0] == 0
    with Writer(local.of("one", overwrite=True), elsewhere=True, stops_at_move=move) as first:
        wait_until(first.is_paused, "pausing")
        code, text = migrated(local.of("two", overwrite=True))
        assert code == 0, text
        assert "taking over" in text
        local.check("two")
        first.go_on()
        code, text = first.end()
    assert code == 1
    assert "LeaseError: lost the lease" in text
    local.check("two")


def test_a_paused_overwrite_of_a_store_is_not_followed(
    on_s3: Place, meter: Meter, bucket: str
) -> None:
    """Its request to delete is on its way."""
    require_other_machines()
    assert migrated(on_s3.of("old"))[0] == 0
    meter.faults([held("POST", "", nth=2)])
    with Writer(on_s3.of("one", overwrite=True), elsewhere=True) as first:
        wait_until(lambda: bool(meter.held()), "deleting")
        first.pause()
        code, text = migrated(on_s3.of("two", overwrite=True))
        assert code == 1
        assert re.search(r"LeaseError: process \d+ on elsewhere began to delete", text)
        assert "pass yes=True" in text
        # Without consent to delete, it is refused as well.
        code, text = migrated(on_s3.of("two"))
        assert code == 1
        assert "was interrupted while it deleted the previous contents" in text
        meter.release()
        first.go_on()
        code, text = first.end()
    assert code == 1
    assert "LeaseError: lost the lease" in text
    # The first one has ended: nothing of it is on its way.
    code, text = migrated(on_s3.of("two", overwrite=True))
    assert code == 0, text
    on_s3.check("two")


def test_a_process_that_vanished_while_it_deleted_is_followed_on_request(
    on_s3: Place, meter: Meter
) -> None:
    require_other_machines()
    assert migrated(on_s3.of("old"))[0] == 0
    meter.faults([held("POST", "", nth=2)])
    with Writer(on_s3.of("one", overwrite=True), elsewhere=True):
        wait_until(lambda: bool(meter.held()), "deleting")
    meter.faults([])
    code, text = migrated(on_s3.of("two", overwrite=True))
    assert code == 1, text
    code, text = migrated(on_s3.of("two", overwrite=True, yes=True))
    assert code == 0, text
    on_s3.check("two")


def test_a_process_that_was_killed_while_it_deleted_is_followed(on_s3: Place, meter: Meter) -> None:
    """On this machine, where it is known to be dead."""
    assert migrated(on_s3.of("old"))[0] == 0
    meter.faults([held("POST", "", nth=2)])
    with Writer(on_s3.of("one", overwrite=True)):
        wait_until(lambda: bool(meter.held()), "deleting")
    meter.faults([])
    code, text = migrated(on_s3.of("two", overwrite=True))
    assert code == 0, text
    on_s3.check("two")


# ---------------------------------------------------------------------------- a hidden process


def test_a_process_of_another_user_is_not_taken_for_dead(on_s3: Place, meter: Meter) -> None:
    """With hidepid=2, /proc shows nobody but oneself."""
    require_hidden_processes()
    meter.faults([held("PUT", "copy.zarr/0/c/3/", nth=1)])
    with Writer(on_s3.of("one")) as first:
        wait_until(lambda: bool(meter.held()), "writing")
        code, text = migrated(on_s3.of("two", overwrite=True), hidden=True)
        assert code == 1, text
        assert "LeaseError: another migration is writing" in text
        meter.faults([])
        meter.release()
        assert first.end()[0] == 0
    on_s3.check("one")


# ------------------------------------------------------------------------- numbers of leases


def test_a_paused_writer_meets_the_number_of_its_successor(on_s3: Place, meter: Meter) -> None:
    """Also where the successor was refused, and wrote nothing but its lease."""
    require_other_machines()
    meter.faults([held("PUT", "/0/c/3/", nth=1)])
    with Writer(on_s3.of("one"), elsewhere=True) as first:
        wait_until(lambda: bool(meter.held()), "writing")
        first.pause()
        for _ in range(2):  # neither takes the number of the other
            code, text = migrated(on_s3.of("two", name="other arguments"))
            assert code == 1
            assert "unfinished migration with other arguments" in text
        leases = [name for name in on_s3.names() if "/lease/" in name]
        assert [Path(name).name for name in leases] == [f"0000000{n}.json" for n in (1, 2, 3)]
        meter.release()
        first.go_on()
        code, text = first.end()
    assert code == 1
    assert "LeaseError: lost the lease" in text
    assert migrated(on_s3.of("one"))[0] == 0
    on_s3.check("one")


def test_a_lease_that_was_deleted_is_lost(
    local: Place, set_variable: Callable[[str, str], None]
) -> None:
    """By somebody who cleans up a folder in use."""
    set_variable("CLOUDIMG_LEASE_TTL_S", "0.6")

    def clean_up(advance: Any) -> None:
        if advance.n_done == 1:
            Path(local.url, LEASE).unlink()
            time.sleep(0.5)

    with pytest.raises(LeaseError, match="was deleted or replaced meanwhile"):
        cloudimg.migrate(**local.of("one", progress=clean_up, max_mem=30_000))
    assert not Path(local.url, "zarr.json").exists()
    cloudimg.migrate(**local.of("one"))
    local.check("one")


# -------------------------------------------------------------------- stores without conditions


@pytest.mark.parametrize(
    "store",
    [unconditional("PUT"), no_conditions(), refused("PUT", "", 400, "Unwilling", header=CONDITION)],
    ids=["ignores", "501", "400"],
)
def test_a_store_that_does_not_fence_has_one_writer_at_a_time(
    on_s3: Place, meter: Meter, store: dict[str, Any]
) -> None:
    meter.faults([store])
    meter.latency(20)
    names = ("one", "two")
    with (
        Writer(on_s3.of("one", overwrite=True)) as one,
        Writer(on_s3.of("two", overwrite=True)) as two,
    ):
        ends = [one.end(), two.end()]
    meter.latency(0)
    for code, text in ends:
        assert code == 0 or "LeaseError" in text, text
        assert code or "does not refuse to create an object that exists" in text
    winners = [name for name, (code, _) in zip(names, ends, strict=True) if code == 0]
    assert winners
    # Both, where one began after the other had ended.
    remains = [name for name in winners if (on_s3.pixels() == image(name)).all()]
    on_s3.check(remains[0] if remains else winners[0])
    # No request was repeated because of the answer 501.
    refused = Counter(r.key for r in meter.log() if r.status == 501)
    # Each writer asks with a checksum and without.
    assert all("/lease/" in key and n <= 2 * len(names) for key, n in refused.items()), refused


def test_the_user_is_warned_of_a_store_that_does_not_fence(on_s3: Place, meter: Meter) -> None:
    meter.faults([unconditional("PUT")])
    with pytest.warns(CloudimgWarning, match="does not refuse to create an object") as warned:
        cloudimg.migrate(**on_s3.of("one"))
    assert {each.filename for each in warned} == {__file__}
    on_s3.check("one")
    assert on_s3.read(LEASE)["fences"] is False


# ------------------------------------------------------------------------------------ Ctrl-C


def test_an_interrupted_command_and_its_corrected_one(on_s3: Place, meter: Meter) -> None:
    """A PUT of the first one is on its way, and arrives after the second one has ended."""
    meter.faults([held("PUT", "/0/c/3/", nth=1)])
    options = ["--target-options", json.dumps(on_s3.options)]
    words = ["--levels", "2", "--chunks", "32", "--shards", "z=1,y=64,x=64", *options]
    sources = {name: f"{on_s3.archive}/{name}/a_{{z}}.tif" for name in ("one", "two")}
    with Writer({}, command=["migrate", sources["one"], on_s3.url, *words]) as first:
        wait_until(lambda: bool(meter.held()), "writing")
        first.interrupt()
        code, text = first.end()
    assert code == 130
    assert on_s3.read(LEASE)["abandoned"] is True
    command = ["migrate", sources["two"], on_s3.url, *words, "--overwrite", "--yes"]
    with Writer({}, command=command) as second:
        code, text = second.end()
    assert code == 0, text
    assert "stopped while requests" in text
    on_s3.check("two")
    meter.release()
    on_s3.check("two")


def test_an_interrupted_command_without_a_request_under_way_is_not_waited_for(
    on_s3: Place, meter: Meter
) -> None:
    meter.faults([held("GET", "nothing")])
    meter.latency(30)
    words = ["--levels", "2", "--chunks", "32", "--shards", "z=1,y=64,x=64"]
    words += ["--target-options", json.dumps(on_s3.options)]
    source = f"{on_s3.archive}/one/a_{{z}}.tif"
    with Writer({}, command=["migrate", source, on_s3.url, *words]) as first:
        wait_until(lambda: any("/cells/" in name for name in on_s3.names()), "writing")
        first.interrupt()
        code, _ = first.end()
    meter.latency(0)
    if code == 130:  # it had not ended before
        assert on_s3.read(LEASE)["released"] is True
    code, text = migrated(on_s3.of("one"))
    assert code == 0
    assert "waiting" not in text


# -------------------------------------------------------------- a source that opens slowly


@pytest.mark.parametrize("rules", [[], [unconditional()]], ids=["fenced", "not fenced"])
def test_a_copy_that_was_finished_while_another_migration_opened_its_source(
    on_s3: Place, meter: Meter, bucket: str, rules: list[Any]
) -> None:
    """The second has seen an empty destination, which is no longer true when it goes on."""
    for path in (on_s3.archive / "two").iterdir():
        meter.put(bucket, f"two/{path.name}", path.read_bytes())
    meter.faults([*rules, held("GET", "two/a_0.tif", nth=1)])
    source = f"s3://{bucket}/two/a_{{z}}.tif"
    with Writer(on_s3.of("two", source=source, source_options=on_s3.options)) as second:
        wait_until(lambda: bool(meter.held()), "opening")
        code, text = migrated(on_s3.of("one"))
        assert code == 0, text
        meter.release()
        code, text = second.end()
    assert code == 1
    assert "holds a migration with other arguments" in text
    on_s3.check("one")


def test_objects_of_others_that_come_while_a_migration_opens_its_source(
    on_s3: Place, meter: Meter, bucket: str
) -> None:
    """The migration has seen an empty destination; it deletes and replaces nothing of theirs."""
    for path in (on_s3.archive / "two").iterdir():
        meter.put(bucket, f"two/{path.name}", path.read_bytes())
    meter.faults([held("GET", "two/a_0.tif", nth=1)])
    source = f"s3://{bucket}/two/a_{{z}}.tif"
    with Writer(on_s3.of("two", source=source, source_options=on_s3.options)) as writer:
        wait_until(lambda: bool(meter.held()), "opening")
        folder = on_s3.url.partition(f"{bucket}/")[2]
        for key in ("zarr.json", "0/c/0/0/0", "notes.txt"):
            meter.put(bucket, f"{folder}/{key}", b"theirs")
        meter.release()
        code, text = writer.end()
    assert code == 1, text
    assert "overwrite" in text
    found = copies.objects(on_s3.url, on_s3.options)
    assert {found[key] for key in ("zarr.json", "0/c/0/0/0", "notes.txt")} == {b"theirs"}


# ------------------------------------------------------------------------ a lost scheduler


def test_workers_that_outlive_their_scheduler(
    on_s3: Place, meter: Meter, tmp_path: Path, set_variable: Callable[[str, str], None]
) -> None:
    """One of their PUTs is on its way, and arrives after the corrected migration has ended."""
    set_variable("CLOUDIMG_LEASE_TTL_S", "3")
    meter.faults([held("PUT", "/0/c/3/", nth=1)])
    failures: list[BaseException] = []

    def run(client: Any) -> None:
        try:
            cloudimg.migrate(**on_s3.of("one", client=client))
        except CloudimgError as error:
            failures.append(error)

    folder = tmp_path / "cluster"
    folder.mkdir()
    with clusters.Cluster(folder, 1) as cluster, cluster.client() as client:
        first = threading.Thread(target=run, args=(client,))
        first.start()
        wait_until(lambda: bool(meter.held()), "writing")
        cluster.scheduler.kill()
        first.join()
        assert [type(failure) for failure in failures] == [ClusterError]
        assert on_s3.read(LEASE)["abandoned"] is True
        code, text = migrated(on_s3.of("two", overwrite=True))
        assert code == 0, text
        assert "stopped while requests" in text
        meter.release()
        on_s3.check("two")


# ------------------------------------------------------------------------------------- sleep


@pytest.mark.parametrize("stopped_clock", [False, True], ids=["paused", "asleep"])
def test_a_machine_that_slept(on_s3: Place, meter: Meter, stopped_clock: bool) -> None:
    require_other_machines()
    meter.faults([held("PUT", "/0/c/3/", nth=1)])
    with Writer(on_s3.of("one"), elsewhere=True, stopped_clock=stopped_clock) as first:
        wait_until(lambda: bool(meter.held()), "writing")
        first.pause()
        code, text = migrated(on_s3.of("two", overwrite=True))
        assert code == 0, text
        meter.release()
        first.go_on()
        code, text = first.end()
    assert code == 1, text
    assert "LeaseError: lost the lease" in text
    on_s3.check("two")
