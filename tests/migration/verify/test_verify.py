"""`verify` on copies that were damaged on purpose: all damage is reported."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, CorruptFileError, DamagedCopyError, counted
from cloudimg.migration.journal.sealing import seal, unsealed
from tests.support import copies, seed
from tests.support.metering import Meter

SHAPE = (2, 96, 160)
ARGUMENTS: dict[str, Any] = {"chunks": 32, "levels": 3}
"""Two images of several cells; the third level comes from a second pass."""
NOT_FINISHED = "the end mark is missing: the migration was not finished"
SHARDS = {"z": 1, "y": 64, "x": 64}


def make(folder: Path, out: Path, zarr_format: int, seed_number: int = 1) -> None:
    rng = np.random.default_rng(seed_number)
    folder.mkdir(exist_ok=True)
    for z in range(SHAPE[0]):
        pixels = rng.integers(1, 2**16, SHAPE[1:], np.uint16)
        tifffile.imwrite(folder / f"a_{z}.tif", pixels, photometric="minisblack")
    shards = SHARDS if zarr_format == 3 else None
    cloudimg.migrate(
        f"{folder}/a_{{z}}.tif", out, zarr_format=zarr_format, shards=shards, **ARGUMENTS
    )


@pytest.fixture(scope="module", params=[3, 2], ids=["zarr 3", "zarr 2"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that tests must not change."""
    folder = tmp_path_factory.mktemp("original")
    make(folder / "source", folder / "copy.zarr", request.param)
    return folder / "copy.zarr"


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "copy.zarr")


@pytest.fixture
def shards(copy: Path) -> list[str]:
    """Keys of the pixels, level by level."""
    found = copies.image_of(copies.objects(str(copy), {}))
    keys = [key for key in found if all(part.isdecimal() or part == "c" for part in key.split("/"))]
    assert {key[0] for key in keys} == {"0", "1", "2"}
    return sorted(keys)


def problems_of(out: Path | str, **arguments: Any) -> dict[str, str]:
    """Problems by key of the object; there must be at least one."""
    proof = cloudimg.verify(out, **arguments)
    assert not proof
    assert not proof.is_verified
    assert proof.n_problems == len(proof.problems) > 0
    report = str(proof)
    assert report.startswith(f"{proof.url}: {counted(proof.n_problems, 'problem')} (")
    found: dict[str, str] = {}
    for problem in proof.problems:
        assert f"\n  {problem.url}: {problem.what}" in report
        key = problem.url.removeprefix(f"{proof.url}/")
        found[key] = "; ".join(filter(None, (found.get(key), problem.what)))
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def swap(first: Path, second: Path) -> None:
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def read_sealed(path: Path) -> Any:
    return unsealed(path.read_bytes())


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    """Change an object of the journal, and seal it as if it had been written so."""
    found = read_sealed(path)
    change(found)
    path.write_bytes(seal(found))


def without_versions(record: bytes) -> Any:
    """A commit record without the versions of the stored objects: each copy has its own."""
    found: Any = unsealed(record)
    levels = [level["objects"] for level in found["levels"]]
    for objects in (*levels, [found["originals"]] if found["originals"] else []):
        for stored in objects:
            assert len(stored) == 4
            del stored[3]
    return found


def plan_id(copy: Path) -> str:
    return str(json.loads((copy / ".cloudimg/plan.json").read_text())["id"])


# ------------------------------------------------------------------------------------------- intact


def test_an_intact_copy_is_verified(copy: Path, shards: list[str]) -> None:
    plain = cloudimg.verify(copy)
    assert plain is not None
    assert bool(plain) is plain.is_verified is True
    assert (plain.n_problems, plain.problems, plain.n_compared) == (0, (), 0)
    tables = list((copy / "originals").iterdir())
    assert plain.n_objects == len(shards) + len(tables)
    stored = [*(copy / key for key in shards), *tables]
    assert plain.n_bytes == sum(path.stat().st_size for path in stored)
    assert str(plain).startswith(f"{copy} is verified: {plain.n_objects} objects (")
    assert ", no problems, in " in str(plain)
    assert "compared" not in str(plain)
    n_cells = len(list((copy / ".cloudimg/cells/0").iterdir()))
    whole = cloudimg.verify(copy, against_source=True)
    assert whole, str(whole)
    assert whole.n_compared == n_cells <= whole.n_cells
    assert f"{counted(n_cells, 'cell')} compared with the source" in str(whole)
    before = copies.objects(str(copy), {})
    assert cloudimg.verify(copy)
    assert copies.objects(str(copy), {}) == before  # it only reads


