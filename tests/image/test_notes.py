"""What is noticed about files is told by the image: one note per kind, however many files."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import CloudimgError
from cloudimg.errors.notes import Note, NoteSums, Remark
from cloudimg.reading.headers import HeaderReader
from cloudimg.reading.read_context import ReadContext
from cloudimg.storage import Store, split_url
from tests.support.clusters import local_client
from tests.support.noted import COMPANION, write_noted, write_plain

KIND = "metadata-problem"
BROKEN_XML = (42112, "s", None, "<GDALMetadata><Item", True)
"""A tag of GDAL that cannot be parsed; tifffile's form of a tag to write."""


def write_broken(path: Path, value: int = 0, **options: Any) -> None:
    """A file whose attributes cannot all be read."""
    pixels = np.full((16, 16), value, np.uint8)
    tifffile.imwrite(
        path, pixels, photometric="minisblack", extratags=[BROKEN_XML], metadata=None, **options
    )


def only_note(image: cloudimg.Image) -> Note:
    (note,) = image.notes
    assert isinstance(note, Note)
    return note


def test_a_file_without_anything_to_note(tmp_path: Path) -> None:
    write_plain(tmp_path / "a.tif")
    image = cloudimg.open(tmp_path / "a.tif")
    assert image.notes == ()
    assert "note:" not in repr(image)
    assert cloudimg.info(str(tmp_path / "a.tif"))["notes"] == []


def test_a_note_about_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.ome.tif"
    write_noted(path)
    image = cloudimg.open(path)
    note = only_note(image)
    assert (note.kind, note.n_files, note.urls) == (KIND, 1, (str(path),))
    assert COMPANION in note.text
    assert note == f"{path}: {note.text}"
    assert repr(image).splitlines()[-1] == f"  note: {note}"
    facts = cloudimg.info(str(path))
    assert facts["notes"] == [{"kind": KIND, "text": note.text, "n_files": 1, "urls": [str(path)]}]
    assert main(["info", str(path)]) == 0
    assert f"  notes      {note}" in capsys.readouterr().out.splitlines()
    assert main(["info", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == facts["notes"]


def test_one_note_about_many_files(tmp_path: Path) -> None:
    """Without `validate` only the first header is read; with it, every file is counted once."""
    paths = [tmp_path / f"a_{z}.ome.tif" for z in range(12)]
    for path in paths[:7]:
        write_noted(path)
    for path in paths[7:]:
        write_plain(path)
    pattern = f"{tmp_path}/a_{{z}}.ome.tif"
    assert only_note(cloudimg.open(pattern)).n_files == 1
    image = cloudimg.open(pattern, validate="all")
    note = only_note(image)
    assert (note.n_files, note.urls) == (7, tuple(map(str, paths[:3])))
    assert note == f"7 files, for example {paths[0]}: {note.text}"
    assert repr(image).count("note: ") == 1


def test_headers_at_the_edges_of_a_mosaic(tmp_path: Path) -> None:
    for x in range(4):
        (write_noted if x == 3 else write_plain)(tmp_path / f"a_{x}.ome.tif")
    note = only_note(cloudimg.open(f"{tmp_path}/a_{{x}}.ome.tif"))
    assert (note.n_files, note.urls) == (1, (str(tmp_path / "a_3.ome.tif"),))


def test_remembered_headers_keep_their_notes(tmp_path: Path) -> None:
    """Files with equal headers are parsed once, and an image that was pickled is not opened."""
    for z in range(5):
        write_broken(tmp_path / f"a_{z}.tif", z)
    pattern = f"{tmp_path}/a_{{z}}.tif"
    for _ in range(2):
        image = cloudimg.open(pattern, validate="all")
        note = only_note(image)
        assert (note.kind, note.n_files) == (KIND, 5)
        assert note.text.startswith("metadata cannot be read: gdal: ParseError: ")
        assert image.read({"z": 3}).max() == 3
    again = only_note(pickle.loads(pickle.dumps(image)))
    assert (again, again.to_json()) == (note, note.to_json())


def test_members_of_a_multifile_dataset_are_counted_once(tmp_path: Path) -> None:
    """The first file is read as the one that describes the dataset, and as a member."""
    images = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="t{t}.ome.tif">'
        f"urn:uuid:{t}</UUID></TiffData>"
        for t in range(4)
    )
    for t in range(4):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="urn:uuid:{t}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8"'
            ' DimensionOrder="XYZCT" SizeX="16" SizeY="16" SizeZ="1" SizeC="1" SizeT="4">'
            f"{images}</Pixels></Image></OME>"
        )
        write_broken(tmp_path / f"t{t}.ome.tif", t, description=xml)
    first = only_note(cloudimg.open(tmp_path / "t2.ome.tif"))
    assert (first.n_files, first.urls) == (1, (str(tmp_path / "t0.ome.tif"),))
    image = cloudimg.open(tmp_path / "t2.ome.tif", validate="all")
    np.testing.assert_array_equal(image.read()[:, 0, 0], range(4))
    assert only_note(image).n_files == 4


