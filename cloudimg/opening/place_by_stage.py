"""Place fields of view where the stage was, in whole pixels of one canvas.

Only axes with a name of fields of view are placed. Along time, channel and z the stage stays or
comes back, so that the position of the first file is that of all. Wells and the like, between which
the stage travels far, have a canvas each. Along any other axis, the stage must have come back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError, GridError, counted
from cloudimg.opening.header import Header, Index
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.canvas import Canvas
from cloudimg.reading.layout import Layout, with_canvas
from cloudimg.tiff.flavours.facts import MICROMETRE, micrometres

Array = npt.NDArray[Any]

_FIELDS = (
    "field", "f", "fov", "site", "s", "position", "pos", "p", "point", "xy", "stage", "tile", "m",
    "tile_y", "tile_x", "y", "x",
)  # fmt: skip
"""Names of axes whose files are fields of view beside each other."""
_APART = (
    "plate", "well", "row", "col", "column", "region", "sample", "slide", "section", "scan",
    "scene", "folder",
)  # fmt: skip
"""Names of axes with a canvas for each index."""
REPEATED = ("t", "c", "z", "band", "channel", "time")
"""Names of axes along which the stage is at the same place, without looking."""
MOST_APART = 0.5
"""Greatest distance of one place from itself along other axes, in lengths of a field: a stage does
not come back exactly."""
_FLIPS = ("", "none", "x", "y", "xy")
_PIXEL = ("pixel", "pixels", "px")
"""Units of positions that were measured in the images."""
_LONGEST = 2**31
"""Side of a canvas in pixels that programs no longer read."""
_LEAST_COVERED = 0.001
"""Least part of a canvas that fields cover: with less, a unit or the size of a pixel is wrong."""
_SHOWN = 3
_STACK = 'place="stack" stacks the fields'


@dataclass(frozen=True, slots=True)
class KnownPlaces:
    """Positions of the stage from one source: headers, a table, or index files."""

    facts: FactColumns

    def at(self, rows: npt.NDArray[np.int64]) -> Array:
        """Positions along y and x."""
        columns = (self.facts.column(f"stage_{name}", rows) for name in ("y", "x"))
        return np.stack(list(columns), axis=-1)

    def signs(self, rows: npt.NDArray[np.int64], flip: str | None) -> Array:
        """Return -1 along y and x where positions fall while pixels are counted up, else 1.

        Raises
        ------
        GridError
        """
        flips = (*self.facts.texts("stage_flip"), "") if flip is None else (flip,)
        unknown = [each for each in flips if each not in _FLIPS]
        if unknown:
            raise GridError(
                f"the positions of the stage have the stage_flip {unknown[0]!r}, which is not x,"
                f" y or xy. Open a table of the files with another one, or pass flip=; {_STACK}"
            )
        by_code = np.array([[-1 if name in each else 1 for name in "yx"] for each in flips])
        codes = self.facts.column("stage_flip", rows) if flip is None else np.zeros(len(rows), int)
        return np.asarray(by_code[codes])  # the number of no text, -1, is that of the last one

    def count(self, rows: npt.NDArray[np.int64]) -> int:
        """Number of files whose position is known."""
        return int(np.isfinite(self.at(rows)).all(axis=-1).sum())


def axes_of_fields(fields: Sequence[str], file_dims: Sequence[str]) -> tuple[int, ...]:
    """Return the axes of the grid whose files are fields of view.

    Raises
    ------
    ArgumentError
        If there are none.
    """
    found = tuple(
        number
        for number, name in enumerate(fields)
        if name in _FIELDS and (name in ("y", "x") or name not in file_dims)
    )
    if not found:
        raise ArgumentError(
            f'place="stage" places files along an axis of fields of view, but the pattern has'
            f" {', '.join(fields)}: call the axis field, position or tile in the pattern"
        )
    return found


def refuse_fields_within(dims: Sequence[str], url: str, arguments: OpenArguments) -> None:
    """Refuse to place the fields that a file, or a dataset that names its files, has itself.

    Raises
    ------
    ArgumentError
    """
    within = [dim for dim in dims if dim in _FIELDS and dim not in ("y", "x", "s")]
    if arguments.place == "stage" and within:
        raise ArgumentError(
            f'place="stage" places files of a pattern, but {url} has fields along {within[0]}'
            f" itself. Open files of one field each; {_STACK}"
        )


def files_without_places(grid: FileGrid, known: Sequence[KnownPlaces]) -> Iterator[Index]:
    """Yield the files whose headers are needed, the first ones along time, channel and z.

    Parameters
    ----------
    grid : FileGrid
    known : sequence of KnownPlaces
        What is known without them. No header is needed if one of these has all positions; those of
        several are not mixed, because each may count from another origin.
    """
    rows = _rows(_first_files(grid))
    if any(each.count(rows) == len(rows) for each in known):
        return
    for number in rows.tolist():
        yield _index(grid, number)


def most_complete(known: Sequence[KnownPlaces], grid: FileGrid) -> KnownPlaces:
    """Return the source that has most positions, which places the fields."""
    rows = _rows(_first_files(grid))
    return max(known, key=lambda each: each.count(rows))


def place_by_stage(
    layout: Layout,
    grid: FileGrid,
    known: Sequence[KnownPlaces],
    first: Header,
    arguments: OpenArguments,
    url_at: Callable[[Index], str],
) -> Layout:
    """Return the layout with the places of the files on a canvas.

    Parameters
    ----------
    layout : Layout
        The layout at level 0, of files on a canvas whose places are not known yet.
    grid : FileGrid
    known : sequence of KnownPlaces
        What is known of files, the most trusted first. The one with most positions is used.
    first : Header
        Header of the first file, with the size of a pixel.
    arguments : OpenArguments
    url_at : callable
        Returns the URL of the file at an index.

    Raises
    ------
    GridError
        If positions are not known, or cannot be those of the fields.
    """
    assert layout.canvas is not None
    on_canvas = layout.canvas.fields
    size = np.array([first.shapes[0][axis] for axis in layout.plane], np.int64)
    numbers = _first_files(grid)
    source = most_complete(known, grid)
    pixels = _in_pixels(numbers, grid, source, first, url_at, arguments.flip)
    axes = [i for i, name in enumerate(grid.fields) if name not in REPEATED]
    for along, axis in enumerate(axes):
        if axis not in on_canvas and grid.fields[axis] not in _APART:
            pixels = _come_back(pixels, along, size, grid.fields[axis])
    along_fields = tuple(along for along, axis in enumerate(axes) if axis in on_canvas)
    pixels -= np.fmin.reduce(pixels, axis=along_fields, keepdims=True)
    _refuse_absurd(pixels, along_fields, size)
    _refuse_equal(pixels, along_fields, lambda at: url_at(_index(grid, int(numbers[at]))))
    return with_canvas(layout, _canvas(grid, layout.canvas, pixels, size, arguments.blend))


def _canvas(grid: FileGrid, unplaced: Canvas, pixels: Array, size: Array, blend: str) -> Canvas:
    """The canvas of files at rows and columns from its corner, in whole pixels."""
    repeated = [i for i, name in enumerate(grid.fields) if name in REPEATED]
    whole = np.rint(np.nan_to_num(pixels)).astype(np.int64)
    offsets = np.zeros((*grid.shape, 2), np.int64)
    offsets[...] = np.expand_dims(whole, repeated)
    is_present = np.ones(grid.shape, bool) if grid.present is None else grid.present
    sizes = np.where(is_present[..., np.newaxis], size, 0)
    return Canvas.of(unplaced.fields, offsets, sizes, blend=blend)


def _first_files(grid: FileGrid) -> npt.NDArray[np.int64]:
    """Position in the grid of the first file along repeated axes, by index of the others; or -1."""
    repeated = tuple(i for i, name in enumerate(grid.fields) if name in REPEATED)
    positions = np.arange(math.prod(grid.shape)).reshape(grid.shape)
    if grid.present is not None:
        positions[~grid.present] = positions.size
    first = positions.min(axis=repeated)
    return np.where(first == positions.size, -1, first)


def _rows(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of files, increasing."""
    return np.unique(numbers[numbers >= 0])


