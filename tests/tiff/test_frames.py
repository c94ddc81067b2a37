"""Pages of one image that are stored differently: each is decoded by its own tags.

tifffile takes the tags of the first page for all pages of an OME-TIFF, an ImageJ stack and others.
What is read here is compared with the planes that were written, and with GDAL and tifffile where
they read each page by itself.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import CloudimgError, CorruptFileError, UnsupportedFormatError
from tests.support.flavours import LONG, SHORT, Picture, Tag, ascii_tag, assemble, picture
from tests.support.mutations import Tiff
from tests.support.peers import read_pages_by_gdal, stored_pages

Array = npt.NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

N, SHAPE = 10, (32, 48)
PLANES = np.random.default_rng(14).integers(0, 4096, (N, *SHAPE), np.uint16)


# How a page can be stored


def packed(plane: Array, order: str) -> bytes:
    return plane.astype(plane.dtype.newbyteorder(order)).tobytes()


def plain(plane: Array, order: str = "<") -> Picture:
    return picture(plane, (packed(plane, order),))


def deflated(plane: Array, order: str = "<") -> Picture:
    return picture(plane, (zlib.compress(packed(plane, order)),), t259=8)


def predicted(plane: Array, order: str = "<") -> Picture:
    differences = np.diff(plane, axis=1, prepend=np.zeros((len(plane), 1), plane.dtype))
    return picture(plane, (zlib.compress(packed(differences, order)),), t259=8, t317=2)


def in_strips(plane: Array, order: str = "<") -> Picture:
    strips = [packed(plane[y : y + 8], order) for y in range(0, len(plane), 8)]
    return picture(plane, strips, t278=8)


def in_tiles(plane: Array, order: str = "<") -> Picture:
    corners = product(range(0, plane.shape[0], 16), range(0, plane.shape[1], 16))
    tiles = [zlib.compress(packed(plane[y : y + 16, x : x + 16], order)) for y, x in corners]
    made = picture(plane, tiles, t259=8, t322=16, t323=16)
    tags = {code: tag for code, tag in made.tags.items() if code != 278}
    return replace(made, tags=tags, is_tiled=True)


def in_12_bits(plane: Array, order: str = "<") -> Picture:
    bits = np.unpackbits(plane.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    return picture(plane, (np.packbits(bits).tobytes(),), t258=12)


def with_bits_reversed(plane: Array, order: str = "<") -> Picture:
    stored = np.frombuffer(packed(plane, order), np.uint8)
    bits = np.unpackbits(stored).reshape(-1, 8)[:, ::-1]
    return picture(plane, (np.packbits(bits).tobytes(),), t266=2)


UNLIKE = {
    one.__name__: one
    for one in (deflated, predicted, in_strips, in_tiles, in_12_bits, with_bits_reversed)
}


# Files whose metadata make one image of all pages


def ome(planes: Sequence[Array]) -> str:
    xml = tifffile.OmeXml()
    n, first = len(planes), planes[0]
    shape = (n, *first.shape)
    xml.addimage(first.dtype, shape, (n, 1, 1, *first.shape, 1), axes="TYX")
    return xml.tostring(declaration=True)


def imagej(planes: Sequence[Array]) -> str:
    return f"ImageJ=1.54f\nimages={len(planes)}\nframes={len(planes)}\n"


def shaped(planes: Sequence[Array]) -> str:
    return json.dumps({"shape": [len(planes), *planes[0].shape]})


STACKS: dict[str, Callable[[Sequence[Array]], str]] = {
    "ome": ome,
    "imagej": imagej,
    "shaped": shaped,
}


def described(pages: Sequence[Picture], text: str) -> list[Picture]:
    return [replace(pages[0], tags={**pages[0].tags, 270: ascii_tag(text)}), *pages[1:]]


def written(folder: Path, data: bytes, kind: str = "ome") -> Path:
    path = folder / ("file.ome.tif" if kind == "ome" else "file.tif")
    path.write_bytes(data)
    return path


def check(path: Path, planes: Array) -> None:
    """Each page is what was written, which is what GDAL and tifffile read of it."""
    image = cloudimg.open(path)
    np.testing.assert_array_equal(image.read().reshape(-1, *planes.shape[1:]), planes)
    assert image.dtype == planes.dtype
    np.testing.assert_array_equal(read_pages_by_gdal(path), planes)
    np.testing.assert_array_equal([page for page, _ in stored_pages(path.read_bytes())], planes)


FEW = ({3}, {0}, {9})
HALF = {1, 3, 5, 7, 9}
"""With these stored in fewer bytes, tifffile takes a stack of ImageJ for damaged."""


@pytest.mark.parametrize(
    ("kind", "which"), [*product(STACKS, FEW), ("ome", HALF), ("shaped", HALF)], ids=str
)
@pytest.mark.parametrize("unlike", UNLIKE)
def test_pages_stored_differently(
    tmp_path: Path, kind: str, unlike: str, which: Collection[int]
) -> None:
    for order, big in (("<", False), (">", True)):
        pages = [
            (UNLIKE[unlike] if number in which else plain)(plane, order)
            for number, plane in enumerate(PLANES)
        ]
        pages = described(pages, STACKS[kind](PLANES))
        check(written(tmp_path, assemble(pages, order=order, big=big).data, kind), PLANES)


@pytest.mark.parametrize("unlike", UNLIKE)
def test_pages_of_a_file_without_metadata(tmp_path: Path, unlike: str) -> None:
    """They are images of their own: tifffile looks at three pages and believes in the others."""
    pages = [plain(plane) for plane in PLANES]
    pages[3] = UNLIKE[unlike](PLANES[3])
    path = written(tmp_path, assemble(pages).data, "plain")
    image = cloudimg.open(path)
    assert [note.kind for note in image.notes] == ["further-images"]
    np.testing.assert_array_equal(image.read(), np.delete(PLANES, 3, axis=0))
    np.testing.assert_array_equal(cloudimg.imread(path, series=1), PLANES[3])


OTHERS = {
    "uint8 of shape (32, 48)": plain(PLANES[3].astype(np.uint8)),
    "int16 of shape (32, 48)": plain(PLANES[3].astype(np.int16)),
    "float32 of shape (32, 48)": plain(PLANES[3].astype(np.float32)),
    "uint16 of shape (32, 40)": plain(PLANES[3][:, :40]),
    "uint16 of shape (16, 48)": deflated(PLANES[3][:16]),
}


@pytest.mark.parametrize("number", [3, 9])
@pytest.mark.parametrize("kind", ["ome", "shaped"])
@pytest.mark.parametrize("named", OTHERS)
def test_other_samples(tmp_path: Path, kind: str, number: int, named: str) -> None:
    """A page that cannot be of the image; its pixels came as those of the first page."""
    pages = [plain(plane) for plane in PLANES]
    pages[number] = OTHERS[named]
    path = written(tmp_path, assemble(described(pages, STACKS[kind](PLANES))).data, kind)
    with pytest.raises(CorruptFileError) as caught:
        cloudimg.open(path)
    text = str(caught.value)
    assert f"page {number} of {path} is {named}" in text
    assert "page 0 of the same image is uint16 of shape (32, 48)" in text


@pytest.mark.parametrize(("kind", "number"), [("ome", 0), ("imagej", 0), ("imagej", 3)])
@pytest.mark.parametrize("named", OTHERS)
def test_metadata_that_do_not_fit(tmp_path: Path, kind: str, number: int, named: str) -> None:
    """Where the first page does not fit, or the file is too short, pages are told by layout."""
    pages = [plain(plane) for plane in PLANES]
    pages[number] = OTHERS[named]
    path = written(tmp_path, assemble(described(pages, STACKS[kind](PLANES))).data, kind)
    try:
        image = cloudimg.open(path)
    except CorruptFileError as exc:
        assert "uint16 of shape (32, 48)" in str(exc)  # noqa: PT017
        assert named in str(exc)  # noqa: PT017
        return
    assert {"further-images"} < {note.kind for note in image.notes}
    found = [image.read(), cloudimg.imread(path, series=1)]
    one, rest = found if number == 0 else found[::-1]
    np.testing.assert_array_equal(one, stored_pages(path.read_bytes())[number][0])
    np.testing.assert_array_equal(rest, np.delete(PLANES, number, axis=0))


@pytest.mark.parametrize("compression", [1, 8])
def test_a_first_page_without_bits_per_sample(tmp_path: Path, compression: int) -> None:
    """TIFF 6.0 gives such a page one bit, whatever the others have."""
    pages = [(plain if compression == 1 else deflated)(plane) for plane in PLANES]
    tags = {code: tag for code, tag in pages[0].tags.items() if code != 258}
    pages[0] = replace(pages[0], tags=tags)
    path = written(tmp_path, assemble(described(pages, ome(PLANES))).data)
    with pytest.raises(CorruptFileError, match=r"page 1 of .* is uint16 .* page 0 .* is bool"):
        cloudimg.open(path)


def test_tags_that_say_the_same(tmp_path: Path) -> None:
    """Types of numbers and defaults differ, pixels are stored alike."""
    pages = [deflated(plane) for plane in PLANES]
    shorts = {code: Tag(SHORT, pages[0].tags[code].values) for code in (256, 257, 259)}
    pages[2] = replace(pages[2], tags={**pages[2].tags, **shorts, 284: Tag(SHORT, (1,))})
    pages[5] = replace(pages[5], tags={**pages[5].tags, 278: Tag(LONG, (2**32 - 1,))})
    pages[7] = replace(pages[7], tags={**pages[7].tags, 305: ascii_tag("another program")})
    del pages[8].tags[277], pages[8].tags[339]  # type: ignore[attr-defined]
    path = written(tmp_path, assemble(described(pages, ome(PLANES))).data)
    check(path, PLANES)
    assert not cloudimg.open(path).notes


def test_levels(tmp_path: Path) -> None:
    """The smaller levels of pages are compared as well."""
    halves = PLANES[:, ::2, ::2]
    subs = [predicted(half) if n in (1, 4) else deflated(half) for n, half in enumerate(halves)]
    pages = [replace(deflated(plane), subs=(sub,)) for plane, sub in zip(PLANES, subs, strict=True)]
    path = written(tmp_path, assemble(described(pages, ome(PLANES))).data)
    image = cloudimg.open(path)
    np.testing.assert_array_equal(image.read(), PLANES)
    np.testing.assert_array_equal(image.read(level=1), halves)
    pages[2] = replace(pages[2], subs=(in_strips(halves[2]),))
    path = written(tmp_path, assemble(described(pages, ome(PLANES))).data)
    with pytest.raises(UnsupportedFormatError, match="different numbers of strips or tiles"):
        cloudimg.open(path)


def jpeg(plane: Array, quality: int = 90) -> Picture:
    return picture(plane, (imagecodecs.jpeg_encode(plane, level=quality),), t259=7)


def test_jpeg_among_others(tmp_path: Path) -> None:
    planes = PLANES.astype(np.uint8)
    pages = [jpeg(plane) if n in (0, 4) else deflated(plane) for n, plane in enumerate(planes)]
    path = written(tmp_path, assemble(described(pages, ome(planes))).data)
    check(path, np.stack(read_pages_by_gdal(path)))


def coloured(plane: Array, bits: int = 8) -> Picture:
    """A page of three samples, whose bits do not fit into the directory."""
    pixels = np.stack([plane, plane + 1, plane + 2], axis=-1).astype(f"u{bits // 8}")
    made = picture(plane.astype(pixels.dtype), (pixels.tobytes(),), t262=2, t277=3)
    return replace(
        made, tags={**made.tags, 258: Tag(SHORT, (bits,) * 3), 339: Tag(SHORT, (1,) * 3)}
    )


def test_bits_outside_of_the_directory(tmp_path: Path) -> None:
    pages = [coloured(plane) for plane in PLANES]
    xml = tifffile.OmeXml()
    xml.addimage("uint8", (N, *SHAPE, 3), (N, 1, 1, *SHAPE, 3), axes="TYXS")
    text = xml.tostring(declaration=True)
    path = written(tmp_path, assemble(described(pages, text)).data)
    expected = np.stack(read_pages_by_gdal(path))
    np.testing.assert_array_equal(cloudimg.imread(path), expected)
    pages[6] = coloured(PLANES[6], bits=16)
    path = written(tmp_path, assemble(described(pages, text)).data)
    with pytest.raises(CorruptFileError, match=r"page 6 of .* is uint16 .* page 0 .* is uint8"):
        cloudimg.open(path)


def test_headers_that_differ_only_there(tmp_path: Path) -> None:
    """A header is not taken for the one before if a value outside of a directory differs."""
    data = assemble([coloured(plane[:8, :8]) for plane in PLANES]).data  # fetched at once
    for name in ("0.tif", "1.tif"):  # the second one is the first whose attributes are not read
        (tmp_path / name).write_bytes(data)
    tiff = Tiff.of(data)
    entry = tiff.find(tiff.directories[3], 258)
    assert entry is not None
    at, count, size = tiff.content(entry)
    for i in range(count):
        tiff.put(at + i * size, "H", 16)
    assert cloudimg.open(tmp_path / "{t}.tif", validate="all").shape[:2] == (N, 2)
    (tmp_path / "2.tif").write_bytes(bytes(tiff.data))
    with pytest.raises(CloudimgError, match=r"2\.tif does not fit the grid"):
        cloudimg.open(tmp_path / "{t}.tif", validate="all").read()


def test_a_copy(tmp_path: Path) -> None:
    pages = [UNLIKE[name](PLANES[n]) for n, name in enumerate([*UNLIKE, *UNLIKE][:N])]
    path = written(tmp_path, assemble(described(pages, ome(PLANES))).data)
    cloudimg.migrate(path, tmp_path / "copy.zarr")
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    copy = zarr.open_array(tmp_path / "copy.zarr" / "0", mode="r")
    np.testing.assert_array_equal(np.asarray(copy[...]).reshape(PLANES.shape), PLANES)
