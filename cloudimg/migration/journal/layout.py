"""Which objects the journal of a copy consists of, by their keys alone. Pure."""

from __future__ import annotations

from enum import Enum, auto

FORMAT = 3
"""Format number of the journals that this version writes."""
READ_FORMATS = (2, FORMAT)
"""Format numbers of finished copies that this version reads. Those of format 2 may lack objects of
empty chunks, and their records lack the versions of objects."""

JOURNAL = ".cloudimg"
"""Folder of the journal."""
PLAN = f"{JOURNAL}/plan.json"
"""Key of the plan with everything that decides what is written: the first object of a migration."""
PLAN_COPY = f"{JOURNAL}/plan-copy.json"
"""Key of a second copy of the plan, from which a damaged or lost one is restored. Copies of older
versions have none."""
COLLECTION = f"{JOURNAL}/collection.json"
"""Key of the list of the images of a collection, each of which is a copy of its own in a folder
below: the first object of a migration of all images of a source."""
COLLECTION_COPY = f"{JOURNAL}/collection-copy.json"
"""Key of a second copy of that list."""
CLEARING = f"{JOURNAL}/clearing.json"
"""Key of the mark that the contents are being deleted: the last object that is deleted."""
END_MARK = f"{JOURNAL}/done.json"
"""Key of the end mark: the last object of a migration."""
LEASES = f"{JOURNAL}/lease"
"""Folder of the leases."""
PROBE = f"{LEASES}/probe.json"
"""Key of an object by which parts of a migration, which have no lease, find out whether the store
refuses to replace it. Its content means nothing."""
RECORDS = f"{JOURNAL}/cells"
"""Folder of the commit records."""
TABLES = f"{JOURNAL}/files"
"""Folder of the table of the source's files, and of those of plans that were not stored."""
RETIRED = f"{JOURNAL}/retired"
"""Folder of the list of the files that were retired."""
RETIRED_LIST = f"{RETIRED}/manifest.json"
"""Key of the head of that list."""

ROOT_METADATA = ("zarr.json", ".zmetadata", ".zattrs", ".zgroup", ".zarray")
"""Keys of the metadata with which an image begins, in any version of Zarr. Not of the journal."""


class JournalKind(Enum):
    """What an object of the journal is."""

    PLAN = auto()
    PLAN_COPY = auto()
    CLEARING = auto()
    END_MARK = auto()
    LEASE = auto()
    RECORD = auto()
    """In the folder of the commit records; `cell_of` tells whether it is one of a plan's cells."""
    TABLE = auto()
    RETIRED = auto()
    OTHER = auto()
    """In the folder of the journal, where cloudimg stores no such object."""


_OBJECTS = {
    PLAN: JournalKind.PLAN,
    PLAN_COPY: JournalKind.PLAN_COPY,
    CLEARING: JournalKind.CLEARING,
    END_MARK: JournalKind.END_MARK,
}
_FOLDERS = {
    LEASES: JournalKind.LEASE,
    RECORDS: JournalKind.RECORD,
    TABLES: JournalKind.TABLE,
    RETIRED: JournalKind.RETIRED,
}


def journal_kind(key: str) -> JournalKind | None:
    """What the object with a key is; None if it does not belong to the journal."""
    if not key.startswith(f"{JOURNAL}/"):
        return None
    for folder, kind in _FOLDERS.items():
        if key.startswith(f"{folder}/"):
            return kind
    return _OBJECTS.get(key, JournalKind.OTHER)
