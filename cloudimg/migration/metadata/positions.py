"""Distances, units and origins of pixels, in the terms of OME-Zarr. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.metadata.units import converted, is_length, is_of_ome_zarr, unit_name
from cloudimg.migration.plan.axes_mapping import AxesMapping

Array = npt.NDArray[Any]

_SPACE = ("x", "y", "z")
_COMMON = "micrometer"
_TOLERANCE = 1e-6
"""Share of the distance by which positions may deviate and still count as equally spaced."""
_NEARLY_EVEN = 0.5
"""The same for nearly even positions: up to this, the scale still locates the right pixel."""


class PixelPositions:
    """Positions of pixels along each dim, as scale and origin.

    Attributes
    ----------
    scales : dict
        Distance between neighbouring pixels and its unit, by dim.
    origins : dict
        Position of the first pixel, by dim.
    units : dict
        Units of dims without a known distance, because there is only one pixel.
    measured : set
        Dims whose origin was measured, rather than counted in pixels.
    even : set
        Dims whose coordinates scale and origin say, too.
    unknown_units : dict
        Units of dims that are not known, as they are spelled.
    uneven : list
        Dims whose coordinates are numbers or times, but not those of equally spaced pixels.
    """

    def __init__(self, scales: dict[str, tuple[float, str | None]]) -> None:
        self.scales = scales
        self.origins: dict[str, float] = {}
        self.units: dict[str, str] = {}
        self.measured: set[str] = set()
        self.even: set[str] = set()
        self.unknown_units: dict[str, str] = {}
        self.uneven: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on units and distances that the copy lacks."""
        units = ", ".join(f"{unit!r} of {dim}" for dim, unit in self.unknown_units.items())
        uneven = ", ".join(dim for dim in self.uneven if dim not in self.scales)
        lacks_units = f"units that OME-Zarr does not have are left out: {units}"
        has_no_scale = (
            f"the coordinates along {uneven} are not equally spaced, so that the copy has the scale"
            " 1 there and no unit"
        )
        return (*([lacks_units] if units else []), *([has_no_scale] if uneven else []))

    def fill(self, attrs: Mapping[str, Any]) -> None:
        """Take sizes of pixels from attributes along axes with one pixel, which tells no distance.

        It is that of the pixel only if it lies at a multiple of the size: the mean of several
        pixels lies between them.
        """
        stated = _scales_of_attributes(attrs)
        for dim, origin in self.origins.items():
            size, unit = stated.get(dim, (0.0, None))
            if dim in self.scales or not size or unit != self.units.get(dim):
                continue
            if abs(math.remainder(origin, size)) < _TOLERANCE * size:
                self.scales[dim] = (size, unit)

    def true_of(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes without sizes of pixels that are no longer those of the image."""
        stated = _scales_of_attributes(attrs)
        kept = {
            dim
            for dim, (size, unit) in stated.items()
            if dim in self.scales
            and unit == self.scales[dim][1]
            and math.isclose(size, self.scales[dim][0], rel_tol=_TOLERANCE)
        }
        true = dict(attrs)
        for name in ("pixel_size", "pixel_size_unit"):
            if isinstance(attrs.get(name), Mapping):
                true[name] = {dim: each for dim, each in attrs[name].items() if dim in kept}
        if "time_step_s" in attrs and "t" not in kept:
            del true["time_step_s"]
        return {name: value for name, value in true.items() if value != {} or attrs[name] == {}}

    def add(self, dim: str, values: Any, unit: str | None) -> None:
        """Derive scale and origin of a dim from its coordinates.

        Nearly equidistant coordinates get their mean distance as the scale, others get none.
        Decreasing ones get no origin, since positions computed from an origin and a scale
        increase.
        """
        numbers = _numbers(values)
        if numbers is None:
            return
        start = float(numbers[0])
        if numbers.size == 1:
            self.origins[dim] = start
            if dim not in self.scales and unit is not None:
                self.units[dim] = unit
            return
        step = float((numbers[-1] - numbers[0]) / (numbers.size - 1))
        deviation = np.abs(numbers - (numbers[0] + step * np.arange(numbers.size))).max()
        if step == 0 or deviation >= _NEARLY_EVEN * abs(step):
            return
        if dim not in self.scales or deviation <= _TOLERANCE * abs(step):
            self.scales[dim] = (abs(step), unit)
        if step > 0:
            self.origins[dim] = start
            self.even |= {dim} if deviation <= _TOLERANCE * step else set()


def positions_of_headers(
    axes_mapping: AxesMapping, coords: Mapping[str, Any], attrs: Mapping[str, Any]
) -> tuple[PixelPositions, dict[str, dict[str, Any]]]:
    """Positions of pixels according to headers, and the units of their coordinates."""
    stated = _scales_of_attributes(attrs)
    positions = PixelPositions({dim: stated[dim] for dim in axes_mapping.dims if dim in stated})
    positions.unknown_units = {
        dim: str(attrs["pixel_size_unit"][dim])
        for dim, (_, unit) in positions.scales.items()
        if unit is None and (attrs.get("pixel_size_unit") or {}).get(dim)
    }
    coord_attrs: dict[str, dict[str, Any]] = {}
    for dim in ("t", "z"):
        # Integers are labels from file names; other numbers are positions from headers.
        if dim not in axes_mapping.dims or np.asarray(coords.get(dim)).dtype.kind not in "fmM":
            continue
        unit = "second" if dim == "t" else positions.scales.get("z", (0, "micrometer"))[1]
        positions.add(dim, coords[dim], unit)
        positions.measured.add(dim)
        if unit is not None and not _is_time(coords[dim]):
            coord_attrs[dim] = {"units": unit}
    return positions, coord_attrs


def _scales_of_attributes(attrs: Mapping[str, Any]) -> dict[str, tuple[float, str | None]]:
    """Sizes of pixels that attributes state, see `cloudimg.ImageAttributes`."""
    sizes, units = (attrs.get(name) for name in ("pixel_size", "pixel_size_unit"))
    if not isinstance(sizes, Mapping):
        sizes = {}  # an array's attributes may have anything there
    if not isinstance(units, Mapping):
        units = {}
    scales = {
        dim: (float(size), unit_name(dim, str(units.get(dim, ""))))
        for dim, size in sizes.items()
        if _is_positive(size)
    }
    if _is_positive(attrs.get("time_step_s")):
        scales["t"] = (float(attrs["time_step_s"]), "second")
    return scales


def positions_of_coordinates(
    axes_mapping: AxesMapping,
    coords: Mapping[str, Any],
    coord_attrs: Mapping[str, Mapping[str, Any]],
) -> PixelPositions:
    """Positions of pixels according to the coordinates of an `xarray.DataArray`."""
    positions = PixelPositions({})
    for dim in ("t", "z", "y", "x"):
        if dim in axes_mapping.dims and dim in coords:
            attrs = coord_attrs.get(dim, {})
            text = str(attrs.get("units") or attrs.get("unit") or "")
            unit = "second" if _is_time(coords[dim]) else unit_name(dim, text)
            positions.add(dim, coords[dim], unit)
            values = np.asarray(coords[dim])
            if dim not in positions.scales and values.size > 1 and values.dtype.kind in "iufmM":
                positions.uneven.append(dim)
            if unit is None and text and dim in positions.scales:
                positions.unknown_units[dim] = text
    return positions


def in_one_unit(
    scales: Mapping[str, tuple[float, str | None]],
    origins: Mapping[str, float],
    units: Mapping[str, str],
) -> tuple[dict[str, tuple[float, str | None]], dict[str, float], dict[str, str]]:
    """Return scales, origins and units with one unit along all axes of space.

    It is the one that they have, micrometers if they have several and one of them is that, or else
    that of the first of x, y and z. Axes without a known unit stay as they are.
    """
    of_space = {dim: scales[dim][1] if dim in scales else units.get(dim) for dim in _SPACE}
    known = {dim: unit for dim, unit in of_space.items() if unit is not None and is_length(unit)}
    found = dict.fromkeys(filter(is_of_ome_zarr, known.values()))
    common = _COMMON if _COMMON in found or not found else next(iter(found))
    new_scales, new_origins, new_units = dict(scales), dict(origins), dict(units)
    for dim, unit in known.items():
        if dim in scales:
            new_scales[dim] = (converted(scales[dim][0], unit, common), common)
        if dim in origins:
            new_origins[dim] = converted(origins[dim], unit, common)
        if dim in units:
            new_units[dim] = common
    return new_scales, new_origins, new_units


def _numbers(values: Any) -> Array | None:
    """Coordinates as finite numbers, times as seconds since the first one; None if impossible."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iufmM":
        return None
    if array.dtype.kind in "mM":
        since = array - array[0] if array.dtype.kind == "M" else array
        if np.isnat(since).any():
            return None
        array = since.astype("timedelta64[ns]").astype(np.int64) / 1e9
    array = array.astype(np.float64)
    return array if np.isfinite(array).all() else None


def _is_time(values: Any) -> bool:
    return np.asarray(values).dtype.kind in "mM"


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(math.isfinite(value) and value > 0)
