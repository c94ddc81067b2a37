"""The one rule of axes: concatenate along an axis that the file has, else stack along a new one.

Pure: from the axes of the grid and of the files to the dims of the image, and from a region of
the image to the regions of files that make it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.tiff.geometry import Region, overlap

_LAST = ("t", "c", "z", "y", "x", "s")
_MAX_BOUNDARIES = 10**6


@dataclass(frozen=True, slots=True)
class Axis:
    """One dim of the image."""

    name: str
    field: int | None
    """Axis of the grid of files, or None for an axis of the files alone."""
    file_axis: int | None
    """Axis of the files, or None for an axis along which they are stacked."""
    extents: tuple[int, ...]
    """Length of the files along the axis, by index in the grid; one where there is no field, none
    where they are stacked."""
    count: int
    """Number of indices in the grid; 1 where there is no field."""

    @property
    def is_stacked(self) -> bool:
        return self.file_axis is None

    @property
    def length(self) -> int:
        return self.count if self.is_stacked else sum(self.extents)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A region of one file and where it lies in the region asked for."""

    index: tuple[int, ...]
    """Of the file in the grid."""
    file_region: Region
    place: tuple[int | slice, ...]
    """Index into the output, in the dims of the image."""
    transpose: tuple[int, ...]
    """Brings ``output[place]`` into the axes of the file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes of the image, in order."""

    axes: tuple[Axis, ...]
    n_fields: int
    n_file_axes: int

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)

    def file_shape(self, index: Sequence[int]) -> tuple[int, ...]:
        """Shape that the file at an index must have."""
        shape = [0] * self.n_file_axes
        for axis in self.axes:
            if axis.file_axis is not None:
                shape[axis.file_axis] = axis.extents[0 if axis.field is None else index[axis.field]]
        return tuple(shape)

    def region_of(self, index: Sequence[int]) -> Region:
        """The region of the image that the file at an index of the grid fills."""
        region = []
        for axis in self.axes:
            i = 0 if axis.field is None else index[axis.field]
            if axis.is_stacked:
                region.append(slice(i, i + 1, 1))
            else:
                start = sum(axis.extents[:i])
                region.append(slice(start, start + axis.extents[i], 1))
        return tuple(region)

    def assignments(self, region: Region) -> Iterator[Assignment]:
        """The files that a region touches.

        Parameters
        ----------
        region : tuple of slice
            Per dim, with start, stop and a positive step, within bounds.
        """
        choices = [list(_choices(axis, part)) for axis, part in zip(self.axes, region, strict=True)]
        kept = [axis.file_axis for axis in self.axes if axis.file_axis is not None]
        transpose = tuple(int(i) for i in np.argsort(kept))
        for combination in product(*choices):
            index = [0] * self.n_fields
            file_region: list[slice] = [slice(0, 1, 1)] * self.n_file_axes
            place: list[int | slice] = []
            for axis, (i, local, target) in zip(self.axes, combination, strict=True):
                if axis.field is not None:
                    index[axis.field] = i
                if axis.file_axis is not None:
                    file_region[axis.file_axis] = local
                place.append(target)
            yield Assignment(tuple(index), tuple(file_region), tuple(place), transpose)


def _choices(axis: Axis, part: slice) -> Iterator[tuple[int, slice, int | slice]]:
    """Along one axis: index in the grid, region in the file, place in the output."""
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
) -> Layout:
    """Lay out the axes of the image, all files being as large as the first.

    Parameters
    ----------
    fields, lengths : sequences
        Axes of the grid and their lengths.
    file_dims, file_shape : sequences
        Axes of the files and their lengths.
    mosaic : bool
        False stacks along `y` and `x` (as ``tile_y``, ``tile_x``) instead of concatenating.
    dims : sequence of str, optional
        Order of the result; by default other axes in front in the order of the pattern, then
        t c z y x, and s (samples) last.

    Raises
    ------
    ArgumentError
        If `dims` is no permutation of the axes.
    """
    names = [f"tile_{f}" if f in ("y", "x") and not mosaic else f for f in fields]
    if len(set(names)) < len(names):
        raise ArgumentError(
            f"with mosaic=False two fields would both be the axis {sorted(names)}: rename one"
        )
    axes: dict[str, Axis] = {}
    for i, (name, length) in enumerate(zip(names, lengths, strict=True)):
        if name in file_dims:
            at = list(file_dims).index(name)
            axes[name] = Axis(name, i, at, (file_shape[at],) * length, length)
        else:
            axes[name] = Axis(name, i, None, (), length)
    for at, name in enumerate(file_dims):
        if name not in axes:
            axes[name] = Axis(name, None, at, (file_shape[at],), 1)
    order = [name for name in axes if name not in _LAST] + [name for name in _LAST if name in axes]
    if dims is not None:
        if sorted(dims) != sorted(order):
            raise ArgumentError(f"dims={tuple(dims)} must name each axis of {tuple(order)} once")
        order = list(dims)
    return Layout(tuple(axes[name] for name in order), len(fields), len(file_dims))


def with_extents(layout: Layout, extents: Mapping[str, Sequence[int]]) -> Layout:
    """The same layout with other lengths of the files along some axes."""
    axes = tuple(
        replace(axis, extents=tuple(extents.get(axis.name, axis.extents))) for axis in layout.axes
    )
    return Layout(axes, layout.n_fields, layout.n_file_axes)


def axis_boundaries(axis: Axis, segment: int) -> npt.NDArray[np.int64]:
    """Where an axis can be cut without cutting a segment: increasing, from 0 to its length."""
    if axis.is_stacked:
        return np.arange(axis.length + 1)
    starts = np.cumsum((0, *axis.extents))
    # Strips of one row of a mosaic may be a hundred million: groups of them serve as well.
    segment *= max(1, int(starts[-1]) // segment // _MAX_BOUNDARIES)
    boundaries = [
        start + np.arange(0, extent, segment)
        for start, extent in zip(starts[:-1], axis.extents, strict=True)
    ]
    return np.unique(np.append(np.concatenate(boundaries), starts[-1]))
