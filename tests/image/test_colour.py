"""Colours: what is stated of the pixels that are read, and pictures against independent readers.

GDAL has the pictures of libtiff's RGBA interface; Pillow has inks, opacity and, by LittleCMS,
L*a*b*. Differences that are allowed are those of their integer arithmetic, see each test.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

import cloudimg
from cloudimg.cli.main import main
from tests.support.pictures import REAL, UPSAMPLED, by_littlecms, by_pillow, real_files
from tests.support.raw_tiff import ASCII, SHORT, RawTiff

Array = npt.NDArray[Any]
Shown = Callable[..., Array]
RNG = np.random.default_rng(14)
NOISE = RNG.integers(0, 256, (43, 61, 5), np.uint8)
"""All codes, many of colours that no screen can show."""
_Y, _X = np.mgrid[:64, :96]
SMOOTH = np.stack([_X * 2, _Y * 3, 250 - _X - _Y, _Y + 9], axis=-1).astype(np.uint8)
"""What JPEG stores almost without a loss."""


def rationals(code: int, *values: float) -> tuple[Any, ...]:
    pairs = [part for value in values for part in (round(value * 10_000), 10_000)]
    return (code, 5, len(values), tuple(pairs), True)


def short(code: int, value: int) -> tuple[Any, ...]:
    return (code, 3, 1, value, True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.tif"


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """The picture of a file, at its own size unless another is asked for."""

    def show(path: Path, **options: Any) -> Array:
        out = tmp_path / "picture.png"
        cloudimg.preview(str(path), str(out), **{"size": 100_000, **options})
        return np.asarray(imagecodecs.png_decode(out.read_bytes()))

    return show


def write(path: Path, pixels: Array, **options: Any) -> None:
    tifffile.imwrite(path, pixels, **{"metadata": None, **options})


GDAL_PALETTE = {i: (17 * i, 255 - i, i * i % 256, 255) for i in range(16)}


def write_by_gdal(path: Path, pixels: Array, *, colormap: bool = False, **options: Any) -> None:
    """Write samples, of which GDAL converts only YCbCr with JPEG."""
    height, width, count = pixels.shape
    profile = {"height": height, "width": width, "count": count, "dtype": pixels.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **profile, **options) as file:
            if colormap:
                file.write_colormap(1, GDAL_PALETTE)
            file.write(np.moveaxis(pixels, -1, 0))


def read_by_gdal(path: Path) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return np.moveaxis(file.read(), 0, -1)


def assert_close(picture: Array, expected: Array, most: int) -> None:
    assert picture.shape == expected.shape
    difference = np.abs(picture.astype(int) - expected)
    assert difference.max() <= most, f"{difference.max()} levels"


# What is stated


@pytest.mark.parametrize(
    ("photometric", "options", "samples", "space"),
    [
        ("minisblack", {}, 1, "gray"),
        ("miniswhite", {}, 1, "gray-inverted"),
        ("rgb", {}, 3, "rgb"),
        ("ycbcr", {}, 3, "ycbcr"),
        ("ycbcr", {"compression": "zlib"}, 3, "ycbcr"),
        ("rgb", {"compression": "jpeg"}, 3, "rgb"),  # stored as YCbCr
        ("separated", {}, 4, "cmyk"),
        ("separated", {"extratags": [short(332, 2)]}, 4, "inks"),
        ("cielab", {}, 3, "cielab"),
        ("icclab", {}, 3, "icclab"),
        ("itulab", {}, 3, "itulab"),
        ("cfa", {}, 1, "cfa"),
    ],
)
def test_the_colour_space_is_that_of_the_pixels_as_they_are_read(
    path: Path, photometric: str, options: dict[str, Any], samples: int, space: str
) -> None:
    pixels = SMOOTH[..., :samples] if samples > 1 else SMOOTH[..., 0]
    plane = {"planarconfig": "contig"} if samples > 1 else {}
    write(path, pixels, photometric=photometric, **plane, **options)
    image = cloudimg.open(str(path))
    assert image.attrs["color_space"] == space
    np.testing.assert_allclose(
        image.read().astype(int), pixels, atol=9 if "jpeg" in str(options) else 0
    )


def test_ycbcr_that_the_decoder_converts(path: Path, corpus: Path) -> None:
    write_by_gdal(path, SMOOTH[..., :3], photometric="YCBCR", compress="JPEG", jpeg_quality=98)
    ours, reported = (
        cloudimg.open(str(each))
        for each in (path, corpus / "reports/ycbcr-not-rgb/rgb8-jpeg-YCrCb.tif")
    )
    for image in (ours, reported):
        assert image.attrs["photometric"] == "YCBCR"
        assert image.attrs["color_space"] == "rgb"
    assert np.abs(ours.read().astype(int) - SMOOTH[..., :3]).mean() < 2
    expected = np.asarray(Image.open(corpus / "reports/ycbcr-not-rgb/rgb8-jpeg-YCrCb.tif"))
    np.testing.assert_array_equal(reported.read(), expected)


@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE", "CIELAB", "ICCLAB", "ITULAB"])
@pytest.mark.parametrize("tiled", [False, True])
def test_jpeg_of_other_samples_is_not_converted(path: Path, photometric: str, tiled: bool) -> None:
    """libjpeg takes three components for YCbCr unless it is told what they are."""
    options: dict[str, Any] = {"compress": "JPEG", "interleave": "pixel", "jpeg_quality": 90}
    options |= {"tiled": True, "blockxsize": 48, "blockysize": 32} if tiled else {}
    write_by_gdal(path, SMOOTH[..., :3], photometric=photometric, **options)
    image = cloudimg.open(str(path))
    pixels = image.read()
    assert np.abs(pixels.astype(int) - SMOOTH[..., :3]).mean() < 3
    if photometric != "CIELAB":  # which GDAL shows in RGB
        np.testing.assert_array_equal(pixels, read_by_gdal(path))


def jpeg_2000(ycbcr: Array, *, subsampled: bool) -> bytes:
    """A codestream of GDAL, which converts RGB only where chrominance is subsampled."""
    rgb = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB")) if subsampled else ycbcr
    profile = {"height": rgb.shape[0], "width": rgb.shape[1], "count": 3, "dtype": "uint8"}
    options = {"CODEC": "J2K", "QUALITY": "100", "REVERSIBLE": "YES"}
    options["YCBCR420"] = "YES" if subsampled else "NO"
    with warnings.catch_warnings(action="ignore"), rasterio.MemoryFile() as plain:
        with plain.open(driver="GTiff", photometric="RGB", **profile) as file:
            file.write(np.moveaxis(rgb, -1, 0))
        with plain.open() as file, rasterio.MemoryFile(ext=".j2k") as encoded:
            rasterio.shutil.copy(file, encoded.name, driver="JP2OpenJPEG", **options)
            return bytes(encoded.read())


@pytest.mark.parametrize(("words", "space"), [("J2K/YUV16 Q=70", "rgb"), ("J2K/YUV24", "ycbcr")])
def test_jpeg_2000_in_ycbcr_by_aperio(path: Path, shown: Shown, words: str, space: str) -> None:
    """Its photometric interpretation is RGB all the same."""
    ycbcr = np.asarray(Image.fromarray(SMOOTH[..., :3]).convert("YCbCr"))
    segment = jpeg_2000(ycbcr, subsampled=space == "rgb")
    height, width, _ = ycbcr.shape
    description = f"Aperio Image Library\r\n{width}x{height} {words}\0".encode()
    tags = {270: (ASCII, description)}
    tiff = RawTiff(width=width, height=height, samples=3, compression=33003, tags=tags)
    path.write_bytes(tiff.build([segment]))
    assert cloudimg.open(str(path)).attrs["color_space"] == space
    difference = np.abs(shown(path).astype(int) - SMOOTH[..., :3])
    assert difference.mean() < 4  # subsampled, and twice rounded


def test_a_palette_is_of_indices_or_of_colours(path: Path, shown: Shown) -> None:
    indices = NOISE[..., :1] % 16
    write_by_gdal(path, indices, photometric="PALETTE", nbits=4, colormap=True)
    attrs = cloudimg.open(str(path)).attrs
    assert (attrs["color_space"], attrs["bits_per_sample"]) == ("palette", 4)
    expanded = cloudimg.open(str(path), palette="rgb").attrs
    assert (expanded["color_space"], expanded["photometric"]) == ("rgb", "PALETTE")
    assert "bits_per_sample" not in expanded
    expected = np.array([GDAL_PALETTE[i] for i in range(16)], np.uint8)[indices[..., 0], :3]
    np.testing.assert_array_equal(shown(path), expected)


def without_tag(path: Path, code: int) -> None:
    """Rename a tag of a little-endian TIFF to one that nobody knows."""
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    for i in range(struct.unpack_from("<H", data, at)[0]):
        if struct.unpack_from("<H", data, at + 2 + 12 * i)[0] == code:
            struct.pack_into("<H", data, at + 2 + 12 * i, 65_123)
    path.write_bytes(data)


def test_a_file_without_a_photometric_interpretation(path: Path, shown: Shown) -> None:
    """As libtiff infers it; tifffile takes it for MINISWHITE."""
    for pixels, space in ((NOISE[..., :3], "rgb"), (NOISE[..., 0], "gray")):
        write(path, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
        without_tag(path, 262)
        attrs = cloudimg.open(str(path)).attrs
        assert attrs["color_space"] == space
        assert "photometric" not in attrs
        np.testing.assert_array_equal(shown(path), pixels)


@pytest.mark.parametrize(
    ("photometric", "extra", "samples"),
    [
        ("rgb", ["unassalpha"], ["red", "green", "blue", "alpha: unassociated"]),
        ("rgb", ["assocalpha"], ["red", "green", "blue", "alpha: associated"]),
        ("rgb", ["unspecified"], ["red", "green", "blue", "unspecified"]),
        ("minisblack", ["unassalpha"], ["gray", "alpha: unassociated"]),
        ("cielab", ["unassalpha"], ["L*", "a*", "b*", "alpha: unassociated"]),
        ("separated", ["assocalpha"], ["cyan", "magenta", "yellow", "black", "alpha: associated"]),
    ],
)
def test_the_meaning_of_extra_samples(
    path: Path, photometric: str, extra: list[str], samples: list[str]
) -> None:
    pixels = NOISE[..., : len(samples)]
    write(path, pixels, photometric=photometric, extrasamples=extra, planarconfig="contig")
    assert cloudimg.open(str(path)).attrs["samples"] == samples


def test_inks_have_the_names_that_the_file_gives(path: Path) -> None:
    names = (333, 2, 0, "silver\0varnish\0red\0", True)
    options: dict[str, Any] = {"photometric": "separated", "extrasamples": ["unspecified"]}
    write(path, NOISE, **options, extratags=[short(332, 2), names])
    assert cloudimg.open(str(path)).attrs["samples"] == [
        "silver", "varnish", "red", "unspecified", "unspecified",
    ]  # fmt: skip


def test_info_states_the_colours(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, NOISE, photometric="separated", extrasamples=["unassalpha"])
    assert main(["info", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "colours cmyk (cyan, magenta, yellow, black, alpha: unassociated)" in text
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["color_space"] == "cmyk"
    assert facts["samples"][-1] == "alpha: unassociated"


@pytest.mark.parametrize(
    ("photometric", "n_samples", "names"),
    [
        ("rgb", 3, ["red", "green", "blue"]),
        ("ycbcr", 3, ["Y", "Cb", "Cr"]),
        ("separated", 4, ["cyan", "magenta", "yellow", "black"]),
        ("cielab", 3, ["L*", "a*", "b*"]),
        ("minisblack", 3, ["channel 0", "channel 1", "channel 2"]),
    ],
)
def test_a_copy_states_no_other_colours(
    path: Path, photometric: str, n_samples: int, names: list[str]
) -> None:
    write(path, NOISE[..., :n_samples], photometric=photometric, planarconfig="contig")
    space = cloudimg.open(str(path)).attrs["color_space"]
    copy = path.parent / "copy.zarr"
    cloudimg.migrate(str(path), str(copy))
    attributes = json.loads((copy / "zarr.json").read_text())["attributes"]
    channels = attributes["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == names
    is_rgb = [channel["color"] for channel in channels] == ["FF0000", "00FF00", "0000FF"]
    assert is_rgb == (photometric == "rgb")
    assert attributes["cloudimg"]["attributes"]["color_space"] == space


# Pictures


@pytest.mark.parametrize(
    ("tags", "most"),
    [
        ([], 1),
        # libtiff rounds luminance and chrominance before it multiplies them by up to 1.9.
        ([rationals(529, 0.2126, 0.7152, 0.0722)], 2),
        ([rationals(532, 16, 235, 128, 240, 128, 240)], 3),
        ([rationals(529, 0.2126, 0.7152, 0.0722), rationals(532, 16, 235, 128, 240, 128, 240)], 3),
    ],
)
def test_ycbcr_as_libtiff_shows_it(path: Path, shown: Shown, tags: list[Any], most: int) -> None:
    write(path, NOISE[..., :3], photometric="ycbcr", compression="lzw", extratags=tags)
    assert_close(shown(path), read_by_gdal(path), most)


def test_ycbcr_of_ten_bits(path: Path, shown: Shown) -> None:
    """A ramp of grey has its chrominance in the middle of the range of its bits."""
    grey = np.full((16, 64, 3), 512, np.uint16)
    grey[..., 0] = np.arange(64) * 1023 // 63
    reference = rationals(532, 0, 1023, 512, 1023, 512, 1023)
    write(path, grey, photometric="ycbcr", bitspersample=10, extratags=[reference])
    assert cloudimg.open(str(path)).attrs["bits_per_sample"] == 10
    expected = np.repeat(grey[..., :1] * (255 / 1023), 3, axis=-1)
    assert_close(shown(path), np.rint(expected), 1)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_inks_as_pillow_shows_them(path: Path, shown: Shown, planarconfig: str) -> None:
    inks = NOISE[..., :4]
    stored = inks if planarconfig == "contig" else np.moveaxis(inks, -1, 0)
    write(path, stored, photometric="separated", planarconfig=planarconfig)
    expected = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    assert_close(shown(path), expected, 1)
    assert_close(shown(path), read_by_gdal(path)[..., :3], 1)  # libtiff rounds downwards
    write(path, stored.astype(np.uint16) * 257, photometric="separated", planarconfig=planarconfig)
    assert_close(shown(path), expected, 1)


def test_inks_of_jpeg_in_a_tiff_and_by_adobe(path: Path, shown: Shown, tmp_path: Path) -> None:
    inks = SMOOTH
    write_by_gdal(path, inks, photometric="CMYK", compress="JPEG", jpeg_quality=98)
    expected = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    assert_close(shown(path), expected, 9)  # what JPEG loses
    jpeg = tmp_path / "adobe.jpg"
    Image.fromarray(inks, "CMYK").save(jpeg, quality=98)
    assert b"Adobe" in jpeg.read_bytes()
    image = cloudimg.open(str(jpeg))
    assert image.attrs["color_space"] == "cmyk-inverted"
    assert_close(shown(jpeg), np.asarray(Image.open(jpeg).convert("RGB")), 1)


def lab_varieties() -> dict[str, tuple[str, Array]]:
    """The colours of `NOISE` in L*a*b*, as TIFF 6.0 and its supplements encode them."""
    lab = NOISE[..., :3]
    light, a, b = lab[..., 0].astype(int), *(lab[..., i].view(np.int8).astype(int) for i in (1, 2))

    def stack(*samples: Array, dtype: Any) -> Array:
        return np.stack(samples, axis=-1).astype(dtype)

    return {
        "cielab 8": ("cielab", lab),
        "cielab 16": ("cielab", stack(light * 257, a * 256, b * 256, dtype=np.int64).astype("u2")),
        "icclab 8": ("icclab", stack(light, a + 128, b + 128, dtype="u1")),
        "icclab 16": (
            "icclab",
            stack(light * 256, (a + 128) * 256, (b + 128) * 256, dtype="u2"),
        ),
        "cielab floats": ("cielab", stack(light * (100 / 255), a, b, dtype="f4")),
    }


@pytest.mark.parametrize(
    "variety", ["cielab 8", "cielab 16", "icclab 8", "icclab 16", "cielab floats"]
)
def test_lab_as_littlecms_shows_it(path: Path, shown: Shown, variety: str) -> None:
    photometric, pixels = lab_varieties()[variety]
    write(path, pixels, photometric=photometric)
    assert_close(shown(path), by_littlecms(NOISE[..., :3]), 1)


def test_lab_of_fax(path: Path, shown: Shown) -> None:
    """Its range is narrower and its steps differ, so the colours are compared by their L*a*b*."""
    codes = NOISE[..., :3]
    write(path, codes, photometric="itulab")
    # RFC 2301, Decode: the codes 0 and 255 are these values.
    a, b = (
        low + codes[..., i] / 255 * (high - low)
        for i, low, high in ((1, -21760 / 255, 21590 / 255), (2, -19200 / 255, 30800 / 255))
    )
    lab = np.stack([codes[..., 0], np.rint(a), np.rint(b)], axis=-1).astype(np.int16)
    expected = by_littlecms(lab.astype(np.uint8)).astype(int)
    difference = np.abs(shown(path) - expected)
    assert difference.mean() < 0.6  # a* and b* are rounded to integers in the comparison
    assert difference.max() <= 24  # of dark colours, whose curve is steep


def test_white_and_black(path: Path, shown: Shown) -> None:
    """Each space shows its white as white, which libtiff's L*a*b* does not, and its black."""
    paper = {
        "cielab": ([255, 0, 0], [0, 0, 0]),
        "icclab": ([255, 128, 128], [0, 128, 128]),
        "ycbcr": ([255, 128, 128], [0, 128, 128]),
        "separated": ([0, 0, 0, 0], [0, 0, 0, 255]),
    }
    for photometric, (white, black) in paper.items():
        pixels = np.array([[white, black] * 8] * 16, np.uint8)
        write(path, pixels, photometric=photometric, planarconfig="contig")
        expected = np.array([[[255] * 3, [0] * 3] * 8] * 16)
        assert_close(shown(path), expected, 0)


