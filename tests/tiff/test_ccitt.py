"""CCITT compression against GDAL, and streams with too few rows."""

from __future__ import annotations

import csv
import logging
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow

import cloudimg
from cloudimg.errors import CloudimgError, CorruptFileError, UnsupportedFormatError

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

HEIGHT, WIDTH = 60, 150
KINDS: dict[str, tuple[str, dict[int, int]]] = {
    "G4": ("group4", {}),
    "G3 1D": ("group3", {}),
    "G3 2D": ("group3", {292: 1}),
    "G3 1D, filled": ("group3", {292: 4}),
    "G3 2D, filled": ("group3", {292: 5}),
    "RLE": ("tiff_ccitt", {}),
    "G4, FillOrder 2": ("group4", {266: 2}),
    "G3, FillOrder 2": ("group3", {266: 2}),
    "RLE, FillOrder 2": ("tiff_ccitt", {266: 2}),
}
POSITIONS = 20


def picture(*, blank_rows: int = 8) -> Array:
    """Ellipses and noise; the last rows are white, as most pages are."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    shapes = (rows - 30) ** 2 * 4 + (columns - 70) ** 2 < 2000
    pixels = shapes ^ (np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.02)
    pixels[HEIGHT - blank_rows :] = True
    return pixels


def write(path: Path, kind: str, pixels: Array) -> None:
    """By libtiff, which Pillow uses, in one strip at the end of the file."""
    compression, tags = KINDS[kind]
    options = {**tags, 278: pixels.shape[0]}
    Pillow.fromarray(pixels).save(path, compression=compression, tiffinfo=options)


def read(path: Path) -> Array:
    return cloudimg.open(path).read()


def by_gdal(path: Path, page: int = 0) -> Array:
    with rasterio.open(f"GTIFF_DIR:{page + 1}:{path}") as file:
        return np.asarray(file.read(1)).astype(bool)


def strip(path: Path) -> tuple[int, int]:
    with tifffile.TiffFile(path) as tiff:
        (offset,), (count,) = tiff.pages.first.dataoffsets, tiff.pages.first.databytecounts
    return offset, count


def with_value(path: Path, values: dict[int, int]) -> bytes:
    """The bytes of a file with other values of some tags."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for code, value in values.items():
            tag = tiff.pages.first.tags[code]
            form = {3: "<H", 4: "<L"}[int(tag.dtype)]
            struct.pack_into(form, data, tag.valueoffset, value)
    return bytes(data)


