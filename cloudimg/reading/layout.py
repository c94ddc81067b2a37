"""Lay out files as an image: concatenate along an axis that the files have, else stack along it.

Where files lie along y and x by positions of their own, a `Canvas` says so.

Pure: maps the axes of the grid and of the files to the dims of the image, and a region of the image
to regions of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.reading.canvas import Canvas
from cloudimg.tiff import Region, overlap

_LAST = ("t", "c", "z", "y", "x", "s")
_MAX_BOUNDARIES = 10**6
"""Most boundaries along one axis that are listed."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One dim of the image."""

    name: str
    field: int | None
    """Axis of the grid, or None if only the files have the axis."""
    file_axis: int | None
    """Axis of the files, or None if files are stacked along the axis."""
    extents: tuple[int, ...]
    """Lengths of the files along the axis by index in the grid: a single one if `field` is None,
    none if files are stacked."""
    count: int
    """Number of indices in the grid; 1 if `field` is None."""

    @property
    def is_stacked(self) -> bool:
        """Whether files are stacked along the axis instead of concatenated."""
        return self.file_axis is None

    @property
    def length(self) -> int:
        """Length of the image along the axis."""
        return self.count if self.is_stacked else sum(self.extents)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A region of one file, and where it belongs in the output."""

    index: tuple[int, ...]
    """Index of the file in the grid."""
    file_region: Region
    """Region to read, in the axes of the file."""
    place: tuple[int | slice, ...]
    """Index into the output, in the dims of the image."""
    transpose: tuple[int, ...]
    """Permutation that brings ``output[place]`` into the axes of the file."""
    is_apart: bool = False
    """Whether pixels of other files belong to the same place, so that these are placed later."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes of the image, in order."""

    axes: tuple[Axis, ...]
    n_fields: int
    n_file_axes: int
    canvas: Canvas | None = None
    """Where files lie along y and x; None if their index says so."""

    def __repr__(self) -> str:
        # Stored plans have digests of it, which must stay as they were before there were canvases.
        canvas = "" if self.canvas is None else f", canvas={self.canvas}"
        return (
            f"Layout(axes={self.axes}, n_fields={self.n_fields}, n_file_axes={self.n_file_axes}"
            f"{canvas})"
        )

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)

    def file_shape(self, index: Sequence[int]) -> tuple[int, ...]:
        """Return the shape that the file at an index must have."""
        shape = [0] * self.n_file_axes
        for axis in self.axes:
            if axis.file_axis is not None:
                shape[axis.file_axis] = axis.extents[0 if axis.field is None else index[axis.field]]
        if self.canvas is not None:
            for axis_of_file, length in zip(self.plane, self.canvas.size(index), strict=True):
                shape[axis_of_file] = length
        return tuple(shape)

    @property
    def own_lengths(self) -> frozenset[int]:
        """Axes of the files along which each file may have a length of its own."""
        joined = {
            axis.file_axis
            for axis in self.axes
            if axis.field is not None and axis.file_axis is not None
        }
        return frozenset(joined | set(self.plane if self.canvas is not None else ()))

    @property
    def plane(self) -> tuple[int, int]:
        """The axes y and x of the files."""
        of_files = {axis.name: axis.file_axis for axis in self.axes}
        y, x = of_files["y"], of_files["x"]
        assert y is not None
        assert x is not None
        return y, x

    def region_of(self, index: Sequence[int]) -> Region:
        """Return the region of the image that the file at an index fills."""
        region = []
        for axis in self.axes:
            i = 0 if axis.field is None else index[axis.field]
            if axis.is_stacked:
                region.append(slice(i, i + 1, 1))
            else:
                start = sum(axis.extents[:i])
                region.append(slice(start, start + axis.extents[i], 1))
        if self.canvas is not None:
            rows, columns = self.canvas.region_of(index)
            region[self.dims.index("y")], region[self.dims.index("x")] = rows, columns
        return tuple(region)

    def assignments(self, region: Region, *, all_files: bool = False) -> Iterator[Assignment]:
        """Yield the part of a region that each file holds.

        Parameters
        ----------
        region : tuple of slice
            Per dim, with start, stop and a positive step, within bounds.
        all_files : bool
            Whether to include parts of files that lie below others on a canvas.
        """
        choices = [list(_parts(axis, part)) for axis, part in zip(self.axes, region, strict=True)]
        kept = [axis.file_axis for axis in self.axes if axis.file_axis is not None]
        transpose = tuple(int(i) for i in np.argsort(kept))
        for combination in product(*choices):
            index = [0] * self.n_fields
            file_region: list[slice] = [slice(0, 1, 1)] * self.n_file_axes
            place: list[int | slice] = []
            for axis, (i, part_of_file, target) in zip(self.axes, combination, strict=True):
                if axis.field is not None:
                    index[axis.field] = i
                if axis.file_axis is not None:
                    file_region[axis.file_axis] = part_of_file
                place.append(target)
            one = Assignment(tuple(index), tuple(file_region), tuple(place), transpose)
            yield from (one,) if self.canvas is None else self._on_canvas(one, region, all_files)

    def _on_canvas(self, one: Assignment, region: Region, all_files: bool) -> Iterator[Assignment]:
        """Yield an assignment for each file on the canvas, from one for all of the canvas."""
        assert self.canvas is not None
        y, x = self.dims.index("y"), self.dims.index("x")
        of_y, of_x = self.plane
        for part in self.canvas.parts(one.index, region[y], region[x], all_files=all_files):
            place, file_region = list(one.place), list(one.file_region)
            place[y], place[x] = part.place
            file_region[of_y], file_region[of_x] = part.file_region
            yield Assignment(
                part.index, tuple(file_region), tuple(place), one.transpose, part.is_apart
            )


