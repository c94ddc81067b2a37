"""Segments whose bytes are missing, zeros, or counted wrongly: an error or the right pixels."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow

import cloudimg
from cloudimg.errors import CorruptFileError

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

SHAPE = (96, 96)
POSITIONS = 20
OFFSETS, COUNTS = (273, 324), (279, 325)
CODECS = (
    "none",
    "packbits",
    "lzw",
    "adobe_deflate",
    "deflate",
    "zstd",
    "lzma",
    "png",
    "jpeg",
    "jpeg2000",
    "jpegxl",
    "jpegxr",
    "webp",
    "lerc",
)
ALLOCATED = ("adobe_deflate", "zstd", "lzma", "png", "jpeg", "jpeg2000", "jpegxr", "webp", "lerc")
"""Codecs whose streams do not decode if zeros take the place of their end. Zeros are pixels where
nothing is compressed, and codes for LZW and PackBits."""


def picture(codec: str) -> Array:
    """Noise over a slope, with an even part at the end."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(0).integers(0, 60, SHAPE)
    grey = ((2 * columns + rows) % 256 // 2 + noise).astype("u1")
    grey[-24:] = 200 + noise[-24:] % 9
    return np.stack([grey, grey[::-1], grey.T], -1) if codec == "webp" else grey


def write(path: Path, pixels: Array, codec: str, layout: dict[str, Any]) -> None:
    tifffile.imwrite(
        path,
        pixels,
        compression=None if codec == "none" else codec,
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        **layout,
    )


def read(path: Path) -> Array:
    return cloudimg.open(path).read()


def tag(page: Any, codes: tuple[int, int]) -> Any:
    return page.tags[next(code for code in codes if code in page.tags)]


def last_segment(path: Path) -> tuple[int, int, int]:
    """Index, offset and byte count of the segment at the end of a file."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        index = int(np.argmax(page.dataoffsets))
        return index, page.dataoffsets[index], page.databytecounts[index]


def with_count(path: Path, index: int, count: int) -> bytes:
    """The bytes of a file with another byte count of one segment."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        counts = tag(tiff.pages.first, COUNTS)
        size = {3: 2, 4: 4, 16: 8}[int(counts.dtype)]
        at = counts.valueoffset + index * size
    data[at : at + size] = count.to_bytes(size, "little")
    return bytes(data)


def assert_right_or_refused(path: Path, data: bytes, whole: Array) -> bool:
    """Whether a file is refused, by an error with its name and a range of bytes."""
    path.write_bytes(data)
    try:
        pixels = read(path)
    except CorruptFileError as exc:
        error = exc
    else:
        assert np.array_equal(pixels, whole)
        return False
    assert str(path) in str(error)
    assert error.byte_range is not None
    return True


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[{"tile": (48, 48)}, {"rowsperstrip": 24}], ids=["tiles", "strips"])
def layout(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture
def whole(tmp_path: Path, codec: str, layout: dict[str, Any]) -> Path:
    path = tmp_path / "whole.tif"
    write(path, picture(codec), codec, layout)
    return path


def cuts(count: int) -> list[int]:
    """Positions in a segment, the last ones just before its end."""
    return [count * i // POSITIONS for i in range(POSITIONS)] + [count - 3, count - 2, count - 1]


@pytest.mark.long
@pytest.mark.slow
def test_a_file_that_ends_in_its_last_segment(whole: Path, tmp_path: Path) -> None:
    pixels, data = read(whole), whole.read_bytes()
    _, offset, count = last_segment(whole)
    assert offset + count == len(data)
    for position in cuts(count):
        refused = assert_right_or_refused(tmp_path / "cut.tif", data[: offset + position], pixels)
        assert refused or position > count - 16


@pytest.mark.long
@pytest.mark.slow
def test_a_byte_count_that_is_too_small(whole: Path, tmp_path: Path) -> None:
    pixels = read(whole)
    index, _, count = last_segment(whole)
    for position in cuts(count)[1:-3]:  # a count of 0 means that nothing is stored
        data = with_count(whole, index, position)
        assert assert_right_or_refused(tmp_path / "short.tif", data, pixels)


def test_a_byte_count_that_is_too_large(whole: Path, tmp_path: Path) -> None:
    """As some writers have it, with anything behind the segment or the end of the file."""
    pixels = read(whole)
    index, _, count = last_segment(whole)
    data = with_count(whole, index, count + 7)
    for more in (b"", b"\1\2", bytes(7)):
        assert not assert_right_or_refused(tmp_path / "long.tif", data + more, pixels)


@pytest.mark.parametrize("codec", ALLOCATED, indirect=True)
def test_an_end_that_was_never_written(whole: Path, tmp_path: Path) -> None:
    """A file system shows zeros where a copy allocated a file and then stopped."""
    pixels, data = read(whole), whole.read_bytes()
    _, offset, count = last_segment(whole)
    for position in cuts(count)[:-4]:
        zeros = bytes(count - position)
        assert assert_right_or_refused(
            tmp_path / "zeros.tif", data[: offset + position] + zeros, pixels
        )


# JPEG


def jpeg_file(path: Path, stream: bytes, shape: tuple[int, int]) -> Path:
    """A TIFF with one strip, a grey JPEG."""
    tags = {256: shape[1], 257: shape[0], 258: 8, 259: 7, 262: 1, 273: 0, 277: 1, 278: shape[0]}
    tags[279] = len(stream)
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHLL", code, 4, 1, tags[code]) for code in sorted(tags))
    path.write_bytes(b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4) + stream)
    return path


def progressive(pixels: Array) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", progressive=True)
    return file.getvalue()


def test_a_jpeg_without_its_last_marker_is_whole(tmp_path: Path) -> None:
    stream = bytes(imagecodecs.jpeg8_encode(picture("jpeg")))
    assert stream.endswith(b"\xff\xd9")
    whole = imagecodecs.jpeg8_decode(stream)
    for end in (b"", bytes(2), bytes(100)):
        path = jpeg_file(tmp_path / "jpeg.tif", stream[:-2] + end, SHAPE)
        assert np.array_equal(read(path), whole)


def test_a_jpeg_with_its_last_marker_but_without_its_last_blocks(tmp_path: Path) -> None:
    stream = bytes(imagecodecs.jpeg8_encode(picture("jpeg")))
    for n_bytes in range(20, len(stream) // 2, 97):
        path = jpeg_file(tmp_path / "jpeg.tif", stream[:-n_bytes] + b"\xff\xd9", SHAPE)
        with pytest.raises(CorruptFileError, match=r"before the last block.*bytes \d+-\d+"):
            read(path)


def test_a_progressive_jpeg_needs_its_last_marker(tmp_path: Path) -> None:
    """Without it nobody knows whether further passes were to refine the pixels."""
    stream = progressive(picture("jpeg"))
    path = jpeg_file(tmp_path / "jpeg.tif", stream, SHAPE)
    assert np.array_equal(read(path), imagecodecs.jpeg8_decode(stream))
    last_pass = stream.rfind(b"\xff\xda")
    for end in (len(stream) - 2, last_pass, last_pass + 40):
        jpeg_file(path, stream[:end], SHAPE)
        with pytest.raises(CorruptFileError, match="marker EOI"):
            read(path)


@pytest.mark.parametrize("value", [127, 128])
@pytest.mark.parametrize("encode", [imagecodecs.jpeg8_encode, progressive])
def test_a_jpeg_that_is_grey_by_its_content(tmp_path: Path, encode: Any, value: int) -> None:
    pixels = picture("jpeg")
    pixels[-40:] = value
    stream = encode(pixels)
    path = jpeg_file(tmp_path / "jpeg.tif", stream, SHAPE)
    assert np.array_equal(read(path), imagecodecs.jpeg8_decode(stream))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_even_pictures_that_end_in_zeros_are_whole(tmp_path: Path, value: int) -> None:
    """An arithmetic coder writes zeros for what it expects."""
    pixels = np.full((1024, 1024, 3), value, "u1")
    write(tmp_path / "webp.tif", pixels, "webp", {"rowsperstrip": 1024})
    assert np.ptp(read(tmp_path / "webp.tif")) <= 2
    write(tmp_path / "jxr.tif", pixels, "jpegxr", {"rowsperstrip": 1024})
    assert np.array_equal(read(tmp_path / "jxr.tif"), pixels)


# What the header tells


def test_open_tells_that_uncompressed_pixels_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in np.arange(6 * 20 * 30, dtype="u2").reshape(6, 20, 30):
            writer.write(page, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tiff:
        at = [page.dataoffsets[0] for page in tiff.pages]
    stop, data = max(at) + 1200, path.read_bytes()
    assert stop == len(data)  # the last directory comes before its page
    path.write_bytes(data[: stop - 1])
    message = rf"up to {stop}, but the file ends at byte {stop - 1}, .* 1 of 6 segments are missing"
    with pytest.raises(CorruptFileError, match=message):
        cloudimg.open(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_open_tells_of_segments_that_begin_beyond_the_end(
    tmp_path: Path, compression: str | None
) -> None:
    path = tmp_path / "tiles.tif"
    tifffile.imwrite(path, picture("jpeg"), tile=(16, 16), compression=compression)
    with tifffile.TiffFile(path) as tiff:
        offsets = sorted(tiff.pages.first.dataoffsets)
    path.write_bytes(path.read_bytes()[: offsets[30]])
    with pytest.raises(CorruptFileError, match=rf"ends at byte {offsets[30]}, .* 6 of 36 segments"):
        cloudimg.open(path)


def test_open_notes_what_only_decoding_can_tell(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.tif"
    write(path, picture("jpeg"), "jpeg", {"tile": (48, 48)})
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    image = cloudimg.open(path)
    (note,) = (note for note in image.notes if note.kind == "ends-early")
    assert f"1 of 4 segments of the image at bytes up to {len(data)}" in note
    assert f"ends at byte {len(data) - 100}" in note
    assert np.array_equal(image.read({"y": slice(48)}), by_tifffile(data)[:48])
    with pytest.raises(CorruptFileError, match=r"ends too early.* of which \d+ exist"):
        image.read()


def by_tifffile(data: bytes) -> Array:
    return tifffile.imread(io.BytesIO(data))


def test_validate_all_finds_the_file_that_ends_too_early(tmp_path: Path) -> None:
    pixels = picture("jpeg")
    for i in range(4):
        tifffile.imwrite(tmp_path / f"t{i}.tif", pixels, rowsperstrip=16)
    data = (tmp_path / "t2.tif").read_bytes()
    (tmp_path / "t2.tif").write_bytes(data[:-5])
    pattern = f"{tmp_path}/t{{t}}.tif"
    with pytest.raises(Exception, match=r"t2\.tif") as caught:
        cloudimg.open(pattern, validate="all")
    assert "ends at byte" in str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    # Without validation the file is found when it is read.
    image = cloudimg.open(pattern)
    assert np.array_equal(image.read({"t": slice(2)}), np.stack([pixels] * 2))
    with pytest.raises(CorruptFileError, match=r"t2\.tif ends too early"):
        image.read()


def test_a_reduced_level_beyond_the_end_is_a_note(tmp_path: Path) -> None:
    path, pixels = tmp_path / "levels.tif", picture("jpeg")
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, subifds=1, tile=(16, 16))
        writer.write(pixels[::2, ::2], subfiletype=1, tile=(16, 16))
    with tifffile.TiffFile(path) as tiff:
        last = max(tiff.series[0].levels[1].keyframe.dataoffsets)
    path.write_bytes(path.read_bytes()[: last + 16])
    image = cloudimg.open(path)
    (note,) = (note for note in image.notes if note.kind == "ends-early")
    assert "level 1" in note
    assert np.array_equal(image.read(), pixels)
    with pytest.raises(CorruptFileError, match="ends too early"):
        image.read(level=1)


def test_segments_that_are_not_stored_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    pixels = picture("jpeg")
    write(path, pixels, "zlib", {"tile": (48, 48)})
    path.write_bytes(with_count(path, 3, 0))
    image = cloudimg.open(path)
    (note,) = (note for note in image.notes if note.kind == "unstored-segments")
    assert "1 of 4 segments" in note
    pixels[48:, 48:] = 0
    assert np.array_equal(image.read(), pixels)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), pixels)


def test_a_segment_at_byte_0_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "offset.tif"
    write(path, picture("jpeg"), "zlib", {"tile": (48, 48)})
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        at = tag(tiff.pages.first, OFFSETS).valueoffset + 2 * 4
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="places segment 2 at byte 0"):
        cloudimg.open(path)


# Byte counts of 0, or none


def without_counts(path: Path, *, zero: bool) -> None:
    """Set the byte counts of a file to 0, or give their tag another code."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            counts = tag(page, COUNTS)
            size = {3: 2, 4: 4, 16: 8}[int(counts.dtype)] * counts.count
            if zero:
                data[counts.valueoffset : counts.valueoffset + size] = bytes(size)
            else:
                data[counts.offset : counts.offset + 2] = struct.pack("<H", 280)
    path.write_bytes(data)


@pytest.mark.parametrize("zero", [True, False], ids=["zero", "missing"])
@pytest.mark.parametrize("kind", ["u1", "bool", "u2", "rgb"])
@pytest.mark.parametrize("codec", ["none", "packbits", "lzw", "zlib", "zstd", "lzma", "lerc"])
def test_one_strip_without_byte_count(tmp_path: Path, codec: str, kind: str, zero: bool) -> None:
    grey = picture("jpeg")
    pixels = np.stack([grey, grey.T, 255 - grey], -1) if kind == "rgb" else grey
    pixels = grey > 99 if kind == "bool" else pixels.astype("u2" if kind == "u2" else "u1")
    if codec == "lerc" and kind == "bool":
        pytest.skip("LERC has no bits")
    path = tmp_path / "strip.tif"
    write(path, pixels, codec, {"rowsperstrip": SHAPE[0]})
    without_counts(path, zero=zero)
    image = cloudimg.open(path)
    assert np.array_equal(image.read(), pixels)
    assert not [note for note in image.notes if note.kind in ("ends-early", "unstored-segments")]
    with rasterio.open(path) as file:
        assert np.array_equal(np.moveaxis(file.read(), 0, -1).squeeze(), pixels)


@pytest.mark.parametrize("zero", [True, False], ids=["zero", "missing"])
@pytest.mark.parametrize("codec", ["none", "lzw", "zlib", "jpegxl"])
def test_pages_of_one_strip_without_byte_counts(tmp_path: Path, codec: str, zero: bool) -> None:
    """Each ends where its directory begins, or another page, or the file."""
    path, pixels = tmp_path / "pages.tif", np.stack([picture("jpeg"), 255 - picture("jpeg")])
    with tifffile.TiffWriter(path) as writer:
        for page in pixels:
            compression = None if codec == "none" else codec
            writer.write(page, compression=compression, rowsperstrip=SHAPE[0], metadata=None)
    without_counts(path, zero=zero)
    assert np.array_equal(read(path), pixels)


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd"])
def test_separate_planes_without_byte_counts(tmp_path: Path, codec: str) -> None:
    path, grey = tmp_path / "planes.tif", picture("jpeg")
    pixels = np.stack([grey, grey.T, 255 - grey])
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        planarconfig="separate",
        compression=codec,
        rowsperstrip=SHAPE[0],
    )
    without_counts(path, zero=False)
    image = cloudimg.open(path)
    assert np.array_equal(image.read(), np.moveaxis(pixels, 0, image.dims.index("s")))


def test_a_byte_count_that_is_too_small_for_uncompressed_rows(tmp_path: Path) -> None:
    """libtiff counts the rows of a page of one strip; so do we, for bits as for bytes."""
    path, pixels = tmp_path / "bits.tif", picture("jpeg") > 99
    write(path, pixels, "none", {"rowsperstrip": SHAPE[0]})
    path.write_bytes(with_count(path, 0, 100))
    assert np.array_equal(read(path), pixels)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), pixels)


def test_the_header_check_is_exact_for_a_large_table(tmp_path: Path) -> None:
    """Only what is beyond the end counts, of the 16,384 tiles of a page."""
    path, pixels = tmp_path / "many.tif", np.zeros((2048, 2048), "u1")
    pixels[::7, ::5] = 9
    tifffile.imwrite(path, pixels, tile=(16, 16), compression="packbits")
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        offsets = np.sort(tiff.pages.first.dataoffsets)
    assert len(offsets) == math.prod(pixels.shape) // 256
    path.write_bytes(data[: offsets[-100]])
    with pytest.raises(CorruptFileError, match=r"100 of 16384 segments"):
        cloudimg.open(path)