def test_bits_that_do_not_fill_their_type(path: Path, shown: Shown) -> None:
    codes = NOISE[..., :3] % 8
    write_by_gdal(path, codes, photometric="RGB", nbits=3)
    assert_close(shown(path), np.rint(codes * (255 / 7)), 0)
    write(path, codes[..., 0], photometric="miniswhite", bitspersample=3)
    assert_close(shown(path), np.rint(255 - codes[..., 0] * (255 / 7)), 0)
    inks = NOISE[..., :4].astype(np.uint16) * 4 + 3
    write(path, inks, photometric="separated", bitspersample=10)
    expected = np.prod([1 - inks[..., :3] / 1023, 1 - inks[..., 3:] / 1023 + np.zeros(3)], axis=0)
    assert_close(shown(path), np.rint(255 * expected), 1)


def test_an_expanded_palette_is_shown_as_its_indices(path: Path, shown: Shown) -> None:
    colormap = (RNG.integers(0, 256, (3, 256)) * 257).astype(np.uint16)
    colormap[:, :2] = [[0, 65535]] * 3  # the contrast of 16 bits is that of their extremes
    indices = NOISE[..., 0].copy()
    indices[:2] = [[0], [1]]
    write(path, indices, photometric="palette", colormap=colormap)
    expected = np.moveaxis(colormap[:, indices] >> 8, 0, -1)
    np.testing.assert_array_equal(shown(path), expected)
    assert_close(shown(path, palette="rgb"), expected, 1)


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_opacity_as_pillow_reads_it(path: Path, shown: Shown, kind: str) -> None:
    rgba = NOISE[..., :4].copy()
    if kind == "assocalpha":
        rgba[..., :3] = rgba[..., :3] * (rgba[..., 3:] / 255)
    write(path, rgba, photometric="rgb", extrasamples=[kind])
    expected = np.asarray(Image.open(path).convert("RGBA"))
    picture = shown(path)
    np.testing.assert_array_equal(picture[..., 3], expected[..., 3])
    # Pillow divides in integers and rounds downwards.
    seen = expected[..., 3] > 0
    assert_close(picture[seen], expected[seen], 1)


