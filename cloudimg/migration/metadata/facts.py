"""What is known about an image besides its pixels, in the terms of OME-Zarr. Pure, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping

Array = npt.NDArray[Any]

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
_SYMBOL = 3
"""Letters that the symbol of a unit has at most; what is longer is a word."""
_RGB = ("red", "green", "blue", "alpha")
_RGB_COLORS = ("FF0000", "00FF00", "0000FF", "FFFFFF")
_TOLERANCE = 1e-6
_NEARLY_EVEN = 0.5
"""Of a distance: positions that are less than this off their place are told apart by it."""
_LARGEST = 2**16
"""Characters of JSON that one attribute may take, and one coordinate of several axes."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
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
    coord_attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is said of coordinates, by their name: units, and the dims of those of other axes."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units of dims whose pixels have no known distance, as where there is only one."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """What the first file says, as far as JSON holds it."""
    ome_xml: str | None = None
    """To the letter."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What was copied, how, by which version; no credentials."""
    notes: tuple[str, ...] = ()
    """What the source has and the copy has not, in words."""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        found: dict[str, Any] = to_plain(asdict(self))
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
                "notes": tuple(found.get("notes", ())),
            }
        )


def facts_of_image(
    axes_mapping: AxesMapping,
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
    *,
    name: str | None,
    ome_xml: str | None,
    provenance: Mapping[str, Any],
    is_multifile: bool = False,
) -> ImageFacts:
    """Facts of an image made of files.

    Parameters
    ----------
    canonical : Canonical
    coords, attrs : mappings
        See `cloudimg.Image.coords` and `cloudimg.Image.attrs`.
    name : str, optional
    ome_xml : str, optional
    provenance : mapping
    is_set : bool
        Whether the files are a set of which one tells, so that none holds an image of its own.
    """
    places, coord_attrs = _places_of_image(axes_mapping, coords, attrs)
    names, colors = _channels(axes_mapping, attrs, coords.get("c"))
    kept, notes = _kept_attrs(attrs)
    told, more = _images_told(attrs, provenance, is_multifile=is_multifile)
    return ImageFacts(
        name=name,
        scales=places.scales,
        origins=places.origins,
        channel_names=names,
        channel_colors=colors,
        coords=_kept(coords),
        coord_attrs=coord_attrs,
        units=places.units,
        attrs=kept,
        ome_xml=ome_xml,
        provenance=told,
        notes=(*more, *notes),
    )


def _places_of_image(
    axes_mapping: AxesMapping, coords: Mapping[str, Any], attrs: Mapping[str, Any]
) -> tuple[_Places, dict[str, dict[str, Any]]]:
    """Where pixels lie as headers tell it, and the units of their coordinates."""
    units = attrs.get("pixel_size_unit") or {}
    places = _Places(
        {
            dim: (float(size), _unit_of(dim, units.get(dim, "")))
            for dim, size in (attrs.get("pixel_size") or {}).items()
            if dim in axes_mapping.dims and _is_positive(size)
        }
    )
    if _is_positive(attrs.get("time_step_s")) and "t" in axes_mapping.dims:
        places.scales["t"] = (float(attrs["time_step_s"]), "second")
    coord_attrs: dict[str, dict[str, Any]] = {}
    for dim in ("t", "z"):
        # Whole numbers are labels of names, others are positions that headers tell.
        if dim not in axes_mapping.dims or np.asarray(coords.get(dim)).dtype.kind not in "fmM":
            continue
        unit = "second" if dim == "t" else places.scales.get("z", (0, "micrometer"))[1]
        places.add(dim, coords[dim], unit)
        if unit is not None and not _is_time(coords[dim]):
            coord_attrs[dim] = {"units": unit}
    return places, coord_attrs


