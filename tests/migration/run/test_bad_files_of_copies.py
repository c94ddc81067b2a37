"""Bad files do not stop a migration: other cells are done, and what was filled is on record."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError, CloudimgError, CloudimgWarning
from cloudimg.migration.journal.sealing import unsealed
from tests.support import bad, copies, seed
from tests.support.clusters import local_client
from tests.support.metering import Meter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # all of them together

CELLS: dict[str, Any] = {
    "chunks": {"y": 8, "x": 8},
    "shards": {"t": 1, "z": 1, "y": 16, "x": 24},
    "levels": 2,
}
"""One file a cell."""
FILL: dict[str, Any] = {"missing": "fill", "bad": "fill"}
PLACES = {"empty": (0, 0), "truncated": (0, 2), "not-an-image": (1, 1), "other-dtype": (1, 3)}
"""The bad files of a small archive of two t and four z."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    bad.write_good(tmp_path / "in", (2, 4))
    for kind, place in PLACES.items():
        bad.spoil(tmp_path / "in", kind, *place)
    return tmp_path / "in"


def filled() -> Any:
    """The pixels of the small archive with its bad files filled."""
    image = np.stack([[bad.pixels_of(t, z) for z in range(4)] for t in range(2)])
    for place in PLACES.values():
        image[place] = 0
    return image


def kinds(report: cloudimg.FileReport | None) -> dict[str, int]:
    assert report is not None
    return {each.kind: each.n_files for each in report.kinds}


def pixels_of(copy: Path) -> Any:
    image = zarr.open_group(str(copy), mode="r")["0"][:]  # type: ignore[index]
    return image[:, 0] if image.ndim == 5 else image


def records(copy: Path) -> dict[int, Any]:
    """The commit records of the first stage."""
    folder = copy / ".cloudimg" / "cells" / "0"
    return {int(path.stem): unsealed(path.read_bytes()) for path in folder.iterdir()}


def assert_right(copy: Path, expected: Any) -> cloudimg.Verification:
    np.testing.assert_array_equal(pixels_of(copy), expected)
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    return proof


# ----------------------------------------------------------------------------------- what is shown


