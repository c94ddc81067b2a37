"""Headers whose sizes are too small for what is stored: an error, or a note with both numbers."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CorruptFileError
from tests.support.flavours import SHORT, Picture, Tag, assemble, picture
from tests.support.mutations import Tiff
from tests.support.peers import read_by_gdal

Array = npt.NDArray[Any]
Write = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

WIDTH, LENGTH, ROWS, BITS, DEPTH = 256, 257, 278, 258, 32997
DEFLATE, PACKBITS = 8, 32773
GREY = np.random.default_rng(3).integers(0, 250, (6, 44, 52), dtype=np.uint16)
TILES = {"tile": (16, 16), "compression": "zlib", "metadata": None}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, with other values of tags of its first page."""

    def write_it(data: bytes, values: dict[int, int] | None = None) -> Path:
        tiff = Tiff.of(data)
        for code, value in (values or {}).items():
            entry = tiff.find(tiff.directories[0], code)
            assert entry is not None
            tiff.put(tiff.content(entry)[0], {2: "H", 4: "I"}[tiff.content(entry)[2]], value)
        path = tmp_path / "file.tif"
        path.write_bytes(tiff.data)
        return path

    return write_it


def by_tifffile(path: Path, pixels: Array, **options: Any) -> bytes:
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return path.read_bytes()


# More segments than the sizes need


@pytest.mark.parametrize(
    ("code", "value", "needed"), [(WIDTH, 35, 9), (WIDTH, 16, 3), (LENGTH, 22, 8), (LENGTH, 1, 4)]
)
def test_tiles_that_are_in_no_image(
    write: Write, tmp_path: Path, code: int, value: int, needed: int
) -> None:
    image = cloudimg.open(write(by_tifffile(tmp_path / "a.tif", GREY[0], **TILES), {code: value}))
    (note,) = image.notes
    assert note.kind == "surplus-segments"
    assert f"12 tiles, but consists of {needed} by its sizes: {12 - needed} " in note
    if code == LENGTH:
        assert np.array_equal(image.read(), GREY[0, :value])


def test_entries_of_tiles_that_are_not_stored_are_no_surplus(write: Write, tmp_path: Path) -> None:
    """Writers fill tables with zeros."""
    data = by_tifffile(tmp_path / "a.tif", GREY[0], **TILES)
    tiff = Tiff.of(data)
    for code in (324, 325):
        entry = tiff.find(tiff.directories[0], code)
        assert entry is not None
        at, count, size = tiff.content(entry)
        for i in range(8, count):
            tiff.put(at + i * size, {2: "H", 4: "I"}[size], 0)
    image = cloudimg.open(write(bytes(tiff.data), {LENGTH: 32}))
    assert "surplus-segments" not in [note.kind for note in image.notes]
    assert np.array_equal(image.read(), GREY[0, :32])


@pytest.mark.parametrize(("code", "value"), [(WIDTH, 35), (LENGTH, 22)])
def test_tiles_of_other_planes_of_a_volume(
    write: Write, tmp_path: Path, code: int, value: int
) -> None:
    """The tiles of the second plane would be read from the first one."""
    options = {**TILES, "tile": (2, 16, 16), "volumetric": True}
    data = by_tifffile(tmp_path / "a.tif", GREY, **options)
    assert np.array_equal(cloudimg.open(write(data)).read(), GREY)
    with pytest.raises(CorruptFileError, match=r"36 tiles, but consists of (27|24) by") as caught:
        cloudimg.open(write(data, {code: value}))
    assert str(tmp_path / "file.tif") in str(caught.value)


def test_a_volume_without_its_depth(write: Write, tmp_path: Path) -> None:
    options = {**TILES, "tile": (2, 16, 16), "volumetric": True}
    image = cloudimg.open(write(by_tifffile(tmp_path / "a.tif", GREY, **options), {DEPTH: 1}))
    assert np.array_equal(image.read(), GREY[0])
    (note,) = image.notes
    assert "36 tiles, but consists of 12 by its sizes: 24 " in note


