"""What the metadata of a Zarr say of an image, in the terms of `cloudimg.ImageAttributes`. Pure.

Copies that cloudimg has made have more than OME-Zarr can represent in attributes of their own. What
OME-Zarr says counts more: anybody may have edited it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.reading.zarr_images.kept_attributes import kept_attributes
from cloudimg.reading.zarr_images.multiscale import Multiscale
from cloudimg.tiff.flavours.facts import MICROMETRE, micrometres, seconds, unit_name

KIND = "zarr"
"""The value of ``kind`` in the attributes of any Zarr."""
_IN_SPACE = ("x", "y", "z")
_TIMES = {"nanosecond": "ns", "microsecond": "us", "millisecond": "ms"}
"""Units of OME-Zarr by the names that `seconds` knows."""
_COLOUR = re.compile(r"#?([0-9A-Fa-f]{6})")
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?)?")
_MOST_POSITIONS = 2**20
_GREATEST = 2**62
_GREATEST_END = 1e300
"""Ends of windows are smaller, since integers of JSON need not fit a float."""

Attributes = dict[str, Any]


def attributes_of(
    multiscale: Multiscale, ome: Mapping[str, Any], own: Mapping[str, Any], n_channels: int
) -> Attributes:
    """Attributes of an image of OME-Zarr.

    Parameters
    ----------
    multiscale : Multiscale
    ome : mapping
        Attributes of OME-Zarr of its group.
    own : mapping
        Attributes of cloudimg's.
    n_channels : int
        Length of the axis c, 1 without one.
    """
    known = own.get("attributes")
    attrs = kept_attributes(known) if isinstance(known, Mapping) else {}
    if multiscale.name:
        attrs["name"] = multiscale.name
    if multiscale.method:
        attrs["downsampling"] = multiscale.method
    if "image-label" in ome:
        attrs["has_categories"] = True
    attrs |= _sizes(multiscale)
    attrs |= _stage(multiscale)
    return attrs | _channels(ome.get("omero"), own, n_channels)


def _sizes(multiscale: Multiscale) -> Attributes:
    """Sizes of pixels, and the step of time."""
    sizes, units = {}, {}
    found: Attributes = {}
    for dim, size, unit in zip(multiscale.dims, multiscale.scale, multiscale.units, strict=True):
        if dim == "c" or size <= 0 or (size == 1 and not unit):
            continue  # 1 without a unit is what writers state where nothing is known
        step = seconds(size, _TIMES.get(unit, unit)) if dim == "t" else None
        if step is not None:
            found["time_step_s"] = step
        else:
            sizes[dim] = size
            if unit:
                units[dim] = unit_name(unit) or unit
    if sizes:
        found |= {"pixel_size": sizes, "pixel_size_unit": units}
    return found


def _stage(multiscale: Multiscale) -> Attributes:
    """Where the first pixel lies, as a position of the stage."""
    if multiscale.translation is None:
        return {}
    position, units = {}, {}
    for dim, at, unit in zip(
        multiscale.dims, multiscale.translation, multiscale.units, strict=True
    ):
        if dim in _IN_SPACE and micrometres(1.0, unit) is not None:
            position[dim], units[dim] = at, unit_name(unit) or MICROMETRE
    return {"stage_position": position, "stage_position_unit": units} if position else {}


def _channels(omero: Any, own: Mapping[str, Any], n_channels: int) -> Attributes:
    """Names, colours and windows of channels, as far as all channels have them."""
    channels = _listed(omero)
    if len(channels) != n_channels:
        return {}
    labels = [each.get("label") or None for each in channels]
    found: dict[str, list[Any]] = {
        "channel_names": [each if isinstance(each, str) else None for each in labels],
        "channel_colors": [_rgba(each.get("color")) for each in channels],
        "display_ranges": [_window(each.get("window")) for each in channels],
    }
    if _are_numbers(labels, own):
        del found["channel_names"]
    return {name: values for name, values in found.items() if None not in values}


def _listed(omero: Any) -> list[Mapping[str, Any]]:
    """Channels of the rendering settings; none if they are damaged."""
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    listed = channels if isinstance(channels, list) else []
    return listed if all(isinstance(each, Mapping) for each in listed) else []


def _are_numbers(labels: Sequence[Any], own: Mapping[str, Any]) -> bool:
    """Whether labels are what cloudimg calls channels without names."""
    known = coordinates_of(own, {"c": len(labels)}).get("c", range(len(labels)))
    return all(label == f"channel {each}" for label, each in zip(labels, known, strict=True))


def _rgba(stored: Any) -> int | None:
    """A colour as OME stores it: RGBA in a signed integer of 32 bits."""
    match = _COLOUR.fullmatch(str(stored))
    if match is None:
        return None
    value = int(match[1], 16) << 8 | 0xFF
    return value - 2**32 if value >= 2**31 else value


def _window(stored: Any) -> list[float] | None:
    """What is shown as black and as white."""
    if not isinstance(stored, Mapping):
        return None
    ends = (stored.get("start"), stored.get("end"))
    low, high = (
        float(v) if isinstance(v, int | float) and abs(v) < _GREATEST_END else math.nan
        for v in ends
    )
    return [low, high] if math.isfinite(low) and math.isfinite(high) and low < high else None


def coordinates_of(own: Mapping[str, Any], lengths: Mapping[str, int]) -> dict[str, Sequence[Any]]:
    """Coordinates by name of copies that cloudimg has made.

    Parameters
    ----------
    own : mapping
        Attributes of cloudimg's.
    lengths : mapping
        Lengths of the axes; coordinates that do not fit them are left out.
    """
    stored = own.get("coordinates")
    found: dict[str, Sequence[Any]] = {}
    for name, values in stored.items() if isinstance(stored, Mapping) else ():
        length = lengths.get(str(name).removesuffix("_label"))
        expanded = _expanded(values)
        if length is not None and expanded is not None and len(expanded) == length:
            found[str(name)] = expanded
    return found


def _expanded(values: Any) -> Sequence[Any] | None:
    """Values of a coordinate as copies have it: a list, or start, step and count."""
    if isinstance(values, Mapping):
        return _regular(*(values.get(name) for name in ("start", "step", "count")))
    if not isinstance(values, list) or not values:
        return None
    kinds = {type(each) for each in values}
    if kinds == {str}:
        return _times_or_texts(values)
    if not kinds <= {int, float} or any(abs(each) >= _GREATEST for each in values):
        return None
    return values if len(kinds) == 1 else [float(each) for each in values]


def _regular(start: Any, step: Any, count: Any) -> Sequence[Any] | None:
    parts = (start, step, count)
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in parts):
        return None
    if not 0 < count <= _MOST_POSITIONS or max(abs(start), abs(step)) > _GREATEST >> 20:
        return None
    return [start + step * i for i in range(count)]


def _times_or_texts(values: list[str]) -> Sequence[Any]:
    if not all(map(_ISO_TIME.fullmatch, values)):
        return values
    try:
        return list(np.array(values, "datetime64[us]"))
    except ValueError:
        return values


def times_of(multiscale: Multiscale, length: int) -> Sequence[float] | None:
    """Seconds of each position along t, if the first one is not 0."""
    if multiscale.translation is None or length > _MOST_POSITIONS:
        return None
    at = multiscale.dims.index("t")
    unit = _TIMES.get(multiscale.units[at], multiscale.units[at])
    start = seconds(multiscale.translation[at], unit)
    step = seconds(multiscale.scale[at], unit)
    if not start or not step:
        return None
    return [start + step * i for i in range(length)]
