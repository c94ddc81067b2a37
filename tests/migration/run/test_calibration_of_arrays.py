"""Scale, units, places and channels of copies of arrays: from coordinates, or as they are stated.

What a copy should say is computed from the numbers of the image and of the selection alone.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray
import zarr
from ome_zarr_models.v04 import Image as Image04
from ome_zarr_models.v05 import Image as Image05

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgWarning

MICROMETRE = "\u00b5m"
IN_MICROMETRES = {"nm": 1e-3, MICROMETRE: 1.0, "mm": 1e3, "thou": 25.4, "dm": 1e5, "inch": 25400.0}
NAMES = {"nm": "nanometer", MICROMETRE: "micrometer", "mm": "millimeter", "dm": "decimeter"}
NAMES |= {"inch": "inch"}
CHANNELS = {"DAPI": "0000FF", "GFP": "00FF00", "Cy5": "FF0000"}
LENGTHS = {"t": 4, "c": 3, "z": 5, "y": 48, "x": 40}
Numbers = dict[str, float]


def signed_rgba(colour: str) -> int:
    return int.from_bytes(bytes.fromhex(colour) + b"\xff", "big", signed=True)


def image_of(folder: Path, sizes: dict[str, tuple[float, str]]) -> cloudimg.Image:
    """A file with these distances of pixels, three channels and a second and a half per frame."""
    metadata: dict[str, Any] = {"axes": "TCZYX", "TimeIncrement": 1.5, "TimeIncrementUnit": "s"}
    for dim, (size, unit) in sizes.items():
        metadata[f"PhysicalSize{dim.upper()}"] = size
        metadata[f"PhysicalSize{dim.upper()}Unit"] = unit
    colours = [signed_rgba(each) for each in CHANNELS.values()]
    metadata["Channel"] = {"Name": list(CHANNELS), "Color": colours}
    pixels = np.random.default_rng(0).integers(0, 500, tuple(LENGTHS.values()), np.uint16)
    tifffile.imwrite(folder / "a.ome.tif", pixels, ome=True, metadata=metadata)
    return cloudimg.open(folder / "a.ome.tif")


def read(copy: Path, zarr_format: int = 3) -> tuple[Numbers, Numbers, dict[str, Any], list[Any]]:
    """Scales, translations, units by axis, and names and colours of channels."""
    group = zarr.open_group(copy, mode="r", zarr_format=zarr_format)  # type: ignore[arg-type]
    (Image05 if zarr_format == 3 else Image04).from_zarr(group)
    ome: Any = group.attrs["ome"] if zarr_format == 3 else group.attrs
    (multiscale,) = ome["multiscales"]
    dims = [axis["name"] for axis in multiscale["axes"]]
    scale, *others = multiscale["datasets"][0]["coordinateTransformations"]
    origin = others[0]["translation"] if others else [0.0] * len(dims)
    return (
        dict(zip(dims, scale["scale"], strict=True)),
        dict(zip(dims, origin, strict=True)),
        {axis["name"]: axis.get("unit") for axis in multiscale["axes"]},
        [(channel["label"], channel["color"]) for channel in ome["omero"]["channels"]],
    )


def common_unit(sizes: dict[str, tuple[float, str]], dims: Any) -> str:
    units = [sizes[dim][1] for dim in ("x", "y", "z") if dim in dims and sizes[dim][1] in NAMES]
    return MICROMETRE if MICROMETRE in units or not units else units[0]


@pytest.mark.parametrize("seed", range(8))
def test_what_to_xarray_says_survives_selection_and_arithmetic(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    units = list(IN_MICROMETRES)
    sizes = {dim: (rng.choice([0.1, 0.325, 2.0, 7.5]), rng.choice(units)) for dim in "zyx"}
    array = image_of(tmp_path, sizes).to_xarray()
    steps, starts, kept = dict.fromkeys(LENGTHS, 1), dict.fromkeys(LENGTHS, 0), list(CHANNELS)
    for dim in rng.sample(list(LENGTHS), 4):
        start, step = rng.randrange(3), rng.randrange(1, 4)
        if dim == "c":
            kept = rng.sample(kept, rng.randrange(1, 4))
            array = array.sel(c=kept)
            continue
        array = array.isel({dim: slice(start, None, step)})
        starts[dim], steps[dim] = start, step if array.sizes[dim] > 1 else 1
    if rng.random() < 0.5:
        array = (array.astype(np.float32) / 3 + 1).chunk({"y": 16})
    if rng.random() < 0.5:
        array = array.map_blocks(np.sqrt) if array.dtype.kind == "f" else array // 2
    if rng.random() < 0.3:
        array = array.max("z")
    if rng.random() < 0.5:
        array = array.transpose(*reversed(array.dims))
    zarr_format: Any = rng.choice([2, 3])
    cloudimg.to_zarr(array, tmp_path / "a.zarr", zarr_format=zarr_format)
    found = read(tmp_path / "a.zarr", zarr_format)
    dims = [dim for dim in LENGTHS if dim in array.dims]
    unit = common_unit(sizes, dims)
    size = {d: v * IN_MICROMETRES[u] / IN_MICROMETRES[unit] for d, (v, u) in sizes.items()}
    size |= {"t": 1.5, "c": 1.0}
    assert found[0] == pytest.approx({dim: size[dim] * steps[dim] for dim in dims})
    assert found[1] == pytest.approx({dim: size[dim] * starts[dim] for dim in dims})
    in_space = {dim: NAMES[unit] for dim in "zyx" if dim in dims}
    assert found[2] == {"t": "second", "c": None, **in_space}
    assert found[3] == [(name, CHANNELS[name]) for name in kept]


def test_a_single_channel_keeps_its_name_and_colour(tmp_path: Path) -> None:
    image = image_of(tmp_path, dict.fromkeys("zyx", (1.0, MICROMETRE)))
    cloudimg.to_zarr(image.to_xarray().sel(c="GFP").isel(t=0), tmp_path / "a.zarr")
    scale, _, _, channels = read(tmp_path / "a.zarr")
    assert list(scale) == ["z", "y", "x"]
    assert channels == [("GFP", CHANNELS["GFP"])]


def test_bands_that_gdal_named_keep_their_names(tmp_path: Path) -> None:
    xml = "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>'
        for i, name in enumerate(["red", "green", "nir"])
    )
    text = f"<GDALMetadata>{xml}</GDALMetadata>".encode() + b"\0"
    pixels = np.zeros((16, 24, 3), np.uint8)
    tags = [(42112, 2, len(text), text, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None, extratags=tags)
    array = cloudimg.open(tmp_path / "a.tif").to_xarray()
    for name, part, expected in (
        ("a", array, ["red", "green", "nir"]),
        ("b", array.isel(s=[2, 0]), ["nir", "red"]),
    ):
        cloudimg.to_zarr(part, tmp_path / f"{name}.zarr", scale={})
        assert [label for label, _ in read(tmp_path / f"{name}.zarr")[3]] == expected


def test_attributes_that_are_no_longer_true_are_left_out(tmp_path: Path) -> None:
    image = image_of(tmp_path, dict.fromkeys("zyx", (0.5, MICROMETRE)))
    part = image.to_xarray().isel(x=slice(None, None, 2), t=slice(None, None, 3), c=[2, 0])
    cloudimg.to_zarr(part.coarsen(y=2).mean(), tmp_path / "a.zarr")
    scale, origin, _, channels = read(tmp_path / "a.zarr")
    assert (scale["x"], scale["y"], scale["t"]) == (1.0, 1.0, 4.5)
    assert (origin["x"], origin["y"]) == (0.0, 0.25)
    assert [name for name, _ in channels] == ["Cy5", "DAPI"]
    kept: Any = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["cloudimg"]
    assert kept["attributes"]["pixel_size"] == {"z": 0.5}
    assert kept["attributes"]["channel_names"] == ["Cy5", "DAPI"]
    assert "time_step_s" not in kept["attributes"]
    assert kept["attributes"]["kind"] == "ome"


def test_the_mean_of_all_planes_has_no_size_of_a_plane(tmp_path: Path) -> None:
    """Its coordinate lies between planes, so that attributes no longer tell its distance."""
    image = image_of(tmp_path, {**dict.fromkeys("yx", (1.0, MICROMETRE)), "z": (2.0, MICROMETRE)})
    array = image.to_xarray().isel(t=0, c=0, z=slice(0, 4))
    cloudimg.to_zarr(array.coarsen(z=4).mean(), tmp_path / "a.zarr")
    scale, origin, units, _ = read(tmp_path / "a.zarr")
    assert (scale["z"], origin["z"], units["z"]) == (1.0, 3.0, "micrometer")


def test_long_coordinates_are_not_listed_where_scale_and_origin_say_them(tmp_path: Path) -> None:
    places = 0.1 * np.arange(20_000)
    for name, x in (("even", places), ("uneven", places**2)):
        array = xarray.DataArray(
            np.zeros((2, 20_000), np.uint8), {"x": ("x", x, {"units": "um"})}, ("y", "x")
        )
        cloudimg.to_zarr(array, tmp_path / f"{name}.zarr", units={"y": "um"})
    assert (tmp_path / "even.zarr/zarr.json").stat().st_size < 10_000
    assert read(tmp_path / "even.zarr")[0] == {"y": 1.0, "x": pytest.approx(0.1)}
    own: Any = zarr.open_group(tmp_path / "uneven.zarr", mode="r").attrs["cloudimg"]
    assert own["coordinates"]["x"] == pytest.approx(places**2)


# ----------------------------------------------------------------------------- what is stated


def test_arrays_without_coordinates_take_what_is_stated(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2, 4, 32, 32), np.uint8)
    stated: dict[str, Any] = {
        "scale": {"t": 2, "z": np.float32(0.5), "y": 100, "x": 100},
        "units": {"t": "min", "z": "um", "y": "nm", "x": "nm"},
        "translation": {"x": 5000, "z": 3},
        "channel_names": ["red", "green"],
    }
    cloudimg.to_zarr(pixels, tmp_path / "a.zarr", **stated)
    scale, origin, units, channels = read(tmp_path / "a.zarr")
    assert scale == pytest.approx({"t": 2, "c": 1, "z": 0.5, "y": 0.1, "x": 0.1})
    assert origin == pytest.approx({"t": 0, "c": 0, "z": 3, "y": 0, "x": 5})
    space = dict.fromkeys("zyx", "micrometer")
    assert units == {"t": "minute", "c": None, **space}
    assert [name for name, _ in channels] == ["red", "green"]
    again = cloudimg.to_zarr(pixels, tmp_path / "a.zarr", **stated)
    assert again.n_done_before == again.n_cells
    with pytest.raises(ArgumentError, match=r"pixel_size=\{.*'100nanometer'.*\} before, "):
        cloudimg.to_zarr(pixels, tmp_path / "a.zarr", **{**stated, "units": {"x": "um"}})


def test_what_is_stated_counts_before_coordinates(tmp_path: Path) -> None:
    """Places that were counted in pixels follow the size of a pixel."""
    image = image_of(tmp_path, dict.fromkeys("zyx", (0.5, MICROMETRE)))
    part = image.to_xarray().isel(x=slice(10, None, 2))
    sizes: dict[str, float | str] = {"x": "40 nm", "y": 20, "t": "3 min"}
    cloudimg.to_zarr(part, tmp_path / "a.zarr", pixel_size=sizes, translation={"z": -1})
    scale, origin, units, channels = read(tmp_path / "a.zarr")
    assert scale == pytest.approx({"t": 3, "c": 1, "z": 0.5, "y": 20, "x": 0.04})
    assert origin == pytest.approx({"t": 0, "c": 0, "z": -1, "y": 0, "x": 5 * 0.04})
    assert units == {"t": "minute", "c": None, **dict.fromkeys("zyx", "micrometer")}
    assert [name for name, _ in channels] == list(CHANNELS)


def test_units_name_numbers_of_coordinates_without_them(tmp_path: Path) -> None:
    coords = {"y": 2.0 * np.arange(16), "x": 5 + 2.0 * np.arange(16)}
    array = xarray.DataArray(np.zeros((16, 16), np.uint8), coords, ("y", "x"))
    cloudimg.to_zarr(array, tmp_path / "a.zarr", units={"y": "mm", "x": "mm"})
    assert read(tmp_path / "a.zarr")[:3] == (
        {"y": 2, "x": 2},
        {"y": 0, "x": 5},
        {"y": "millimeter", "x": "millimeter"},
    )


def test_units_that_are_not_known_are_left_out_with_a_note(tmp_path: Path) -> None:
    coords = {
        "y": ("y", 2.0 * np.arange(16), {"units": "furlong"}),
        "x": ("x", 2.0 * np.arange(16), {"units": "um"}),
    }
    array = xarray.DataArray(np.zeros((16, 16), np.uint8), coords, ("y", "x"))
    done = cloudimg.to_zarr(array, tmp_path / "a.zarr")
    assert done.notes == ("units that OME-Zarr does not have are left out: 'furlong' of y",)
    assert read(tmp_path / "a.zarr")[2] == {"y": None, "x": "micrometer"}
    named = cloudimg.to_zarr(array, tmp_path / "b.zarr", units={"y": "um"})
    assert not named.notes


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"scale": 0.5}, r"scale=0.5 must be a mapping by dim, such as scale=\{"),
        ({"scale": {"x": 0}}, r"scale=\{'x': 0\} must be greater than 0"),
        ({"scale": {"x": "1"}}, r"scale=\{'x': '1'\} must be a number"),
        ({"scale": {"x": True}}, "must be a number"),
        ({"scale": {"x": float("inf")}}, "must be a number"),
        ({"scale": {"x": 10**400}}, r"0\} must be a number of at most 1e\+100"),
        ({"scale": {"q": 1}}, "sizes of pixels along q: of the axes of the copy, y, x can have"),
        ({"scale": {"c": 1}}, "sizes of pixels along c"),
        ({"units": {"x": "furlong"}}, "'furlong' is not a unit of length .* such as nanometer"),
        ({"units": {"t": "um"}}, "'um' is not a unit of time"),
        ({"units": ["um"]}, r"units=\['um'\] must be a mapping by dim"),
        ({"translation": {"y": None}}, r"translation=\{'y': None\} must be a number"),
        ({"translation": {"t": 1}}, "translation= along t: of the axes"),
        ({"channel_names": ["a"]}, "channel_names= has 1 name, but the copy has 2 channels"),
        ({"channel_names": "ab"}, "channel_names='ab' must be a list of texts"),
        ({"pixel_size": {1: 2}}, r"pixel_size=\{1: 2\} must be a mapping by dim, such as"),
        ({"pixel_size": "wide"}, "must be a number with a unit, as in '325 nm'"),
        ({"pixel_size": {"x": "3 feet 2"}}, "'feet 2' is not a unit of length"),
        ({"pixel_size": 1, "units": {}}, "states scale= and units= together"),
    ],
)
def test_what_cannot_be_true_is_an_error(
    tmp_path: Path, stated: dict[str, Any], problem: str
) -> None:
    pixels = np.zeros((2, 16, 16), np.uint8)
    with pytest.raises(ArgumentError, match=problem):
        cloudimg.to_zarr(pixels, tmp_path / "a.zarr", dims="cyx", **stated)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.filterwarnings("error")
def test_arrays_without_a_size_of_pixels_are_warned_of(tmp_path: Path) -> None:
    image = image_of(tmp_path, dict.fromkeys("zyx", (0.5, MICROMETRE)))
    half = image.to_dask() // 2
    advice = r"no coordinates .* scale 1 and no units: pass scale=\{.* Image.to_xarray\(\)"
    for array in (half, np.zeros((8, 8)), xarray.DataArray(half, dims=("t", "c", "z", "y", "x"))):
        with pytest.warns(CloudimgWarning, match=advice) as told:
            cloudimg.to_zarr(array, tmp_path / "a.zarr", overwrite=True)
        assert [each.filename for each in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cloudimg.to_zarr(half, tmp_path / "a.zarr", overwrite=True, scale={})
        cloudimg.to_zarr(half, tmp_path / "b.zarr", pixel_size=0.5)
        cloudimg.to_zarr(image.to_xarray() // 2, tmp_path / "c.zarr")
        image.to_zarr(tmp_path / "d.zarr")
    assert read(tmp_path / "c.zarr")[:3] == read(tmp_path / "d.zarr")[:3]


@pytest.mark.filterwarnings("error")
def test_a_last_axis_that_looks_like_colours_is_told_of(tmp_path: Path) -> None:
    pixels = np.zeros((9, 8, 3), np.uint8)
    with pytest.warns(CloudimgWarning, match=r"taken for z, y, x: pass dims=\('y', 'x', 's'\) if"):
        cloudimg.to_zarr(pixels, tmp_path / "a.zarr", scale={})
    cloudimg.to_zarr(pixels, tmp_path / "b.zarr", scale={}, dims=("y", "x", "s"))
    cloudimg.to_zarr(pixels[:3], tmp_path / "c.zarr", scale={})


@pytest.mark.filterwarnings("error")
def test_an_axis_without_equally_spaced_coordinates_is_told_of(tmp_path: Path) -> None:
    array = image_of(tmp_path, dict.fromkeys("zyx", (0.5, MICROMETRE))).to_xarray()
    with pytest.warns(CloudimgWarning, match="how large its pixels are along x, so that"):
        padded = cloudimg.to_zarr(array.pad(x=2), tmp_path / "a.zarr")
    assert padded.notes[0].startswith("the coordinates along x are not equally spaced, so that")
    shuffled = cloudimg.to_zarr(array.isel(z=[0, 3, 1], t=[2, 0]), tmp_path / "b.zarr")
    assert shuffled.notes[0].startswith("the coordinates along z are not equally spaced, so that")
    stated = cloudimg.to_zarr(array.pad(x=2), tmp_path / "c.zarr", scale={"x": 0.5})
    assert not stated.notes
    array.x.attrs["units"] = None
    assert not cloudimg.to_zarr(array, tmp_path / "d.zarr").notes


def test_attributes_of_other_programs_are_not_taken_for_those_of_images(tmp_path: Path) -> None:
    attrs: dict[str, Any] = {
        "channel_names": [1, 2],
        "channel_colors": ["red", None],
        "samples": [{}, 3],
        "pixel_size": 0.5,
        "pixel_size_unit": "um",
        "time_step_s": "slow",
        "display_ranges": "[[",
        "stage_position": "{",
        "color_space": 7,
    }
    array = xarray.DataArray(np.zeros((2, 1, 16, 16), np.uint8), dims=list("cxyt"), attrs=attrs)
    cloudimg.to_zarr(array.assign_coords(x=[3.0]), tmp_path / "a.zarr", scale={})
    scale, _, _, channels = read(tmp_path / "a.zarr")
    assert scale == dict.fromkeys("tcyx", 1.0)
    assert len(channels) == 2


def test_arrays_that_were_stored_as_netcdf_keep_their_channels(tmp_path: Path) -> None:
    image = image_of(tmp_path, dict.fromkeys("zyx", (0.5, MICROMETRE)))
    image.to_xarray().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xarray.open_dataarray(tmp_path / "a.nc", engine="h5netcdf") as stored:
        cloudimg.to_zarr(stored.load(), tmp_path / "a.zarr")
    image.to_zarr(tmp_path / "b.zarr")
    assert read(tmp_path / "a.zarr") == read(tmp_path / "b.zarr")