def test_a_copy_tells_of_surplus_segments(write: Write, tmp_path: Path) -> None:
    path = write(by_tifffile(tmp_path / "a.tif", GREY[0], **TILES), {LENGTH: 22})
    done = cloudimg.migrate(path, tmp_path / "copy.zarr")
    proof = cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    for (note,) in (done.notes, proof.notes):
        assert "12 tiles, but consists of 8 by its sizes: 4 " in note


@pytest.mark.parametrize(("code", "value"), [(LENGTH, 41), (LENGTH, 22), (WIDTH, 26)])
@pytest.mark.parametrize("kind", ["one strip", "strips", "bits"])
def test_rows_that_are_in_no_image(
    write: Write, tmp_path: Path, code: int, value: int, kind: str
) -> None:
    """Only the byte counts tell of them."""
    pixels = GREY[0] > 100 if kind == "bits" else GREY[0]
    options = {"rowsperstrip": 9 if kind == "strips" else 44, "metadata": None}
    data = by_tifffile(tmp_path / "a.tif", pixels, **options)
    assert cloudimg.open(write(data)).notes == ()
    logging.disable(logging.CRITICAL)
    try:
        image = cloudimg.open(write(data, {code: value}))
    finally:
        logging.disable(logging.NOTSET)
    note = " ".join(image.notes)
    if kind == "strips" and value == 22:
        assert "page 0 has 5 strips, but consists of 3 by its sizes: 2 " in note
    else:
        assert f"byte counts say {44 * (7 if kind == 'bits' else 104)}:" in note
    if code == LENGTH:
        assert np.array_equal(image.read(), pixels[:value])


def test_an_uncompressed_last_strip_with_all_rows_is_no_surplus(write: Write) -> None:
    segments = [np.pad(GREY[0], ((0, 1), (0, 0)))[y : y + 9].tobytes() for y in range(0, 45, 9)]
    image = cloudimg.open(write(assemble([picture(GREY[0], segments, t278=9)]).data))
    assert image.notes == ()
    assert np.array_equal(image.read(), GREY[0])


# Longer segments than the sizes need


def encoded(compression: int, data: bytes) -> bytes:
    encode = zlib.compress if compression == DEFLATE else imagecodecs.packbits_encode
    return bytes(encode(data))


