"""The table of the files that a migration is made from, stored before the plan that names it.

Its name is its checksum, so that a process that is killed before it stores the plan leaves the
table of an earlier plan as it is.
"""

from __future__ import annotations

import hashlib

from cloudimg.discovery.table import FileTable
from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import TABLES
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import create_object


def table_key(sha256: str) -> str:
    """Key of the table with a checksum."""
    return f"{TABLES}/{sha256[:16]}.parquet"


def create_files(destination: Destination, table: FileTable, *, fences: bool) -> str:
    """Store the table; returns the SHA-256 of the stored bytes, which the plan records."""
    data = table.to_parquet()
    sha256 = hashlib.sha256(data).hexdigest()
    create_object(destination, table_key(sha256), data, fences=fences)
    return sha256


def get_files(destination: Destination, state: State) -> FileTable | None:
    """Read the table; None for a plan that was stored without one.

    Raises
    ------
    CorruptFileError
        If the table is missing or damaged.
    """
    sha256 = state.files_sha256
    if not sha256:
        return None
    key = table_key(sha256)
    url = destination.display(key)
    try:
        data = destination.get(key)
    except NotFoundError as exc:
        raise CorruptFileError(f"{url}, the table of files, is missing", url=url) from exc
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptFileError(f"{url} is damaged: it does not match its checksum", url=url)
    return FileTable.from_parquet(data, url, most_rows=state.most_files)
