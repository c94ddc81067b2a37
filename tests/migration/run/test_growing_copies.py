"""Copies that may grow: the same call adds the files that came since."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import ArgumentError, BadFilesError, CloudimgError
from tests.conftest import Place
from tests.support import copies, faulty_store
from tests.support.acquisition import CHANNELS, SIZE, Acquisition, plane
from tests.support.metering import Meter
from tests.support.waiting import wait_until

PARTS: dict[str, Any] = {
    "chunks": 32,
    "shards": {"c": 1, "y": 32, "x": 64},
    "levels": 4,
    "grow": "t",
}
"""Two cells of each time and channel, and one in a second stage."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def acquired(folder: Path) -> Acquisition:
    return Acquisition(lambda name, data: (folder / name).write_bytes(data))


def image(url: str, options: dict[str, Any] | None = None) -> dict[str, bytes]:
    return copies.image_of(copies.objects(url, options or {}))


def shards(found: dict[str, bytes]) -> dict[str, bytes]:
    """Shards, and in Zarr 2 chunks: their names end in a number."""
    return {key: data for key, data in found.items() if key.rpartition("/")[2].isdigit()}


@pytest.mark.parametrize(("fields", "zarr_format"), [((0,), 3), ((0, 1), 2)])
def test_a_grown_copy_is_that_of_one_migration(
    folder: Path, tmp_path: Path, fields: tuple[int, ...], zarr_format: int
) -> None:
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data), fields)
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/grown.zarr"
    parts = {**PARTS, "zarr_format": zarr_format}
    if zarr_format == 2:
        del parts["shards"]
    acquired.take(1)
    cloudimg.migrate(source, url, **parts)
    for times in ((2,), (), (3, 4), (5,)):
        before = image(url)
        acquired.take(*times)
        done = cloudimg.migrate(source, url, **parts)
        assert done.is_unchanged == (not times)
        assert shards(before).items() <= shards(image(url)).items()
    assert cloudimg.verify(url, against_source=True)
    one = f"{tmp_path}/one.zarr"
    cloudimg.migrate(source, one, **parts)
    assert image(url) == image(one)
    opened = zarr.open_array(f"{url}/1/0" if len(fields) > 1 else f"{url}/0", mode="r")
    expected = [[plane(t, c, fields[-1]) for c in range(len(CHANNELS))] for t in range(1, 6)]
    assert np.array_equal(opened[...], np.array(expected))


