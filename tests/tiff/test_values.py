"""Any combination of bits, format, predictor, byte order and layout of samples.

Stored bytes are noise: any bytes are valid samples, also as what a predictor left of them, so that
no encoder takes part. GDAL (libtiff) reads the same file. What it reads either equals what cloudimg
reads or is refused as not supported, never as damaged.
"""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.errors
import rasterio.io
import tifffile

import cloudimg
from cloudimg.errors import CloudimgError, CorruptFileError, UnsupportedFormatError
from tests.support.peers import unequal
from tests.support.raw_tiff import ASCII, SHORT, RawTiff, noise_bytes, with_bits_reversed

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

Array = npt.NDArray[Any]

UNSIGNED, SIGNED, FLOAT, VOID, COMPLEX_INTEGER, COMPLEX_FLOAT = range(1, 7)
HORIZONTAL, FLOATING_POINT = 2, 3
PACKBITS = 32773
CODECS: dict[int, Callable[[bytes], Any]] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    PACKBITS: imagecodecs.packbits_encode,
    34925: imagecodecs.lzma_encode,
    50000: imagecodecs.zstd_encode,
}
BITS = (1, 2, 3, 4, 7, 8, 10, 12, 14, 16, 17, 24, 31, 32, 33, 48, 64, 128)
READ = {
    UNSIGNED: {*range(1, 33), 64},
    SIGNED: {8, 16, 32, 64},
    FLOAT: {16, 24, 32, 64},
    VOID: {*range(1, 33), 64},
    COMPLEX_INTEGER: {32, 64},
    COMPLEX_FLOAT: {64, 128},
}
"""Bits of the samples that cloudimg reads, by SampleFormat."""


def is_read(page: RawTiff) -> bool:
    """Whether cloudimg reads samples; the rest it refuses."""
    bits, kind = page.bits, page.sample_format
    assert isinstance(bits, int)
    assert isinstance(kind, int)
    if bits not in READ[kind]:
        return False
    if bits == 24 and kind in (UNSIGNED, VOID) and page.byteorder == ">":
        return False
    if page.compression in (1, PACKBITS):
        return True  # a predictor means nothing
    if page.predictor == HORIZONTAL:
        return bits in (8, 16, 32, 64)
    return page.predictor == 1 or kind == FLOAT


def pages(bits: int, kind: int) -> Iterator[RawTiff]:
    for codec, predictor, byteorder, (
        samples,
        is_separate,
    ), fill_order, layout in itertools.product(
        CODECS,
        (1, HORIZONTAL, FLOATING_POINT),
        "<>",
        ((1, False), (3, False), (3, True)),
        (1, 2),
        ({"rows_per_strip": 5}, {"tile": (16, 16)}),
    ):
        yield RawTiff(
            width=21,
            height=13,
            bits=bits,
            sample_format=kind,
            samples=samples,
            byteorder=byteorder,
            is_separate=is_separate,
            compression=codec,
            predictor=predictor,
            fill_order=fill_order,
            **layout,
        )


def stored(page: RawTiff) -> bytes:
    segments = [noise_bytes(n, seed) for seed, n in enumerate(page.segment_sizes)]
    segments = [CODECS[page.compression](segment) for segment in segments]
    if page.fill_order == 2:
        segments = [with_bits_reversed(segment) for segment in segments]
    return page.build(segments)


def read(data: bytes) -> Array | CloudimgError:
    """What cloudimg reads, samples first as GDAL has them, or its error."""
    fsspec.filesystem("memory").pipe_file("/values/file.tif", data)
    try:
        image = cloudimg.open("memory://values/file.tif")
        pixels = image.read()
    except CloudimgError as exc:
        return exc
    return np.moveaxis(pixels, -1, 0) if "s" in image.dims else pixels.reshape(-1, *pixels.shape)


def read_by_gdal(data: bytes) -> Array | None:
    try:
        with rasterio.io.MemoryFile(data, ext=".tif") as file, file.open(driver="GTiff") as dataset:
            pixels: Array = dataset.read()
            return pixels
    except rasterio.errors.RasterioError:
        return None


def as_gdal(pixels: Array) -> Array:
    """GDAL has neither bits nor half floats; rasterio has no type for complex integers."""
    types: dict[Any, Any] = {np.bool_: np.uint8, np.float16: np.float32}
    return pixels.astype(types.get(pixels.dtype.type, pixels.dtype))


def differs(page: RawTiff, found: Array) -> str:
    """How pixels differ from GDAL's."""
    if page.sample_format == VOID:
        page = replace(page, sample_format=UNSIGNED)  # GDAL does not read all that have no format
    theirs = read_by_gdal(stored(page))
    if theirs is None:
        return "GDAL does not read it"
    if page.sample_format == COMPLEX_INTEGER:
        found = found.astype(theirs.dtype)
    return unequal(in_parts(as_gdal(found)), in_parts(theirs))


