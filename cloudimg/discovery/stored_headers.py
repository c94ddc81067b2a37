"""Headers of files in a table: the bytes that the parser reads, to be parsed again. Pure.

Nothing that was parsed is stored, so that a table cannot say what the file does not, and a later
version of the parser finds what an earlier one did not look for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cloudimg.errors.checked_json import GREATEST

MOST_BYTES = 2**28
"""Most bytes of all headers of a table."""


class StoredHeader(NamedTuple):
    """The bytes of a header."""

    etag: str | None
    """Version of the file."""
    size_bytes: int
    """Size of the file."""
    parts: Sequence[tuple[int, bytes]]
    """Offsets, and the bytes there; increasing."""


def header_type() -> Any:
    """Type of the column of headers."""
    import pyarrow as pa

    part = pa.struct([("start", pa.int64()), ("data", pa.binary())])
    return pa.struct([("etag", pa.string()), ("size_bytes", pa.int64()), ("parts", pa.list_(part))])


def header_column(keys: Iterable[str], headers: Mapping[str, StoredHeader]) -> Any:
    """Return the column of headers of the files with some keys, null where there is none."""
    import pyarrow as pa

    rows = []
    for key in keys:
        header = headers.get(key)
        rows.append(
            None
            if header is None
            else {
                "etag": header.etag,
                "size_bytes": header.size_bytes,
                "parts": [{"start": start, "data": data} for start, data in header.parts],
            }
        )
    return pa.array(rows, header_type())


def headers_in(batch: Any, name: str, budget: int) -> dict[int, StoredHeader]:
    """Return the headers in a batch of rows, by number of the row in it.

    Raises
    ------
    ValueError
        If the column has others than `header_column` makes, or more than `budget` bytes.
    """
    import pyarrow.compute as pc

    column = batch.column(batch.schema.names.index(name))
    if column.type != header_type():
        raise ValueError(f"its column {name} has another type than headers")
    rows = pc.indices_nonzero(pc.is_valid(column))
    column = column.take(rows)
    if column.nbytes > budget:
        raise ValueError(f"its column {name} has more than {MOST_BYTES} bytes")
    found = {}
    for row, header in zip(rows.to_pylist(), column.to_pylist(), strict=True):
        size, parts, end = header["size_bytes"], [], 0
        for part in header["parts"] or ():
            start, data = part["start"], part["data"]
            if start is None or data is None or start < end or not size or start + len(data) > size:
                raise ValueError(f"its column {name} has parts that do not follow one another")
            parts.append((start, data))
            end = start + len(data)
        if parts and parts[0][0] == 0 and size <= GREATEST:
            found[row] = StoredHeader(header["etag"], size, parts)
    return found
