"""Estimate what a migration would read, write and cost. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from dask.utils import format_bytes

from cloudimg.errors import ArgumentError, counted
from cloudimg.errors.notes import Note
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.make_plan import amplification
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight
from cloudimg.migration.run.write_input import WriteInput

PRICES = {"put": 0.005, "get": 0.0004, "list": 0.005}
"""US dollars for a thousand requests to S3 Standard in us-east-1, as listed on
https://aws.amazon.com/s3/pricing/ when this was written."""
_LISTED_AT_ONCE = 1000
_SPAN_BYTES = 8 * 2**20
"""Bytes that one GET of the source reads, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a migration would read, write and cost. `str` gives a report."""

    plan: Plan
    """Levels, chunks, shards and cells of the copy."""
    cells: int
    """Number of cells (units of work)."""
    objects: int
    """Number of shards (in Zarr 2, chunks)."""
    metadata_objects: int
    """Number of metadata objects, such as ``zarr.json``."""
    journal_objects: int
    """Number of other objects, at most: commit records, parts of the table of originals, plan,
    lease and end mark."""
    source_bytes: int | None
    """Size of all source files in bytes; None if unknown."""
    amplification: float
    """How many times the source is read: 1.0 if cells cut through no segment."""
    bytes_to_read: int | None
    """Bytes to read from the source, as stored; None if unknown."""
    bytes_read_back: int
    """Decoded bytes of levels that later stages read back from the copy."""
    bytes_to_write: int
    """Decoded bytes of all levels; compression makes the stored bytes fewer."""
    put_requests: int
    """Number of PUT requests."""
    get_requests: int
    """Number of GET requests, approximately."""
    list_requests: int
    """Number of LIST requests, approximately."""
    cell_memory_bytes: int
    """Peak memory of one cell in bytes."""
    cells_in_flight: int
    """Number of cells that this machine would do at once."""
    dollars: float
    """Price of the requests in US dollars, without storage and traffic."""
    notes: tuple[str, ...] = ()
    """What the source contains that the copy would not, and what was noticed in the headers that
    were read: a `cloudimg.Note` for each kind."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """All fields, with the plan, as JSON; notes about files once more, with their parts."""
        fields = {key: value for key, value in asdict(self).items() if key != "plan"}
        about_files = [note.to_json() for note in self.notes if isinstance(note, Note)]
        return {**fields, "source_notes": about_files, "plan": self.plan.to_json()}

    def lines(self) -> list[str]:
        """The report as lines of text."""
        plan = self.plan
        images = f" in each of {plan.n_images} images" if plan.lead_dims else ""
        lines = [
            f"levels{images} by {plan.method}, axes {' '.join(plan.dims)}, {plan.dtype}, chunks"
            f" {plan.chunk}:"
        ]
        stored = "shard" if plan.zarr_format == 3 else "chunk"
        for number, level in enumerate(plan.levels):
            n = plan.n_objects(number)
            what = f"{counted(n, stored)} of {plan.stored_shape(number)}"
            lines.append(f"  {number}: {level.shape}, {what}")
        for number, stage in enumerate(plan.stages):
            source = "the source" if stage.input_level is None else f"level {stage.input_level}"
            first, last = stage.first_level, stage.last_level
            written = f"level {first}" if first == last else f"levels {first} to {last}"
            lines.append(
                f"stage {number}: {counted(plan.n_cells(number), 'cell')} of {stage.cell}, reading"
                f" {source} and writing {written}"
            )
        read = "unknown" if self.bytes_to_read is None else format_bytes(self.bytes_to_read)
        lines += [
            f"objects: {counted(self.objects, stored)}, {self.metadata_objects} metadata,"
            f" {self.journal_objects} journal",
            f"to read: {read} ({self.amplification:.3f} x the source),"
            f" {format_bytes(self.bytes_read_back)} read back (decoded)",
            f"to write: {format_bytes(self.bytes_to_write)} before compression",
            f"requests: {self.put_requests} PUT, {self.get_requests} GET,"
            f" {self.list_requests} LIST: ${self.dollars:.2f}",
            f"memory: {format_bytes(self.cell_memory_bytes)} per cell,"
            f" {counted(self.cells_in_flight, 'cell')} at once",
            *(f"note: {note}" for note in self.notes),
        ]
        return lines


def estimate(
    plan: Plan,
    write_input: WriteInput,
    facts: ImageFacts,
    *,
    max_bytes: int,
    prices: Mapping[str, float] | None,
) -> Estimate:
    """Estimate a migration.

    Parameters
    ----------
    plan : Plan
    write_input : WriteInput
    facts : ImageFacts
        Those of the plan.
    max_bytes : int
        Memory for cells in bytes.
    prices : mapping, optional
        US dollars for a thousand requests, by kind; those of `PRICES` for kinds it does not name.

    Raises
    ------
    ArgumentError
        If `prices` names unknown kinds, or there is too little memory for a cell.
    """
    unknown = set(prices or {}) - set(PRICES)
    if unknown:
        raise ArgumentError(f"prices= names {sorted(unknown)}: use only {', '.join(PRICES)}")
    price = {**PRICES, **(prices or {})}
    itemsize = np.dtype(plan.dtype).itemsize
    level_bytes = [plan.n_images * math.prod(level.shape) * itemsize for level in plan.levels]
    read_back = [stage.input_level for stage in plan.stages if stage.input_level is not None]
    source_bytes, n_files = write_input.stored_nbytes, write_input.n_files
    times_read = amplification(plan, write_input.boundaries)
    bytes_to_read = None if source_bytes is None else round(source_bytes * times_read)
    objects = sum(plan.n_objects(level) for level in range(len(plan.levels)))
    n_documents = len(documents(plan, facts, {}))
    # Commit records, parts of the table of originals, both plans, table of files, lease, end mark.
    n_journal = plan.total_cells + min(plan.n_cells(0), n_files) + 4 + bool(n_files)
    n_puts = objects + n_documents + n_journal
    n_gets = math.ceil(max(n_files, (bytes_to_read or 0) / _SPAN_BYTES) * times_read)
    n_gets += sum(plan.n_objects(level) for level in read_back)
    n_lists = 2 * math.ceil(n_files / _LISTED_AT_ONCE) + len(plan.stages) + 2
    return Estimate(
        plan=plan,
        cells=plan.total_cells,
        objects=objects,
        metadata_objects=n_documents,
        journal_objects=n_journal,
        source_bytes=source_bytes,
        amplification=times_read,
        bytes_to_read=bytes_to_read,
        bytes_read_back=sum(level_bytes[level] for level in read_back),
        bytes_to_write=sum(level_bytes),
        put_requests=n_puts,
        get_requests=n_gets,
        list_requests=n_lists,
        cell_memory_bytes=cell_bytes(plan),
        cells_in_flight=cells_in_flight(plan, max_bytes),
        dollars=(n_puts * price["put"] + n_gets * price["get"] + n_lists * price["list"]) / 1000,
        notes=facts.all_notes,
    )