def _index(grid: FileGrid, number: int) -> Index:
    return tuple(int(i) for i in np.unravel_index(number, grid.shape))


def _in_pixels(
    numbers: npt.NDArray[np.int64],
    grid: FileGrid,
    source: KnownPlaces,
    first: Header,
    url_at: Callable[[Index], str],
    flip: str | None,
) -> Array:
    """Return the row and column of each file, from any origin; NaN where there is no file.

    Raises
    ------
    GridError
    """
    rows = _rows(numbers)
    found = source.at(rows)
    lacking = rows[~np.isfinite(found).all(axis=-1)]
    if len(lacking):
        shown = ", ".join(url_at(_index(grid, int(number))) for number in lacking[:_SHOWN])
        raise GridError(
            'place="stage" needs the position of the stage at each field, but it is not known for'
            f" {len(lacking)} of {counted(len(rows), 'file')}: {shown}. Open a table of"
            " the files with the positions (stage_x, stage_y, stage_unit), or leave files out with"
            f" exclude=; {_STACK}"
        )
    found *= pixels_per_unit(source.facts, rows, first) * source.signs(rows, flip)
    pixels = np.full((*numbers.shape, 2), np.nan)
    pixels[numbers >= 0] = found[np.searchsorted(rows, numbers[numbers >= 0])]
    return pixels


