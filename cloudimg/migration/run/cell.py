"""A cell: read one region once, store its shards at several levels, write the commit record.

This is all that a worker does. It needs nothing from other workers and returns a commit record.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.errors.file_report import BadFile
from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.encode.downsample import downsample
from cloudimg.migration.encode.histogram import Histogram, measure
from cloudimg.migration.encode.shards import encode_chunks, encode_shard
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.lease_view import LeaseView
from cloudimg.migration.journal.part_guard import PartGuard
from cloudimg.migration.journal.records import CommitRecord, write_record
from cloudimg.migration.journal.stored_objects import (
    IsEqual,
    StoredLevel,
    StoredObject,
    create_object,
    is_same_table,
)
from cloudimg.migration.metadata.originals import part_key
from cloudimg.migration.plan.plan import Cell, Output, Plan, fill_scalar, nodata_scalar
from cloudimg.migration.run.copied_files import CopiedFiles
from cloudimg.migration.run.inputs import Input, LevelInput, decode_object
from cloudimg.settings import settings
from cloudimg.storage import Data, engine, map_ahead

T = TypeVar("T")
S = TypeVar("S")
Array = npt.NDArray[Any]

MEMORY_FACTOR = 3.3
"""Peak memory of a cell divided by its decoded bytes: pixels, higher levels, what is encoded and
not yet stored, and compressed bytes of the source."""
_PUTS_AHEAD = 32
"""Objects of a cell that are encoded and not yet stored, at most."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker needs to do any cell of a migration. Picklable, small."""

    plan: Plan
    source: Input | None
    """What stage 0 reads; None if Dask computes its pixels."""
    destination: Destination
    lease: LeaseView | PartGuard
    """Who may write."""
    plan_id: str = ""
    """`State.id` of the migration, for commit records."""
    is_repair: bool = False
    """Whether objects with the same content in other bytes are replaced, unless `recorded` has
    them."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """In a repair, SHA-256 by key of the objects that the commit record of the cell lists."""

    def input_of(self, stage: int) -> Input:
        """What the cells of a stage read."""
        level = self.plan.stages[stage].input_level
        if level is not None:
            return LevelInput(self.plan, self.destination, level)
        if self.source is None:
            raise ArgumentError(
                "the source of this migration is an array, which only Dask can read"
            )
        return self.source


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell that was not stored because of bad files. It has no commit record."""

    number: int
    """Number of the cell in stage 0."""
    filled: tuple[BadFile, ...]
    """See `CommitRecord.filled`."""
    n_missing: int
    """See `CommitRecord.n_missing`."""


def run_cell(
    job: Job, stage: int, number: int, after_read: Callable[[], object] | None = None
) -> CommitRecord | BadCell:
    """Read a cell and store it, unless it has bad files and they are not to be filled.

    Parameters
    ----------
    job : Job
    stage, number : int
    after_read : callable, optional
        Called after everything was read and before anything is stored.

    Raises
    ------
    StorageError, FormatError, GridError
        The cell has no commit record then, and will be done again.
    ArgumentError
        A file has several images and none was chosen; the cell has no commit record then, either.
    """
    cell = job.plan.cell(stage, number)
    files = CopiedFiles(job.source, cell)
    pixels = job.input_of(stage).read(cell, files)
    files.refuse()
    if after_read is not None:
        after_read()
    if files.filled.are_refused():
        return BadCell(number, files.filled.files(), files.filled.n_missing)
    return store_cell(job, cell, pixels, files)


def store_cell(
    job: Job, cell: Cell, pixels: Array, files: CopiedFiles | None = None
) -> CommitRecord:
    """Store the pixels of a cell, as `Input.read` returns them, then its commit record."""
    pixels = _as_planned(job.plan, pixels)
    histograms, first_channel = histograms_of(job.plan, cell, pixels)
    part = None if files is None else files.part_of_originals()
    originals = None if part is None else _start_put_of_part(job, cell, part)
    record = CommitRecord(
        stage=cell.stage,
        number=cell.number,
        levels=_store_levels(job, cell, pixels),
        files=None if files is None else files.read(),
        histograms=histograms,
        first_channel=first_channel,
        originals=None if originals is None else originals.result(),
        plan_id=job.plan_id,
        notes=() if files is None else files.notes(),
        filled=() if files is None else files.filled.files(),
        n_missing=0 if files is None else files.filled.n_missing,
        ome_xml=() if files is None else files.ome_xml(),
        places=() if files is None else files.places(),
    )
    return write_record(job.destination, record, fences=job.lease.fences)


def restore_cell(job: Job, cell: Cell, pixels: Array, record: CommitRecord) -> CommitRecord:
    """Store the pixels of a cell of stage 0 again, which were read from what it stored before.

    Parameters
    ----------
    job : Job
    cell : Cell
    pixels : ndarray
        The pixels of level 0.
    record : CommitRecord
        The commit record of the cell. What it says of the source files stays.
    """
    pixels = _as_planned(job.plan, pixels)
    histograms, first_channel = histograms_of(job.plan, cell, pixels)
    restored = replace(
        record,
        levels=_store_levels(job, cell, pixels),
        histograms=histograms,
        first_channel=first_channel,
    )
    return write_record(job.destination, restored, fences=job.lease.fences)


def _as_planned(plan: Plan, pixels: Array) -> Array:
    """Pixels in the type of the plan: labels of one bit are stored as bytes."""
    return pixels.view(plan.dtype) if pixels.dtype.kind == "b" else pixels


