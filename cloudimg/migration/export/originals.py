"""Read the table of originals of a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.metadata.originals import FOLDER
from cloudimg.migration.metadata.originals_from_parquet import rows_of_part

Row = Mapping[str, Any]
"""A row of the table of originals."""


def read_rows(destination: Destination, source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Read all rows, part by part, always in the same order.

    Parameters
    ----------
    destination : Destination
    source : mapping
        `State.source` of the copy.

    Raises
    ------
    ArgumentError
        If the copy has no table.
    CorruptFileError
        If a part is damaged.
    """
    parts = [e.key for e in destination.list(FOLDER) if e.key.endswith(".parquet")]
    if not parts:
        raise ArgumentError(
            f"{destination.url} was not made of files, so it has no table of originals: export it"
            ' with layout="ome-tiff", which writes pixel types that OME-TIFF lacks as plain TIFF'
        )
    for key in sorted(parts):
        yield from rows_of_part(destination.get(key), destination.display(key), source)


def rows_by_file(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each file: one, or for a member of a multi-file dataset one for each page."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        if row["page"] is None:
            yield [row]
        else:
            members.setdefault(row["key"], []).append(row)
    for member_rows in members.values():
        yield sorted(member_rows, key=lambda row: int(row["page"]))
