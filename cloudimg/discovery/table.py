"""The table of files as one Parquet object, and what differs between two tables. Pure.

One row per file (per plane in a multi-file dataset), in C order of the grid:

==============  ==================================================================================
``key``         URL of the file without credentials and signature; on disks, its path
``size_bytes``  size, null where the store does not list it
``etag``        digest of the ETag, see `cloudimg.discovery.build_grid.short_etag`; null without one
``page``        number of the page in the file; only in multi-file datasets
``axis.NAME``   index along the axis of the grid with that name
==============  ==================================================================================

The names, the lengths of the axes, and whether names were changed to hide secrets, are metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.names import ANY_NAME
from cloudimg.errors import CorruptFileError, counted
from cloudimg.errors.notes import Note

_METADATA = b"cloudimg"
_AXIS = "axis."
_ROWS_PER_GROUP = 2**17
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTable:
    """The files of an image as columns."""

    axes: tuple[str, ...]
    """Names of the axes of the grid."""
    shape: tuple[int, ...]
    """Lengths of the axes of the grid."""
    has_own_names: bool
    """Whether `keys` are the names of the files, without secrets that were removed."""
    rows: npt.NDArray[np.int64]
    """Position of each file in C order of the grid, increasing."""
    keys: Any
    """Names of the files, a `pyarrow.ChunkedArray` of text."""
    sizes: npt.NDArray[np.int64]
    """Sizes in bytes, -1 where unknown."""
    etags: npt.NDArray[np.uint64]
    """Digests of the ETags, 0 where unknown."""
    pages: npt.NDArray[np.int64] | None
    """Numbers of the pages, in a multi-file dataset."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def was_listed(self) -> bool:
        """Whether sizes or ETags come from a listing, so that changes can be seen."""
        return bool((self.sizes >= 0).any() or self.etags.any())

    @classmethod
    def of(
        cls,
        grid: FileGrid,
        shown: Callable[[str], str],
        pages: npt.NDArray[np.int64] | None = None,
    ) -> FileTable:
        """Return the table of a grid.

        Parameters
        ----------
        grid : FileGrid
        shown : callable
            Returns a name without secrets.
        pages : ndarray, optional
            Numbers of the pages by index in the grid.
        """
        import pyarrow as pa

        present = grid.present
        rows = np.arange(grid.sizes.size) if present is None else np.flatnonzero(present)
        chunks, has_own_names = [], True
        indices = grid.files()
        while texts := [grid.keys(index) for index in islice(indices, _ROWS_PER_GROUP)]:
            names = [_as_unicode(shown(text)) for text in texts]
            has_own_names &= names == texts
            chunks.append(pa.array(names, pa.string()))
        etags = grid.etags if grid.etags is not None else np.zeros(grid.sizes.size, np.uint64)
        return cls(
            axes=grid.fields,
            shape=grid.shape,
            has_own_names=has_own_names,
            rows=rows,
            keys=pa.chunked_array(chunks, pa.string()),
            sizes=grid.sizes[rows],
            etags=etags[rows],
            pages=None if pages is None else pages.ravel()[rows],
        )

    def to_parquet(self) -> bytes:
        """Return the table as the bytes of a Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {
            "key": self.keys,
            "size_bytes": pa.array(self.sizes, mask=self.sizes < 0),
            "etag": pa.array(self.etags, mask=self.etags == 0),
        }
        if self.pages is not None:
            columns["page"] = pa.array(self.pages)
        index = np.unravel_index(self.rows, self.shape) if self.shape else ()
        for name, numbers in zip(self.axes, index, strict=True):
            columns[f"{_AXIS}{name}"] = pa.array(numbers.astype(np.int32))
        described = {"axes": self.axes, "shape": self.shape, "has_own_names": self.has_own_names}
        table = pa.table(columns).replace_schema_metadata(
            {_METADATA: json.dumps(described).encode()}
        )
        out = io.BytesIO()
        pq.write_table(
            table,
            out,
            compression="zstd",
            row_group_size=_ROWS_PER_GROUP,
            use_dictionary=False,
            column_encoding=dict.fromkeys(["key"], "DELTA_BYTE_ARRAY"),
            store_schema=True,
        )
        return out.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes, url: str) -> FileTable:
        """Read the table from a Parquet file.

        Raises
        ------
        CorruptFileError
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(io.BytesIO(data))
            described = json.loads(table.schema.metadata[_METADATA])
            axes, shape = tuple(described["axes"]), tuple(described["shape"])
            index = [table[f"{_AXIS}{name}"].to_numpy() for name in axes]
            n_rows = table.num_rows
            return cls(
                axes=axes,
                shape=shape,
                has_own_names=bool(described["has_own_names"]),
                rows=(
                    np.ravel_multi_index(tuple(index), shape)
                    if axes
                    else np.arange(n_rows, dtype=np.int64)
                ),
                keys=table["key"],
                sizes=table["size_bytes"].fill_null(-1).to_numpy(),
                etags=table["etag"].fill_null(0).to_numpy(),
                pages=table["page"].to_numpy() if "page" in table.column_names else None,
            )
        except (pa.ArrowException, KeyError, TypeError, ValueError) as exc:
            raise CorruptFileError(f"{url} is damaged: not a table of files", url=url) from exc


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

    def newer_files(self) -> Note:
        """The note for a copy that lacks the added files."""
        return Note(
            f"{counted(self.n_added, 'newer file is', 'newer files are')} not in this copy",
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
        return "; ".join(parts) or "no file changed"


def changes_between(before: FileTable, now: FileTable) -> TableChanges:
    """Compare two tables by name; unknown sizes and ETags count as equal."""
    import pyarrow.compute as pc

    if len(before) == len(now) and before.keys.equals(now.keys):
        at_before = at_now = np.arange(len(now))
        added = removed = np.zeros(0, np.int64)
    else:
        found = pc.index_in(now.keys, before.keys.combine_chunks()).fill_null(-1).to_numpy()
        at_now = np.flatnonzero(found >= 0)
        at_before = found[at_now]
        added = np.flatnonzero(found < 0)
        is_kept = np.zeros(len(before), bool)
        is_kept[at_before] = True
        removed = np.flatnonzero(~is_kept)
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


def replaced_names(before: FileTable, now: FileTable) -> frozenset[str]:
    """Names of all files with another size or ETag; empty if files were added or removed, too."""
    if not before.keys.equals(now.keys):
        return frozenset()
    is_replaced = _differ(before.sizes, now.sizes, -1) | _differ(before.etags, now.etags, 0)
    return frozenset(now.keys[int(row)].as_py() for row in np.flatnonzero(is_replaced))


def _as_unicode(name: str) -> str:
    """A name as text that can be stored; disks have names that are not Unicode."""
    return name.encode(*ANY_NAME).decode("utf-8", "backslashreplace")


def _differ(before: npt.NDArray[Any], now: npt.NDArray[Any], unknown: int) -> Any:
    return (before != now) & (before != unknown) & (now != unknown)


def _names(table: FileTable, rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(table.keys[int(row)].as_py() for row in rows[:_EXAMPLES])