def raw_file(path: Path, stream: bytes, more: dict[int, int]) -> Path:
    """A TIFF with one strip of 8 x 8 pixels."""
    tags = {256: 8, 257: 8, 258: 1, 259: 4, 262: 0, 273: 0, 278: 8, 279: len(stream), **more}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHLL", code, 4, 1, tags[code]) for code in sorted(tags))
    head = b"II*\0" + struct.pack("<LH", 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + stream)
    return path


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def whole(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "whole.tif"
    write(path, kind, picture())
    return path


def test_pixels_are_those_of_gdal(whole: Path) -> None:
    assert np.array_equal(read(whole), by_gdal(whole))
    with Pillow.open(whole) as file, tifffile.TiffFile(whole) as tiff:
        is_white_0 = tiff.pages.first.photometric == 0
        assert np.array_equal(read(whole) ^ is_white_0, np.asarray(file))


def test_rows_are_counted_though_logging_is_off(whole: Path, tmp_path: Path) -> None:
    pixels, data = read(whole), bytearray(whole.read_bytes())
    offset, count = strip(whole)
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path = tmp_path / "zeros.tif"
    path.write_bytes(data)
    logging.disable(logging.CRITICAL)
    try:
        assert np.array_equal(read(whole), pixels)
        with pytest.raises(CorruptFileError):
            read(path)
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(params=["heard", "unheard"])
def logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whether an application lets libtiff's warnings be logged."""
    logging.disable(logging.CRITICAL if request.param == "unheard" else logging.NOTSET)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("zeros", [False, True], ids=["short", "zeros"])
def test_a_stream_that_ends_early(whole: Path, tmp_path: Path, zeros: bool) -> None:
    """By a byte count that is too small, or with zeros in place of its end."""
    pixels, data = read(whole), whole.read_bytes()
    offset, count = strip(whole)
    path = tmp_path / "cut.tif"
    n_refused = 0
    for position in [count * i // POSITIONS for i in range(1, POSITIONS)] + [count - 2, count - 1]:
        if zeros:
            end = offset + count
            path.write_bytes(data[: offset + position] + bytes(count - position) + data[end:])
        else:
            path.write_bytes(with_value(whole, {279: position}))
        try:
            assert np.array_equal(read(path), pixels), position
        except CorruptFileError as exc:
            error = exc
            n_refused += 1
        else:
            continue
        assert f"of {HEIGHT} rows" in str(error) or f"{HEIGHT} whole rows" in str(error)
        assert str(path) in str(error)
        assert error.byte_range is not None
    assert n_refused >= POSITIONS - 4


def test_a_page_that_is_higher_than_its_stream(whole: Path, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "high.tif"
    path.write_bytes(with_value(whole, {257: HEIGHT + 9, 278: HEIGHT + 9}))
    message = rf"{HEIGHT} of {HEIGHT + 9} rows" if "G4" in kind else rf"{HEIGHT + 9} .*rows"
    with pytest.raises(CorruptFileError, match=message):
        read(path)
    # A page that is lower than its stream is whole.
    path.write_bytes(with_value(whole, {257: HEIGHT - 9, 278: HEIGHT - 9}))
    assert np.array_equal(read(path), read(whole)[:-9])


def drop(_: logging.LogRecord) -> bool:
    return False


def test_warnings_that_are_dropped_are_not_needed(tmp_path: Path) -> None:
    """By the level, a filter or the switch of the logger of imagecodecs."""
    path, logger = tmp_path / "cut.tif", logging.getLogger("imagecodecs")
    write(path, "G3 1D", picture())
    path.write_bytes(with_value(path, {279: strip(path)[1] // 2}))
    logger.setLevel(logging.ERROR)
    with pytest.raises(CorruptFileError, match="of 60 rows"):
        read(path)
    logger.setLevel(logging.NOTSET)
    logger.filters.insert(0, drop)
    with pytest.raises(CorruptFileError, match="of 60 rows"):
        read(path)
    logger.removeFilter(drop)
    logger.disabled = True
    with pytest.raises(CorruptFileError, match="of 60 rows"):
        read(path)
    logger.disabled = False


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_every_run_is_counted_without_warnings(tmp_path: Path, compression: str) -> None:
    """Runs of all lengths that have a code of their own, and some that have several."""
    width, path = 5400, tmp_path / "runs.tif"
    lengths = [*range(66), *range(64, 2624, 64), 2623, 5119, 5120, 5300]
    pixels = np.zeros((2 * len(lengths), width), bool)
    for i, length in enumerate(lengths):
        pixels[2 * i, 7 : 7 + length] = True
        pixels[2 * i + 1] = ~pixels[2 * i]
    options = {278: len(pixels)}
    Pillow.fromarray(pixels).save(path, compression=compression, tiffinfo=options)
    expected = by_gdal(path)
    logging.disable(logging.CRITICAL)
    try:
        assert np.array_equal(read(path), expected)
        path.write_bytes(with_value(path, {279: strip(path)[1] - 20}))
        with pytest.raises(CorruptFileError, match=f"of {len(pixels)} rows"):
            read(path)
    finally:
        logging.disable(logging.NOTSET)


def test_nothing_is_logged_by_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "whole.tif", "RLE", picture())
    data = with_value(tmp_path / "whole.tif", {257: HEIGHT + 9, 278: HEIGHT + 9})
    (tmp_path / "high.tif").write_bytes(data)
    with caplog.at_level(logging.DEBUG), pytest.raises(CorruptFileError):
        read(tmp_path / "high.tif")
    assert not [record for record in caplog.records if record.name == "imagecodecs"]
    assert capfd.readouterr().err == ""


def test_files_are_judged_each_by_its_own_stream(tmp_path: Path) -> None:
    """Warnings of libtiff come from many threads at once."""
    write(tmp_path / "0.tif", "RLE", picture())
    (tmp_path / "1.tif").write_bytes(with_value(tmp_path / "0.tif", {257: 90, 278: 90}))
    pixels = read(tmp_path / "0.tif")

    def attempt(number: int) -> Array | None:
        try:
            return read(tmp_path / f"{number % 2}.tif")
        except CorruptFileError:
            return None

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(attempt, range(64))):
            assert (found is None) == (number % 2 == 1)
            assert found is None or np.array_equal(found, pixels)


def test_the_uncompressed_mode_is_refused(tmp_path: Path) -> None:
    """T.6 allows it; libtiff, and so GDAL, has no decoder for it."""
    stream = bytes.fromhex("03c0").ljust(100, b"\x55")
    path = raw_file(tmp_path / "uncompressed.tif", stream, {277: 1, 293: 2})
    with pytest.raises(UnsupportedFormatError, match="uncompressed mode"):
        read(path)


def test_more_than_one_sample_is_refused(tmp_path: Path) -> None:
    stream = bytes.fromhex("ffffff0010010000")
    path = raw_file(tmp_path / "rgb.tif", stream, {262: 2, 277: 3})
    with pytest.raises(UnsupportedFormatError, match="bilevel"):
        read(path)


def test_pages_have_options_of_their_own(tmp_path: Path) -> None:
    """T4Options may differ between pages that tifffile takes for equal."""
    path, pixels = tmp_path / "pages.tif", picture()
    pages = [Pillow.fromarray(pixels), Pillow.fromarray(~pixels), Pillow.fromarray(pixels[::-1])]
    pages[1].encoderinfo = {"tiffinfo": {292: 1}}
    pages[0].save(path, compression="group3", save_all=True, append_images=pages[1:])
    with tifffile.TiffFile(path) as tiff:
        assert len({page.aspage().tags.valueof(292) for page in tiff.pages}) > 1
    found = read(path)
    for number in range(3):
        assert np.array_equal(found[number], by_gdal(path, number))


# Real files


def test_rows_that_another_decoder_leaves_blank(corpus: Path) -> None:
    path = corpus / "reports/ccitt-g4-libtiff-test/testfax4.tiff"
    pixels = read(path)
    assert pixels.shape[0] == 3369
    assert np.count_nonzero(pixels[480:]) == 793_265
    assert np.array_equal(pixels, by_gdal(path))


FEWER_ROWS = ("ccitt_tolessrows.tif", "ossfuzz_470691578.tif")
"""Streams with fewer rows than their page, which GDAL reads as white or not at all."""


@pytest.mark.slow
@pytest.mark.usefixtures("logged")
def test_every_real_file_is_as_gdal_reads_it(corpus: Path) -> None:
    with (corpus / "index.csv").open(newline="") as file:
        names = [row["path"] for row in csv.DictReader(file) if "CCITT" in row["compression"]]
    n_equal = 0
    for name in names:
        path = corpus / "files" / name
        try:
            image = cloudimg.open(path)
            pixels = image.read()
        except CloudimgError:
            if path.name not in FEWER_ROWS:
                with pytest.raises(rasterio.RasterioIOError):
                    by_gdal(path)
            continue
        pages = pixels if image.dims[0] == "page" else pixels[None]
        for number, page in enumerate(pages):
            assert np.array_equal(page, by_gdal(path, number)), name
        n_equal += 1
    assert n_equal > 20