def test_it_is_repaired_and_exported_like_any_other(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    acquired.take(0)
    cloudimg.migrate(source, url, **PARTS)
    acquired.take(1)
    cloudimg.migrate(source, url, **PARTS)
    whole = image(url)
    shard, document = (tmp_path / "copy.zarr" / key for key in ("0/c/1/1/0/0", "1/zarr.json"))
    shard.write_bytes(b"damaged")
    document.unlink()
    assert not cloudimg.verify(url)
    assert cloudimg.repair(url)
    assert image(url) == whole
    assert cloudimg.verify(url, against_source=True)
    (table,) = (tmp_path / "copy.zarr/.cloudimg/files").iterdir()
    table.unlink()
    acquired.take(2)  # does not keep it from being made of a listing
    assert cloudimg.repair(url)
    assert cloudimg.verify(url, against_source=True)
    exported = cloudimg.export(url, f"{tmp_path}/out", layout="originals")
    assert exported.n_files == 4
    assert {path.name for path in (tmp_path / "out").rglob("*.tif")} == {
        name for t in (0, 1) for name, _ in acquired.files(t)
    }
    assert cloudimg.migrate(source, url, **PARTS).n_done_before > 0
    assert cloudimg.retire(url, move_to=f"{tmp_path}/away", execute=True)
    assert not list(folder.glob("*.tif"))
    assert cloudimg.verify(url)


def test_an_append_reads_new_files_and_stores_new_objects(meter: Meter, bucket: str) -> None:
    acquired = Acquisition(lambda name, data: meter.put(bucket, f"in/{name}", data))
    options, url = meter.storage_options, f"s3://{bucket}/copy.zarr"

    def migrate() -> cloudimg.Migration:
        return cloudimg.migrate(
            f"s3://{bucket}/in/{acquired.name}",
            url,
            source_options=options,
            target_options=options,
            **PARTS,
        )

    acquired.take(*range(6))
    migrate()
    before = set(copies.objects(url, options))
    acquired.take(6)
    with meter.measure() as traffic:
        migrate()
    read = {r.key for r in traffic.requests if r.kind == "get" and r.key.startswith("in/")}
    new = {f"in/{name}" for name, _ in acquired.files(6)}
    first = {f"in/{next(acquired.files(0))[0]}"}  # its header says what the others must be
    assert new <= read <= new | first
    replaced = {"zarr.json", "OME/METADATA.ome.xml", *(f"{level}/zarr.json" for level in range(4))}
    journal = {".cloudimg/plan.json", ".cloudimg/plan-copy.json", ".cloudimg/done.json"}
    stored = {
        r.key.removeprefix("copy.zarr/")
        for r in traffic.requests
        if r.kind == "put" and "/lease/" not in r.key and r.status == 200
    }
    assert stored & before <= replaced | journal
    deleted = [r for r in traffic.requests if r.kind == "delete" and r.key]
    assert all("/.cloudimg/" in r.key for r in deleted)


def test_what_is_edited_while_a_document_is_replaced_stays(meter: Meter, bucket: str) -> None:
    acquired = Acquisition(lambda name, data: meter.put(bucket, f"in/{name}", data))
    options, url = meter.storage_options, f"s3://{bucket}/copy.zarr"

    def migrate() -> None:
        urls = f"s3://{bucket}/in/{acquired.name}", url
        cloudimg.migrate(*urls, source_options=options, target_options=options, **PARTS)

    acquired.take(1, 2)
    migrate()
    root = json.loads(copies.objects(url, options)["zarr.json"])
    root["attributes"]["ome"]["omero"]["channels"][0]["label"] = "nuclei"
    acquired.take(3)
    meter.faults([faulty_store.held("PUT", "copy.zarr/zarr.json", times=1)])
    append = threading.Thread(target=migrate)
    append.start()
    wait_until(lambda: bool(meter.held()), "the request that replaces the document")
    meter.put(bucket, "copy.zarr/zarr.json", json.dumps(root).encode())
    meter.release()
    append.join()
    attributes = json.loads(copies.objects(url, options)["zarr.json"])["attributes"]
    assert attributes["ome"]["omero"]["channels"][0]["label"] == "nuclei"
    assert attributes["cloudimg"]["coordinates"]["t"]["count"] == 3
    assert cloudimg.verify(url, storage_options=options).n_edits == 1
    deleted = [each.key for each in meter.log() if each.kind == "delete"]
    assert "copy.zarr/zarr.json" not in deleted


def test_a_reader_finds_the_old_or_the_new_copy(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    """It opens the copy anew, the levels from the finest on, while that grows."""
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    acquired.take(0)
    cloudimg.migrate(source, url, **PARTS)
    seen: list[int] = []
    wrong: list[object] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                levels = [zarr.open_array(f"{url}/{level}", mode="r") for level in range(4)]
                n = levels[0].shape[0]
                seen.append(n)
                for level, each in enumerate(levels):
                    last = np.asarray(each[n - 1])
                    if not last.all():  # no pixel of the source is 0
                        wrong.append((n, level))
                expected = [plane(n - 1, c) for c in range(len(CHANNELS))]
                if not np.array_equal(levels[0][n - 1], expected):
                    wrong.append(n)
            except Exception as exc:  # noqa: BLE001, whatever a reader may raise
                wrong.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for t in range(1, 5):
            acquired.take(t)
            cloudimg.migrate(source, url, **PARTS)
    finally:
        is_over.set()
        reader.join()
    assert not wrong
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_late_files_replace_what_was_filled(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    parts = {**PARTS, "missing": "fill"}
    acquired.take(0, 1, 2)
    late = folder / acquired.name_of(1, "gfp", 0)
    data = late.read_bytes()
    late.unlink()
    done = cloudimg.migrate(source, url, **parts)
    assert done.report is not None
    assert done.report.total == 1
    before = image(url)
    late.write_bytes(data)
    acquired.take(3)
    done = cloudimg.migrate(source, url, **parts)
    assert not done.report
    assert not done.n_edits
    now = image(url)
    changed = {key for key, data in shards(before).items() if now[key] != data}
    of_channel = {"0/c/1/1/0/0", "0/c/1/1/1/0"}
    assert changed == of_channel | {f"{level}/c/1/0/0/0" for level in (1, 2, 3)}
    assert cloudimg.verify(url, against_source=True)
    cloudimg.migrate(source, f"{tmp_path}/one.zarr", **parts)
    assert shards(now) == shards(image(f"{tmp_path}/one.zarr"))


def test_a_bad_file_leaves_the_copy_as_it_was_for_readers(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", tmp_path / "copy.zarr"
    acquired.take(0)
    cloudimg.migrate(source, url, **PARTS)
    before = json.loads((url / "0/zarr.json").read_bytes())
    acquired.take(1, 2)
    bad = folder / acquired.name_of(1, "gfp", 0)
    data = bad.read_bytes()
    bad.write_bytes(data[:100])
    for _ in range(2):
        with pytest.raises(BadFilesError):
            cloudimg.migrate(source, url, **PARTS)
        assert json.loads((url / "0/zarr.json").read_bytes()) == before
    assert not cloudimg.verify(url)
    acquired.take(3)
    bad.write_bytes(data)
    cloudimg.migrate(source, url, **PARTS)
    cloudimg.migrate(source, f"{tmp_path}/one.zarr", **PARTS)
    assert image(str(url)) == image(f"{tmp_path}/one.zarr")
    assert cloudimg.verify(url, against_source=True)


def test_what_others_edited_stays(acquired: Acquisition, folder: Path, tmp_path: Path) -> None:
    source, url = f"{folder}/{acquired.name}", tmp_path / "copy.zarr"
    acquired.take(1, 2, 3)
    cloudimg.migrate(source, url, **PARTS)
    root, array = (json.loads((url / key).read_bytes()) for key in ("zarr.json", "0/zarr.json"))
    root["attributes"]["ome"]["omero"]["channels"][0]["label"] = "nuclei"
    root["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": {"0": array},
    }
    array["attributes"]["lab"] = "ours"
    (url / "zarr.json").write_text(json.dumps(root))
    (url / "0/zarr.json").write_text(json.dumps(array))
    acquired.take(4)
    done = cloudimg.migrate(source, url, **PARTS)
    assert done.n_edits == 2
    root, array = (json.loads((url / key).read_bytes()) for key in ("zarr.json", "0/zarr.json"))
    assert root["attributes"]["ome"]["omero"]["channels"][0]["label"] == "nuclei"
    assert root["attributes"]["cloudimg"]["coordinates"]["t"]["count"] == 4
    assert "consolidated_metadata" not in root
    assert array["attributes"]["lab"] == "ours"
    assert array["shape"] == [4, 2, SIZE, SIZE]
    found = cloudimg.verify(url)
    assert found
    assert found.n_edits == 2


def test_what_an_append_would_do_is_told(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    acquired.take(0, 1)
    cloudimg.migrate(source, url, **PARTS)
    acquired.take(2)
    (note,) = cloudimg.verify(url, against_source=True).notes
    assert "2 newer files are not in this copy; the same migration, run again, adds them" in note
    estimate = cloudimg.dry_run(source, url, **PARTS)
    assert estimate.plan.levels[0].shape[0] == 3
    assert estimate.destination is not None
    assert "it would grow along t from 2 to 3" in estimate.destination.holds
    assert not estimate.destination.problems
    next(folder.glob("*_gfp_t002.tif")).unlink()
    found = cloudimg.dry_run(source, url, **PARTS).destination
    assert found is not None
    assert "1 file of the grid is missing" in found.problems[0]


def test_edits_of_the_same_size_stay_when_files_come_late(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", tmp_path / "copy.zarr"
    acquired.take(0, 1)
    late = folder / acquired.name_of(1, "gfp", 0)
    data = late.read_bytes()
    late.unlink()
    cloudimg.migrate(source, url, **PARTS, missing="fill")
    root = url / "zarr.json"
    root.write_text(root.read_text().replace('"label": "dapi"', '"label": "nucl"'))
    late.write_bytes(data)
    cloudimg.migrate(source, url, **PARTS, missing="fill")
    cloudimg.migrate(source, f"{tmp_path}/one.zarr", **PARTS, missing="fill")
    found, expected = (
        json.loads((folder / "zarr.json").read_bytes())["attributes"]
        for folder in (url, tmp_path / "one.zarr")
    )
    assert found["ome"]["omero"]["channels"][0]["label"] == "nucl"
    found["ome"]["omero"]["channels"][0]["label"] = "dapi"
    assert found["ome"]["omero"] == expected["ome"]["omero"]
    assert found["cloudimg"].keys() == expected["cloudimg"].keys()  # without the note on the file
    assert cloudimg.verify(url, against_source=True).n_edits == 1


def test_what_cannot_grow_is_refused(acquired: Acquisition, folder: Path, tmp_path: Path) -> None:
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    acquired.take(0, 1)
    files = sorted(map(str, folder.iterdir()))
    for pattern, options, text in (
        (source, {"grow": "c"}, "cannot grow along c"),
        (source, {"grow": "z"}, "is not a field of the pattern, which has the fields c, t"),
        (source, {"grow": "t", "chunks": {"t": 2}}, "chunks= has 2 along t"),
        (source, {"grow": "t", "factors": [{"t": 2, "y": 2}]}, "factors= has 2 along t"),
        (source, {"grow": "t", "part": "0/2"}, "part= and grow="),
        (source, {"grow": 3}, "must be the name of an axis"),
        (source, {"grow": "t", "select": {"c": "gfp"}}, "grow='t' and select= exclude each other"),
        (files, {"grow": "t", "pattern": acquired.name}, "is for a URL pattern"),
        (files[0], {"grow": "t"}, "which has no fields"),
    ):
        with pytest.raises(ArgumentError, match=text):
            cloudimg.migrate(pattern, url, **options)
    with pytest.raises(ArgumentError, match="leave it out for an array"):
        cloudimg.to_zarr(np.zeros((2, 8, 8)), url, dims=("t", "y", "x"), scale={"y": 1}, grow="t")
    assert not Path(url).exists()


def test_a_source_that_changed_otherwise_is_refused(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    acquired.take(1, 2)
    assert cloudimg.open(source).to_zarr(url, **PARTS).n_cells > 0
    before = image(url)
    acquired.take(0)
    with pytest.raises(ArgumentError, match="cannot grow: 4 files of it are gone, or no longer"):
        cloudimg.migrate(source, url, **PARTS)
    for name, _ in acquired.files(0):
        (folder / name).unlink()
    (folder / acquired.name_of(3, CHANNELS[0], 0)).write_bytes(next(acquired.files(3))[1])
    with pytest.raises(CloudimgError, match="missing"):  # the other channel of that time
        cloudimg.migrate(source, url, **PARTS)
    assert image(url) == before
    assert cloudimg.verify(url)
    acquired.take(3)
    assert cloudimg.open(source).to_zarr(url, **PARTS).n_done_before > 0
    assert cloudimg.verify(url, against_source=True)


def test_without_grow_newer_files_are_noted(
    acquired: Acquisition, folder: Path, tmp_path: Path
) -> None:
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    acquired.take(0, 1)
    cloudimg.migrate(source, url)
    acquired.take(2)
    (note,) = cloudimg.migrate(source, url).notes
    assert note.kind == "newer-files"


def test_it_grows_in_every_store(place: Place, tmp_path: Path) -> None:
    if place.name == "http":
        pytest.skip("nothing can be written there")
    acquired = Acquisition(place.put)
    source, url = f"{place.url}/{acquired.name}", f"{place.url}/copy.zarr"
    options = {"source_options": place.storage_options, "target_options": place.storage_options}
    for t in (1, 2):
        acquired.take(t)
        cloudimg.migrate(source, url, **options, **PARTS)
    fs, root = fsspec.core.url_to_fs(url, **place.storage_options)
    fs.invalidate_cache()
    assert json.loads(fs.cat_file(f"{root}/0/zarr.json"))["shape"] == [2, 2, SIZE, SIZE]
    assert cloudimg.verify(url, storage_options=place.storage_options)
