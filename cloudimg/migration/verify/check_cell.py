"""One cell looked over: every object it should have stored, read again and held against its
receipt, against the level below and, if asked, against the source."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, CorruptFileError, NotFoundError
from cloudimg.migration.encode.downsample import downsample
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import CommitRecord, StoredObject, read_record, record_key
from cloudimg.migration.metadata.originals import part_key
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Cell, Output, Plan, fill_scalar
from cloudimg.migration.run.inputs import (
    ImageInput,
    Input,
    LevelInput,
    decode_object,
    redacted_source_key,
)
from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import unsigned

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be."""

    url: str
    """Of the object, without credentials."""
    what: str

    def __str__(self) -> str:
        return f"{self.url}: {self.what}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What looking over a cell gave."""

    number: int
    problems: tuple[Problem, ...]
    record: CommitRecord | None
    """Without its list of sources."""
    keys: tuple[str, ...]
    """Of the objects that the cell has, relative to the destination."""
    n_bytes: int
    """Read of them."""
    compared: bool
    """Whether the pixels were compared with the source's."""
    digest: bytes
    """Of the whole receipt."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a worker needs to know to look over any cell. Picklable."""

    plan: Plan
    destination: Destination
    source: Input | None
    """What the pixels of level 0 are compared with."""
    compared: npt.NDArray[np.bool_] | None
    """By number, which cells of stage 0 are compared; None: all."""
    plan_id: str
    """Of the migration; receipts of others prove nothing."""


@dataclass(slots=True)
class _Findings:
    """Problems of a cell, as they are found."""

    proof: Proof
    problems: list[Problem] = field(default_factory=list)
    n_bytes: int = 0

    def add(self, key: str, what: str) -> None:
        self.problems.append(Problem(self.proof.destination.display(key), what))


def check_cell(proof: Proof, stage: int, number: int) -> Checked:
    """Look over a cell.

    Raises
    ------
    StorageError
        If the store fails; whatever is wrong with an object is a problem, not an error.
    """
    found = _Findings(proof)
    cell = proof.plan.cell(stage, number)
    record = _record(found, cell)
    if record is None:
        return Checked(number, tuple(found.problems), None, (), 0, False, b"")
    keys = [each.key for each in record.objects()]
    _check_keys(found, cell, record)
    levels = [_read_level(found, cell, output, record) for output in proof.plan.outputs(cell)]
    _check_levels(found, cell, levels)
    compared = _compare(found, cell, levels[0], record)
    if record.originals is not None:
        _check_original(found, record.originals)
    small, digest = replace(record, sources={}), record.digest()
    problems = tuple(found.problems)
    return Checked(number, problems, small, tuple(keys), found.n_bytes, compared, digest)


def _record(found: _Findings, cell: Cell) -> CommitRecord | None:
    """The receipt of a cell; None where there is none that counts, which is told."""
    key = record_key(cell.stage, cell.number)
    try:
        record = read_record(found.proof.destination, cell.stage, cell.number)
    except CorruptFileError as exc:
        found.add(key, exc.message)
        return None
    if record is None:
        found.add(key, "there is no receipt: the cell was not finished")
        return None
    if record.plan_id != found.proof.plan_id:
        found.add(key, "the receipt is of another migration: what it tells of may be, too")
        return None
    return record


def _check_keys(found: _Findings, cell: Cell, record: CommitRecord) -> None:
    """A receipt of another cell proves nothing."""
    outputs = found.proof.plan.outputs(cell)
    key = record_key(cell.stage, cell.number)
    if [level.level for level in record.levels] != [output.level for output in outputs]:
        found.add(key, "the receipt tells of other levels than the plan")
        return
    for level, output in zip(record.levels, outputs, strict=True):
        allowed = {key for key, _ in objects_of(found.proof.plan, cell, output)}
        if not allowed.issuperset(each.key for each in level.objects):
            found.add(key, f"the receipt tells of objects of other cells at level {output.level}")


def _read_level(found: _Findings, cell: Cell, output: Output, record: CommitRecord) -> Array | None:
    """Pixels of a cell at a level; None where they cannot be had."""
    plan = found.proof.plan
    level = next((each for each in record.levels if each.level == output.level), None)
    if level is None:
        return None
    told = {each.key: each for each in level.objects}
    pixels = np.full(
        [s.stop - s.start for s in output.region], fill_scalar(plan), np.dtype(plan.dtype)
    )
    whole = True
    for key, region in objects_of(plan, cell, output):
        if key not in told:
            continue
        part = _read_object(found, output.level, told[key], region)
        if part is None:
            whole = False
            continue
        place = tuple(
            slice(s.start - o.start, s.stop - o.start)
            for s, o in zip(region, output.region, strict=True)
        )
        pixels[place] = part
    if not whole:
        return None
    if _digest(pixels) != level.pixels_sha256:
        key = record_key(cell.stage, cell.number)
        found.add(key, f"the pixels of level {output.level} are not those that were written")
    elif base64.b64encode(_empty_chunks(plan, output.level, pixels)).decode() != level.empty:
        key = record_key(cell.stage, cell.number)
        found.add(key, f"the receipt tells of other empty chunks at level {output.level}")
    return pixels


