"""Which files of an acquisition that is under way can be copied: whole indices that stand still."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.earlier_listing import shown_name
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import matching_rows
from cloudimg.pattern import Label

Positions = npt.NDArray[np.int64]
_Version = tuple[int, int]


@dataclass(slots=True)
class Arrivals:
    """What was seen of the files that the copy does not have.

    Grids and tables have the growing axis first, so that positions of files stay when it grows.
    """

    settle_s: float
    """How long the size of a file has to stand still."""
    fills_missing: bool
    """Whether an index may lack files, once a later one has begun."""
    taken: FileTable | None = None
    """The files that the copy has."""
    is_checked: bool = True
    """Whether the copy is known to be finished, and to be made with the same arguments. One that
    was interrupted, or had bad files, is not finished."""
    _seen: dict[int, tuple[_Version, float]] = field(default_factory=dict)
    """By position of a file that the copy does not have: its size and version, and since when."""
    has_changed: bool = False
    """Whether files came, or changed, since the last look."""
    gap_at: int | None = None
    """The index that waits because numbers before it are left out, which may still come."""
    is_settled: bool = True
    """Whether all files that were seen stand still."""

    @property
    def n_taken(self) -> int:
        """Number of indices that the copy has."""
        return 0 if self.taken is None else self.taken.shape[0]

    @property
    def n_left(self) -> int:
        """Number of files that were seen, and that the copy does not have."""
        return len(self._seen)

    def look(self, grid: FileGrid, now: float, *, is_ending: bool) -> int:
        """Look at the files that are there.

        Parameters
        ----------
        grid : FileGrid
        now : float
            `time.monotonic()`.
        is_ending : bool
            Whether no further files are expected.

        Returns
        -------
        int
            Number of indices, from the first one on, that are whole and stand still; 0 if they
            have nothing that the copy lacks. A copy that is not checked may lack any.
        """
        new = self._new(grid)
        found = dict(self._versions(grid, new))
        seen = {
            at: self._seen[at] if self._seen.get(at, (None,))[0] == version else (version, now)
            for at, version in found.items()
        }
        self.has_changed = seen != self._seen
        self._seen = seen
        moving = {at for at, (_, since) in seen.items() if now - since < self.settle_s}
        self.is_settled = not moving
        n_inner = math.prod(grid.shape[1:])
        n = self._n_whole(grid, {at // n_inner for at in moving}, is_ending=is_ending)
        if self.taken is not None and not self.is_checked:
            # In the end also if its files are no longer there, so that an error says so.
            return max(n, self.n_taken) if (is_ending and not moving) or n >= self.n_taken else 0
        return n if any(at // n_inner < n for at in seen) else 0

    def new_indices(self, grid: FileGrid, n: int) -> list[int]:
        """Indices, of the first `n`, that have files which the copy does not have."""
        n_inner = math.prod(grid.shape[1:])
        return sorted({i for at in self._seen if (i := at // n_inner) < n})

    def _new(self, grid: FileGrid) -> Positions:
        """Positions of the files that the copy does not have."""
        if self.taken is None:
            return grid.positions
        if self.taken.shape[1:] == grid.shape[1:]:
            return np.setdiff1d(grid.positions, self.taken.rows)
        # Later files have further labels along another axis: only their names tell.
        listed = FileTable.of(grid, shown_name)
        known = matching_rows(self.taken, listed)[1]
        return np.delete(listed.rows, known)

    def _versions(self, grid: FileGrid, positions: Positions) -> Iterator[tuple[int, _Version]]:
        for at in positions.tolist():
            yield at, (int(grid.sizes[at]), 0 if grid.etags is None else int(grid.etags[at]))

    def _n_whole(self, grid: FileGrid, moving: set[int], *, is_ending: bool) -> int:
        """Number of indices, from the first one on, that have all their files."""
        n_all = grid.shape[0]
        present = np.ones(grid.shape, bool) if grid.present is None else grid.present
        rows = present.reshape(n_all, -1)
        known, after_gaps = rows[0], set() if is_ending else _after_gaps(grid.labels[0])
        self.gap_at = None
        for i in range(n_all):
            if i in after_gaps and i >= self.n_taken:
                self.gap_at = i  # what comes between others later could not be added any more
                return i
            has_begun_later = i + 1 < n_all or is_ending
            # Nobody knows yet how many files the first one has.
            is_whole = has_begun_later if i == 0 and self.taken is None else True
            if not self.fills_missing:
                is_whole &= bool((rows[i] | ~known).all())
            elif not rows[i].all():
                is_whole = has_begun_later
            if not is_whole or i in moving:
                return i
            known = known | rows[i]
        return n_all


def _after_gaps(labels: Sequence[Label]) -> set[int]:
    """Indices of numbers before which others may still come: equally spaced ones, some left out.

    Others are times, say, which tell nothing.
    """
    numbers = [label for label in labels if isinstance(label, int)]
    steps = [b - a for a, b in pairwise(numbers)]
    least = min(steps, default=0)
    if len(numbers) < len(labels) or least < 1 or any(step % least for step in steps):
        return set()
    return {i for i, step in enumerate(steps, start=1) if step > least}
