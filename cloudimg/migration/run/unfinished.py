"""Which cells earlier runs left unfinished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cloudimg.migration.journal.clearing import delete_all
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.records import (
    CommitRecord,
    lists_own_objects,
    read_records,
    record_key,
)
from cloudimg.migration.journal.state import State
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.changed_cells import forget_cells, forget_documents, held_against
from cloudimg.migration.run.committed import CommittedCells
from cloudimg.migration.run.source_rows import SourceRows


def unfinished_cells(
    destination: Destination,
    state: State,
    inventory: Inventory | None,
    committed: CommittedCells,
    source: SourceRows | None,
) -> list[list[int]]:
    """Numbers of the cells that are left to do, by stage.

    Objects of other migrations that are found on the way are deleted, and so are the commit
    records of cells that have read files which were replaced since.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    state : State
    inventory : Inventory, optional
        What is there; None if nothing is.
    committed : CommittedCells
        The finished cells are added to it.
    source : SourceRows, optional
        The files of the source as they were opened; None if there are none.

    Raises
    ------
    StorageError, LeaseError
    """
    plan = state.plan
    unfinished: list[list[int]] = []
    trusted = inventory
    for stage in range(len(plan.stages)):
        if trusted is None:
            unfinished.append(list(range(plan.n_cells(stage))))
            continue
        numbers, foreign = _check_stage(
            destination, state, trusted, stage, committed, None if stage else source
        )
        unfinished.append(numbers)
        if foreign:
            forget_documents(destination, state, trusted)
            _delete_foreign(destination, plan, trusted, foreign)
            # Cells of later stages may have been made from foreign objects.
            trusted = None
    return unfinished


def _check_stage(
    destination: Destination,
    state: State,
    inventory: Inventory,
    stage: int,
    committed: CommittedCells,
    source: SourceRows | None,
) -> tuple[list[int], list[CommitRecord]]:
    """Cells of a stage that are left to do, and commit records that belong to another plan."""
    is_finished = inventory.recorded_cells(stage)
    foreign: list[CommitRecord] = []
    recorded = (int(number) for number in np.flatnonzero(is_finished))
    changed: set[int] = set()
    records = read_records(destination, stage, recorded)
    for number, record, is_changed in held_against(records, source):
        if record is not None and record.plan_id != state.id:
            foreign.append(replace(record, files=None, sources=None, histograms=()))
            is_finished[number] = False
        elif record is None or not (
            lists_own_objects(record, state.plan, lists_all=state.is_current)
            and all(map(inventory.has, record.objects()))
        ):
            is_finished[number] = False
        elif is_changed:
            is_finished[number] = False
            changed.add(number)
        else:
            committed.add(record)
    if changed:
        forget_documents(destination, state, inventory)
        forget_cells(destination, state.plan, [changed], inventory)
    return [int(number) for number in np.flatnonzero(~is_finished)], foreign


def _delete_foreign(
    destination: Destination,
    plan: Plan,
    inventory: Inventory,
    foreign: Sequence[CommitRecord],
) -> None:
    """Delete what a worker of an earlier migration to the same destination stored too late.

    The foreign commit records are deleted last, so that a killed run finds them again.
    """
    stage = foreign[0].stage
    later_records = [
        record_key(later, int(number))
        for later in range(stage + 1, len(plan.stages))
        for number in np.flatnonzero(inventory.recorded_cells(later))
    ]
    objects = []
    for record in foreign:
        cell = plan.cell(stage, record.number)
        planned = {
            key for output in plan.outputs(cell) for key, _, _ in objects_of(plan, cell, output)
        }
        objects += [stored.key for stored in record.objects() if stored.key in planned]
    foreign_records = [record_key(stage, record.number) for record in foreign]
    for keys in (later_records, objects, foreign_records):
        delete_all(destination, keys)
