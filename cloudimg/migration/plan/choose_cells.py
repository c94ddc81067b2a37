"""Choose the extent of cells and divide the levels into stages. Pure.

The extent is chosen so that as few pixels as possible are read twice: neither segments of the
source, which cells may split, nor levels that a later stage has to read back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.stage import Shape, Stage

Boundaries = npt.NDArray[np.int64]
"""Positions along one dim at which no segment is split: increasing, from 0 to the length."""

LEAST_BYTES = 32 * 2**20
MOST_BYTES = 64 * 2**20
"""Decoded size of a cell's input: small enough to be stored by one PUT and to be redone within
seconds after a failure, large enough to keep the number of objects low."""


_MOST_IMAGES = 64
"""Images of a cell, at most: their objects are named by one commit record."""
_LEAST_CELLS = 16
"""Number of cells with several images, at least, so that workers share them and little is done
again after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """The levels of an image for which cells are chosen."""

    dims: tuple[str, ...]
    shapes: tuple[Shape, ...]
    """Shape of each level."""
    factors: tuple[Shape, ...]
    """Downsampling factors of each level, relative to the level below."""
    chunk: Shape
    """Shape of a chunk, the same at every level."""
    alignment: Shape
    """By dim, the number of which the bounds of cells are multiples."""
    itemsize: int
    """Size of a pixel in bytes."""

    def cumulative_factors(self, i: int, level: int) -> list[int]:
        """Factors along a dim from a level to itself and to each level above it."""
        cumulative = [1]
        for factors in self.factors[level + 1 :]:
            cumulative.append(cumulative[-1] * factors[i])
        return cumulative


class Amplification:
    """Average number of times that each pixel of the input is read, for cells of a given extent.

    Parameters
    ----------
    boundaries : sequence of ndarray or None
        Per dim, the positions at which the input can be split, from 0 to its length. None:
        anywhere.
    shape : tuple of int
        Shape of the input.

    Raises
    ------
    ArgumentError
        If boundaries do not begin at 0 or do not end at the length.
    """

    def __init__(self, boundaries: Sequence[Boundaries | None], shape: Shape) -> None:
        for each, length in zip(boundaries, shape, strict=True):
            if each is not None and (len(each) < 2 or each[0] != 0 or each[-1] != length):
                raise ArgumentError(
                    f"boundaries along an axis of length {length} must run from 0 to {length}"
                )
        self._boundaries = boundaries
        self._shape = shape
        self._cached: dict[tuple[int, int], float] = {}
        self._spacing = [None if each is None else _spacing(each) for each in boundaries]

    def of(self, cell: Sequence[int]) -> float:
        """Amplification for cells of an extent: 1.0 if nothing is read twice."""
        return math.prod(self.along(i, n) for i, n in enumerate(cell))

    def spacing(self, i: int) -> int | None:
        """Distance between boundaries along a dim, None if irregular or unrestricted."""
        return self._spacing[i]

    def along(self, i: int, extent: int) -> float:
        """Amplification along one dim."""
        boundaries, length, spacing = self._boundaries[i], self._shape[i], self._spacing[i]
        if (
            boundaries is None
            or extent >= length
            or (spacing is not None and extent % spacing == 0)
        ):
            return 1.0
        if (i, extent) not in self._cached:
            starts = np.arange(0, length, extent)
            stops = np.minimum(starts + extent, length)
            first = boundaries[np.searchsorted(boundaries, starts, "right") - 1]
            last = boundaries[np.searchsorted(boundaries, stops, "left")]
            self._cached[i, extent] = float((last - first).sum()) / length
        return self._cached[i, extent]


def _spacing(boundaries: Boundaries) -> int | None:
    """Distance between boundaries if it is constant; the last interval may be shorter."""
    steps = np.diff(boundaries)
    first = int(steps[0])
    return first if bool((steps[:-1] == first).all()) and int(steps[-1]) <= first else None