def _parts(axis: Axis, part: slice) -> Iterator[tuple[int, slice, int | slice]]:
    """Yield index in the grid, slice of the file and place in the output, along one axis."""
    if axis.is_stacked:
        for position, i in enumerate(range(part.start, part.stop, part.step)):
            yield i, slice(0, 1, 1), position
        return
    ends = np.cumsum(axis.extents)
    first = int(np.searchsorted(ends, part.start, "right"))
    for i in range(first, len(axis.extents)):
        stop = int(ends[i])
        start = stop - axis.extents[i]
        if start >= part.stop:
            return
        both = overlap(part, start, stop)
        if both is not None:
            yield i, both[0], both[1]


def arrange(
    fields: Sequence[str],
    lengths: Sequence[int],
    file_dims: Sequence[str],
    file_shape: Sequence[int],
    *,
    mosaic: bool,
    dims: Sequence[str] | None,
    on_canvas: Sequence[int] | None = None,
) -> Layout:
    """Lay out the axes of the image as if all files were as large as the first.

    Parameters
    ----------
    fields, lengths : sequences
        Axes of the grid and their lengths.
    file_dims, file_shape : sequences
        Axes of the files and their lengths.
    mosaic : bool
        False stacks along `y` and `x` (as ``tile_y``, ``tile_x``) instead of concatenating.
    dims : sequence of str, optional
        Order of the dims; by default t, c, z, y, x, s (samples), and all others before them in the
        order of the pattern.
    on_canvas : sequence of int, optional
        Axes of the grid whose files lie on one canvas, at places that `with_canvas` adds; none if
        each file has a canvas of its own. By default, the index of a file says where it lies.

    Raises
    ------
    ArgumentError
        If `dims` is not a permutation of the axes.
    """
    names = _axis_names(fields, mosaic=mosaic)
    file_axes = {name: i for i, name in enumerate(file_dims)}
    axes: dict[str, Axis] = {}
    for i, (name, length) in enumerate(zip(names, lengths, strict=True)):
        if on_canvas is not None and i in on_canvas:
            continue
        at = file_axes.get(name)
        extents = () if at is None else (file_shape[at],) * length
        axes[name] = Axis(name, i, at, extents, length)
    for name, at in file_axes.items():
        if name not in axes:
            axes[name] = Axis(name, None, at, (file_shape[at],), 1)
    order = _order(tuple(axes), dims)
    canvas = None if on_canvas is None else Canvas.unknown(on_canvas, lengths)
    return Layout(tuple(axes[name] for name in order), len(fields), len(file_dims), canvas)


def _axis_names(fields: Sequence[str], *, mosaic: bool) -> list[str]:
    """Return the name of the axis of each field."""
    names = [f"tile_{f}" if f in ("y", "x") and not mosaic else f for f in fields]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ArgumentError(f'with place="stack" two fields would be the axis {twice}: rename one')
    return names


def _order(names: Sequence[str], dims: Sequence[str] | None) -> Sequence[str]:
    """Return the axes in the order of a user's `dims`, or in the default order."""
    first = [name for name in names if name not in _LAST]
    order = first + [name for name in _LAST if name in names]
    if dims is not None and sorted(dims) != sorted(order):
        raise ArgumentError(f"dims={tuple(dims)} must name each axis of {tuple(order)} once")
    return order if dims is None else dims


def with_extents(layout: Layout, extents: Mapping[str, Sequence[int]]) -> Layout:
    """Return the layout with other lengths of the files along some axes."""
    axes = tuple(
        replace(axis, extents=tuple(extents.get(axis.name, axis.extents))) for axis in layout.axes
    )
    return replace(layout, axes=axes)


def with_canvas(layout: Layout, canvas: Canvas) -> Layout:
    """Return the layout with the places of the files on a canvas."""
    height, width = canvas.shape
    lengths = {"y": [height], "x": [width]}
    return replace(with_extents(layout, lengths), canvas=canvas)


def boundaries(layout: Layout, axis: Axis, segment: int) -> npt.NDArray[np.int64]:
    """Return the positions between segments along an axis: increasing, from 0 to its length."""
    if layout.canvas is not None and axis.name in ("y", "x"):
        return layout.canvas.boundaries(("y", "x").index(axis.name), segment)
    return axis_boundaries(axis, segment)


def axis_boundaries(axis: Axis, segment: int) -> npt.NDArray[np.int64]:
    """Return the positions between segments along an axis: increasing, from 0 to its length."""
    if axis.is_stacked:
        return np.arange(axis.length + 1)
    starts = np.cumsum((0, *axis.extents))
    # A mosaic can have a hundred million strips of one row: use groups of them.
    segment *= max(1, int(starts[-1]) // segment // _MAX_BOUNDARIES)
    boundaries = [
        start + np.arange(0, extent, segment)
        for start, extent in zip(starts[:-1], axis.extents, strict=True)
    ]
    return np.unique(np.append(np.concatenate(boundaries), starts[-1]))
