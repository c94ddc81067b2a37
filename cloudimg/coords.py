"""What positions along the dims are called: coordinates from names and headers, and as text."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.grid import FileGrid
from cloudimg.layout import Layout

Array = npt.NDArray[Any]


def labels_at(grid: FileGrid, index: tuple[int, ...]) -> dict[str, Any]:
    """What the name of the file at an index says, by axis."""
    return {
        name: labels[i] for name, labels, i in zip(grid.fields, grid.labels, index, strict=True)
    }


def missing_examples(grid: FileGrid) -> list[str]:
    """The first few places without a file, as text."""
    examples = []
    for index, _ in zip(grid.missing(), range(3), strict=False):
        labels = labels_at(grid, index)
        examples.append("(" + ", ".join(f"{k}={v}" for k, v in labels.items()) + ")")
    return examples


def coordinates(
    layout: Layout, grid: FileGrid, own: Mapping[str, Sequence[Any]]
) -> dict[str, Array]:
    """Coordinates by name; see `cloudimg.Image.coords`.

    Parameters
    ----------
    layout : Layout
    grid : FileGrid
    own : mapping
        What the files themselves say, by dim of the image.
    """
    coords: dict[str, Array] = {}
    for axis in layout.axes:
        values = own.get(axis.name)
        if axis.field is None:
            if values is not None and len(values) == axis.length:
                coords[axis.name] = np.asarray(values)
            continue
        labels = _as_array(grid.labels[axis.field])
        if axis.is_stacked:
            coords[axis.name] = labels
        else:
            coords[axis.name] = np.arange(axis.length)
            coords[label_name(axis.name)] = np.repeat(labels, axis.extents)
    return coords


def label_name(dim: str) -> str:
    """Name of the coordinate that tells which file a position of a dim lies in."""
    return f"{dim}_label"


def coordinate_lines(layout: Layout, grid: FileGrid, own: Mapping[str, Sequence[Any]]) -> list[str]:
    """A line for each axis whose positions have names, the same labels told once."""
    lines = []
    for axis in layout.axes:
        if axis.field is not None:
            name = axis.name if axis.is_stacked else label_name(axis.name)
            lines.append(f"{name}: {abridged(_as_array(grid.labels[axis.field]))}")
        elif axis.name in own:
            lines.append(f"{axis.name}: {abridged(np.asarray(own[axis.name]))}")
    return lines


def _as_array(labels: Sequence[Any]) -> Array:
    if labels and hasattr(labels[0], "tzinfo"):
        # NumPy's times have no zone: UTC, as NumPy itself would convert them.
        plain = [
            t if t.tzinfo is None else t.astimezone(datetime.UTC).replace(tzinfo=None)
            for t in labels
        ]
        return np.array(plain, "datetime64[us]")
    return np.asarray(labels)


def human(size_bytes: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.4g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.4g} PiB"


def abridged(values: Array) -> str:
    """A few of the values."""
    shown = [str(value) for value in (values if len(values) <= 8 else values[:4])]
    tail = ["...", str(values[-1])] if len(values) > 8 else []
    return " ".join(shown + tail)
