"""Arrange the files of a user's table as a grid. Pure.

There may be millions of rows, so they are taken a batch at a time and become columns of numbers.
Facts are added once it is known which file lies where, so that less is in memory at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.build_grid import GridBuilder
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.labelled_rows import GridInTable, LabelledRows
from cloudimg.discovery.places import Places
from cloudimg.discovery.table_columns import Roles
from cloudimg.discovery.table_urls import TableURLs
from cloudimg.discovery.table_values import Rows, column_at, facts_in_batch, texts, whole_numbers
from cloudimg.discovery.unmatched import Unmatched, UnmatchedCounter
from cloudimg.errors import ArgumentError, GridError, counted
from cloudimg.pattern import compile_pattern
from cloudimg.storage import Location, redact, split_url


class _File(NamedTuple):
    """One row of a table."""

    key: str
    size_bytes: int | None
    etag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """The files of a table in a grid."""

    grid: FileGrid
    location: Location
    flat: npt.NDArray[np.int64]
    """Position in C order of the grid of each row that is kept."""
    rows: npt.NDArray[np.int64] | None
    """Numbers of the rows that are kept, increasing; None if all are."""
    pages: npt.NDArray[np.int64] | None
    """Number of the page by index in the grid, if each row is a page of a file."""
    unmatched: Unmatched | None
    """What an inventory has beside the files of the pattern."""

    def name_of_row(self, row: int) -> str | None:
        """Name of the file in a row; None if the row is not kept."""
        at = row
        if self.rows is not None:
            at = int(np.searchsorted(self.rows, row))
            if at == len(self.rows) or self.rows[at] != row:
                return None
        index = np.unravel_index(self.flat[at], self.grid.shape)
        return self.grid.keys(tuple(int(i) for i in index))


class TableBuilder:
    """Arranges the rows of a table.

    Parameters
    ----------
    roles : Roles
    folder : tuple of Location and str, optional
        Where the table is, for relative URLs.
    pattern : str, optional
        Gives axes to the URLs.
    exclusion : Exclusion
    scheme : str
        Protocol of the buckets of an inventory.
    decode_key : callable
        Decodes the keys of an inventory.
    """

    def __init__(
        self,
        roles: Roles,
        *,
        folder: tuple[Location, str] | None,
        pattern: str | None,
        exclusion: Exclusion,
        decode_key: Callable[[str], str] = str,
        scheme: str = "s3",
    ) -> None:
        self._roles = roles
        self._names = TableURLs(folder)
        self._exclusion = exclusion
        self._decode_key, self._scheme = decode_key, scheme
        self._kept: list[npt.NDArray[np.bool_]] = []
        self._n_rows = 0
        self._pages = array("q")
        self._by_pattern = None if pattern is None else _PatternedRows(pattern, roles)
        self._columns = LabelledRows(roles) if pattern is None else None

    def add(self, batch: Any) -> None:
        """Add a batch of rows with the columns `Roles.of_grid`.

        Raises
        ------
        ArgumentError
        """
        roles, first_row = self._roles, self._n_rows
        every = self._texts(batch, first_row)
        self._n_rows += len(every)
        excludes = self._exclusion.excludes
        is_kept = np.array([name is not None and not excludes(name) for name in every], bool)
        self._kept.append(is_kept)
        names = [name for name, keep in zip(every, is_kept, strict=True) if keep and name]
        if not names:
            return
        batch, rows = _filtered(batch, is_kept, first_row)
        sizes = np.full(len(names), -1, np.int64)
        if roles.size:
            sizes = whole_numbers(column_at(batch, roles.size), roles.size, rows)
        etags: list[str | None] = [None] * len(names)
        if roles.etag:
            etags = texts(column_at(batch, roles.etag))
        if roles.page:
            pages = whole_numbers(column_at(batch, roles.page), roles.page, rows)
            if (pages < 0).any():
                row = rows[int(np.argmin(pages))]
                raise ArgumentError(f"row {row} of the table, counted from 0, has no page")
            self._pages.frombytes(pages.tobytes())
        if self._by_pattern is not None:
            self._by_pattern.add(names, sizes, etags)
        else:
            assert self._columns is not None
            self._columns.add(batch, names, sizes, etags, rows)

    def _texts(self, batch: Any, first_row: int) -> list[str | None]:
        """Names of the files as pattern texts; None for rows of an inventory that are not there."""
        roles = self._roles
        urls = texts(column_at(batch, roles.url))
        if None in urls:
            row = first_row + urls.index(None)
            raise ArgumentError(
                f"row {row} of the table, counted from 0, has no URL in {roles.url}: leave the row"
                " out"
            )
        if roles.is_inventory:
            buckets = texts(column_at(batch, roles.bucket))
            is_current = _is_current(batch)
            urls = [
                f"{self._scheme}://{bucket}/{self._decode_key(key or '')}" if current else None
                for bucket, key, current in zip(buckets, urls, is_current, strict=True)
            ]
        text = self._names.text
        return [None if url is None else text(url, row) for row, url in enumerate(urls, first_row)]

    def build(self, known: GridInTable | None = None) -> Arranged:
        """Return the arranged files; the builder cannot be used afterwards.

        Parameters
        ----------
        known : GridInTable, optional
            What the table says of its grid.

        Raises
        ------
        GridError
        """
        location = self._names.location
        if location is None or not any(kept.any() for kept in self._kept):
            raise self._nothing()
        pages = np.frombuffer(self._pages, np.int64) if self._roles.page else None
        unmatched = None
        if self._by_pattern is not None:
            grid, places, unmatched = self._by_pattern.build(location)
        else:
            assert self._columns is not None
            complete = known if known is not None and known.n_rows == self._n_rows else None
            grid, places = self._columns.build(complete, pages, self._n_rows)
        at_index: npt.NDArray[np.int64] | None = None
        if pages is not None:
            at_index = np.zeros(places.rows.shape, np.int64)
            at_index.ravel()[places.flat] = pages
        # What facts need is all that is kept: they take more than all else.
        self._by_pattern = self._columns = None
        self._pages = array("q")
        return Arranged(
            grid=grid,
            location=location,
            flat=places.flat,
            rows=None if all(map(np.all, self._kept)) else _kept_rows(self._kept),
            pages=at_index,
            unmatched=unmatched,
        )

    def _nothing(self) -> GridError:
        if self._exclusion.n_excluded:
            return self._exclusion.error(redact)
        return GridError(
            f"the table has {counted(self._n_rows, 'row')}, and no file in any of them"
        )

    def facts(self, batches: Iterable[Any], flat: npt.NDArray[np.int64]) -> FactColumns:
        """Return the facts of the files, from batches of the same rows with `Roles.facts`.

        Raises
        ------
        ArgumentError
        """

        def columns() -> Iterator[dict[str, Any]]:
            first_row = 0
            for every, is_kept in zip(batches, self._kept, strict=True):
                batch, rows = _filtered(every, is_kept, first_row)
                first_row += len(is_kept)
                if len(rows):
                    yield facts_in_batch(batch, self._roles.facts, rows)

        facts = FactColumns()
        facts.add_batches(flat, columns())
        return facts


def _filtered(batch: Any, is_kept: npt.NDArray[np.bool_], first_row: int) -> tuple[Any, Rows]:
    """The rows of a batch that are kept, and their numbers in the table."""
    import pyarrow as pa

    rows = first_row + np.flatnonzero(is_kept)
    return (batch if is_kept.all() else batch.filter(pa.array(is_kept))), rows


def _kept_rows(kept: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.concatenate(kept))


def _is_current(batch: Any) -> list[bool]:
    """Whether each row of an inventory of a bucket with versions is the object as it is now."""
    by_lower = {name.lower().replace("_", ""): name for name in batch.schema.names}
    is_current = [True] * len(batch)
    for name, wanted in (("islatest", "true"), ("isdeletemarker", "false")):
        if name in by_lower:
            found = texts(column_at(batch, by_lower[name]))
            is_current = [
                kept and (value is None or value.lower() == wanted)
                for kept, value in zip(is_current, found, strict=True)
            ]
    return is_current


class _PatternedRows:
    """Rows whose axes a pattern finds in the URLs."""

    def __init__(self, pattern: str, roles: Roles) -> None:
        if "://" in pattern or pattern.startswith("/"):
            location, key = split_url(pattern)
            self._text = location.pattern_text(key)
        else:
            self._text = f"**/{pattern}"
        compiled = compile_pattern(self._text)
        if not compiled.fields:
            raise GridError(f"pattern={pattern!r} names no axes: write fields such as {{z}}")
        self._given, self._is_inventory = pattern, roles.is_inventory
        self._unmatched = UnmatchedCounter(compiled, redact)
        is_web = self._text.startswith(("http", "**"))
        self._builder = GridBuilder(compiled, self._unmatched, _without_query if is_web else None)
        self._n_rows = 0

    def add(self, names: list[str], sizes: npt.NDArray[np.int64], etags: list[str | None]) -> None:
        known = (None if size < 0 else size for size in sizes.tolist())
        self._builder.add(map(_File, names, known, etags))
        self._n_rows += len(names)

    def build(self, location: Location) -> tuple[FileGrid, Places, Unmatched | None]:
        where = location.display(location.root)
        beside = self._unmatched.build(where, is_narrow=False)
        if beside.n_objects and not (self._is_inventory and len(self._builder)):
            raise GridError(
                f"{counted(beside.n_objects, 'URL')} of the {self._n_rows} in the table do not"
                f" match pattern={self._given!r}: {', '.join(beside.examples)}{beside.hint}"
            )
        grid = self._builder.build()
        return grid, self._builder.places, beside if self._is_inventory else None


def _without_query(text: str) -> str:
    return text.partition("?")[0] if text.startswith(("http://", "https://")) else text