def _images_told(
    attrs: Mapping[str, Any], provenance: Mapping[str, Any], *, is_multifile: bool
) -> tuple[dict[str, Any], list[str]]:
    """Provenance and notes where the files hold further images, which are not copied."""
    told = to_plain(provenance)
    n_images = attrs.get("n_series", 1)
    if n_images <= 1:
        return told, []
    chosen = (provenance.get("options") or {}).get("series", 0)
    told |= {"image": chosen, "images_left_out": n_images - 1}
    # The first file is asked, and speaks for all of them as it does for their shape.
    whole = "the set of files holds" if is_multifile else "each file holds"
    return told, [f"{whole} {n_images} images; image {chosen} is copied (--series chooses)"]


def facts_of_array(
    axes_mapping: AxesMapping,
    *,
    name: str | None,
    provenance: Mapping[str, Any],
    xarray: Any = None,
    dims: Sequence[str] | None = None,
) -> ImageFacts:
    """Facts of an array; those of an `xarray.DataArray` where it is one.

    Parameters
    ----------
    canonical : Canonical
    name : str, optional
    provenance : mapping
    xarray : xarray.DataArray, optional
    dims : sequence of str, optional
        Names that its axes shall have instead of their own.
    """
    if xarray is None:
        return ImageFacts(name=name, provenance=to_plain(provenance))
    coords, coord_attrs, notes = _coords_of(xarray, dims or axes_mapping.source_dims)
    places = _Places({})
    for dim in ("t", "z", "y", "x"):
        if dim in axes_mapping.dims and dim in coords:
            said = coord_attrs.get(dim, {})
            unit = _unit_of(dim, str(said.get("units", said.get("unit", ""))))
            places.add(dim, coords[dim], "second" if _is_time(coords[dim]) else unit)
    names = coords.get("c")
    is_named = names is not None and names.ndim == 1 and names.dtype.kind in "UO"
    kept, lost = _kept_attrs(xarray.attrs)
    return ImageFacts(
        name=name or (str(xarray.name) if xarray.name is not None else None),
        scales=places.scales,
        origins=places.origins,
        channel_names=tuple(map(str, names)) if is_named and names is not None else (),
        coords=_kept(coords),
        coord_attrs=coord_attrs,
        units=places.units,
        attrs=kept,
        provenance=to_plain(provenance),
        notes=(*notes, *lost),
    )


def _coords_of(
    xarray: Any, dims: Sequence[str]
) -> tuple[dict[str, Array], dict[str, dict[str, Any]], list[str]]:
    """Coordinates by the new names of their axes, what is said of them, and which are too large."""
    renamed = {str(old): new for old, new in zip(xarray.dims, dims, strict=True)}
    coords: dict[str, Array] = {}
    said: dict[str, dict[str, Any]] = {}
    notes = []
    for key, each in xarray.coords.items():
        name = renamed.get(str(key), str(key))
        while str(key) not in renamed and name in (*dims, *coords):
            name += "_"  # the axis has it now
        own = [renamed[str(dim)] for dim in each.dims]
        # Before they are computed: none has less than two characters a value.
        is_large = each.ndim > 1 and 2 * each.size > _LARGEST
        if is_large or (each.ndim > 1 and len(json.dumps(to_plain(each.values))) > _LARGEST):
            lengths = ", ".join(f"{dim} {n}" for dim, n in zip(own, each.shape, strict=True))
            notes.append(f"the coordinate {name} ({lengths}) is not kept: more than 64 KiB")
            continue
        coords[name] = each.values
        attrs, lost = _kept_attrs(each.attrs)
        notes += [f"of the coordinate {name}: {note}" for note in lost]
        if own not in ([], [name]):
            attrs["dims"] = own
        if attrs:
            said[name] = attrs
    return coords, said, notes


