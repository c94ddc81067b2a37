"""Coordinates of an image: labels from the names of files and coordinates from their headers."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.reading.layout import Layout

Array = npt.NDArray[Any]


def coordinates(
    layout: Layout, grid: FileGrid, own: Mapping[str, Sequence[Any]]
) -> dict[str, Array]:
    """Return coordinates by name; see `cloudimg.Image.coords`.

    Parameters
    ----------
    layout : Layout
    grid : FileGrid
    own : mapping
        Coordinates in the files themselves, by dim of the image.
    """
    coords: dict[str, Array] = {}
    for axis in layout.axes:
        if axis.field is None:
            for name in (axis.name, label_name(axis.name)):
                values = own.get(name)
                if values is not None and len(values) == axis.length:
                    coords[name] = np.asarray(values)
            continue
        labels = as_array(grid.labels[axis.field])
        if axis.is_stacked:
            coords[axis.name] = labels
        else:
            coords[axis.name] = np.arange(axis.length)
            coords[label_name(axis.name)] = np.repeat(labels, axis.extents)
    return coords


def label_name(dim: str) -> str:
    """Return the name of the coordinate with the label of the file at each position of a dim."""
    return f"{dim}_label"


def coordinate_lines(layout: Layout, grid: FileGrid, own: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return a line of text for each axis that has labels or coordinates."""
    lines = []
    for axis in layout.axes:
        if axis.field is not None:
            name = axis.name if axis.is_stacked else label_name(axis.name)
            lines.append(f"{name}: {_abridged(as_array(grid.labels[axis.field]))}")
        elif axis.name in own:
            lines.append(f"{axis.name}: {_abridged(np.asarray(own[axis.name]))}")
    return lines


def as_array(labels: Sequence[Any]) -> Array:
    if labels and hasattr(labels[0], "tzinfo"):
        # NumPy's datetime64 has no time zone, so convert to UTC as NumPy itself does.
        plain = [
            t if t.tzinfo is None else t.astimezone(datetime.UTC).replace(tzinfo=None)
            for t in labels
        ]
        return np.array(plain, "datetime64[us]")
    if labels and isinstance(labels[0], datetime.timedelta):
        return np.array(labels, "timedelta64[us]")
    return np.asarray(labels)


def _abridged(values: Array) -> str:
    """Return the first values and the last one, as text."""
    if values.dtype.kind == "m":
        values = values.astype("O")  # 3:00:00, not 10800000000 microseconds
    shown = [str(value) for value in (values if len(values) <= 8 else values[:4])]
    tail = ["...", str(values[-1])] if len(values) > 8 else []
    return " ".join(shown + tail)