def test_nine_of_two_thousand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = bad.write_nine(tmp_path / "in")
    url, copy = bad.pattern(tmp_path / "in"), str(tmp_path / "copy.zarr")
    counts = {kind: len(places) for kind, places in bad.NINE.items()}
    names = [f"t{t}_z{z}.tif" for places in bad.NINE.values() for t, z in places]
    with pytest.raises(BadFilesError) as opening:
        cloudimg.open(url, validate="all")
    assert kinds(opening.value.report) == counts
    options = ["--shards", "t=1,z=10,y=16,x=24", "--chunks", "8", "--missing", "fill"]
    assert main(["migrate", url, copy, *options]) == 4
    err = capsys.readouterr().err
    assert "6 of 200 cells were not copied because of bad files" in err
    assert "9 of 2000 files are missing or bad: 3 missing, 2 empty, 2 truncated" in err
    assert "--bad fill" in err
    assert all(err.count(f"/{name}") >= 1 for name in names)
    assert main(["migrate", url, copy, *options, "--bad", "fill"]) == 0
    assert "200 cells (194 finished before)" in capsys.readouterr().out
    assert main(["verify", copy, "--against-source"]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    assert [next(n for n in names if f"/{n} " in line) for line in lines] == names
    proof = assert_right(tmp_path / "copy.zarr", expected)
    assert kinds(proof.report) == counts
    assert proof.report is not None
    assert proof.report.n_files == 2000


def test_the_report_of_a_copy_without_bad_files(tmp_path: Path) -> None:
    bad.write_good(tmp_path / "in", (2, 2))
    report = tmp_path / "report.json"
    words = ["migrate", bad.pattern(tmp_path / "in"), str(tmp_path / "copy.zarr")]
    for _ in range(2):  # the second time, the copy is complete
        assert main([*words, "--report", str(report)]) == 0
        assert json.loads(report.read_text())["n_files"] == 4
        report.unlink()


def test_all_other_cells_are_done_and_one_error_lists_the_bad_files(
    archive: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.zarr"
    with pytest.raises(BadFilesError, match=r"4 of 8 cells were not copied") as caught:
        cloudimg.migrate(bad.pattern(archive), copy, **CELLS)
    report = caught.value.report
    assert kinds(report) == dict.fromkeys(PLACES, 1)
    assert report.n_files == 8
    for kind, (t, z) in PLACES.items():
        assert f"t{t}_z{z}.tif ({kind}): " in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).report == report
    assert sorted(records(copy)) == [1, 3, 4, 6]
    assert not (copy / "zarr.json").exists()
    # The same command tries the others again.
    with pytest.raises(BadFilesError, match=r"4 of 8 cells were not copied"):
        cloudimg.migrate(bad.pattern(archive), copy, **CELLS)
    assert sorted(records(copy)) == [1, 3, 4, 6]


def test_one_cell_lists_all_its_bad_files(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFilesError, match=r"1 of 1 cells was not copied") as caught:
        cloudimg.migrate(bad.pattern(archive), tmp_path / "copy.zarr")
    assert kinds(caught.value.report) == dict.fromkeys(PLACES, 1)
    image = cloudimg.open(f"{archive}/t{{t}}_z{{z:[13]}}.tif")
    with pytest.raises(BadFilesError) as caught:
        image.to_zarr(tmp_path / "other.zarr")
    assert kinds(caught.value.report) == {"not-an-image": 1, "other-dtype": 1}


# ----------------------------------------------------------------------------------------- filling


def test_filled_files_are_on_record(archive: Path, tmp_path: Path) -> None:
    (archive / "t0_z1.tif").unlink()
    expected = filled()
    expected[0, 1] = 0
    copy = tmp_path / "copy.zarr"
    done = cloudimg.migrate(bad.pattern(archive), copy, **CELLS, **FILL)
    counts = {"missing": 1, **dict.fromkeys(PLACES, 1)}
    assert {note.kind: note.n_files for note in done.notes} == {  # type: ignore[attr-defined]
        f"filled-{kind}": n for kind, n in counts.items()
    }
    proof = assert_right(copy, expected)
    assert kinds(proof.report) == counts
    assert [(file.kind, Path(file.url).name) for file in proof.filled] == [
        ("missing", "t0_z1.tif"),
        *((kind, f"t{t}_z{z}.tif") for kind, (t, z) in PLACES.items()),
    ]
    assert len(proof.to_json()["filled"]) == 5
    assert proof.to_json()["report"]["total"] == 5
    stored = records(copy)
    assert stored[0]["filled"] == [[f"{archive}/t0_z0.tif", "empty", "is empty (0 bytes)"]]
    assert (stored[1]["n_missing"], stored[1]["filled"][0][1]) == (1, "missing")
    assert "filled" not in stored[3]
    again = cloudimg.migrate(bad.pattern(archive), copy, **CELLS, **FILL)
    assert again.notes == done.notes
    described = json.loads((copy / "zarr.json").read_text())
    assert "filled-empty" in json.dumps(described)


def test_a_damaged_tile_spoils_only_its_cell_and_the_file_counts_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 2**16, (3, 128, 64), np.uint16)
    for z in range(3):
        data = bytearray(seed.encode(image[z], tile=(32, 32), compression="zlib"))
        if z == 1:
            data[-40:] = b"\xff" * 40  # the last tile: of the second cell of this plane
        (tmp_path / f"z{z}.tif").write_bytes(data if z < 2 else b"II*\0")
    cells: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 2}
    copy = tmp_path / "copy.zarr"
    with pytest.raises(BadFilesError, match="3 of 6 cells were not copied") as caught:
        cloudimg.migrate(tmp_path / "z{z}.tif", copy, **cells)
    assert kinds(caught.value.report) == {"truncated": 1, "corrupt": 1}
    cloudimg.migrate(tmp_path / "z{z}.tif", copy, bad="fill", **cells)
    image[1, 64:] = 0
    image[2] = 0
    proof = assert_right(copy, image)
    assert kinds(proof.report) == {"truncated": 1, "corrupt": 1}


