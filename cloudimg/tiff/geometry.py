"""Where the pixels of a page lie in an N-D image: pure index arithmetic.

A TIFF page is an array of five axes in C order, as tifffile normalizes it: separate samples,
depth, height, width, contiguous samples (S, D, H, W, C). An image (tifffile's *series*) is a
sequence of equal pages, reshaped. Where each axis of the page is one axis of the image, a region
of the image is a set of pages and a window in each of them. This module computes both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

PlaneShape = tuple[int, int, int, int, int]
"""Separate samples, depth, height, width, contiguous samples."""
Region = tuple[slice, ...]
"""A slice per axis with start, stop and a positive step, all within bounds."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the axes of an image divide into axes that number pages and axes of a page."""

    shape: tuple[int, ...]
    """Shape of the image."""
    plane_shape: PlaneShape
    page_axes: tuple[int, ...]
    """Axes of the image that number pages, in C order."""
    plane_axes: tuple[int | None, ...]
    """Axis of the image for each axis of the page; None where the page has length 1 there."""

    @property
    def n_pages(self) -> int:
        return math.prod(self.shape[axis] for axis in self.page_axes)

    def pages(self, region: Region) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Number of each page in a region, and its index along `page_axes` in the region."""
        ranges = [range(self.shape[axis])[region[axis]] for axis in self.page_axes]
        strides = []
        stride = 1
        for axis in reversed(self.page_axes):
            strides.append(stride)
            stride *= self.shape[axis]
        strides.reverse()
        for index in product(*(range(len(numbers)) for numbers in ranges)):
            number = sum(
                numbers[i] * stride
                for numbers, i, stride in zip(ranges, index, strides, strict=True)
            )
            yield number, index

    def window(self, region: Region) -> tuple[slice, ...]:
        """The part of the region within each page: five slices."""
        return tuple(slice(0, 1, 1) if axis is None else region[axis] for axis in self.plane_axes)


def find_geometry(shape: Sequence[int], plane_shape: PlaneShape) -> Geometry | None:
    """Match the axes of an image with those of its pages.

    Returns
    -------
    Geometry or None
        None where reshaping the pages to the image splits or joins axes of a page; see
        `cloudimg.tiff.derived.Reshaped`.
    """
    plane_axes: list[int | None] = [None] * 5
    page_axes: list[int] = []
    axis = len(shape) - 1
    for k in reversed(range(5)):
        if plane_shape[k] == 1:
            continue
        while axis >= 0 and shape[axis] == 1:
            page_axes.append(axis)
            axis -= 1
        if axis < 0 or shape[axis] != plane_shape[k]:
            return None
        plane_axes[k] = axis
        axis -= 1
    page_axes.extend(range(axis, -1, -1))
    return Geometry(tuple(shape), plane_shape, tuple(sorted(page_axes)), tuple(plane_axes))


def overlap(window: slice, start: int, stop: int) -> tuple[slice, slice] | None:
    """Intersect a segment ``start:stop`` of an axis with a window that may have a step.

    Returns
    -------
    (slice, slice) or None
        The part of the segment to copy and the part of the window's output to fill; None if the
        two do not meet.
    """
    first = window.start
    if start > first:
        first += -((first - start) // window.step) * window.step
    stop = min(stop, window.stop)
    if first >= stop:
        return None
    count = -((first - stop) // window.step)
    begin = (first - window.start) // window.step
    return slice(first - start, stop - start, window.step), slice(begin, begin + count)
