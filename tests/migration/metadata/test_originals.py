"""The table of originals, and the tags in it, which are read from bytes fetched before."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError
from cloudimg.errors.notes import Note
from cloudimg.migration.export.originals import read_rows
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.inspecting import load
from cloudimg.migration.metadata.originals import original_row, part_bytes, part_key
from cloudimg.migration.metadata.tags import FileTags, file_tags
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Layout, arrange, with_extents
from cloudimg.reading.source import Source
from cloudimg.tiff import ParsedImage, SparseFile
from tests.conftest import WebServer
from tests.support import copies, seed
from tests.support.counting import counted
from tests.support.metering import Meter

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(5)
PALETTE = RNG.integers(0, 2**16, (3, 256), np.uint16)


def rows_of(out: Path | str) -> Iterator[dict[str, Any]]:
    copy = open_destination(out, None)
    return read_rows(copy, load(copy).source)


def opened_files(url: str | Path, **options: Any) -> tuple[Source, dict[Any, OpenFile]]:
    """Every file of an image, as the source opens it."""
    source = cloudimg.open(str(url), **options)._opened.sources[0]
    found: dict[Any, OpenFile] = {}
    whole = tuple(slice(0, n, 1) for n in source.shape)
    source.read(whole, lambda index, opened: found.update({index: opened}))
    return source, found


def tags_of(path: Path) -> FileTags:
    _, found = opened_files(path)
    tags = file_tags(next(iter(found.values())))
    assert tags is not None
    return tags


# Tags


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tags_have_names_and_values(tmp_path: Path, byteorder: str, bigtiff: bool) -> None:
    path = tmp_path / "a.tif"
    own: list[Any] = [
        (65000, 2, 0, "text", True),
        (65001, 3, 3, (1, 2, 65535), True),
        (65002, 12, 1, 1.5, True),
        (65003, 7, 4, b"\0ab\xff", True),
        (65004, 9, 1, -3, True),
        (33432, 2, 0, "someone", True),
        (65005, 12, 1, float("nan"), True),
        (65006, 1, 2**20 + 1, bytes(2**20 + 1), True),
    ]
    tifffile.imwrite(
        path, np.zeros((8, 9), np.uint8), photometric="palette", colormap=PALETTE,
        description="Größe in µm".encode(), metadata=None, software="scope",
        resolution=((3, 7), (3, 7)), byteorder=byteorder, bigtiff=bigtiff, extratags=own,
    )  # fmt: skip
    found = tags_of(path)
    assert found.description == "Größe in µm"
    assert (found.further, found.is_complete) == ([], True)
    values = {name: tag.get("value") for name, tag in found.tags.items()}
    assert values["65000"] == "text"
    assert values["65001"] == [1, 2, 65535]
    assert values["65002"] == 1.5
    assert base64.b64decode(values["65003"]["base64"]) == b"\0ab\xff"
    assert values["65004"] == -3
    assert values["65005"] == "nan"
    assert values["Copyright"] == "someone"
    assert values["Software"] == "scope"
    assert values["XResolution"] == [3, 7]
    assert values["ColorMap"] == PALETTE.tolist()
    assert "value" not in found.tags["65006"]
    assert found.tags["65006"]["left_out_bytes"] == 2**20 + 1
    assert (found.tags["65001"]["code"], found.tags["65001"]["count"]) == (65001, 3)
    assert not {"StripOffsets", "StripByteCounts", "273", "279"} & set(found.tags)
    json.dumps(found.tags, allow_nan=False)


def test_further_ifds_have_only_differing_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for i in range(4):
            tiff.write(
                np.zeros((8, 9), np.uint8), metadata=None, description=f"page {i // 2}",
                software=False if i == 3 else "scope", photometric="minisblack",
            )  # fmt: skip
    found = tags_of(path)
    assert found.description == "page 0"
    assert found.is_complete
    assert found.further[0] == {}
    assert list(found.further[1]) == ["ImageDescription"]
    assert found.further[1]["ImageDescription"]["value"] == "page 1"
    assert set(found.further[2]) == {"ImageDescription", "Software"}
    assert found.further[2]["Software"] is None


@pytest.mark.parametrize("n_pages", [1, 3])
def test_different_files_of_the_same_size_have_their_own_tags(tmp_path: Path, n_pages: int) -> None:
    """The tags of the previous file are reused only for files with the same tags."""
    pixels = RNG.integers(0, 9, (n_pages, 8, 9), np.uint8)

    def write(name: str, **differing: Any) -> Path:
        tags = {"description": "first", "datetime": "2026:01:02 03:04:05", "software": "scope"}
        with tifffile.TiffWriter(tmp_path / name) as tiff:
            for i, plane in enumerate(pixels):
                last = i == n_pages - 1
                tiff.write(plane, metadata=None, **(tags | (differing if last else {})))
        return tmp_path / name

    paths = [
        write("a.tif"),
        write("b.tif"),
        write("c.tif", description="other"),
        write("d.tif", datetime="2026:01:02 03:04:06"),
        write("e.tif"),
    ]
    assert len({path.stat().st_size for path in paths}) == 1
    a, b, c, d, e = map(tags_of, paths)
    assert a == b == e
    if n_pages == 1:
        assert (a.description, c.description) == ("first", "other")
        assert d.tags["DateTime"]["value"] == "2026:01:02 03:04:06"
        assert a.tags["DateTime"]["value"] == "2026:01:02 03:04:05"
    else:
        assert a.further == [{}, {}]
        assert c.further[1]["ImageDescription"]["value"] == "other"
        assert d.further[1]["DateTime"]["value"] == "2026:01:02 03:04:06"


def test_nothing_is_fetched_for_tags(meter: Meter, bucket: str) -> None:
    pixels = RNG.integers(0, 9, (40, 64, 64), np.uint16)
    meter.put(bucket, "a.tif", seed.encode(pixels, imagej=True))
    options = meter.storage_options
    _, found = opened_files(f"s3://{bucket}/a.tif", storage_options=options)
    with meter.measure() as traffic:
        tags = file_tags(found[()])
    assert traffic.requests == []
    assert tags is not None
    assert (tags.description or "").startswith("ImageJ=")


@given(data=st.data())
def test_tags_of_partly_fetched_files_are_correct_or_marked(data: st.DataObject) -> None:
    """Values are correct and missing ones are marked, whatever was fetched; nothing is fetched."""
    whole = _many_pages()
    size = len(whole)
    file = SparseFile(size, _refuse, in_flight=1, limit_bytes=2**30, url="a.tif")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, size))
        file.add(start, whole[start : data.draw(st.integers(start, size))])
    file.add(0, whole[: data.draw(st.sampled_from([0, 8, 300, 2000]))])
    parsed = ParsedImage(dims=(), levels=(), attrs={}, coords={}, depends_on_name=False)
    found = file_tags(OpenFile("a.tif", parsed, file, etag=None, size_bytes=size))
    with tifffile.TiffFile(io.BytesIO(whole)) as tiff:
        pages = [{tag.name: tag.value for tag in page.tags} for page in tiff.pages]
    if found is None:
        return
    for name, tag in found.tags.items():
        if "value" in tag:
            assert tag["value"] == _plain(pages[0][name])
        else:
            assert tag["unreadable"] is True
    assert found.description in (None, pages[0]["ImageDescription"])
    assert found.is_complete <= (len(found.further) == len(pages) - 1)
    for changed, page in zip(found.further, pages[1:], strict=False):
        for name, tag in changed.items():
            assert tag is None or tag.get("value", _plain(page[name])) == _plain(page[name])


@functools.cache
def _many_pages() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for i in range(5):
            tiff.write(
                np.zeros((8, 9), np.uint8), metadata=None, description=f"page {i}" * 20,
                resolution=((i + 1, 7), (i + 1, 7)), photometric="minisblack",
            )  # fmt: skip
    return file.getvalue()


def _refuse(ranges: Any) -> Any:
    raise AssertionError(f"{ranges} were requested")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_files_that_are_not_tiff_have_no_tags(tmp_path: Path) -> None:
    import imagecodecs

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((8, 9), np.uint8)))
    source, found = opened_files(tmp_path / "a.png")
    assert file_tags(found[()]) is None
    row = original_row(source, (), found[()])
    assert (row["description"], row["tags"], row["has_all_tags"]) == (None, None, False)
    assert row["size_bytes"] == (tmp_path / "a.png").stat().st_size


@pytest.mark.slow
def test_tags_are_cheap(tmp_path: Path) -> None:
    """2600 steps for each IFD, most of them in tifffile, and no more if there are many of them."""
    n_pages = 300
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((n_pages, 8, 8), np.uint8))
    _, found = opened_files(tmp_path / "a.tif")
    with counted() as cost:
        file_tags(found[()])
    print(f"{cost.steps / n_pages:.0f} steps for each IFD")
    assert cost.steps < 5000 * n_pages
    assert cost.peak_bytes < 10_000 * n_pages


# Positions of files


@given(data=st.data())
def test_files_cover_the_image_exactly_once(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    counts = np.zeros(layout.shape, int)
    grid = [0] * layout.n_fields
    for axis in layout.axes:
        if axis.field is not None:
            grid[axis.field] = axis.length if axis.is_stacked else len(axis.extents)
    for index in np.ndindex(*grid):
        region = layout.region_of(index)
        counts[region] += 1
        (assignment,) = layout.assignments(region)
        assert assignment.index == index
        inside = [s.stop - s.start for s in assignment.file_region]
        assert tuple(inside) == layout.file_shape(index)
    assert (counts == 1).all()


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    fields = draw(st.lists(st.sampled_from("tczyx"), unique=True, max_size=3))
    file_dims = draw(st.lists(st.sampled_from("tczyx"), unique=True, min_size=1, max_size=3))
    lengths = [draw(st.integers(1, 3)) for _ in fields]
    shape = [draw(st.integers(1, 4)) for _ in file_dims]
    mosaic = draw(st.booleans())
    layout = arrange(fields, lengths, file_dims, shape, mosaic=mosaic, dims=None)
    extents = {
        axis.name: [draw(st.integers(1, 4)) for _ in axis.extents]
        for axis in layout.axes
        if axis.field is not None and not axis.is_stacked
    }
    return with_extents(layout, extents)


# The table

PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
TEXTS = st.one_of(st.none(), st.text(), st.sampled_from(["2020-01-01", "1", "a\0b", "\ud800"]))
ROWS = st.fixed_dictionaries(
    {
        "key": st.text(PRINTABLE, min_size=1),
        "url": st.just("s3://b/k"),
        "etag": TEXTS,
        "size_bytes": st.integers(0, 2**50),
        "index": st.lists(st.integers(0, 2**40)),
        "region_start": st.lists(st.integers(0, 2**40)),
        "region_stop": st.lists(st.integers(0, 2**40)),
        "file_dims": st.lists(st.text(PRINTABLE, max_size=3)),
        "file_shape": st.lists(st.integers(0, 2**40)),
        "page": st.none(),
        "description": TEXTS,
        "tags": TEXTS,
        "further_tags": TEXTS,
        "has_all_tags": st.booleans(),
        "byteorder": st.sampled_from(["<", ">", None]),
        "is_bigtiff": st.booleans(),
        "ifds": st.one_of(st.none(), st.lists(st.integers(0, 2**40))),
        "pyramid": st.sampled_from(["subifds", "pages", None]),
        "n_levels": st.integers(0, 9),
    }
)


@pytest.mark.slow
@settings(max_examples=50)
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_rows_are_restored_unchanged(rows: list[dict[str, Any]]) -> None:
    data = part_bytes(rows)
    assert data == part_bytes(rows)
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.num_row_groups == 1
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    expected = [
        {k: v.replace("\ud800", "\\ud800") if isinstance(v, str) else v for k, v in row.items()}
        for row in rows
    ]
    assert file.read(list(rows[0])).to_pylist() == expected


def test_the_table_has_one_row_per_file(tmp_path: Path) -> None:
    image = seed.write(lambda key, data: (tmp_path / key).write_bytes(data), (40, 56))
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/{seed.PATTERN}", out, shards={"t": 1, "c": 1}, levels=1)
    rows = list(rows_of(out))
    assert len(rows) == len({row["key"] for row in rows}) == 360
    for row in rows:
        path = Path(row["key"])
        region = tuple(map(slice, row["region_start"], row["region_stop"]))
        np.testing.assert_array_equal(image[region].squeeze(), tifffile.imread(path))
        assert row["size_bytes"] == path.stat().st_size
        assert (row["file_dims"], row["file_shape"]) == (["y", "x"], [40, 56])
        assert (row["page"], row["has_all_tags"]) == (None, True)
        assert row["description"] == '{"shape": [40, 56]}'
        assert json.loads(row["tags"])["ImageWidth"]["value"] == 56
    parts = sorted(path.name for path in (out / "originals").iterdir())
    assert parts == [Path(part_key(number)).name for number in range(4)]


def ome_planes(folder: Path, n_planes: int) -> np.ndarray[Any, Any]:
    """A multi-file dataset with one file for each of two channels."""
    pixels = RNG.integers(0, 2**16, (2, n_planes, 8, 9), np.uint16)
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="{n_planes}">'
        f'<UUID FileName="c{c}.ome.tif">urn:uuid:{c}</UUID></TiffData>'
        for c in range(2)
    )
    channels = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(2))
    for c in range(2):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="urn:uuid:{c}"><Image ID="Image:0"><Pixels ID="Pixels:0"'
            f' DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="8" SizeZ="{n_planes}"'
            f' SizeC="2" SizeT="1">{channels}{data}</Pixels></Image></OME>'
        )
        with tifffile.TiffWriter(folder / f"c{c}.ome.tif") as tiff:
            for z in range(n_planes):
                text = xml.encode() if z == 0 else None
                tiff.write(
                    pixels[c, z], description=text, metadata=None, contiguous=False,
                    photometric="minisblack",
                )  # fmt: skip
    return pixels


def test_files_of_multifile_datasets_have_a_row_per_plane(tmp_path: Path) -> None:
    pixels = ome_planes(tmp_path, 6)
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(tmp_path / "c0.ome.tif", out, shards={"z": 3, "c": 2}, chunks={"z": 1})
    rows = list(rows_of(out))
    assert len(rows) == 12
    for row in rows:
        region = tuple(map(slice, row["region_start"], row["region_stop"]))
        page = tifffile.imread(row["key"], key=row["page"], is_ome=False)
        np.testing.assert_array_equal(pixels[region].squeeze(), page)
    # The texts of a file are once in each of the two parts.
    for name in ("c0.ome.tif", "c1.ome.tif"):
        complete = [row for row in rows if row["key"].endswith(name) and row["tags"] is not None]
        assert [row["page"] for row in complete] == [0, 3]
        assert all(row["description"].startswith("<?xml") for row in complete)


def test_files_with_many_planes_are_parsed_once(tmp_path: Path) -> None:
    """A row that parsed all IFDs again would take thousands of steps for each of 300."""
    ome_planes(tmp_path, 300)
    source, found = opened_files(tmp_path / "c0.ome.tif")
    assert len(found) == 600
    rows = [original_row(source, index, found[index]) for index in sorted(found)]
    with counted() as cost:
        again = [original_row(source, index, found[index]) for index in sorted(found)[::20]]
    print(f"{cost.steps / len(again):.0f} steps for each row")
    assert cost.steps < 500 * len(again)
    assert again == rows[::20]
    # All rows share one text, so memory does not grow with planes times IFDs.
    assert len({id(row["further_tags"]) for row in rows}) == 2
    assert len(part_bytes(rows)) < 40_000


def test_no_credentials_are_kept(httpd: WebServer, bucket: str, tmp_path: Path) -> None:
    folder = httpd.root / bucket
    folder.mkdir()
    for t in range(2):
        (folder / f"a_{t}.tif").write_bytes(seed.encode(np.full((8, 9), t, np.uint8)))
    urls = [f"{httpd.endpoint}/{bucket}/a_{t}.tif?X-Amz-Signature=SECRET{t}" for t in range(2)]
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(urls, out)
    rows = list(rows_of(out))
    assert len(rows) == 2
    assert "SECRET" not in str(rows)
    parts = [data for key, data in copies.objects(str(out), {}).items() if "originals" in key]
    assert parts
    assert not any(b"SECRET" in data for data in parts)


def test_a_copy_of_an_array_has_no_table(tmp_path: Path) -> None:
    import dask.array as da

    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(da.zeros((8, 9), dtype="u1"), out)
    with pytest.raises(ArgumentError, match=r'no table of originals.*layout="ome-tiff"'):
        list(rows_of(out))


# Further images of the files


def two_images(folder: Path) -> str:
    for t in range(2):
        with tifffile.TiffWriter(folder / f"a_{t}.tif") as tiff:
            tiff.write(np.full((3, 8, 9), t, np.uint16), photometric="minisblack")
            tiff.write(np.full((5, 6), 7, np.uint8), photometric="minisblack")
    return f"{folder}/a_{{t}}.tif"


@pytest.mark.parametrize("series", [0, 1])
def test_images_that_are_left_out_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], series: int
) -> None:
    url, out = two_images(tmp_path), tmp_path / "copy.zarr"
    stored = (
        f"2 files, for example {tmp_path}/a_0.tif:"
        f" this is image {series + 1} of 2; further images: series={1 - series}"
    )
    note = f"note: {stored.replace('series=', '--series ')}"  # as the command line prints it
    of_first = "2 files, for example "  # before the copy is made, only its header is read
    words = ["migrate", url, str(out), "--series", str(series)]
    assert main([*words, "--dry-run"]) == 0
    assert note.replace(of_first, "") in capsys.readouterr().out.splitlines()
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines().count(note) == 1
    assert "further images" not in captured.err
    # The note is stored in the copy, and a later run prints it again.
    own = json.loads((out / "zarr.json").read_text())["attributes"]["cloudimg"]
    assert own["provenance"]["images_left_out"] == 1
    assert own["provenance"]["image"] == series
    assert [Note.from_json(each) for each in own["source_notes"]] == [stored]
    assert main(words) == 0
    assert note in capsys.readouterr().out.splitlines()
    found = cloudimg.dry_run(url, series=series)
    assert list(found.to_json()["notes"]) == [stored.replace(of_first, "")]


def test_files_with_one_image_have_no_note(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 8, 9), np.uint16), photometric="minisblack")
    done = cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    assert done.notes == ()
    own = json.loads((tmp_path / "copy.zarr" / "zarr.json").read_text())["attributes"]["cloudimg"]
    assert "notes" not in own
    assert "images_left_out" not in own["provenance"]


def test_other_images_of_a_multifile_dataset_are_noted(tmp_path: Path) -> None:
    """Each of two files has an image, and the headers of both describe both."""
    images = "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16"'
        f' SizeX="9" SizeY="8" SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="2">'
        f'<UUID FileName="f{i}.ome.tif">urn:uuid:{i}</UUID></TiffData></Pixels></Image>'
        for i in range(2)
    )
    for i in range(2):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="urn:uuid:{i}">{images}</OME>'
        )
        with tifffile.TiffWriter(tmp_path / f"f{i}.ome.tif") as tiff:
            for z in range(2):
                tiff.write(
                    np.full((8, 9), i, np.uint16), description=xml if z == 0 else None,
                    metadata=None, contiguous=False, photometric="minisblack",
                )  # fmt: skip
    with pytest.raises(ArgumentError, match=r"has 2 images, and a copy takes one .*series=N"):
        cloudimg.migrate(tmp_path / "f0.ome.tif", tmp_path / "copy.zarr")
    done = cloudimg.migrate(tmp_path / "f0.ome.tif", tmp_path / "copy.zarr", series=0)
    (note,) = done.notes
    assert note.endswith("f0.ome.tif: this is image 1 of 2; further images: series=1")
    both = cloudimg.migrate(f"{tmp_path}/f{{c}}.ome.tif", tmp_path / "both.zarr")
    assert both.notes == ()


def test_attributes_that_are_too_large_are_noted(tmp_path: Path) -> None:
    """The table still has them as tags."""
    palette = RNG.integers(0, 2**16, (3, 2**16), np.uint16)
    pixels = np.zeros((8, 9), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="palette", colormap=palette)
    done = cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    note, advice = done.notes
    assert note == "attributes larger than 64 KiB are not kept: colormap"
    assert "rgb=True" in advice
    (row,) = rows_of(tmp_path / "copy.zarr")
    assert json.loads(row["tags"])["ColorMap"]["value"] == palette.tolist()
