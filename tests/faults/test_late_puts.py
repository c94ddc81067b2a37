"""PUTs that come late, change on the way, or meet what stands in their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import (
    AccessDeniedError,
    BadFilesError,
    CloudimgError,
    DamagedCopyError,
    ServerError,
    StorageError,
)
from cloudimg.migration.journal.sealing import packed, seal, unsealed
from tests.support import copies
from tests.support.faulty_store import (
    CONDITION,
    Rule,
    error_body,
    flipped,
    held,
    html,
    kms,
    no_checksums,
    parts,
    refused,
    rule,
    unconditional,
    wants_checksums,
)
from tests.support.metering import Meter
from tests.support.waiting import wait_until
from tests.support.writers import Writer, migrated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHAPE = (6, 64, 64)
PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 2}
"""Six cells."""
SHARD = "0/c/3/0/0"
KINDS = {
    "table of files": r"/\.cloudimg/files/",
    "plan": r"/plan\.json$",
    "second plan": r"/plan-copy\.json$",
    "shard": f"/{SHARD}$",
    "empty shard": "/0/c/0/0/0$",
    "shard of a higher level": "/1/c/3/0/0$",
    "originals": "/originals/part-000000002",
    "commit record": r"/cells/0/000000004\.json$",
    "metadata of an array": r"/1/zarr\.json$",
    "metadata of the root": r"copy\.zarr/zarr\.json$",
    "end mark": r"/done\.json$",
}


def image(name: str) -> Any:
    pixels = np.random.default_rng(sum(map(ord, name))).integers(1, 20, SHAPE, np.uint8)
    pixels[0] = 0  # a plane of the fill value
    return pixels


@pytest.fixture(params=["obstore", "fsspec"])
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "obstore" else "fsspec")
    return str(request.param)


class Place:
    """A destination on the metering server, and images beside it."""

    def __init__(self, folder: Path, meter: Meter, bucket: str) -> None:
        self.folder, self.meter, self.bucket = folder, meter, bucket
        self.url, self.options = f"s3://{bucket}/copy.zarr", meter.storage_options
        self.notes: list[str] = []

    def of(self, name: str = "one", /, **more: Any) -> dict[str, Any]:
        """Arguments of a migration of an image."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            for z, plane in enumerate(image(name)):
                tifffile.imwrite(folder / f"a_{z}.tif", plane, photometric="minisblack")
        source = f"{folder}/a_{{z}}.tif"
        return {"source": source, "url": self.url, "target_options": self.options, **PARTS, **more}

    def objects(self) -> dict[str, bytes]:
        return copies.objects(self.url, self.options)

    def put(self, key: str, data: bytes) -> None:
        self.meter.put(self.bucket, f"copy.zarr/{key}", data)

    def check(self, name: str = "one") -> None:
        """Check that it holds a whole copy of an image, as others read it, too."""
        proof = cloudimg.verify(self.url, storage_options=self.options)
        assert proof, str(proof)
        store = zarr.storage.FsspecStore.from_url(self.url, storage_options=self.options)
        np.testing.assert_array_equal(zarr.open_group(store, mode="r")["0"][:], image(name))


@pytest.fixture
def place(tmp_path: Path, meter: Meter, bucket: str) -> Place:
    return Place(tmp_path, meter, bucket)


# --------------------------------------------------------------------------- after the end


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "successor"),
    [
        *((kind, "another") for kind in KINDS),
        *((kind, "the same") for kind in ("plan", "shard", "commit record")),
    ],
)
def test_a_put_that_arrives_after_the_end_changes_nothing(
    place: Place, kind: str, successor: str
) -> None:
    """It was on its way when its process was killed, and another one has finished since."""
    place.meter.faults([held("PUT", KINDS[kind], nth=1)])
    with Writer(place.of("one")) as first:
        wait_until(lambda: bool(place.meter.held()), "storing")
    name = "one" if successor == "the same" else "two"
    code, text = migrated(place.of(name, overwrite=True))
    assert code == 0, text
    assert first.process.returncode < 0
    before = place.objects()
    place.check(name)
    place.meter.release()
    wait_until(lambda: not place.meter.held(), "arriving")
    after = place.objects()
    if kind == "table of files" and successor == "another":  # its name is its checksum
        (left,) = set(after) - set(before)
        assert left.startswith(".cloudimg/files/")
        del after[left]
    assert after == before
    place.check(name)


