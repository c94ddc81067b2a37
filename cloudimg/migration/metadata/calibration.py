"""What the user states of an image in place of its files: sizes and places of pixels, names. Pure.

`requested` checks keyword arguments without the image and brings them into the form in which the
request of a copy stores them; `Calibration` applies them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from cloudimg.errors import ArgumentError, counted
from cloudimg.migration.metadata.positions import PixelPositions
from cloudimg.migration.metadata.units import converted, unit_name
from cloudimg.migration.plan.axes_mapping import AxesMapping

_SIZE = re.compile(r"\s*([-+.0-9]+(?:[eE][-+]?[0-9]+)?)?\s*(.*?)\s*")
_EXAMPLES = {
    "pixel_size": "{'y': '325 nm', 'x': '325 nm'}",
    "scale": "{'y': 0.325, 'x': 0.325}",
    "units": "{'y': 'micrometer', 'x': 'micrometer'}",
    "translation": "{'y': 1000.0, 'x': 2500.0}",
}
_GREATEST = 1e100
"""Greatest number: it stays one in each unit and at each level."""
_KNOWN = {"t": ("time", "second, millisecond or minute"), "": ("length", "nanometer or micrometer")}


def requested(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check keyword arguments; return fields of a `WriteRequest`, without those that state nothing.

    Parameters
    ----------
    given : mapping
        May have `pixel_size`, `scale`, `units`, `translation` and `channel_names`, see
        `cloudimg.to_zarr`.

    Raises
    ------
    ArgumentError
    """
    size, scale, units = (given.get(name) for name in ("pixel_size", "scale", "units"))
    if size is not None and not (scale is None and units is None):
        raise ArgumentError("pixel_size= states scale= and units= together: pass it, or these")
    sizes = _sizes(size) if size is not None else _scales_with_units(scale, units)
    translation = {
        dim: _number(_told("translation", dim, value), value)
        for dim, value in _by_dim("translation", given.get("translation")).items()
    }
    names = _names(given.get("channel_names"))
    fields = {"pixel_size": sizes, "translation": translation, "channel_names": names}
    return {name: value for name, value in fields.items() if value}


def _sizes(given: Any) -> dict[str, str]:
    """`pixel_size` in its stored form: ``{"x": "0.325micrometer"}``."""
    if not isinstance(given, Mapping):
        given = {"y": given, "x": given}
    sizes = {}
    for dim, value in _by_dim("pixel_size", given).items():
        what = _told("pixel_size", dim, value)
        number, text = value, ""
        if isinstance(value, str):
            number, text = _parsed(value)
            if number is None:
                raise ArgumentError(f"{what} must be a number with a unit, as in '325 nm'")
        unit = text or ("second" if dim == "t" else "micrometer")
        sizes[dim] = _stored(_positive(what, number), _unit(what, dim, unit))
    return sizes


def _scales_with_units(scale: Any, units: Any) -> dict[str, str]:
    """`scale` and `units` in the same form: ``"0.325"`` or ``"micrometer"`` if one is not given."""
    numbers = {
        dim: _positive(_told("scale", dim, value), value)
        for dim, value in _by_dim("scale", scale).items()
    }
    names = {
        dim: _unit(_told("units", dim, value), dim, value)
        for dim, value in _by_dim("units", units).items()
    }
    return {dim: _stored(numbers.get(dim), names.get(dim)) for dim in {**numbers, **names}}


def _told(name: str, dim: str, value: Any) -> str:
    """An argument as it is written in a call, which the command line turns into its option."""
    return f"{name}={ {dim: value}!r}"


def _stored(number: float | None, unit: str | None) -> str:
    return f"{'' if number is None else repr(number).removesuffix('.0')}{unit or ''}"


def _parsed(text: str) -> tuple[float | None, str]:
    """The number and the unit in a text; None without a number."""
    match = _SIZE.fullmatch(text)
    try:
        return (float(match[1]), match[2]) if match and match[1] else (None, text.strip())
    except ValueError:
        return None, text.strip()


def _by_dim(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(dim, str) for dim in value):
        raise ArgumentError(
            f"{name}={value!r} must be a mapping by dim, such as {name}={_EXAMPLES[name]}"
        )
    return value


def _number(what: str, value: Any) -> float:
    is_number = isinstance(value, int | float | np.integer | np.floating)
    if not is_number or isinstance(value, bool) or not abs(value) < math.inf:
        raise ArgumentError(f"{what} must be a number")
    if abs(value if isinstance(value, int) else float(value)) > _GREATEST:
        raise ArgumentError(f"{what} must be a number of at most {_GREATEST:g}")
    return float(value)


