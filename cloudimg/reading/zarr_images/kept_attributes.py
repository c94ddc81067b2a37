"""Attributes that a copy keeps of its source, as they were before they became JSON. Pure.

Anybody may have edited them, so those that are used have the types that they must have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_OF_FILES = {
    "acquired", "channel_colors", "channel_names", "compression", "description", "display_ranges",
    "elapsed_s", "fill_value", "info", "kind", "metadata_problem", "n_series", "name",
    "pixel_size", "pixel_size_unit", "plane_labels", "stage_position", "stage_position_unit",
    "time_step_s", "unread",
}  # fmt: skip
"""Attributes that are those of the files, or that OME-Zarr states."""
_N_OF_TRANSFORM = 6


def kept_attributes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an image that a copy keeps; those that are damaged are left out.

    Parameters
    ----------
    stored : mapping
        ``attributes`` among the attributes of cloudimg's.
    """
    kept = {}
    for name, value in stored.items():
        if name in _OF_FILES:
            continue
        restored = _RESTORED[name](value) if name in _RESTORED else value
        if restored is not None:
            kept[name] = restored
    if len(kept.get("scale", ())) != len(kept.get("offset", ())):
        kept = {name: kept[name] for name in kept if name not in ("scale", "offset")}
    return kept


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):  # NaN and infinities, which JSON lacks
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _numbers(value: Any) -> list[float] | None:
    found = [_number(each) for each in value] if isinstance(value, list) else []
    numbers = [each for each in found if each is not None]
    return numbers if numbers and len(numbers) == len(found) else None


def _texts(value: Any) -> list[str] | None:
    is_one = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return value if is_one and value else None


def _palette(value: Any) -> Any:
    """A palette as an array of shape (3, n)."""
    try:
        palette = np.asarray(value, np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    if palette.ndim != 2 or len(palette) != 3 or (palette != palette.astype(np.uint16)).any():
        return None
    return palette.astype(np.uint16)


def _geo(value: Any) -> dict[str, Any] | None:
    """A georeference, without the parts that are damaged."""
    if not isinstance(value, Mapping):
        return None
    kept = {}
    for name, restore in _OF_GEO.items():
        restored = restore(value.get(name))
        if restored is not None:
            kept[name] = restored
    if len(kept.get("transform", ())) not in (0, _N_OF_TRANSFORM):
        del kept["transform"]
    return kept or None


def _tiepoints(value: Any) -> list[list[float]] | None:
    found = [_numbers(each) for each in value] if isinstance(value, list) else []
    points = [each for each in found if each is not None and len(each) == _N_OF_TRANSFORM]
    return points if points and len(points) == len(found) else None


def _geo_keys(value: Any) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else None


_OF_GEO: Mapping[str, Callable[[Any], Any]] = {
    "pixel_scale": _numbers,
    "tiepoints": _tiepoints,
    "transform": _numbers,
    "epsg": _integer,
    "crs": _text,
    "keys": _geo_keys,
}
_RESTORED: Mapping[str, Callable[[Any], Any]] = {
    "bits_per_sample": _integer,
    "color_space": _text,
    "colormap": _palette,
    "exposure_s": _number,
    "geo": _geo,
    "has_categories": _flag,
    "magnification": _number,
    "nodata": _number,
    "objective": _text,
    "offset": _numbers,
    "orientation": _integer,
    "photometric": _text,
    "reference_black_white": _numbers,
    "samples": _texts,
    "scale": _numbers,
    "units": _texts,
    "ycbcr_coefficients": _numbers,
}
"""What makes a value of what was stored, by name; None of one that is damaged."""