OF_ZARR_2 = {
    "chunk": "/0/3/0/0$",
    "empty chunk": "/0/0/0/0$",
    "attributes": r"copy\.zarr/\.zattrs$",
    "array": r"/1/\.zarray$",
}


@pytest.mark.parametrize("kind", OF_ZARR_2)
def test_a_late_put_of_zarr_2(place: Place, kind: str) -> None:
    more: dict[str, Any] = {"zarr_format": 2, "shards": None}
    place.meter.faults([held("PUT", OF_ZARR_2[kind], nth=1)])
    with Writer(place.of("one", **more)):
        wait_until(lambda: bool(place.meter.held()), "storing")
    code, text = migrated(place.of("two", overwrite=True, **more))
    assert code == 0, text
    before = place.objects()
    place.meter.release()
    wait_until(lambda: not place.meter.held(), "arriving")
    assert place.objects() == before
    place.check("two")


def test_a_late_mark_that_the_contents_are_deleted(place: Place) -> None:
    """It is replaced, so it may arrive; beside a plan it means nothing."""
    mark = ".cloudimg/clearing.json"
    cloudimg.migrate(**place.of("two"))
    place.meter.faults([held("PUT", f"/{mark}$", nth=1)])
    with Writer(place.of("one", overwrite=True)):
        wait_until(lambda: bool(place.meter.held()), "storing")
    code, text = migrated(place.of("one", overwrite=True))
    assert code == 0, text
    before = place.objects()
    place.meter.release()
    wait_until(lambda: not place.meter.held(), "arriving")
    assert set(place.objects()) - set(before) == {mark}
    place.check("one")
    assert cloudimg.migrate(**place.of("one")).n_objects == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_put_that_arrives_after_the_end_without_a_fence(place: Place, kind: str) -> None:
    """Where the store does not fence, the next command finds it, unless it has equal bytes."""
    fault = held("PUT", KINDS[kind], nth=1)
    place.meter.faults([unconditional("PUT"), fault])
    with Writer(place.of("one"), ttl_s=1):
        wait_until(lambda: bool(place.meter.held()), "storing")
    code, text = migrated(place.of("two", overwrite=True), ttl_s=1)
    assert code == 0, text
    before = place.objects()
    place.check("two")
    place.meter.release()
    wait_until(lambda: not place.meter.held(), "arriving")
    after = place.objects()
    changed = {key for key in after if after[key] != before.get(key)}
    if not changed or (kind == "table of files" and changed.isdisjoint(before)):
        place.check("two")
        return
    (key,) = changed
    try:
        proof = cloudimg.verify(place.url, storage_options=place.options)
        found = [problem.url for problem in proof.problems]
        found += [str(edit) for edit in proof.edits]
    except CloudimgError as exc:
        found = [str(exc)]
    if kind == "plan":  # all that is there is of another one
        key = "done.json"
    assert any(key in each for each in found), (key, found)


@pytest.mark.parametrize("compares", [True, False])
def test_a_replaced_plan_that_arrives_after_the_end(
    place: Place, backend: str, compares: bool
) -> None:
    """The process that continued with other files was killed; another one continued, with others.

    Where the store does not compare versions, the next command finds it.
    """
    plan, arguments = ".cloudimg/plan.json", place.of()
    file = place.folder / "one" / "a_5.tif"

    def replace_file(value: int) -> Any:
        pixels = np.full(SHAPE[1:], value, np.uint8)
        tifffile.imwrite(file, pixels, photometric="minisblack")
        return pixels

    with pytest.raises(KeyError):
        during(place, stop)
    others = [] if compares else [unconditional("PUT", KINDS["plan"])]
    place.meter.faults([*others, held("PUT", KINDS["plan"], nth=1)])
    replace_file(7)
    with Writer(arguments) as second:
        wait_until(lambda: bool(place.meter.held()), "storing")
    assert second.process.returncode < 0
    last = replace_file(9)
    code, text = migrated(arguments)
    assert code == 0, text
    before = place.objects()
    assert "began_as" in json.loads(before[plan])
    place.meter.release()
    wait_until(lambda: not place.meter.held(), "arriving")
    after = place.objects()
    assert {key for key in after if after[key] != before[key]} == (set() if compares else {plan})
    group = zarr.storage.FsspecStore.from_url(place.url, storage_options=place.options)
    np.testing.assert_array_equal(zarr.open_group(group, mode="r")["0"][5], last)
    proof = cloudimg.verify(place.url, storage_options=place.options)
    if compares:
        assert proof, str(proof)
        assert cloudimg.migrate(**arguments).n_objects == 0
        return
    what = "is not the plan that the migration finished with"
    assert [problem.what for problem in proof.problems] == [what]
    with pytest.raises(DamagedCopyError, match=rf"{re.escape(plan)} {what}"):
        cloudimg.migrate(**arguments)
    cloudimg.migrate(**arguments, overwrite=True, yes=True)
    assert cloudimg.verify(place.url, storage_options=place.options)


