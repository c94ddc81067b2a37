"""Pixels computed from stored ones: palettes, MD Gel's scale, pages reshaped across axes."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import cloudimg
from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    MismatchError,
    UnsupportedFormatError,
)
from tests.support import seed
from tests.support.flavours import SHORT, Picture, Tag, assemble, picture
from tests.support.metering import Meter

Array = npt.NDArray[Any]
Open = Callable[..., cloudimg.Image]


@pytest.fixture
def opened(meter: Meter, bucket: str) -> Open:
    """Put a file on the metering server and open it."""

    def run(data: bytes, **options: Any) -> cloudimg.Image:
        meter.put(bucket, "dir/file.tif", data)
        url = f"s3://{bucket}/dir/file.tif"
        return cloudimg.open(url, storage_options=meter.storage_options, **options)

    return run


def noise(*shape: int, dtype: str = "uint8", below: int = 256) -> Array:
    return np.random.default_rng(11).integers(0, below, shape).astype(dtype)


def check(image: cloudimg.Image, expected: Array, level: int = 0) -> None:
    """Compare the whole image, regions with steps, and lazy chunks that cut across segments."""
    assert image.levels[level].shape == expected.shape
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.read(level=level), expected)
    for region in regions_of(expected.shape):
        np.testing.assert_array_equal(image.read(region, level=level), expected[region])
    chunks = tuple(max(1, (n + 1) // 2) for n in expected.shape)
    lazy = image.to_dask(chunks, level=level)
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), expected)
    np.testing.assert_array_equal(image.to_dask(level=level).compute(), expected)


def regions_of(shape: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Regions that differ from axis to axis: integers, steps either way, edges."""
    for turn in range(4):
        kinds = (
            [slice(n // 3, n, 2), n // 2, slice(None, None, -3), slice(0, n // 2 + 1)]
            for n in shape
        )
        yield tuple(kind[(turn + axis) % 4] for axis, kind in enumerate(kinds))


# Palettes


def palette_of(n: int, *, first: int = 0) -> Array:
    """Colours of 16 bits, all different: 3 x n."""
    return np.random.default_rng(first).permutation(65536)[: 3 * n].reshape(3, n).astype("uint16")


def packed(plane: Array, bits: int) -> bytes:
    """Rows of pixels of 1, 2, 4 or 8 bits, each row beginning at a byte boundary."""
    digits = plane[..., np.newaxis] >> np.arange(bits - 1, -1, -1) & 1
    flat = digits.astype(np.uint8).reshape(len(plane), -1)
    return np.packbits(flat, axis=1).tobytes()


def segments_of(plane: Array, bits: int, tile: tuple[int, int] | None) -> list[bytes]:
    if tile is None:
        return [packed(plane[i : i + 6], bits) for i in range(0, len(plane), 6)]
    height, width = tile
    padding = [(0, -n % size) for n, size in zip(plane.shape, tile, strict=True)]
    padded = np.pad(plane, padding)
    return [
        packed(padded[y : y + height, x : x + width], bits)
        for y in range(0, len(padded), height)
        for x in range(0, padded.shape[1], width)
    ]


def palette_page(
    plane: Array, bits: int, colours: Array | None, tile: tuple[int, int] | None = None
) -> Picture:
    tags: dict[str, int | Tag] = {
        "t258": Tag(SHORT, (bits,)),
        "t262": Tag(SHORT, (3,)),
        "t278": 6,
    }
    if tile is not None:
        tags |= {"t322": tile[1], "t323": tile[0]}
    if colours is not None:
        tags["t320"] = Tag(SHORT, colours.reshape(-1).tolist())
    made = picture(plane, segments_of(plane, bits, tile), **tags)
    codes = {code: tag for code, tag in made.tags.items() if tile is None or code != 278}
    return Picture(codes, made.segments, tile is not None)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_palettes_are_expanded_on_request(
    opened: Open, bits: int, tile: tuple[int, int] | None
) -> None:
    plane, colours = noise(40, 61, below=2**bits), palette_of(2**bits)
    data = assemble([palette_page(plane, bits, colours, tile)]).data
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert tiff.pages.first.is_tiled == (tile is not None)
        by_tifffile = None if bits == 1 else tiff.pages.first.asrgb()
    image = opened(data, palette="rgb")
    expected = colours.T[plane]
    assert image.dims == ("y", "x", "s")
    assert image.dtype == np.uint16
    check(image, expected)
    if by_tifffile is not None:  # which has no colours for booleans
        np.testing.assert_array_equal(image.read(), by_tifffile)
    by_pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.read() >> 8, by_pillow)
    for sample in range(3):
        np.testing.assert_array_equal(image.read({"s": sample}), expected[..., sample])
    window = image.read({"s": slice(2, None, -2), "y": slice(5, 20, 4), "x": -1})
    np.testing.assert_array_equal(window, expected[5:20:4, -1, ::-2])


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes_are_indices_by_default(opened: Open, bits: int) -> None:
    plane, colours = noise(40, 61, below=2**bits), palette_of(2**bits)
    image = opened(assemble([palette_page(plane, bits, colours)]).data)
    assert image.dims == ("y", "x")
    assert image.dtype == (bool if bits == 1 else np.uint8)
    np.testing.assert_array_equal(image.read(), plane)
    np.testing.assert_array_equal(image.attrs["colormap"], colours)
    assert image.attrs["photometric"] == "PALETTE"


def test_palettes_of_16_bits(opened: Open) -> None:
    plane, colours = noise(30, 40, dtype="uint16", below=65536), palette_of(21845)
    colours = np.resize(colours, (3, 65536))
    data = seed.encode(plane, photometric="palette", colormap=colours, compression="zlib")
    image = opened(data, palette="rgb")
    check(image, colours.T[plane])


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", None])
def test_palettes_of_stacks(opened: Open, compression: str | None) -> None:
    planes, colours = noise(4, 30, 40), palette_of(256)
    options = {"photometric": "palette", "colormap": colours, "compression": compression}
    image = opened(seed.encode(planes, **options), palette="rgb")
    assert image.dims == ("page", "y", "x", "s")
    check(image, colours.T[planes])
    renamed = opened(seed.encode(planes, **options), palette="rgb", axes={"page": "z", "s": "c"})
    assert renamed.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(renamed.read(), np.moveaxis(colours.T[planes], -1, 0))


@pytest.mark.filterwarnings("ignore::cloudimg.errors.ChunkCostWarning")
def test_levels_of_palettes(opened: Open) -> None:
    plane, colours = noise(128, 192), palette_of(256)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        options: dict[str, Any] = {"tile": (32, 32), "photometric": "palette", "colormap": colours}
        writer.write(plane, subifds=2, **options)
        writer.write(plane[::2, ::2], subfiletype=1, **options)
        writer.write(plane[::4, ::4], subfiletype=1, **options)
    image = opened(file.getvalue(), palette="rgb")
    assert [level.shape for level in image.levels] == [(128, 192, 3), (64, 96, 3), (32, 48, 3)]
    assert image.levels[1].downsampling == (2, 2, 1)
    assert image.levels[0].segment == {"y": 32, "x": 32, "s": 3}
    for level in range(3):
        check(image, colours.T[plane[:: 2**level, :: 2**level]], level)


def test_windows_of_palettes_read_only_their_tiles(meter: Meter, opened: Open) -> None:
    plane, colours = noise(1024, 1024), palette_of(256)
    options = {"photometric": "palette", "colormap": colours, "tile": (64, 64)}
    image = opened(seed.encode(plane, **options), palette="rgb")
    with meter.measure() as traffic:
        window = image.read((slice(512, 576), slice(512, 576), 1))
    np.testing.assert_array_equal(window, colours[1][plane[512:576, 512:576]])
    assert len(traffic.requests) == 1
    assert traffic.bytes_sent < 3 * 64 * 64


def test_palettes_that_are_too_short(opened: Open) -> None:
    """Only indices without a colour are an error, and only if they are read."""
    plane, colours = noise(40, 61, below=10), palette_of(10)
    plane[30, 5] = 10
    image = opened(assemble([palette_page(plane, 8, colours)]).data, palette="rgb")
    expected = colours.T[np.minimum(plane, 9)]
    for region in ((slice(0, 30),), (slice(31, None), slice(None, None, 2)), (30, slice(6, None))):
        np.testing.assert_array_equal(image.read(region), expected[region])
    for region in ((), (30,), (slice(None, None, 2), 5), (30, 5, 2)):
        with pytest.raises(CorruptFileError, match=r"file\.tif .* up to 10, .* 10 colours"):
            image.read(region)
    with pytest.raises(CorruptFileError, match="10 colours"):
        image.to_dask().compute()


def test_errors_name_the_file_with_an_index_without_a_colour(meter: Meter, bucket: str) -> None:
    """Even if its header is identical to those of other files."""
    plane, colours = noise(40, 61, below=10), palette_of(10)
    for i in range(3):
        odd = np.where(plane == 9, 12, plane) if i == 1 else plane
        meter.put(bucket, f"{i}z.tif", assemble([palette_page(odd, 8, colours)]).data)
    options = {"storage_options": meter.storage_options, "palette": "rgb"}
    image = cloudimg.open(f"s3://{bucket}/{{z}}z.tif", **options)
    np.testing.assert_array_equal(image.read(2), colours.T[plane])
    with pytest.raises(CorruptFileError, match=r"/1z\.tif .* up to 12") as caught:
        image.read()
    assert caught.value.url == f"s3://{bucket}/1z.tif"


def test_palettes_that_are_missing(opened: Open) -> None:
    data = assemble([palette_page(noise(40, 61), 8, None)]).data
    np.testing.assert_array_equal(opened(data).read(), noise(40, 61))
    with pytest.raises(CorruptFileError, match="no palette"):
        opened(data, palette="rgb")


def test_images_without_a_palette_stay_as_they_are(opened: Open) -> None:
    for pixels, dims in ((noise(30, 40), ("y", "x")), (noise(30, 40, 3), ("y", "x", "s"))):
        options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
        image = opened(seed.encode(pixels, **options), palette="rgb")
        assert image.dims == dims
        np.testing.assert_array_equal(image.read(), pixels)
    with pytest.raises(ArgumentError, match="palette"):
        opened(seed.encode(noise(30, 40)), palette="RGB")


def test_files_of_a_pattern_have_palettes_of_their_own(meter: Meter, bucket: str) -> None:
    """Even if their headers are otherwise identical."""
    plane = noise(40, 61)
    palettes = [palette_of(256, first=i) for i in range(3)]
    for i, colours in enumerate(palettes):
        data = assemble([palette_page(plane, 8, colours)]).data
        meter.put(bucket, f"0y_{i}x.tif", data)
    url, options = f"s3://{bucket}/{{y}}y_{{x}}x.tif", {"storage_options": meter.storage_options}
    image = cloudimg.open(url, palette="rgb", **options)
    expected = np.concatenate([colours.T[plane] for colours in palettes], axis=1)
    assert image.dims == ("y", "x", "s")
    check(image, expected)
    twin = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(twin.read((5, slice(50, 70))), expected[5, 50:70])
    with pytest.raises(MismatchError, match=r"its colormap is palette .* allow_differences"):
        cloudimg.open(url, **options)
    as_indices = cloudimg.open(url, allow_differences="colormap", **options)
    assert as_indices.to_dask().name != image.to_dask().name
    meter.put(bucket, "0y_1x.tif", seed.encode(plane))
    image = cloudimg.open(url, palette="rgb", **options)
    with pytest.raises(MismatchError, match=r"0y_1x\.tif"):
        image.read()


# MD Gel


def gel(plane: Array, kind: int, scale: tuple[int, int], *, second: bool, **options: Any) -> bytes:
    """A scan of a gel; the tags with its scale are in the first or second page."""
    tags = [(33445, 4, 1, kind, True), (33446, 5, 1, scale, True)]
    file = io.BytesIO()
    options |= {"photometric": "minisblack", "metadata": None}
    with tifffile.TiffWriter(file) as writer:
        writer.write(plane, extratags=[] if second else tags, **options)
        if second:
            writer.write(noise(8, 8), extratags=tags, metadata=None, photometric="minisblack")
    return file.getvalue()


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("kind", [1, 2, 128])
@pytest.mark.parametrize("options", [{"tile": (16, 32)}, {"rowsperstrip": 7}], ids=str)
def test_gels_are_scaled(opened: Open, kind: int, second: bool, options: dict[str, Any]) -> None:
    plane = noise(40, 61, dtype="uint16", below=65536)
    data = gel(plane, kind, (3, 7000), second=second, **options)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        assert tiff.series[0].kind == "mdgel"
        expected = tiff.series[0].asarray()
    power, scale = {1: (1, 1), 2: (2, 3 / 7000), 128: (1, 3 / 7000)}[kind]
    np.testing.assert_allclose(expected, plane.astype(float) ** power * scale, rtol=1e-5)
    assert expected.dtype == ("uint16" if kind == 1 else "float32")
    image = opened(data)
    assert image.dims == ("y", "x")
    check(image, expected)


def test_gels_of_a_pattern(meter: Meter, bucket: str) -> None:
    """Each has a scale of its own."""
    plane = noise(40, 61, dtype="uint16", below=65536)
    scales = [(3, 7000), (5, 7000), (1, 1)]
    for i, scale in enumerate(scales):
        meter.put(bucket, f"{i}z.tif", gel(plane, 128, scale, second=False))
    url = f"s3://{bucket}/{{z}}z.tif"
    image = cloudimg.open(url, storage_options=meter.storage_options)
    expected = np.stack([plane.astype("float32") * np.float32(a / b) for a, b in scales])
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image.read(), expected)


