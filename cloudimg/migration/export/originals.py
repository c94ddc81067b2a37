"""The table of originals of a copy, read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.metadata.originals import FOLDER


def read_rows(destination: Destination) -> Iterator[dict[str, Any]]:
    """All rows, part by part, always in the same order.

    Raises
    ------
    ArgumentError
        If there is no table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [e.key for e in destination.list(FOLDER) if e.key.endswith(".parquet")]
    if not parts:
        raise ArgumentError(
            f"{destination.url} has no table of originals, as it was not made of files: export it"
            ' with layout="ome-tiff", which makes a plain TIFF of pixels that OME-TIFF has not'
        )
    for key in sorted(parts):
        yield from pq.read_table(pa.BufferReader(destination.get(key))).to_pylist()
