"""What a viewer shows of a copy by its metadata is what independent readers show of the source.

`rendered` is a small viewer: it knows OME-Zarr's "omero" metadata and NumPy, and nothing of
cloudimg.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile
import zarr
from PIL import Image

import cloudimg
from cloudimg.cli.main import main
from tests.support.pictures import REAL, UPSAMPLED, by_littlecms, by_pillow, real_files

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
RNG = np.random.default_rng(20)
_Y, _X = np.mgrid[:96, :128]
SMOOTH = np.stack([_X * 2, _Y * 2, 250 - _X - _Y, _Y + 9], axis=-1).astype(np.uint8)
NOISE = RNG.integers(0, 256, (96, 128, 4), np.uint8)


def attributes_of(copy: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((copy / "zarr.json").read_bytes())["attributes"]
    return found


def channels_of(copy: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = attributes_of(copy)["ome"]["omero"]["channels"]
    return found


def rendered(copy: Path) -> Array:
    """The picture of the first time and the default plane, RGB of 8 bits."""
    ome = attributes_of(copy)["ome"]
    axes = [axis["name"] for axis in ome["multiscales"][0]["axes"]]
    pixels = zarr.open_array(copy / "0", mode="r")[...]
    at = {"t": ome["omero"]["rdefs"]["defaultT"], "z": ome["omero"]["rdefs"]["defaultZ"]}
    for axis, index in at.items():
        if axis in axes:
            pixels = np.take(pixels, index, axes.index(axis))
            axes.remove(axis)
    planes = pixels if "c" in axes else pixels[None]
    light = np.zeros((*planes.shape[1:], 3))
    for plane, channel in zip(planes, ome["omero"]["channels"], strict=True):
        if not channel["active"]:
            continue
        start, end = channel["window"]["start"], channel["window"]["end"]
        share = np.nan_to_num(((plane.astype(np.float64) - start) / (end - start)).clip(0, 1))
        share = 1 - share if channel["inverted"] else share
        light += share[..., None] * [byte / 255 for byte in bytes.fromhex(channel["color"])]
    return np.rint(255 * light.clip(0, 1)).astype(np.uint8)


def copied(path: Path, **options: Any) -> Path:
    copy = path.with_suffix(".zarr")
    cloudimg.migrate(path, copy, **options)
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    assert not proof.edits
    return copy


def difference(found: Array, expected: Array) -> int:
    shown = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=-1)
    assert found.shape == shown.shape
    return int(np.abs(found.astype(int) - shown).max())


def stretched(pixels: Array, low: float, high: float) -> Array:
    return np.rint(255 * ((pixels.astype(np.float64) - low) / (high - low)).clip(0, 1))


# Sources, each with its picture by Pillow, by GDAL or from what tifffile reads

Source = Callable[[Path], tuple[Array, dict[str, Any]]]


def written(path: Path, pixels: Array, **options: Any) -> Array:
    tifffile.imwrite(path, pixels, **options)
    return tifffile.imread(path)


def pillow(path: Path, mode: str) -> Array:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


def rgb(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, NOISE[..., :3], photometric="rgb")
    return pillow(path, "RGB"), {}


def rgb_planar(path: Path) -> tuple[Array, dict[str, Any]]:
    planes = np.moveaxis(NOISE[..., :3], -1, 0)
    written(path, planes, photometric="rgb", planarconfig="separate")
    return pillow(path, "RGB"), {}


def beige_wall(path: Path) -> tuple[Array, dict[str, Any]]:
    """Its blue is never bright: a window for each sample would make it grey."""
    written(path, (SMOOTH[..., :1] * [0.9, 0.8, 0.6]).astype(np.uint8), photometric="rgb")
    return pillow(path, "RGB"), {}


def stained_tissue(path: Path) -> tuple[Array, dict[str, Any]]:
    """White with some pink and violet, in JPEG as scanners store it."""
    tissue = np.full((96, 128, 3), 243, np.uint8)
    tissue[20:60, 30:90] = [214, 120, 170]
    tissue[30:40, 40:60] = [90, 60, 140]
    written(path, tissue, photometric="rgb", compression="jpeg", tile=(16, 16))
    return pillow(path, "RGB"), {}


def one_colour(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, np.full((96, 128, 3), [200, 0, 90], np.uint8), photometric="rgb")
    return pillow(path, "RGB"), {}


def rgb_16(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = written(path, NOISE[..., :3].astype(np.uint16) * 257, photometric="rgb")
    return pixels // 257, {}


def rgb_12(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = written(path, NOISE[..., :3].astype(np.uint16) * 16 + 15, photometric="rgb")
    return stretched(pixels, 0, 4095), {}


def rgb_float(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = written(path, NOISE[..., :3].astype(np.float32) / 255, photometric="rgb")
    return stretched(pixels, 0, 1), {}


def red_disk(path: Path) -> tuple[Array, dict[str, Any]]:
    """A disk on nothing, with its opacity, which viewers do not know."""
    disk = np.hypot(_Y - 48, _X - 64) < 30
    pixels = (disk[..., None] * [255, 0, 0, 255]).astype(np.uint8)
    written(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    return pillow(path, "RGB"), {}


def grey(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, NOISE[..., 0], photometric="minisblack")
    return pillow(path, "L"), {}


def grey_and_opacity(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, NOISE[..., :2], photometric="minisblack", extrasamples=["unassalpha"],
        planarconfig="contig")  # fmt: skip
    return NOISE[..., 0], {}


def min_is_white(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, NOISE[..., 0], photometric="miniswhite")
    return pillow(path, "L"), {}


def fax(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, NOISE[..., 0] > 200, photometric="miniswhite")
    return pillow(path, "L"), {}


def mask(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, NOISE[..., 0] > 200, photometric="minisblack")
    return pillow(path, "L"), {}


def bits_12(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = NOISE[..., 0].astype(np.uint16) * 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no place on Earth
        with rasterio.open(path, "w", driver="GTiff", height=96, width=128, count=1,
                dtype="uint16", NBITS=12) as file:  # fmt: skip
            file.write(pixels, 1)
        with rasterio.open(path) as file:
            return stretched(file.read(1), 0, 4095), {}


def palette_looked_up(path: Path) -> tuple[Array, dict[str, Any]]:
    colormap = RNG.integers(0, 256, (3, 256)).astype(np.uint16) * 257
    written(path, NOISE[..., 0], photometric="palette", colormap=colormap)
    return pillow(path, "RGB"), {"rgb": True}


def palette_of_16_bits(path: Path) -> tuple[Array, dict[str, Any]]:
    return palette_looked_up(path)[0], {"palette": "rgb"}


def cmyk(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, SMOOTH, photometric="separated")
    return pillow(path, "RGB"), {"rgb": True}


def cmyk_16(path: Path) -> tuple[Array, dict[str, Any]]:
    written(path, SMOOTH.astype(np.uint16) * 257, photometric="separated")
    ink = SMOOTH / 255
    return np.rint(255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])), {"rgb": True}


def cmyk_planar(path: Path) -> tuple[Array, dict[str, Any]]:
    expected = cmyk(path)[0]
    planes = np.moveaxis(SMOOTH, -1, 0)
    written(path, planes, photometric="separated", planarconfig="separate")
    return expected, {"rgb": True}


def ycbcr(path: Path) -> tuple[Array, dict[str, Any]]:
    picture = Image.fromarray(SMOOTH[..., :3])
    written(path, np.asarray(picture.convert("YCbCr")), photometric="ycbcr")
    return SMOOTH[..., :3], {"rgb": True}


def cielab(path: Path) -> tuple[Array, dict[str, Any]]:
    lab = np.stack([SMOOTH[..., 0], *(SMOOTH[..., i] // 4 for i in (1, 2))], axis=-1)
    lab[:40, :, 1:] = (256 - lab[:40, :, 1:].astype(int)).astype(np.uint8)  # negative a* and b*
    written(path, lab, photometric="cielab")
    return by_littlecms(lab), {"rgb": True}


def imagej_composite(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = RNG.integers(0, 4096, (2, 96, 128), np.uint16)
    ramp = np.arange(256, dtype=np.uint8)
    tables = [np.stack([ramp, ramp * 0, ramp]), np.stack([ramp * 0, ramp, ramp // 2])]
    ranges = (100.0, 3000.0, 500.0, 2000.0)
    metadata = {"axes": "CYX", "mode": "composite", "LUTs": tables, "Ranges": ranges}
    written(path, pixels, imagej=True, metadata=metadata)
    # ij.CompositeImage adds what the tables give.
    shown = [
        table[:, stretched(plane, *ranges[2 * i : 2 * i + 2]).astype(int)].astype(int)
        for i, (plane, table) in enumerate(zip(pixels, tables, strict=True))
    ]
    return np.moveaxis(sum(shown), 0, -1).clip(0, 255), {}


def imagej_single(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = written(path, RNG.integers(0, 4096, (96, 128), np.uint16), imagej=True,
        metadata={"min": 200.0, "max": 1200.0})  # fmt: skip
    return stretched(pixels, 200, 1200), {}


def fluorescence(path: Path) -> tuple[Array, dict[str, Any]]:
    """Colours of OME-XML, and contrast between percentiles."""
    pixels = RNG.poisson(200, (2, 96, 128)).astype(np.uint16)
    pixels[0, 20:40, 20:40] += 900
    pixels[1, 30:60, 50:100] += 1500
    channels = {"Name": ["DAPI", "Cy5"], "Color": [0x0000FFFF, 0xFF8000FF - 2**32]}
    written(path, pixels, ome=True, metadata={"axes": "CYX", "Channel": channels})
    lights = [stretched(p, *np.percentile(p, (0.1, 99.9))) / 255 for p in pixels]
    shown = lights[0][..., None] * [0, 0, 1] + lights[1][..., None] * [1, 128 / 255, 0]
    return np.rint(255 * shown.clip(0, 1)), {}


def labels(path: Path) -> tuple[Array, dict[str, Any]]:
    found = np.kron(np.arange(12).reshape(3, 4), np.ones((32, 32))).astype(np.uint16)
    pixels = written(path, found, ome=True, metadata={"Name": "labels", "axes": "YX"})
    return stretched(pixels, 0, 11), {}


def cell_on_black(path: Path) -> tuple[Array, dict[str, Any]]:
    """Fewer than one pixel of 1,000 is not black: contrast is that of the cell."""
    pixels = np.zeros((300, 400), np.uint16)
    pixels[100:108, 200:214] = RNG.integers(600, 1200, (8, 14))
    written(path, pixels)
    return stretched(pixels, 0, np.percentile(pixels[pixels > 0], 99.9)), {}


def float_with_nan(path: Path) -> tuple[Array, dict[str, Any]]:
    pixels = RNG.uniform(-1, 1, (96, 128)).astype(np.float32)
    pixels[:30] = np.nan
    written(path, pixels)
    shown = stretched(pixels, *np.nanpercentile(pixels, (0.1, 99.9)))
    return np.nan_to_num(shown), {}


def terrain(path: Path) -> tuple[Array, dict[str, Any]]:
    """A gap of nodata is black, and the contrast that of the heights."""
    pixels = RNG.uniform(400, 900, (96, 128)).astype(np.float32)
    pixels[:30] = -9999
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no place on Earth
        with rasterio.open(path, "w", driver="GTiff", height=96, width=128, count=1,
                dtype="float32", nodata=-9999) as file:  # fmt: skip
            file.write(pixels, 1)
        with rasterio.open(path) as file:
            known = file.read(1, masked=True)
    window = np.percentile(known.compressed(), (0.1, 99.9))
    return np.where(known.mask, 0, stretched(known.filled(0), *window)), {}


EXACT: list[Source] = [
    rgb, rgb_planar, beige_wall, stained_tissue, one_colour, rgb_16, rgb_12, rgb_float, red_disk,
    grey, grey_and_opacity, min_is_white, fax, mask, bits_12, palette_looked_up,
    palette_of_16_bits, imagej_composite, imagej_single, fluorescence, labels, cell_on_black,
    float_with_nan, terrain,
]  # fmt: skip
CONVERTED: list[Source] = [cmyk, cmyk_16, cmyk_planar, ycbcr, cielab]
_NAMES = [each.__name__ for each in (*EXACT, *CONVERTED)]


@pytest.mark.long
@pytest.mark.parametrize("source", [*EXACT, *CONVERTED], ids=_NAMES)
def test_a_viewer_shows_what_the_source_shows(tmp_path: Path, source: Source) -> None:
    path = tmp_path / "a.tif"
    expected, options = source(path)
    found = difference(rendered(copied(path, **options)), expected)
    assert found <= (4 if source in CONVERTED else 2)


@pytest.mark.long
@pytest.mark.parametrize(
    "source",
    [
        rgb, beige_wall, one_colour, rgb_16, rgb_12, grey, min_is_white, fax, bits_12,
        imagej_composite, imagej_single, fluorescence, labels,
    ],
    ids=lambda source: source.__name__,
)  # fmt: skip
def test_a_preview_is_what_a_viewer_shows(tmp_path: Path, source: Source) -> None:
    path, png = tmp_path / "a.tif", tmp_path / "a.png"
    source(path)
    cloudimg.preview(path, png)
    found = np.asarray(imagecodecs.png_decode(png.read_bytes()))
    assert difference(rendered(copied(path)), found) <= 1


# Contrast


def windows_of(tmp_path: Path, pixels: Array, **options: Any) -> list[tuple[float, float]]:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **options)
    found = [channel["window"] for channel in channels_of(copied(path))]
    assert all(each["min"] <= each["start"] < each["end"] <= each["max"] for each in found)
    return [(each["start"], each["end"]) for each in found]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
def test_a_cell_on_black_is_seen(tmp_path: Path, dtype: str) -> None:
    """Fewer than one pixel of 1,000 is not black."""
    pixels = np.zeros((400, 400), dtype)
    pixels[100:112, 200:211] = RNG.integers(60, 120, (12, 11))
    ((start, end),) = windows_of(tmp_path, pixels, photometric="minisblack")
    assert start == 0
    assert 100 <= end <= 120 if dtype != "u1" else end in (119, 118, 117, 255)
    shown = rendered(tmp_path / "a.zarr")
    assert not shown[0, 0].any()
    assert shown[100:112, 200:211].min() >= 100 or (dtype == "u1" and end == 255)


def test_a_dark_spot_on_white_is_seen(tmp_path: Path) -> None:
    pixels = np.full((400, 400), 3000, np.uint16)
    pixels[100:112, 200:211] = 2900
    assert windows_of(tmp_path, pixels) == [(2900, 3000)]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((9, 9), 200, np.uint8), (0, 255)),
        (np.zeros((9, 9), np.uint8), (0, 255)),
        (np.full((9, 9), 700, np.uint16), (0, 700)),
        (np.zeros((9, 9), np.uint16), (0, 1)),
        (np.full((9, 9), -5, np.int16), (-5, 0)),
        (np.full((9, 9), 0.25, np.float32), (0, 0.25)),
        (np.full((9, 9), np.nan, np.float32), (0, 1)),
        (np.ones((9, 9), bool), (0, 1)),
    ],
)
def test_images_of_one_value(tmp_path: Path, pixels: Array, expected: tuple[float, float]) -> None:
    assert windows_of(tmp_path, pixels, photometric="minisblack") == [expected]


def test_opacity_beside_several_channels_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "channels.tif"
    extra = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, NOISE, extrasamples=[0, 0, 2], **extra)
    assert cloudimg.open(path).attrs["samples"][3] == "alpha: unassociated"
    copy = copied(path)
    assert [each["active"] for each in channels_of(copy)] == [True, True, True, False]
    cloudimg.preview(path, tmp_path / "shown.png", size=128)
    assert difference(pillow(tmp_path / "shown.png", "RGB"), rendered(copy)) <= 2


def test_opacity_decides_nothing_about_the_colours(tmp_path: Path) -> None:
    pixels = (NOISE.astype(np.uint16) * 16)[..., :4]
    pixels[..., 3] = 65535
    found = windows_of(tmp_path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert found == [(0, 4095)] * 3 + [(0, 65535)]


# Names


@pytest.mark.parametrize(
    ("photometric", "n_samples", "names", "active"),
    [
        ("rgb", 3, ["red", "green", "blue"], [0, 1, 2]),
        ("rgb", 4, ["red", "green", "blue", "alpha"], [0, 1, 2]),
        ("separated", 4, ["cyan", "magenta", "yellow", "black"], [0, 1, 2]),
        ("ycbcr", 3, ["Y", "Cb", "Cr"], [0]),
        ("cielab", 3, ["L*", "a*", "b*"], [0]),
        ("icclab", 3, ["L*", "a*", "b*"], [0]),
    ],
)
def test_samples_are_named_as_they_are(
    tmp_path: Path, photometric: str, n_samples: int, names: list[str], active: list[int]
) -> None:
    path = tmp_path / "a.tif"
    extra = {"extrasamples": ["unassalpha"]} if (photometric, n_samples) == ("rgb", 4) else {}
    tifffile.imwrite(path, NOISE[..., :n_samples], photometric=photometric, **extra)
    copy = path.with_suffix(".zarr")
    done = cloudimg.migrate(path, copy)
    found = channels_of(copy)
    assert [channel["label"] for channel in found] == names
    assert [i for i, channel in enumerate(found) if channel["active"]] == active
    assert any("rgb=True" in note for note in done.notes) == (photometric != "rgb")


def test_inks_have_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    inks = (333, "s", 0, "orange\0violet\0gold\0black", True)
    tifffile.imwrite(path, NOISE, photometric="separated", extratags=[inks, (332, "H", 1, 2, True)])
    names = [each["label"] for each in channels_of(copied(path))]
    assert names == ["orange", "violet", "gold", "black"]


def test_arrays_with_samples_are_rgb(tmp_path: Path) -> None:
    cloudimg.to_zarr(NOISE[..., :3], tmp_path / "a.zarr", dims=("y", "x", "s"))
    assert difference(rendered(tmp_path / "a.zarr"), NOISE[..., :3]) == 0
    assert [each["label"] for each in channels_of(tmp_path / "a.zarr")] == ["red", "green", "blue"]


def test_viewers_and_gdal_know_names(tmp_path: Path) -> None:
    """Viewers take an image's name from its rendering settings, GDAL those of axes from Zarr 2."""
    path = tmp_path / "slide.tif"
    pixels = written(path, NOISE[..., :3], photometric="rgb")
    assert attributes_of(copied(path))["ome"]["omero"]["name"] == "slide"
    cloudimg.migrate(path, tmp_path / "older", zarr_format=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no place on Earth
        with rasterio.open(tmp_path / "older" / "0") as file:
            np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), pixels)
            assert [file.tags(band)["DIM_c_INDEX"] for band in (1, 2, 3)] == ["0", "1", "2"]


