"""Mend one cell of a copy: from what is left of it, from the level below, or from the source.

Nothing is deleted or replaced before the pixels that the cell should have are known. They are known
if the copy still has them with the checksums in the cell's commit record, if the source has pixels
with these checksums, or if the source files are those that were copied.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.file_versions import versions_listed
from cloudimg.discovery.table import FileTable
from cloudimg.errors import CloudimgError, CorruptFileError
from cloudimg.migration.journal.records import (
    CommitRecord,
    lists_own_objects,
    read_record,
)
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.cell import Job, restore_cell, store_cell
from cloudimg.migration.run.cell_files import CellFiles
from cloudimg.migration.run.changed_cells import cells_below
from cloudimg.migration.run.copied_files import CopiedFiles
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.inputs import Input, LevelInput
from cloudimg.migration.verify.check_cell import check_cell
from cloudimg.migration.verify.findings import Checks, Findings
from cloudimg.migration.verify.stored_pixels import bits_of, read_level, read_stored

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class OriginalSource:
    """The source of a copy, opened again. Picklable if its pixels are."""

    pixels: Input | DaskInput
    is_same: bool
    """Whether it has the files, or is the array, that was copied."""
    rows: npt.NDArray[np.int64]
    """Positions of the files in C order of the grid, increasing."""
    versions: npt.NDArray[np.uint64]
    """Their versions when they were copied, see `cloudimg.discovery.file_versions`; 0: unknown."""

    @classmethod
    def of(
        cls, pixels: Input | DaskInput, files: FileTable | None, *, is_same: bool
    ) -> OriginalSource:
        """Return the source, whose files are those of the stored table if it is the same one."""
        if files is None:
            return cls(pixels, is_same, np.zeros(0, np.int64), np.zeros(0, np.uint64))
        return cls(pixels, is_same, files.rows, versions_listed(files.etags, files.sizes))

    def changed(self, files: CellFiles) -> list[str]:
        """Keys of the files of a cell that are not those that were copied."""
        found = []
        for row, version in sorted(files.versions.items()):
            at = int(np.searchsorted(self.rows, row))
            is_listed = at < len(self.rows) and self.rows[at] == row
            if not is_listed or self.versions[at] not in (0, version):
                found.append(files.key(row))
        return found


@dataclass(frozen=True, slots=True)
class MendedCell:
    """What became of a cell that had problems."""

    number: int
    """Number of the cell in its stage."""
    made_from: str = ""
    """What it was made from again; empty if there was nothing to do, or nothing could be done."""
    failure: str = ""
    """Why it could not be mended."""
    needs_source: bool = False
    """Whether it can be mended from the source only."""


def mend_from_copy(job: Job, checks: Checks, stage: int, number: int) -> MendedCell:
    """Mend a cell from what the copy has.

    Parameters
    ----------
    job : Job
        Of a repair.
    checks : Checks
        What to compare the cell with.
    stage, number : int

    Raises
    ------
    StorageError, LeaseError
    """
    cell = job.plan.cell(stage, number)
    if stage > 0:
        return _mend_from_level_below(job, checks, cell)
    record = _record_of(job, cell)
    pixels = None if record is None else _stored_pixels(checks, cell, record)
    if record is None or pixels is None:
        return MendedCell(number, needs_source=True)
    restore_cell(_knowing(job, record), cell, pixels, record)
    return MendedCell(number, made_from="its level 0")


def mend_from_source(job: Job, checks: Checks, source: OriginalSource, number: int) -> MendedCell:
    """Mend a cell of stage 0 from the source.

    Raises
    ------
    StorageError, LeaseError
        The copy cannot be read or written. That the source cannot is part of the result.
    """
    cell = job.plan.cell(0, number)
    of_files = None if isinstance(source.pixels, DaskInput) else source.pixels
    files = CopiedFiles(of_files, cell)
    try:
        pixels = source.pixels.read(cell, files)
        files.refuse()
    except CloudimgError as exc:
        return MendedCell(number, failure=f"its source cannot be read: {exc.message}")
    if files.filled.are_refused():
        shown = "; ".join(map(str, files.filled.files()[:3]))
        return MendedCell(number, failure=f"its source cannot be read: {shown}")
    record = _record_of(job, cell)
    changed = source.changed(files) if source.is_same else []
    if source.is_same and not changed:
        store_cell(_knowing(job, record), cell, pixels, None if of_files is None else files)
        return MendedCell(number, made_from="the source")
    if record is None or not _has_part(checks, cell, record):
        which = f" ({', '.join(changed[:3])})" if changed else ""
        what = f"its source changed since it was copied{which}, and its commit record or its part"
        return MendedCell(number, failure=f"{what} of the table of originals is damaged")
    if _digest(pixels) != record.levels[0].pixels_sha256:
        which = f": {', '.join(changed[:3])}" if changed else ""
        return MendedCell(number, failure=f"its source has other pixels than were copied{which}")
    restore_cell(_knowing(job, record), cell, pixels, record)
    return MendedCell(number, made_from="the source")


def _mend_from_level_below(job: Job, checks: Checks, cell: Cell) -> MendedCell:
    """Mend a cell of a later stage, if it still has problems."""
    if not check_cell(checks, cell.stage, cell.number).problems:
        return MendedCell(cell.number)  # those were of the level below
    level = job.plan.stages[cell.stage].input_level
    assert level is not None  # only the first stage reads the source
    if not _is_whole_below(job, checks, cell, level):
        return MendedCell(cell.number, failure=f"level {level}, of which it is made, is damaged")
    pixels = LevelInput(job.plan, job.destination, level).read(cell)
    store_cell(_knowing(job, _record_of(job, cell)), cell, pixels)
    return MendedCell(cell.number, made_from=f"level {level}")


def _is_whole_below(job: Job, checks: Checks, cell: Cell, level: int) -> bool:
    """Whether the cells below a cell have what they stored at a level, by their checksums."""
    findings = Findings(checks, (cell.stage, cell.number))
    for stage, number in set(cells_below(job.plan, cell)):
        record = _record_of(job, job.plan.cell(stage, number))
        if record is None:
            return False
        for stored_level in record.levels:
            if stored_level.level == level:
                for stored in stored_level.objects:
                    read_stored(findings, stored)
    return not findings.problems


def _record_of(job: Job, cell: Cell) -> CommitRecord | None:
    """The commit record of a cell; None if it is missing, damaged or of another migration."""
    try:
        record = read_record(job.destination, cell.stage, cell.number)
    except CorruptFileError:
        return None
    if record is None or record.plan_id != job.plan_id:
        return None
    return record if lists_own_objects(record, job.plan, lists_all=True) else None


def _knowing(job: Job, record: CommitRecord | None) -> Job:
    """A job that keeps the objects that a commit record lists, if they are whole."""
    listed = () if record is None else record.objects()
    return replace(job, recorded={stored.key: stored.sha256 for stored in listed})


def _stored_pixels(checks: Checks, cell: Cell, record: CommitRecord) -> Array | None:
    """Pixels of level 0 that a cell stored; None if they, or its originals, are damaged."""
    findings = Findings(checks, (cell.stage, cell.number))
    pixels = read_level(findings, cell, checks.plan.outputs(cell)[0], record)
    return None if findings.problems or not _has_part(checks, cell, record) else pixels


def _has_part(checks: Checks, cell: Cell, record: CommitRecord) -> bool:
    """Whether the part of the table of originals is there that a commit record lists, if any."""
    if record.originals is None:
        return True
    findings = Findings(checks, (cell.stage, cell.number))
    return read_stored(findings, record.originals) is not None and not findings.problems


def _digest(pixels: Array) -> str:
    return hashlib.sha256(bits_of(pixels).data).hexdigest()
