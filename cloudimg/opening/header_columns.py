"""`HeaderColumns`: the headers of many files, as columns instead of an object for each.

Most headers of an archive are equal. A file takes its position in the grid and the number of its
kind, 12 bytes. Its size and its version take memory once they differ from the listing's, places on
Earth and of the stage where files have them.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.build_grid import short_etag
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.names import ETAG_DIGEST
from cloudimg.opening.header import Header, HeaderKind, HeaderSummary, Index
from cloudimg.storage import Location

_FULL_ETAGS = 16
"""Headers whose ETags are kept as the store gave them, of others a digest: a pickled image has
them."""
_BLOCK = 2**16

Rows = npt.NDArray[np.int64]
Block = tuple[int, tuple[Rows, ...], Rows]
"""Place of the first of some files; their indices along each axis of the grid; numbers of kinds."""


class HeaderColumns:
    """The header of the first file, and of other files of its grid in the order of the reading.

    Parameters
    ----------
    first : Header
    first_index : tuple of int
    location : Location
        Where the files are.
    grid : FileGrid, optional
        Needed to add others.
    keeps_stage : bool
        Whether positions of the stage are compared.
    """

    def __init__(
        self,
        first: Header,
        first_index: Index,
        location: Location,
        grid: FileGrid | None = None,
        *,
        keeps_stage: bool = False,
    ) -> None:
        self.first = first
        self.first_index = first_index
        self.kinds = [first.summary.kind]
        """Distinct kinds, in the order in which they were found."""
        self._location = location
        self._grid = grid
        self._keeps_stage = keeps_stage
        self._numbers = {first.summary.kind: 0}
        self._rows = array("q")
        self._which = array("i")
        self._full_etags: list[str | None] = []
        self._sizes = _Column("q", (-1,), None if grid is None else grid.sizes)
        self._etags = _Column("Q", (0,), None if grid is None else grid.etags)
        self._transforms = _Column("d", (math.nan,) * 6)
        self._stage = _Column("d", (math.nan,) * 2)

    def add(self, index: Index, header: Header, kind: HeaderKind) -> None:
        """Add the header of another file, which counts as one of a kind."""
        assert self._grid is not None
        number = self._numbers.get(kind)
        if number is None:
            number = self._numbers[kind] = len(self.kinds)
            self.kinds.append(kind)
        if len(self._full_etags) < _FULL_ETAGS:
            self._full_etags.append(header.etag)
        row = self._grid.position(index)
        self._sizes.append(self._rows, row, (header.size_bytes,))
        self._etags.append(self._rows, row, (short_etag(header.etag),))
        self._transforms.append(self._rows, row, header.summary.transform)
        self._stage.append(self._rows, row, header.summary.stage if self._keeps_stage else ())
        self._rows.append(row)
        self._which.append(number)

    def __len__(self) -> int:
        return 1 + len(self._rows)

    def __getitem__(self, place: int) -> Header:
        """Return the header at a place, 0 for the first file; of others without attributes."""
        if place == 0:
            return self.first
        assert self._grid is not None
        rows, at = self._rows[place - 1 : place], place - 1
        key = self._location.key_of(self._grid.keys(self.index_at(place)))
        if at < len(self._full_etags):
            etag = self._full_etags[at]
        else:
            digest = int(self._etags.take(rows, at)[0, 0])
            etag = f"{ETAG_DIGEST}{digest:016x}" if digest else None
        return Header(
            key=key,
            url=self._location.display(key),
            summary=HeaderSummary(
                self.kinds[self._which[at]],
                _known(self._transforms.take(rows, at)),
                _known(self._stage.take(rows, at)),
            ),
            etag=etag,
            size_bytes=int(self._sizes.take(rows, at)[0, 0]),
        )

    def index_at(self, place: int) -> Index:
        """Return the index in the grid of the file at a place."""
        if place == 0:
            return self.first_index
        assert self._grid is not None
        return tuple(int(i) for i in np.unravel_index(self._rows[place - 1], self._grid.shape))

    def __iter__(self) -> Iterator[Header]:
        return map(self.__getitem__, range(len(self)))

    def items(self, numbers: Collection[int] | None = None) -> Iterator[tuple[Index, Header]]:
        """Yield indices in the grid and headers: all, or those of the kinds with some numbers."""
        for start, _, kinds in self.blocks():
            chosen = np.ones(len(kinds), bool) if numbers is None else np.isin(kinds, [*numbers])
            for place in (start + np.flatnonzero(chosen)).tolist():
                yield self.index_at(place), self[place]

    def place_of(self, index: Index) -> int | None:
        """Return the place of the header at an index; None where it was not added."""
        if index == self.first_index or self._grid is None:
            return 0 if index == self.first_index else None
        row = self._grid.position(index)
        return 1 + self._rows.index(row) if row in self._rows else None

    def blocks(self) -> Iterator[Block]:
        """Yield all files in the order of their places, some at a time."""
        yield 0, tuple(np.array([i]) for i in self.first_index), np.zeros(1, np.int64)
        for start in range(0, len(self._rows), _BLOCK):
            assert self._grid is not None
            rows = np.array(self._rows[start : start + _BLOCK])
            kinds = np.array(self._which[start : start + _BLOCK], np.int64)
            yield start + 1, np.unravel_index(rows, self._grid.shape), kinds

    def of_first(self) -> HeaderColumns:
        """Return the header of the first file alone."""
        return self.with_first(self.first)

    def with_first(self, first: Header) -> HeaderColumns:
        """Return another header of the first file alone."""
        return HeaderColumns(first, self.first_index, self._location)

    @property
    def n_bytes(self) -> int:
        """Size of the files in bytes."""
        return self.first.size_bytes + int(self._sizes.take(self._rows).sum())

    @property
    def have_transforms(self) -> tuple[bool, bool]:
        """Whether any of the files says where it lies on Earth, and whether all do."""
        first = bool(self.first.summary.transform)
        others = ~np.isnan(self._transforms.take(self._rows)).all(axis=1)
        return first or bool(others.any()), first and bool(others.all())

    @property
    def have_versions(self) -> bool:
        """Whether each file has an ETag."""
        return bool(self.first.etag and self._etags.take(self._rows).all())

    @property
    def versions(self) -> tuple[Any, ...]:
        """A value that changes when one of the files does."""
        first = tuple((h.key, h.etag, h.size_bytes) for h in islice(self, _FULL_ETAGS))
        if len(self) <= _FULL_ETAGS:
            return first
        digest = hashlib.sha256()
        for start in range(0, len(self._rows), _BLOCK):
            rows = self._rows[start : start + _BLOCK]
            for column in (self._sizes, self._etags):
                digest.update(column.take(rows, start).tobytes())
        return *first, digest.hexdigest()

    def etags(self) -> dict[str, str]:
        """Return the ETags of the first few files, by key."""
        return {h.key: h.etag for h in islice(self, _FULL_ETAGS) if h.etag is not None}

    def first_of_kind(self, number: int) -> Header:
        """Return the first header of a kind."""
        return self.first if number == 0 else self[1 + self._which.index(number)]


def _known(row: npt.NDArray[Any]) -> tuple[float, ...]:
    """Numbers of a file; none if all are NaN."""
    return () if np.isnan(row).all() else tuple(row[0].tolist())


class _Column:
    """Values by row, which take memory once those of a file are not what is expected of it.

    Parameters
    ----------
    code : str
        Type of the values.
    null : tuple
        What is expected of a file.
    listed : ndarray, optional
        What is expected instead, by position in the grid.
    """

    def __init__(
        self, code: str, null: tuple[float, ...], listed: npt.NDArray[Any] | None = None
    ) -> None:
        self._null = null
        self._listed = listed
        self._values: array[Any] = array(code)

    def append(self, rows: array[int], row: int, values: tuple[float, ...]) -> None:
        """Add the values of a file, () for null, given the positions of the files before it."""
        if not self._values:
            expected = self._null if self._listed is None else (int(self._listed[row]),)
            if not values or values == expected:
                return
            self._values.frombytes(self.take(rows).tobytes())
        self._values.extend(values or self._null)

    def take(self, rows: array[int], start: int = 0) -> npt.NDArray[Any]:
        """Return the values of successive files, of which `start` are before the first."""
        width, dtype = len(self._null), np.dtype(self._values.typecode)
        if self._values:
            values = self._values[start * width : (start + len(rows)) * width]
            return np.array(values, dtype).reshape(-1, width)
        if self._listed is None:
            return np.full((len(rows), width), self._null, dtype)
        return self._listed[np.array(rows, np.int64)].astype(dtype).reshape(-1, 1)
