"""What was noticed about the source goes with the copy: printed, stored, and repeated by verify."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.destination import as_json, open_destination
from cloudimg.migration.journal.files_read import FilesRead
from cloudimg.migration.journal.inventory import read_end_mark
from cloudimg.migration.journal.layout import END_MARK, PLAN
from cloudimg.migration.journal.records import read_record, record_key
from cloudimg.migration.journal.sealing import get_sealed, put_sealed, unsealed
from tests.support import copies
from tests.support.clusters import local_client
from tests.support.noted import (
    COMPANION,
    ODD_TAG,
    ODD_TYPE,
    make_tag_odd,
    write_noted,
    write_plain,
)

pytestmark = pytest.mark.slow  # all of them together

KIND = "metadata-problem"
PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 32, "x": 32}, "levels": 3}
"""Four cells for each file, and one more in a second stage."""


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Six files, the first one without and the next four with something to note."""
    for z in range(6):
        write = write_noted if 1 <= z <= 4 else write_plain
        write(tmp_path / f"a_{z}.ome.tif", z)
    return f"{tmp_path}/a_{{z}}.ome.tif"


def about_files(notes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The notes about files, with all their parts."""
    assert all(isinstance(note, Note) for note in notes)
    return [note.to_json() for note in notes if isinstance(note, Note)]


def stored_notes(url: Path, document: str = "zarr.json") -> Any:
    """The notes about files in the metadata of a copy."""
    attributes = json.loads((url / document).read_text())
    return attributes.get("attributes", attributes)["cloudimg"].get("source_notes")


def records(url: Path) -> list[Any]:
    return [unsealed(path.read_bytes()) for path in sorted(url.glob(".cloudimg/cells/*/*.json"))]


def replace_in_place(path: Path, write: Callable[[Path, int], None], value: int) -> None:
    """Change a file so that its version in the store stays the same."""
    before, other = path.stat(), path.with_name("other")
    write(other, value)
    assert other.stat().st_size == before.st_size
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# What users see


def test_a_note_from_opening_is_printed_stored_and_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "a.ome.tif", tmp_path / "copy.zarr"
    write_noted(path)
    (note,) = cloudimg.open(path).notes
    words = ["migrate", str(path), str(out)]
    line = f"note: {note}"
    assert main([*words, "--dry-run"]) == 0
    assert line in capsys.readouterr().out.splitlines()
    assert main([*words, "--dry-run", "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["notes"] == [note]
    assert estimate["source_notes"] == [note.to_json()]
    assert not out.exists()
    for _ in range(2):  # the second time, nothing is left to do
        assert main(words) == 0
        assert line in capsys.readouterr().out.splitlines()
    assert stored_notes(out) == [note.to_json()]

    assert main(["verify", str(out)]) == 0
    summary, *rest = capsys.readouterr().out.splitlines()
    assert "is verified" in summary
    assert ", 1 note, in" in summary
    assert rest == [line]
    assert main(["verify", str(out), "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)
    assert (proof["is_verified"], proof["problems"]) == (True, [])
    assert (proof["notes"], proof["source_notes"]) == ([note], [note.to_json()])
    assert about_files(cloudimg.verify(out).notes) == [note.to_json()]

    assert main(["export", str(out), str(tmp_path / "exported")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [line]


def test_notes_are_printed_before_the_work(mixed: str, tmp_path: Path) -> None:
    seen: list[str] = []
    done = cloudimg.migrate(
        mixed, tmp_path / "copy.zarr", validate="all", progress=lambda each: seen.append(each.note)
    )
    assert seen[0] == f"note: {done.notes[0]}"
    assert f"\n{seen[0]}" in str(done)


def test_problems_do_not_hide_notes(mixed: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    done = cloudimg.migrate(mixed, out, **PARTS)
    (out / "0/c/1/0/1").unlink()
    proof = cloudimg.verify(out)
    assert not proof
    assert str(proof).splitlines()[-1] == f"note: {done.notes[0]}"


def test_copies_without_notes(tmp_path: Path) -> None:
    """Nothing of them differs from the copies of versions that did not know notes."""
    write_plain(tmp_path / "a_0.ome.tif")
    out = tmp_path / "copy.zarr"
    assert cloudimg.migrate(f"{tmp_path}/a_{{z}}.ome.tif", out, **PARTS).notes == ()
    proof = cloudimg.verify(out, against_source=True)
    assert proof.notes == ()
    assert "note:" not in str(proof)
    assert stored_notes(out) is None
    for record in records(out):
        assert set(record) == {
            "plan", "stage", "number", "levels", "histograms", "first_channel", "originals",
            *(["files"] if record["stage"] == 0 else []),
        }  # fmt: skip
    assert set(json.loads((out / END_MARK).read_bytes())) == {
        "plan", "n_cells", "receipts", "inventory", "sha256",
        "plan_sha256", "plan_etag", "versions_digest",
    }  # fmt: skip
    assert "source_notes" not in json.loads((out / PLAN).read_bytes())["facts"]


# What is found while copying


def test_files_that_only_cells_open_are_counted_once(mixed: str, tmp_path: Path) -> None:
    """Four cells open each file, and the file of the first header has nothing to note."""
    out = tmp_path / "copy.zarr"
    assert cloudimg.open(mixed).notes == ()
    done = cloudimg.migrate(mixed, out, **PARTS)
    (note,) = about_files(done.notes)
    assert (note["kind"], note["n_files"]) == (KIND, 4)
    assert COMPANION in note["text"]
    assert note["urls"] == [f"{tmp_path}/a_{z}.ome.tif" for z in (1, 2, 3)]
    assert stored_notes(out) == [note]
    assert len([record for record in records(out) if "notes" in record]) == 4
    proof = cloudimg.verify(out)
    assert about_files(proof.notes) == [note]
    assert about_files(cloudimg.verify(out, against_source=True).notes) == [note]
    assert about_files(cloudimg.migrate(mixed, out, **PARTS).notes) == [note]


def test_files_that_are_read_at_open_are_not_counted_again(mixed: str, tmp_path: Path) -> None:
    every = cloudimg.migrate(mixed, tmp_path / "every.zarr", validate="all", **PARTS)
    first = cloudimg.migrate(mixed, tmp_path / "first.zarr", **PARTS)
    assert about_files(every.notes) == about_files(first.notes)
    assert (tmp_path / "every.zarr/zarr.json").exists()


def test_cells_of_many_files(mixed: str, tmp_path: Path) -> None:
    done = cloudimg.migrate(mixed, tmp_path / "copy.zarr", zarr_format=2)
    (note,) = about_files(done.notes)
    assert note["n_files"] == 4
    assert stored_notes(tmp_path / "copy.zarr", ".zattrs") == [note]
    assert cloudimg.verify(tmp_path / "copy.zarr")


def test_images_of_a_collection(tmp_path: Path) -> None:
    """Two further axes, whose positions are images of their own."""
    for a in range(2):
        for b in range(3):
            write = write_plain if (a, b) == (0, 0) else write_noted
            write(tmp_path / f"i_{a}_{b}.ome.tif", a + b)
    out = tmp_path / "copy.zarr"
    done = cloudimg.migrate(f"{tmp_path}/i_{{a}}_{{b}}.ome.tif", out, **{**PARTS, "shards": 32})
    (note,) = about_files(done.notes)
    assert note["n_files"] == 5
    assert stored_notes(out) == [note]
    assert about_files(cloudimg.verify(out).notes) == [note]


def test_members_of_a_dataset_are_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two files of three planes each; twelve cells open each file, and what tifffile logs is kept
    from its logger.
    """
    planes = "".join(
        f'<TiffData FirstT="{t}" IFD="{t % 3}" PlaneCount="1"><UUID FileName="f{t // 3}.ome.tif">'
        f"urn:uuid:{t // 3}</UUID></TiffData>"
        for t in range(6)
    )
    paths = [tmp_path / f"f{i}.ome.tif" for i in range(2)]
    for i, path in enumerate(paths):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="urn:uuid:{i}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8"'
            ' DimensionOrder="XYZCT" SizeX="64" SizeY="64" SizeZ="1" SizeC="1" SizeT="6">'
            f"{planes}</Pixels></Image></OME>"
        )
        with tifffile.TiffWriter(path) as tiff:
            for n in range(3):
                tiff.write(
                    np.full((64, 64), 3 * i + n, np.uint8), description=None if n else xml,
                    metadata=None, contiguous=False, photometric="minisblack",
                    extratags=[(ODD_TAG, 7, 3, b"abc", True)],
                )  # fmt: skip
        make_tag_odd(path)
    caplog.clear()
    out = tmp_path / "copy.zarr"
    parts = {**PARTS, "shards": {"t": 1, "y": 32, "x": 32}}
    done = cloudimg.migrate(paths[1], out, **parts)
    (note,) = about_files(done.notes)
    assert (note["kind"], note["n_files"]) == ("parser-log", 2)
    assert f"invalid data type {ODD_TYPE}" in note["text"]
    assert note["urls"] == [str(paths[1]), str(paths[0])]  # in the order in which they are opened
    assert sum("notes" in record for record in records(out)) == 2
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert about_files(proof.notes) == [note]
    cloudimg.export(out, tmp_path / "exported")
    assert not [record for record in caplog.records if record.name == "tifffile"]


