"""Deleting what a destination holds.

Deletes cannot be fenced by conditions everywhere. On local disks only what was moved aside under
the lease is deleted. Elsewhere each batch follows a look at the lease in the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from cloudimg.errors import CorruptFileError, LeaseError, NotFoundError, OccupiedError
from cloudimg.migration.deletion import Deletion
from cloudimg.migration.journal.acquiring import Notify, acquire, has_ended
from cloudimg.migration.journal.collection import read_collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import DestinationContents
from cloudimg.migration.journal.layout import (
    CLEARING,
    COLLECTION,
    COLLECTION_COPY,
    END_MARK,
    FORMAT,
    JOURNAL,
    LEASES,
    PLAN,
    RETIRED_LIST,
    ROOT_METADATA,
    JournalKind,
    journal_kind,
)
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.processes import describe, this_process
from cloudimg.migration.journal.sealing import put_sealed
from cloudimg.storage.local_writing import PASSING
from cloudimg.storage.moving import delete_by_moving, remove

_DELETED_AT_ONCE = 1000


def deletion_at(destination: Destination) -> Deletion:
    """Count what `clear` would delete."""
    n_objects = n_bytes = 0
    for entry in destination.list():
        if not is_kept(entry.key):
            n_objects += 1
            n_bytes += entry.size_bytes or 0
    return Deletion(destination.url, n_objects, n_bytes)


def refuse_beside_another(contents: DestinationContents, destination: Destination) -> None:
    """Refuse to follow a process that may still be deleting the contents.

    It was paused, or cannot be seen from here. Once it goes on, a request to delete that was on its
    way would delete what has been stored since.

    Raises
    ------
    LeaseError
    """
    holder = contents.cleared_by
    if not holder or destination.is_local or has_ended(destination, holder):
        return
    raise LeaseError(
        f"{describe(holder)} began to delete the contents of {destination.url}, and is not known to"
        " have ended: should it go on, it may delete what is stored there now. Choose another"
        " destination, or make sure that the process has ended and pass yes=True",
        url=destination.url,
    )


def clear(destination: Destination, lease: Lease, *, notify: Notify) -> None:
    """Delete everything at a destination except leases.

    A mark says so until all is deleted. If this process is killed, the next migration continues.

    Parameters
    ----------
    destination : Destination
        Guarded by the lease.
    lease : Lease
    notify : callable
        See `acquire`.

    Raises
    ------
    LeaseError
        If another process writes to an image of a collection there.
    OccupiedError
        If the contents include the way back for originals that were retired.
    """
    copies: tuple[Destination, ...] = ()
    with suppress(CorruptFileError):
        collection, _ = read_collection(destination)
        copies = () if collection is None else collection.copies(destination)
    for each in (destination, *copies):
        refuse_retired(each)
    for each in copies:
        with acquire(each, notify=notify):  # nobody writes to an image of a collection alone
            pass
    _put_mark(destination, lease)
    if destination.is_local:
        aside = Path(destination.root, JOURNAL, f"{lease.owner}{PASSING}")
        with lease.writing():
            check = partial(lease.check, in_store=True)
            check()
            delete_by_moving(_paths(destination), aside, check)
            for path in (*destination.links(), *leftovers(destination)):
                remove(path)
    # First the objects that readers look for, so that half an image is not mistaken for a whole.
    destination.delete((PLAN, COLLECTION, COLLECTION_COPY, END_MARK, *ROOT_METADATA))
    delete_all(destination, (entry.key for entry in destination.list() if not is_kept(entry.key)))
    destination.delete([CLEARING])


def refuse_retired(destination: Destination) -> None:
    """Refuse to delete a copy that has the way back for originals that were retired.

    Raises
    ------
    ArgumentError
    """
    try:
        destination.info(RETIRED_LIST)
    except NotFoundError:
        return
    raise OccupiedError(
        f"the originals of {destination.url} were retired, and the copy has the list with the way"
        f" back ({destination.display(RETIRED_LIST)}): bring them back with"
        " cloudimg.retire(..., undo=True), or move the copy away",
        url=destination.url,
    )


def _put_mark(destination: Destination, lease: Lease) -> None:
    """Store a mark that the holder of the lease deletes the contents."""
    holder = {**this_process(), "number": lease.number, "owner": lease.owner}
    put_sealed(destination, CLEARING, {"format": FORMAT, "state": "clearing", **holder})


def is_kept(key: str) -> bool:
    """Whether `clear` leaves an object until all others are deleted, or for good."""
    return journal_kind(key) in (JournalKind.CLEARING, JournalKind.LEASE)


def _paths(destination: Destination) -> Iterator[Path]:
    """What `clear` deletes from a local folder, with whole folders; the plan first."""
    root = Path(destination.root)
    journal = root / JOURNAL
    keys = (PLAN, COLLECTION, COLLECTION_COPY, *ROOT_METADATA)
    first = [path for key in keys if os.path.lexists(path := root / key)]
    yield from first
    kept = {journal, root / LEASES, root / CLEARING, *first}
    for folder in (root, journal):
        with os.scandir(folder) as items:
            paths = [Path(item.path) for item in items]
        for path in paths:
            if path not in kept and not path.name.endswith(PASSING):
                yield path


def delete_all(destination: Destination, keys: Iterable[str]) -> None:
    """Delete any number of objects, in batches."""
    remaining = iter(keys)
    while batch := list(islice(remaining, _DELETED_AT_ONCE)):
        destination.delete(batch)


def leftovers(destination: Destination) -> list[Path]:
    """What killed processes left in a local folder, and listings omit.

    Temporary files of writes, and folders with what was moved aside.
    """
    if not destination.is_local:
        return []
    found = []
    for folder, folders, names in os.walk(destination.root):
        if folder != destination.root and JOURNAL in folders:
            folders.clear()  # another copy, which is perhaps being written: labels of this one
            continue
        found += [
            Path(folder, name) for name in sorted((*folders, *names)) if name.endswith(PASSING)
        ]
    return found


def remove_leftovers(destination: Destination) -> None:
    """Delete what killed processes left in a local folder."""
    for path in leftovers(destination):
        remove(path)
