"""What is known about an image besides its pixels, in the terms of OME-Zarr. Pure, JSON."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from cloudimg.writer.canonical import Canonical

# Units that OME-Zarr knows, in UDUNITS's words: https://ngff.openmicroscopy.org/0.5/#axes-md
_LENGTHS = {
    "Å": "angstrom",
    "pm": "picometer",
    "nm": "nanometer",
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "inch": "inch",
    "in": "inch",
    "ft": "foot",
}
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
_RGB = ("red", "green", "blue", "alpha")
_RGB_COLORS = ("FF0000", "00FF00", "0000FF", "FFFFFF")
_TOLERANCE = 1e-6
_LARGEST = 2**16
"""Characters of JSON that one attribute may take."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that metadata is written from, apart from the plan."""

    name: str | None = None
    """Of the image."""
    scales: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)
    """Distance of neighbouring pixels and its unit, by dim."""
    origins: Mapping[str, float] = field(default_factory=dict)
    """Position of the first pixel, by dim, in the same units."""
    channel_names: tuple[str, ...] = ()
    """Of the merged channels, samples too; empty where they are not known."""
    channel_colors: tuple[str, ...] = ()
    """RRGGBB."""
    coords: Mapping[str, Any] = field(default_factory=dict)
    """Coordinates: lists, or start, step and count where they are regular."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """What the first file says, as far as JSON holds it."""
    ome_xml: str | None = None
    """To the letter."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What was copied, how, by which version; no credentials."""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        found: dict[str, Any] = as_json(asdict(self))
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The facts again."""
        scales = {dim: (value, unit) for dim, (value, unit) in found["scales"].items()}
        return cls(
            **{
                **found,
                "scales": scales,
                "channel_names": tuple(found["channel_names"]),
                "channel_colors": tuple(found["channel_colors"]),
            }
        )


def facts_of_image(
    canonical: Canonical,
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
    *,
    name: str | None,
    ome_xml: str | None,
    provenance: Mapping[str, Any],
) -> Facts:
    """Facts of an image made of files.

    Parameters
    ----------
    canonical : Canonical
    coords, attrs : mappings
        See `cloudimg.Image.coords` and `cloudimg.Image.attrs`.
    name : str, optional
    ome_xml : str, optional
    provenance : mapping
    """
    units = attrs.get("pixel_size_unit") or {}
    scales = {
        dim: (float(size), _unit_of(dim, units.get(dim, "")))
        for dim, size in (attrs.get("pixel_size") or {}).items()
        if dim in canonical.dims and _is_positive(size)
    }
    if _is_positive(attrs.get("time_step_s")) and "t" in canonical.dims:
        scales["t"] = (float(attrs["time_step_s"]), "second")
    origins: dict[str, float] = {}
    for dim in ("t", "z"):
        # Whole numbers are labels of names, others are positions that headers tell.
        found = regular(coords.get(dim))
        if dim not in canonical.dims or found is None:
            continue
        start, step = found
        is_time = _is_time(coords[dim])
        # Falling positions have no place in a scale; they stay among the coordinates.
        if step <= 0 or not (is_time or np.asarray(coords[dim]).dtype.kind == "f"):
            continue
        unit = "second" if dim == "t" else scales.get("z", (0, "micrometer"))[1]
        scales[dim] = (step, unit)
        origins[dim] = 0.0 if is_time else start
    names, colors = _channels(canonical, attrs)
    return Facts(
        name,
        scales,
        origins,
        names,
        colors,
        _kept(coords),
        _small(as_json(attrs)),
        ome_xml,
        as_json(provenance),
    )


def facts_of_array(
    canonical: Canonical,
    *,
    name: str | None,
    provenance: Mapping[str, Any],
    xarray: Any = None,
) -> Facts:
    """Facts of an array; those of an `xarray.DataArray` where it is one."""
    if xarray is None:
        return Facts(name=name, provenance=as_json(provenance))
    scales: dict[str, tuple[float, str | None]] = {}
    origins: dict[str, float] = {}
    coords = {str(key): values.values for key, values in xarray.coords.items() if values.ndim <= 1}
    for dim in ("t", "z", "y", "x"):
        found = regular(coords.get(dim))
        if found is None or found[1] <= 0:
            continue
        units = str(xarray.coords[dim].attrs.get("units", ""))
        scales[dim] = (found[1], "second" if _is_time(coords[dim]) else _unit_of(dim, units))
        origins[dim] = 0.0 if _is_time(coords[dim]) else found[0]
    names = coords.get("c")
    is_named = names is not None and names.ndim == 1 and names.dtype.kind in "UO"
    return Facts(
        name or (str(xarray.name) if xarray.name is not None else None),
        scales,
        origins,
        tuple(str(each) for each in names) if is_named and names is not None else (),
        (),
        _kept(coords),
        _small(as_json(xarray.attrs)),
        None,
        as_json(provenance),
    )


def _channels(
    canonical: Canonical, attrs: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = tuple(str(each) for each in attrs.get("channel_names") or ())
    colors = tuple(_hex(each) for each in attrs.get("channel_colors") or ())
    if "c" not in canonical.dims:
        return names[:1], colors[:1]
    n_channels = canonical.shape[canonical.dims.index("c")]
    n = canonical.n_samples
    if "s" in canonical.source_dims and n in (3, 4):
        base = names if len(names) == n_channels // n else ("",) * (n_channels // n)
        names = tuple(f"{each} {part}".strip() for each in base for part in _RGB[:n])
        colors = _RGB_COLORS[:n] * (n_channels // n)
    return (
        names if len(names) == n_channels else (),
        colors if len(colors) == n_channels else (),
    )


def _hex(color: Any) -> str:
    """RRGGBB of OME's RGBA integer, which is signed."""
    return f"{(int(color) & 0xFFFFFFFF) >> 8:06X}"