def _store_levels(job: Job, cell: Cell, pixels: Array) -> tuple[StoredLevel, ...]:
    """Store the pixels of a cell at all of its levels."""
    levels = []
    for output in job.plan.outputs(cell):
        if output.level > 0:
            factors = (1, *job.plan.levels[output.level].factors)
            pixels = downsample(pixels, factors, job.plan.method, nodata_scalar(job.plan))
        levels.append(_store_level(job, cell, output, pixels))
    return tuple(level.result() for level in levels)


def histograms_of(plan: Plan, cell: Cell, pixels: Array) -> tuple[tuple[Histogram, ...], int]:
    """Histograms of a cell of stage 0 by image and channel, and the first one's channel."""
    if cell.stage > 0:
        return (), 0
    axis, nodata = plan.dims.index("c") if "c" in plan.dims else None, nodata_scalar(plan)
    measured = tuple(each for image in pixels for each in measure(image, axis, nodata))
    return measured, 0 if axis is None else cell.region[axis].start


@dataclass(frozen=True, slots=True)
class _PendingLevel:
    """A level of a cell whose objects are being stored."""

    level: int
    pixels_sha256: str
    empty: bytes
    objects: list[Future[StoredObject]]

    def result(self) -> StoredLevel:
        """Wait until all objects are stored."""
        empty = base64.b64encode(self.empty).decode()
        objects = tuple(future.result() for future in self.objects)
        return StoredLevel(self.level, self.pixels_sha256, empty, objects)


def _store_level(job: Job, cell: Cell, output: Output, pixels: Array) -> _PendingLevel:
    bits = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    digest = hashlib.sha256(bits.data).hexdigest()
    store = _store_shard if job.plan.zarr_format == 3 else _store_chunks
    empty = bytearray()
    objects: list[Future[StoredObject]] = []
    for image, of_image in zip(cell.images, pixels, strict=True):
        empty += store(job, image, output, of_image, objects)
        if len(objects) > _PUTS_AHEAD:
            wait([objects[-_PUTS_AHEAD - 1]])
    return _PendingLevel(output.level, digest, bytes(empty), objects)


def _store_shard(
    job: Job, image: int, output: Output, pixels: Array, objects: list[Future[StoredObject]]
) -> bytes:
    """Store a shard: add it to `objects`, and return the bits of its empty chunks."""
    plan = job.plan
    codec = codec_from_spec(plan.codec, np.dtype(plan.dtype))
    shard = plan.levels[output.level].shard
    encoded = encode_shard(
        pixels, shard, plan.chunk, codec, fill_scalar(plan), each=_map_in_decode_threads
    )
    key = plan.shard_key(image, output.level, output.shard_index)
    is_equal = partial(_has_equal_pixels, plan, output.level, encoded.data)
    objects.append(_start_put(job, key, encoded.data, is_equal))
    return encoded.empty


def _store_chunks(
    job: Job, image: int, output: Output, pixels: Array, objects: list[Future[StoredObject]]
) -> bytes:
    """Store a group of Zarr 2 chunks, each of which is an object; see `_store_shard`."""
    plan = job.plan
    codec = codec_from_spec(plan.codec, np.dtype(plan.dtype))
    first = [s.start // n for s, n in zip(output.region, plan.chunk, strict=True)]
    empty: list[bool] = []
    for index, data, is_empty in encode_chunks(
        pixels, plan.chunk, codec, fill_scalar(plan), each=_map_in_decode_threads
    ):
        empty.append(is_empty)
        position = tuple(a + i for a, i in zip(first, index, strict=True))
        key = plan.shard_key(image, output.level, position)
        is_equal = partial(_has_equal_pixels, plan, output.level, data)
        objects.append(_start_put(job, key, data, is_equal))
        if len(objects) > _PUTS_AHEAD:
            wait([objects[-_PUTS_AHEAD - 1]])
    return np.packbits(np.array(empty, bool)).tobytes()


def _has_equal_pixels(plan: Plan, level: int, first: Data, second: Data) -> bool:
    """Whether two shards (in Zarr 2, chunks) hold the same pixels, however they are encoded."""
    shape = plan.stored_shape(level)
    try:
        bits = [
            decode_object(plan, level, bytes(data), shape).reshape(-1).view(np.uint8)
            for data in (first, second)
        ]
    except CorruptFileError:
        return False
    return np.array_equal(bits[0], bits[1])


def _start_put(job: Job, key: str, data: Data, is_equal: IsEqual) -> Future[StoredObject]:
    """Start to store an object in a fetching thread, while encoding continues."""
    if job.is_repair:
        is_equal = partial(_is_recorded, job.recorded.get(key), is_equal)
    put = partial(create_object, fences=job.lease.fences, is_equal=is_equal)
    return engine().fetch(partial(put, job.destination, key, data))


def _start_put_of_part(job: Job, cell: Cell, part: bytes) -> Future[StoredObject]:
    """Start to store the part of the table of originals that a cell has."""
    return _start_put(job, part_key(cell.number), part, partial(is_same_table, part))


def _is_recorded(sha256: str | None, is_equal: IsEqual, found: Data) -> bool:
    """Whether an object has the bytes that are recorded, and the content that it should have."""
    return hashlib.sha256(found).hexdigest() == sha256 and is_equal(found)


def _map_in_decode_threads(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Like `map`, in the decoding threads, a few items ahead of the consumer."""
    return map_ahead(
        lambda item: engine().decode(partial(function, item)),
        items,
        n_ahead=2 * settings().decode_threads,
    )