def choose_cell(
    pyramid: Pyramid,
    level: int,
    first: int,
    amplification: Amplification,
    fixed: Mapping[int, int],
) -> Shape:
    """Choose the extent of cells at an input level for which the least is read twice.

    Counted are pixels of the input that are read more than once, and pixels of the last level that
    the cells can fill, which the next stage reads back. Among equals the larger cell is preferred,
    then the one that is closer to a square along y and x.

    Parameters
    ----------
    pyramid : Pyramid
    level, first : int
        The input level, and the first level that is written; equal in stage 0.
    amplification : Amplification
        For that input level.
    fixed : mapping
        Extents that are given, by position of the dim.

    Returns
    -------
    tuple of int
    """
    shape = pyramid.shapes[level]
    choices = _affordable(
        [
            [fixed[i]]
            if i in fixed
            else _extents(pyramid, i, level, first, amplification.spacing(i))
            for i in range(len(shape))
        ],
        shape,
        pyramid.itemsize,
    )
    clipped = [np.minimum(each, n).astype(float) for each, n in zip(choices, shape, strict=True)]
    pixels = reduce(np.multiply.outer, clipped)
    cost = _read_twice(pyramid, level, first, amplification, choices)
    y, x = (_broadcastable(pyramid.dims.index(dim), clipped) for dim in ("y", "x"))
    skew = np.broadcast_to(np.maximum(y / x, x / y), pixels.shape)
    candidates = _of_good_size(pixels * pyramid.itemsize)
    # Costs that differ by less than a ten-thousandth of the image count as equal.
    for key in (np.round(cost, 4), -pixels, skew):
        values = key.ravel()[candidates]
        candidates = candidates[values == values.min()]
    best = np.unravel_index(candidates[0], pixels.shape)
    return tuple(choices[i][int(k)] for i, k in enumerate(best))


