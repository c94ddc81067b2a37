"""Cells and stages: which extents of cells read the least twice, and which levels they fill. Pure.

Cells are chosen so that as little as possible is read twice: neither segments of the source, which
cells may cut, nor levels that a later stage must read back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.plan import Shape, Stage

Boundaries = npt.NDArray[np.int64]

LEAST_BYTES = 32 * 2**20
MOST_BYTES = 64 * 2**20
"""Decoded size of a cell at its input: one PUT, whose loss costs seconds, and few objects."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """What cells are chosen for."""

    dims: tuple[str, ...]
    shapes: tuple[Shape, ...]
    """By level."""
    factors: tuple[Shape, ...]
    """By level, from the level below."""
    chunk: Shape
    alignment: Shape
    """Cells begin at multiples of it."""
    itemsize: int

    def totals(self, i: int, level: int) -> list[int]:
        """Along a dim, the factors from a level to itself and each one above it."""
        found = [1]
        for factors in self.factors[level + 1 :]:
            found.append(found[-1] * factors[i])
        return found


class Amplification:
    """How often each pixel of the source is read, on average, if cells have a given extent.

    Parameters
    ----------
    cuts : sequence of ndarray or None
        Per dim, where the source can be cut: increasing, from 0 to its length. None: anywhere.
    shape : tuple of int

    Raises
    ------
    ArgumentError
        If cuts do not begin at 0 or do not end at the length.
    """

    def __init__(self, boundaries: Sequence[Boundaries | None], shape: Shape) -> None:
        for each, length in zip(boundaries, shape, strict=True):
            if each is not None and (len(each) < 2 or each[0] != 0 or each[-1] != length):
                raise ArgumentError(f"cuts of an axis of {length} must go from 0 to {length}")
        self._cuts = boundaries
        self._shape = shape
        self._known: dict[tuple[int, int], float] = {}
        self._spacing = [None if each is None else _spacing(each) for each in boundaries]

    def of(self, cell: Sequence[int]) -> float:
        """For cells of an extent by dim: 1.0 where nothing is read twice."""
        return math.prod(self.along(i, n) for i, n in enumerate(cell))

    def spacing(self, i: int) -> int | None:
        """Distance of the cuts along a dim, None where they are irregular or do not matter."""
        return self._spacing[i]

    def along(self, i: int, extent: int) -> float:
        """What one dim contributes."""
        boundaries, length, spacing = self._cuts[i], self._shape[i], self._spacing[i]
        if (
            boundaries is None
            or extent >= length
            or (spacing is not None and extent % spacing == 0)
        ):
            return 1.0
        if (i, extent) not in self._known:
            starts = np.arange(0, length, extent)
            stops = np.minimum(starts + extent, length)
            first = boundaries[np.searchsorted(boundaries, starts, "right") - 1]
            last = boundaries[np.searchsorted(boundaries, stops, "left")]
            self._known[i, extent] = float((last - first).sum()) / length
        return self._known[i, extent]


def _spacing(boundaries: Boundaries) -> int | None:
    """Of cuts at all multiples of a number; what is left at the end may be shorter."""
    steps = np.diff(boundaries)
    first = int(steps[0])
    return first if bool((steps[:-1] == first).all()) and int(steps[-1]) <= first else None


def choose_cell(
    pyramid: Pyramid, level: int, first: int, amplified: Amplification, fixed: Mapping[int, int]
) -> Shape:
    """The extent of cells at an input level with the least to be read twice.

    That is what of the input is read more than once, and what of the last level that the cells
    can fill is read back by the next stage. Ties: the larger, then the squarer in the plane.

    Parameters
    ----------
    pyramid : Pyramid
    level, first : int
        The input, and the first level that is written: the same in stage 0.
    amplified : Amplification
        Of that input.
    fixed : mapping
        Extents that are settled, by position of the dim.

    Returns
    -------
    tuple of int
    """
    shape, top = pyramid.shapes[level], len(pyramid.shapes) - 1
    choices = _affordable(
        [
            [fixed[i]] if i in fixed else _extents(pyramid, i, level, first, amplified.spacing(i))
            for i in range(len(shape))
        ],
        shape,
        pyramid.itemsize,
    )
    used = [np.minimum(each, n).astype(float) for each, n in zip(choices, shape, strict=True)]
    pixels = reduce(np.multiply.outer, used)
    places = _of_good_size(pixels * pyramid.itemsize)
    read = [np.array([amplified.along(i, n) for n in each]) for i, each in enumerate(choices)]
    last = [
        np.array([_last_along(pyramid, i, level, first, n) for n in each])
        for i, each in enumerate(choices)
    ]
    size = math.prod(shape)
    read_back = np.array([math.prod(each) / size for each in pyramid.shapes[:top]] + [0.0])
    cost = reduce(np.multiply.outer, read) + read_back[reduce(np.minimum.outer, last)]
    y, x = (_outer(pyramid.dims.index(dim), used) for dim in ("y", "x"))
    skew = np.broadcast_to(np.maximum(y / x, x / y), pixels.shape)
    # A difference of less than a ten-thousandth of the image is none.
    for key in (np.round(cost, 4), -pixels, skew):
        of_places = key.ravel()[places]
        places = places[of_places == of_places.min()]
    best = np.unravel_index(places[0], pixels.shape)
    return tuple(choices[i][int(k)] for i, k in enumerate(best))


def _outer(i: int, by_dim: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The values along one dim, so shaped that they broadcast over all."""
    return by_dim[i].reshape([-1 if j == i else 1 for j in range(len(by_dim))])


