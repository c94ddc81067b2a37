"""`check_cell`: verify one cell of a copy.

Each object that the cell should have stored is read again and compared with the cell's commit
record, with the level below it and, on request, with the source.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, CorruptFileError, NotFoundError
from cloudimg.errors.notes import Note
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.records import (
    CommitRecord,
    flaws_of_lists,
    lists_own_part,
    read_record,
    record_key,
)
from cloudimg.migration.metadata.originals_from_parquet import rows_of_part
from cloudimg.migration.plan.plan import Cell, nodata_scalar
from cloudimg.migration.run.cell import histograms_of
from cloudimg.migration.run.cell_files import CellFiles
from cloudimg.migration.run.inputs import LevelInput
from cloudimg.migration.verify.expected_level import expected_level
from cloudimg.migration.verify.findings import Checks, Findings
from cloudimg.migration.verify.result import Problem
from cloudimg.migration.verify.stored_pixels import bits_of, read_level, read_stored, same_bits

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCell:
    """Result of checking a cell."""

    number: int
    """Number of the cell in its stage."""
    problems: tuple[Problem, ...] = ()
    """All problems that were found."""
    record: CommitRecord | None = None
    """Commit record without the files that were read; None if it is missing or not valid."""
    n_objects: int = 0
    """Number of objects that the record lists."""
    n_bytes: int = 0
    """Stored bytes that were read."""
    is_compared: bool = False
    """Whether the pixels were compared with the source."""
    digest: bytes = b""
    """Digest of the whole commit record."""
    notes: tuple[Note, ...] = ()
    """What is noticed now about the source files that were compared."""


def check_cell(checks: Checks, stage: int, number: int) -> CheckedCell:
    """Check a cell.

    Raises
    ------
    StorageError
        If the store fails. Problems of the objects are part of the result.
    """
    findings = Findings(checks, (stage, number))
    cell = checks.plan.cell(stage, number)
    record = _read_valid_record(findings, cell)
    if record is None:
        return CheckedCell(number=number, problems=tuple(findings.problems))
    for flaw in flaws_of_lists(record, checks.plan, lists_all=checks.lists_all):
        findings.add(record_key(stage, number), f"the commit record {flaw}")
    levels = [read_level(findings, cell, output, record) for output in checks.plan.outputs(cell)]
    _check_histograms(findings, cell, levels[0], record)
    _check_downsampling(findings, cell, levels)
    files = CellFiles(checks.source, cell)
    is_compared = _compare_with_source(findings, cell, levels[0], record, files)
    _check_originals(findings, record)
    return CheckedCell(
        number=number,
        problems=tuple(findings.problems),
        record=replace(record, files=None, sources=None),
        n_objects=sum(1 for _ in record.objects()),
        n_bytes=findings.n_bytes,
        is_compared=is_compared,
        digest=record.digest(),
        notes=files.notes(),
    )


# ------------------------------------------------------------------------------- commit record


def _read_valid_record(findings: Findings, cell: Cell) -> CommitRecord | None:
    """The commit record of a cell; None, and a problem, if it is missing or not valid."""
    key = record_key(cell.stage, cell.number)
    try:
        record = read_record(findings.checks.destination, cell.stage, cell.number)
    except CorruptFileError as exc:
        findings.add(key, exc.message)
        return None
    if record is None:
        findings.add(key, "there is no commit record: the cell was not finished")
        return None
    if record.plan_id != findings.checks.plan_id:
        findings.add(
            key,
            "the commit record is of another migration, and so may be the objects that it lists",
        )
        return None
    return record


def _check_histograms(
    findings: Findings, cell: Cell, pixels: Array | None, record: CommitRecord
) -> None:
    """Compare the histograms in the commit record with those of level 0."""
    if cell.stage > 0 or pixels is None or findings.problems or not findings.checks.lists_all:
        return
    expected, first_channel = histograms_of(findings.checks.plan, cell, pixels)
    stored = record.histograms
    if first_channel != record.first_channel or not (
        len(expected) == len(stored) and all(map(_is_same_histogram, expected, stored))
    ):
        what = "the commit record has other histograms than its pixels"
        findings.add(record_key(record.stage, record.number), what)


def _is_same_histogram(first: Histogram, second: Histogram) -> bool:
    return first.to_json() == second.to_json()


def _check_originals(findings: Findings, record: CommitRecord) -> None:
    stored = record.originals
    if stored is None:
        return
    if not lists_own_part(record):
        what = "the commit record does not list this cell's part of the table of originals"
        findings.add(record_key(record.stage, record.number), what)
        return
    data = read_stored(findings, stored)
    if data is None or hashlib.sha256(data).hexdigest() != stored.sha256:
        return
    try:
        url = findings.checks.destination.display(stored.key)
        for _ in rows_of_part(data, url, findings.checks.recorded_source):
            pass
    except CorruptFileError as exc:
        findings.add(stored.key, exc.message)


# -------------------------------------------------------------------------------- comparisons


def _check_downsampling(findings: Findings, cell: Cell, levels: list[Array | None]) -> None:
    """Check that each level is the downsampled level below it."""
    plan = findings.checks.plan
    outputs = plan.outputs(cell)
    below: Array | None
    input_level = plan.stages[cell.stage].input_level
    if input_level is None:
        below, levels, outputs = levels[0], levels[1:], outputs[1:]
    else:
        below = _read_level_below(findings, cell, input_level)
    for output, pixels in zip(outputs, levels, strict=True):
        if below is not None and pixels is not None:
            factors = (1, *plan.levels[output.level].factors)
            expected = expected_level(below, factors, plan.method, nodata_scalar(plan))
            for image, *each in zip(cell.images, expected, pixels, strict=True):
                if not same_bits(*map(_with_one_nan, each)):
                    key = plan.shard_key(image, output.level, output.shard_index)
                    what = f"level {output.level} does not follow from the level below it"
                    findings.add(key, what)
        below = pixels


def _with_one_nan(pixels: Array) -> Array:
    """Pixels in which all NaN have the same bits: the mode of a block may be any of them."""
    if pixels.dtype.kind != "f" or not np.isnan(pixels).any():
        return pixels
    return np.where(np.isnan(pixels), pixels.dtype.type(np.nan), pixels)


def _read_level_below(findings: Findings, cell: Cell, level: int) -> Array | None:
    checks = findings.checks
    try:
        return LevelInput(checks.plan, checks.destination, level).read(cell)
    except (CorruptFileError, NotFoundError):
        return None  # reported by the cell that stored it


def _compare_with_source(
    findings: Findings,
    cell: Cell,
    pixels: Array | None,
    record: CommitRecord,
    files: CellFiles,
) -> bool:
    """Compare level 0 with the source; whether it was compared."""
    checks = findings.checks
    if checks.source is None or cell.stage > 0 or pixels is None:
        return False
    if checks.sampled is not None and not checks.sampled[cell.number]:
        return False
    key = record_key(cell.stage, cell.number)
    try:
        expected = checks.source.read(cell, files)
    except CloudimgError as exc:
        findings.add(key, f"the source of this cell cannot be read: {exc}")
        return False
    if files.filled.are_refused():
        shown = "; ".join(map(str, files.filled.bad[:3]))
        findings.add(key, f"the source of this cell cannot be read: {shown}")
        return False
    changed = _changed_files(record, files) if checks.compares_versions else []
    if changed:
        shown = ", ".join(changed[:3])
        findings.add(key, f"source files changed since they were migrated: {shown}")
    if not same_bits(expected, pixels):
        n_bytes = int(np.count_nonzero(bits_of(expected) != bits_of(pixels)))
        findings.add(key, f"{n_bytes} bytes of its pixels differ from the source's")
    return True


def _changed_files(record: CommitRecord, files: CellFiles) -> list[str]:
    """Keys of source files that have another version than the one in the commit record."""
    if record.files is None:
        return []  # of an older version: what it has of the files is not compared
    recorded = dict(zip(*(each.tolist() for each in record.files.arrays()), strict=True))
    return [
        files.key(row)
        for row, version in sorted(files.versions.items())
        if recorded.get(row, version) != version
    ]