def _extents(pyramid: Pyramid, i: int, level: int, first: int, spacing: int | None) -> list[int]:
    """Extents to choose from along a dim: whole chunks at the first level that is written.

    These are the whole axis, and powers of two times the extents that fill the upper levels or
    that contain whole segments of the source.
    """
    length, chunk, alignment = pyramid.shapes[level][i], pyramid.chunk[i], pyramid.alignment[i]
    factors = pyramid.cumulative_factors(i, level)[first - level :]
    bases = {math.lcm(chunk * factor, alignment) for factor in factors}
    if spacing is not None:
        bases.add(math.lcm(chunk * factors[0], alignment, spacing))
    extents = {
        base << k for base in bases for k in range(length.bit_length()) if base << k < length
    }
    return [*sorted(extents), -(-length // chunk) * chunk]


def _affordable(choices: list[list[int]], shape: Shape, itemsize: int) -> list[list[int]]:
    """Drop extents that make every cell too large; the smallest extent of each dim stays."""
    smallest = [min(each[0], n) for each, n in zip(choices, shape, strict=True)]
    size = math.prod(smallest) * itemsize
    return [
        [n for n in each if n == each[0] or size // m * min(n, length) <= MOST_BYTES]
        for each, m, length in zip(choices, smallest, shape, strict=True)
    ]


def _read_twice(
    pyramid: Pyramid,
    level: int,
    first: int,
    amplification: Amplification,
    choices: list[list[int]],
) -> npt.NDArray[np.float64]:
    """Amplification plus the share that the next stage reads back, for each combination."""
    read = [
        np.array([amplification.along(i, n) for n in extents]) for i, extents in enumerate(choices)
    ]
    last = [
        np.array([_last_along(pyramid, i, level, first, n) for n in extents])
        for i, extents in enumerate(choices)
    ]
    size = math.prod(pyramid.shapes[level])
    read_back = np.array([*(math.prod(each) / size for each in pyramid.shapes[:-1]), 0.0])
    cost: npt.NDArray[np.float64] = (
        reduce(np.multiply.outer, read) + read_back[reduce(np.minimum.outer, last)]
    )
    return cost


def _broadcastable(i: int, by_dim: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The values along one dim, reshaped so that they broadcast over the other dims."""
    return by_dim[i].reshape([-1 if j == i else 1 for j in range(len(by_dim))])


def _of_good_size(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Flat indices of cells of 32 to 64 MiB, or else of those closest to that."""
    good = (sizes >= LEAST_BYTES) & (sizes <= MOST_BYTES)
    if not good.any():
        small = sizes <= MOST_BYTES
        good = sizes == (sizes[small].max() if small.any() else sizes.min())
    return np.flatnonzero(good)


def _last_along(pyramid: Pyramid, i: int, level: int, first: int, extent: int) -> int:
    """The last level that cells of an extent can fill, considering one dim only.

    That is the top level if one cell spans the axis, and otherwise the last level at which cells
    are whole chunks.
    """
    if extent >= pyramid.shapes[level][i]:
        return len(pyramid.shapes) - 1
    last = first - 1
    for factor in pyramid.cumulative_factors(i, level)[first - level :]:
        if extent % (factor * pyramid.chunk[i]):
            return last
        last += 1
    return last


def make_stages(pyramid: Pyramid, cell: Shape) -> tuple[tuple[Stage, ...], list[Shape]]:
    """Divide the levels into stages, the first one with cells of a given extent.

    Returns
    -------
    stages : tuple of Stage
    shards : list of tuple
        Shape of a shard at each level.
    """
    stages: list[Stage] = []
    shards: list[Shape] = []
    input_level: int | None = None
    while True:
        level, first = (0, 0) if input_level is None else (input_level, input_level + 1)
        shape, axes = pyramid.shapes[level], range(len(cell))
        last = min(_last_along(pyramid, i, level, first, cell[i]) for i in axes)
        grid = tuple(-(-n // m) for n, m in zip(shape, cell, strict=True))
        stages.append(Stage(input_level, first, last, cell, grid))
        cumulative = [pyramid.cumulative_factors(i, level) for i in axes]
        for number in range(first, last + 1):
            factors = [each[number - level] for each in cumulative]
            shards.append(_shard(pyramid, number, cell, grid, factors))
        if last == len(pyramid.shapes) - 1:
            return tuple(stages), shards
        input_level = last
        stored = [
            np.append(np.arange(0, n, m), n)
            for n, m in zip(pyramid.shapes[last], shards[last], strict=True)
        ]
        amplification = Amplification(stored, pyramid.shapes[last])
        cell = choose_cell(pyramid, last, last + 1, amplification, {})


def pack(stages: tuple[Stage, ...], lead_shape: Shape, image_bytes: int) -> tuple[Stage, ...]:
    """Let each cell cover several images, if each of them is one cell and is small.

    The images of a cell are one after the other, so that they are a box of the lead dims.

    Parameters
    ----------
    stages : tuple of Stage
        With cells of one image.
    lead_shape : tuple of int
        Lengths of the lead dims.
    image_bytes : int
        Decoded size of an image.
    """
    if len(stages) > 1 or math.prod(stages[0].grid) > 1:
        return stages
    n_images = math.prod(lead_shape)
    most = min(_MOST_IMAGES, LEAST_BYTES // image_bytes, n_images // _LEAST_CELLS)
    images: list[int] = []
    for length in reversed(lead_shape):
        # As many as fit, and the same number in each cell if that is possible.
        n = -(-length // -(-length // most)) if most > 1 else 1
        images.insert(0, n)
        most = most // length if n == length else 1
    return (replace(stages[0], images=tuple(images) if math.prod(images) > 1 else ()),)


def _shard(pyramid: Pyramid, level: int, cell: Shape, grid: Shape, factors: Sequence[int]) -> Shape:
    """Shape of what a cell stores at a level: along an axis with one cell the whole axis."""
    return tuple(
        extent // factor if n > 1 else -(-length // chunk) * chunk
        for extent, n, factor, length, chunk in zip(
            cell, grid, factors, pyramid.shapes[level], pyramid.chunk, strict=True
        )
    )
