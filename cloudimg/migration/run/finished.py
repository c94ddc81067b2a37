"""Check a finished copy that a migration finds: it is whole, edited by others, or damaged.

One listing decides as long as nothing was added or changed: names, sizes, and the versions of what
the cells stored. Only where it differs from the end mark are the commit records and the metadata
read, and the objects that have another version, to name what is missing and what was edited. A copy
that was moved has other versions, and its plan shows that: then only names and sizes are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cloudimg.errors import DamagedCopyError, NotFoundError, counted
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import EndMark, Inventory, ObjectSet
from cloudimg.migration.journal.layout import END_MARK, FORMAT, journal_kind
from cloudimg.migration.journal.records import CommitRecord, read_records, record_key
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import StoredObject
from cloudimg.migration.metadata.edits import Difference, Edit, Edits, Flaw
from cloudimg.migration.plan.places import Place, place_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.committed import CommittedCells
from cloudimg.migration.run.contents import (
    Listed,
    compare_documents,
    keys_beyond,
    replaced_objects,
)

_SHOWN = 5
"""Objects that an error names."""


def edits_of_finished(
    destination: Destination, state: State, end_mark: EndMark, inventory: Inventory
) -> Edits:
    """What others edited in a finished copy; nothing if a listing shows nothing.

    Parameters
    ----------
    destination : Destination
    state : State
    end_mark : EndMark
    inventory : Inventory
        What is there.

    Raises
    ------
    DamagedCopyError
        If objects of the copy are missing or were replaced, if its metadata is damaged, or if there
        are objects among its own that it did not store.
    StorageError
    """
    edits, flaws, n_flaws = Edits(), list[Flaw](), 0
    has_all = end_mark.objects_digest == inventory.own_digest
    is_in_place = bool(state.etag) and state.etag == end_mark.plan_etag
    digests = (end_mark.versions_digest, inventory.versions_digest) if is_in_place else ("", "")
    has_versions = "" in digests or digests[0] == digests[1]
    if inventory.has_others or not (has_all and has_versions):
        is_listed = inventory.has if has_versions else ObjectSet.of(destination.list()).has
        for each in _differences(
            destination, state, end_mark, is_listed, has_all=has_all and has_versions
        ):
            if isinstance(each, Edit):
                edits.add(each)
                continue
            n_flaws += 1
            if len(flaws) < _SHOWN:
                flaws.append(each)
    if n_flaws:
        raise _damaged(destination, state, flaws, n_flaws)
    return edits


def _differences(
    destination: Destination,
    state: State,
    end_mark: EndMark,
    is_listed: Callable[[StoredObject], bool],
    *,
    has_all: bool,
) -> Iterator[Difference]:
    committed, n_stored, knows_all = CommittedCells(state.plan), 0, not has_all
    flaws: list[Flaw] = []

    def stored_objects() -> Iterator[StoredObject]:
        nonlocal n_stored
        for each in _read_all(destination, state):
            if isinstance(each, Flaw):
                flaws.append(each)
                continue
            committed.add(each)
            for stored in each.objects():
                n_stored += 1
                yield stored

    if not has_all:
        for stored in replaced_objects(destination, is_listed, stored_objects()):
            yield Flaw(stored.key, _how(destination, stored))
        if not flaws and committed.records_digest.digest() != end_mark.records_digest:
            flaws.append(Flaw(END_MARK, "the commit records are not those that it was made from"))
        knows_all = not flaws
        yield from flaws
    written = dict(committed.documents(state.facts, destination))
    # Without all commit records, what was written into the metadata is not known.
    if knows_all:
        yield from compare_documents(destination, written)
    listed = Listed(state.plan, written)
    for entry in destination.list():
        if not _is_own(state.plan, entry.key, has_all=has_all):
            listed.add(entry.key)
    yield from listed.differences(destination)
    if knows_all and listed.n_pixels != n_stored:
        records = _read_all(destination, state)
        known = {
            s.key for each in records if isinstance(each, CommitRecord) for s in each.objects()
        }
        for key in keys_beyond(destination, state.plan, known):
            yield Flaw(key, "does not belong to the image")


def _is_own(plan: Plan, key: str, *, has_all: bool) -> bool:
    """Whether an object is of the journal, or of the metadata of a copy that is known to be whole.

    If everything is there, what lies in the places of metadata is the copy's own.
    """
    if journal_kind(key) is not None:
        return True
    return has_all and place_of(plan, key) is Place.DOCUMENT


def _read_all(destination: Destination, state: State) -> Iterator[CommitRecord | Flaw]:
    for stage in range(len(state.plan.stages)):
        numbers = range(state.plan.n_cells(stage))
        for number, record in read_records(destination, stage, numbers):
            if record is None or record.plan_id != state.id:
                yield Flaw(record_key(stage, number), "missing, damaged or of another migration")
            else:
                yield record


def _how(destination: Destination, stored: StoredObject) -> str:
    """How an object differs from what was stored."""
    try:
        size = destination.info(stored.key).size_bytes
    except NotFoundError:
        return "missing"
    if size == stored.size_bytes:
        return "other bytes than were stored"
    return f"{size} bytes instead of {stored.size_bytes}"


def _damaged(
    destination: Destination, state: State, flaws: list[Flaw], n_flaws: int
) -> DamagedCopyError:
    shown = "; ".join(f"{destination.display(flaw.key)}: {flaw.what}" for flaw in flaws)
    more = f"; and {n_flaws - len(flaws)} more" if n_flaws > len(flaws) else ""
    age = ""
    advice = (
        "cloudimg.repair mends what can be mended; overwrite=True deletes the copy and starts over"
    )
    if not state.is_current:
        age = (
            f" It was written by a version of cloudimg with journal format {state.format}, this"
            f" version has format {FORMAT}."
        )
        advice = (
            "restore the objects, let that version complete the copy, or pass overwrite=True to"
            " delete the copy and start over"
        )
    return DamagedCopyError(
        f"the finished copy {destination.url} is damaged:"
        f" {counted(n_flaws, 'problem')} ({shown}{more}). Nothing was written.{age} verify lists"
        f" all problems; {advice}",
        url=destination.url,
    )