def test_progress_ends_with_all_cells(copy: Path) -> None:
    advances: list[Any] = []
    proof = cloudimg.verify(copy, progress=advances.append)
    assert proof
    assert advances[-1].n_done == advances[-1].n_cells == proof.n_cells


# ------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_flipped_byte_anywhere_in_a_shard(copy: Path, shards: list[str], level: int) -> None:
    key = [each for each in shards if each.startswith(f"{level}/")][-1]
    size = (copy / key).stat().st_size
    # The first and the last bytes, the index of the chunks at the end, and between.
    for at in {0, size // 3, size // 2, size - 70, size - 20, size - 1}:
        flip(copy / key, at)
        assert "SHA-256 differs" in problems_of(copy)[key], at
        flip(copy / key, at)
    assert cloudimg.verify(copy)


def test_a_truncated_shard(copy: Path, shards: list[str]) -> None:
    for level in range(3):
        key = next(each for each in shards if each.startswith(f"{level}/"))
        whole = (copy / key).read_bytes()
        for left in (0, 3, len(whole) // 2, len(whole) - 1):
            (copy / key).write_bytes(whole[:left])
            assert f"{left} bytes instead of {len(whole)}" in problems_of(copy)[key]
        (copy / key).write_bytes(whole)


def test_a_shard_that_grew(copy: Path, shards: list[str]) -> None:
    path = copy / shards[0]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0")
    assert f"{size + 1} bytes instead of {size}" in problems_of(copy)[shards[0]]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_missing_shard(copy: Path, shards: list[str], level: int) -> None:
    key = next(each for each in shards if each.startswith(f"{level}/"))
    (copy / key).unlink()
    assert problems_of(copy) == {key: "missing"}


def test_two_swapped_shards(copy: Path, shards: list[str]) -> None:
    for level in range(2):
        first, *_, second = (each for each in shards if each.startswith(f"{level}/"))
        swap(copy / first, copy / second)
        assert {first, second} <= problems_of(copy).keys()
        swap(copy / first, copy / second)


def test_shards_swapped_with_their_commit_records(copy: Path, shards: list[str]) -> None:
    """Each shard matches its record, but neither is in its place."""
    first, second = (copy / ".cloudimg/cells/0" / f"{n:09d}.json" for n in (0, 1))
    if not second.exists():
        pytest.skip("so small an image is one cell in Zarr 2")
    swap(first, second)
    found = problems_of(copy)
    for path in (first, second):
        assert "not a commit record of cell" in found[str(path.relative_to(copy))]
    for path, number in ((first, 0), (second, 1)):
        change_json(path, lambda record, number=number: record.update(number=number))
    found = problems_of(copy)
    for path in (first, second):
        assert "objects of other cells" in found[str(path.relative_to(copy))]


@pytest.fixture
def stale(copy: Path, original: Path, tmp_path: Path) -> Path:
    """A copy of other pixels of the same shape."""
    is_third = (original / "zarr.json").exists()
    make(tmp_path / "other", tmp_path / "other.zarr", 3 if is_third else 2, seed_number=2)
    return tmp_path / "other.zarr"


@pytest.mark.parametrize("level", [1, 2])
def test_a_stale_shard_of_another_migration(
    copy: Path, stale: Path, shards: list[str], level: int
) -> None:
    key = next(each for each in shards if each.startswith(f"{level}/"))
    shutil.copy(stale / key, copy / key)
    found = problems_of(copy)
    assert "SHA-256 differs" in found[key] or "bytes instead of" in found[key]
    assert "does not follow from the level below" in found[key]


@pytest.mark.parametrize("level", [1, 2])
def test_a_stale_level_whose_checksums_fit(copy: Path, stale: Path, level: int) -> None:
    """Objects and commit records of a level match, but not the level below."""
    shutil.rmtree(copy / f"{level}")
    shutil.copytree(stale / f"{level}", copy / f"{level}")
    for path in sorted((copy / ".cloudimg/cells").rglob("*.json")):
        others = read_sealed(stale / path.relative_to(copy))["levels"]

        def change(record: Any, others: Any = others) -> None:
            record["levels"] = [
                other if other["level"] == level else own
                for own, other in zip(record["levels"], others, strict=True)
            ]

        change_json(path, change)
    found = problems_of(copy)
    assert "not those that the migration finished with" in found.pop(".cloudimg/done.json")
    assert all("does not follow from the level below" in what for what in found.values()), found
    levels = {key[0] for key in found}
    # The level above was made from the pixels that were there before.
    assert levels == ({"1", "2"} if level == 1 else {"2"})


def test_a_stale_level_0_is_found_by_the_source(copy: Path, stale: Path) -> None:
    """Everything but the plan is of another migration, and consistent."""
    for name in ("0", "1", "2", "originals", ".cloudimg/cells"):
        shutil.rmtree(copy / name)
        shutil.copytree(stale / name, copy / name)
    for path in (copy / ".cloudimg/cells").rglob("*.json"):
        change_json(path, lambda record: record.update(plan=plan_id(copy)))
    found = problems_of(copy, against_source=True)
    wrong = [what for what in found.values() if "differ from the source's" in what]
    assert len(wrong) == len(list((copy / ".cloudimg/cells/0").iterdir()))


# ----------------------------------------------------------------------------------------- metadata


def metadata_of(copy: Path, shards: list[str]) -> list[str]:
    found = copies.image_of(copies.objects(str(copy), {}))
    return [key for key in found if key not in shards and not key.startswith("originals/")]


@pytest.mark.slow
def test_changed_metadata(copy: Path, shards: list[str]) -> None:
    keys = metadata_of(copy, shards)
    roots = {"zarr.json", "0/zarr.json"} if "zarr.json" in keys else {".zattrs", "0/.zarray"}
    assert roots <= set(keys)
    for key in keys:
        path = copy / key
        whole = path.read_bytes()
        for changed in (
            b"",
            whole[: len(whole) // 2],
            whole.replace(b"{", b"[", 1),
            b"[]",
            b"\xff",
        ):
            path.write_bytes(changed)
            found = problems_of(copy)
            assert found == {key: "is not the metadata that was written: not a JSON object"}
        path.write_bytes(whole)
    for key in [key for key in keys if key.endswith("/zarr.json") or key.endswith(".zarray")]:
        path = copy / key
        whole = path.read_bytes()
        for name, value in json.loads(whole).items():
            if name != "attributes":
                other = {"zarr_format": 9}.get(name, [7] if isinstance(value, list) else "other")
                path.write_text(json.dumps({**json.loads(whole), name: other}))
                found = problems_of(copy)
                assert found == {key: f"is not the metadata that was written: {name}"}
        path.write_bytes(whole)
    assert cloudimg.verify(copy).edits == ()


def test_missing_metadata(copy: Path, shards: list[str]) -> None:
    for key in metadata_of(copy, shards):
        whole = (copy / key).read_bytes()
        (copy / key).unlink()
        assert problems_of(copy) == {key: "missing"}
        (copy / key).write_bytes(whole)
    assert cloudimg.verify(copy)


def test_orphaned_objects(copy: Path, shards: list[str]) -> None:
    """Readers would mistake them for chunks, `export` for a part of the table."""
    beyond = shards[0].rpartition("/")[0] + "/99"
    for key in (beyond, "originals/part-9.parquet", "originals/README.txt"):
        path = copy / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"hello")
        assert problems_of(copy) == {key: "does not belong to the image"}
        path.unlink()
    assert cloudimg.verify(copy)


def test_an_orphaned_object_in_place_of_a_missing_one(copy: Path, shards: list[str]) -> None:
    """The number of objects is right, but not which they are."""
    beyond = shards[0].rpartition("/")[0] + "/99"
    (copy / shards[0]).rename(copy / beyond)
    assert problems_of(copy) == {shards[0]: "missing", beyond: "does not belong to the image"}


def test_another_object_in_place_of_an_empty_chunk(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128), np.uint8)
    pixels[:, 64:] = 7
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(pixels, out, chunks=64, shards=64, levels=1)
    n_bytes = (out / "0/c/0/0").stat().st_size
    shutil.copy(out / "0/c/0/1", out / "0/c/0/0")
    found = problems_of(out)
    assert f"instead of {n_bytes}" in found["0/c/0/0"]
    (out / "0/c/0/0").unlink()
    assert problems_of(out)["0/c/0/0"] == "missing"
    record = ".cloudimg/cells/0/000000000.json"

    def without_it(content: Any) -> None:
        (level,) = content["levels"]
        level["objects"] = [each for each in level["objects"] if each[0] != "0/c/0/0"]

    change_json(out / record, without_it)
    assert "does not list all objects of its cell at level 0" in problems_of(out)[record]


# -------------------------------------------------------------------------------------- the journal


@pytest.mark.parametrize("stage", [0, 1])
def test_a_missing_commit_record(copy: Path, stage: int) -> None:
    key = f".cloudimg/cells/{stage}/000000000.json"
    if not (copy / key).exists():
        pytest.skip("so small an image is one cell in Zarr 2")
    (copy / key).unlink()
    assert problems_of(copy) == {key: "there is no commit record: the cell was not finished"}


def test_a_damaged_commit_record(copy: Path) -> None:
    key = ".cloudimg/cells/0/000000000.json"
    for content in (b"", b"{", b"[]", b"7", b"{}", b"\xff\xfe", b'{"stage": 0, "number": 0}'):
        (copy / key).write_bytes(content)
        found = problems_of(copy)
        assert list(found) == [key]
        assert "is damaged" in found[key]


def _no_levels(record: Any) -> None:
    record["levels"] = []


def _other_digest(record: Any) -> None:
    record["levels"][0]["pixels_sha256"] = "0" * 64


def _other_checksum(record: Any) -> None:
    record["levels"][0]["objects"][0][2] = "0" * 64


def _no_objects(record: Any) -> None:
    record["levels"][0]["objects"] = []


def _foreign_object(record: Any) -> None:
    record["levels"][0]["objects"][0][0] = "0/c/7/7/7"


def _outside(record: Any) -> None:
    record["levels"][0]["objects"][0][0] = "../../elsewhere"


def _texts_for_numbers(record: Any) -> None:
    record["levels"][0]["objects"][0][1] = "many"


def _number_for_key(record: Any) -> None:
    record["levels"][0]["objects"][0][0] = 5


def _list_for_sources(record: Any) -> None:
    record["sources"] = ["a"]


def _other_histograms(record: Any) -> None:
    record["histograms"] = record["histograms"][:0]


def test_a_commit_record_that_was_changed(copy: Path) -> None:
    """Also to values that cloudimg never writes: reported, and nothing is read elsewhere."""
    path = copy / ".cloudimg/cells/0/000000000.json"
    whole = path.read_bytes()
    for change in (
        _no_levels,
        _other_digest,
        _other_checksum,
        _no_objects,
        _foreign_object,
        _outside,
        _texts_for_numbers,
        _number_for_key,
        _list_for_sources,
        _other_histograms,
    ):
        change_json(path, change)
        problems_of(copy, against_source=True)
        path.write_bytes(whole)


def _broken_histogram(record: Any) -> None:
    record["histograms"][0]["steps"] = "no digits!"


def _histogram_of_odd_length(record: Any) -> None:
    record["histograms"][0]["frequencies"] += " A"


def _histogram_of_too_many_digits(record: Any) -> None:
    """Numbers that add up to any other one modulo 2^64."""
    histogram = record["histograms"][0]
    n_bins = len(histogram["steps"].split(" ")[0])
    histogram["steps"] = " ".join(["/" * n_bins] * 11)


def _histogram_twice(record: Any) -> None:
    record["histograms"][0]["counts"] = record["histograms"][0]["steps"]


def _broken_histogram_of_an_older_version(record: Any) -> None:
    histogram = record["histograms"][0]
    del histogram["steps"], histogram["frequencies"]
    histogram["counts"] = base64.b64encode(b"no zlib").decode()


def test_a_histogram_that_cannot_be_read(copy: Path, original: Path) -> None:
    path = copy / ".cloudimg/cells/0/000000000.json"
    whole = path.read_bytes()
    source = f"{original.parent}/source/a_{{z}}.tif"
    zarr_format = 3 if (copy / "zarr.json").exists() else 2
    shards = SHARDS if zarr_format == 3 else None
    for change in (
        _broken_histogram,
        _histogram_of_odd_length,
        _histogram_of_too_many_digits,
        _histogram_twice,
        _broken_histogram_of_an_older_version,
    ):
        change_json(path, change)
        assert "is damaged" in problems_of(copy)[".cloudimg/cells/0/000000000.json"]
        # Without its end mark the copy is not finished, so the cell is done again.
        (copy / ".cloudimg/done.json").unlink()
        cloudimg.migrate(source, copy, zarr_format=zarr_format, shards=shards, **ARGUMENTS)
        assert without_versions(path.read_bytes()) == without_versions(whole)
        assert cloudimg.verify(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan.json", "done.json", "cells/0/000000000.json"])
def test_flipped_bytes_of_the_journal(copy: Path, name: str) -> None:
    key = f".cloudimg/{name}"
    draw = random.Random(5)
    size = (copy / key).stat().st_size
    whole = (copy / key).read_bytes()
    for at in {0, size - 1, *(draw.randrange(size) for _ in range(40))}:
        data = bytearray(whole)
        data[at] ^= 1 << draw.randrange(8)
        (copy / key).write_bytes(data)
        if name == "plan.json":
            with pytest.raises(CorruptFileError, match=r"plan\.json is damaged"):
                cloudimg.verify(copy)
        else:
            found = problems_of(copy)
            assert list(found) == [key], at
            assert "is damaged" in found[key]
    (copy / key).write_bytes(whole)
    assert cloudimg.verify(copy)


def test_a_commit_record_of_another_migration(copy: Path, stale: Path) -> None:
    """Of a late worker: shards and record match each other, but the record names another plan."""
    key = ".cloudimg/cells/0/000000000.json"
    shutil.copy(stale / key, copy / key)
    for level in read_sealed(stale / key)["levels"]:
        for name, *_ in level["objects"]:
            shutil.copy(stale / name, copy / name)
    assert plan_id(stale) != plan_id(copy)
    assert "the commit record is of another migration" in problems_of(copy)[key]


def test_plans_have_the_same_name_on_every_machine(original: Path, tmp_path: Path) -> None:
    zarr_format = 3 if (original / "zarr.json").exists() else 2
    shards = SHARDS if zarr_format == 3 else None
    source = f"{original.parent}/source/a_{{z}}.tif"
    again = tmp_path / "again.zarr"
    cloudimg.migrate(source, again, zarr_format=zarr_format, shards=shards, **ARGUMENTS)
    plan = ".cloudimg/plan.json"
    assert (again / plan).read_bytes() == (original / plan).read_bytes()
    ends = [json.loads((out / ".cloudimg/done.json").read_text()) for out in (again, original)]
    for end in ends:
        for name in ("sha256", "versions_digest", "plan_etag"):  # each copy has its own
            del end[name]
    assert ends[0] == ends[1]
    first, second = (
        without_versions((out / ".cloudimg/cells/0/000000000.json").read_bytes())
        for out in (again, original)
    )
    assert first == second


def _other_versions(record: Any) -> None:
    n_bytes = len(base64.b64decode(record["files"]["versions"]))
    record["files"]["versions"] = base64.b64encode(bytes(n_bytes)).decode()


def _less(record: Any) -> None:
    del record["files"]


def _end_of_another(done: Any) -> None:
    done["plan"] = "0" * 32


def _fewer_cells(done: Any) -> None:
    done["n_cells"] -= 1


def test_commit_records_that_were_written_later(copy: Path) -> None:
    """Sealed and of the same plan, but not those that the migration finished with."""
    path, end = copy / ".cloudimg/cells/0/000000000.json", copy / ".cloudimg/done.json"
    whole, whole_end = path.read_bytes(), end.read_bytes()
    for change in (_other_versions, _less):
        change_json(path, change)
        what = "the commit records are not those that the migration finished with"
        assert problems_of(copy) == {".cloudimg/done.json": what}
        path.write_bytes(whole)
    for change in (_end_of_another, _fewer_cells):
        change_json(end, change)
        assert problems_of(copy) == {".cloudimg/done.json": "the end mark is of another migration"}
        end.write_bytes(whole_end)


def test_a_plan_that_was_written_later(copy: Path) -> None:
    """It fits the metadata, but is not the one that the migration finished with."""
    plan = copy / ".cloudimg/plan.json"
    source = json.loads(plan.read_text())["source"]["urls"][0]
    change_json(plan, lambda state: state["facts"]["attrs"].update(color_space="grey"))
    changed = [path for path in copy.rglob("*") if path.name in ("zarr.json", ".zattrs")]
    for path in changed:
        path.write_text(path.read_text().replace('"gray"', '"grey"'))
    before = copies.objects(str(copy), {})
    assert '"grey"' in (copy / changed[0].name).read_text()
    what = "is not the plan that the migration finished with"
    assert problems_of(copy) == {".cloudimg/plan.json": what}
    shards = SHARDS if (copy / "zarr.json").exists() else None
    arguments = {"zarr_format": 3 if shards else 2, "shards": shards, **ARGUMENTS}
    with pytest.raises(DamagedCopyError, match=rf"/\.cloudimg/plan\.json {what}"):
        cloudimg.migrate(source, copy, **arguments)
    kept = copies.objects(str(copy), {})
    assert {key for key in before | kept if before.get(key) != kept.get(key)} <= leases(kept)
    # A copy of an older version does not say which plan it finished with.
    change_json(copy / ".cloudimg/done.json", lambda done: done.pop("plan_sha256"))
    assert problems_of(copy) == {".cloudimg/plan-copy.json": "is not a copy of the plan"}
    (copy / ".cloudimg/plan-copy.json").unlink()
    assert cloudimg.verify(copy)
    assert cloudimg.migrate(source, copy, **arguments).n_objects == 0


def leases(found: dict[str, bytes]) -> set[str]:
    return {key for key in found if "/lease/" in key}


def _other_empty_chunks(record: Any) -> None:
    level = record["levels"][1]
    bits = bytearray(base64.b64decode(level["empty"]))
    bits[0] ^= 0x80
    level["empty"] = base64.b64encode(bits).decode()


def test_empty_chunks_are_those_of_the_commit_records(copy: Path, tmp_path: Path) -> None:
    key = ".cloudimg/cells/0/000000000.json"
    change_json(copy / key, _other_empty_chunks)
    assert problems_of(copy)[key] == "the commit record lists other empty chunks at level 1"
    pixels = np.zeros((70, 200), "f4")
    pixels[40:, 100:] = 3
    pixels[0, 0] = -0.0
    for zarr_format in (2, 3):
        out = tmp_path / f"{zarr_format}.zarr"
        cloudimg.to_zarr(pixels, out, chunks=32, levels=2, zarr_format=zarr_format)
        assert cloudimg.verify(out)


def test_orphaned_objects_in_the_journal(copy: Path) -> None:
    for name in ("cells/0/999999999.json", "cells/0/0.json", "cells/7/000000000.json", "notes"):
        path = copy / ".cloudimg" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
        assert problems_of(copy) == {f".cloudimg/{name}": "does not belong to the journal"}
        path.unlink()


def test_leftovers_of_writes_that_were_killed(copy: Path) -> None:
    name = "0/.0.6f1c.cloudimg-part"
    (copy / name).write_bytes(b"half a shard")
    found = problems_of(copy)
    assert list(found) == [name]
    assert "left over from a write that was killed" in found[name]


def test_a_destination_that_is_being_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(np.ones((64, 64), np.uint8), out)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cloudimg.migration.journal.destination.Destination.delete", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cloudimg.to_zarr(np.zeros((64, 64), np.uint8), out, overwrite=True)
    with pytest.raises(ArgumentError, match="a migration with overwrite=True was interrupted"):
        cloudimg.verify(out)
    with pytest.raises(ArgumentError, match="a migration with overwrite=True was interrupted"):
        cloudimg.to_zarr(np.zeros((64, 64), np.uint8), out)
    cloudimg.to_zarr(np.zeros((64, 64), np.uint8), out, overwrite=True)
    assert cloudimg.verify(out)


def test_a_damaged_plan(copy: Path) -> None:
    path = copy / ".cloudimg/plan.json"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"[]", b"{}", b'{"state": "planned"}'):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"plan\.json is damaged"):
            cloudimg.verify(copy)
    path.unlink()
    with pytest.raises(CorruptFileError, match=r"plan\.json, the plan of this copy, is missing"):
        cloudimg.verify(copy)
    (copy / ".cloudimg/plan-copy.json").unlink()
    with pytest.raises(ArgumentError, match="was not written by cloudimg"):
        cloudimg.verify(copy)


