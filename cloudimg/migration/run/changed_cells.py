"""Finished cells that are done again, such as those that have read files which were replaced.

Their commit records are deleted before anything else, those of the last stage first, so that a
process that is killed at any point leaves cells without records, which the next one does again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product

import numpy as np

from cloudimg.migration.journal.clearing import delete_all
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.records import CommitRecord, record_key
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.source_xml import SourceXml
from cloudimg.migration.plan.objects import cell_storing
from cloudimg.migration.plan.overview import overview_keys
from cloudimg.migration.plan.places import SOURCE_XML
from cloudimg.migration.plan.plan import Cell, Plan
from cloudimg.migration.run.source_rows import SourceRows

_CHECKED_AT_ONCE = 64
"""Commit records whose files are asked for at once."""


Numbered = tuple[int, CommitRecord | None]


def held_against(
    records: Iterable[Numbered], source: SourceRows | None
) -> Iterator[tuple[int, CommitRecord | None, bool]]:
    """Yield commit records, each with whether its cell has read files that were replaced since.

    Parameters
    ----------
    records : iterable
        Numbers of cells of stage 0 with their commit records.
    source : SourceRows, optional
        The files as they were opened; None if nothing is to be compared.

    Raises
    ------
    StorageError
    """
    if source is None:
        yield from ((number, record, False) for number, record in records)
        return
    versions = source.as_opened()
    remaining = iter(records)
    while batch := list(islice(remaining, _CHECKED_AT_ONCE)):
        read = [None if record is None else source.read_by(record) for _, record in batch]
        rows = [each[0] for each in read if each is not None]
        if rows:
            versions.ask(np.unique(np.concatenate(rows)))
        for (number, record), each in zip(batch, read, strict=True):
            yield number, record, each is not None and len(versions.changed(*each)) > 0


def forget_cells(
    destination: Destination,
    plan: Plan,
    cells: Sequence[set[int]],
    inventory: Inventory | None = None,
) -> None:
    """Delete the commit records of cells, and of those that were made from them.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    plan : Plan
    cells : sequence of set
        Numbers of cells by stage; later stages may be left out.
    inventory : Inventory, optional
        Which cells have records; they lose them in it, too. By default, all cells have one.

    Raises
    ------
    StorageError, LeaseError
    """
    by_stage = [cells[0]]
    for stage in range(1, len(plan.stages)):
        own = cells[stage] if stage < len(cells) else set()
        by_stage.append(own | set(_made_from(plan, stage, by_stage)))
    for stage, numbers in reversed(list(enumerate(by_stage))):
        forgotten = sorted(numbers)
        if inventory is not None:
            recorded = inventory.recorded_cells(stage)
            forgotten = [number for number in forgotten if recorded[number]]
        delete_all(destination, (record_key(stage, number) for number in forgotten))
        if inventory is not None:
            inventory.forget_records(stage, forgotten)


def forget_documents(destination: Destination, state: State, inventory: Inventory) -> None:
    """Delete the metadata that an earlier run stored, since it describes other pixels.

    It would be taken for metadata that others edited, which is kept.

    Raises
    ------
    StorageError, LeaseError
    """
    if inventory.has_documents and state.plan.grow is None:  # others are replaced when they differ
        of_sources = [entry.key for entry in destination.list(SOURCE_XML)]
        # With any OME-XML of the source, so that the group of it is among them.
        any_xml = [SourceXml(b"", ((0, ""),))] if of_sources else []
        others = [key for key, _ in documents(state.plan, state.facts, {}, any_xml)]
        delete_all(destination, [*of_sources, *overview_keys(state.plan), *others])


def _made_from(plan: Plan, stage: int, changed: list[set[int]]) -> Iterator[int]:
    """Numbers of the cells of a stage that read what cells of earlier stages have stored."""
    for number in range(plan.n_cells(stage)):
        cells = cells_below(plan, plan.cell(stage, number))
        if any(before in changed[of_stage] for of_stage, before in cells):
            yield number


def cells_below(plan: Plan, cell: Cell) -> Iterator[tuple[int, int]]:
    """Stages and numbers of the cells that stored what a cell of a later stage reads."""
    level = plan.stages[cell.stage].input_level
    assert level is not None  # only the first stage reads the source
    ranges = [
        range(part.start // n, -(-part.stop // n))
        for part, n in zip(cell.region, plan.stored_shape(level), strict=True)
    ]
    for image, index in product(cell.images, product(*ranges)):
        yield cell_storing(plan, level, image, index)
