"""Whether a migration can go on after files of its source were replaced.

Files that were bad have kept their cells from being finished. Once they are mended, the source is
another one than was planned, but all that finished cells have read is the same.
"""

from __future__ import annotations

from cloudimg.discovery.table import FileTable, replaced_names
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import CommitRecord, read_records
from cloudimg.migration.journal.state import State
from cloudimg.storage import unsigned


def only_unread_files_changed(
    destination: Destination, state: State, before: FileTable, now: FileTable
) -> bool:
    """Whether files were replaced, and no finished cell has used any of them.

    Parameters
    ----------
    destination : Destination
    state : State
        An unfinished migration.
    before, now : FileTable
        The files when it was planned, and as they are now.

    Raises
    ------
    StorageError
    """
    replaced = replaced_names(before, now)
    if not replaced:
        return False  # other files, or a change that the table does not show
    changed = set(map(_key, replaced))
    known = {_key(name) for chunk in now.keys.chunks for name in chunk.to_pylist()}
    records = read_records(destination, 0, range(state.plan.n_cells(0)))
    return all(
        record is None or record.plan_id != state.id or _is_valid(record, changed, known)
        for _, record in records
    )


def _is_valid(record: CommitRecord, changed: set[str], known: set[str]) -> bool:
    """Whether a finished cell has used none of the files that changed."""
    if any(file.kind != "missing" for file in record.filled):
        return False  # perhaps one of those
    keys = {_key(unsigned(f"https://{key}")) for key in record.sources}
    # A name that the table does not have may be written in another way.
    return keys <= known and not keys & changed


def _key(name: str) -> str:
    """The key of a file, as commit records have it."""
    return name.partition("://")[2] or name