def _positive(what: str, value: Any) -> float:
    number = _number(what, value)
    if number < 1 / _GREATEST:
        raise ArgumentError(f"{what} must be greater than 0: it is a distance of pixels")
    return number


def _unit(what: str, dim: str, value: Any) -> str:
    """The name of a unit; any text along axes of other kinds than time and space."""
    found = unit_name(dim, value) if isinstance(value, str) else None
    is_other = dim not in ("t", "z", "y", "x") and isinstance(value, str)
    if found is None and is_other and value[:1].isalpha():
        return str(value)
    if found is None:
        kind, examples = _KNOWN["t" if dim == "t" else ""]
        raise ArgumentError(
            f"{what}: {value!r} is not a unit of {kind} that OME-Zarr has, such as {examples}"
        )
    return found


def _names(value: Any) -> list[str]:
    if value is None:
        return []
    is_list = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    if not is_list or not all(isinstance(each, str) for each in value):
        raise ArgumentError(
            f"channel_names={value!r} must be a list of texts, such as"
            " channel_names=['DAPI', 'GFP']"
        )
    return [str(each) for each in value]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the user states, which counts before what files or coordinates say."""

    sizes: Mapping[str, tuple[float | None, str | None]] = field(default_factory=dict)
    """Distance of pixels and its unit by dim; None: as it is known otherwise."""
    translation: Mapping[str, float] = field(default_factory=dict)
    """Position of the first pixel by dim, in the unit of its axis."""
    channel_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """What keyword arguments state, see `requested`.

        Raises
        ------
        ArgumentError
        """
        return cls.of_stored(requested(given))

    @classmethod
    def of_stored(cls, stated: Mapping[str, Any]) -> Self:
        """What the fields of a stored `WriteRequest` state; None: nothing."""
        sizes = {dim: _parsed(text) for dim, text in (stated.get("pixel_size") or {}).items()}
        return cls(
            {dim: (number, unit or None) for dim, (number, unit) in sizes.items()},
            stated.get("translation") or {},
            tuple(stated.get("channel_names") or ()),
        )

    @property
    def stated(self) -> tuple[str, ...]:
        """Names of all that is stated, see `ImageFacts.stated`."""
        sizes = sorted(self.sizes.items())  # in whichever order they were given
        names = [f"scale {dim}" for dim, (number, _) in sizes if number is not None]
        names += [f"origin {dim}" for dim in sorted(self.translation)]
        return (*names, *(["channel_names"] if self.channel_names else []))

    def applied(self, positions: PixelPositions) -> None:
        """Put sizes and places in the place of those that are known.

        The places of pixels that were counted from the first one follow the size of a pixel; those
        that were measured only get another unit.
        """
        for dim, (number, unit) in self.sizes.items():
            known, known_unit = positions.scales.get(dim, (None, positions.units.get(dim)))
            unit = unit or known_unit
            origin = positions.origins.get(dim)
            if number is None or origin is None:
                pass  # it is another name for the same numbers
            elif known is None or dim in positions.measured:
                positions.origins[dim] = converted(origin, known_unit, unit)
            else:
                positions.origins[dim] = origin * number / known
            if number is not None or known is not None:
                positions.scales[dim] = (float(number or known or 0.0), unit)
            elif unit is not None:
                positions.units[dim] = unit
            positions.unknown_units.pop(dim, None)
        positions.origins.update(self.translation)

    def without_stated(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes without what the user states otherwise."""
        kept = dict(attrs)
        for name in ("pixel_size", "pixel_size_unit"):
            if self.sizes and isinstance(attrs.get(name), Mapping):
                kept[name] = {d: v for d, v in attrs[name].items() if d not in self.sizes}
                if not kept[name]:
                    del kept[name]
        if "t" in self.sizes:
            kept.pop("time_step_s", None)
        if self.channel_names:
            kept.pop("channel_names", None)
        return kept

    def check(self, axes_mapping: AxesMapping) -> None:
        """Refuse what does not fit an image.

        Raises
        ------
        ArgumentError
        """
        dims = [dim for dim in axes_mapping.dims if dim != "c"]
        for what, named in (("sizes of pixels", self.sizes), ("translation=", self.translation)):
            unknown = sorted(set(named) - set(dims))
            if unknown:
                raise ArgumentError(
                    f"{what} along {', '.join(unknown)}: of the axes of the copy,"
                    f" {', '.join(dims)} can have one"
                )
        lengths = dict(zip(axes_mapping.dims, axes_mapping.shape, strict=True))
        n_channels = lengths.get("c", 1)
        if self.channel_names and len(self.channel_names) != n_channels:
            raise ArgumentError(
                f"channel_names= has {counted(len(self.channel_names), 'name')}, but the copy has"
                f" {counted(n_channels, 'channel')}"
            )
