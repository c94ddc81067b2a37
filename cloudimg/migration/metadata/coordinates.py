"""Coordinates along axes, in the form in which the metadata stores them. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.metadata.attributes import MAX_CHARACTERS, small_attributes
from cloudimg.migration.plain_json import to_plain

Array = npt.NDArray[Any]


def compact_coordinates(coords: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates as JSON, without those that only count from zero.

    Integers at equal steps are stored as start, step and count, all others as lists.
    """
    compact: dict[str, Any] = {}
    for name, values in coords.items():
        array = np.asarray(values)
        if array.dtype.kind in "iu" and array.ndim == 1:
            if (array == np.arange(array.size)).all():
                continue
            steps = np.diff(array.astype(np.int64))
            if array.size > 2 and (steps == steps[0]).all():
                compact[name] = {
                    "start": int(array[0]),
                    "step": int(steps[0]),
                    "count": int(array.size),
                }
                continue
        compact[name] = to_plain(array)
    return compact


def without_long(coords: Mapping[str, Any], even: Collection[str]) -> dict[str, Any]:
    """Coordinates without the long ones of pixels that lie where scale and origin say."""
    return {
        name: values
        for name, values in coords.items()
        if name not in even or len(json.dumps(to_plain(values))) <= MAX_CHARACTERS
    }


def expand_coordinates(compact: Any) -> Sequence[Any]:
    """Values of a coordinate in the form of `compact_coordinates`."""
    if isinstance(compact, list | tuple):
        return list(compact)
    if isinstance(compact, Mapping):
        start, step, count = compact["start"], compact["step"], compact["count"]
        return range(start, start + step * count, step) if step else [start] * count
    # A scalar belongs to an axis that the image does not have, such as that of a single channel.
    return [compact]


def xarray_coordinates(
    xarray: Any, dims: Sequence[str]
) -> tuple[dict[str, Array], dict[str, dict[str, Any]], list[str]]:
    """Coordinates of an `xarray.DataArray` whose axes get other names.

    Returns
    -------
    coords : dict
        Values by the new name.
    coord_attrs : dict
        Attributes by the new name; ``dims`` are those of coordinates along other axes.
    notes : list of str
        Notes on coordinates and attributes that are left out as too large.
    """
    renamed = {str(old): new for old, new in zip(xarray.dims, dims, strict=True)}
    coords: dict[str, Array] = {}
    coord_attrs: dict[str, dict[str, Any]] = {}
    notes = []
    for key, coord in xarray.coords.items():
        name = renamed.get(str(key)) or _free_name(str(key), (*dims, *coords))
        coord_dims = [renamed[str(dim)] for dim in coord.dims]
        if _is_too_large(coord):
            lengths = ", ".join(
                f"{dim} {n}" for dim, n in zip(coord_dims, coord.shape, strict=True)
            )
            notes.append(f"the coordinate {name} ({lengths}) is not kept: it is larger than 64 KiB")
            continue
        coords[name] = coord.values
        attrs, left_out = small_attributes(coord.attrs)
        notes += [f"of the coordinate {name}: {note}" for note in left_out]
        if coord_dims not in ([], [name]):
            attrs["dims"] = coord_dims
        if attrs:
            coord_attrs[name] = attrs
    return coords, coord_attrs, notes


def _free_name(name: str, taken: Collection[str]) -> str:
    """A name for a coordinate whose own name an axis may have now."""
    while name in taken:
        name += "_"
    return name


def _is_too_large(coord: Any) -> bool:
    """Whether a coordinate along several axes is too large for the metadata."""
    if coord.ndim <= 1:
        return False
    # Each value takes at least two characters. Checking that first avoids computing lazy values.
    if 2 * coord.size > MAX_CHARACTERS:
        return True
    return len(json.dumps(to_plain(coord.values))) > MAX_CHARACTERS
