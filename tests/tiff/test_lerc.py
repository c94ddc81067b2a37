"""LERC in TIFF, compared with GDAL: masks of invalid pixels, bands, versions, what wraps it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.io
import tifffile
from rasterio.enums import ColorInterp

import cloudimg
from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from tests.support.raw_tiff import ASCII, RawTiff

Array = npt.NDArray[Any]

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

LERC = 34887
HEIGHT, WIDTH = 45, 70


def read(data: bytes) -> Array:
    """What cloudimg reads, samples first as GDAL has them."""
    fsspec.filesystem("memory").pipe_file("/lerc/file.tif", data)
    image = cloudimg.open("memory://lerc/file.tif")
    pixels = image.read()
    return np.moveaxis(pixels, -1, 0) if "s" in image.dims else pixels[None]


def read_by_gdal(data: bytes) -> Array:
    with rasterio.io.MemoryFile(data, ext=".tif") as file, file.open(driver="GTiff") as dataset:
        pixels: Array = dataset.read()
        return pixels


def written_by_gdal(pixels: Array, *, interpretation: Sequence[Any] = (), **options: Any) -> bytes:
    options = {"driver": "GTiff", "compress": "LERC", "max_z_error": 0, **options}
    profile = {"count": len(pixels), "dtype": pixels.dtype.name}
    height, width = pixels.shape[1:]
    with rasterio.io.MemoryFile(ext=".tif") as file:
        with file.open(height=height, width=width, **profile, **options) as dataset:
            if interpretation:
                dataset.colorinterp = interpretation
            dataset.write(pixels)
        return bytes(file.read())


def noise(n_bands: int, dtype: str, seed: int = 5) -> Array:
    rng = np.random.default_rng(seed)
    shape = (n_bands, HEIGHT, WIDTH)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def with_nans(pixels: Array, where: str) -> Array:
    rng = np.random.default_rng(6)
    pixels = pixels.copy()
    holes = rng.random(pixels.shape) < 0.3
    match where:
        case "in the same places of all bands":
            pixels[:, holes[0]] = np.nan
        case "in other places of each band":
            pixels[holes] = np.nan
        case "in the second band":
            pixels[-1, holes[0]] = np.nan
        case "everywhere":
            pixels[:] = np.nan
        case "in some tiles":
            pixels[:, 20:, 3:20] = np.nan
    return pixels


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("compress", ["LERC", "LERC_DEFLATE", "LERC_ZSTD"])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "where",
    [
        "nowhere",
        "in the same places of all bands",
        "in other places of each band",
        "in the second band",
        "everywhere",
        "in some tiles",
    ],
)
def test_nan_in_any_band(
    compress: str, layout: str, interleave: str, dtype: str, where: str
) -> None:
    options: dict[str, Any] = {"compress": compress, "interleave": interleave, "blockysize": 16}
    if layout == "tiles":
        options |= {"tiled": True, "blockxsize": 32}
    for n_bands in (1, 2, 3, 4):
        pixels = with_nans(noise(n_bands, dtype), where)
        data = written_by_gdal(pixels, **options)
        found = read(data)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, pixels)
        np.testing.assert_array_equal(found, read_by_gdal(data))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int8", "uint16", "int32"])
@pytest.mark.parametrize("error", [0, 0.01, 2])
def test_lossy(dtype: str, error: float) -> None:
    pixels = noise(3, dtype)
    if pixels.dtype.kind == "f":
        pixels = with_nans(pixels, "in other places of each band")
    data = written_by_gdal(pixels, max_z_error=error, interleave="pixel", blockysize=16)
    found = read(data)
    np.testing.assert_array_equal(found, read_by_gdal(data))
    if error == 0:
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("n_bands", [2, 4])
@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("compress", ["LERC", "LERC_ZSTD"])
def test_alpha(is_binary: bool, n_bands: int, tiled: bool, compress: str) -> None:
    """GDAL stores an alpha sample of 0 and 255 as a mask."""
    pixels = noise(n_bands, "uint8")
    if is_binary:
        pixels[-1] = np.where(pixels[-1] > 99, 255, 0)
        pixels[-1, :20] = 255  # segments without a mask
    names = (ColorInterp.gray, ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    options: dict[str, Any] = {"photometric": "RGB" if n_bands == 4 else "MINISBLACK"}
    options |= {"blockxsize": 16, "blockysize": 16} if tiled else {"blockysize": 20}
    data = written_by_gdal(
        pixels,
        interpretation=(*(names[1:] if n_bands == 4 else names[:1]), ColorInterp.alpha),
        alpha="YES",
        interleave="pixel",
        compress=compress,
        tiled=tiled,
        **options,
    )
    found, theirs = read(data), read_by_gdal(data)
    np.testing.assert_array_equal(found, theirs)
    np.testing.assert_array_equal(found[-1], pixels[-1])


# Files that GDAL does not write


def raw(dtype: str, blobs: Sequence[bytes], samples: int = 1, **options: Any) -> bytes:
    kind = {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
    options = {"rows_per_strip": 16, "compression": LERC, **options}
    bits = 8 * np.dtype(dtype).itemsize
    page = RawTiff(
        width=WIDTH, height=HEIGHT, bits=bits, sample_format=kind, samples=samples, **options
    )
    return page.build(blobs)


def strips(pixels: Array) -> list[Array]:
    return [pixels[y : y + 16] for y in range(0, HEIGHT, 16)]


def encoded(pixels: Array, masks: Array | None = None, **options: Any) -> list[bytes]:
    parts = [None] * len(strips(pixels)) if masks is None else strips(masks)
    return [
        bytes(imagecodecs.lerc_encode(np.ascontiguousarray(p), level=0, masks=m, **options))
        for p, m in zip(strips(pixels), parts, strict=True)
    ]


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_versions(version: int, dtype: str) -> None:
    pixels = noise(1, dtype)[0]
    data = raw(dtype, encoded(pixels, version=version))
    found = read(data)
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found, read_by_gdal(data))


@pytest.mark.parametrize("samples", [1, 3])
def test_mask_of_integers_is_nodata(samples: int) -> None:
    pixels = noise(1, "int16")[0] if samples == 1 else np.moveaxis(noise(3, "int16"), 0, -1)
    mask = np.random.default_rng(8).random((HEIGHT, WIDTH)) < 0.7
    data = raw("int16", encoded(pixels, mask), samples, tags={42113: (ASCII, b"-9999\0")})
    expected = np.where(mask if samples == 1 else mask[..., None], pixels, -9999)
    expected = expected[None] if samples == 1 else np.moveaxis(expected, -1, 0)
    np.testing.assert_array_equal(read(data), expected)


@pytest.mark.parametrize("nodata", [None, b"nan\0", b"70000\0", b"none\0"])
def test_mask_of_integers_without_a_value_is_refused(nodata: bytes | None) -> None:
    pixels, mask = noise(1, "uint16")[0], np.ones((HEIGHT, WIDTH), bool)
    mask[40, 3] = False
    tags = {} if nodata is None else {42113: (ASCII, nodata)}
    data = raw("uint16", encoded(pixels, mask), tags=tags)
    with pytest.raises(UnsupportedFormatError, match=r"invalid.*no nodata.*not supported"):
        read(data)
    mask[40, 3] = True
    whole = raw("uint16", encoded(pixels, mask), tags=tags)
    np.testing.assert_array_equal(read(whole)[0], pixels)


def test_nodata_value_of_the_blob_is_refused() -> None:
    """LERC 6 may mark single samples as invalid; neither libtiff nor imagecodecs reads that."""
    pixels = np.moveaxis(noise(2, "float32"), 0, -1)
    blobs = [bytearray(blob) for blob in encoded(pixels, version=6)]
    for blob in blobs:
        blob[14 + 8 * 4] = True  # bPassNoDataValues of Lerc2.h, after eight integers
    with pytest.raises(UnsupportedFormatError, match=r"LERC .* not supported"):
        read(raw("float32", [bytes(blob) for blob in blobs], 2))


def test_one_mask_for_bands_that_follow_each_other() -> None:
    pixels = noise(3, "float32")
    mask = np.random.default_rng(8).random((HEIGHT, WIDTH)) < 0.7
    blobs = [
        imagecodecs.lerc_encode(
            np.ascontiguousarray(pixels[:, y : y + 16]),
            level=0,
            planar=True,
            masks=np.ascontiguousarray(mask[y : y + 16]),
        )
        for y in range(0, HEIGHT, 16)
    ]
    found = read(raw("float32", blobs, 3))
    np.testing.assert_array_equal(found, np.where(mask, pixels, np.nan))


def test_sizes_that_equal_each_other_are_not_confused() -> None:
    """Three bands of strips of three rows and three columns."""
    rng = np.random.default_rng(9)
    pixels = rng.normal(size=(3, 3, 3)).astype(np.float32)
    pixels[0, 1, 2] = pixels[2, 0, 0] = np.nan
    data = written_by_gdal(pixels, interleave="pixel")
    np.testing.assert_array_equal(read(data), pixels)
    pixels = np.nan_to_num(pixels)
    np.testing.assert_array_equal(read(written_by_gdal(pixels, interleave="pixel")), pixels)


def test_volume_in_tiles() -> None:
    pixels = np.random.default_rng(9).normal(size=(5, 40, 48)).astype(np.float32)
    file = io.BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "lerc"}
    tifffile.imwrite(file, pixels, tile=(2, 32, 32), volumetric=True, **options)
    fsspec.filesystem("memory").pipe_file("/lerc/file.tif", file.getvalue())
    np.testing.assert_array_equal(cloudimg.open("memory://lerc/file.tif").read(), pixels)


def first_version(pixels: Array) -> bytes:
    """LERC 1 (CntZImage) of valid pixels as plain floats, in one tile."""
    height, width = pixels.shape
    head = b"CntZImage " + struct.pack("<4id", 11, 8, height, width, 0.0)
    counts = struct.pack("<3if", 0, 0, 0, 1.0)
    values = b"\0" + pixels.astype("<f4").tobytes()
    return head + counts + struct.pack("<3if", 1, 1, len(values), pixels.max()) + values


def test_first_version() -> None:
    pixels = noise(1, "float32")[0]
    data = raw("float32", [first_version(strip) for strip in strips(pixels)])
    found = read(data)
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found, read_by_gdal(data))


def test_fill_order_and_predictor_are_as_in_libtiff() -> None:
    pixels = noise(1, "uint8")[0]
    blobs = encoded(pixels)
    reverse = [imagecodecs.bitorder_encode(blob) for blob in blobs]
    for data in (raw("uint8", reverse, fill_order=2), raw("uint8", blobs, predictor=2)):
        np.testing.assert_array_equal(read(data)[0], pixels)
        np.testing.assert_array_equal(read_by_gdal(data)[0], pixels)


def test_blobs_that_are_not_the_segment_are_refused() -> None:
    pixels = noise(1, "uint8")[0]
    blobs = encoded(pixels)
    wrong = {
        "10 rows": imagecodecs.lerc_encode(np.ascontiguousarray(pixels[:10]), level=0),
        "type uint16": imagecodecs.lerc_encode(pixels[:16].astype(np.uint16), level=0),
        "2 samples": blobs[0] + blobs[0],
        "not LERC|zlib|Zlib": b"nothing of the kind",
        "LERC of|Lerc": blobs[0][:-7],
        "LERC": b"Lerc2 ",
        "declares 0 bytes": blobs[0][:34] + bytes(4) + blobs[0][38:],
    }
    for name, blob in wrong.items():
        with pytest.raises(CorruptFileError, match=name):
            read(raw("uint8", [blob, *blobs[1:]]))


def test_deflate_bomb_around_a_blob_is_not_unpacked() -> None:
    pixels = noise(1, "uint8")[0]
    blobs = encoded(pixels)
    bomb = zlib.compress(blobs[0] + bytes(2**24), 9)
    with pytest.raises(CorruptFileError, match="Zlib"):
        read(raw("uint8", [bomb, *blobs[1:]]))


def test_regions_and_stored_fill() -> None:
    pixels = with_nans(noise(2, "float32"), "in other places of each band")
    pixels[:, :32, :32] = np.nan
    data = written_by_gdal(
        pixels,
        interleave="pixel",
        tiled=True,
        blockxsize=32,
        blockysize=32,
        sparse_ok=True,
        nodata=np.nan,
    )
    fsspec.filesystem("memory").pipe_file("/lerc/file.tif", data)
    image = cloudimg.open("memory://lerc/file.tif")
    for region in ((slice(3, 40), slice(60, 2, -9)), (36,), (slice(None), 33)):
        np.testing.assert_array_equal(image.read(region), np.moveaxis(pixels, 0, -1)[region])


# Files of others


def test_reports(corpus: Path) -> None:
    paths = sorted((corpus / "reports/lerc-mask").glob("*.tif"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        np.testing.assert_array_equal(read(data), read_by_gdal(data), err_msg=path.name)


def test_migration_keeps_invalid_pixels(tmp_path: Path) -> None:
    pixels = with_nans(noise(2, "float32"), "in other places of each band")
    source = tmp_path / "image.tif"
    source.write_bytes(written_by_gdal(pixels, interleave="pixel"))
    target = tmp_path / "copy.ome.zarr"
    cloudimg.migrate(str(source), str(target))
    assert cloudimg.verify(str(target), against_source=True)
    import zarr

    copied = np.asarray(zarr.open_array(str(target / "0"), mode="r")).squeeze()
    np.testing.assert_array_equal(copied, pixels)