def _extents(pyramid: Pyramid, i: int, level: int, first: int, spacing: int | None) -> list[int]:
    """Extents along a dim at an input level: whole chunks at the first level that is written.

    Powers of two times what the levels need, or what the source's segments do, and the whole axis.
    """
    length, chunk, alignment = pyramid.shapes[level][i], pyramid.chunk[i], pyramid.alignment[i]
    totals = pyramid.totals(i, level)[first - level :]
    bases = {math.lcm(chunk * total, alignment) for total in totals}
    if spacing is not None:
        bases.add(math.lcm(chunk * totals[0], alignment, spacing))
    found = {base << k for base in bases for k in range(length.bit_length()) if base << k < length}
    return [*sorted(found), -(-length // chunk) * chunk]


def _affordable(choices: list[list[int]], shape: Shape, itemsize: int) -> list[list[int]]:
    """Without extents that make any cell too large; the least ones always stay."""
    least = [min(each[0], n) for each, n in zip(choices, shape, strict=True)]
    size = math.prod(least) * itemsize
    return [
        [n for n in each if n == each[0] or size // m * min(n, length) <= MOST_BYTES]
        for each, m, length in zip(choices, least, shape, strict=True)
    ]


def _of_good_size(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Flat places of cells of 32 to 64 MiB; where there is none, of those that come nearest."""
    good = (sizes >= LEAST_BYTES) & (sizes <= MOST_BYTES)
    if not good.any():
        small = sizes <= MOST_BYTES
        good = sizes == (sizes[small].max() if small.any() else sizes.min())
    return np.flatnonzero(good)


def _last_along(pyramid: Pyramid, i: int, level: int, first: int, extent: int) -> int:
    """The last level that cells of an extent can fill, as far as one dim matters.

    All of them where the axis has one cell. Else those at which a cell is whole chunks.
    """
    top = len(pyramid.shapes) - 1
    if extent >= pyramid.shapes[level][i]:
        return top
    last = first - 1
    for total in pyramid.totals(i, level)[first - level :]:
        if extent % (total * pyramid.chunk[i]):
            return last
        last += 1
    return last


def make_stages(pyramid: Pyramid, cell: Shape) -> tuple[tuple[Stage, ...], list[Shape]]:
    """All passes, the first one with cells of a given extent, and the shards of each level."""
    stages: list[Stage] = []
    shards: list[Shape] = []
    source: int | None = None
    while True:
        level, first = (0, 0) if source is None else (source, source + 1)
        shape, axes = pyramid.shapes[level], range(len(cell))
        last = min(_last_along(pyramid, i, level, first, cell[i]) for i in axes)
        grid = tuple(-(-n // m) for n, m in zip(shape, cell, strict=True))
        stages.append(Stage(source, first, last, cell, grid))
        totals = [pyramid.totals(i, level) for i in axes]
        for number in range(first, last + 1):
            total = [each[number - level] for each in totals]
            shards.append(_shard(pyramid, number, cell, grid, total))
        if last == len(pyramid.shapes) - 1:
            return tuple(stages), shards
        source = last
        stored = [
            np.append(np.arange(0, n, m), n)
            for n, m in zip(pyramid.shapes[last], shards[last], strict=True)
        ]
        read = Amplification(stored, pyramid.shapes[last])
        cell = choose_cell(pyramid, last, last + 1, read, {})


def _shard(pyramid: Pyramid, level: int, cell: Shape, grid: Shape, total: Sequence[int]) -> Shape:
    """What a cell stores at a level: along an axis with one cell all of it, in whole chunks."""
    return tuple(
        extent // t if n > 1 else -(-length // chunk) * chunk
        for extent, n, t, length, chunk in zip(
            cell, grid, total, pyramid.shapes[level], pyramid.chunk, strict=True
        )
    )
