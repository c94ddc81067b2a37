"""Places in a grid of files that were found in any order. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.names import files_digest
from cloudimg.errors import GridError
from cloudimg.pattern import Label, natural_key

_INDICES_PER_FILE = 100
_FREE_INDICES = 10**6
"""A grid may have 10^6 indices plus a hundred per file; more is a mistake and costs memory."""


def sorted_labels(
    values: dict[Label, int],
) -> tuple[tuple[Label, ...], npt.NDArray[np.int32]]:
    """Return the labels in order, and the position of each code in that order."""
    if any(isinstance(value, str) for value in values):
        ordered = sorted(values, key=lambda value: natural_key(str(value)))
    else:
        ordered = sorted(values)
    rank = np.empty(len(ordered), np.int32)
    for position, value in enumerate(ordered):
        rank[values[value]] = position
    return tuple(ordered), rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Places in a grid of the files that were found."""

    fields: tuple[str, ...]
    """Names of the axes."""
    labels: tuple[tuple[Label, ...], ...]
    """Labels by axis and index."""
    flat: npt.NDArray[np.int64]
    """Position of each file in C order of the grid, in the order in which files were found."""
    rows: npt.NDArray[np.int32]
    """Number of the file by index in the grid, -1 where there is none."""

    @classmethod
    def of(
        cls,
        fields: tuple[str, ...],
        labels: tuple[tuple[Label, ...], ...],
        indices: Iterable[npt.NDArray[Any]],
        n_files: int,
    ) -> Self:
        """Return the places of files.

        Parameters
        ----------
        fields, labels
            Of the grid.
        indices : iterable of ndarray
            By axis, the index of each file.
        n_files : int

        Raises
        ------
        GridError
            If the labels span far more indices than there are files.
        """
        shape = tuple(map(len, labels))
        if math.prod(shape) > _INDICES_PER_FILE * n_files + _FREE_INDICES:
            extent = " x ".join(f"{n} of {name}" for name, n in zip(fields, shape, strict=True))
            raise GridError(
                f"{n_files} files span a grid of {extent}, far more indices than files; fields"
                " that move together should be one: give them the same name, or match one of them"
                " with a wildcard"
            )
        flat = np.zeros(n_files, np.int64)
        for n, index in zip(shape, indices, strict=True):
            flat *= n
            flat += index
        rows = np.full(math.prod(shape), -1, np.int32)
        rows[flat] = np.arange(flat.size, dtype=np.int32)
        return cls(fields=fields, labels=labels, flat=flat, rows=rows.reshape(shape))

    def twice(self) -> tuple[int, int] | None:
        """Numbers of two files at one index; None if there are none."""
        if np.count_nonzero(self.rows >= 0) == self.flat.size:
            return None
        order = np.argsort(self.flat, kind="stable")
        at = int(np.flatnonzero(np.diff(self.flat[order]) == 0)[0])
        return int(order[at]), int(order[at + 1])

    def labels_of(self, number: int) -> str:
        """The labels of a file, as text."""
        index = np.unravel_index(self.flat[number], self.rows.shape)
        at = zip(self.fields, self.labels, index, strict=True)
        return ", ".join(f"{name}={labels[i]}" for name, labels, i in at)

    def grid(
        self,
        keys: Keys,
        sizes: npt.NDArray[np.int64],
        etags: npt.NDArray[np.uint64] | None,
        names: npt.NDArray[np.uint64],
        *,
        has_versions: bool,
        pages: npt.NDArray[np.int64] | None = None,
    ) -> FileGrid:
        """Return the grid of the files, from columns in the order in which they were found.

        Parameters
        ----------
        keys : Keys
        sizes, etags : ndarray
            See `FileGrid`.
        names : ndarray
            See `name_digests`.
        has_versions : bool
        pages : ndarray, optional
            Numbers of the pages, if each row is a page of a file.
        """
        n = self.rows.size
        placed_sizes = _at(self.flat, sizes, n, -1)
        placed_etags = None if etags is None else _at(self.flat, etags, n, 0)

        def columns() -> Iterator[npt.NDArray[Any] | None]:
            yield _at(self.flat, names, n, 0)
            yield placed_sizes
            yield placed_etags
            yield None if pages is None else _at(self.flat, pages, n, 0)

        return FileGrid(
            fields=self.fields,
            labels=self.labels,
            keys=keys,
            present=None if self.flat.size == n else self.rows >= 0,
            sizes=placed_sizes,
            etags=placed_etags,
            digest=files_digest(columns()),
            has_versions=has_versions,
            n_files=self.flat.size,
        )


def _at(flat: npt.NDArray[np.int64], column: Any, size: int, empty: int) -> Any:
    """A column of the files in C order of the grid."""
    placed = np.full(size, empty, column.dtype)
    placed[flat] = column
    return placed
