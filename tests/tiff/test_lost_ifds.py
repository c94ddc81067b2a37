"""What belongs to no image: IFDs to which nothing leads, and bytes that are ordinary."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.support.flavours import Array
from tests.support.mutations import Tiff

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("rasterio.shutil")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def noise(*shape: int) -> Array:
    return np.random.default_rng(3).integers(0, 200, shape).astype(np.uint8)


def profile(pixels: Array, **options: Any) -> dict[str, Any]:
    height, width = pixels.shape
    size = {"height": height, "width": width, "count": 1, "dtype": pixels.dtype.name}
    return {"driver": "GTiff", **size, **options}


def check_silent(path: Path, expected: Array) -> None:
    image = cloudimg.open(path)
    np.testing.assert_array_equal(image.read(), expected)
    assert image.notes == ()


def is_told(path: Path) -> bool:
    return [note.kind for note in cloudimg.open(path).notes] == ["unread-bytes"]


# Ordinary files


@pytest.mark.parametrize("options", [{"compress": "deflate"}, {"compress": "zstd"}, {}])
@pytest.mark.parametrize("bigtiff", ["no", "yes"])
def test_cogs(tmp_path: Path, options: dict[str, str], bigtiff: str) -> None:
    """Each tile has 4 bytes before it and 4 after it, and the header ends with a ghost area."""
    pixels = np.full((1500, 1400), 9, np.uint8)
    with rasterio.open(tmp_path / "a.tif", "w", **profile(pixels)) as file:
        file.write(pixels, 1)
    path = tmp_path / "cog.tif"
    rasterio.shutil.copy(
        tmp_path / "a.tif", path, driver="COG", blocksize=128, bigtiff=bigtiff, **options
    )
    data = path.read_bytes()
    assert b"BLOCK_LEADER=SIZE_AS_UINT4" in data
    check_silent(path, pixels)


def updated_in_place(path: Path, pixels: Array) -> None:
    with rasterio.open(path, "w", **profile(pixels, compress="deflate", tiled=True)) as file:
        file.write(np.zeros_like(pixels), 1)
    for i, values in enumerate((pixels // 50, pixels + 1, pixels)):
        with rasterio.open(path, "r+") as file:
            file.write(values, 1)
            file.update_tags(n="x" * 300 * i)


def written_by_windows(path: Path, pixels: Array) -> None:
    options = {"compress": "deflate", "tiled": True, "blockxsize": 128, "blockysize": 128}
    height, width = pixels.shape
    with (
        rasterio.Env(GDAL_CACHEMAX=0),
        rasterio.open(path, "w", **profile(pixels, **options)) as file,
    ):
        for y in range(0, height, 50):
            for x in range(0, width, 50):
                part = pixels[y : y + 50, x : x + 50]
                file.write(part, 1, window=rasterio.windows.Window(x, y, *part.shape[::-1]))


@pytest.mark.parametrize("write", [updated_in_place, written_by_windows])
def test_tiles_and_ifds_that_gdal_has_replaced(
    tmp_path: Path, write: Callable[[Path, Array], None]
) -> None:
    pixels = noise(600, 800)
    path = tmp_path / "a.tif"
    write(path, pixels)
    with tifffile.TiffFile(path) as tiff:
        n_stored = sum(tiff.pages.first.databytecounts)
    assert path.stat().st_size > 1.2 * n_stored
    check_silent(path, pixels)


def test_an_ifd_that_was_moved(tmp_path: Path) -> None:
    """The one before it is left, with the same pixels."""
    pixels = noise(60, 80)
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", **profile(pixels)) as file:
        file.write(pixels, 1)
    before = Tiff.of(path.read_bytes()).directories[0].at
    with rasterio.open(path, "r+") as file:
        file.update_tags(a="x" * 300)
    assert Tiff.of(path.read_bytes()).directories[0].at != before
    check_silent(path, pixels)


@pytest.mark.parametrize("shape", [(4, 30, 40), (9, 200, 300)])
def test_gaps_for_alignment(tmp_path: Path, shape: Sequence[int]) -> None:
    """`tifffile.memmap` aligns the pixels to 4 KiB."""
    path, pixels = tmp_path / "a.tif", noise(*shape).astype(np.uint16)
    mapped: Any = tifffile.memmap(
        path, shape=tuple(shape), dtype="uint16", imagej=True, metadata={"axes": "ZYX"}
    )
    mapped[:] = pixels
    mapped.flush()
    del mapped
    check_silent(path, pixels)


def test_metadata_that_only_a_vendor_knows(tmp_path: Path) -> None:
    """Exif with a MakerNote that is larger than the image, between the pixels and the IFD."""
    pixels = noise(60, 80)
    data = bytearray(struct.pack("<2sHI", b"II", 42, 0) + pixels.tobytes())
    note_at = len(data)
    data += b"m" * 20_000
    exif_at = len(data)
    data += struct.pack("<HHHIII", 1, 37500, 7, 20_000, note_at, 0)
    data[4:8] = struct.pack("<I", len(data))
    tags = {256: 80, 257: 60, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 60, 279: pixels.size}
    tags[34665] = exif_at
    data += struct.pack("<H", len(tags))
    for code, value in tags.items():
        data += struct.pack("<HHII", code, 4, 1, value)
    path = tmp_path / "a.tif"
    path.write_bytes(data + bytes(4))
    check_silent(path, pixels)


# Pages that are lost


def unlinked(path: Path, n: int, *, skip: bool) -> None:
    """Make nothing lead to page `n`: the chain ends before it, or skips it."""
    tiff = Tiff.of(path.read_bytes())
    before, lost = tiff.directories[n - 1], tiff.directories[n]
    after = tiff.get(lost.next_at, tiff.offset_code) if skip else 0
    tiff.put(before.next_at, tiff.offset_code, after)
    path.write_bytes(tiff.data)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("n", [1, 4, 7])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_micromanager(tmp_path: Path, n: int, order: str, big: bool, skip: bool) -> None:
    """Comments and other metadata follow the last page."""
    path, pixels = tmp_path / "a.tif", noise(8, 20, 30)
    with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as writer:  # type: ignore[arg-type]
        for i, plane in enumerate(pixels):
            text = json.dumps({"FrameIndex": i, "Camera": "c" * 300})
            tags: list[Any] = [(51123, "s", None, text, True)]
            writer.write(plane, contiguous=False, metadata=None, extratags=tags)
    # Without the header of Micro-Manager, tifffile logs what it cannot read of its metadata.
    assert {note.kind for note in cloudimg.open(path).notes} == {"parser-log"}
    unlinked(path, n, skip=skip)
    image = cloudimg.open(path)
    (note,) = (note for note in image.notes if note.kind == "unread-bytes")
    n_left, n_lost = (7, 1) if skip else (n, 8 - n)
    assert f"after {n_left} page" in note
    assert ("one was found" if n_lost == 1 else f"{n_lost} were found") in note
    rest = np.delete(pixels, n, axis=0) if skip else pixels[:n]
    np.testing.assert_array_equal(image.read(), rest if n_left > 1 else rest[0])


@pytest.mark.parametrize("skip", [False, True])
def test_ndtiff(corpus: Path, tmp_path: Path, skip: bool) -> None:
    (found,) = (corpus / "files").glob("*/ndtiffv3.0_test_NDTiffStack.tif")
    assert cloudimg.open(found).notes == ()
    path = tmp_path / "a.tif"
    path.write_bytes(found.read_bytes())
    unlinked(path, 5, skip=skip)
    assert is_told(path)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.03])
@pytest.mark.parametrize("size", [40, 300])
def test_a_lost_page_that_is_much_smaller(tmp_path: Path, share: float, size: int) -> None:
    """The IFDs of a small file have been fetched; of a larger one, a single gap tells."""
    path, pixels = tmp_path / "a.tif", noise(6, size, size)
    pixels[3] *= np.random.default_rng(0).random((size, size)) < share
    tifffile.imwrite(path, pixels, compression="zlib", metadata=None)
    check_silent(path, pixels)
    unlinked(path, 3, skip=True)
    assert is_told(path)


def test_small_pages_are_found_by_their_ifds(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", noise(2, 5, 6)
    tifffile.imwrite(path, pixels, metadata=None, contiguous=False)
    for plane in pixels:
        tifffile.imwrite(path, plane, metadata=None, contiguous=False, append=True)
    unlinked(path, 2, skip=False)
    assert is_told(path)


def with_gap(page_in_gap: bool) -> bytes:
    """Of the same size and with the same first IFD, whatever is in front of the pixels."""

    def ifd(pixels_at: int) -> bytes:
        tags = {256: 30, 257: 20, 258: 8, 259: 1, 262: 1, 273: pixels_at, 277: 1, 278: 20, 279: 600}
        entries = (struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
        return b"".join((struct.pack("<H", len(tags)), *entries, bytes(4)))

    n_bytes = len(ifd(0))
    lost_at = 8 + n_bytes
    lost = ifd(lost_at + n_bytes) + 600 * b"\7"
    gap = lost if page_in_gap else bytes(len(lost))
    return struct.pack("<2sHI", b"II", 42, 8) + ifd(lost_at + len(gap)) + gap + bytes(600)


@pytest.mark.parametrize("first_has_page", [False, True])
def test_a_header_like_another_one_says_nothing_of_gaps(
    tmp_path: Path, first_has_page: bool
) -> None:
    """The parsed header of the first file is taken for others only with the same bytes there."""
    for t, has_page in enumerate((first_has_page, not first_has_page)):
        (tmp_path / f"t{t}.tif").write_bytes(with_gap(has_page))
    for t, has_page in enumerate((first_has_page, not first_has_page)):
        assert is_told(tmp_path / f"t{t}.tif") == has_page
    (note,) = cloudimg.open(f"{tmp_path}/t{{t}}.tif", validate="all").notes
    assert f"t{int(not first_has_page)}.tif" in note