def test_a_plan_that_was_replaced_by_another_process(place: Place, backend: str) -> None:
    """Between the moment when it was read and the one when it is to be replaced."""
    with pytest.raises(KeyError):
        during(place, stop)
    plan = ".cloudimg/plan.json"
    found = unsealed(place.objects()[plan])
    assert found is not None
    found["facts"]["attrs"]["color_space"] = "other"
    (place.folder / "one" / "a_5.tif").write_bytes((place.folder / "one" / "a_4.tif").read_bytes())
    place.meter.faults([held("PUT", KINDS["plan"], nth=1)])
    with Writer(place.of()) as second:
        wait_until(lambda: bool(place.meter.held()), "storing")
        place.put(plan, seal(found))
        place.meter.release()
        code, text = second.end()
    assert code == 1
    assert f"LeaseError: {place.url}/{plan} changed since it was read" in text
    assert place.objects()[plan] == seal(found)


# ----------------------------------------------------------------------- in the place of others


def during(place: Place, change: Callable[[], object], *, after_cell: int = 1, **more: Any) -> Any:
    """Migrate in this process, one cell after the other, and change something on the way."""

    def progress(advance: cloudimg.Advance) -> None:
        place.notes.append(advance.note)
        if advance.n_done == after_cell and not advance.note:
            change()

    return cloudimg.migrate(**place.of(), progress=progress, max_mem=30_000, **more)


def stop() -> None:
    raise KeyError("stopped")


def shards_of(place: Place, name: str, **more: Any) -> dict[str, bytes]:
    """The objects of another copy."""
    url = f"s3://{place.bucket}/other-{name}-{'-'.join(more)}.zarr"
    cloudimg.migrate(**{**place.of(name), "url": url, **more})
    return copies.objects(url, place.options)


def test_other_pixels_in_the_place_of_a_shard_are_replaced(place: Place, backend: str) -> None:
    other = shards_of(place, "two")
    right = shards_of(place, "one")
    during(place, lambda: place.put("0/c/5/0/0", other["0/c/5/0/0"]))
    place.check()
    assert place.objects()["0/c/5/0/0"] == right["0/c/5/0/0"]


def test_a_plan_that_another_program_replaced_is_found_at_the_end(
    place: Place, backend: str
) -> None:
    plan = ".cloudimg/plan.json"
    with pytest.raises(StorageError, match=f"{re.escape(plan)}, .* was deleted or replaced"):
        during(place, lambda: place.put(plan, b"{}"))
    assert ".cloudimg/done.json" not in place.objects()