@pytest.fixture(scope="module")
def client() -> Any:
    """A cluster within this process."""
    with local_client() as client:
        yield client


def test_headers_that_a_cluster_reads(tmp_path: Path, client: Any) -> None:
    """Two blocks of files; the first file is read by the client, too."""
    write_noted(tmp_path / "noted")
    write_plain(tmp_path / "plain")
    noted = {0, 1, 511, 512, 599}
    for t in range(600):
        name = "noted" if t in noted else "plain"
        (tmp_path / f"a_{t:03d}.ome.tif").hardlink_to(tmp_path / name)
    pattern = f"{tmp_path}/a_{{t:03d}}.ome.tif"
    here = cloudimg.open(pattern, validate="all")
    there = cloudimg.open(pattern, validate="all", client=client)
    assert only_note(there).to_json() == only_note(here).to_json()
    assert only_note(there).n_files == 5
    assert [url[-12:] for url in only_note(there).urls] == [
        "_000.ome.tif", "_001.ome.tif", "_511.ome.tif",
    ]  # fmt: skip


def test_a_note_takes_the_same_memory_for_any_number_of_files() -> None:
    sums = NoteSums()
    tracemalloc.start()
    try:
        for i in range(20_000):
            sums.add([Remark("odd", f"is odd in its own way, {i}")], f"s3://bucket/{i}.tif")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (note,) = sums.notes()
    assert (note.n_files, len(note.urls)) == (20_000, 3)
    assert held < 200_000


def test_remarks_of_one_kind_about_one_file_are_one_text_of_limited_length() -> None:
    remarks = [Remark("odd", f"line {i}\n" + "x" * 10_000) for i in range(1000)]
    sums = NoteSums()
    sums.add([*remarks, Remark("even", "another kind")], "a.tif")
    odd, even = sums.notes()
    assert (odd.kind, odd.n_files, even.kind, even.n_files) == ("odd", 1, "even", 1)
    assert odd.text.startswith("line 0 xxx")
    assert odd.text.endswith("; and 997 more")
    assert len(odd) < 2000
    assert "\n" not in odd


@pytest.mark.parametrize("member", [None, "page"])
def test_remarks_do_not_depend_on_whether_attributes_are_read(corpus: Path, member: Any) -> None:
    """Or commit records would depend on which headers a process remembers."""
    paths = sorted(path for path in (corpus / "files").rglob("*.tif*") if path.is_file())
    n_remarks = 0
    for path in paths[::5]:
        location, key = split_url(str(path))
        context = ReadContext(
            series=0, ignore_siblings=True, palette="rgb", epoch="", member=member
        )
        reader = HeaderReader(Store(location, None), context)
        try:
            plain = reader.shared(key, size_bytes=None).parsed
            described = reader.open(key).parsed
        except CloudimgError:
            continue
        assert plain.remarks == described.remarks, path
        assert plain.metadata_remarks == ()
        n_remarks += len(plain.remarks)
    assert n_remarks > 0
