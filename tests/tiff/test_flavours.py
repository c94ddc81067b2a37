"""Varieties of TIFF that the corpus of real files lacks; the tests make their files.

Each is read whole, by regions and at every level, from a local file and through S3, and compared
bit for bit with tifffile's reading of the whole file.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image as Pillow
from rasterio.enums import Resampling
from rasterio.io import MemoryFile

import cloudimg
from tests.support import seed
from tests.support.flavours import (
    ASCII,
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    Picture,
    Tag,
    ascii_tag,
    assemble,
    picture,
)
from tests.support.metering import Meter

Array = npt.NDArray[Any]

NAMES = {"S": "s", "I": "page", "Q": "page"}
GIB = 2**30
PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
"""A transform, without which rasterio warns."""


def noise(shape: Sequence[int], dtype: npt.DTypeLike, bits: int | None = None) -> Array:
    """Random pixels, different everywhere."""
    rng = np.random.default_rng(3)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    if kind.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(kind)
    return rng.integers(0, 2 ** (bits or 8 * kind.itemsize), shape, kind)


def smooth(height: int, width: int) -> Array:
    """Smooth colours for lossy codecs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 200 // height, x * 200 // width, (x + y) % 251], -1).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Shelves:
    """The two locations of a test file: a local folder and a bucket."""

    meter: Meter
    bucket: str
    folder: Path

    def open(self, data: bytes, name: str = "file.tif", **options: Any) -> list[cloudimg.Image]:
        """The image as a local file and as an object."""
        path = self.folder / name
        path.write_bytes(data)
        self.meter.put(self.bucket, name, data)
        url = f"s3://{self.bucket}/{name}"
        return [
            cloudimg.open(path, **options),
            cloudimg.open(url, storage_options=self.meter.storage_options, **options),
        ]

    def check(
        self, data: bytes, *, name: str = "file.tif", series: int = 0, **options: Any
    ) -> cloudimg.Image:
        """Compare all levels with tifffile's reading; returns the image in S3."""
        expected = whole(data, series, name)
        images = self.open(data, name, series=series, **options)
        for image in images:
            assert len(image.levels) == len(expected)
            for level, (axes, pixels) in enumerate(expected):
                names = [NAMES.get(axis, axis.lower()) for axis in axes]
                assert sorted(names) == sorted(image.dims)
                check_level(image, level, pixels.transpose([names.index(d) for d in image.dims]))
        return images[-1]


@pytest.fixture
def shelves(meter: Meter, bucket: str, tmp_path: Path) -> Shelves:
    return Shelves(meter, bucket, tmp_path)


def whole(data: bytes, series: int, name: str) -> list[tuple[str, Array]]:
    """Axes and pixels of every level, read by tifffile, which may detect the format by `name`."""
    with tifffile.TiffFile(io.BytesIO(data), name=name) as tiff:
        return [(level.axes, level.asarray()) for level in tiff.series[series].levels]


def check_level(image: cloudimg.Image, level: int, expected: Array) -> None:
    assert image.levels[level].shape == expected.shape
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.read(level=level), expected)
    lazy = image.to_dask(level=level)
    for region in regions(expected.shape):
        np.testing.assert_array_equal(image.read(region, level=level), expected[region])
        np.testing.assert_array_equal(lazy[region].compute(), expected[region])


