"""Read the table of originals of a copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.metadata.originals import FOLDER


def read_rows(destination: Destination) -> Iterator[dict[str, Any]]:
    """Read all rows, part by part, always in the same order.

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
            f"{destination.url} was not made of files, so it has no table of originals: export it"
            ' with layout="ome-tiff", which writes pixel types that OME-TIFF lacks as plain TIFF'
        )
    for key in sorted(parts):
        yield from pq.read_table(pa.BufferReader(destination.get(key))).to_pylist()