def test_transparent_pixels_do_not_colour_their_neighbours(path: Path, shown: Shown) -> None:
    rgba = np.zeros((32, 64, 4), np.uint8)
    rgba[..., 0] = 255  # red, but transparent, beside opaque green
    rgba[:, ::2] = [0, 200, 0, 255]
    write(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    picture = shown(path, size=32)
    assert_close(picture, np.broadcast_to([0, 200, 0, 128], (16, 32, 4)), 1)


def test_opacity_that_says_nothing(path: Path, shown: Shown) -> None:
    """All opaque, or empty: the picture has no opacity."""
    for opacity in (255, 0):
        rgba = NOISE[..., :4].copy()
        rgba[..., 3] = opacity
        for kind in ("assocalpha", "unassalpha"):
            write(path, rgba, photometric="rgb", extrasamples=[kind])
            np.testing.assert_array_equal(shown(path), rgba[..., :3])


def test_grey_and_its_opacity(path: Path, shown: Shown) -> None:
    pixels = NOISE[..., :2]
    for photometric, grey in (("minisblack", pixels[..., 0]), ("miniswhite", 255 - pixels[..., 0])):
        options: dict[str, Any] = {"planarconfig": "contig", "extrasamples": ["unassalpha"]}
        write(path, pixels, photometric=photometric, **options)
        expected = np.stack([grey, grey, grey, pixels[..., 1]], axis=-1)
        np.testing.assert_array_equal(shown(path), expected)


def test_large_planes_are_converted_in_parts(path: Path, shown: Shown) -> None:
    pixels = np.tile(NOISE[..., :3], (30, 20, 1))  # 1,290 x 1,220
    write(path, pixels, photometric="ycbcr", tile=(128, 128))
    assert_close(shown(path), read_by_gdal(path), 1)


@pytest.mark.parametrize("extension", ["png", "webp", "jpg"])
def test_other_formats_keep_their_colours(tmp_path: Path, shown: Shown, extension: str) -> None:
    file = tmp_path / f"image.{extension}"
    options: dict[str, Any] = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(SMOOTH[..., :3]).save(file, **options)
    assert cloudimg.open(str(file)).attrs["color_space"] == "rgb"
    np.testing.assert_array_equal(shown(file), np.asarray(Image.open(file)))


def test_grey_and_opacity_of_png(tmp_path: Path, shown: Shown) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(NOISE[..., :2], "LA").save(file)
    assert cloudimg.open(str(file)).attrs["samples"] == ["gray", "alpha: unassociated"]
    np.testing.assert_array_equal(shown(file), np.asarray(Image.open(file).convert("RGBA")))


def test_a_palette_and_opacity(path: Path, shown: Shown) -> None:
    colormap = RNG.integers(0, 256, (3, 256)) * 257
    tags = {320: (SHORT, colormap.ravel().tolist()), 338: (SHORT, [2])}
    height, width, _ = NOISE.shape
    tiff = RawTiff(width=width, height=height, samples=2, photometric=3, tags=tags)
    pixels = NOISE[..., :2].copy()
    path.write_bytes(tiff.build([pixels.tobytes()]))
    image = cloudimg.open(str(path))
    assert image.attrs["samples"] == ["palette", "alpha: unassociated"]
    colours = np.moveaxis(colormap[:, pixels[..., 0]] >> 8, 0, -1)
    assert_close(shown(path), np.concatenate([colours, pixels[..., 1:]], axis=-1), 0)
    with pytest.raises(cloudimg.errors.UnsupportedFormatError, match="2 samples a pixel"):
        cloudimg.open(str(path), palette="rgb")


# Real files


@pytest.mark.slow
@pytest.mark.parametrize(("photometric", "least"), REAL)
def test_real_files_as_pillow_shows_them(
    corpus: Path, shown: Shown, photometric: tuple[str, ...], least: int
) -> None:
    found = {}
    for source in real_files(corpus, *photometric):
        try:
            picture = shown(source)
        except cloudimg.errors.CloudimgError:
            continue  # tests/opening/test_corpus.py judges these
        expected = by_pillow(source, picture.shape[2] if picture.ndim == 3 else 1)
        if expected is not None:
            visible = expected[..., 3:] > 0 if picture.shape[-1] == 4 else 1
            found[source.name] = np.abs(picture.astype(int) - expected) * visible
    print(
        f"{photometric}: {len(found)} files, greatest difference {max(map(np.max, found.values()))}"
    )
    wrong = {name for name, each in found.items() if each.max() > 1}
    assert wrong <= UPSAMPLED
    assert all(found[name].mean() < 0.1 for name in wrong)
    assert len(found) >= least