def regions(shape: Sequence[int]) -> list[tuple[slice, ...]]:
    """A window, a window with steps, and the last pixel."""
    return [
        tuple(slice(n // 5, max(1, n - n // 7)) for n in shape),
        tuple(slice(n // 9, n, max(1, n // 11)) for n in shape),
        tuple(slice(n - 1, None) for n in shape),
    ]


# Files beyond 4 GiB, with holes


def write_sparse(path: Path, head: bytes, size_bytes: int, planes: dict[int, Array]) -> None:
    """Write a file with holes; `planes` are by offset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        os.truncate(file.fileno(), size_bytes)
        for offset, plane in planes.items():
            os.pwrite(file.fileno(), plane.tobytes(), offset)


def check_planes(image: cloudimg.Image, planes: dict[int, Array], outer: Sequence[int]) -> None:
    """Compare whole planes, and a window with steps in each."""
    for number, plane in planes.items():
        index = tuple(int(i) for i in np.unravel_index(number, outer))
        np.testing.assert_array_equal(image.read(index), plane)
        window = (slice(700, 900), slice(5, 1900, 17))
        np.testing.assert_array_equal(image.read((*index, *window)), plane[window])


def check_large(path: Path, planes: dict[int, Array], dims: str, outer: Sequence[int]) -> None:
    """Read from disk and through S3; the test server maps the file into memory."""
    with Meter.start(root=path.parent.parent) as meter:
        url = f"s3://{path.parent.name}/{path.name}"
        for image in (
            cloudimg.open(path),
            cloudimg.open(url, storage_options=meter.storage_options),
        ):
            assert image.dims == tuple(dims)
            assert image.shape == (*outer, 2048, 2048)
            check_planes(image, planes, outer)


def some_planes(*numbers: int) -> dict[int, Array]:
    return {number: noise((2048, 2048), "u2") ^ np.uint16(number) for number in numbers}


def test_an_imagej_hyperstack_beyond_4_gib(tmp_path: Path) -> None:
    """One IFD and then 600 planes, whose number only ImageJ's description gives."""
    n_planes, plane_bytes = 600, 2048 * 2048 * 2
    description = "ImageJ=1.54f\nimages=600\nchannels=2\nslices=3\nframes=100\nhyperstack=true\n"
    head = picture(
        np.zeros((2048, 2048), ">u2"),
        (),
        t270=ascii_tag(description + "mode=grayscale\nloop=false\n"),
        t273=4096,
        t279=plane_bytes,
    )
    planes = some_planes(0, 255, 511, 513, 599)
    offsets = {4096 + number * plane_bytes: plane.astype(">u2") for number, plane in planes.items()}
    path = tmp_path / "root" / "bucket" / "hyper.tif"
    write_sparse(path, assemble([head], order=">").data, 4096 + n_planes * plane_bytes, offsets)
    assert path.stat().st_size > 4.5 * GIB
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].shape == (100, 3, 2, 2048, 2048)
    # Planes are stored as t z c; cloudimg puts c before z.
    by_dims = {}
    for number, plane in planes.items():
        t, z, c = np.unravel_index(number, (100, 3, 2))
        by_dims[int(np.ravel_multi_index((t, c, z), (100, 2, 3)))] = plane
    check_large(path, by_dims, "tczyx", (100, 2, 3))


def lsm_info(n_times: int, shape: tuple[int, ...], scan_type: int) -> Tag:
    """CZ_LSMINFO of an image of this shape in z, channels, y and x."""
    info = np.zeros(1, np.dtype(tifffile.TIFF.CZ_LSMINFO))
    info["MagicNumber"], info["StructureSize"] = 67127628, info.itemsize
    for axis, length in zip(("Z", "Channels", "Y", "X"), shape, strict=True):
        info[f"Dimension{axis}"] = length
    info["DimensionTime"], info["ScanType"], info["DataType"] = n_times, scan_type, 2
    info["VoxelSizeX"] = info["VoxelSizeY"] = info["VoxelSizeZ"] = 1e-6
    return Tag(BYTE, info.tobytes())


def lsm_pictures(n_times: int, begin: int, stride: int) -> list[Picture]:
    """Alternating planes and thumbnails, offsets cut to 32 bits, as Zeiss writes them."""
    pictures = []
    full, small = np.zeros((2048, 2048), "u2"), np.zeros((32, 32), "u2")
    for t in range(n_times):
        at = begin + t * stride
        more = {"t34412": lsm_info(n_times, (1, 1, 2048, 2048), 3)} if t == 0 else {}
        for page, offset, reduced in ((full, at, 0), (small, at + full.nbytes, 1)):
            cut = {"t273": offset % 2**32, "t279": page.nbytes, "t254": reduced}
            pictures.append(picture(page, (), **cut, **({} if reduced else more)))
    return pictures


def test_an_lsm_file_beyond_4_gib(tmp_path: Path) -> None:
    n_times, begin, stride = 560, 512 * 1024, 2048 * 2048 * 2 + 32 * 32 * 2
    head = assemble(lsm_pictures(n_times, begin, stride)).data
    assert len(head) < begin
    planes = some_planes(0, 300, 511, 512, 559)
    offsets = {begin + t * stride: plane for t, plane in planes.items()}
    path = tmp_path / "root" / "bucket" / "large.lsm"
    write_sparse(path, head, begin + n_times * stride, offsets)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "TYX"
        for t, plane in planes.items():
            np.testing.assert_array_equal(tiff.series[0].pages[t].asarray(), plane)
    check_large(path, planes, "tyx", (n_times,))


@pytest.mark.parametrize("compressed", [False, True])
def test_lsm_channels(shelves: Shelves, compressed: bool) -> None:
    """Byte counts are those before compression, and thumbnails lie between the planes."""
    channels, stack = 3, noise((5, 3, 61, 77), "u2", 7)
    pictures = []
    for z, planes in enumerate(stack):
        packed = [
            imagecodecs.lzw_encode(p.tobytes()) if compressed else p.tobytes() for p in planes
        ]
        small = np.zeros((16, 16), "u1")
        common = {"t277": channels, "t284": 2, "t339": Tag(SHORT, (1,) * channels)}
        bits = {"t258": Tag(SHORT, (16,) * channels), "t259": 5 if compressed else 1}
        more = {"t34412": lsm_info(1, (5, channels, 61, 77), 0)} if z == 0 else {}
        pictures.append(picture(planes[0], packed, t254=0, **common, **bits, **more))
        bits = {"t258": Tag(SHORT, (8,) * channels), "t262": 2}
        pictures.append(picture(small, [small.tobytes()] * channels, t254=1, **common, **bits))
    data = bytearray(assemble(pictures).data)
    if compressed:
        for at in counts_of_pages(data)[::2]:
            data[at : at + 4 * channels] = (61 * 77 * 2).to_bytes(4, "little") * channels
    image = shelves.check(bytes(data), name="file.lsm")
    assert image.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(image.read(), stack.swapaxes(0, 1))


def counts_of_pages(data: bytes | bytearray) -> list[int]:
    """Offsets of the byte counts of each page, in a classic little-endian file."""
    with tifffile.TiffFile(io.BytesIO(data), is_lsm=False) as tiff:
        return [page.aspage().tags[279].valueoffset for page in tiff.pages]


# OME


def ome_pyramid(pixels: Array, axes: str, n_sub: int, **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"tile": (64, 64), "photometric": "minisblack"} | options
    with tifffile.TiffWriter(file, bigtiff=True, ome=True) as writer:
        writer.write(pixels, subifds=n_sub, metadata={"axes": axes}, **options)
        for k in range(1, n_sub + 1):
            writer.write(pixels[..., :: 2**k, :: 2**k], subfiletype=1, **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_pyramids_of_several_channels(shelves: Shelves, compression: str | None) -> None:
    pixels = noise((3, 2, 500, 330), "u2", 9)
    data = ome_pyramid(pixels, "CZYX", 4, compression=compression)
    image = shelves.check(data, name="file.ome.tif")
    assert image.dims == ("c", "z", "y", "x")
    assert len(image.levels) == 5
    np.testing.assert_array_equal(image.read(level=3), pixels[..., ::8, ::8])


def test_several_ome_images_in_one_file(shelves: Shelves) -> None:
    first, second = noise((3, 40, 50), "u2"), noise((2, 4, 64, 32), "u1")
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(first, photometric="minisblack", metadata={"axes": "TYX"})
        writer.write(second, photometric="minisblack", metadata={"axes": "CZYX"})
    images = [shelves.check(file.getvalue(), name="file.ome.tif", series=i) for i in range(2)]
    assert [image.dims for image in images] == [("t", "y", "x"), ("c", "z", "y", "x")]
    np.testing.assert_array_equal(images[1].read(), second)


def test_scattered_pages_of_a_bigtiff(shelves: Shelves) -> None:
    pixels = noise((60, 50, 70), "u2", 10)
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=True, byteorder=">") as writer:
        for i, page in enumerate(pixels):
            options: dict[str, Any] = {"compression": "zlib", "predictor": True, "rowsperstrip": 7}
            writer.write(page, metadata=None, contiguous=False, software="x" * (i % 5), **options)
    image = shelves.check(file.getvalue())
    np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.slow
def test_more_than_20_000_segments_in_a_page(shelves: Shelves) -> None:
    pixels = noise((2310, 2299), "u1", 4)
    data = seed.encode(pixels, tile=(16, 16), compression="packbits")
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert len(tiff.pages.first.dataoffsets) > 20_000
    local, stored = shelves.open(data)
    with shelves.meter.measure() as traffic:
        window = stored.read((slice(1000, 1100), slice(700, 900, 3)))
    np.testing.assert_array_equal(window, pixels[1000:1100, 700:900:3])
    assert traffic.bytes_sent < len(data) // 10
    for image in (local, stored):
        np.testing.assert_array_equal(image.read(), pixels)


# Codecs


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("codec", ["jpeg2000", "jpegxl"])
def test_lossless_image_codecs(shelves: Shelves, codec: str, dtype: str) -> None:
    pixels = noise((2, 150, 170), dtype, 7)
    data = seed.encode(pixels, tile=(64, 64), compression=codec)
    image = shelves.check(data)
    np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.parametrize("samples", ["grey", "contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [(4, 32, 48), (16, 16, 16), (16, 64, 80)], ids=str)
def test_volumes_in_tiles(
    shelves: Shelves, samples: str, compression: str | None, tile: tuple[int, int, int]
) -> None:
    """The last tiles are partial in every axis."""
    pixels = noise((13, 61, 77) if samples == "grey" else (13, 61, 77, 3), "u1")
    options: dict[str, Any] = {"tile": tile, "volumetric": True, "compression": compression}
    if samples == "grey":
        data = seed.encode(pixels, **options)
    else:
        stored = pixels if samples == "contig" else np.moveaxis(pixels, -1, 0)
        data = seed.encode(stored, photometric="rgb", planarconfig=samples, **options)
    image = shelves.check(data)
    np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize(
    "codec",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": "packbits"},
        {"compression": "jpeg"},
    ],
    ids=str,
)
def test_last_strips_that_are_short(
    shelves: Shelves, planarconfig: str, codec: dict[str, Any]
) -> None:
    pixels = smooth(61, 77)
    is_jpeg = codec.get("compression") == "jpeg"
    stored = pixels if planarconfig == "contig" else np.moveaxis(pixels, -1, 0).copy()
    data = seed.encode(
        stored, photometric="rgb", planarconfig=planarconfig, rowsperstrip=16, **codec
    )
    image = shelves.check(data)
    if not is_jpeg:
        np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.parametrize("codec", ["tiff_ccitt", "group3", "group4", "raw", "packbits"])
def test_bilevel_strips(shelves: Shelves, codec: str) -> None:
    """Written by libtiff, with a shorter last strip."""
    pixels = noise((61, 77), "u1", 2).repeat(3, 1) > 1
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "TIFF", compression=codec, strip_size=290)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        assert tiff.pages.first.bitspersample == 1
    image = shelves.check(file.getvalue())
    np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
def test_24_bit_floats(shelves: Shelves, order: str, compression: int) -> None:
    values = noise((40, 50), "f4")
    strips = []
    for k in range(0, 40, 16):
        strip = imagecodecs.float24_encode(
            np.ascontiguousarray(values[k : k + 16]), byteorder=order
        )
        strips.append(bytes(strip) if compression == 1 else imagecodecs.zlib_encode(strip))
    page = picture(values, strips, t258=Tag(SHORT, (24,)), t278=16, t259=compression)
    image = shelves.check(assemble([page], order=order).data)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.read(), values, rtol=2**-15)


@pytest.mark.parametrize("dtype", ["f2", "c8", "c16"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_halves_and_complex_numbers(shelves: Shelves, dtype: str, byteorder: Any) -> None:
    pixels = noise((3, 61, 77), dtype)
    for options in ({"rowsperstrip": 16}, {"tile": (32, 32), "compression": "zlib"}):
        image = shelves.check(seed.encode(pixels, byteorder=byteorder, **options))
        np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("compression", [5, 8])
def test_packed_bits_that_are_compressed(shelves: Shelves, bits: int, compression: int) -> None:
    """In strips, the last of which is short."""
    pixels = noise((61, 77), "u2", bits)
    encode = {5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode}[compression]
    strips = []
    for k in range(0, 61, 16):
        shifts = np.arange(bits - 1, -1, -1, dtype=np.uint16)
        bits_of_rows = (pixels[k : k + 16, :, None] >> shifts & 1).reshape(-1, 77 * bits)
        strips.append(encode(np.packbits(bits_of_rows.astype(np.uint8), axis=1).tobytes()))
    page = picture(pixels, strips, t258=Tag(SHORT, (bits,)), t259=compression, t278=16)
    image = shelves.check(assemble([page]).data)
    np.testing.assert_array_equal(image.read(), pixels)


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("compression", [1, 5])
def test_bits_in_reverse_order(shelves: Shelves, bits: int, compression: int) -> None:
    """FillOrder 2."""
    pixels = noise((60, 88), "u1", bits)
    strips = []
    for k in range(0, 60, 16):
        rows = pixels[k : k + 16]
        strip = (np.packbits(rows, axis=1) if bits == 1 else rows).tobytes()
        packed = strip if compression == 1 else imagecodecs.lzw_encode(strip)
        strips.append(imagecodecs.bitorder_encode(packed))
    more = {"t258": Tag(SHORT, (bits,)), "t259": compression, "t278": 16, "t266": 2}
    image = shelves.check(assemble([picture(pixels, strips, **more)]).data)
    np.testing.assert_array_equal(image.read(), pixels)


# What samples mean


@pytest.mark.parametrize(
    ("photometric", "samples", "options"),
    [
        ("separated", 4, {}),
        ("cielab", 3, {}),
        ("rgb", 4, {"extrasamples": ["unassalpha"]}),
        ("rgb", 5, {"extrasamples": ["assocalpha", "unspecified"]}),
        ("minisblack", 2, {"extrasamples": ["unassalpha"]}),
    ],
)
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_samples_stay_as_they_are_stored(
    shelves: Shelves, photometric: str, samples: int, options: dict[str, Any], planarconfig: str
) -> None:
    pixels = noise((61, 77, samples), "u1")
    stored = pixels if planarconfig == "contig" else np.moveaxis(pixels, -1, 0)
    options |= {"photometric": photometric, "planarconfig": planarconfig}
    data = seed.encode(stored, compression="zlib", rowsperstrip=16, **options)
    image = shelves.check(data)
    assert image.dims == ("y", "x", "s")
    np.testing.assert_array_equal(image.read(), pixels)


def test_indices_of_a_palette_and_white_that_is_zero(shelves: Shelves) -> None:
    pixels = noise((61, 77), "u1")
    colours = noise((3, 256), "u2")
    image = shelves.check(seed.encode(pixels, photometric="palette", colormap=colours))
    np.testing.assert_array_equal(image.read(), pixels)
    image = shelves.check(seed.encode(pixels, photometric="miniswhite"))
    np.testing.assert_array_equal(image.read(), pixels)


# Instruments


def test_a_metamorph_stack(shelves: Shelves) -> None:
    planes = noise((7, 48, 60), "u2")
    image = shelves.check(stk_file(planes), name="file.stk")
    assert image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(image.read(), planes)


def stk_file(planes: Array) -> bytes:
    """MetaMorph: consecutive planes; the IFD describes only the first."""
    n, height, _ = planes.shape
    distances = [v for i in range(n) for v in (3, 2, 2_455_000, 1000 * i, 2_455_000, 1000 * i)]
    strips = [planes[0, k : k + 20].tobytes() for k in range(0, height, 20)]
    page = picture(
        planes[0],
        strips,
        t270=Tag(ASCII, b"plane\0" * n),
        t278=20,
        t33628=Tag(LONG, (0, 1, 1, 0), 2),
        t33629=Tag(RATIONAL, distances, n),
        t33630=Tag(RATIONAL, [v for i in range(n) for v in (500 + i, 1)]),
    )
    return assemble([page]).data + planes[1:].tobytes()


def tiled_jpeg(writer: tifffile.TiffWriter, pixels: Array, **options: Any) -> None:
    """YCbCr with chroma subsampled 4:2:0, as slide scanners write it."""
    writer.write(
        pixels,
        tile=(64, 64),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=(2, 2),
        metadata=None,
        **options,
    )


def test_an_aperio_slide(shelves: Shelves) -> None:
    pixels = smooth(500, 620)
    plain: dict[str, Any] = {"metadata": None, "photometric": "rgb"}
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        text = "Aperio Image Library v11\r\n620x500 [0,0 620x500] (64x64) JPEG/RGB Q=70|AppMag = 20"
        tiled_jpeg(writer, pixels, description=text, subfiletype=0)
        writer.write(pixels[::10, ::10], description="Aperio thumbnail", **plain)
        tiled_jpeg(writer, pixels[::4, ::4], description=text)
        tiled_jpeg(writer, pixels[::16, ::16], description=text)
        writer.write(pixels[:30, :40], subfiletype=1, description="Aperio label", **plain)
        writer.write(pixels[:20, :90], subfiletype=9, description="Aperio macro", **plain)
    image = shelves.check(file.getvalue(), name="slide.svs")
    assert len(image.levels) == 3
    for series in range(1, 4):
        shelves.check(file.getvalue(), name="slide.svs", series=series)


def test_a_hamamatsu_slide(shelves: Shelves) -> None:
    pixels = smooth(512, 640)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for step, magnification in ((1, 20.0), (4, 5.0), (16, 1.25), (8, -1.0)):
            page = pixels[::step, ::step]
            if magnification < 0:
                page = page[:50, :70]
            tags = [(271, "s", 0, "Hamamatsu", True), (65420, "I", 1, 1, True)]
            tags.append((65421, "f", 1, magnification, True))
            tiled_jpeg(writer, page, extratags=tags)
    image = shelves.check(file.getvalue(), name="slide.tif")
    assert len(image.levels) == 3


def test_shared_tables_of_jpeg(shelves: Shelves) -> None:
    """libtiff writes the tables once per page; overviews are reduced pages with tables."""
    pixels = smooth(400, 500)
    with MemoryFile() as memory:
        options = {"compress": "JPEG", "photometric": "YCBCR", "tiled": True}
        options |= {"blockxsize": 64, "blockysize": 64, "transform": PLACE}
        with memory.open(
            driver="GTiff", width=500, height=400, count=3, dtype="uint8", **options
        ) as target:
            target.write(np.moveaxis(pixels, -1, 0))
            target.build_overviews([2, 4], Resampling.average)
        data = memory.read()
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert tiff.pages.first.jpegtables is not None
        assert tiff.pages.first.subsampling == (2, 2)
    image = shelves.check(data)
    assert len(image.levels) == 3


# Maps


@pytest.mark.parametrize("nodata", [None, 7])
def test_cloud_optimized_geotiff_with_holes(shelves: Shelves, nodata: int | None) -> None:
    """Empty tiles are not stored at any level; they read as zero or as the nodata value."""
    pixels = np.full((3, 700, 900), nodata or 0, np.uint16)
    pixels[:, 130:250, 400:700] = noise((3, 120, 300), "u2")
    with MemoryFile() as target, MemoryFile() as source:
        with source.open(
            driver="GTiff",
            width=900,
            height=700,
            count=3,
            dtype="uint16",
            nodata=nodata,
            transform=PLACE,
        ) as plain:
            plain.write(pixels)
        with source.open() as plain:
            options = {"BLOCKSIZE": 128, "SPARSE_OK": "TRUE", "COMPRESS": "DEFLATE"}
            rasterio.shutil.copy(plain, target.name, driver="COG", **options)
        data = target.read()
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert 0 in tiff.pages.first.dataoffsets
    image = shelves.check(data)
    assert len(image.levels) >= 3
    np.testing.assert_array_equal(image.read(), np.moveaxis(pixels, 0, -1))


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("f4", -3.4028234663852886e38),
        ("f4", -9999),
        ("f4", math.nan),
        ("i1", 127),
        ("i2", 32767),
        ("i2", -32768),
        ("i4", 2**31 - 1),
        ("u1", 255),
    ],
)
def test_what_is_not_stored_is_nodata(tmp_path: Path, dtype: str, nodata: float) -> None:
    """tifffile takes 0 for some of these, which GDAL does not."""
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype=np.dtype(dtype).name, nodata=nodata, width=64, height=64,
        count=1, transform=PLACE, tiled=True, blockxsize=32, blockysize=32, SPARSE_OK=True,
    ) as target:  # fmt: skip
        target.write(np.full((1, 32, 32), 5, dtype), window=((0, 32), (0, 32)))
    with rasterio.open(path) as stored:
        expected = stored.read(1)
    assert expected[40, 40] == nodata or math.isnan(nodata)
    image = cloudimg.open(path)
    np.testing.assert_array_equal(image.read(), expected)
    assert not any("GDAL_NODATA" in str(note) for note in image.notes)


def test_complex_integers(shelves: Shelves) -> None:
    """Pairs of 16-bit integers, as in radar images."""
    pixels = (noise((1, 61, 77), "c8") * 100).round().astype(np.complex64)
    with MemoryFile() as memory:
        shape: dict[str, Any] = {"width": 77, "height": 61, "count": 1, "dtype": "complex_int16"}
        with memory.open(driver="GTiff", transform=PLACE, compress="DEFLATE", **shape) as target:
            target.write(pixels)
        data = memory.read()
    image = shelves.check(data)
    np.testing.assert_array_equal(image.read(), pixels[0])


# Thumbnails


def test_thumbnails_in_subifds(shelves: Shelves) -> None:
    pixels = noise((2, 300, 410), "u1")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(pixels, photometric="minisblack", tile=(64, 64), subifds=1)
        writer.write(pixels[:, ::9, ::9], photometric="minisblack", subfiletype=1)
    image = shelves.check(file.getvalue())
    np.testing.assert_array_equal(image.read(), pixels)


def test_a_first_page_that_is_a_thumbnail(shelves: Shelves) -> None:
    small, large = noise((24, 32), "u1"), noise((5, 240, 320), "u1")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(small, photometric="minisblack", subfiletype=1, metadata=None)
        for page in large:
            writer.write(page, photometric="minisblack", compression="zlib", metadata=None)
    np.testing.assert_array_equal(shelves.check(file.getvalue()).read(), small)
    image = shelves.check(file.getvalue(), series=1)
    np.testing.assert_array_equal(image.read(), large)


def test_a_thumbnail_whose_subifd_is_the_image(shelves: Shelves) -> None:
    """As in raw photographs."""
    small, large = noise((24, 32), "u1"), noise((240, 320), "u2")
    page = picture(small, t254=1)
    raw = picture(large, [large[k : k + 50].tobytes() for k in range(0, 240, 50)], t278=50)
    file = assemble([Picture(page.tags, page.segments, subs=[raw])])
    np.testing.assert_array_equal(shelves.check(file.data).read(), small)
