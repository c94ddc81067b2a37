"""Coordinates that are made of what is known of each file: positions, times, channels. Pure.

A fact becomes a coordinate along the axes along which it varies, and no others: the position of
the stage along ``(well, field)``, the time along ``t``, the name of the channel along ``c``. What
is the same in all files is a coordinate without axes. The values are exactly those of the files;
they are NaN, NaT or an empty text where a file does not give it, or where there is none.

Axes along which files are concatenated:

- Tiles of a mosaic (``y`` and ``x``) have positions and times of their own, which are not those of
  pixels. A fact that differs only between tiles is left out. One that also differs along other
  axes is that of the first tile, which is when a mosaic begins; for the stage, that of the first
  one at the edge where it begins.
- Along other axes (slabs along ``z``, parts of a series along ``t``) the fact of a file is repeated
  for each position in the file, as its label is, unless the file has its own value for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS, NUMBER, TIME, null_of
from cloudimg.discovery.grid import FileGrid
from cloudimg.opening.coordinates import coordinates, label_name
from cloudimg.reading.layout import Axis, Layout
from cloudimg.tiff.variation import Variation, same

Array = npt.NDArray[Any]

_PLANE = ("y", "x", "s")
"""Axes of a plane, for whose positions no fact is known."""
_ALONG = {"stage_y": "y", "stage_x": "x"}
"""The axis of an image along which a position is one."""
_KEPT_LONGEST = {"channel": "c", "stage_z": "z", "acquired": "t", "elapsed_s": "t"}
"""The axis along which a fact varies if, because of missing files, it may be one of several."""


class Coordinate(NamedTuple):
    """Values along some dims of an image."""

    dims: tuple[str, ...]
    values: Array


def all_coordinates(
    layout: Layout, grid: FileGrid, own: Mapping[str, Sequence[Any]], facts: FactColumns | None
) -> dict[str, Coordinate]:
    """Return all coordinates of an image by name: labels, those in the files, and facts.

    Parameters
    ----------
    layout : Layout
    grid : FileGrid
    own : mapping
        See `cloudimg.opening.coordinates`.
    facts : FactColumns, optional
        See `fact_coordinates`.
    """
    labels = coordinates(layout, grid, own)
    dim_of = {name: dim for dim in layout.dims for name in (dim, label_name(dim))}
    along_dims = {name: Coordinate((dim_of[name],), values) for name, values in labels.items()}
    return along_dims | fact_coordinates(layout, grid, facts, labels)


def fact_coordinates(
    layout: Layout,
    grid: FileGrid,
    facts: FactColumns | None,
    labels: Mapping[str, Array],
) -> dict[str, Coordinate]:
    """Return the coordinates that facts of files make, by name, in the order of `FACTS`.

    Parameters
    ----------
    layout : Layout
    grid : FileGrid
    facts : FactColumns, optional
        By position in C order of the grid; None if they were not read.
    labels : mapping
        Other coordinates of the image, see `cloudimg.opening.coordinates`; they are never replaced.
        Names of channels that are labels already are not repeated.

    Returns
    -------
    dict of Coordinate
    """
    found: dict[str, Coordinate] = {}
    if facts is None:
        return found
    for name in facts.names:
        if name in labels or name in layout.dims:
            continue
        coordinate = _coordinate(name, layout, grid, facts)
        if coordinate is not None and not (name == "channel" and _is_label(coordinate, labels)):
            found[name] = coordinate
    return found


def unit_of(name: str, coordinates: Mapping[str, Array]) -> str:
    """Return the unit of a coordinate made of a fact; empty if it has none, or not only one.

    Parameters
    ----------
    name : str
    coordinates : mapping
        All coordinates of the image.
    """
    if name in ("stage_x", "stage_y", "stage_z"):
        units = set(np.unique(coordinates.get("stage_unit", np.empty(0, str))).tolist()) - {""}
        return units.pop() if len(units) == 1 else ""
    return "s" if name in ("elapsed_s", "exposure_s") else ""


def _is_label(coordinate: Coordinate, labels: Mapping[str, Array]) -> bool:
    """Whether the names of channels are the labels of the axis."""
    known = labels.get(coordinate.dims[0]) if len(coordinate.dims) == 1 else None
    return known is not None and np.array_equal(coordinate.values, known.astype(str))


def _coordinate(name: str, layout: Layout, grid: FileGrid, facts: FactColumns) -> Coordinate | None:
    """Make the coordinate of one fact; None if it has no value that belongs to positions."""
    whole = found = _by_index(name, layout, grid, facts)
    null = np.array(null_of(name), found.values.dtype)
    if same(found.values, null).all():
        return None
    kept_longest = _KEPT_LONGEST.get(name, "")
    axes = {axis.name: axis for axis in layout.axes}
    tiles = [
        dim
        for dim in found.names
        if dim not in axes or (dim in _PLANE and not axes[dim].is_stacked)
    ]
    found = found.reduced(tiles, kept_longest)
    differing_tiles = [dim for dim in tiles if dim in found.names]
    edge = _at_edge(name, layout, grid) if differing_tiles else None
    if edge is not None:
        found = _first_of(tiles, whole, _by_index(name, layout, grid, facts, edge), null)
    else:
        found = _first_of(differing_tiles, found, found, null)
    found = found.reduced(found.names, kept_longest)
    if differing_tiles and not found.names:
        return None
    values = np.where(found.is_known, found.values, null)
    for number, dim in enumerate(found.names):
        if values.shape[number] != axes[dim].length:
            values = np.repeat(values, axes[dim].extents, number)
    return Coordinate(found.names, _as_public(name, values, facts))


def _at_edge(name: str, layout: Layout, grid: FileGrid) -> npt.NDArray[np.bool_] | None:
    """Return which tiles lie where the image begins along y or x; None for other facts."""
    dim = _ALONG.get(name)
    if dim is None:
        return None
    if layout.canvas is not None:
        return np.asarray(layout.canvas.boxes[..., ("y", "x").index(dim)] == 0)
    is_first = np.ones(grid.shape, bool)
    for axis in layout.axes:
        if axis.name == dim and axis.field is not None:
            np.moveaxis(is_first, axis.field, 0)[1:] = False
    return is_first


def _first_of(tiles: Sequence[str], whole: Variation, among: Variation, null: Array) -> Variation:
    """Return the first values along tiles that are known in `among`, null where there are none."""
    for dim in reversed(tiles):
        whole, among = whole.first_along(dim), among.first_along(dim)
    return Variation(whole.names, np.where(among.is_known, among.values, null), whole.is_known)


def _as_public(name: str, numbers: Array, facts: FactColumns) -> Array:
    """Plain numbers as numbers, times and texts."""
    kind = FACTS[name].type
    if kind == NUMBER:
        return numbers
    if kind == TIME:
        return numbers.view("datetime64[us]") if numbers.ndim else numbers.astype("datetime64[us]")
    texts: Array = np.array([*facts.texts(name), ""], str)
    return np.asarray(texts[numbers])  # the number of no text, -1, is that of the last one


def _by_index(
    name: str,
    layout: Layout,
    grid: FileGrid,
    facts: FactColumns,
    among: npt.NDArray[np.bool_] | None = None,
) -> Variation:
    """Spread a fact over the axes of the grid, and over those of files that say it of each plane.

    Files that are not `among` those that count, or of which nothing was read, are like files that
    are missing. Axes of the grid whose files lie on one canvas are not axes of the image; they come
    last, with numbers for names.
    """
    n_files = math.prod(grid.shape)
    is_known = np.zeros(n_files, bool)
    is_known[facts.rows] = True
    if grid.present is not None:
        is_known &= grid.present.ravel()
    if among is not None:
        is_known &= among.ravel()
    within = _axes_within(name, layout, facts)
    lengths = [max(axis.extents) for axis in within]
    values = np.repeat(facts.column(name, np.arange(n_files)), math.prod(lengths))
    values = values.reshape(n_files, *lengths)
    for numbers, rows, planes in facts.planes(name):
        fits = _spread(values, within, numbers, rows, planes, grid.shape)
        values[rows[~fits]] = null_of(name)
    is_known = np.broadcast_to(is_known.reshape(-1, *[1] * len(within)), values.shape)
    axes = [axis for axis in layout.axes if axis.field is not None or axis in within]
    of_tiles = sorted(set(range(len(grid.shape))) - {axis.field for axis in axes})
    names = (*(axis.name for axis in axes), *map(str, of_tiles))
    values, is_known = (
        _in_order(each.reshape((*grid.shape, *lengths)), axes, within, of_tiles)
        for each in (values, is_known)
    )
    return Variation(names, values, is_known)


def _in_order(
    values: Array, axes: Sequence[Axis], within: Sequence[Axis], of_tiles: Sequence[int]
) -> Array:
    """Arrange the axes of the grid and those within files as axes of the image, then `of_tiles`."""
    n_fields = values.ndim - len(within)
    order, shape, kept = [], [], []
    for axis in axes:
        order += [axis.field] if axis.field is not None else []
        order += [n_fields + within.index(axis)] if axis in within else []
        kept.append(_positions(axis) if axis in within else np.arange(axis.count))
        shape.append(axis.count * (max(axis.extents) if axis in within else 1))
    for field in of_tiles:
        order.append(field)
        kept.append(np.arange(values.shape[field]))
        shape.append(values.shape[field])
    return np.asarray(values.transpose(order).reshape(shape)[np.ix_(*kept)])


def _axes_within(name: str, layout: Layout, facts: FactColumns) -> list[Axis]:
    """Return the axes of the files along which any of them says a fact of each plane."""
    numbers = {number for axes, _, _ in facts.planes(name) for number in axes}
    within = [axis for axis in layout.axes if axis.file_axis in numbers]
    return sorted(within, key=lambda axis: axis.file_axis or 0)


def _spread(
    values: Array,
    within: Sequence[Axis],
    numbers: Sequence[int],
    rows: npt.NDArray[np.int64],
    planes: Array,
    grid_shape: Sequence[int],
) -> npt.NDArray[np.bool_]:
    """Put what files say of each plane into their rows of `values`, whose other axes are `within`.

    Returns
    -------
    ndarray
        Which files have the lengths that the image has there; the others are bad.
    """
    lengths = dict(zip(numbers, planes.shape[1:], strict=True))
    by_number = {axis.file_axis: axis for axis in within}
    fits = np.full(len(rows), by_number.keys() >= set(numbers))
    index = np.unravel_index(rows, tuple(grid_shape)) if grid_shape else ()
    for number, length in lengths.items():
        axis = by_number.get(number)
        if axis is not None:
            extents = np.array(axis.extents)
            fits &= extents[index[axis.field] if axis.field is not None else 0] == length
    if fits.any():
        steps = [lengths.get(axis.file_axis or 0) for axis in within]
        place = [slice(length) for length in steps]
        shape = [1 if length is None else length for length in steps]
        values[(rows[fits], *place)] = planes[fits].reshape(-1, *shape)
    return fits


def _positions(axis: Axis) -> npt.NDArray[np.int64]:
    """Return which of the longest file's steps for each file of an axis are steps of the image."""
    longest = max(axis.extents)
    starts = np.arange(len(axis.extents)) * longest
    return np.concatenate(
        [start + np.arange(extent) for start, extent in zip(starts, axis.extents, strict=True)]
    )