def pixels_per_unit(facts: FactColumns, rows: npt.NDArray[np.int64], first: Header) -> Array:
    """Return how many pixels, along y and x, the unit of the position of each file has.

    Raises
    ------
    GridError
    """
    units = (*facts.texts("stage_unit"), MICROMETRE)
    codes = facts.column("stage_unit", rows)  # that of no unit, -1, is that of the last one
    size, size_unit = (first.attrs.get(name, {}) for name in ("pixel_size", "pixel_size_unit"))
    factors = np.ones((len(units), 2))
    for code in np.unique(codes):
        if units[code].strip().lower() in _PIXEL:
            continue
        length = micrometres(1, units[code])
        if length is None:
            raise GridError(
                f'place="stage" needs positions in a unit of length or in pixels, and those of the'
                f" files are in {units[code]!r}. Open a table of the files with other positions;"
                f" {_STACK}"
            )
        for i, name in enumerate(("y", "x")):
            pixel = micrometres(size[name], size_unit[name]) if name in size else None
            if not pixel:
                raise GridError(
                    f"{first.url} does not say how long a pixel is along {name}, so that positions"
                    f" in {units[code]} cannot be placed. Open a table of the files with positions"
                    f' in pixels (stage_unit "pixel"); {_STACK}',
                    url=first.url,
                )
            factors[code, i] = length / pixel
    return np.asarray(factors[codes])


def _come_back(pixels: Array, along: int, size: Array, name: str) -> Array:
    """Return the first positions along an axis, which are those of all.

    Raises
    ------
    GridError
        If the stage was elsewhere.
    """
    at = np.isfinite(pixels).argmax(along, keepdims=True)
    reference = np.take_along_axis(pixels, at, along)
    apart = np.nan_to_num(np.abs(pixels - reference)).reshape(-1, 2).max(axis=0)
    if (apart > MOST_APART * size).any():
        raise GridError(
            f"along {name}, the stage was up to {apart[0]:.0f} rows and {apart[1]:.0f} columns"
            f' elsewhere, and place="stage" does not know whether these are other fields. Call the'
            ' axis "field" in the pattern to put all on one canvas, or "region" for a canvas each'
        )
    return reference


def _refuse_absurd(pixels: Array, along_fields: tuple[int, ...], size: Array) -> None:
    """Refuse a canvas that is too large, or nearly empty.

    Raises
    ------
    GridError
    """
    height, width = (np.nanmax(pixels.reshape(-1, 2), axis=0) + size).tolist()
    n_fields = int(np.isfinite(pixels[..., 0]).sum(axis=along_fields).max())
    covered = n_fields * math.prod(size.tolist()) / (height * width)
    if max(height, width) < _LONGEST and covered >= _LEAST_COVERED:
        return
    raise GridError(
        f'place="stage" would need a canvas of {height:.6g} x {width:.6g} pixels, of which'
        f" {counted(n_fields, 'field covers', 'fields cover')} {100 * covered:.2g} %. Check the"
        " unit of the positions and the size of a pixel. Wells and regions have a canvas each if"
        f' their axis is called "well" or "region" in the pattern; {_STACK}'
    )


def _refuse_equal(
    pixels: Array, along_fields: tuple[int, ...], url_at: Callable[[tuple[int, ...]], str]
) -> None:
    """Refuse fields of one canvas at the same place.

    Raises
    ------
    GridError
    """
    index = np.argwhere(np.isfinite(pixels[..., 0]))
    whole = np.rint(pixels[tuple(index.T)])
    where = np.concatenate((np.delete(index, along_fields, axis=1), whole), axis=1)
    different, first, group = np.unique(where, axis=0, return_index=True, return_inverse=True)
    if len(different) == len(where):
        return
    again = int(np.setdiff1d(np.arange(len(where)), first)[0])
    one, other = (url_at(tuple(index[i])) for i in (first[group.ravel()[again]], again))
    raise GridError(
        f"according to their stage positions, {one} and {other} are at one place: row"
        f" {whole[again, 0]:.0f} and column {whole[again, 1]:.0f} of the canvas. With"
        f' place="stage", {len(where) - len(different)} of {counted(len(where), "field")} would be'
        f" hidden. Leave files out with exclude=; {_STACK}"
    )