# Pages reshaped across their axes


def fluoview(shape: Sequence[int]) -> tuple[Any, ...]:
    """Olympus' FluoView tag, which gives the shape of an image regardless of its pages."""
    record = np.zeros((), np.dtype(tifffile.TIFF.MM_HEADER).newbyteorder("<"))
    names = [b"X", b"Y", b"Z", b"Ch", b"T", b"XY", b"Event", b"Exposure", b"A", b"B"]
    for i, name in enumerate(names):
        record["Dimensions"][i]["Name"] = name
        record["Dimensions"][i]["Size"] = shape[-1 - i] if i < len(shape) else 1
    data = record.tobytes()
    return (34361, 1, len(data), data, True)


def fluoview_file(pages: Array, shape: Sequence[int], **options: Any) -> bytes:
    """Pages with metadata that give the image another shape."""
    stamp = (34362, 12, 8, tuple(float(i) for i in range(8)), True)
    tags = [fluoview(shape), stamp]
    options = {"contiguous": False, "metadata": None, "photometric": "minisblack", **options}
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, page in enumerate(pages):
            writer.write(page, extratags=[] if i else tags, **options)
    return file.getvalue()


def by_tifffile(data: bytes) -> Array:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        return np.asarray(tiff.series[0].asarray())


PAGES = noise(12, 20, 30, dtype="uint16", below=65536)
SPLIT = {
    "pages in two axes": (3, 4, 20, 30),
    "rows of two pages": (6, 40, 30),
    "halves of pages": (24, 10, 30),
    "rows and columns at once": (12, 600),
    "other rows": (12, 30, 20),
    "rows across pages": (5, 48, 30),
    "no axis in common": (16, 9, 50),
    "many axes": (2, 2, 3, 4, 5, 5, 6),
    "long rows": (8, 900),
    "short rows": (2400, 3),
}


