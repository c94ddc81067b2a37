"""Refuse a mosaic of tiles that overlap according to their stage positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudimg.errors import GridError
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.reading.layout import Axis, Layout

_OVERLAP = 0.98
"""Tiles whose stage positions are closer than this fraction of their length overlap."""


def refuse_overlap(layout: Layout, headers: HeaderColumns) -> None:
    """Refuse a mosaic of tiles that overlap according to their stage positions.

    Raises
    ------
    GridError
    """
    first, first_index = headers.first.attrs, headers.first_index
    for axis in layout.axes:
        field, pixel_size = axis.field, _pixel_size(axis, first)
        if field is None or pixel_size is None:
            continue
        for index, header in headers.items():
            n_tiles = index[field] - first_index[field]
            stage = header.summary.stage
            if not stage or n_tiles < 1:
                continue
            position = stage["xy".index(axis.name)]  # NaN where the file does not say it
            moved = abs(position - first["stage_position"][axis.name]) / pixel_size
            length = sum(axis.extents[first_index[field] : index[field]])
            if 0 < moved < _OVERLAP * length:
                raise GridError(
                    f"according to the stage positions in the headers, tiles along {axis.name} are"
                    f" {moved / n_tiles:.0f} pixels apart, but each is"
                    f" {length / n_tiles:.0f} pixels long: they overlap, and a mosaic would show"
                    ' some parts twice. Pass place="stage" to place them by these positions,'
                    ' place="stack" to stack them, or give the field another name, for example'
                    " {pos}"
                )


def _pixel_size(axis: Axis, attrs: Mapping[str, Any]) -> float | None:
    """Return the pixel size along a concatenated axis, in the unit of the stage position.

    None where the files are not tiles along the axis, or positions and sizes cannot be compared.
    """
    name = axis.name
    if name not in ("x", "y") or axis.field is None or axis.is_stacked:
        return None
    if name not in attrs.get("stage_position", {}) or name not in attrs.get("pixel_size", {}):
        return None
    if attrs["stage_position_unit"].get(name) != attrs["pixel_size_unit"].get(name):
        return None
    return float(attrs["pixel_size"][name])