class StopError(Exception):
    """Raised by a callback in place of a kill."""


def stop_after(n_cells: int) -> Callable[[Any], None]:
    def progress(advance: Any) -> None:
        if advance.what and advance.n_done >= n_cells:
            raise StopError

    return progress


@pytest.mark.parametrize("n_cells", [1, 6, 14, 24])
def test_a_resumed_copy_has_the_bytes_of_an_undisturbed_one(
    mixed: str, tmp_path: Path, n_cells: int
) -> None:
    """Other cells finish first, and the resumed run has other headers in its memory."""
    undisturbed, out = tmp_path / "undisturbed.zarr", tmp_path / "copy.zarr"
    cloudimg.migrate(mixed, undisturbed, **PARTS)
    with pytest.raises(StopError):
        cloudimg.migrate(mixed, out, **PARTS, max_mem=165_000, progress=stop_after(n_cells))
    lost = sorted(out.glob(".cloudimg/cells/0/*.json"))[::3]
    for path in lost:
        path.unlink()
    resumed = cloudimg.migrate(mixed, out, validate="all", **PARTS)
    assert resumed.n_done_before > 0 or n_cells == 1
    assert stored_notes(out)[0]["n_files"] == 4
    expected = copies.image_of(copies.objects(str(undisturbed), {}))
    assert copies.image_of(copies.objects(str(out), {})) == expected
    ends = [json.loads((each / END_MARK).read_bytes())["notes"] for each in (undisturbed, out)]
    assert ends[0] == ends[1]
    assert cloudimg.verify(out)


