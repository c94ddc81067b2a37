"""Let a finished copy grow: take its plan for more files, before any of them is copied.

1. Delete the end mark: the copy is an unfinished one from here on, which the same call continues.
2. Delete the commit records of cells for which files came late, which are done again.
3. Replace the plan by one that is longer. Cells keep their numbers, and records stay valid.

Then the run does what is left, as any other. Readers see the copy as it was until its documents are
replaced, see `cloudimg.migration.run.grown_documents`.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files, table_key
from cloudimg.migration.journal.layout import END_MARK
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_plan import complete_plan, replace_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.advice import facts_with_advice
from cloudimg.migration.run.changed_cells import forget_cells
from cloudimg.migration.run.committed import committed_cells
from cloudimg.migration.run.contents import compare_documents
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.growth import Growth, growth_between
from cloudimg.migration.run.planning import OpenWriteInput, Planned
from cloudimg.migration.run.write_input import WriteInput

_NEWER = ("newer-files", "other-files-now")
"""Kinds of notes about files that are there and not in the copy."""


def has_newer_files(notes: tuple[str, ...]) -> bool:
    """Whether notes of a migration say that there are files which the copy does not have."""
    return any(isinstance(note, Note) and note.kind in _NEWER for note in notes)


def grow(
    state: State,
    open_write_input: OpenWriteInput,
    destination: Destination,
    lease: Lease,
) -> Planned | None:
    """Take the plan of a finished copy for the files that are there now.

    Parameters
    ----------
    state : State
        Of a finished copy that may grow.
    open_write_input : callable
    destination : Destination
        Guarded by the lease.
    lease : Lease

    Returns
    -------
    Planned or None
        The longer migration; None if the source has no further files.

    Raises
    ------
    ArgumentError
        If the source did not just get more files along the growing axis.
    StorageError, LeaseError
    """
    found = found_growth(state, open_write_input, destination)
    if found is None:
        return None
    write_input, growth = found
    plan = state.plan.grown(growth.length)
    facts = facts_with_advice(write_input, plan, state.request).following(state.facts)
    facts = replace(facts, name=state.facts.name, provenance=state.facts.provenance)
    now = write_input.source
    source = {
        **state.source,
        **{name: now[name] for name in ("shape", "fingerprint", "arrangement", "files")},
        "open": {**state.source["open"], "bad": now["open"]["bad"]},
    }
    written = _edited_documents(destination, state) if growth.late else None
    grown = state.grown(plan, source, facts, written=written)
    if not (state.fences and lease.fences):
        grown = grown.without_fence()
    complete_plan(destination, state)
    destination.delete([END_MARK])
    if growth.late:
        forget_cells(destination, state.plan, [_cells_at(state.plan, growth.late)])
    stored = replace_plan(destination, grown, write_input.files)
    if stored.files_sha256 != state.files_sha256:
        destination.delete([table_key(state.files_sha256)])
    plan_put: Future[State] = Future()
    plan_put.set_result(stored)
    return Planned(stored, write_input, True, plan_put)


def found_growth(
    state: State, open_write_input: OpenWriteInput, destination: Destination
) -> tuple[WriteInput, Growth] | None:
    """The source of a finished copy as it is now, and its further files; None if it has none.

    Raises
    ------
    ArgumentError
        If the source did not just get more files along the growing axis.
    StorageError
    """
    write_input = open_write_input(None)
    write_input = write_input.mapped(is_plate=state.plan.plate is not None)
    growth = growth_of(state, write_input, destination)
    return None if growth is None else (write_input, growth)


def _edited_documents(destination: Destination, state: State) -> dict[str, str] | None:
    """The documents of a finished copy that others edited, as they were written; None: not known.

    A listing does not show edits that leave the size of a document as it was.
    """
    committed = committed_cells(destination, state)
    if committed is None:
        return None
    written = dict(committed.documents(state.facts, destination))
    edited = {each.key for each in compare_documents(destination, written)}
    return {key: data.decode(errors="replace") for key, data in written.items() if key in edited}


def growth_of(state: State, write_input: WriteInput, destination: Destination) -> Growth | None:
    """Which files came since a copy was planned; writes nothing.

    Raises
    ------
    ArgumentError
    """
    files, now, url = get_files(destination, state), write_input.source, destination.url
    assert files is not None
    assert write_input.files is not None
    assert state.plan.grow is not None
    was = state.source
    axis = was["dims"].index(state.plan.grow)
    for what, before, found in (
        ("axes", was["dims"], now["dims"]),
        ("type of pixels", was["dtype"], now["dtype"]),
        ("shape of an index", _without(was["shape"], axis), _without(now["shape"], axis)),
    ):
        if before != found:
            raise ArgumentError(
                f"{url} cannot grow: the source's {what} was {before} and is {found} now. Copy it"
                " to another destination",
                url=url,
            )
    if not EarlierSource(was, files).has_options(now["open"]):
        raise ArgumentError(
            f"{url} cannot grow: its source was opened with other arguments, {was['open']}", url=url
        )
    return growth_between(files, write_input.files(), state.plan, now["shape"][axis], url)


def _without(shape: list[int], axis: int) -> list[int]:
    return [*shape[:axis], *shape[axis + 1 :]]


def _cells_at(plan: Plan, indices: tuple[int, ...]) -> set[int]:
    """Numbers of the cells of stage 0 at some indices of the growing axis, its slowest one."""
    n_of_each = plan.n_cells(0) // plan.stages[0].grid[plan.dims.index(plan.grow or "")]
    numbers = np.add.outer(np.array(indices) * n_of_each, np.arange(n_of_each))
    return set(numbers.ravel().tolist())