def test_what_stands_there_is_not_recorded_as_it_came_with_a_flipped_bit(
    place: Place, backend: str
) -> None:
    """A table can be equal all the same: its bytes are recorded as the store has them."""
    cloudimg.migrate(**place.of())
    for key in (".cloudimg/done.json", ".cloudimg/cells/0/000000002.json", "zarr.json"):
        place.meter.delete(place.bucket, f"copy.zarr/{key}")
    part = len(place.objects()["originals/part-000000002.parquet"])
    place.meter.faults([flipped("GET", KINDS["originals"], at=part // 2, nth=1)])
    cloudimg.migrate(**place.of())
    place.check()


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_equal_pixels_in_other_bytes_are_kept(place: Place, backend: str, zarr_format: int) -> None:
    """As after a kill of a process with another version of the codec."""
    more = {"zarr_format": zarr_format, "shards": None if zarr_format == 2 else PARTS["shards"]}
    key = "0/c/5/0/0" if zarr_format == 3 else "0/5/1/1"
    how = {"cname": "lz4", "clevel": 9, "shuffle": "shuffle"}  # blosc reads either
    theirs = shards_of(place, "one", codec={"name": "blosc", "configuration": how}, **more)
    ours = shards_of(place, "one", **more)
    assert theirs[key] != ours[key]
    cloudimg.migrate(**{**place.of(), **more})  # a copy that lacks one object
    for lost in (key, ".cloudimg/done.json"):
        place.meter.delete(place.bucket, f"copy.zarr/{lost}")
    records = [name for name in place.objects() if "/cells/0/" in name]
    last = max(records)
    place.meter.delete(place.bucket, f"copy.zarr/{last}")
    place.put(key, theirs[key])
    cloudimg.migrate(**{**place.of(), **more})
    place.check()
    found = place.objects()
    assert found[key] == theirs[key]
    assert key in str(unsealed(found[last]))


def test_a_table_of_originals_in_other_bytes_is_kept(place: Place) -> None:
    import pyarrow.parquet as pq

    cloudimg.migrate(**place.of())
    key, record = "originals/part-000000002.parquet", ".cloudimg/cells/0/000000002.json"
    path = place.folder / "part.parquet"
    path.write_bytes(place.objects()[key])
    pq.write_table(pq.read_table(path), path, compression="none")
    assert path.read_bytes() != place.objects()[key]
    place.put(key, path.read_bytes())
    for lost in (record, ".cloudimg/done.json"):
        place.meter.delete(place.bucket, f"copy.zarr/{lost}")
    cloudimg.migrate(**place.of())
    assert place.objects()[key] == path.read_bytes()
    found: Any = unsealed(place.objects()[record])
    assert len(found["originals"]) == 4
    place.check()


def test_who_stores_again_and_again_is_found(place: Place) -> None:
    """Something that does not ask for the condition replaces a shard after each deletion."""
    other = shards_of(place, "two")[SHARD]
    seen = place.meter.log
    place.meter.faults([rule("PUT", f"copy.zarr/{SHARD}$", status=412)])
    with pytest.raises(cloudimg.errors.LeaseError, match=r"0/c/3/0/0 was stored by something else"):
        during(place, lambda: place.put(SHARD, other))
    assert sum(r.key.endswith(SHARD) and r.method == "PUT" for r in seen()) >= 4


# --------------------------------------------------------------------------------- in transit


@pytest.mark.long
@pytest.mark.parametrize("unchecked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_change_on_the_way_are_sent_again(
    place: Place, backend: str, kind: str, unchecked: bool
) -> None:
    place.meter.faults([flipped("PUT", KINDS[kind], times=1, unchecked=unchecked)])
    cloudimg.migrate(**place.of())
    place.meter.faults([])
    place.check()


@pytest.mark.parametrize("kind", [kms, parts])
def test_etags_that_are_not_md5s(place: Place, backend: str, kind: Callable[[], Rule]) -> None:
    with place.meter.measure() as plain:
        shards_of(place, "one")
    place.meter.faults([kind()])
    with place.meter.measure() as traffic:
        cloudimg.migrate(**place.of())
    assert traffic.gets <= plain.gets + 1  # one object shows what its ETag is not
    place.check()


@pytest.mark.parametrize("rules", [wants_checksums, lambda: no_checksums(header="^x-amz-checksum")])
def test_checksums_are_sent_unless_they_are_refused(
    place: Place, backend: str, rules: Callable[[], Rule]
) -> None:
    place.meter.faults([rules()])
    with place.meter.measure() as traffic:
        cloudimg.migrate(**place.of())
    assert sum(r.status == 400 for r in traffic.requests) <= 8  # requests that begin at once
    plan = json.loads(place.objects()[".cloudimg/plan.json"])
    assert "fence" not in plan
    place.check()


def test_a_plan_that_is_stored_although_the_store_reported_a_failure(
    place: Place, set_variable: Callable[[str, str], None]
) -> None:
    """It names its table of files, which stays."""
    set_variable("CLOUDIMG_ATTEMPTS", "1")
    place.meter.faults([refused("PUT", KINDS["plan"], 500, apply=True)])
    with pytest.raises(ServerError, match=r"plan\.json"):
        cloudimg.migrate(**place.of())
    place.meter.faults([])
    cloudimg.migrate(**place.of())
    place.check()


def test_the_table_of_an_earlier_plan_stays_if_the_next_plan_is_refused(place: Place) -> None:
    """Both have the same files; the second one is to fill the bad one."""
    arguments = place.of()
    bad = place.folder / "one" / "a_3.tif"
    right = bad.read_bytes()
    bad.write_bytes(bytes(100))
    with pytest.raises(BadFilesError):
        cloudimg.migrate(**arguments)
    place.meter.faults([refused("PUT", KINDS["plan"])])
    with pytest.raises(AccessDeniedError, match=r"plan\.json"):
        cloudimg.migrate(**arguments, bad="fill")
    place.meter.faults([])
    tables = [key for key in place.objects() if key.startswith(".cloudimg/files/")]
    assert len(tables) == 1
    bad.write_bytes(right)
    cloudimg.migrate(**arguments)
    place.check()


def test_a_copy_that_may_not_be_deleted_stays_whole(place: Place) -> None:
    """The mark that its contents are being deleted stays beside it, and means nothing."""
    cloudimg.migrate(**place.of("one"))
    place.meter.faults([refused("POST|DELETE", "")])
    with pytest.raises(AccessDeniedError, match="cannot delete"):
        cloudimg.migrate(**place.of("two", overwrite=True))
    assert ".cloudimg/clearing.json" in place.objects()
    place.check("one")
    assert cloudimg.migrate(**place.of("one")).n_objects == 0
    place.meter.faults([])
    cloudimg.migrate(**place.of("two", overwrite=True))
    assert ".cloudimg/clearing.json" not in place.objects()
    place.check("two")


def test_a_store_that_refuses_to_create_what_does_not_exist(place: Place) -> None:
    place.meter.faults([refused("PUT", "", 412, "PreconditionFailed", header=CONDITION)])
    with pytest.raises(StorageError, match="says that it does not exist when it is read"):
        cloudimg.migrate(**place.of())
    assert place.objects() == {}
    place.meter.faults([])
    cloudimg.migrate(**place.of())
    place.check()


# --------------------------------------------------------------------------------- at the end


def same_size(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.long
@pytest.mark.parametrize("key", [SHARD, "1/c/2/0/0", "originals/part-000000001.parquet"])
@pytest.mark.parametrize("what", ["replaced", "deleted"])
def test_the_end_finds_what_was_changed_since(
    place: Place, backend: str, key: str, what: str
) -> None:
    def change() -> None:
        if what == "deleted":
            place.meter.delete(place.bucket, f"copy.zarr/{key}")
        else:
            place.put(key, same_size(place.objects()[key]))

    times = iter([change])
    done = during(place, lambda: next(times, lambda: None)(), after_cell=6)
    assert done.n_cells == 6
    (note,) = (note for note in place.notes if "missing or replaced" in note)
    assert f"{place.url}/{key}" in note
    place.check()


def test_the_end_finds_a_record_that_was_changed(place: Place) -> None:
    record = ".cloudimg/cells/0/000000001.json"
    times = iter([lambda: place.put(record, same_size(place.objects()[record]))])
    during(place, lambda: next(times, lambda: None)(), after_cell=6)
    place.check()


def test_what_is_replaced_again_is_an_error(place: Place) -> None:
    def change() -> None:
        place.put(SHARD, same_size(place.objects()[SHARD]))

    with pytest.raises(StorageError, match=re.escape(f"{place.url}/{SHARD}")) as caught:
        during(place, change, after_cell=6)
    assert "stored twice is missing or replaced" in str(caught.value)
    assert ".cloudimg/done.json" not in place.objects()
    cloudimg.migrate(**place.of())
    place.check()


def test_objects_of_others_among_those_of_the_copy(place: Place) -> None:
    late, note = "0/c/99/0/0", "README.txt"
    with pytest.raises(StorageError, match=re.escape(f"{place.url}/{late}")):
        during(place, lambda: (place.put(late, b"late"), place.put(note, b"mine")), after_cell=6)
    assert "zarr.json" not in place.objects()
    place.meter.delete(place.bucket, f"copy.zarr/{late}")
    cloudimg.migrate(**place.of())
    assert place.objects()[note] == b"mine"
    place.meter.delete(place.bucket, f"copy.zarr/{note}")
    place.check()


def test_requests_of_a_migration_to_s3(place: Place, backend: str) -> None:
    """Each object of the copy costs one PUT and nothing else; the end is one listing."""
    with place.meter.measure() as traffic:
        cloudimg.migrate(**place.of())
    ours = [r for r in traffic.requests if r.key.startswith("copy.zarr/")]
    by_key: dict[str, list[str]] = {}
    for request in ours:
        by_key.setdefault(request.key.removeprefix("copy.zarr/"), []).append(request.kind)
    stored = {key for key in place.objects() if "/lease/" not in key}
    assert all(by_key[key].count("put") == 1 for key in stored)
    asked_first = {".cloudimg/plan.json", ".cloudimg/done.json", "zarr.json"}
    assert all(by_key[key] == ["put"] for key in stored - asked_first), by_key
    assert {"0/c/0/0/0", "1/c/0/0/0"} <= stored  # of the fill value
    begin = min(r.t_start for r in ours if r.kind == "put" and "/0/c/" in r.key)
    at_end = [r for r in traffic.requests if r.kind == "list" and r.t_start > begin]
    assert len(at_end) <= 2  # one, and the check that its end is one


@pytest.mark.parametrize("body", [error_body, html])
def test_the_listing_at_the_end_is_no_listing(
    place: Place, backend: str, body: Callable[..., Rule]
) -> None:
    """An error in its place is not taken for what the copy has, and it is asked for again."""
    faults = [body("GET", f"{place.bucket}/$", nth=nth) for nth in (1, 2)]
    during(place, lambda: place.meter.faults(faults), after_cell=6)
    place.meter.faults([])
    place.check()


@pytest.mark.parametrize("last", [SHARD, "originals/part-000000005.parquet"])
def test_objects_behind_a_listing_that_breaks_off(place: Place, backend: str, last: str) -> None:
    """Its end is asked for while the metadata of the root is stored."""
    late = "originals/part-000000099.parquet"

    def break_off() -> None:
        place.put(late, b"late")
        query = f"{place.bucket}?list-type=2&prefix=copy.zarr/"
        with urlopen(f"{place.meter.endpoint}/{query}") as answer:
            text = answer.read().decode()
        end = text.index("</Contents>", text.index(f"<Key>copy.zarr/{last}</Key>"))
        page = f"{text[:end]}</Contents></ListBucketResult>"
        place.meter.faults([rule("GET", f"{place.bucket}/$", kind="body", body=page, nth=1)])

    with pytest.raises(StorageError, match=re.escape(f"{place.url}/{late}")):
        during(place, break_off, after_cell=6)
    assert ".cloudimg/done.json" not in place.objects()
    place.meter.faults([])
    place.meter.delete(place.bucket, f"copy.zarr/{late}")
    cloudimg.migrate(**place.of())
    place.check()


def test_what_others_replaced_in_a_finished_copy(place: Place, backend: str) -> None:
    """Objects of equal size are told by their versions."""
    arguments = place.of()
    cloudimg.migrate(**arguments)
    with place.meter.measure() as usual:
        assert cloudimg.migrate(**arguments).n_objects == 0
    right = place.objects()
    for key in (SHARD, "0/c/0/0/0", "originals/part-000000001.parquet"):
        place.put(key, same_size(right[key]))
        what = rf"1 problem \({re.escape(f'{place.url}/{key}')}: other bytes than were stored\)"
        with pytest.raises(DamagedCopyError, match=what):
            cloudimg.migrate(**arguments)
        place.put(key, right[key])
    record = ".cloudimg/cells/0/000000001.json"
    content = unsealed(right[record])
    assert content is not None
    content["levels"][0]["pixels_sha256"] = "0" * 64
    place.put(record, packed(seal(content)))
    with pytest.raises(DamagedCopyError, match=r"done\.json: the commit records are not those"):
        cloudimg.migrate(**arguments)
    place.put(record, right[record])
    with place.meter.measure() as again:
        assert cloudimg.migrate(**arguments).n_objects == 0
    assert len(again.requests) == len(usual.requests)


# ------------------------------------------------------------------------------ without a fence


def test_a_store_that_does_not_fence_is_named_in_the_copy(place: Place, backend: str) -> None:
    place.meter.faults([unconditional()])
    notes: list[str] = []
    done = cloudimg.migrate(**place.of(), progress=lambda advance: notes.append(advance.note))
    place.meter.faults([])
    text = "did not refuse to create an object that exists"
    assert json.loads(place.objects()[".cloudimg/plan.json"])["fence"] == "none"
    assert any(text in note for note in done.notes)
    assert any(text in note for note in notes)
    assert text in place.objects()["zarr.json"].decode()
    proof = cloudimg.verify(place.url, storage_options=place.options)
    assert any(text in note for note in proof.notes)
    place.check()


def test_a_store_that_no_longer_fences(place: Place) -> None:
    """As through another gateway, when an unfinished migration goes on."""
    with pytest.raises(KeyError, match="stopped"):
        during(place, stop)
    plan = ".cloudimg/plan.json"
    assert "fence" not in json.loads(place.objects()[plan])
    place.meter.faults([unconditional()])
    done = cloudimg.migrate(**place.of(), progress=lambda _: None)
    place.meter.faults([])
    assert done.n_done_before >= 1
    assert json.loads(place.objects()[plan])["fence"] == "none"
    assert any("did not refuse" in note for note in done.notes)
    place.check()
