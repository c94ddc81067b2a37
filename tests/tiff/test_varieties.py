"""Every layout and codec that tests can write, compared with tifffile reading the whole file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudimg
from tests.support import seed
from tests.support.metering import Meter

Array = npt.NDArray[Any]


def noise(shape: tuple[int, ...], dtype: str) -> Array:
    """Blocky noise: compressible, and different everywhere."""
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if np.dtype(dtype).kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def check(meter: Meter, bucket: str, data: bytes, *regions: Any, **options: Any) -> cloudimg.Image:
    """Read the whole image and regions by ranges, and compare with tifffile."""
    meter.put(bucket, "dir/file.tif", data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        expected = tiff.series[0].asarray()
    image = cloudimg.open(
        f"s3://{bucket}/dir/file.tif", storage_options=meter.storage_options, **options
    )
    if "s" in image.dims and expected.shape != image.shape:
        expected = np.moveaxis(expected, -3, -1)  # planar samples: s comes last with us
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.read(), expected)
    for region in regions:
        np.testing.assert_array_equal(image.read(region), expected[region])
    return image


PARTS = (
    (Ellipsis, slice(3, 41), slice(5, 50)),
    (Ellipsis, slice(None, None, 7), slice(60, 2, -9)),
    (Ellipsis, 36, slice(None)),
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {"rowsperstrip": 61},
    "strips, the last one short": {"rowsperstrip": 8},
    "rows": {"rowsperstrip": 1},
    "tiles": {"tile": (16, 32)},
    "one tile larger than the image": {"tile": (128, 128)},
}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "codec",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd"},
    ],
    ids=str,
)
def test_layouts_codecs_byte_orders(
    meter: Meter, bucket: str, byteorder: Any, bigtiff: bool, layout: str, codec: dict[str, Any]
) -> None:
    pixels = noise((61, 77), "uint16")
    data = seed.encode(pixels, byteorder=byteorder, bigtiff=bigtiff, **LAYOUTS[layout], **codec)
    check(meter, bucket, data, *PARTS)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"],
)
@pytest.mark.parametrize("codec", [{}, {"compression": "zlib"}], ids=str)
def test_dtypes(meter: Meter, bucket: str, dtype: str, codec: dict[str, Any]) -> None:
    pixels = noise((61, 77), np.dtype(dtype).name)
    check(meter, bucket, seed.encode(pixels, rowsperstrip=10, **codec), *PARTS)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floating_point_predictor(meter: Meter, bucket: str, dtype: str) -> None:
    pixels = noise((61, 77), np.dtype(dtype).name)
    data = seed.encode(pixels, rowsperstrip=10, predictor=3, compression="zlib")
    check(meter, bucket, data, *PARTS)


@pytest.mark.parametrize("predictor", [2, 3])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_predictor_without_compression_means_nothing(
    meter: Meter, bucket: str, byteorder: Any, layout: str, predictor: int
) -> None:
    """The tag is added to a file that tifffile wrote; libtiff, and so GDAL, ignores it."""
    pixels = noise((64, 96), "uint16")
    extra = [(65317, 3, 1, predictor, True)]
    data = bytearray(seed.encode(pixels, byteorder=byteorder, extratags=extra, **LAYOUTS[layout]))
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        at = tiff.pages.first.tags[65317].offset
    data[at : at + 2] = (317).to_bytes(2, "little" if byteorder == "<" else "big")
    meter.put(bucket, "file.tif", bytes(data))
    image = cloudimg.open(f"s3://{bucket}/file.tif", storage_options=meter.storage_options)
    for region in (..., *PARTS):
        np.testing.assert_array_equal(
            image.read((region,) if region is ... else region), pixels[region]
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_packed_bits(meter: Meter, bucket: str, bits: int) -> None:
    """tifffile does not write packed integers, so the file is built by hand: one strip."""
    width, height = 77, 31
    values = np.random.default_rng(4).integers(0, 2**bits, (height, width), np.uint16)
    rows = b""
    for row in values:
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += int(text, 2).to_bytes(len(text) // 8, "big")
    entries = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(rows)),
    ]
    header = b"II*\0" + (8 + len(rows)).to_bytes(4, "little")
    directory = len(entries).to_bytes(2, "little")
    for tag, kind, value in entries:
        directory += tag.to_bytes(2, "little") + kind.to_bytes(2, "little")
        directory += (1).to_bytes(4, "little") + value.to_bytes(4, "little")
    data = header + rows + directory + bytes(4)
    image = check(meter, bucket, data, (slice(3, 9), slice(None, None, 5)))
    np.testing.assert_array_equal(image.read(), values)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour_samples_come_last(
    meter: Meter, bucket: str, planarconfig: str, layout: str, compression: str | None
) -> None:
    pixels = noise((61, 77, 3), "uint8")
    stored = pixels if planarconfig == "contig" else np.moveaxis(pixels, -1, 0)
    data = seed.encode(
        stored,
        photometric="rgb",
        planarconfig=planarconfig,
        compression=compression,
        **LAYOUTS[layout],
    )
    image = check(meter, bucket, data)
    assert image.dims == ("y", "x", "s")
    np.testing.assert_array_equal(image.read(), pixels)
    np.testing.assert_array_equal(image.read({"s": 1, "y": slice(5, 9)}), pixels[5:9, :, 1])


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpegxl", "webp", "lerc", "png"])
def test_image_codecs(meter: Meter, bucket: str, compression: str) -> None:
    y, x = np.mgrid[:96, :80]
    pixels = np.stack([y * 2, x * 2, x + y], -1).astype(np.uint8)
    data = seed.encode(pixels, photometric="rgb", tile=(32, 32), compression=compression)
    check(meter, bucket, data, *[(p[1], p[2]) for p in PARTS])


@pytest.mark.parametrize(
    ("compression", "contiguous"), [(None, True), (None, False), ("zlib", False)]
)
def test_pages_without_a_name(
    meter: Meter, bucket: str, compression: str | None, contiguous: bool
) -> None:
    pixels = noise((5, 61, 77), "uint16")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pixels:
            writer.write(
                page,
                photometric="minisblack",
                compression=compression,
                metadata=None,
                contiguous=contiguous,
                rowsperstrip=20,
            )
    image = check(meter, bucket, file.getvalue(), (slice(1, 4), slice(3, 9)), (3,))
    assert image.dims == ("page", "y", "x")
    renamed = check(meter, bucket, file.getvalue(), axes={"page": "t"})
    assert renamed.dims == ("t", "y", "x")


def test_three_planes_written_as_pages_are_pages_not_samples(meter: Meter, bucket: str) -> None:
    pixels = noise((3, 61, 77), "uint16")
    image = check(meter, bucket, seed.encode(pixels))
    assert image.dims == ("page", "y", "x")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstack(meter: Meter, bucket: str, compression: str | None) -> None:
    pixels = noise((2, 3, 4, 32, 40), "uint16")
    data = seed.encode(
        pixels,
        imagej=True,
        compression=compression,
        resolution=(1 / 0.25, 1 / 0.25),
        metadata={"axes": "TZCYX", "spacing": 1.5, "unit": "um", "finterval": 30.0},
    )
    meter.put(bucket, "file.tif", data)
    image = cloudimg.open(f"s3://{bucket}/file.tif", storage_options=meter.storage_options)
    assert image.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(image.read(), np.moveaxis(pixels, 2, 1))
    np.testing.assert_array_equal(image.read({"t": 1, "c": 2, "z": 0}), pixels[1, 0, 2])
    assert image.attrs["pixel_size"] == pytest.approx({"x": 0.25, "y": 0.25, "z": 1.5})
    assert image.attrs["pixel_size_unit"] == {"x": "µm", "y": "µm", "z": "µm"}
    assert image.attrs["time_step_s"] == 30.0


def test_ome_axes_sizes_and_channels(meter: Meter, bucket: str) -> None:
    pixels = noise((3, 2, 32, 40), "uint16")
    data = seed.encode(
        pixels,
        ome=True,
        tile=(16, 16),
        metadata={
            "axes": "ZCYX",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.6,
            "Channel": {"Name": ["DAPI", "GFP"]},
        },
    )
    meter.put(bucket, "file.ome.tif", data)
    image = cloudimg.open(f"s3://{bucket}/file.ome.tif", storage_options=meter.storage_options)
    assert image.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(image.read(), np.moveaxis(pixels, 1, 0))
    assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.6}
    assert image.attrs["pixel_size_unit"] == {"x": "nm", "y": "µm"}
    assert image.attrs["channel_names"] == ["DAPI", "GFP"]
    assert list(image.coords["c"]) == ["DAPI", "GFP"]


def test_levels_of_a_pyramid(meter: Meter, bucket: str) -> None:
    pixels = noise((256, 320), "uint8")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        options: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack"}
        writer.write(pixels, subifds=2, **options)
        writer.write(pixels[::2, ::2], subfiletype=1, **options)
        writer.write(pixels[::4, ::4], subfiletype=1, **options)
    meter.put(bucket, "pyramid.tif", file.getvalue())
    image = cloudimg.open(f"s3://{bucket}/pyramid.tif", storage_options=meter.storage_options)
    assert [level.shape for level in image.levels] == [(256, 320), (128, 160), (64, 80)]
    assert image.levels[2].downsampling == (4.0, 4.0)
    for level in range(3):
        expected = pixels[:: 2**level, :: 2**level]
        np.testing.assert_array_equal(image.read(level=level), expected)
        lazy = cloudimg.imread(
            f"s3://{bucket}/pyramid.tif", level=level, storage_options=meter.storage_options
        )
        np.testing.assert_array_equal(lazy.compute(), expected)
    with pytest.raises(cloudimg.errors.ArgumentError, match="3 levels"):
        image.read(level=3)


def test_sparse_tiles_are_fill_without_a_request(meter: Meter, bucket: str) -> None:
    pixels = np.zeros((64, 64), np.uint16)
    pixels[:16, :16] = 7
    data = bytearray(seed.encode(pixels, tile=(16, 16)))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        tags = tiff.pages.first.tags
        counts = tags["TileByteCounts"]
        offsets = tags["TileOffsets"]
        for tag in (counts, offsets):
            width = {3: 2, 4: 4}[int(tag.dtype)]
            # All but the first tile.
            begin = tag.valueoffset + width
            data[begin : begin + 15 * width] = bytes(15 * width)
    meter.put(bucket, "sparse.tif", bytes(data))
    image = cloudimg.open(f"s3://{bucket}/sparse.tif", storage_options=meter.storage_options)
    with meter.measure() as traffic:
        np.testing.assert_array_equal(image.read((slice(16, 64), slice(None))), pixels[16:])
    assert not traffic.requests
    check(meter, bucket, bytes(data))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_region_of_any_layout(data: st.DataObject) -> None:
    """Strips, tiles, planes; regions with steps, from a file in memory."""
    import fsspec

    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 70)))
    samples = data.draw(st.sampled_from([1, 3]))
    planar = data.draw(st.sampled_from(["contig", "separate"]))
    options: dict[str, Any] = {}
    layout = data.draw(st.sampled_from(["tile", "strip"]))
    if layout == "tile":
        options["tile"] = data.draw(st.tuples(*[st.sampled_from([16, 32, 48])] * 2))
    else:
        options["rowsperstrip"] = data.draw(st.integers(1, 80))
    options["compression"] = data.draw(st.sampled_from([None, "zlib", "packbits"]))
    pixels = noise((*shape, samples) if samples > 1 else shape, "uint8")
    stored = pixels
    if samples > 1:
        options |= {"photometric": "rgb", "planarconfig": planar}
        if planar == "separate":
            stored = np.moveaxis(pixels, -1, 1)
    fsspec.filesystem("memory").pipe_file("/any/file.tif", seed.encode(stored, **options))
    image = cloudimg.open("memory://any/file.tif")
    pixels = pixels.reshape(image.shape)
    index = tuple(
        data.draw(
            st.one_of(
                st.integers(-n, n - 1),
                st.slices(n),
            )
        )
        for n in image.shape
    )
    np.testing.assert_array_equal(image.read(index), pixels[index])
