"""What a migration would read, write, ask for and cost, before it is begun. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from dask.utils import format_bytes

from cloudimg.errors import ArgumentError
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.plan.make_plan import amplification
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight
from cloudimg.migration.run.write_input import WriteInput

PRICES = {"put": 0.005, "get": 0.0004, "list": 0.005}
"""Dollars for a thousand requests to S3 Standard in us-east-1, as https://aws.amazon.com/s3/pricing/
had them when this was written."""
_LISTED_AT_ONCE = 1000
_SPAN_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a migration."""

    plan: Plan
    cells: int
    objects: int
    """Shards (chunks, in Zarr 2), at most: empty ones are not stored."""
    metadata_objects: int
    journal_objects: int
    """Receipts, parts of the table of originals (at most), the plan, the lease, the end's mark."""
    source_bytes: int | None
    """Size of the source's files; None where it is not known."""
    amplification: float
    """How many times the source is read; 1.0 where no segment is cut by cells."""
    bytes_to_read: int | None
    """From the source."""
    bytes_read_back: int
    """Decoded bytes of levels that later stages read again."""
    bytes_to_write: int
    """Decoded; what is stored is smaller by what the codec gains."""
    put_requests: int
    get_requests: int
    list_requests: int
    cell_memory_bytes: int
    """For one cell under way."""
    cells_in_flight: int
    dollars: float
    """For the requests alone."""
    notes: tuple[str, ...] = ()
    """What the source has and the copy will not have."""

    def to_json(self) -> dict[str, Any]:
        """All of it, with the plan."""
        found = {key: value for key, value in asdict(self).items() if key != "plan"}
        return {**found, "plan": self.plan.to_json()}

    def lines(self) -> list[str]:
        """As text."""
        plan = self.plan
        images = f" in each of {plan.n_images} images" if plan.lead_dims else ""
        lines = [f"levels{images}, axes {' '.join(plan.dims)}, {plan.dtype}, chunks {plan.chunk}:"]
        stored = "shards" if plan.zarr_format == 3 else "chunks"
        for number, level in enumerate(plan.levels):
            n = plan.n_objects(number)
            lines.append(f"  {number}: {level.shape}, {n} {stored} of {plan.stored_shape(number)}")
        for number, stage in enumerate(plan.stages):
            what = "the source" if stage.input_level is None else f"level {stage.input_level}"
            lines.append(
                f"stage {number}: {plan.n_cells(number)} cells of {stage.cell} read {what} and"
                f" write levels {stage.first_level} to {stage.last_level}"
            )
        read = "unknown" if self.bytes_to_read is None else format_bytes(self.bytes_to_read)
        lines += [
            f"objects: {self.objects} {stored}, {self.metadata_objects} of metadata,"
            f" {self.journal_objects} of the journal",
            f"to read: {read} ({self.amplification:.3f} x the source),"
            f" {format_bytes(self.bytes_read_back)} decoded read back",
            f"to write: {format_bytes(self.bytes_to_write)} before compression",
            f"requests: {self.put_requests} PUT, {self.get_requests} GET,"
            f" {self.list_requests} LIST: ${self.dollars:.2f}",
            f"memory: {format_bytes(self.cell_memory_bytes)} a cell,"
            f" {self.cells_in_flight} at once",
            *(f"note: {note}" for note in self.notes),
        ]
        return lines


def estimate(
    plan: Plan, write_input: WriteInput, *, max_bytes: int, prices: Mapping[str, float] | None
) -> Estimate:
    """Estimate a migration.

    Parameters
    ----------
    plan : Plan
    subject : Subject
    max_bytes : int
        Memory for cells.
    prices : mapping, optional
        Dollars for a thousand requests, by kind; `PRICES` where it names none.

    Raises
    ------
    ArgumentError
        For prices of requests that there are none of, and too little memory.
    """
    unknown = set(prices or {}) - set(PRICES)
    if unknown:
        raise ArgumentError(f"prices name {sorted(unknown)}: there are {', '.join(PRICES)}")
    each = {**PRICES, **(prices or {})}
    itemsize = np.dtype(plan.dtype).itemsize
    sizes = [plan.n_images * math.prod(level.shape) * itemsize for level in plan.levels]
    again = [stage.input_level for stage in plan.stages if stage.input_level is not None]
    twice = amplification(plan, write_input.boundaries)
    to_read = (
        None if write_input.stored_nbytes is None else round(write_input.stored_nbytes * twice)
    )
    objects = sum(plan.n_objects(level) for level in range(len(plan.levels)))
    n_documents = len(documents(plan, write_input.facts, {}))
    n_parts = min(plan.n_cells(0), write_input.n_files)
    journal = plan.total_cells + n_parts + 3
    puts = objects + n_documents + journal
    gets = math.ceil(max(write_input.n_files, (to_read or 0) / _SPAN_BYTES) * twice)
    gets += sum(plan.n_objects(level) for level in again)
    lists = 2 * math.ceil(write_input.n_files / _LISTED_AT_ONCE) + len(plan.stages) + 2
    dollars = (puts * each["put"] + gets * each["get"] + lists * each["list"]) / 1000
    return Estimate(
        plan,
        plan.total_cells,
        objects,
        n_documents,
        journal,
        write_input.stored_nbytes,
        twice,
        to_read,
        sum(sizes[level] for level in again),
        sum(sizes),
        puts,
        gets,
        lists,
        cell_bytes(plan),
        cells_in_flight(plan, max_bytes),
        dollars,
        write_input.facts.notes,
    )