def regular(values: Any) -> tuple[float, float] | None:
    """Start and step of numbers at equal distances; None for all else."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim != 1 or array.size < 2 or array.dtype.kind not in "iufmM":
        return None
    if array.dtype.kind in "mM":
        array = (array - array[0]).astype("timedelta64[ns]").astype(np.int64) / 1e9
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        return None
    step = (array[-1] - array[0]) / (array.size - 1)
    even = array[0] + step * np.arange(array.size)
    if step == 0 or np.abs(array - even).max() > _TOLERANCE * abs(step):
        return None
    return float(array[0]), float(step)


def _is_time(values: Any) -> bool:
    return np.asarray(values).dtype.kind in "mM"


def _kept(coords: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates that say more than positions counted from zero."""
    kept: dict[str, Any] = {}
    for name, values in coords.items():
        array = np.asarray(values)
        if array.dtype.kind in "iu" and array.ndim == 1:
            steps = np.diff(array.astype(np.int64))
            if array.size > 2 and (steps == steps[0]).all():
                if array[0] != 0 or steps[0] != 1:
                    kept[name] = {
                        "start": int(array[0]),
                        "step": int(steps[0]),
                        "count": int(array.size),
                    }
                continue
            if (array == np.arange(array.size)).all():
                continue
        kept[name] = as_json(array)
    return kept


def _small(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes that a reader of the metadata need not wait for; palettes of 16 bits are none."""
    return {name: value for name, value in attrs.items() if len(json.dumps(value)) <= _LARGEST}


def _unit_of(dim: str, unit: str) -> str | None:
    known = _TIMES if dim == "t" else _LENGTHS
    unit = unit.replace("\u03bc", "\u00b5")
    return unit if unit in known.values() else known.get(unit)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(math.isfinite(value) and value > 0)


def as_json(value: Any) -> Any:
    """A value as JSON holds it: times as ISO 8601, numbers that are none as text, NumPy's as lists,
    what has no such form as its text."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "mM":
            return [str(each) for each in value]
        return as_json(value.tolist())
    if isinstance(value, np.generic):
        return str(value) if value.dtype.kind in "mM" else as_json(value.item())
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, complex):
        return as_json([value.real, value.imag])
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def coordinates_of(facts: Facts, dim: str) -> Sequence[Any]:
    """Coordinates along a dim, as a list; empty where there are none."""
    found = facts.coords.get(dim, ())
    if isinstance(found, Mapping):
        return range(found["start"], found["start"] + found["step"] * found["count"], found["step"])
    return list(found)
