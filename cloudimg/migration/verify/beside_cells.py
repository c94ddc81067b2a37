"""What a copy holds beside its cells: the second plan, and objects that do not belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cloudimg.errors import CorruptFileError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import PLAN_COPY, JournalKind, journal_kind
from cloudimg.migration.journal.records import cell_of, read_records
from cloudimg.migration.journal.sealing import checksum, get_sealed
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.edits import Flaw
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.contents import Listed


def flaw_of_plan_copy(destination: Destination, state: State) -> str:
    """What is wrong with the second copy of the plan; empty if nothing is.

    Copies of older versions have none.
    """
    finished_with = "" if state.end_mark is None else state.end_mark.plan_sha256
    try:
        content = get_sealed(destination, PLAN_COPY)
    except CorruptFileError as exc:
        return exc.message
    if content is None:
        return "the second copy of the plan is missing" if finished_with else ""
    is_same = checksum(content) == (finished_with or state.sha256)
    return "" if is_same else "is not a copy of the plan"


def flaws_of_retired(destination: Destination, keys: Iterable[str]) -> Iterator[Flaw]:
    """What is damaged of the list with the way back of retired files."""
    for key in keys:
        try:
            get_sealed(destination, key)
        except CorruptFileError as exc:
            yield Flaw(key, exc.message)


def sorted_listing(
    destination: Destination, plan: Plan, listed: Listed, retired: list[str]
) -> Iterator[Flaw]:
    """List a copy: yield what does not belong to the journal, and add all else to `listed`.

    Keys of the list of retired files are added to `retired`.
    """
    for entry in destination.list():
        kind = journal_kind(entry.key)
        if kind is JournalKind.RETIRED:
            retired.append(entry.key)
        elif kind is None:
            listed.add(entry.key)
        elif not _is_of_journal(entry.key, plan):
            yield Flaw(entry.key, "does not belong to the journal")


def _is_of_journal(key: str, plan: Plan) -> bool:
    # Beside a plan, the mark of who may not delete, or stored it late, means nothing.
    kind = journal_kind(key)
    if kind is JournalKind.RECORD:
        return cell_of(key, plan) is not None
    return kind is not JournalKind.OTHER


def known_keys(destination: Destination, plan: Plan) -> Iterator[str]:
    """Keys of all objects that commit records list."""
    for stage in range(len(plan.stages)):
        for _, record in read_records(destination, stage, range(plan.n_cells(stage))):
            if record is not None:
                yield from (stored.key for stored in record.objects())