def test_cells_on_a_cluster(mixed: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here.zarr", tmp_path / "there.zarr"
    cloudimg.migrate(mixed, here, **PARTS)
    with local_client() as client:
        done = cloudimg.migrate(mixed, there, **PARTS, client=client)
        proof = cloudimg.verify(there, client=client, against_source=True)
    assert about_files(done.notes) == about_files(proof.notes) == stored_notes(here)
    assert copies.image_of(copies.objects(str(there), {})) == copies.image_of(
        copies.objects(str(here), {})
    )


def test_what_only_attributes_show_is_noted_at_open_and_not_by_cells(tmp_path: Path) -> None:
    """Or commit records would depend on which headers a process remembers."""
    broken = (42112, "s", None, "<GDALMetadata><Item", True)
    for z in range(3):
        tifffile.imwrite(
            tmp_path / f"b_{z}.tif", np.full((64, 64), z, np.uint8), photometric="minisblack",
            extratags=[broken], metadata=None,
        )  # fmt: skip
    out = tmp_path / "copy.zarr"
    done = cloudimg.migrate(f"{tmp_path}/b_{{z}}.tif", out, **PARTS)
    (note,) = about_files(done.notes)
    assert (note["kind"], note["n_files"]) == (KIND, 1)
    assert stored_notes(out) == [note]
    assert not any("notes" in record for record in records(out))


def test_headers_that_are_read_for_the_names_of_channels(tmp_path: Path) -> None:
    """Two of three files have broken metadata, of which opening reads the first."""
    for c in range(3):
        broken = (42112, "s", None, "<GDALMetadata>" + ("<" if c < 2 else "</GDALMetadata>"), True)
        tifffile.imwrite(
            tmp_path / f"c_{c}.ome.tif", np.full((64, 64), c, np.uint8), photometric="minisblack",
            metadata={"axes": "YX", "Channel": {"Name": f"stain {c}"}}, extratags=[broken],
        )  # fmt: skip
    pattern = f"{tmp_path}/c_{{c}}.ome.tif"
    assert [note.n_files for note in cloudimg.open(pattern).notes] == [1]
    done = cloudimg.migrate(pattern, tmp_path / "copy.zarr")
    (note,) = about_files(done.notes)
    assert (note["kind"], note["n_files"]) == (KIND, 2)
    assert note["urls"] == [str(tmp_path / f"c_{c}.ome.tif") for c in range(2)]
    document = json.loads((tmp_path / "copy.zarr/zarr.json").read_text())
    channels = document["attributes"]["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["stain 0", "stain 1", "stain 2"]


# Further images, of which opening did not know


def files_with_more(folder: Path, numbers: tuple[int, ...]) -> str:
    """A pattern of five files, some of which have a second image."""
    for z in range(5):
        with tifffile.TiffWriter(folder / f"p_{z}.tif") as writer:
            writer.write(np.full((64, 64), z, np.uint8), metadata=None, photometric="minisblack")
            if z in numbers:
                writer.write(np.full((30, 20), 9, np.uint8), photometric="minisblack")
    return f"{folder}/p_{{z}}.tif"


def test_further_images_that_only_cells_find_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the cell has a commit record; the same copy goes on once an image was chosen."""
    pattern, out = files_with_more(tmp_path, (3, 4)), tmp_path / "copy.zarr"
    assert main(["migrate", pattern, str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/p_3.tif has 2 images, and a copy takes one of them" in error
    assert "pass --series 0 to copy the first image of each file (--series 0: 64 x 64" in error
    assert "--series 1: 30 x 20 uint8); 1 more file has several images, too" in error
    assert records(out) == []
    for _ in range(2):  # it is refused again, and the same cells stay undone
        with pytest.raises(ArgumentError, match=r"p_[34]\.tif has 2 images"):
            cloudimg.migrate(pattern, tmp_path / "parts.zarr", **PARTS, max_mem=165_000)
    read = [FilesRead.from_json(each["files"]) for each in records(tmp_path / "parts.zarr")]
    assert {row for each in read for row in each.arrays()[0].tolist()} <= {0, 1, 2}
    done = cloudimg.migrate(pattern, tmp_path / "parts.zarr", **PARTS, series=0)
    assert done.n_done_before > 0
    (note,) = about_files(done.notes)
    assert (note["kind"], note["n_files"]) == ("further-images", 2)
    proof = cloudimg.verify(tmp_path / "parts.zarr", against_source=True)
    assert proof, str(proof)
    assert about_files(proof.notes) == [note]


def test_further_images_are_refused_on_a_cluster(tmp_path: Path) -> None:
    pattern, out = files_with_more(tmp_path, (3,)), tmp_path / "copy.zarr"
    with local_client() as client:
        with pytest.raises(ArgumentError, match=r"p_3\.tif has 2 images.*pass series=0"):
            cloudimg.migrate(pattern, out, **PARTS, client=client)
        done = cloudimg.migrate(pattern, out, **PARTS, series=0, client=client)
    assert [note["kind"] for note in about_files(done.notes)] == ["further-images"]


def test_a_finished_copy_with_further_images_of_an_earlier_version(tmp_path: Path) -> None:
    """It was made with a note only; nothing of it is read again to go on."""
    pattern, out = files_with_more(tmp_path, (3,)), tmp_path / "copy.zarr"
    done = cloudimg.migrate(pattern, out, **PARTS, series=0)
    again = cloudimg.migrate(pattern, out, **PARTS)
    assert about_files(again.notes) == about_files(done.notes)
    assert cloudimg.verify(out, against_source=True)
    assert cloudimg.verify(out, against_source=cloudimg.open(pattern))


# Damage, and copies of versions that did not know notes


def test_notes_that_somebody_removed_are_missed(mixed: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(mixed, out, **PARTS)
    destination = open_destination(out, None)
    content = get_sealed(destination, END_MARK)
    assert content is not None
    put_sealed(destination, END_MARK, {k: v for k, v in content.items() if k != "notes"})
    (problem,) = cloudimg.verify(out).problems
    assert "the end mark has other notes" in problem.what
    document = json.loads((out / "zarr.json").read_text())
    del document["attributes"]["cloudimg"]["source_notes"]
    (out / "zarr.json").write_text(json.dumps(document))
    proof = cloudimg.verify(out)
    assert [str(each) for each in proof.edits] == ["edited: zarr.json (cloudimg.source_notes)"]
    assert [each.what for each in proof.problems] == [problem.what]
    assert len(about_files(proof.notes)) > 0  # they are in the journal, too


def test_a_finished_copy_of_an_earlier_version(tmp_path: Path) -> None:
    """It has no notes until its source is read again."""
    pattern, out = f"{tmp_path}/a_{{z}}.ome.tif", tmp_path / "copy.zarr"
    paths = [tmp_path / f"a_{z}.ome.tif" for z in range(3)]
    for path in paths:
        write_plain(path)
    cloudimg.migrate(pattern, out, **PARTS)
    for path in paths[:2]:
        replace_in_place(path, write_noted, 0)
    assert cloudimg.verify(out).notes == ()
    assert cloudimg.migrate(pattern, out, **PARTS).notes == ()
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    (note,) = about_files(proof.notes)
    assert (note["kind"], note["n_files"]) == (KIND, 2)
    assert note["urls"] == [str(path) for path in paths[:2]]


def test_an_unfinished_copy_of_an_earlier_version(mixed: str, tmp_path: Path) -> None:
    """Cells that are done now have notes, cells and the plan of before have none."""
    out = tmp_path / "copy.zarr"
    with pytest.raises(StopError):
        cloudimg.migrate(
            mixed, out, validate="all", **PARTS, max_mem=165_000, progress=stop_after(10)
        )
    destination = open_destination(out, None)
    plan = get_sealed(destination, PLAN)
    assert plan is not None
    assert plan["facts"].pop("source_notes")
    put_sealed(destination, PLAN, plan)
    for number in range(24):
        record = read_record(destination, 0, number)
        if record is not None:
            put_sealed(
                destination,
                record_key(0, number),
                {name: each for name, each in record.to_json().items() if name != "notes"},
            )
    done = cloudimg.migrate(mixed, out, **PARTS)
    assert done.n_done_before >= 10
    (note,) = about_files(done.notes)
    assert 1 <= note["n_files"] < 4
    assert stored_notes(out) == [note]
    end_mark = read_end_mark(destination)
    assert end_mark is not None
    assert as_json(end_mark.to_json()["notes"]) == as_json([note])
    proof = cloudimg.verify(out)
    assert proof, str(proof)
    assert about_files(proof.notes) == [note]
    (found,) = about_files(cloudimg.verify(out, against_source=True).notes)
    assert found["n_files"] == 4
