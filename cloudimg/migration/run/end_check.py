"""The last check of a copy: one listing is held against the records, by name, size and version.

It finds what was replaced or deleted after it was stored, which a writer can do that the store does
not refuse: one that deletes, or one that does not ask for the condition. The check takes constant
memory. The listing is made beside the last requests, since it needs only what the cells stored;
metadata is compared as far as it was listed by then. Only where it differs is everything listed
once more, and then the records are read again, to find out which objects differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from cloudimg.errors import CorruptFileError, StorageError, counted
from cloudimg.migration.journal.clearing import delete_all
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import ObjectSet, ObjectVersions, RecordsDigest
from cloudimg.migration.journal.layout import PLAN, JournalKind, journal_kind
from cloudimg.migration.journal.records import cell_of, read_records, record_key
from cloudimg.migration.journal.sealing import checksum, get_sealed
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import StoredObject
from cloudimg.migration.metadata.originals import FOLDER, part_key
from cloudimg.migration.plan.places import Place, place_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.changed_cells import forget_cells
from cloudimg.migration.run.contents import replaced_objects
from cloudimg.storage import Entry, IncompleteListingError, engine

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


class _Listed:
    """What a listing of a destination has, in constant memory beside its metadata."""

    def __init__(self, plan: Plan, documents: Collection[str]) -> None:
        self._plan = plan
        self._names = frozenset(documents)
        self._versions = ObjectVersions()
        self._documents: dict[str, Entry] = {}
        self._stored_plan: Entry | None = None

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Add listed objects."""
        for entry in entries:
            if entry.key == PLAN:
                self._stored_plan = entry
            if entry.key in self._names:
                self._documents[entry.key] = entry
            elif _is_of_copy(self._plan, entry.key):
                self._versions.add(*_as_recorded(entry))

    def has_plan(self, state: State) -> bool:
        """Whether the plan was listed, as far as both versions of it are known."""
        stored = self._stored_plan
        return stored is not None and (
            None in (stored.etag, state.etag) or stored.etag == state.etag
        )

    def agrees(
        self, records: RecordsDigest, documents: Sequence[StoredObject], *, has_documents: bool
    ) -> bool:
        """Whether the objects are those of the records, and the metadata is that of the documents.

        Without `has_documents`, metadata may not have been stored yet when it was listed.
        """
        for stored in documents:
            entry = self._documents.get(stored.key)
            if entry is None:
                if has_documents:
                    return False
                continue
            found = ((entry.size_bytes, stored.size_bytes), (entry.etag, stored.etag))
            # Some stores list objects without sizes or versions.
            if any(a != b for a, b in found if None not in (a, b)):
                return False
        return records.versions.agrees(self._versions)


class EndListing:
    """A listing of a destination in the background, begun once all cells are stored.

    Parameters
    ----------
    destination : Destination
    plan : Plan
    documents : collection of str
        Keys of the metadata, which may be stored meanwhile.
    """

    def __init__(self, destination: Destination, plan: Plan, documents: Collection[str]) -> None:
        self._listed = _Listed(plan, documents)
        self._end_checks: list[Future[None]] = []
        entries = destination.list(end_checks=self._end_checks, coming=documents)
        self._reading = engine().fetch(partial(self._listed.add_all, entries))

    def agrees(
        self, state: State, records: RecordsDigest, documents: Sequence[StoredObject]
    ) -> bool:
        """Whether what was listed is what was stored; see `hold_against_listing`."""
        self._reading.result()
        is_listing = self._listed.has_plan(
            state
        )  # and not an error that looks like an empty listing
        return is_listing and self._listed.agrees(records, documents, has_documents=False)

    def has_ended(self) -> bool:
        """Whether the listing lacks nothing at its end, which is asked for beside other requests.

        If it lacks something, that can only be objects that the copy did not store.
        """
        try:
            for check in self._end_checks:
                check.result()
        except IncompleteListingError:
            return False
        return True


def hold_against_listing(
    destination: Destination,
    state: State,
    records: RecordsDigest,
    documents: Sequence[StoredObject],
    listing: EndListing | None = None,
    *,
    is_last: bool,
) -> None:
    """Check that a destination holds what was stored there, before the copy counts as finished.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    state : State
        As it is stored.
    records : RecordsDigest
        All commit records.
    documents : sequence of StoredObject
        The metadata that was stored by now.
    listing : EndListing, optional
        A listing that was begun before all of the metadata was stored.
    is_last : bool
        Raise a StorageError instead of having cells done again.

    Raises
    ------
    CellsToRepeatError
        If something is missing or was replaced. Its cells have no commit records now.
    StorageError
        If that happens again, or there are objects among the copy's that it did not store.
    """
    if listing is not None and listing.agrees(state, records, documents):
        return
    if _agrees(destination, state, records, documents):
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
    state: State,
    records: RecordsDigest,
    documents: Sequence[StoredObject],
) -> bool:
    listed = _Listed(state.plan, {stored.key for stored in documents})
    listed.add_all(destination.list())
    if not (listed.has_plan(state) or _is_planned(destination, state)):
        url = destination.display(PLAN)
        raise StorageError(
            f"{url}, the plan of this migration, was deleted or replaced meanwhile", url=url
        )
    return listed.agrees(records, documents, has_documents=True)


def _is_planned(destination: Destination, state: State) -> bool:
    """Whether the stored plan is this one, though it may have another version, as after a move."""
    with suppress(CorruptFileError):
        content = get_sealed(destination, PLAN)
        return content is not None and checksum(content) == state.sha256
    return False


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
    is_listed = ObjectSet.of(destination.list()).has
    found = _Differences([set() for _ in plan.stages])
    known = {stored.key for stored in documents}

    def check(objects: Iterable[StoredObject]) -> bool:
        is_right = True
        for stored in replaced_objects(destination, is_listed, objects):
            found.add(stored.key)
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
