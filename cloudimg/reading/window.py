"""`Window`: the part of an image that was selected along axes that lie in its files. Pure.

Along an axis on which files are stacked, a selection leaves files out. Along any other one the
files stay as they are, and a window says which of their positions the image has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, product

import numpy as np
import numpy.typing as npt

from cloudimg.tiff import Region

_SLACK = 16
"""Positions that may be read in vain along an axis, besides as many as are wanted."""
Positions = tuple[range, ...]
"""Increasing positions along an axis, as ranges that follow one another."""


@dataclass(frozen=True, slots=True)
class Window:
    """Positions along each axis of all pixels that the files have."""

    positions: tuple[Positions, ...]
    dropped: tuple[int, ...] = ()
    """Numbers of the axes, each with a single position, that the image does not have."""

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of the axes that the image has."""
        return tuple(i for i in range(len(self.positions)) if i not in self.dropped)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the image along the axes that it has."""
        return tuple(length(self.positions[i]) for i in self.kept)

    def parts(
        self, region: Region, segment: Sequence[int]
    ) -> Iterator[tuple[Region, Region, tuple[npt.NDArray[np.int64], ...] | None]]:
        """Yield regions of all pixels, and where each belongs in an array for a region.

        Parameters
        ----------
        region : tuple of slice
            Per dim of the image, with start, stop and a positive step, within bounds.
        segment : sequence of int
            Lengths of a segment along all axes. What lies between positions is read with them if
            no whole segment does, and they are dense.

        Yields
        ------
        full, place : tuples of slice
            Both have an item for each axis, dropped ones included.
        picked : tuple of ndarray or None
            Per axis, which positions of `full` belong to `place`; None if all do.
        """
        wanted: list[slice] = [slice(0, 1, 1)] * len(self.positions)
        for i, part in zip(self.kept, region, strict=True):
            wanted[i] = part
        choices = [
            list(_spans(_runs(positions, part), length))
            for positions, part, length in zip(self.positions, wanted, segment, strict=True)
        ]
        for combination in product(*choices):
            full, place, picked = zip(*combination, strict=True)
            has_all = all(
                p.size == len(range(f.start, f.stop, f.step))
                for f, p in zip(full, picked, strict=True)
            )
            yield full, place, None if has_all else picked

    def region(self, full: Region) -> Region:
        """Return the region of the image that a region of all pixels fills, maybe an empty one."""
        return tuple(
            slice(
                _before(self.positions[i], full[i].start),
                _before(self.positions[i], full[i].stop),
                1,
            )
            for i in self.kept
        )

    def boundaries(self, full: Sequence[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
        """Return positions in the image, per dim, from positions between parts of all pixels."""
        return [np.unique(_all_before(self.positions[i], full[i])) for i in self.kept]


def as_positions(numbers: npt.NDArray[np.int64]) -> Positions:
    """Increasing numbers as ranges: a single one if they are at equal steps."""
    if numbers.size == 0:
        return ()
    steps = np.diff(numbers)
    if numbers.size == 1 or (steps == steps[0]).all():
        step = int(steps[0]) if steps.size else 1
        return (range(int(numbers[0]), int(numbers[-1]) + 1, step),)
    parts = np.split(numbers, np.flatnonzero(steps != 1) + 1)
    return tuple(range(int(part[0]), int(part[-1]) + 1) for part in parts)


def as_array(positions: Positions) -> npt.NDArray[np.int64]:
    """Positions as numbers."""
    return np.concatenate([np.arange(r.start, r.stop, r.step, dtype=np.int64) for r in positions])


def length(positions: Positions) -> int:
    """Number of positions."""
    return sum(map(len, positions))


def _runs(positions: Positions, part: slice) -> Iterator[tuple[slice, slice]]:
    """Yield slices of all pixels, and of the output, along one axis."""
    starts = [0, *accumulate(map(len, positions))]
    n_before = 0
    for number in range(max(0, bisect_right(starts, part.start) - 1), len(positions)):
        first = starts[number]
        # The first wanted position that is not below the start of this range.
        start = part.start + max(0, -(-(first - part.start) // part.step)) * part.step
        found = positions[number][start - first : max(start, part.stop) - first : part.step]
        if starts[number] >= part.stop:
            return
        if found:
            full = slice(found[0], found[-1] + 1, found.step)
            yield full, slice(n_before, n_before + len(found), 1)
            n_before += len(found)


def _spans(
    runs: Iterator[tuple[slice, slice]], segment: int
) -> Iterator[tuple[slice, slice, npt.NDArray[np.int64]]]:
    """Yield runs that are read as one, where they belong, and which of the positions are wanted."""
    group: list[tuple[slice, slice]] = []
    for full, place in runs:
        if group:
            first, before = group[0][0].start, group[-1]
            n_wanted = place.stop - group[0][1].start
            is_near = full.start - before[0].stop < segment
            if not (is_near and full.stop - first <= 2 * n_wanted + _SLACK):
                yield _span(group)
                group = []
        group.append((full, place))
    if group:
        yield _span(group)


def _span(group: Sequence[tuple[slice, slice]]) -> tuple[slice, slice, npt.NDArray[np.int64]]:
    (full, place), last = group[0], group[-1]
    if len(group) == 1:
        return full, place, np.arange(place.stop - place.start)
    numbers = [np.arange(f.start, f.stop, f.step, dtype=np.int64) for f, _ in group]
    picked = np.concatenate(numbers) - full.start
    return slice(full.start, last[0].stop, 1), slice(place.start, last[1].stop, 1), picked


def _before(positions: Positions, bound: int) -> int:
    """Number of positions below a bound."""
    return sum(max(0, min(len(r), -(-(bound - r.start) // r.step))) for r in positions)


def _all_before(positions: Positions, bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    counts = [np.clip(-(-(bounds - r.start) // r.step), 0, len(r)) for r in positions]
    total: npt.NDArray[np.int64] = np.sum(counts, axis=0, dtype=np.int64)
    return total


def pixels_of_base(length: int, full_length: int) -> float:
    """Number of pixels of level 0 for each pixel of a level: whole, if the lengths were rounded."""
    factor = full_length / length
    nearest = round(factor)
    is_rounded = length in (full_length // nearest, -(-full_length // nearest))
    return nearest if is_rounded else factor