def _empty_chunks(plan: Plan, level: int, pixels: Array) -> bytes:
    """Which chunks of a cell are all fill value, as its receipt tells it."""
    # A shard has all its chunks, those beyond the image too; in Zarr 2 there are none of these.
    extents = plan.levels[level].shard if plan.zarr_format == 3 else pixels.shape
    grid = [-(-n // m) for n, m in zip(extents, plan.chunk, strict=True)]
    fill = np.asarray(fill_scalar(plan), pixels.dtype)
    empty = np.zeros(grid, bool)
    for at in np.ndindex(*grid):
        region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, plan.chunk, strict=True))
        empty[at] = _is_all(pixels[region], fill)
    return np.packbits(empty).tobytes()


def _is_all(part: Array, fill: Array) -> bool:
    first = part[(slice(0, 1),) * part.ndim]  # differs in most chunks
    return all(same_bits(each, np.broadcast_to(fill, each.shape)) for each in (first, part))


def _digest(pixels: Array) -> str:
    return hashlib.sha256(_bits(pixels).data).hexdigest()


def _read_object(
    found: _Findings, level: int, told: StoredObject, region: tuple[slice, ...]
) -> Array | None:
    data = _read(found, told)
    if data is None:
        return None
    try:
        shape = tuple(s.stop - s.start for s in region)
        return decode_object(found.proof.plan, level, data, shape)
    except CorruptFileError as exc:
        found.add(told.key, f"cannot be decoded: {exc.message}")
        return None


def _read(found: _Findings, told: StoredObject) -> bytes | None:
    """An object's bytes, if they are there; whether they are those that were stored."""
    try:
        data = found.proof.destination.get(told.key)
    except NotFoundError:
        found.add(told.key, "missing")
        return None
    found.n_bytes += len(data)
    if len(data) != told.size_bytes:
        found.add(told.key, f"{len(data)} bytes instead of {told.size_bytes}")
    elif hashlib.sha256(data).hexdigest() != told.sha256:
        found.add(told.key, "its bytes are not those that were stored (SHA-256 differs)")
    return data


def _check_original(found: _Findings, told: StoredObject) -> None:
    if not told.key.startswith(part_key(0).rpartition("/")[0]):
        found.add(told.key, "is no part of the table of originals")
        return
    _read(found, told)


def _check_levels(found: _Findings, cell: Cell, levels: list[Array | None]) -> None:
    """Each level must be what the one below it gives."""
    plan = found.proof.plan
    below: Array | None
    stage = plan.stages[cell.stage]
    if stage.input_level is None:
        below, rest = levels[0], levels[1:]
    else:
        below, rest = _level_below(found, cell, stage.input_level), levels
    outputs = plan.outputs(cell)[len(levels) - len(rest) :]
    for output, pixels in zip(outputs, rest, strict=True):
        if below is not None and pixels is not None:
            expected = downsample(below, plan.levels[output.level].factors, plan.method)
            if not same_bits(expected, pixels):
                key = plan.shard_key(cell.image, output.level, output.shard_index)
                found.add(key, f"level {output.level} does not follow from the level below it")
        below = pixels


def _level_below(found: _Findings, cell: Cell, level: int) -> Array | None:
    proof = found.proof
    try:
        return LevelInput(proof.plan, proof.destination, level).read(cell.image, cell.region)
    except (CorruptFileError, NotFoundError):
        return None  # told of by the cell that stored it


def _compare(found: _Findings, cell: Cell, pixels: Array | None, record: CommitRecord) -> bool:
    """Compare level 0 with the source."""
    proof = found.proof
    if proof.source is None or cell.stage > 0 or pixels is None:
        return False
    if proof.compared is not None and not proof.compared[cell.number]:
        return False
    etags: dict[str, str | None] = {}

    def on_open(index: tuple[int, ...], opened: OpenFile) -> None:
        if isinstance(proof.source, ImageInput):
            source = proof.source.source
            etags[redacted_source_key(source, index)] = opened.etag

    key = record_key(cell.stage, cell.number)
    try:
        expected = proof.source.read(cell.image, cell.region, on_open)
    except CloudimgError as exc:
        found.add(key, f"the source of this cell cannot be read: {exc}")
        return False
    # Whatever the signatures of their URLs were.
    before = {unsigned(f"https://{name}"): etag for name, etag in record.sources.items()}
    changed = sorted(
        name
        for name, etag in etags.items()
        if before.get(unsigned(f"https://{name}"), etag) != etag
    )
    if changed:
        found.add(key, f"source files changed since they were read: {', '.join(changed[:3])}")
    if not same_bits(expected, pixels):
        n_wrong = int(np.count_nonzero(_bits(expected) != _bits(pixels)))
        found.add(key, f"{n_wrong} bytes of its pixels differ from the source's")
    return True


def _bits(pixels: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)


def same_bits(first: Array, second: Array) -> bool:
    """Equal to the bit, so that NaN equals NaN and -0.0 is not 0.0."""
    return first.shape == second.shape and np.array_equal(_bits(first), _bits(second))
