"""`Image.to_xarray` and `to_datatree`: places of pixels, labels, names, what can be stored."""

from __future__ import annotations

import datetime
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import xarray

import cloudimg
from tests.support import seed
from tests.support.metering import Meter

Array = npt.NDArray[Any]

PIXELS = np.random.default_rng(5).integers(0, 2**16, (3, 2, 4, 20, 30), np.uint16)
"""t, c, z, y and x: files by t and by halves of y."""


def put_all(folder: Path) -> str:
    for t in range(3):
        for y in range(2):
            part = PIXELS[t, :, :, 10 * y : 10 * y + 10].transpose(1, 0, 2, 3)
            metadata = {"axes": "ZCYX", "spacing": 3.0, "unit": "um", "finterval": 2.0}
            data = seed.encode(part, imagej=True, metadata=metadata, resolution=(2, 2))
            (folder / f"exp_t{5 * t}_y{y}.tif").write_bytes(data)
    return str(folder / "exp_t{t}_y{y}.tif")


def put_ome(path: Path, pixels: Array, **metadata: Any) -> cloudimg.Image:
    path.write_bytes(seed.encode(pixels, ome=True, metadata=metadata))
    return cloudimg.open(path)


def stored_and_read(array: Any, path: Path) -> Any:
    """An array that was stored as its suffix says, and read again."""
    if path.suffix == ".nc":
        array.to_netcdf(path, engine="h5netcdf")
        return xarray.open_dataarray(path, engine="h5netcdf")
    array.to_zarr(path, consolidated=False)
    return xarray.open_dataarray(path, engine="zarr", consolidated=False)


def test_pixels_lie_where_the_files_say(tmp_path: Path) -> None:
    array = cloudimg.open(put_all(tmp_path)).to_xarray()
    assert array.name == "exp"
    assert array.dims == ("t", "c", "z", "y", "x")
    for dim, step, unit in (("t", 2, "s"), ("z", 3, "µm"), ("y", 0.5, "µm"), ("x", 0.5, "µm")):
        np.testing.assert_allclose(array.coords[dim], step * np.arange(array.sizes[dim]))
        assert array.coords[dim].attrs == {"units": unit}
    assert list(array.coords["t_label"]) == [0, 5, 10]
    assert list(array.coords["y_label"]) == [0] * 10 + [1] * 10
    at = array.sel(t=2.1, z=6.0, y=5.0, x=7.4, method="nearest")
    np.testing.assert_array_equal(at, PIXELS[1, :, 2, 10, 15])
    np.testing.assert_array_equal(array.sel(y=slice(4.9, 6.0)), PIXELS[..., 10:13, :])


def test_labels_stay_where_no_distance_is_known(tmp_path: Path) -> None:
    for z in (3, 7):
        (tmp_path / f"a_z{z}.tif").write_bytes(seed.encode(np.zeros((4, 5), np.uint8)))
    array = cloudimg.open(tmp_path / "a_z{z}.tif").to_xarray()
    assert list(array.coords["z"]) == [3, 7]
    assert set(array.coords) == {"z"}
    assert "units" not in array.coords["z"].attrs


def test_times_in_names_stay_times(tmp_path: Path) -> None:
    for hour in (9, 10):
        name = f"a_{hour:02d}h.ome.tif"
        (tmp_path / name).write_bytes(
            seed.encode(
                np.zeros((4, 5), np.uint8),
                ome=True,
                metadata={"axes": "YX", "TimeIncrement": 60.0, "TimeIncrementUnit": "s"},
            )
        )
    array = cloudimg.open(tmp_path / "a_{t:%H}h.ome.tif").to_xarray()
    assert array.coords["t"].dtype.kind == "M"
    assert array.coords["t"][1].dt.hour == 10


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_it_can_be_stored_and_read(tmp_path: Path, suffix: str) -> None:
    array = cloudimg.open(put_all(tmp_path)).to_xarray()
    back = stored_and_read(array, tmp_path / f"stored{suffix}")
    xarray.testing.assert_identical(back.load(), array.compute())
    assert back.coords["x"].attrs["units"] == "µm"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_attributes_of_every_kind_can_be_stored(tmp_path: Path, suffix: str) -> None:
    """Mappings, lists of texts, arrays, texts that are no Unicode, and what is too large."""
    annotated = put_ome(
        tmp_path / "a.ome.tif",
        PIXELS[0, :, 0],
        axes="CYX",
        PhysicalSizeX=0.5,
        Channel={"Name": ["DAPI", "é\u2713"], "Color": [-1, 65535]},
    )
    colormap = np.random.default_rng(0).integers(0, 2**16, (3, 256), np.uint16)
    (tmp_path / "p.tif").write_bytes(
        seed.encode(PIXELS[0, 0, 0].astype(np.uint8), photometric="palette", colormap=colormap)
    )
    (tmp_path / "d.tif").write_bytes(
        seed.encode(PIXELS[0, 0, 0], description="x" * 100_000, metadata=None)
    )
    for number, image in enumerate(
        (annotated, *(cloudimg.open(tmp_path / name) for name in ("p.tif", "d.tif")))
    ):
        array = image.to_xarray()
        back = stored_and_read(array, tmp_path / f"{number}{suffix}")
        assert back.attrs.keys() == array.attrs.keys()
        for name, value in array.attrs.items():
            np.testing.assert_array_equal(back.attrs[name], value, err_msg=name)
        assert all(isinstance(v, str | int | float | list) for v in array.attrs.values())
    assert array.attrs["kind"] == "plain" or "description" not in array.attrs
    assert "DAPI" in annotated.to_xarray().attrs["channel_names"]
    assert "é\u2713" in annotated.to_xarray().attrs["channel_names"]


