"""Read Parquet files of which nothing is known but their size, in bounded memory. Pure.

A few kilobytes of Parquet can stand for any number of rows and of bytes: columns are compressed,
values are repeated by reference to a dictionary or to the value before. So the numbers in the
footer are compared with what the table can have, and the rows are made a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_MOST_BYTES = 2**28
"""Bytes that one column of a group of rows may have, whatever the number of rows."""
_MOST_BYTES_PER_ROW = 2**22
_MOST_VALUES = 2**24
"""Values that one column of a group of rows may have, such as the pages of a file."""
_MOST_VALUES_PER_ROW = 64
_MOST_TEXT = 2**28
"""Bytes of the texts in one column of a batch of rows."""
_MOST_COLUMNS = 256
_MOST_GROUPS = 2**16
_LEAST_BATCH = 64
_BATCHES = 1024


class BoundedParquet:
    """A Parquet file that has been found to be of limited size.

    Parameters
    ----------
    data : bytes or file
        A file is one of `pyarrow`, or of Python.
    types : mapping
        By name of a column, the types that it may have, as `pyarrow` shows them; none if it may
        have any. Other columns are not read. A name with dots may be the path of a value in a
        column of structures, of which only this is read.
    most_rows : int
    most_columns : int

    Raises
    ------
    ValueError
        If it is not a Parquet file, has too many rows or bytes, or columns of other types.
    """

    def __init__(
        self,
        data: Any,
        types: Mapping[str, Any],
        *,
        most_rows: int,
        most_columns: int = _MOST_COLUMNS,
    ) -> None:
        with _as_value_error():
            self._open(data, types, most_rows, most_columns)

    def _open(self, data: Any, types: Mapping[str, Any], most_rows: int, most_columns: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(
            pa.BufferReader(data) if isinstance(data, bytes) else data,
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
        )
        found = self._file.metadata
        if found.num_rows > most_rows:
            raise ValueError(f"it has {found.num_rows} rows, but there can be {most_rows}")
        self.schema = self._file.schema_arrow
        if found.num_columns > most_columns or found.num_row_groups > _MOST_GROUPS:
            raise ValueError(
                f"it has {found.num_columns} columns in {found.num_row_groups} groups of rows"
            )
        self.n_rows: int = found.num_rows
        _check_groups(found)
        self._columns = [name for name in self.schema.names if name in types]
        if len(set(self._columns)) < len(self._columns):
            raise ValueError("it has columns of the same name")
        for name in self._columns:
            if types[name] and str(self.schema.field(name).type) not in types[name]:
                raise ValueError(f"its column {name} has another type than {types[name][0]}")
        known = set(self.schema.names)
        self._columns += [
            path for path in types if path not in known and path.partition(".")[0] in known
        ]

    def batches(self, batch_size: int | None = None) -> Iterator[Any]:
        """The rows, in batches whose texts have a limited size."""
        import pyarrow as pa

        if batch_size is None:
            batch_size = max(_LEAST_BATCH, self.n_rows // _BATCHES)
        batches = self._file.iter_batches(batch_size, columns=self._columns, use_threads=False)
        while True:
            with _as_value_error():
                batch = next(batches, None)
            if batch is None:
                return
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if pa.types.is_dictionary(column.type):
                    size = _size_in_full(column)
                else:
                    size = column.nbytes
                if size > _MOST_TEXT:
                    raise ValueError(f"{len(batch)} rows have {size} bytes of {name}")
            yield batch

    def table(self) -> Any:
        """All rows."""
        import pyarrow as pa

        schema = pa.schema([self.schema.field(name) for name in self._columns])
        return pa.Table.from_batches(self.batches(), schema)


def _check_groups(found: Any) -> None:
    """Check the rows and the bytes of the groups of rows in a footer."""
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    if any(each.num_rows < 0 for each in groups):
        raise ValueError("a group of its rows has less than none")
    if sum(each.num_rows for each in groups) != found.num_rows:
        raise ValueError(f"its groups do not have {found.num_rows} rows in all")
    for group in groups:
        for i in range(found.num_columns):
            column = group.column(i)
            n_bytes = column.total_uncompressed_size
            if not 0 <= n_bytes <= _MOST_BYTES + _MOST_BYTES_PER_ROW * group.num_rows:
                raise ValueError(
                    f"{column.path_in_schema} has {n_bytes} bytes in {group.num_rows} rows"
                )
            if column.num_values > _MOST_VALUES + _MOST_VALUES_PER_ROW * group.num_rows:
                raise ValueError(
                    f"{column.path_in_schema} has {column.num_values} values in"
                    f" {group.num_rows} rows"
                )


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise the errors of pyarrow, of which some are not about values, as `ValueError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as exc:
        raise ValueError(f"it is not a Parquet file: {exc}") from exc


def _size_in_full(column: Any) -> int:
    """Size of a column of texts without its dictionary."""
    import pyarrow.compute as pc

    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return int(pc.sum(lengths).as_py() or 0)
