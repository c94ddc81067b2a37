"""The last check of a copy: one listing is held against the records, by name, size and version.

It finds what was replaced or deleted after it was stored, which a writer can do that the store does
not refuse: one that deletes, or one that does not ask for the condition. The check takes constant
memory. Only where the listing differs are the records read again, to find out which objects differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from cloudimg.errors import NotFoundError, StorageError, counted
from cloudimg.migration.journal.clearing import delete_all
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import ObjectSet, ObjectVersions, RecordsDigest
from cloudimg.migration.journal.layout import PLAN, JournalKind, journal_kind
from cloudimg.migration.journal.records import cell_of, read_records, record_key
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import StoredObject
from cloudimg.migration.metadata.originals import FOLDER, part_key
from cloudimg.migration.plan.places import Place, place_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.changed_cells import forget_cells
from cloudimg.storage import Entry, engine, map_ahead

_READ_AHEAD = 16
_SHOWN = 3


class CellsToRepeatError(Exception):
    """Cells lost their commit records, to be done again; never leaves cloudimg."""


@dataclass(slots=True)
class _Differences:
    """How a destination differs from what was stored there."""

    cells: list[set[int]]
    """By stage, numbers of cells whose record or objects are missing or were replaced."""
    names: list[str] = field(default_factory=list)
    """Keys of the first objects that are missing or were replaced."""
    n_different: int = 0
    """Number of these objects."""
    foreign: list[str] = field(default_factory=list)
    """Keys of the first objects among the copy's that it did not store."""
    n_foreign: int = 0
    """Number of these objects."""

    def add(self, key: str) -> None:
        """Add an object that is missing or was replaced."""
        self.n_different += 1
        if len(self.names) < _SHOWN:
            self.names.append(key)


def hold_against_listing(
    destination: Destination,
    state: State,
    records: RecordsDigest,
    documents: Sequence[StoredObject],
    *,
    is_last: bool,
) -> None:
    """Check that a destination holds what was stored there, before the copy counts as finished.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    state : State
    records : RecordsDigest
        All commit records.
    documents : sequence of StoredObject
        The metadata that was stored by now.
    is_last : bool
        Raise a StorageError instead of having cells done again.

    Raises
    ------
    CellsToRepeatError
        If something is missing or was replaced. Its cells have no commit records now.
    StorageError
        If that happens again, or there are objects among the copy's that it did not store.
    """
    if _agrees(destination, state.plan, records, documents):
        return
    found = _find_differences(destination, state, records, documents)
    if found.n_foreign:
        shown = ", ".join(map(destination.display, found.foreign))
        raise StorageError(
            f"{destination.url} is incomplete: {counted(found.n_foreign, 'object')} among those of"
            f" the copy {'was' if found.n_foreign == 1 else 'were'} not stored by this migration"
            f" ({shown}). Another program writes there: stop it, delete what it stored, and run the"
            " same migration again",
            url=destination.url,
        )
    if not found.n_different:
        return
    shown = ", ".join(map(destination.display, found.names))
    if is_last:
        raise StorageError(
            f"{destination.url} is incomplete: {counted(found.n_different, 'object')} that this"
            f" migration stored twice {'is' if found.n_different == 1 else 'are'} missing or"
            f" replaced ({shown}). Another program writes there: stop it, and run the same"
            " migration again",
            url=destination.url,
        )
    forget_cells(destination, state.plan, found.cells)
    raise CellsToRepeatError(
        f"{counted(found.n_different, 'object')} that this migration stored"
        f" {'is' if found.n_different == 1 else 'are'} missing or replaced ({shown}): storing"
        f" {'it' if found.n_different == 1 else 'them'} again. Another program may be writing there"
    )


def _agrees(
    destination: Destination,
    plan: Plan,
    records: RecordsDigest,
    documents: Sequence[StoredObject],
) -> bool:
    expected, listed = records.versions.copy(), ObjectVersions()
    for stored in documents:
        expected.add(stored.key, stored.size_bytes, stored.etag)
    names = {stored.key for stored in documents}
    has_plan = False
    for entry in destination.list():
        has_plan |= entry.key == PLAN
        if entry.key in names or _is_of_copy(plan, entry.key):
            listed.add(*_as_recorded(entry))
    if not has_plan:
        url = destination.display(PLAN)
        raise StorageError(f"{url}, the plan of this migration, was deleted meanwhile", url=url)
    return expected.agrees(listed)


def _as_recorded(entry: Entry) -> tuple[str, int | None, str | None]:
    """A listed object as it is recorded: without a size for commit records.

    The size of a record depends on the version of zlib.
    """
    is_record = journal_kind(entry.key) is not None
    return entry.key, None if is_record else entry.size_bytes, entry.etag


def _is_of_copy(plan: Plan, key: str) -> bool:
    """Whether a key lies where only objects of the copy belong.

    Others, such as labels or attributes that somebody added, are `verify`'s to report.
    """
    kind = journal_kind(key)
    if kind is None:
        return place_of(plan, key) in (Place.CHUNKS, Place.ORIGINALS)
    return kind in (JournalKind.RECORD, JournalKind.OTHER)


def _find_differences(
    destination: Destination,
    state: State,
    records: RecordsDigest,
    documents: Sequence[StoredObject],
) -> _Differences:
    plan = state.plan
    listed = ObjectSet.of(destination.list())
    found = _Differences([set() for _ in plan.stages])
    known = {stored.key for stored in documents}

    def start(stored: StoredObject) -> Future[tuple[str, bool]]:
        if listed.has(stored):
            future: Future[tuple[str, bool]] = Future()
            future.set_result((stored.key, True))
            return future
        return engine().fetch(partial(_is_as_stored, destination, stored))

    def check(objects: Iterable[StoredObject]) -> bool:
        is_right = True
        for key, is_same in map_ahead(start, objects, n_ahead=_READ_AHEAD):
            if not is_same:
                found.add(key)
                is_right = False
        return is_right

    check(documents)
    for stage, cells in enumerate(found.cells):
        for number, record in read_records(destination, stage, range(plan.n_cells(stage))):
            if record is None or not records.has(stage, number, record):
                found.add(record_key(stage, number))
                cells.add(number)
                continue
            objects = list(record.objects())
            known.update(stored.key for stored in objects)
            if not check(objects):
                cells.add(number)
    if not any(found.cells):
        _find_foreign(destination, plan, known, found)
    return found


def _find_foreign(
    destination: Destination, plan: Plan, known: set[str], found: _Differences
) -> None:
    """Find objects that the copy did not store, and delete those that it stored for nothing.

    A cell that was killed before it was finished, and read other files when it was done again, may
    have left a part of the table of originals.
    """
    left = []
    for entry in destination.list():
        key = entry.key
        if key in known or not _is_of_copy(plan, key) or cell_of(key, plan) is not None:
            continue
        if _is_part(plan, key):
            left.append(key)
            continue
        found.n_foreign += 1
        if len(found.foreign) < _SHOWN:
            found.foreign.append(key)
    delete_all(destination, left)


def _is_part(plan: Plan, key: str) -> bool:
    number = key.removeprefix(f"{FOLDER}/part-").removesuffix(".parquet")
    return number.isdecimal() and key == part_key(int(number)) and int(number) < plan.n_cells(0)


def _is_as_stored(destination: Destination, stored: StoredObject) -> tuple[str, bool]:
    """The key of an object, and whether it has the bytes that were stored.

    Versions differ also where a copy was moved before it was finished.
    """
    try:
        data = destination.get(stored.key)
    except NotFoundError:
        return stored.key, False
    return stored.key, hashlib.sha256(data).hexdigest() == stored.sha256