def in_parts(pixels: Array) -> Array:
    """Complex numbers as pairs of floats: NaN in one part is not NaN in the other."""
    is_complex = pixels.dtype.kind == "c"
    return np.ascontiguousarray(pixels).view(pixels.real.dtype) if is_complex else pixels


def problem(page: RawTiff) -> str:
    """What is wrong with how cloudimg reads a page; empty if nothing is."""
    data = stored(page)
    found = read(data)
    if not is_read(page):
        is_clear = isinstance(found, UnsupportedFormatError) and "not supported" in str(found)
        return "" if is_clear else f"not refused: {found!r:.200}"
    if isinstance(found, CloudimgError):
        return f"{type(found).__name__}: {found}"
    return differs(page, found)


@pytest.mark.long
@pytest.mark.parametrize("share", [40, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("bits", BITS)
def test_combinations(bits: int, kind: int, share: int) -> None:
    """A share of the 432 files of each length and format, others of each."""
    several = list(pages(bits, kind))
    rng = np.random.default_rng([bits, kind, share])
    chosen = rng.choice(len(several), len(several) // share, replace=False)
    problems = {str(several[i]): problem(several[i]) for i in chosen}
    assert not {page: text for page, text in problems.items() if text}


# What GDAL and tifffile write


def written_by_gdal(pixels: Array, **options: Any) -> bytes:
    height, width = pixels.shape[-2:]
    profile = {"driver": "GTiff", "count": len(pixels), "dtype": pixels.dtype.name, **options}
    with rasterio.io.MemoryFile(ext=".tif") as file:
        with file.open(height=height, width=width, **profile) as dataset:
            dataset.write(pixels)
        return bytes(file.read())


def noise(shape: tuple[int, ...], dtype: str) -> Array:
    rng = np.random.default_rng(2)
    if np.dtype(dtype).kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd"])
def test_complex_numbers_with_a_predictor(endianness: str, interleave: str, compress: str) -> None:
    pixels = noise((3, 13, 21), "complex64")
    options = {"endianness": endianness, "interleave": interleave, "compress": compress}
    data = written_by_gdal(pixels, predictor=2, **options)
    np.testing.assert_array_equal(read(data), pixels)


@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("predictor", [1, 3])
def test_short_floats(endianness: str, interleave: str, bits: int, predictor: int) -> None:
    pixels = noise((3, 13, 21), "float32")
    options = {"endianness": endianness, "interleave": interleave, "compress": "deflate"}
    data = written_by_gdal(pixels, nbits=bits, predictor=predictor, **options)
    found, theirs = read(data), read_by_gdal(data)
    assert isinstance(found, np.ndarray)
    assert theirs is not None
    np.testing.assert_array_equal(as_gdal(found), theirs)
    np.testing.assert_allclose(found, pixels, rtol=2.0**-10, atol=1e-4)


@pytest.mark.parametrize("predictor", [34894, 34895])
def test_predictors_of_dng(predictor: int) -> None:
    pixels = noise((13, 24), "float32")
    file = io.BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(file, pixels, predictor=predictor, **options)
    np.testing.assert_array_equal(read(file.getvalue()), pixels[None])


def test_webp_with_bits_reversed_is_as_in_libtiff() -> None:
    pixels = np.arange(3 * 16 * 16, dtype=np.uint8).reshape(16, 16, 3)
    encoded = imagecodecs.webp_encode(pixels, lossless=True)
    page = RawTiff(width=16, height=16, samples=3, compression=50001, fill_order=2)
    data = page.build([with_bits_reversed(encoded)])
    for found in (read(data), read_by_gdal(data)):
        np.testing.assert_array_equal(found, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("codec", [1, 8])
@pytest.mark.parametrize("is_separate", [False, True])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_integers_of_24_bits_by_graphicsmagick(
    byteorder: str, codec: int, is_separate: bool, fill_order: int
) -> None:
    """They have the byte order of the file, as integers of other lengths do."""
    page = RawTiff(
        width=21,
        height=13,
        bits=24,
        samples=3,
        byteorder=byteorder,
        compression=codec,
        is_separate=is_separate,
        rows_per_strip=5,
        fill_order=fill_order,
        tags={305: (ASCII, b"GraphicsMagick 1.4 Q32\0")},
    )
    segments = [noise_bytes(n, seed) for seed, n in enumerate(page.segment_sizes)]
    order: Any = "little" if byteorder == "<" else "big"
    stored = b"".join(segments)
    values = [int.from_bytes(stored[i : i + 3], order) for i in range(0, len(stored), 3)]
    shape = (3, 13, 21) if is_separate else (13, 21, 3)
    expected = np.array(values, np.uint32).reshape(shape)
    encoded = [CODECS[codec](segment) for segment in segments]
    if fill_order == 2:
        encoded = [with_bits_reversed(segment) for segment in encoded]
    found = read(page.build(encoded))
    np.testing.assert_array_equal(found, expected if is_separate else np.moveaxis(expected, -1, 0))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("tiled", [False, True])
def test_planes_of_rgb_as_jpeg(interleave: str, tiled: bool) -> None:
    """Planes are grey JPEGs, whatever PhotometricInterpretation says of all of them."""
    rows, columns = np.mgrid[:45, :50].astype(np.uint8)
    pixels = np.stack([rows, columns, rows + columns])
    options = {"compress": "jpeg", "photometric": "rgb", "blockxsize": 16, "blockysize": 16}
    data = written_by_gdal(pixels, interleave=interleave, tiled=tiled, **options)
    np.testing.assert_array_equal(read(data), read_by_gdal(data))


# What is refused


def refused(page: RawTiff, *segments: bytes) -> str:
    stored = segments or [noise_bytes(n, seed) for seed, n in enumerate(page.segment_sizes)]
    found = read(page.build(stored))
    assert isinstance(found, UnsupportedFormatError)
    return str(found)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("formats", [(1, 2, 1), (1, 1, 3), (3, 6)])
@pytest.mark.parametrize("is_separate", [False, True])
def test_different_formats_in_one_pixel(
    byteorder: str, formats: tuple[int, ...], is_separate: bool
) -> None:
    page = RawTiff(
        width=21,
        height=13,
        bits=64,
        sample_format=formats,
        samples=len(formats),
        byteorder=byteorder,
        is_separate=is_separate,
    )
    assert f"different formats {formats} in one pixel are not supported" in refused(page)


@pytest.mark.parametrize("bits", [(8, 8, 16), (8, 8, 8, 1), (4, 4, 8)])
@pytest.mark.parametrize("is_separate", [False, True])
def test_different_lengths_of_samples(bits: tuple[int, ...], is_separate: bool) -> None:
    options: dict[str, Any] = {"bits": bits, "samples": len(bits), "is_separate": is_separate}
    page = RawTiff(width=21, height=13, **options)
    assert f"integers of {bits} bits are not supported" in refused(page)


def test_packed_colours_are_read_where_tifffile_does() -> None:
    page = RawTiff(width=21, height=13, bits=(5, 6, 5), samples=3)
    data = page.build([noise_bytes(page.segment_sizes[0])])
    theirs = np.moveaxis(tifffile.imread(io.BytesIO(data)), -1, 0)
    np.testing.assert_array_equal(read(data), theirs)
    separate = replace(page, is_separate=True)
    assert "of (5, 6, 5) bits in separate planes are not supported" in refused(separate)
    for predictor in (2, 3, 34892, 9):
        predicted = replace(page, compression=8, predictor=predictor)
        assert f"with predictor {predictor} are not supported" in refused(predicted)


def test_big_endian_integers_of_24_bits() -> None:
    """GDAL stores their lowest byte first, others their highest."""
    page = RawTiff(width=21, height=13, bits=24, byteorder=">")
    assert "about whose order of bytes programs disagree, are not supported" in refused(page)


@pytest.mark.parametrize(
    ("codec", "encode"),
    [
        (50002, lambda pixels: imagecodecs.jpegxl_encode(pixels, lossless=True)),
        (34712, imagecodecs.jpeg2k_encode),
        (34933, imagecodecs.png_encode),
        (7, lambda pixels: imagecodecs.jpeg_encode(pixels, bitspersample=12)),
    ],
)
def test_a_codec_with_larger_samples_than_its_page(codec: int, encode: Callable[..., Any]) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    page = RawTiff(width=64, height=64, compression=codec, bits=16)
    assert not isinstance(read(page.build([encode(pixels)])), CloudimgError)
    found = read(replace(page, bits=8).build([encode(pixels)]))
    assert isinstance(found, CorruptFileError)
    assert "uint16" in str(found) or "12" in str(found)


@pytest.mark.parametrize(
    ("codec", "encode"),
    [
        (7, imagecodecs.jpeg_encode),
        (50001, lambda pixels: imagecodecs.webp_encode(np.stack([pixels] * 3, -1), lossless=True)),
        (50002, lambda pixels: imagecodecs.jpegxl_encode(pixels, lossless=True)),
        (34712, imagecodecs.jpeg2k_encode),
        (34933, imagecodecs.png_encode),
        (22610, lambda pixels: imagecodecs.jpegxr_encode(pixels, level=1.0)),
    ],
)
def test_bytes_where_a_page_has_bits(codec: int, encode: Callable[..., Any]) -> None:
    """As in a page without BitsPerSample, which has bits by default: they came as True."""
    pixels = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)
    data = RawTiff(width=64, height=64, compression=codec, bits=1).build([encode(pixels)])
    found = read(data)
    assert isinstance(found, CorruptFileError | UnsupportedFormatError)
    assert "of 1 bits (BitsPerSample is 1" in str(found) or "bool" in str(found)
    assert read_by_gdal(data) is None


def test_segments_of_old_style_jpeg_without_tables() -> None:
    page = RawTiff(width=16, height=16, samples=3, compression=6, photometric=6)
    assert "old-style JPEG (Compression 6) with tables outside" in refused(page, noise_bytes(99))


@pytest.mark.parametrize("name", ["zackthecat.tif", "662260-color.tif"])
def test_old_style_jpeg_of_others(corpus: Path, name: str) -> None:
    (path,) = (corpus / "files").rglob(name)
    found = read(path.read_bytes())
    assert isinstance(found, UnsupportedFormatError)
    assert "old-style JPEG" in str(found)


# YCbCr with less chroma


def in_units(pixels: Array, wide: int, high: int) -> bytes:
    """Y of blocks of pixels, each with its Cb and Cr (TIFF 6.0, section 21)."""
    height, width, _ = pixels.shape
    stored = bytearray()
    for y, x in itertools.product(range(0, height, high), range(0, width, wide)):
        for dy, dx in itertools.product(range(high), range(wide)):
            inside = y + dy < height and x + dx < width
            stored.append(int(pixels[y + dy, x + dx, 0]) if inside else 0)
        stored += bytes(pixels[y, x, 1:].tolist())
    return bytes(stored)


def with_less_chroma(height: int, width: int, wide: int, high: int) -> Array:
    rng = np.random.default_rng([wide, high])
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    for y, x in itertools.product(range(0, height, high), range(0, width, wide)):
        pixels[y : y + high, x : x + wide, 1:] = pixels[y, x, 1:]
    return pixels


@pytest.mark.parametrize("factors", [(4, 4), (4, 2), (4, 1), (2, 2), (2, 1), (1, 2)])
@pytest.mark.parametrize("codec", [1, 5, 8, PACKBITS])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("byteorder", "<>")
def test_chroma_of_less_resolution(
    factors: tuple[int, int], codec: int, layout: str, byteorder: str
) -> None:
    height, width = 27, 32 if layout == "tiles" else 37
    pixels = with_less_chroma(height, width, *factors)
    parts = [pixels[y : y + 8] for y in range(0, height, 8)]
    page = RawTiff(
        width=width,
        height=height,
        samples=3,
        photometric=6,
        compression=codec,
        byteorder=byteorder,
        rows_per_strip=8,
        tags={530: (SHORT, factors)},
    )
    if layout == "tiles":
        page = replace(page, rows_per_strip=None, tile=(16, 16))
        whole = np.pad(pixels, ((0, 5), (0, 0), (0, 0)), mode="edge")
        corners = itertools.product((0, 16), (0, 16))
        parts = [whole[y : y + 16, x : x + 16] for y, x in corners]
    data = page.build([CODECS[codec](in_units(part, *factors)) for part in parts])
    found = read(data)
    np.testing.assert_array_equal(found, np.moveaxis(pixels, -1, 0))
    if (codec, layout) == (1, "tiles"):
        return  # libtiff expects tiles of another size than it writes
    theirs = read_by_gdal(data)  # RGB
    assert theirs is not None
    y, cb, cr = np.moveaxis(pixels.astype(float) - (0, 128, 128), -1, 0)
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    assert np.abs(rgb.clip(0, 255) - theirs[:3]).max() < 1.01


@pytest.mark.parametrize("codec", [1, 8])
def test_subsampling_means_nothing_for_other_samples_than_ycbcr(codec: int) -> None:
    page = RawTiff(width=21, height=13, samples=3, compression=codec, tags={530: (SHORT, (2, 2))})
    data = page.build([CODECS[codec](noise_bytes(n)) for n in page.segment_sizes])
    theirs = read_by_gdal(data)
    assert theirs is not None
    np.testing.assert_array_equal(read(data), theirs)


@pytest.mark.parametrize("options", [{"is_separate": True}, {"tags": {530: (SHORT, (1, 4))}}])
def test_chroma_that_libtiff_does_not_expand(options: dict[str, Any]) -> None:
    page = RawTiff(width=24, height=16, samples=3, photometric=6, compression=8, **options)
    assert "subsampled chroma and without JPEG are not supported" in refused(page)