@pytest.mark.parametrize("kind", ["u8", "i8", "f8"])
def test_pixels_of_64_bits_can_be_stored(tmp_path: Path, kind: str) -> None:
    """NumPy has two types of 64-bit integers, of which Zarr takes one."""
    pixels = np.arange(20).reshape(4, 5).astype(kind)
    (tmp_path / "p.tif").write_bytes(seed.encode(pixels))
    array = cloudimg.open(tmp_path / "p.tif").to_xarray()
    back = stored_and_read(array, tmp_path / "stored.zarr")
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_text_labels_can_be_stored(tmp_path: Path, suffix: str) -> None:
    for well in ("A1", "B03"):
        (tmp_path / f"{well}.tif").write_bytes(seed.encode(np.zeros((4, 5), np.uint8)))
    array = cloudimg.open(tmp_path / "{well:s}.tif").to_xarray()
    back = stored_and_read(array, tmp_path / f"stored{suffix}")
    assert list(back.coords["well"].values) == ["A1", "B03"]
    assert back.sel(well="B03").dims == ("y", "x")


def test_nodata_becomes_nan_where_it_is_read_again(tmp_path: Path) -> None:
    pixels = np.array([[1, 2], [65535, 4]], np.uint16)
    extra = [(42113, "s", 0, "65535", True)]  # GDAL_NODATA
    (tmp_path / "n.tif").write_bytes(seed.encode(pixels, extratags=extra, metadata=None))
    array = cloudimg.open(tmp_path / "n.tif").to_xarray()
    array.to_netcdf(tmp_path / "n.nc", engine="h5netcdf")
    with xarray.open_dataarray(tmp_path / "n.nc", engine="h5netcdf") as back:
        np.testing.assert_array_equal(back, [[1, 2], [np.nan, 4]])
        assert back.encoding["_FillValue"] == 65535


def test_it_pickles(tmp_path: Path) -> None:
    array = cloudimg.open(put_all(tmp_path)).to_xarray()
    xarray.testing.assert_identical(pickle.loads(pickle.dumps(array)), array)


def test_names_come_from_the_files_and_hold_no_secret(meter: Meter, bucket: str) -> None:
    pixels = np.zeros((4, 5), np.uint8)
    for name, expected in (
        ("secret-token/Scan 01_z0.tif", "Scan"),
        ("secret-token/z0.tif", "z_image"),
        ("secret-token/0123.tif", "image"),
    ):
        meter.put(bucket, name, seed.encode(pixels))
        pattern = name.replace("z0", "z{z}")
        image = cloudimg.open(f"s3://{bucket}/{pattern}", storage_options=meter.storage_options)
        assert image.to_xarray().name == expected
        assert "secret" not in str(image.to_xarray().attrs)


def test_the_arguments_of_to_dask(tmp_path: Path) -> None:
    image = cloudimg.open(put_all(tmp_path))
    array = image.to_xarray({"t": 1}, name="mine")
    assert array.chunks is not None
    assert array.chunks[0] == (1, 1, 1)
    assert array.data.name == "mine"
    assert array.name == "exp"
    with pytest.raises(cloudimg.errors.ArgumentError, match="level=3"):
        image.to_xarray(level=3)


