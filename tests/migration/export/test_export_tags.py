"""What exported files keep of the originals besides ordinary pixels, and what is said of the rest.

Tags are compared as bytes, by a parser of the tests' own; pixels also as GDAL reads them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from tests.support.originals import originals
from tests.support.peers import read_by_gdal
from tests.support.raw_tags import EXIF, GPS, INTEROPERABILITY, SUBIFDS, RawTag, read_raw_tags
from tests.support.raw_tiff import LONG, SHORT, RawTiff, noise_bytes

RNG = np.random.default_rng(17)
Array = np.ndarray[Any, Any]
MANIFEST = ".cloudimg-export"
ASCII, RATIONAL, BYTE, UNDEFINED, FLOAT, DOUBLE = 2, 5, 1, 7, 11, 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


def back(path: Path, **options: Any) -> tuple[Path, cloudimg.ExportResult]:
    """The file exported from a copy of a file."""
    folder = path.parent
    cloudimg.migrate(path, folder / "copy.zarr", **options)
    result = cloudimg.export(folder / "copy.zarr", folder / "back")
    (name,) = (each for each in (folder / "back").iterdir() if each.name != MANIFEST)
    return name, result


def said(result: cloudimg.ExportResult) -> set[str]:
    return {each.what for each in result.not_written}


# Tags


def directory(order: str, at: int, entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """An IFD at an offset, with its values behind it."""
    head = struct.pack(f"{order}H", len(entries))
    after = at + 2 + 12 * len(entries) + 4
    values = b""
    for code, kind, count, data in entries:
        inline = data.ljust(4, b"\0")
        if len(data) > 4:
            inline = struct.pack(f"{order}I", after + len(values))
            values += data + bytes(len(data) % 2)
        head += struct.pack(f"{order}HHI", code, kind, count) + inline
    return head + bytes(4) + values


def with_ifds(order: str, tags: dict[int, tuple[int, Any]]) -> bytes:
    """A file with Exif, Interoperability and GPS directories behind it."""

    def build(exif: int, gps: int) -> bytes:
        pointers = {EXIF: (LONG, [exif]), GPS: (LONG, [gps])}
        raw = RawTiff(width=9, height=8, byteorder=order, tags=tags | pointers)
        return raw.build([noise_bytes(72)])

    at = len(build(0, 0))
    exposure = struct.pack(f"{order}II", 1, 60)
    maker = b"Maker\0\xff\xfe" * 9
    interoperability = at + 200
    exif = directory(
        order,
        at,
        [
            (33434, RATIONAL, 1, exposure),
            (36864, UNDEFINED, 4, b"0232"),
            (37500, UNDEFINED, len(maker), maker),
            (INTEROPERABILITY, LONG, 1, struct.pack(f"{order}I", interoperability)),
        ],
    ).ljust(200, b"\0")
    inter = directory(order, interoperability, [(1, ASCII, 4, b"R98\0")])
    gps_at = interoperability + len(inter)
    degrees = struct.pack(f"{order}6I", 48, 1, 8, 1, 1234, 100)
    gps = directory(order, gps_at, [(0, BYTE, 4, b"\2\3\0\0"), (2, RATIONAL, 3, degrees)])
    return build(at, gps_at) + exif + inter + gps


TAGS: dict[int, tuple[int, Any]] = {
    269: (ASCII, "Größe.tif".encode("latin-1") + b"\0"),  # DocumentName
    270: (ASCII, "Größe in µm\0second\0".encode()),
    305: (ASCII, b"scope \0\0"),  # Software
    315: (ASCII, b"nobody"),  # Artist, without the NUL that ends a text
    700: (BYTE, b"<x:xmpmeta/>"),  # XMP
    33723: (UNDEFINED, b"\x1c\x02\x05\0\4name"),  # IPTC
    34377: (BYTE, b"8BIM\4\4\0\0\0\0\0\0"),  # Photoshop
    34675: (UNDEFINED, noise_bytes(300)),  # ICC
    42112: (ASCII, b"<GDALMetadata>\n</GDALMetadata>\n\0"),
    42113: (ASCII, b"nan\0"),
    65000: (UNDEFINED, b"\0"),
    65001: (BYTE, b"\1\2\3"),
    65002: (SHORT, [1, 2, 65535]),
}


@pytest.mark.parametrize("order", "<>")
def test_tags_come_back_as_bytes(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(with_ifds(order, TAGS))
    exported, result = back(path)
    assert result.not_written == ()
    before, after = read_raw_tags(path.read_bytes()), read_raw_tags(exported.read_bytes())
    assert after.order == order
    (was,), (found,) = before.ifds, after.ifds
    assert was[EXIF].ifd is not None
    assert was[EXIF].ifd[INTEROPERABILITY].ifd == {1: RawTag(ASCII, 4, b"R98\0")}
    assert {37500, 33434} < set(was[EXIF].ifd)
    for code in (*TAGS, EXIF, GPS):
        assert found[code] == was[code], code
    np.testing.assert_array_equal(tifffile.imread(exported), tifffile.imread(path))


def test_values_of_every_type_come_back(tmp_path: Path) -> None:
    """BigTIFF, big-endian; with NaN that are not the usual ones."""
    nan = struct.pack(">I", 0x7FC12345)
    own: list[Any] = [
        (65000, 16, 2, (2**40, 1), True),
        (65001, 17, 1, -(2**40), True),
        (65002, 8, 3, (-1, 2, -3), True),
        (65003, 9, 2, (-1, 2), True),
        (65004, 12, 2, (1.5, float("inf")), True),
        (65005, 10, 1, (-1, 3), True),
        (65006, FLOAT, 1, 0.25, True),
    ]
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((3, 8, 9), "u2"), photometric="minisblack", bigtiff=True,
        byteorder=">", extratags=own, metadata=None, description="planes",
    )  # fmt: skip
    data = bytearray((tmp_path / "a.tif").read_bytes())
    at = data.index(struct.pack(">f", 0.25))
    data[at : at + 4] = nan
    (tmp_path / "a.tif").write_bytes(data)
    exported, result = back(tmp_path / "a.tif")
    assert result.not_written == ()
    before, after = read_raw_tags(bytes(data)), read_raw_tags(exported.read_bytes())
    assert after.is_big
    assert len(after.ifds) == 3
    for was, found in zip(before.ifds, after.ifds, strict=True):
        assert {code: found.get(code) for code in was if code >= 65000} == {
            code: tag for code, tag in was.items() if code >= 65000
        }
    assert after.ifds[0][65006].data == nan


def odd_type(data: bytes) -> bytes:
    """The tag 65001 gets a type that does not exist."""
    at = data.index(struct.pack("<HH", 65001, BYTE))
    return data[:at] + struct.pack("<HH", 65001, 77) + data[at + 4 :]


@pytest.mark.parametrize(
    ("tags", "change", "what", "why"),
    [
        ({33471: (BYTE, bytes(300))}, bytes, "OlympusINI", "offsets into the original"),
        ({65001: (BYTE, b"abc")}, odd_type, "65001", "type 77 does not exist"),
        ({65001: (BYTE, bytes(2**20 + 1))}, bytes, "65001", "larger than 1 MiB"),
        ({EXIF: (LONG, [10**6])}, bytes, "ExifTag", "not read when the copy was made"),
        ({254: (LONG, [1])}, bytes, "NewSubfileType", "refers to is not written"),
    ],
)
def test_what_is_not_written_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tags: dict[int, tuple[int, Any]],
    change: Callable[[bytes], bytes],
    what: str,
    why: str,
) -> None:
    for t in range(2):
        data = RawTiff(width=9, height=8, tags=tags).build([noise_bytes(72, t)])
        (tmp_path / f"a_{t}.tif").write_bytes(change(data))
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr")
    words = ["export", str(tmp_path / "copy.zarr"), str(tmp_path / "back")]
    assert main(words) == 0
    (line,) = (each for each in capsys.readouterr().out.splitlines() if "not written (" in each)
    assert line.startswith(f"{what} of 2 files: not written (")
    assert why in line
    assert main(words) == 0  # nothing is written, and the same is said
    assert line in capsys.readouterr().out.splitlines()
    code = next(iter(tags))
    for t in range(2):
        (found,) = read_raw_tags((tmp_path / "back" / f"a_{t}.tif").read_bytes()).ifds
        assert code not in found


def test_copies_of_older_versions_say_what_they_lack(tmp_path: Path) -> None:
    """Their table has values without bytes, and neither byte order nor the pages of planes."""
    path = tmp_path / "a.tif"
    path.write_bytes(with_ifds("<", TAGS))
    cloudimg.migrate(path, tmp_path / "copy.zarr")
    (part,) = (tmp_path / "copy.zarr" / "originals").iterdir()
    table = pq.read_table(part)
    (row,) = table.to_pylist()
    tags = json.loads(row["tags"])
    for tag in tags.values():
        tag.pop("raw", None)
        tag.pop("ifd", None)
    new = {"byteorder", "is_bigtiff", "ifds", "pyramid", "n_levels"}
    kept = [name for name in table.column_names if name not in new]
    old = {name: [row[name]] for name in kept} | {"tags": [json.dumps(tags)]}
    fields = [table.schema.field(name) for name in kept]
    pq.write_table(pa.table(old, schema=pa.schema(fields)), part)
    result = cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back")
    lost = {each.what: each.why for each in result.not_written}
    assert {"DocumentName", "Software", "Artist", "ExifTag", "GPSTag"} <= set(lost)
    assert "does not hold its bytes" in lost["DocumentName"]
    exported = tmp_path / "back" / "a.tif"
    np.testing.assert_array_equal(tifffile.imread(exported), tifffile.imread(path))
    (was,), (found,) = (read_raw_tags(each.read_bytes()).ifds for each in (path, exported))
    names = {tifffile.TIFF.TAGS.get(code, str(code)): code for code in (*TAGS, EXIF, GPS)}
    for name, code in names.items():
        assert (found.get(code) == was[code]) != (name in lost), name


# Samples


def packed(pixels: Array, bits: int) -> bytes:
    """Rows of samples of a number of bits, each row beginning at a byte."""
    rows = pixels.reshape(len(pixels), -1)
    places = np.arange(bits - 1, -1, -1)
    return np.packbits(
        ((rows[:, :, None].astype("u4") >> places) & 1).reshape(len(rows), -1).astype(bool), axis=1
    ).tobytes()


SAMPLES = [
    (bits, is_separate, samples, order)
    for bits in (1, 2, 4, 6, 8, 12, 16)
    for is_separate in (False, True)
    for samples in (1, 2, 3, 4, 5)
    for order in "<>"
    if samples > 1 or not is_separate
]


@pytest.mark.long
@pytest.mark.parametrize(("bits", "is_separate", "samples", "order"), SAMPLES)
def test_samples_of_a_few_bits(
    tmp_path: Path, bits: int, is_separate: bool, samples: int, order: str
) -> None:
    pixels = RNG.integers(0, 2**bits, (11, 13, samples))
    planes = [pixels[:, :, i] for i in range(samples)] if is_separate else [pixels]
    whole = bits in (8, 16)
    stored = [
        plane.astype(f"{order}u{bits // 8}").tobytes() if whole else packed(plane, bits)
        for plane in planes
    ]
    path = tmp_path / "a.tif"
    raw = RawTiff(
        width=13, height=11, bits=bits, samples=samples, is_separate=is_separate, byteorder=order
    )
    path.write_bytes(raw.build(stored))
    exported, result = back(path)
    assert result.not_written == ()
    image, again = cloudimg.open(path), cloudimg.open(exported)
    assert again.dtype == image.dtype
    np.testing.assert_array_equal(again.read(), image.read())
    np.testing.assert_array_equal(image.read().reshape(pixels.shape), pixels)
    found = read_raw_tags(exported.read_bytes()).ifds[0]
    assert found[258].data == struct.pack(f"{order}{samples}H", *[bits] * samples)
    theirs, ours = read_by_gdal(path), read_by_gdal(exported)
    assert not isinstance(theirs, str)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.long
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_meanings_of_grey_values(tmp_path: Path, photometric: int, bits: int) -> None:
    """White is zero, black is zero, and indices into a palette of as many colours."""
    pixels = RNG.integers(0, 2**bits, (11, 13))
    colours = RNG.integers(0, 2**16, 3 * 2**bits).tolist()
    tags = {320: (SHORT, colours)} if photometric == 3 else {}
    raw = RawTiff(width=13, height=11, bits=bits, photometric=photometric, tags=tags)
    path = tmp_path / "a.tif"
    path.write_bytes(raw.build([packed(pixels, bits)]))
    exported, result = back(path)
    assert result.not_written == ()
    (was,), (found,) = (read_raw_tags(each.read_bytes()).ifds for each in (path, exported))
    for code in (258, 262, 320):
        assert found.get(code) == was.get(code)
    np.testing.assert_array_equal(cloudimg.open(exported).read(), pixels)
    ours, theirs = read_by_gdal(exported), read_by_gdal(path)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_palette_that_is_not_there(tmp_path: Path, samples: int) -> None:
    raw = RawTiff(width=9, height=8, samples=samples, photometric=3)
    (tmp_path / "a.tif").write_bytes(raw.build([noise_bytes(72 * samples)]))
    exported, result = back(tmp_path / "a.tif")
    assert said(result) >= {"PhotometricInterpretation"}
    expected = cloudimg.open(tmp_path / "a.tif").read()
    np.testing.assert_array_equal(cloudimg.open(exported).read(), expected)


@pytest.mark.long
@pytest.mark.parametrize("compression", [None, "zlib", "zstd", "lzw", "lzma", "packbits"])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2", "f8", "c8", "c16"])
def test_types_and_compressions(tmp_path: Path, dtype: str, compression: str | None) -> None:
    pixels = RNG.integers(0, 200, (3, 300, 70)).astype(dtype)
    if np.dtype(dtype).kind in "fc":
        pixels[0, :, 0] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", byteorder=">")
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "copy.zarr")
    cloudimg.export(tmp_path / "copy.zarr", tmp_path / "back", compression=compression)
    found = tifffile.imread(tmp_path / "back" / "a.tif")
    assert found.dtype.newbyteorder("=") == pixels.dtype
    assert found.astype(pixels.dtype).tobytes() == pixels.tobytes()


# Pyramids


def pyramid(path: Path, place: str, n_pages: int) -> Array:
    pixels = RNG.integers(0, 99, (n_pages, 64, 96), np.uint16)
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    shown = pixels if n_pages > 1 else pixels[0]
    with tifffile.TiffWriter(path) as tiff:
        in_subifds = place == "subifds"
        tiff.write(shown, subifds=2 if in_subifds else 0, tile=(16, 16), **options)
        for step in (2, 4):
            level = shown[..., ::step, ::step]
            tiff.write(level, subfiletype=1, tile=(16, 16), **options)
    return pixels


@pytest.mark.parametrize(("place", "n_pages"), [("subifds", 1), ("subifds", 3), ("pages", 1)])
def test_pyramids_have_the_levels_of_the_copy(tmp_path: Path, place: str, n_pages: int) -> None:
    pixels = pyramid(tmp_path / "a.tif", place, n_pages)
    image = cloudimg.open(tmp_path / "a.tif")
    assert len(image.levels) == 3
    exported, result = back(tmp_path / "a.tif", levels=2, chunks={"y": 16, "x": 16})
    assert said(result) == {"pyramid"}
    copy = cloudimg.open(exported)
    assert [level.shape for level in copy.levels] == [image.levels[0].shape, image.levels[1].shape]
    np.testing.assert_array_equal(copy.read().reshape(pixels.shape), pixels)
    import zarr

    expected = zarr.open_group(str(tmp_path / "copy.zarr"), mode="r")["1"][...]
    np.testing.assert_array_equal(copy.read(level=1).reshape(expected.shape), expected)
    tags = read_raw_tags(exported.read_bytes()).ifds
    assert [SUBIFDS in each for each in tags] == (
        [True] * n_pages if place == "subifds" else [False, False]
    )


def test_without_levels_in_the_copy_there_is_no_pyramid(tmp_path: Path) -> None:
    pixels = pyramid(tmp_path / "a.tif", "pages", 1)
    exported, result = back(tmp_path / "a.tif", levels=1)
    (lost,) = result.not_written
    assert (lost.what, lost.why) == ("pyramid", "the copy has no further levels of its planes")
    np.testing.assert_array_equal(tifffile.imread(exported), pixels[0])
    assert len(read_raw_tags(exported.read_bytes()).ifds) == 1


# Kinds of files


@pytest.mark.long
@pytest.mark.parametrize("name", originals())
def test_files_of_every_kind_come_back(tmp_path: Path, name: str) -> None:
    original = originals()[name]()
    path = tmp_path / original.file_name
    path.write_bytes(original.data)
    series = {"series": 0} if len(original.images) > 1 else {}
    exported, result = back(path, **series)
    image, again = cloudimg.open(path, **series), cloudimg.open(exported)
    assert again.dtype == image.dtype
    pixels = np.squeeze(image.read())
    if name == "shaped, one IFD":
        pixels = pixels.reshape(-1, *pixels.shape[-2:])
    np.testing.assert_array_equal(np.squeeze(again.read()), pixels)
    expected = {"pyramid", "further pages", "UIC1tag", "UIC2tag", "UIC3tag"}
    if "jpeg" in name:
        expected |= {"PhotometricInterpretation"}
    if name == "shaped, one IFD":
        # Its description says that one IFD stands for all pages.
        expected |= {"ImageDescription", "axes"}
        assert expected & said(result) == {"ImageDescription", "axes"}
    assert said(result) <= expected