def in_strips(
    compression: int, *, rows: int = 9, more: bytes = b"", pixels: Array = GREY[0]
) -> Picture:
    """A page of which the last strip is stored with all rows."""
    height = -(-len(pixels) // rows) * rows
    padded = np.pad(pixels, ((0, height - len(pixels)), (0, 0)))
    parts = [padded[y : y + rows].tobytes() + more for y in range(0, height, rows)]
    segments = [encoded(compression, part) for part in parts]
    return picture(pixels, segments, t259=Tag(SHORT, (compression,)), t278=rows)


def strips(compression: int, **options: Any) -> bytes:
    return assemble([in_strips(compression, **options)]).data


@pytest.mark.parametrize("compression", [DEFLATE, PACKBITS])
@pytest.mark.parametrize("rows", [9, 44, 60])
def test_a_last_strip_with_all_rows_is_read(write: Write, compression: int, rows: int) -> None:
    path = write(strips(compression, rows=rows))
    assert np.array_equal(cloudimg.open(path).read(), GREY[0])
    assert np.array_equal(read_by_gdal(path)[0], GREY[0])


@pytest.mark.parametrize("compression", [DEFLATE, PACKBITS])
def test_a_few_bytes_more_are_read(write: Write, compression: int) -> None:
    path = write(strips(compression, more=b"\1\2\3"))
    assert np.array_equal(cloudimg.open(path).read(), GREY[0])


@pytest.mark.parametrize("compression", [DEFLATE, PACKBITS])
@pytest.mark.parametrize(
    "values", [{WIDTH: 51}, {WIDTH: 35}, {WIDTH: 26}, {WIDTH: 1}, {LENGTH: 20, ROWS: 4}, {BITS: 8}]
)
def test_rows_are_longer_than_the_header_says(
    write: Write, compression: int, values: dict[int, int]
) -> None:
    path = write(strips(compression), values)
    with pytest.raises(CorruptFileError, match=r"bytes of pixels, but \d rows of") as caught:
        cloudimg.open(path).read()
    assert str(path) in str(caught.value)
    assert caught.value.byte_range is not None


@pytest.mark.parametrize("compression", [DEFLATE, PACKBITS])
def test_bits_where_bytes_are_stored(write: Write, compression: int) -> None:
    """Without the tag BitsPerSample, samples are bits."""
    page = in_strips(compression, rows=11, pixels=GREY[0].astype(np.uint8))
    tags = {code: tag for code, tag in page.tags.items() if code != BITS}
    path = write(assemble([replace(page, tags=tags)]).data)
    with pytest.raises(CorruptFileError, match="decode to 572 bytes of pixels, but 11 rows of 7"):
        cloudimg.open(path).read()


@pytest.mark.parametrize("compression", [DEFLATE, PACKBITS])
def test_bits_are_read(write: Write, compression: int) -> None:
    pixels = np.packbits(GREY[0] > 100, axis=1)
    data = strips(compression, pixels=pixels)
    path = write(data, {WIDTH: 52, BITS: 1})
    assert np.array_equal(cloudimg.open(path).read(), GREY[0] > 100)


# Planes of stacks


@pytest.mark.parametrize(("code", "value"), [(LENGTH, 27), (WIDTH, 26)])
def test_a_stack_of_several_ifds_whose_planes_are_larger(
    write: Write, tmp_path: Path, code: int, value: int
) -> None:
    data = by_tifffile(tmp_path / "a.tif", GREY, imagej=True, metadata={"axes": "ZYX"})
    assert len(Tiff.of(data).directories) == len(GREY)
    with pytest.raises(CorruptFileError, match=f"byte counts of the first plane say {44 * 52 * 2}"):
        cloudimg.open(write(data, {code: value}))


def test_small_pages_after_a_stack(write: Write, tmp_path: Path) -> None:
    """ImageJ's description counts the planes; IFDs after theirs are not read."""
    data = by_tifffile(tmp_path / "a.tif", GREY, imagej=True, metadata={"axes": "ZYX"})
    assert cloudimg.open(write(data)).notes == ()
    path = write(data)
    for _ in range(2):
        tifffile.imwrite(path, GREY[0, :12, :30], append="force", metadata=None)  # type: ignore[arg-type]
    assert len(Tiff.of(path.read_bytes()).directories) == len(GREY) + 2
    image = cloudimg.open(path)
    assert np.array_equal(image.read(), GREY)
    assert [note.kind for note in image.notes] == ["unread-bytes"]


def test_a_lost_page_that_compresses_better_than_the_others(write: Write) -> None:
    noise = np.random.default_rng(1).integers(0, 65535, (3, 44, 52), dtype=np.uint16)
    noise[2, 28:] = 7
    segments = [zlib.compress(plane.tobytes()) for plane in noise]
    assert len(segments[0]) // 2 < len(segments[2]) < len(segments[0]) * 3 // 4
    pages = [
        picture(plane, [segment], t259=Tag(SHORT, (DEFLATE,)))
        for plane, segment in zip(noise, segments, strict=True)
    ]
    tiff = Tiff.of(assemble(pages).data)
    tiff.put(tiff.directories[1].next_at, "I", 0)
    image = cloudimg.open(write(bytes(tiff.data)))
    assert np.array_equal(image.read(), noise[:2])
    assert [note.kind for note in image.notes] == ["unread-bytes"]
