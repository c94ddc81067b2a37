"""`check_cell`: verify one cell of a copy.

Each object that the cell should have stored is read again and compared with the cell's commit
record, with the level below it and, on request, with the source.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, CorruptFileError, NotFoundError
from cloudimg.errors.notes import Note
from cloudimg.migration.encode.downsample import downsample
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import (
    CommitRecord,
    StoredLevel,
    StoredObject,
    read_record,
    record_key,
)
from cloudimg.migration.metadata.originals import part_key
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Cell, Output, Plan, fill_scalar
from cloudimg.migration.run.filled_in_cell import FilledInCell
from cloudimg.migration.run.inputs import (
    ImageInput,
    Input,
    LevelInput,
    decode_object,
    redacted_source_key,
)
from cloudimg.migration.run.noted_files import NotedFiles
from cloudimg.migration.verify.result import Problem
from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import unsigned

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCell:
    """Result of checking a cell."""

    number: int
    """Number of the cell in its stage."""
    problems: tuple[Problem, ...] = ()
    """All problems that were found."""
    record: CommitRecord | None = None
    """Commit record without its sources; None if it is missing or not valid."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What to compare the cells of a copy with. Picklable, so that workers can check cells."""

    plan: Plan
    """Plan of the migration."""
    destination: Destination
    """The copy."""
    source: Input | None
    """Pixels to compare level 0 with."""
    sampled: npt.NDArray[np.bool_] | None
    """By number of the cell of stage 0, whether to compare it with the source. None: all."""
    plan_id: str
    """`State.id` of the migration; commit records of other migrations are not valid."""


@dataclass(slots=True)
class _Findings:
    """Problems of a cell and bytes read, collected while it is checked."""

    checks: Checks
    problems: list[Problem] = field(default_factory=list)
    n_bytes: int = 0

    def add(self, key: str, what: str) -> None:
        self.problems.append(Problem(self.checks.destination.display(key), what))


def check_cell(checks: Checks, stage: int, number: int) -> CheckedCell:
    """Check a cell.

    Raises
    ------
    StorageError
        If the store fails. Problems of the objects are part of the result.
    """
    findings = _Findings(checks)
    cell = checks.plan.cell(stage, number)
    record = _read_valid_record(findings, cell)
    if record is None:
        return CheckedCell(number=number, problems=tuple(findings.problems))
    _check_listed_objects(findings, cell, record)
    levels = [_read_level(findings, cell, output, record) for output in checks.plan.outputs(cell)]
    _check_downsampling(findings, cell, levels)
    noted = NotedFiles(checks.source, cell)
    filled = FilledInCell(noted)
    is_compared = _compare_with_source(findings, cell, levels[0], record, noted, filled)
    if record.originals is not None:
        _check_originals(findings, record.originals)
    return CheckedCell(
        number=number,
        problems=tuple(findings.problems),
        record=replace(record, sources={}),
        n_objects=sum(1 for _ in record.objects()),
        n_bytes=findings.n_bytes,
        is_compared=is_compared,
        digest=record.digest(),
        notes=noted.notes(filled.bad_indices),
    )


# ------------------------------------------------------------------------------- commit record


def _read_valid_record(findings: _Findings, cell: Cell) -> CommitRecord | None:
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


def _check_listed_objects(findings: _Findings, cell: Cell, record: CommitRecord) -> None:
    """Check that a commit record lists the levels of its cell and no objects of other cells."""
    plan = findings.checks.plan
    outputs = plan.outputs(cell)
    key = record_key(cell.stage, cell.number)
    if [level.level for level in record.levels] != [output.level for output in outputs]:
        findings.add(key, "the commit record lists other levels than the plan")
        return
    for level, output in zip(record.levels, outputs, strict=True):
        own = {key for key, _ in objects_of(plan, cell, output)}
        if not own.issuperset(stored.key for stored in level.objects):
            findings.add(
                key, f"the commit record lists objects of other cells at level {output.level}"
            )


def _check_originals(findings: _Findings, stored: StoredObject) -> None:
    if stored.key.startswith(part_key(0).rpartition("/")[0]):
        _read_stored(findings, stored)
    else:
        findings.add(stored.key, "is not a part of the table of originals")


# ------------------------------------------------------------------------------- stored pixels


def _read_level(
    findings: _Findings, cell: Cell, output: Output, record: CommitRecord
) -> Array | None:
    """Pixels that a cell stored at a level; None if they cannot be read."""
    plan = findings.checks.plan
    level = next((each for each in record.levels if each.level == output.level), None)
    if level is None:
        return None
    listed = {stored.key: stored for stored in level.objects}
    pixels = np.full(
        [s.stop - s.start for s in output.region], fill_scalar(plan), np.dtype(plan.dtype)
    )
    is_complete = True
    for key, region in objects_of(plan, cell, output):
        if key not in listed:
            continue  # empty, and therefore not stored
        part = _read_object(findings, output.level, listed[key], region)
        if part is None:
            is_complete = False
            continue
        in_output = tuple(
            slice(s.start - o.start, s.stop - o.start)
            for s, o in zip(region, output.region, strict=True)
        )
        pixels[in_output] = part
    if not is_complete:
        return None
    _check_digests(findings, cell, level, pixels)
    return pixels