@pytest.mark.parametrize("command", [cloudimg.verify, lambda url: cloudimg.export(url, f"{url}-x")])
def test_a_url_where_nothing_is(tmp_path: Path, command: Any) -> None:
    with pytest.raises(ArgumentError, match=r"there is nothing at \S*/misspelt\.zarr, neither"):
        command(f"{tmp_path}/misspelt.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("mine")
    with pytest.raises(
        ArgumentError, match=r"folder was not written by cloudimg: it has no journal"
    ):
        command(f"{tmp_path}/folder")


def test_a_damaged_table_of_originals(copy: Path) -> None:
    parts = sorted((copy / "originals").iterdir())
    key = str(parts[0].relative_to(copy))
    size = parts[0].stat().st_size
    for at in (0, size // 2, size - 1):
        flip(parts[0], at)
        assert problems_of(copy) == {
            key: "its bytes are not those that were stored (SHA-256 differs)"
        }
        flip(parts[0], at)
    parts[0].unlink()
    assert problems_of(copy) == {key: "missing"}


def test_an_unfinished_migration(tmp_path: Path) -> None:
    for z in range(2):
        tifffile.imwrite(tmp_path / f"a_{z}.tif", np.full((64, 64), z + 1, np.uint8))
    out = tmp_path / "copy.zarr"

    def stop(advance: Any) -> None:
        if advance.n_done == 3:
            raise KeyboardInterrupt

    image = cloudimg.open(f"{tmp_path}/a_{{z}}.tif")
    arguments: dict[str, Any] = {"chunks": 32, "shards": 32, "levels": 1, "max_mem": 20_000}
    with pytest.raises(KeyboardInterrupt):
        image.to_zarr(out, progress=stop, **arguments)
    found = problems_of(out)
    assert found.pop(".cloudimg/done.json") == NOT_FINISHED
    assert 0 < len(found) <= 5
    assert set(found.values()) == {"there is no commit record: the cell was not finished"}
    image.to_zarr(out, **arguments)
    assert cloudimg.verify(out, against_source=True)


def test_everything_but_the_end_mark(copy: Path, shards: list[str]) -> None:
    """Killed just before its end: all cells are done, but the migration is not finished."""
    roots = (
        ("zarr.json",) if (copy / "zarr.json").exists() else (".zattrs", ".zgroup", ".zmetadata")
    )
    for key in (*roots, ".cloudimg/done.json"):
        (copy / key).unlink(missing_ok=True)
    found = problems_of(copy)
    assert found.pop(".cloudimg/done.json") == NOT_FINISHED
    assert found.keys() <= set(roots)
    assert found[roots[0]] == "missing"


# --------------------------------------------------------------------------------------- the source


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A source that may be changed, and its copy."""
    make(tmp_path / "source", tmp_path / "own.zarr", 3)
    return tmp_path / "source", tmp_path / "own.zarr"


def replace_pixel(path: Path) -> None:
    pixels = tifffile.imread(path)
    pixels[70, 150] ^= 1
    tifffile.imwrite(path, pixels, photometric="minisblack")


def test_a_source_with_other_pixels(own: tuple[Path, Path]) -> None:
    source, out = own
    replace_pixel(source / "a_1.tif")
    assert cloudimg.verify(out)  # which does not read the source
    text = str(cloudimg.verify(out, against_source=True))
    assert "the source changed since it was migrated" in text
    assert "source files changed since they were migrated" in text
    assert "a_1.tif" in text
    assert "1 bytes of its pixels differ from the source's" in text
    assert text.count("pixels differ") == 1
    image = cloudimg.open(f"{source}/a_{{z}}.tif")
    assert "1 bytes of its pixels differ" in str(cloudimg.verify(out, against_source=image))


def test_a_source_stored_again_with_the_same_pixels(own: tuple[Path, Path]) -> None:
    source, out = own
    path = source / "a_1.tif"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    text = str(cloudimg.verify(out, against_source=True))
    assert "the source changed" in text
    assert "differ" not in text


def test_a_source_that_is_gone_or_broken(own: tuple[Path, Path]) -> None:
    source, out = own
    whole = (source / "a_1.tif").read_bytes()
    (source / "a_1.tif").write_bytes(whole[: len(whole) // 2])
    text = str(cloudimg.verify(out, against_source=True))
    assert "the source of this cell cannot be read" in text
    assert "a_1.tif" in text
    for path in source.iterdir():
        path.unlink()
    gone = cloudimg.verify(out, against_source=True)
    assert "the source cannot be opened: nothing matches" in str(gone)
    assert gone.n_problems == 1
    assert cloudimg.verify(out)


def test_samples_of_the_source(own: tuple[Path, Path]) -> None:
    source, out = own
    n_cells = len(list((out / ".cloudimg/cells/0").iterdir()))
    assert n_cells == 12
    for sample, n in ((1, 1), (5, 5), (0.25, 3), (0.0001, 1), (1.0, 12), (1000, 12)):
        proof = cloudimg.verify(out, against_source=True, sample=sample)
        assert proof
        assert proof.n_compared == n
        assert f"{counted(n, 'cell')} compared" in str(proof)
    for path in source.iterdir():
        pixels = tifffile.imread(path)
        tifffile.imwrite(path, pixels ^ 1, photometric="minisblack")
    text = str(cloudimg.verify(out, against_source=True, sample=2))
    assert text.count("pixels differ from the source's") == 2


def test_invalid_samples(original: Path) -> None:
    samples: list[Any] = [0, -1, 0.0, 1.5, -0.5, float("nan"), "all", True, [1]]
    for sample in samples:
        with pytest.raises(ArgumentError, match="sample="):
            cloudimg.verify(original, against_source=True, sample=sample)
    with pytest.raises(ArgumentError, match="sample= needs against_source"):
        cloudimg.verify(original, sample=1)


def test_arrays_to_compare_with(tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(pixels, out, levels=1, identity="a")
    with pytest.raises(ArgumentError, match="pass the array as against_source="):
        cloudimg.verify(out, against_source=True)
    assert cloudimg.verify(out, against_source=pixels)
    wrong = pixels.copy()
    wrong[3, 3] += 1
    assert "1 bytes of its pixels differ" in str(cloudimg.verify(out, against_source=wrong))
    for other, what in ((pixels[:, 1:], "shape"), (pixels.astype("u4"), "dtype")):
        with pytest.raises(ArgumentError, match=f"the source to compare with has {what}"):
            cloudimg.verify(out, against_source=other)
    with pytest.raises(ArgumentError):
        cloudimg.verify(out, against_source="elsewhere")


def test_arrays_by_another_name(tmp_path: Path) -> None:
    """Arrays are compared by their pixels, not by their names."""
    import dask.array as da

    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    image = cast(Any, da).from_array(pixels, chunks=32, name="first")
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(image, out, levels=1)
    for equal in (pixels, cast(Any, da).from_array(pixels, chunks=16, name="second")):
        proof = cloudimg.verify(out, against_source=equal)
        assert proof, str(proof)
        assert proof.n_compared == 1
    tifffile.imwrite(tmp_path / "a_0.tif", pixels)
    cloudimg.migrate(f"{tmp_path}/a_{{z}}.tif", tmp_path / "files.zarr", levels=1)
    assert cloudimg.verify(tmp_path / "files.zarr", against_source=pixels[None])
    wrong = str(cloudimg.verify(tmp_path / "files.zarr", against_source=pixels[None] + 1))
    assert "differ from the source's" in wrong
    assert "source changed" not in wrong


# --------------------------------------------------------------------------------------------- urls


def test_no_copy_at_all(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hello")
    for url in (tmp_path, tmp_path / "nothing", "/"):
        with pytest.raises(ArgumentError):
            cloudimg.verify(url)


def test_on_s3(meter: Meter, bucket: str) -> None:
    options = meter.storage_options
    for z in range(2):
        pixels = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) + z
        meter.put(bucket, f"src/a_{z}.tif", seed.encode(pixels))
    source, url = f"s3://{bucket}/src/a_{{z}}.tif", f"s3://{bucket}/copy.zarr"
    cloudimg.migrate(
        source,
        url,
        source_options=options,
        target_options=options,
        chunks=32,
        levels=2,
        shards={"z": 1, "y": 64, "x": 64},
    )
    both = {"storage_options": options, "source_options": options}
    with meter.measure() as traffic:
        assert cloudimg.verify(url, against_source=True, **both)
    assert {r.method for r in traffic.requests} <= {"GET", "HEAD"}
    found = copies.objects(url, options)
    (first, *_, last) = sorted(key for key in found if key.startswith("0/c/"))
    meter.put(bucket, f"copy.zarr/{first}", found[last])
    meter.delete(bucket, f"copy.zarr/{last}")
    wrong = problems_of(url, storage_options=options)
    assert "SHA-256 differs" in wrong[first] or "bytes instead of" in wrong[first]
    assert wrong[last] == "missing"
    for key in (first, last):
        meter.put(bucket, f"copy.zarr/{key}", found[key])
    assert cloudimg.verify(url, storage_options=options)
    meter.put(bucket, "src/a_1.tif", seed.encode(pixels + 1))
    text = str(cloudimg.verify(url, against_source=True, **both))
    assert "source files changed since they were migrated" in text
    assert "differ from the source's" in text
    meter.faults([{"match": "^GET .*/0/c/", "status": 403}])
    with pytest.raises(cloudimg.errors.AccessDeniedError, match=r"copy\.zarr/0/c/"):
        cloudimg.verify(url, storage_options=options)