# RGB on demand


def test_what_is_converted_is_in_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cmyk(path)
    copy = copied(path, rgb=True)
    provenance = attributes_of(copy)["cloudimg"]["provenance"]
    assert provenance["options"]["rgb"] is True
    assert cloudimg.migrate(path, copy, rgb=True).n_done_before > 0
    with pytest.raises(cloudimg.errors.ArgumentError, match="rgb=True before, rgb=False now"):
        cloudimg.migrate(path, copy)
    cloudimg.export(copy, tmp_path / "exported")
    (exported,) = (tmp_path / "exported").rglob("*.tif")
    assert difference(pillow(exported, "RGB"), rendered(copy)) == 0
    refusal = "its colours are converted"
    with pytest.raises(cloudimg.errors.CloudimgError, match=refusal):
        cloudimg.retire(copy, move_to=tmp_path / "retired")


def test_grey_and_rgb_stay_as_they_are(tmp_path: Path) -> None:
    for source in (rgb_16, bits_12, fax):
        path = tmp_path / f"{source.__name__}.tif"
        source(path)
        image, as_stored = cloudimg.open(path, rgb=True), cloudimg.open(path)
        assert image.dtype == as_stored.dtype
        np.testing.assert_array_equal(image.to_dask().compute(), as_stored.to_dask().compute())


