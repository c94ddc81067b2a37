"""The table of files as one Parquet object. Pure.

One row per file (per plane in a multi-file dataset), in C order of the grid:

==============  ==================================================================================
``key``         URL of the file without credentials and signature; on disks, its path
``size_bytes``  size, null where the store does not list it
``etag``        digest of the ETag, see `cloudimg.discovery.build_grid.short_etag`; null without one
``page``        number of the page in the file; only in multi-file datasets
``axis.NAME``   index along the axis of the grid with that name
facts           what was read of each file, see `cloudimg.discovery.fact_kinds.FACTS`; a column
                only if a file has it
==============  ==================================================================================

The names, the lengths of the axes, and whether names were changed to hide secrets, are metadata.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.arrow_columns import as_numbers, as_texts, from_numbers
from cloudimg.discovery.bounded_parquet import BoundedParquet
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS, NUMBER, TEXT, TIME
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.names import ANY_NAME, ETAG_DIGEST
from cloudimg.errors import CorruptFileError
from cloudimg.errors.checked_json import (
    GREATEST,
    checked_bool,
    checked_ints,
    checked_object,
    checked_texts,
    damage,
)

_METADATA = b"cloudimg"
OWN_TABLE = b"cloudimg.index"
"""Key of what a table that is given to users says of its grid, in the metadata of its schema."""
_AXIS = "axis."
_ROWS_PER_GROUP = 2**17
_MOST_AXES = 32
_DAMAGED = (KeyError, OSError, RecursionError, TypeError, ValueError)
"""What reading a damaged table raises; `pyarrow.ArrowInvalid` is a ValueError."""
MOST_ROWS = 2**26
"""Most files of a table: the largest archives have some ten million."""
_TYPES = {"key": ("string",), "size_bytes": ("int64",), "etag": ("uint64",), "page": ("int64",)}
_FACT_TYPES = {
    NUMBER: ("double",),
    TEXT: ("dictionary<values=string, indices=int32, ordered=0>", "string"),
    TIME: ("timestamp[us]",),
}


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
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Columns of `FACTS` that were read, each a `pyarrow.Array` with a value or null by row."""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(
        cls,
        grid: FileGrid,
        shown: Callable[[str], str],
        pages: npt.NDArray[np.int64] | None = None,
        facts: FactColumns | None = None,
    ) -> FileTable:
        """Return the table of a grid.

        Parameters
        ----------
        grid : FileGrid
        shown : callable
            Returns a name without secrets.
        pages : ndarray, optional
            Numbers of the pages by index in the grid.
        facts : FactColumns, optional
            What was read of the files, by position in C order of the grid.
        """
        import pyarrow as pa

        rows = grid.positions
        chunks, has_own_names = [], True
        indices = grid.files()
        while texts := [grid.keys(index) for index in islice(indices, _ROWS_PER_GROUP)]:
            names = [_as_unicode(shown(text)) for text in texts]
            has_own_names &= names == texts
            chunks.append(as_texts(names))
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
            facts={} if facts is None else facts.to_arrow(rows),
        )

    def to_table(self) -> Any:
        """Return the columns that `cloudimg.open` takes, as a `pyarrow.Table`.

        ETags are texts, which data frames keep exactly, nulls included.
        """
        import pyarrow as pa

        etags = [f"{ETAG_DIGEST}{etag:016x}" if etag else None for etag in self.etags.tolist()]
        columns: dict[str, Any] = {
            "key": self.keys,
            "size_bytes": as_numbers(self.sizes, self.sizes < 0),
            "etag": pa.array(etags, pa.string()),
        }
        if self.pages is not None:
            columns["page"] = as_numbers(self.pages)
        index = np.unravel_index(self.rows, self.shape) if self.shape else ()
        for name, numbers in zip(self.axes, index, strict=True):
            columns[f"{_AXIS}{name}"] = as_numbers(numbers.astype(np.int32))
        described = {"n_rows": len(self), "shape": dict(zip(self.axes, self.shape, strict=True))}
        metadata = {OWN_TABLE: json.dumps({**described, "labels": {}}).encode()}
        return pa.table({**columns, **self.facts}).replace_schema_metadata(metadata)

    def to_parquet(self) -> bytes:
        """Return the table as the bytes of a Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {
            "key": self.keys,
            "size_bytes": as_numbers(self.sizes, self.sizes < 0),
            "etag": as_numbers(self.etags, self.etags == 0),
        }
        if self.pages is not None:
            columns["page"] = as_numbers(self.pages)
        index = np.unravel_index(self.rows, self.shape) if self.shape else ()
        for name, numbers in zip(self.axes, index, strict=True):
            columns[f"{_AXIS}{name}"] = as_numbers(numbers.astype(np.int32))
        columns |= self.facts
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
            use_dictionary=[name for name in self.facts if FACTS[name].type == TEXT],
            column_encoding=dict.fromkeys(["key"], "DELTA_BYTE_ARRAY"),
            store_schema=True,
        )
        return out.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes, url: str, *, most_rows: int = MOST_ROWS) -> FileTable:
        """Read the table from a Parquet file.

        Raises
        ------
        CorruptFileError
            If it is not a table of files, or has more than `most_rows` rows.
        """
        try:
            axes, shape, has_own_names, table = _read(data, most_rows)
            index = [from_numbers(table[f"{_AXIS}{name}"]) for name in axes]
            rows = (
                np.ravel_multi_index(tuple(index), shape)
                if axes
                else np.arange(table.num_rows, dtype=np.int64)
            )
            if (np.diff(rows) <= 0).any():
                raise ValueError("its rows are not in the order of the grid")
            return cls(
                axes=axes,
                shape=shape,
                has_own_names=has_own_names,
                rows=rows,
                keys=table["key"],
                sizes=from_numbers(table["size_bytes"], -1),
                etags=from_numbers(table["etag"]),
                pages=from_numbers(table["page"]) if "page" in table.column_names else None,
                facts={
                    name: table[name].combine_chunks()
                    for name in FACTS
                    if name in table.column_names
                },
            )
        except _DAMAGED as exc:
            raise CorruptFileError(
                f"{url} is damaged: not a table of files: {damage(exc)}", url=url
            ) from exc


def _as_unicode(name: str) -> str:
    """A name as text that can be stored; disks have names that are not Unicode."""
    return name.encode(*ANY_NAME).decode("utf-8", "backslashreplace")


def _read(data: bytes, most_rows: int) -> tuple[tuple[str, ...], tuple[int, ...], bool, Any]:
    """Axes, shape, whether the names are their own, and the columns of a table."""
    types = {**_TYPES, **{name: _FACT_TYPES[kind.type] for name, kind in FACTS.items()}}
    described = json.loads(BoundedParquet(data, {}, most_rows=most_rows).schema.metadata[_METADATA])
    checked_object(described, _METADATA.decode(), required=("axes", "shape", "has_own_names"))
    axes = tuple(checked_texts(described["axes"], "axes", most=_MOST_AXES, characters=256))
    if len(set(axes)) < len(axes):
        raise ValueError("axes has a name twice")
    shape = checked_ints(described["shape"], "shape", n=len(axes), least=1)
    if math.prod(shape) > GREATEST:
        raise ValueError(f"shape has more than {GREATEST} places")
    types |= {f"{_AXIS}{name}": ("int32", "int64") for name in axes}
    most_rows = min(most_rows, math.prod(shape)) if axes else most_rows
    table = BoundedParquet(data, types, most_rows=most_rows).table()
    for name in ("key", *(f"{_AXIS}{name}" for name in axes)):
        if table[name].null_count:
            raise ValueError(f"its column {name} has nulls")
    return axes, shape, checked_bool(described["has_own_names"], "has_own_names"), table
