"""Levels and units of copies by the sizes of pixels that headers state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray
import zarr

import cloudimg

MICROMETRE = "\u00b5m"


def volume(path: Path, shape: tuple[int, ...], **sizes: tuple[float, str]) -> Path:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, (size, unit) in sizes.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(path, np.zeros(shape, np.uint8), ome=True, metadata=metadata)
    return path


def copied(path: Path, **options: Any) -> tuple[list[tuple[int, ...]], dict[str, Any]]:
    """Shapes of the levels, and the multiscales."""
    copy = path.with_suffix(".zarr")
    cloudimg.migrate(path, copy, **options)
    assert cloudimg.verify(copy)
    ome = json.loads((copy / "zarr.json").read_bytes())["attributes"]["ome"]
    group = zarr.open_group(copy, mode="r")
    (multiscale,) = ome["multiscales"]
    return [group[each["path"]].shape for each in multiscale["datasets"]], multiscale


def scale_of(multiscale: dict[str, Any], level: int = 0) -> dict[str, float]:
    transforms = multiscale["datasets"][level]["coordinateTransformations"]
    names = [axis["name"] for axis in multiscale["axes"]]
    return dict(zip(names, transforms[0]["scale"], strict=True))


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        # As fine as the plane: all axes are halved.
        (0.1, [(64, 64, 64), (32, 32, 32), (16, 16, 16)]),
        # Coarse: the plane is halved until its pixels are as large.
        (0.4, [(64, 64, 64), (64, 32, 32), (64, 16, 16), (32, 8, 8)]),
        (1.0, [(64, 64, 64), (64, 32, 32), (64, 16, 16)]),
        # Fine: z alone is halved first.
        (0.05, [(64, 64, 64), (32, 64, 64), (16, 32, 32)]),
    ],
)
def test_no_axis_is_halved_whose_pixels_are_coarser(
    tmp_path: Path, z: float, expected: list[tuple[int, ...]]
) -> None:
    sizes = {"X": (0.1, MICROMETRE), "Y": (0.1, MICROMETRE), "Z": (z, MICROMETRE)}
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64), **sizes)
    shapes, multiscale = copied(path, levels=len(expected))
    assert shapes == expected
    assert scale_of(multiscale)["z"] == z


def test_sizes_of_several_units_are_compared(tmp_path: Path) -> None:
    sizes = {"X": (100.0, "nm"), "Y": (100.0, "nm"), "Z": (1.0, MICROMETRE)}
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64), **sizes)
    assert copied(path, levels=2)[0][1] == (64, 32, 32)


def test_without_sizes_the_lengths_decide(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64))
    assert copied(path, levels=2)[0][1] == (32, 32, 32)
    thin = volume(tmp_path / "b.ome.tif", (8, 64, 64))
    assert copied(thin, levels=2)[0][1] == (8, 32, 32)


@pytest.mark.parametrize(
    ("sizes", "unit", "expected"),
    [
        ({"X": (325.0, "nm"), "Z": (2.0, MICROMETRE)}, "micrometer", {"x": 0.325, "z": 2}),
        ({"X": (3.0, "mm"), "Z": (2.0, "cm")}, "millimeter", {"x": 3, "z": 20}),
        ({"X": (2.0, "thou"), "Z": (2.0, "thou")}, "micrometer", {"x": 50.8, "z": 50.8}),
        ({"X": (2.0, "dm"), "Z": (3.0, "dm")}, "decimeter", {"x": 2, "z": 3}),
        ({"X": (2.0, "\u00c5"), "Z": (3.0, "nm")}, "angstrom", {"x": 2, "z": 30}),
    ],
)
def test_the_axes_of_space_have_one_unit(
    tmp_path: Path, sizes: dict[str, Any], unit: str, expected: dict[str, float]
) -> None:
    path = volume(tmp_path / "a.ome.tif", (4, 16, 16), **sizes, Y=sizes["X"])
    _, multiscale = copied(path)
    units = {axis["name"]: axis.get("unit") for axis in multiscale["axes"]}
    assert units == {"z": unit, "y": unit, "x": unit}
    found = scale_of(multiscale)
    assert found == {**expected, "y": expected["x"]}


def test_coordinates_of_arrays_get_one_unit_with_their_origin(tmp_path: Path) -> None:
    array = xarray.DataArray(
        np.zeros((4, 16), np.uint8),
        {
            "y": ("y", 100.0 + 50 * np.arange(4), {"units": "nm"}),
            "x": ("x", 0.5 + 0.25 * np.arange(16), {"units": "um"}),
        },
        ("y", "x"),
    )
    cloudimg.to_zarr(array, tmp_path / "a.zarr")
    ome = json.loads((tmp_path / "a.zarr/zarr.json").read_bytes())["attributes"]["ome"]
    (multiscale,) = ome["multiscales"]
    assert {axis["unit"] for axis in multiscale["axes"]} == {"micrometer"}
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [0.05, 0.25]
    assert translation["translation"] == [0.1, 0.5]