def test_bad_files_are_not_exported_as_if_they_were_originals(
    archive: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(bad.pattern(archive), copy, **CELLS, **FILL)
    assert cloudimg.export(copy, tmp_path / "out").n_files == 4
    exported = sorted(path.name for path in (tmp_path / "out").glob("*.tif"))
    good = set(np.ndindex(2, 4)) - set(PLACES.values())
    assert exported == sorted(f"t{t}_z{z}.tif" for t, z in good)


def test_missing_files_without_a_name_have_their_labels(tmp_path: Path) -> None:
    for t, z in set(np.ndindex(2, 4)) - {(1, 2)}:
        bad.write_file(tmp_path, t, z).rename(tmp_path / f"{t}_{z}_{7 * t + z}.tif")
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/{{t}}_{{z}}_*.tif", copy, missing="fill")
    proof = cloudimg.verify(copy)
    assert proof, str(proof)
    assert [(file.url, file.kind) for file in proof.filled] == [("(t=1, z=2)", "missing")]


def test_an_archive_with_more_holes_than_are_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(60):
        (tmp_path / "in" / f"t{i}_z{i}.tif").write_bytes(seed.encode(np.ones((2, 2), np.uint8)))
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(bad.pattern(tmp_path / "in"), copy, missing="fill")
    proof = cloudimg.verify(copy)
    assert proof, str(proof)
    assert kinds(proof.report) == {"missing": 3540}
    assert len(proof.filled) == 1000
    assert str(proof).endswith("and 2540 more")


# ---------------------------------------------------------------------------------------- resuming


def test_filling_after_raising_ends_with_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    url = bad.pattern(archive)
    cloudimg.migrate(url, tmp_path / "once.zarr", **CELLS, **FILL)
    copy = tmp_path / "twice.zarr"
    with pytest.raises(BadFilesError):
        cloudimg.migrate(url, copy, missing="fill", **CELLS)
    done = cloudimg.migrate(url, copy, **CELLS, **FILL)
    assert done.n_done_before == 4
    once, twice = (
        copies.image_of(copies.objects(str(each), {})) for each in (tmp_path / "once.zarr", copy)
    )
    assert once == twice
    assert_right(copy, filled())


def test_raising_does_not_follow_filling(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(bad.pattern(archive), copy, **CELLS, **FILL)
    with pytest.raises(ArgumentError, match='bad="fill" before, bad="raise" now'):
        cloudimg.migrate(bad.pattern(archive), copy, missing="fill", **CELLS)
    assert_right(copy, filled())


def test_mended_files_are_copied_by_the_same_command(archive: Path, tmp_path: Path) -> None:
    url, copy = bad.pattern(archive), tmp_path / "copy.zarr"
    with pytest.raises(BadFilesError, match="4 of 8 cells"):
        cloudimg.migrate(url, copy, **CELLS)
    *some, last = PLACES.values()
    for place in some:
        bad.write_file(archive, *place)
    with pytest.raises(BadFilesError, match="1 of 8 cells was not copied") as caught:
        cloudimg.migrate(url, copy, **CELLS)
    assert kinds(caught.value.report) == {"other-dtype": 1}
    bad.write_file(archive, *last)
    done = cloudimg.migrate(url, copy, **CELLS)
    assert done.n_done_before == 7
    proof = assert_right(copy, bad.write_good(tmp_path / "again", (2, 4)))
    assert not proof.report
    # As if nothing had ever been wrong, but for the times of the files.
    cloudimg.migrate(url, tmp_path / "other.zarr", **CELLS)
    first, other = (
        copies.image_of(copies.objects(str(each), {})) for each in (copy, tmp_path / "other.zarr")
    )
    assert first == other


@pytest.mark.parametrize("change", ["replaced", "removed", "added"])
def test_other_files_change_while_bad_ones_are_mended(
    archive: Path, tmp_path: Path, change: str
) -> None:
    """Cells that have read a replaced file are done again; otherwise the copy is as planned."""
    url, copy = f"{archive}/t{{t}}_z{{z}}.tif", tmp_path / "copy.zarr"
    (archive / "t1_z2.tif").unlink()
    with pytest.raises(BadFilesError):
        cloudimg.migrate(url, copy, missing="fill", **CELLS)
    for place in PLACES.values():
        bad.write_file(archive, *place)
    expected = np.stack([[bad.pixels_of(t, z) for z in range(4)] for t in range(2)])
    expected[1, 2] = 0
    if change == "replaced":
        (archive / "t0_z1.tif").write_bytes(seed.encode(bad.pixels_of(5, 5)))
        expected[0, 1] = bad.pixels_of(5, 5)
    elif change == "removed":
        (archive / "t0_z1.tif").unlink()
    else:
        bad.write_file(archive, 1, 2)
    done = cloudimg.migrate(url, copy, missing="fill", **CELLS)
    np.testing.assert_array_equal(pixels_of(copy), expected)
    kinds_of_notes = {note.kind for note in done.notes}  # type: ignore[attr-defined]
    expected_notes = {"removed": {"gone-files"}, "added": {"newer-files"}}.get(change, set())
    assert kinds_of_notes == {"filled-missing", *expected_notes}
    assert cloudimg.verify(copy)


def test_a_filled_file_that_was_mended_is_noticed(archive: Path, tmp_path: Path) -> None:
    url, copy = bad.pattern(archive), tmp_path / "copy.zarr"
    cloudimg.migrate(url, copy, **CELLS, **FILL)
    bad.write_file(archive, *PLACES["empty"])
    with pytest.raises(ArgumentError, match=r"1 file replaced \(.*t0_z0\.tif"):
        cloudimg.migrate(url, copy, **CELLS, **FILL)
    proof = cloudimg.verify(copy, against_source=True)
    assert not proof
    assert "t0_z0.tif" in str(proof)


def test_a_copy_is_checked_against_files_that_are_bad_now(tmp_path: Path) -> None:
    bad.write_good(tmp_path / "in", (2, 4))
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(bad.pattern(tmp_path / "in"), copy, **CELLS)
    bad.spoil(tmp_path / "in", "truncated", 1, 2)
    proof = cloudimg.verify(copy, against_source=True)
    assert not proof
    assert "t1_z2.tif (truncated)" in str(proof)


# ----------------------------------------------------------------------- other stores and clusters


def test_a_copy_in_a_bucket(meter: Meter, bucket: str, tmp_path: Path) -> None:
    bad.write_good(tmp_path / "in", (2, 4))
    for kind, place in PLACES.items():
        bad.spoil(tmp_path / "in", kind, *place)
    for path in (tmp_path / "in").iterdir():
        meter.put(bucket, f"in/{path.name}", path.read_bytes())
    options: dict[str, Any] = {
        "source_options": meter.storage_options,
        "target_options": meter.storage_options,
    }
    url, copy = f"s3://{bucket}/in/t{{t}}_z{{z}}.tif", f"s3://{bucket}/copy.zarr"
    with pytest.raises(BadFilesError, match="4 of 8 cells"):
        cloudimg.migrate(url, copy, **CELLS, **options)
    mended = PLACES["truncated"]
    path = bad.write_file(tmp_path, *mended)
    meter.put(bucket, f"in/{path.name}", path.read_bytes())
    done = cloudimg.migrate(url, copy, bad="fill", **CELLS, **options)
    assert done.n_done_before == 4
    proof = cloudimg.verify(
        copy,
        against_source=True,
        storage_options=meter.storage_options,
        source_options=meter.storage_options,
    )
    assert proof, str(proof)
    assert kinds(proof.report) == {kind: 1 for kind in PLACES if kind != "truncated"}
    assert proof.filled[0].url == f"s3://{bucket}/in/t0_z0.tif"


def test_a_failing_store_is_an_error_of_its_own(meter: Meter, bucket: str) -> None:
    """Bad files beside it are not what stops the migration."""
    for t, z in np.ndindex(2, 2):
        data = seed.encode(bad.pixels_of(t, z)) if (t, z) != (1, 1) else b""
        meter.put(bucket, f"in/t{t}_z{z}.tif", data)
    meter.faults([{"match": r"GET.*t1_z0\.tif", "kind": "status", "status": 403}])
    with pytest.raises(CloudimgError, match=r"t1_z0\.tif") as caught:
        cloudimg.migrate(
            f"s3://{bucket}/in/t{{t}}_z{{z}}.tif",
            f"s3://{bucket}/copy.zarr",
            source_options=meter.storage_options,
            target_options=meter.storage_options,
            **CELLS,
            **FILL,
        )
    assert not isinstance(caught.value, BadFilesError)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2, 1) as client:
        yield client


def test_a_cluster_does_the_same(client: Client, archive: Path, tmp_path: Path) -> None:
    url = bad.pattern(archive)
    with pytest.raises(BadFilesError, match="4 of 8 cells") as here:
        cloudimg.migrate(url, tmp_path / "here.zarr", **CELLS)
    copy = tmp_path / "there.zarr"
    with pytest.raises(BadFilesError, match="4 of 8 cells") as there:
        cloudimg.migrate(url, copy, client=client, **CELLS)
    assert there.value.report == here.value.report
    assert sorted(records(copy)) == [1, 3, 4, 6]
    cloudimg.migrate(url, copy, client=client, bad="fill", **CELLS)
    proof = cloudimg.verify(copy, against_source=True, client=client)
    assert proof, str(proof)
    assert kinds(proof.report) == dict.fromkeys(PLACES, 1)
    np.testing.assert_array_equal(pixels_of(copy), filled())


def test_workers_warn_the_client(client: Client, archive: Path) -> None:
    array = cloudimg.open(f"{archive}/t{{t}}_z{{z:[123]}}.tif", bad="fill").to_dask()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(client.compute(array).result(), filled()[:, 1:])
        wait_until(lambda: bool(caught), "a warning of a worker")
    assert caught[0].category is CloudimgWarning
    assert "t0_z2.tif (truncated)" in str(caught[0].message)


def test_an_odd_first_file_does_not_fill_all_others(tmp_path: Path) -> None:
    for i in range(20):
        side = 6 if i == 0 else 8
        (tmp_path / f"f_{i:03d}.tif").write_bytes(seed.encode(np.ones((side, side), np.uint8)))
    source, out = f"{tmp_path}/f_{{i:03d}}.tif", tmp_path / "copy.ome.zarr"
    with pytest.raises(BadFilesError, match=r"19 of 20 files .* than the first one.*exclude="):
        cloudimg.migrate(source, out, bad="fill")
    assert not (out / "zarr.json").exists()
    cloudimg.migrate(source, out, bad="fill", exclude="f_000.tif", overwrite=True)
    assert cloudimg.verify(out, against_source=True)
