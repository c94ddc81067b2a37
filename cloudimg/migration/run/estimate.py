"""Estimate what a migration would read, write and cost. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from dask.utils import format_bytes

from cloudimg.errors import ArgumentError, counted
from cloudimg.errors.notes import Note
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.make_plan import amplification
from cloudimg.migration.plan.overview import overview_keys
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight
from cloudimg.migration.run.result import notes_of_images, sums
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.reading.coalescing import span_bytes
from cloudimg.tiff import FileImage

PRICES = {"put": 0.005, "get": 0.0004, "list": 0.005}
"""US dollars for a thousand requests to S3 Standard in us-east-1, as listed on
https://aws.amazon.com/s3/pricing/ when this was written."""
_LISTED_AT_ONCE = 1000
_SUMMED = (
    "cells", "objects", "metadata_objects", "journal_objects", "bytes_read_back", "bytes_to_write",
    "put_requests", "get_requests", "list_requests", "dollars",
)  # fmt: skip
"""Fields of an estimate that add up."""
_OWN_DOCUMENTS = 3
"""Of a collection: OME-XML, the group with the list of images, and the root."""
_OWN_JOURNAL = 3
"""Of a collection: two lists of its images, and the lease."""


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
    """Number of metadata objects, such as ``zarr.json``; at most, if the files have OME-XML."""
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
    images: Mapping[str, Estimate] = field(default_factory=dict)
    """Of a collection (``series="all"``): the estimate of each image by its folder. The other
    fields are their sums, with the objects of the collection itself; `plan` is that of the first
    image, and the memory is that of the image that needs most."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """All fields, with the plan, as JSON; notes about files once more, with their parts."""
        own = replace(self, images={})
        fields = {key: value for key, value in asdict(own).items() if key != "plan"}
        fields["images"] = {folder: each.to_json() for folder, each in self.images.items()}
        about_files = [note.to_json() for note in self.notes if isinstance(note, Note)]
        return {**fields, "source_notes": about_files, "plan": self.plan.to_json()}

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = []
        for folder, each in self.images.items():
            lines += [f"image {folder}:", *(f"  {line}" for line in each._lines_of_plan())]
        lines += [] if self.images else self._lines_of_plan()
        stored = "shard" if self.plan.zarr_format == 3 else "chunk"
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

    def _lines_of_plan(self) -> list[str]:
        """What would be written, and by which cells."""
        plan = self.plan
        images = f" in each of {plan.n_images} images" if plan.lead_dims else ""
        if plan.plate is not None:
            n_wells = counted(len(list(plan.plate.listed())), "well")
            images += f" of a plate of {n_wells}"
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
            n_images = plan.n_images_of_cells(number)
            of = f"{n_images} images of {stage.cell}" if n_images > 1 else stage.cell
            lines.append(
                f"stage {number}: {counted(plan.n_cells(number), 'cell')} of {of}, reading {source}"
                f" and writing {written}"
            )
        return lines


def estimate_of_collection(estimates: Mapping[str, Estimate]) -> Estimate:
    """Sum up the estimates of all images of a collection, given by folder."""
    images = list(estimates.values())
    source_bytes = _sum_of_known([each.source_bytes for each in images])
    bytes_to_read = _sum_of_known([each.bytes_to_read for each in images])
    is_known = source_bytes and bytes_to_read is not None
    summed = sums(images, *_SUMMED)
    summed["metadata_objects"] += _OWN_DOCUMENTS
    summed["journal_objects"] += _OWN_JOURNAL
    summed["put_requests"] += _OWN_DOCUMENTS + _OWN_JOURNAL
    return Estimate(
        **summed,
        plan=images[0].plan,
        source_bytes=source_bytes,
        amplification=(bytes_to_read or 0) / (source_bytes or 1) if is_known else 1.0,
        bytes_to_read=bytes_to_read,
        cell_memory_bytes=max(each.cell_memory_bytes for each in images),
        cells_in_flight=min(each.cells_in_flight for each in images),
        notes=notes_of_images({folder: each.notes for folder, each in estimates.items()}),
        images=estimates,
    )


def _sum_of_known(numbers: Sequence[int | None]) -> int | None:
    """The sum of numbers; None if one is not known."""
    return None if None in numbers else sum(each or 0 for each in numbers)


def part_of_files(
    write_input: WriteInput, image: FileImage, images: Sequence[FileImage]
) -> WriteInput:
    """An image of a collection, with its part of the bytes of its files, by numbers of pixels.

    Parameters
    ----------
    write_input : WriteInput
    image : FileImage
    images : sequence of FileImage
        All images of the collection.
    """
    stored, n_pixels = write_input.stored_nbytes, sum(math.prod(each.shape) for each in images)
    if stored is None:
        return write_input
    return replace(write_input, stored_nbytes=round(stored * math.prod(image.shape) / n_pixels))


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
    n_documents = len(documents(plan, facts, {}, write_input.source_xml()))
    n_documents += len(overview_keys(plan))
    # Commit records, parts of the table of originals, both plans, table of files, lease, end mark.
    n_journal = plan.total_cells + min(plan.n_cells(0), n_files) + 4 + bool(n_files)
    n_puts = objects + n_documents + n_journal
    n_spans = max(_n_spans(bytes_to_read or 0, n_files), write_input.n_objects)
    n_gets = math.ceil(max(n_files, n_spans) * times_read)
    n_gets += sum(plan.n_objects(level) for level in read_back)
    n_gets += 0 if plan.overview is None else plan.n_images
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


def _n_spans(n_bytes: int, n_files: int) -> float:
    """Number of requests for all bytes of files of about the same size."""
    file_bytes = n_bytes // max(1, n_files)
    return n_bytes / span_bytes(file_bytes, file_bytes)