def test_converted_pixels_have_a_token_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    ycbcr(path)  # of the same shape and type in both
    names = {cloudimg.imread(path, rgb=flag).name for flag in (True, False, True)}
    assert len(names) == 2


def test_regions_of_converted_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for source in (cmyk, cmyk_planar):
        source(path)
        image = cloudimg.imread(path, rgb=True)
        whole = image.compute()
        order = np.s_[1:, 5:50:3, 7:90:4] if image.shape[0] == 3 else np.s_[5:50:3, 7:90:4, 1:]
        np.testing.assert_array_equal(image[order].compute(), whole[order])


def test_files_of_one_dataset_are_converted(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (2, 20, 30, 4), np.uint8)
    names = [f"urn:uuid:0000000{t}-0000-0000-0000-000000000000" for t in range(2)]
    planes = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{t}.ome.tif">{names[t]}</UUID></TiffData>'
        for t in range(2)
    )
    for t in range(2):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="{names[t]}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8"'
            ' DimensionOrder="XYCZT" SizeX="30" SizeY="20" SizeZ="1" SizeT="2" SizeC="4">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="4"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"{t}.ome.tif", pixels[t], photometric="separated",
            description=xml, metadata=None)  # fmt: skip
    image = cloudimg.open(tmp_path / "0.ome.tif", rgb=True)
    assert image.shape == (2, 20, 30, 3)
    ink = pixels / 255
    expected = np.rint(255 * (1 - ink[..., :3]) * (1 - ink[..., 3:]))
    assert np.abs(image.to_dask().compute() - expected).max() <= 1


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    expected, _ = cmyk(path)
    assert main(["migrate", str(path), str(tmp_path / "a.zarr")]) == 0
    assert "--rgb copies them as RGB" in capsys.readouterr().out
    assert main(["migrate", str(path), str(tmp_path / "b.zarr"), "--rgb"]) == 0
    assert "--rgb" not in capsys.readouterr().out
    assert difference(rendered(tmp_path / "b.zarr"), expected) <= 4
    assert main(["migrate", str(path), str(tmp_path / "b.zarr")]) == 7
    assert "rgb" in capsys.readouterr().err


