"""What differs between two tables of files. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.arrow_columns import from_numbers
from cloudimg.discovery.table import FileTable
from cloudimg.errors import counted
from cloudimg.errors.notes import Note

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChanges:
    """What differs between an earlier and a later table of the same files."""

    added: tuple[str, ...]
    """Names of the first few files that are only in the later one."""
    n_added: int
    removed: tuple[str, ...]
    """Names of the first few files that are only in the earlier one."""
    n_removed: int
    replaced: tuple[str, ...]
    """Names of the first few files with another size or ETag."""
    n_replaced: int

    def notes(self) -> Iterator[Note]:
        """Notes for a copy of the earlier files that is right although files came or went."""
        if self.n_added:
            yield self.newer_files()
        if self.n_removed:
            yield gone_files(self.n_removed, self.removed)

    def newer_files(self, *, may_grow: bool = False) -> Note:
        """The note for a copy that lacks the added files, and may grow by them."""
        which = (
            "the same migration, run again, adds"
            if may_grow
            else ("a migration that starts over copies")
        )
        return Note(
            f"{counted(self.n_added, 'newer file is', 'newer files are')} not in this copy;"
            f" {which} them",
            kind="newer-files",
            n_files=self.n_added,
            urls=self.added,
        )

    def __bool__(self) -> bool:
        return bool(self.n_added or self.n_removed or self.n_replaced)

    def __str__(self) -> str:
        parts = [
            f"{counted(n, 'file')} {what} ({', '.join(names)}{', ...' if n > len(names) else ''})"
            for what, n, names in (
                ("replaced", self.n_replaced, self.replaced),
                ("removed", self.n_removed, self.removed),
                ("added", self.n_added, self.added),
            )
            if n
        ]
        return "; ".join(parts) or "none is new or gone, but places, pages or URLs differ"


UNCHANGED = TableChanges(added=(), n_added=0, removed=(), n_removed=0, replaced=(), n_replaced=0)
"""No differences, or none that are known."""


def gone_files(n_files: int, urls: Sequence[str]) -> Note:
    """The note for a copy of files that no longer exist."""
    return Note(
        counted(
            n_files,
            "source file is gone since it was copied",
            "source files are gone since they were copied",
        ),
        kind="gone-files",
        n_files=n_files,
        urls=urls,
    )


def changes_between(before: FileTable, now: FileTable) -> TableChanges:
    """Compare two tables by name; unknown sizes and ETags count as equal."""
    at_before, at_now = matching_rows(before, now)
    added = np.setdiff1d(np.arange(len(now)), at_now, assume_unique=True)
    removed = np.setdiff1d(np.arange(len(before)), at_before)
    is_replaced = _differ(before.sizes[at_before], now.sizes[at_now], -1)
    is_replaced |= _differ(before.etags[at_before], now.etags[at_now], 0)
    replaced = at_now[is_replaced]
    return TableChanges(
        added=_names(now, added),
        n_added=len(added),
        removed=_names(before, removed),
        n_removed=len(removed),
        replaced=_names(now, replaced),
        n_replaced=len(replaced),
    )


def matching_rows(
    before: FileTable, now: FileTable
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions in two tables of the files that are in both."""
    import pyarrow.compute as pc

    if before.keys.equals(now.keys):
        everything = np.arange(len(now))
        return everything, everything
    found = from_numbers(pc.index_in(now.keys, before.keys.combine_chunks()), -1)
    at_now = np.flatnonzero(found >= 0)
    return found[at_now], at_now


def has_same_rows(before: FileTable, now: FileTable) -> bool:
    """Whether two tables have the same files at the same places."""
    return (
        (before.axes, before.shape) == (now.axes, now.shape)
        and np.array_equal(before.rows, now.rows)
        and before.keys.equals(now.keys)
        and np.array_equal(_or_empty(before.pages), _or_empty(now.pages))
    )


def _or_empty(pages: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64) if pages is None else pages


def updated(before: FileTable, now: FileTable) -> FileTable:
    """Return the earlier table with the sizes and ETags of a later one, where that has the file."""
    at_before, at_now = matching_rows(before, now)
    sizes, etags = before.sizes.copy(), before.etags.copy()
    sizes[at_before], etags[at_before] = now.sizes[at_now], now.etags[at_now]
    return replace(before, sizes=sizes, etags=etags)


def _differ(before: npt.NDArray[Any], now: npt.NDArray[Any], unknown: int) -> Any:
    return (before != now) & (before != unknown) & (now != unknown)


def _names(table: FileTable, rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(table.keys[int(row)].as_py() for row in rows[:_EXAMPLES])
