"""Read Parquet files of which nothing is known but their size, in bounded memory. Pure.

A few kilobytes of Parquet can stand for any number of rows and of bytes: columns are compressed,
values are repeated by reference to a dictionary or to the value before. So the numbers in the
footer are compared with what the table can have, and the rows are made a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
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
_MOST_REPEATED = 2**29
"""Bytes of the values of a column in a batch, if each repeats the largest that there can be."""
_LEAST_BATCH = 64
_LIMITS = {"thrift_string_size_limit": 2**24, "thrift_container_size_limit": 2**20}
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

        data = pa.BufferReader(data) if isinstance(data, bytes) else data
        self._file = pq.ParquetFile(data, **_LIMITS)
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
        self._read_repeated_once(data)

    def _read_repeated_once(self, data: Any) -> None:
        """Open the file again if it has columns of which each value is to be read once."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = self._file.metadata
        once, self._most_rows_at_once = _repeating(found, self._columns)
        of_arrow = {each.name for each in self.schema if pa.types.is_dictionary(each.type)}
        self._once = [name for name in once if name not in of_arrow]
        if self._once:
            data.seek(0)
            self._file = pq.ParquetFile(data, metadata=found, read_dictionary=self._once, **_LIMITS)

    def batches(self, batch_size: int | None = None) -> Iterator[Any]:
        """The rows, in batches whose texts have a limited size."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if batch_size is None:
            batch_size = max(_LEAST_BATCH, self.n_rows // _BATCHES)
        batch_size = max(1, min(batch_size, self._most_rows_at_once))
        batches = self._file.iter_batches(batch_size, columns=self._columns, use_threads=False)
        while True:
            with _as_value_error():
                batch = next(batches, None)
            if batch is None:
                return
            heads = {path: path.split(".") for path in self._once if path not in batch.schema.names}
            parts = (
                (path, pc.struct_field(batch.column(head), rest))
                for path, (head, *rest) in heads.items()
            )
            for name, column in chain(zip(batch.schema.names, batch.columns, strict=True), parts):
                if pa.types.is_dictionary(column.type):
                    size = _size_in_full(column)
                else:
                    size = column.nbytes
                if size > _MOST_TEXT:
                    raise ValueError(f"{len(batch)} rows have {size} bytes of {name}")
            for name in filter(batch.schema.names.__contains__, self._once):
                at = batch.schema.names.index(name)
                field = self.schema.field(name)
                if not pa.types.is_dictionary(field.type):
                    column = batch.column(at).dictionary_decode().cast(field.type)
                    batch = batch.set_column(at, field, column)
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


def _repeating(found: Any, columns: Sequence[str]) -> tuple[list[str], int]:
    """Columns of texts to be read with each value once, and rows to be read of others at a time.

    A value of a column that repeats values can be as large as all that is stored of the column.
    """
    once: dict[str, bool] = {}
    n_bytes: dict[str, int] = {}
    for column in _repeated_texts(found, columns):
        # Arrow cannot read the encodings with differences that way.
        path, is_plain = column.path_in_schema, "DELTA" not in "".join(column.encodings)
        once[path] = once.get(path, True) and is_plain and path in columns
        n_bytes[path] = max(n_bytes.get(path, 1), column.total_uncompressed_size)
    largest = max((n for path, n in n_bytes.items() if not once[path]), default=1)
    return [path for path, can_be in once.items() if can_be], _MOST_REPEATED // largest


def _repeated_texts(found: Any, columns: Sequence[str]) -> Iterator[Any]:
    """What the footer says of columns of texts, by group of rows, whose values may be repeated."""
    paths = [found.schema.column(i).path for i in range(found.num_columns)]
    begin = tuple(f"{name}." for name in columns)
    wanted = [i for i, path in enumerate(paths) if f"{path}.".startswith(begin)]
    for group in map(found.row_group, range(found.num_row_groups)):
        for column in map(group.column, wanted):
            repeats = column.has_dictionary_page or "DELTA_BYTE_ARRAY" in column.encodings
            if repeats and column.physical_type == "BYTE_ARRAY":
                yield column


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