def test_opacity_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = RNG.integers(0, 256, (20, 30, 5), np.uint8)
    tifffile.imwrite(path, pixels, photometric="separated", extrasamples=["unassalpha"])
    image = cloudimg.open(path, rgb=True)
    assert image.attrs["samples"] == ["red", "green", "blue", "alpha: unassociated"]
    found = image.to_dask().compute()
    np.testing.assert_array_equal(found[..., 3], pixels[..., 4])
    ink = pixels / 255
    expected = np.rint(255 * (1 - ink[..., :3]) * (1 - ink[..., 3:4]))
    assert difference(found[..., :3], expected) <= 1


def test_an_export_of_converted_pixels_has_no_tags_of_others(tmp_path: Path) -> None:
    """The nodata value of a palette is an index, and a profile of inks is none of RGB."""
    tags = [(42113, "s", 0, "0", True), (34675, 7, 4, b"CMYK", True)]
    written(
        tmp_path / "palette.tif", NOISE[..., 0], photometric="palette", extratags=tags,
        colormap=RNG.integers(0, 2**16, (3, 256), np.uint16),
    )  # fmt: skip
    written(
        tmp_path / "inks.tif", np.concatenate([NOISE, NOISE[..., :1]], -1),
        photometric="separated", extrasamples=["unassalpha"], extratags=tags,
    )  # fmt: skip
    for name in ("palette", "inks"):
        copy = copied(tmp_path / f"{name}.tif", rgb=True)
        done = cloudimg.export(copy, tmp_path / name)
        assert "GDAL_NODATA" in str(done)
        image = cloudimg.open(tmp_path / name / f"{name}.tif")
        assert "nodata" not in image.attrs
        source = cloudimg.open(tmp_path / f"{name}.tif", rgb=True)
        assert image.attrs.get("samples") == source.attrs.get("samples")
        np.testing.assert_array_equal(image.read(), source.read())
        with tifffile.TiffFile(tmp_path / name / f"{name}.tif") as tiff:
            assert 34675 not in tiff.pages.first.tags