class _Places:
    """Where pixels lie, as far as coordinates tell it."""

    def __init__(self, scales: dict[str, tuple[float, str | None]]) -> None:
        self.scales = scales
        self.origins: dict[str, float] = {}
        self.units: dict[str, str] = {}

    def add(self, dim: str, values: Any, unit: str | None) -> None:
        """Note the coordinates of a dim.

        Falling ones have their distance in the scale, but no origin: all positions that an origin
        and a scale tell rise. What is nearly even has its mean distance, and what is not even has
        none. Among the coordinates all of them are kept.
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
        off = np.abs(numbers - (numbers[0] + step * np.arange(numbers.size))).max()
        if step == 0 or off >= _NEARLY_EVEN * abs(step):
            return
        if dim not in self.scales or off <= _TOLERANCE * abs(step):
            self.scales[dim] = (abs(step), unit)
        if step > 0:
            self.origins[dim] = start


def _channels(
    axes_mapping: AxesMapping, attrs: Mapping[str, Any], coords: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and colours of the channels that an image has in the end, where they are known."""
    names = tuple(str(each) for each in attrs.get("channel_names") or ())
    colors = tuple(_hex(each) for each in attrs.get("channel_colors") or ())
    if "c" not in axes_mapping.dims:
        return names[:1], colors[:1]
    n_channels = axes_mapping.shape[axes_mapping.dims.index("c")]
    n = axes_mapping.n_samples
    names = _told_apart(names, coords)
    if "s" in axes_mapping.source_dims and n in (3, 4):
        n_pixels = n_channels // n
        if len(names) != n_pixels:
            labels = range(n_pixels) if coords is None or len(coords) != n_pixels else coords
            names = tuple(map(str, labels)) if n_pixels > 1 else ("",)
        names = tuple(f"{each} {part}".strip() for each in names for part in _RGB[:n])
        colors = _RGB_COLORS[:n] * n_pixels
    return (
        names if len(names) == n_channels else (),
        colors if len(colors) == n_channels else (),
    )


def _told_apart(names: tuple[str, ...], coords: Any) -> tuple[str, ...]:
    """Names of channels; with their coordinates where several channels have one name."""
    labels = () if coords is None else tuple(map(str, coords))
    if len(set(names)) == len(names) or len(set(labels)) != len(names):
        return names
    return tuple(f"{label} {name}" for label, name in zip(labels, names, strict=True))


def _hex(color: Any) -> str:
    """RRGGBB of OME's RGBA integer, which is signed."""
    return f"{(int(color) & 0xFFFFFFFF) >> 8:06X}"


def _numbers(values: Any) -> Array | None:
    """Coordinates of an axis as numbers, times in seconds since the first one; else None."""
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
        kept[name] = to_plain(array)
    return kept


def _kept_attrs(attrs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Attributes that a reader of the metadata need not wait for, and a note on the others.

    Palettes of 16 bits are such others.
    """
    found: dict[str, Any] = to_plain(attrs)
    small = {name: value for name, value in found.items() if len(json.dumps(value)) <= _LARGEST}
    lost = ", ".join(name for name in found if name not in small)
    notes = [f"not kept among the attributes, as of more than 64 KiB each: {lost}"]
    return small, notes if lost else []


def _unit_of(dim: str, unit: str) -> str | None:
    known = _TIMES if dim == "t" else _LENGTHS
    unit = unit.strip().replace("\u03bc", "\u00b5").replace("metre", "meter")
    for text in (unit, unit.lower(), unit.lower().removesuffix("s")):
        # Only of words case and plural mean nothing.
        if text == unit or len(unit) > _SYMBOL:
            found = text if text in known.values() else known.get(text)
            if found is not None:
                return found
    return None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(math.isfinite(value) and value > 0)


def coordinates_of(facts: ImageFacts, dim: str) -> Sequence[Any]:
    """Coordinates along a dim, as a list; empty where there are none."""
    found = facts.coords.get(dim, ())
    if isinstance(found, Mapping):
        return range(found["start"], found["start"] + found["step"] * found["count"], found["step"])
    # One that is no list is of an axis that the image has not: of the one channel, for example.
    return list(found) if isinstance(found, list | tuple) else [found]