def _check_digests(findings: _Findings, cell: Cell, level: StoredLevel, pixels: Array) -> None:
    """Compare the pixels of a level and its empty chunks with the commit record."""
    key = record_key(cell.stage, cell.number)
    if _digest(pixels) != level.pixels_sha256:
        findings.add(key, f"the pixels of level {level.level} are not those that were written")
        return
    empty = base64.b64encode(_empty_chunks(findings.checks.plan, level.level, pixels)).decode()
    if empty != level.empty:
        findings.add(key, f"the commit record lists other empty chunks at level {level.level}")


def _read_object(
    findings: _Findings, level: int, stored: StoredObject, region: tuple[slice, ...]
) -> Array | None:
    data = _read_stored(findings, stored)
    if data is None:
        return None
    try:
        shape = tuple(s.stop - s.start for s in region)
        return decode_object(findings.checks.plan, level, data, shape)
    except CorruptFileError as exc:
        findings.add(stored.key, f"cannot be decoded: {exc.message}")
        return None


def _read_stored(findings: _Findings, stored: StoredObject) -> bytes | None:
    """Read an object and compare it with its digest; None if it is missing."""
    try:
        data = findings.checks.destination.get(stored.key)
    except NotFoundError:
        findings.add(stored.key, "missing")
        return None
    findings.n_bytes += len(data)
    if len(data) != stored.size_bytes:
        findings.add(stored.key, f"{len(data)} bytes instead of {stored.size_bytes}")
    elif hashlib.sha256(data).hexdigest() != stored.sha256:
        findings.add(stored.key, "its bytes are not those that were stored (SHA-256 differs)")
    return data


def _empty_chunks(plan: Plan, level: int, pixels: Array) -> bytes:
    """Bits of the chunks of a cell, 1 if empty, as `StoredLevel.empty` has them."""
    # A shard has all its chunks, even those beyond the image; Zarr 2 has no such chunks.
    extents = plan.levels[level].shard if plan.zarr_format == 3 else pixels.shape
    grid = [-(-n // m) for n, m in zip(extents, plan.chunk, strict=True)]
    fill = np.asarray(fill_scalar(plan), pixels.dtype)
    empty = np.zeros(grid, bool)
    for index in np.ndindex(*grid):
        region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, plan.chunk, strict=True))
        empty[index] = _is_all(pixels[region], fill)
    return np.packbits(empty).tobytes()


def _is_all(part: Array, fill: Array) -> bool:
    first = part[(slice(0, 1),) * part.ndim]  # differs in most chunks, and is quick to compare
    return all(same_bits(each, np.broadcast_to(fill, each.shape)) for each in (first, part))


# -------------------------------------------------------------------------------- comparisons


def _check_downsampling(findings: _Findings, cell: Cell, levels: list[Array | None]) -> None:
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
            expected = downsample(below, plan.levels[output.level].factors, plan.method)
            if not same_bits(expected, pixels):
                key = plan.shard_key(cell.image, output.level, output.shard_index)
                findings.add(key, f"level {output.level} does not follow from the level below it")
        below = pixels


def _read_level_below(findings: _Findings, cell: Cell, level: int) -> Array | None:
    checks = findings.checks
    try:
        return LevelInput(checks.plan, checks.destination, level).read(cell.image, cell.region)
    except (CorruptFileError, NotFoundError):
        return None  # reported by the cell that stored it


def _compare_with_source(
    findings: _Findings,
    cell: Cell,
    pixels: Array | None,
    record: CommitRecord,
    noted: NotedFiles,
    filled: FilledInCell,
) -> bool:
    """Compare level 0 with the source; whether it was compared."""
    checks = findings.checks
    if checks.source is None or cell.stage > 0 or pixels is None:
        return False
    if checks.sampled is not None and not checks.sampled[cell.number]:
        return False
    etags: dict[str, str | None] = {}

    def on_open(index: tuple[int, ...], opened: OpenFile) -> None:
        noted.on_open(index, opened)
        if isinstance(checks.source, ImageInput):
            etags[redacted_source_key(checks.source.source, index)] = opened.etag

    key = record_key(cell.stage, cell.number)
    try:
        expected = checks.source.read(cell.image, cell.region, on_open, filled.on_bad)
    except CloudimgError as exc:
        findings.add(key, f"the source of this cell cannot be read: {exc}")
        return False
    if filled.are_refused():
        shown = "; ".join(map(str, filled.bad[:3]))
        findings.add(key, f"the source of this cell cannot be read: {shown}")
        return False
    changed = _changed_files(record, etags)
    if changed:
        shown = ", ".join(changed[:3])
        findings.add(key, f"source files changed since they were migrated: {shown}")
    if not same_bits(expected, pixels):
        n_bytes = int(np.count_nonzero(_bits(expected) != _bits(pixels)))
        findings.add(key, f"{n_bytes} bytes of its pixels differ from the source's")
    return True


def _changed_files(record: CommitRecord, etags: dict[str, str | None]) -> list[str]:
    """Keys of source files whose ETag is no longer the one in the commit record."""
    # Keys may end in the signature of a URL, which differs each time that a URL is signed.
    recorded = {unsigned(f"https://{key}"): etag for key, etag in record.sources.items()}
    return sorted(
        key for key, etag in etags.items() if recorded.get(unsigned(f"https://{key}"), etag) != etag
    )


def _digest(pixels: Array) -> str:
    return hashlib.sha256(_bits(pixels).data).hexdigest()


def _bits(pixels: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)


def same_bits(first: Array, second: Array) -> bool:
    """Whether two arrays are equal to the bit: NaN equals NaN, and -0.0 does not equal 0.0."""
    return first.shape == second.shape and np.array_equal(_bits(first), _bits(second))