@pytest.mark.parametrize("case", SPLIT)
@pytest.mark.parametrize(
    "options", [{"rowsperstrip": 7}, {"tile": (16, 16), "compression": "zlib"}], ids=str
)
def test_images_of_another_shape_than_their_pages(
    opened: Open, case: str, options: dict[str, Any]
) -> None:
    shape = SPLIT[case]
    data = fluoview_file(PAGES, shape, **options)
    np.testing.assert_array_equal(by_tifffile(data), PAGES.reshape(shape))
    check(opened(data), PAGES.reshape(shape))


@pytest.mark.parametrize("shape", [(6, 20, 30), (3, 40, 30), (6, 10, 30), (7, 20, 30), (5, 9)])
def test_shapes_that_the_pages_match_several_times_or_not_at_all(
    opened: Open, shape: tuple[int, ...]
) -> None:
    data = fluoview_file(PAGES, shape, compression="zlib")
    expected = by_tifffile(data)
    assert expected.size == PAGES.size
    image = opened(data)
    check(image, expected)
    assert len(set(image.dims)) == image.ndim


def test_a_row_of_a_reshaped_image_reads_only_its_pages(meter: Meter, opened: Open) -> None:
    pages = noise(8, 128, 128, dtype="uint16", below=65536)
    image = opened(fluoview_file(pages, (4, 256, 128), rowsperstrip=16))
    with meter.measure() as traffic:
        row = image.read((2, 200))
    np.testing.assert_array_equal(row, pages[5, 72])
    assert traffic.gets <= 1
    assert traffic.bytes_sent <= 20 * 128 * 2


