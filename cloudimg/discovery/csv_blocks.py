"""The rows of a CSV, parsed block by block in the thread that asks for them.

pyarrow's own reader of blocks reads ahead in a thread of pyarrow. If the file is a Python object,
that thread needs Python's interpreter, and a process that ends meanwhile is aborted or never ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_BLOCK_BYTES = 2**20
_MOST_LINE_BYTES = 2**24


class CsvBlocks:
    """A CSV whose columns have the types that they have in the first block.

    Parameters
    ----------
    open_file : callable
        Opens the file, to be read from its beginning; each use opens it anew.
    types : mapping
        Types of columns, by name; others are found out.
    names : sequence of str, optional
        Names of the columns, of a file whose first line does not have them.

    Raises
    ------
    ValueError
        If the beginning of the file is no CSV, or with a line that is too long.
    """

    def __init__(
        self,
        open_file: Callable[[], Any],
        types: Mapping[str, Any],
        names: Sequence[str] | None = None,
    ) -> None:
        self._open_file = open_file
        self._types = dict(types)
        self._names = names
        first = next(_blocks(open_file()), b"")
        self.schema = self._parsed(first, names, None).schema
        self._types |= {each.name: each.type for each in self.schema}

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield the rows, with some of the columns.

        Raises
        ------
        ValueError
            If a block is no CSV, or has other types than the first one.
        """
        names = self._names
        for block in _blocks(self._open_file()):
            yield from self._parsed(block, names, columns).to_batches()
            names = self.schema.names

    def _parsed(
        self, block: bytes, names: Sequence[str] | None, columns: Sequence[str] | None
    ) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        return csv.read_csv(
            pa.BufferReader(block),
            read_options=csv.ReadOptions(
                block_size=len(block) + 1, column_names=names, use_threads=False
            ),
            parse_options=csv.ParseOptions(newlines_in_values=False),
            convert_options=csv.ConvertOptions(
                column_types=self._types, include_columns=None if columns is None else list(columns)
            ),
        )


def _blocks(file: Any) -> Iterator[bytes]:
    """Yield the bytes of a file in blocks of whole lines."""
    rest = b""
    while read := file.read(_BLOCK_BYTES):
        block = rest + read
        end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        rest = block[end:]
        if len(rest) > _MOST_LINE_BYTES:
            raise ValueError(f"it has a line of more than {_MOST_LINE_BYTES} bytes")
        if end:
            yield block[:end]
    if rest:
        yield rest
