"""Distances, units and origins of pixels, in the terms of OME-Zarr. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.plan.axes_mapping import AxesMapping

Array = npt.NDArray[Any]

# Units of OME-Zarr, which are names of UDUNITS: https://ngff.openmicroscopy.org/0.5/#axes-md
_LENGTHS = {
    "Å": "angstrom",
    "fm": "femtometer",
    "pm": "picometer",
    "nm": "nanometer",
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "dm": "decimeter",
    "m": "meter",
    "hm": "hectometer",
    "km": "kilometer",
    "inch": "inch",
    "in": "inch",
    "ft": "foot",
    "yd": "yard",
    "mi": "mile",
    "thou": "thou",
}
_IN_MICROMETERS = {
    "femtometer": 1e-9,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "thou": 25.4,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "inch": 25400.0,
    "decimeter": 1e5,
    "foot": 304800.0,
    "yard": 914400.0,
    "meter": 1e6,
    "hectometer": 1e8,
    "kilometer": 1e9,
    "mile": 1.609344e9,
}
_NOT_OF_OME_ZARR = ("thou",)
_SPACE = ("x", "y", "z")
_COMMON = "micrometer"
_TIMES = {
    "ns": "nanosecond",
    "us": "microsecond",
    "µs": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
_LONGEST_SYMBOL = 3
"""Greatest length of the symbol of a unit; anything longer is a word."""
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
    """

    def __init__(self, scales: dict[str, tuple[float, str | None]]) -> None:
        self.scales = scales
        self.origins: dict[str, float] = {}
        self.units: dict[str, str] = {}

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


def positions_of_headers(
    axes_mapping: AxesMapping, coords: Mapping[str, Any], attrs: Mapping[str, Any]
) -> tuple[PixelPositions, dict[str, dict[str, Any]]]:
    """Positions of pixels according to headers, and the units of their coordinates."""
    positions = PixelPositions(_scales_of_headers(axes_mapping, attrs))
    coord_attrs: dict[str, dict[str, Any]] = {}
    for dim in ("t", "z"):
        # Integers are labels from file names; other numbers are positions from headers.
        if dim not in axes_mapping.dims or np.asarray(coords.get(dim)).dtype.kind not in "fmM":
            continue
        unit = "second" if dim == "t" else positions.scales.get("z", (0, "micrometer"))[1]
        positions.add(dim, coords[dim], unit)
        if unit is not None and not _is_time(coords[dim]):
            coord_attrs[dim] = {"units": unit}
    return positions, coord_attrs


def _scales_of_headers(
    axes_mapping: AxesMapping, attrs: Mapping[str, Any]
) -> dict[str, tuple[float, str | None]]:
    units = attrs.get("pixel_size_unit") or {}
    scales = {
        dim: (float(size), _udunits_name(dim, units.get(dim, "")))
        for dim, size in (attrs.get("pixel_size") or {}).items()
        if dim in axes_mapping.dims and _is_positive(size)
    }
    if _is_positive(attrs.get("time_step_s")) and "t" in axes_mapping.dims:
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
            unit = _udunits_name(dim, str(attrs.get("units", attrs.get("unit", ""))))
            positions.add(dim, coords[dim], "second" if _is_time(coords[dim]) else unit)
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
    known = {dim: unit for dim, unit in of_space.items() if unit in _IN_MICROMETERS}
    found = dict.fromkeys(unit for unit in known.values() if unit not in _NOT_OF_OME_ZARR)
    common = _COMMON if _COMMON in found or not found else next(iter(found))
    new_scales, new_origins, new_units = dict(scales), dict(origins), dict(units)
    for dim, unit in known.items():
        if unit is None or unit == common:
            continue
        ratio = _IN_MICROMETERS[unit] / _IN_MICROMETERS[common]
        if dim in scales:
            new_scales[dim] = (_short(scales[dim][0] * ratio), common)
        if dim in origins:
            new_origins[dim] = _short(origins[dim] * ratio)
        if dim in units:
            new_units[dim] = common
    return new_scales, new_origins, new_units


def _short(value: float) -> float:
    """A number without the digits that rounding added: 0.3, not 0.30000000000000004."""
    return float(f"{value:.14g}")


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


def _udunits_name(dim: str, unit: str) -> str | None:
    """Name of a unit in UDUNITS; None if it is unknown."""
    names = _TIMES if dim == "t" else _LENGTHS
    unit = unit.strip().replace("\u03bc", "\u00b5").replace("metre", "meter")
    for text in (unit, unit.lower(), unit.lower().removesuffix("s")):
        # Case and plural can be ignored in words only: as symbols, "mm" is not "Mm".
        if text == unit or len(unit) > _LONGEST_SYMBOL:
            name = text if text in names.values() else names.get(text)
            if name is not None:
                return name
    return None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(math.isfinite(value) and value > 0)