def put_levels(path: Path) -> Array:
    pixels = np.random.default_rng(0).integers(0, 255, (101, 130), np.uint8)
    metadata = {
        "axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, subifds=2, tile=(32, 32), metadata=metadata)
        for step in (2, 4):
            file.write(pixels[::step, ::step], subfiletype=1, tile=(32, 32))
    return pixels


def test_levels_as_a_tree(tmp_path: Path) -> None:
    pixels = put_levels(tmp_path / "slide.ome.tif")
    tree = cloudimg.open(tmp_path / "slide.ome.tif").to_datatree()
    assert list(tree.children) == ["level0", "level1", "level2"]
    for number, step in enumerate((1, 2, 4)):
        level = tree[f"level{number}"].image
        np.testing.assert_array_equal(level, pixels[::step, ::step])
        # A pixel of a level is centred on the pixels of level 0 that it stands for.
        for dim, size in (("x", 0.5), ("y", 0.25)):
            centres = (np.arange(level.sizes[dim]) * step + (step - 1) / 2) * size
            np.testing.assert_allclose(level.coords[dim], centres)
            assert level.coords[dim].attrs["units"] == "µm"
    part = cloudimg.open(tmp_path / "slide.ome.tif").isel(x=slice(8, 40), y=slice(16, None))
    for name, node in part.to_datatree().children.items():
        cut = tree[name].image.isel(
            x=slice(*(n >> int(name[-1]) for n in (8, 40))), y=slice(16 >> int(name[-1]), None)
        )
        xarray.testing.assert_allclose(node.image.compute(), cut.compute())


def test_a_tree_can_be_stored(tmp_path: Path) -> None:
    put_levels(tmp_path / "slide.ome.tif")
    tree = cloudimg.open(tmp_path / "slide.ome.tif").to_datatree()
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    back = xarray.open_datatree(tmp_path / "tree.nc", engine="h5netcdf")
    xarray.testing.assert_equal(back.compute(), tree.compute())
    back.close()


@pytest.mark.slow
def test_long_axes_take_arrays_only(meter: Meter, bucket: str) -> None:
    """A hundred thousand files: coordinates are columns, not objects."""
    n_files = 100_000
    data = seed.encode(
        np.zeros((4, 5), np.uint8), imagej=True, metadata={"axes": "YX", "finterval": 0.1}
    )
    meter.fill(bucket, [f"t{t:06d}.tif" for t in range(n_files)], data)
    image = cloudimg.open(f"s3://{bucket}/t{{t:06d}}.tif", storage_options=meter.storage_options)
    image.to_xarray()  # what is imported counts once
    tracemalloc.start()
    array = image.isel(x=slice(0, 4)).to_xarray()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert array.sizes["t"] == n_files
    np.testing.assert_allclose(array.coords["t"][-1], 0.1 * (n_files - 1))
    assert array.coords["t_label"][-1] == n_files - 1
    assert peak < 100 * n_files
    assert len(pickle.dumps(array)) < 100 * n_files


def test_facts_of_files_are_coordinates(tmp_path: Path) -> None:
    start = datetime.datetime(2026, 1, 31, 9)
    for well, x in (("A1", 0.0), ("A2", 9000.0)):
        for t in range(2):
            metadata = {
                "axes": "YX",
                "AcquisitionDate": (start + t * datetime.timedelta(hours=1)).isoformat(),
                "Plane": {
                    "PositionX": [x], "PositionXUnit": ["µm"],
                    "PositionY": [5.0], "PositionYUnit": ["µm"],
                },
            }  # fmt: skip
            data = seed.encode(np.zeros((4, 5), np.uint8), ome=True, metadata=metadata)
            (tmp_path / f"{well}_t{t}.ome.tif").write_bytes(data)
    image = cloudimg.open(tmp_path / "{well:s}_t{t}.ome.tif", validate="all")
    array = image.to_xarray()
    assert array.coords["stage_x"].dims == ("well",)
    assert list(array.coords["stage_x"]) == [0, 9000]
    assert array.coords["stage_y"].dims == ()
    assert array.coords["acquired"].dims == ("t",)
    part = image.sel(well="A2", t=[1]).to_xarray()
    assert part.coords["stage_x"] == 9000
    assert part.coords["acquired"].values.ravel()[0] == np.datetime64(start) + np.timedelta64(
        1, "h"
    )
    array.to_netcdf(tmp_path / "stored.nc", engine="h5netcdf")


def test_a_plot_has_places_on_its_axes(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    plane = cloudimg.open(put_all(tmp_path)).isel(t=0, c=0, z=0, x=slice(10, None)).to_xarray()
    axes = plane.plot().axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x [µm]", "y [µm]")
    assert axes.get_xlim() == pytest.approx((4.75, 14.75))  # from edge to edge
    matplotlib.pyplot.close("all")