def test_a_photograph_in_another_format(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(SMOOTH, mode="CMYK").save(path, quality=98)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert difference(rendered(copied(path, rgb=True)), expected) <= 4


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NOISE, photometric="separated", extratags=[(332, "H", 1, 2, True)])
    with pytest.raises(cloudimg.errors.UnsupportedFormatError, match='colour space "inks"'):
        cloudimg.open(path, rgb=True)


# Real files


@pytest.mark.slow
@pytest.mark.parametrize(("photometric", "least"), REAL)
def test_copies_of_real_files(
    corpus: Path, tmp_path: Path, photometric: tuple[str, ...], least: int
) -> None:
    is_rgb = photometric == ("RGB",)
    found = {}
    for number, path in enumerate(real_files(corpus, *photometric)):
        expected = by_pillow(path, 1 if photometric[0].startswith("MINISWHITE") else 3)
        copy = tmp_path / f"{number}.zarr"
        try:
            cloudimg.migrate(path, copy, rgb=not is_rgb, series=0)
        except cloudimg.errors.CloudimgError:
            continue  # tests/opening/test_corpus.py judges these
        # Pillow divides colours by their opacity, and viewers do not know it.
        has_opacity = len(channels_of(copy)) == 4
        if expected is not None and not has_opacity and path.name not in UPSAMPLED:
            found[path.name] = difference(rendered(copy), expected)
    assert {name: each for name, each in found.items() if each > (2 if is_rgb else 4)} == {}
    assert len(found) >= least