def described(text: str, compression: str | None) -> bytes:
    """`PAGES` with a description in the first one."""
    file = io.BytesIO()
    options = {"metadata": None, "contiguous": False, "photometric": "minisblack"}
    with tifffile.TiffWriter(file) as writer:
        for i, page in enumerate(PAGES):
            description = None if i else text
            writer.write(page, description=description, compression=compression, **options)
    return file.getvalue()


IMAGEJ = {
    "more planes than declared": "images=12\nchannels=2\nslices=3\n",
    "fewer planes than declared": "images=12\nchannels=3\nslices=5\nframes=2\n",
    "another number of slices": "images=5\nslices=5\n",
    "twice as many slices": "images=12\nslices=24\n",
}


@pytest.mark.parametrize("case", IMAGEJ)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_that_disagrees_with_its_pages(
    opened: Open, case: str, compression: str | None
) -> None:
    """All pages are read, in tifffile's order."""
    data = described(f"ImageJ=1.53t\n{IMAGEJ[case]}hyperstack=true\n", compression)
    image = opened(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        expected, axes = tiff.series[0].asarray(), tiff.series[0].axes.lower()
    if expected.ndim > len(axes):
        axes = "i" + axes  # tifffile does not name the axis of the additional pages
    names = [{"i": "page"}.get(letter, letter) for letter in axes]
    if expected.ndim == image.ndim and set(names) == set(image.dims):
        expected = expected.transpose([names.index(dim) for dim in image.dims])
    assert expected.size == PAGES.size
    check(image, expected)


@pytest.mark.parametrize("shape", [[3, 4, 20, 30], [24, 10, 30], [12, 600], [6, 20, 30]])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_descriptions_of_shapes_that_were_edited(
    opened: Open, shape: list[int], compression: str | None
) -> None:
    """tifffile follows its own metadata if they match the pages and ignores them otherwise."""
    data = described(f'{{"shape": {shape}}}', compression)
    check(opened(data), by_tifffile(data))


def divided(draw: st.DrawFn, number: int) -> tuple[int, ...]:
    """Factors whose product is a number, in any order."""
    factors = []
    while number > 1 and len(factors) < 6:
        divisors = [d for d in range(2, number + 1) if number % d == 0]
        factors.append(draw(st.sampled_from(divisors)))
        number //= factors[-1]
    return tuple(draw(st.permutations([*factors, *([number] if number > 1 else [])])))


@pytest.mark.slow
@settings(max_examples=80)
@given(data=st.data())
def test_any_region_of_any_reshaped_image(data: st.DataObject) -> None:
    n_pages = data.draw(st.integers(1, 8), "pages")
    height, width = data.draw(st.tuples(*[st.integers(1, 24)] * 2), "page")
    shape = data.draw(st.composite(divided)(n_pages * height * width), "shape")
    assume(len(shape) >= 2)
    options: dict[str, Any] = data.draw(
        st.sampled_from([{"rowsperstrip": 5}, {"tile": (16, 16)}, {"compression": "zlib"}])
    )
    pages = np.arange(n_pages * height * width, dtype=np.uint16).reshape(n_pages, height, width)
    content = fluoview_file(pages, shape, **options)
    expected = by_tifffile(content)
    np.testing.assert_array_equal(expected.ravel(), pages.ravel())
    fsspec.filesystem("memory").pipe_file("/reshaped/file.tif", content)
    image = cloudimg.open("memory://reshaped/file.tif")
    assert image.shape == expected.shape
    region = tuple(
        data.draw(st.one_of(st.integers(-n, n - 1), st.slices(n)), "region") for n in image.shape
    )
    np.testing.assert_array_equal(image.read(region), expected[region])
    chunks = tuple(data.draw(st.integers(math.ceil(n / 2), n), "chunk") for n in image.shape)
    np.testing.assert_array_equal(image.to_dask(chunks).compute(scheduler="sync"), expected)


def test_pages_with_palettes_of_their_own_do_not_get_the_first_one(tmp_path: Path) -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8)
    with tifffile.TiffWriter(tmp_path / "own.tif") as writer:
        for i in range(3):
            colormap = np.full((3, 256), 1000 * i, np.uint16)
            writer.write(
                indices, photometric="palette", colormap=colormap, metadata=None, contiguous=False
            )
    np.testing.assert_array_equal(
        cloudimg.open(tmp_path / "own.tif").read(), np.stack([indices] * 3)
    )
    with pytest.raises(UnsupportedFormatError, match="palette of its own"):
        cloudimg.open(tmp_path / "own.tif", palette="rgb")
