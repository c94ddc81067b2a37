"""Which of the two stored copies of a plan is right, where one is damaged, lost or another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cloudimg.errors import CorruptFileError, DamagedCopyError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import (
    inspect_destination,
    is_being_cleared,
    load,
    state_of,
)
from cloudimg.migration.journal.inventory import EndMark, read_end_mark
from cloudimg.migration.journal.layout import PLAN, PLAN_COPY
from cloudimg.migration.journal.records import read_records
from cloudimg.migration.journal.sealing import checksum, get_sealed_with_etag, seal
from cloudimg.migration.journal.state import State

_ASKED = 16
"""Commit records that are asked which plan they belong to."""


@dataclass(frozen=True, slots=True)
class StoredPlans:
    """The plan of a copy, and what is wrong with the objects that should hold it."""

    state: State
    """The right plan, with the end mark if that is of the same migration."""
    broken: tuple[str, ...]
    """Keys of the copies of the plan that are missing, or are not this plan."""


def read_plans(destination: Destination) -> StoredPlans:
    """Read both copies of the plan of a copy. The end mark says which one is right.

    Raises
    ------
    ArgumentError
        If the destination holds no copy, or one of another journal format.
    CorruptFileError, DamagedCopyError
        If neither is the plan of the copy.
    StorageError
    """
    found = {key: _read(destination, key) for key in (PLAN, PLAN_COPY)}
    plans = [state for state in found.values() if state is not None]
    if not plans:
        return StoredPlans(load(destination), ())  # raises, and says why
    if found[PLAN] is None:
        with suppress(CorruptFileError):
            if inspect_destination(destination).is_clearing:
                raise is_being_cleared(destination)
    end_mark = None
    with suppress(CorruptFileError):
        end_mark = read_end_mark(destination)
    state = _chosen(destination, plans, end_mark)
    if end_mark is not None and end_mark.plan_id == state.id:
        state = replace(state, end_mark=end_mark)
    return StoredPlans(state, tuple(_broken(found, state, end_mark)))


def plan_bytes(destination: Destination, key: str, state: State) -> tuple[bytes, str | None]:
    """Read a copy of the plan that was found to be right once more: its bytes, and its version.

    Raises
    ------
    CorruptFileError
        If it is not that plan now.
    StorageError
    """
    content, etag = get_sealed_with_etag(destination, key)
    if content is None or checksum(content) != state.sha256:
        url = destination.display(key)
        raise CorruptFileError(
            f"{url} is not the plan that it was a moment ago: it was replaced, or its bytes changed"
            " in transit. Nothing was stored in its place; run the same command again",
            url=url,
        )
    return seal(content), etag


def _broken(
    found: Mapping[str, State | None], state: State, end_mark: EndMark | None
) -> Iterator[str]:
    """Keys of the stored plans that are not the right one."""
    # Copies of older versions have one plan, and none of them has its checksum in the end mark.
    has_one = end_mark is not None and not end_mark.plan_sha256
    for key, each in found.items():
        if each is None and key == PLAN_COPY and has_one:
            continue
        if each is None or each.sha256 != state.sha256:
            yield key


def _read(destination: Destination, key: str) -> State | None:
    try:
        content, etag = get_sealed_with_etag(destination, key)
        return None if content is None else state_of(content, etag)
    except (CorruptFileError, KeyError, ValueError):
        return None


def _chosen(destination: Destination, plans: Sequence[State], end_mark: EndMark | None) -> State:
    """The first plan that the migration finished with, or to which its records belong."""
    if end_mark is not None:
        for state in plans:
            if state.id == end_mark.plan_id and state.is_of(end_mark):
                return state
    numbers = range(min(_ASKED, plans[0].plan.n_cells(0)))
    found = [record for _, record in read_records(destination, 0, numbers) if record is not None]
    for state in plans:
        if any(record.plan_id == state.id for record in found):
            return state
    if end_mark is None and not found:
        return plans[0]
    raise DamagedCopyError(
        f"{destination.url} is damaged: neither {destination.display(PLAN)} nor its second copy is"
        " the plan of the image there. Nothing was written: restore the plan, or pass"
        " overwrite=True to a migration to delete the copy and start over",
        url=destination.display(PLAN),
    )
