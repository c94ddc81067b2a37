"""`Estimate`: what a migration would read, write and cost, as numbers and as a report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, Self, TypeVar

from dask.utils import format_bytes

from cloudimg.errors import counted
from cloudimg.errors.notes import Note
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.destination_found import DestinationFound
from cloudimg.migration.run.result import notes_of_images, sums

_Number = TypeVar("_Number", int, float)
GIB = 2**30
"""Bytes of the unit in which AWS, Google and Azure price storage and traffic."""
_SUMMED = (
    "cells", "objects", "metadata_objects", "journal_objects", "bytes_read_back", "bytes_to_write",
    "put_requests", "get_requests", "list_requests", "dollars", "n_sampled_chunks", "sampled_bytes",
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
    stored_bytes: int | None = None
    """Size of the copy in bytes, about; None if no pixels could be read."""
    n_sampled_chunks: int = 0
    """Number of chunks that were read and encoded to find that out."""
    sampled_bytes: int = 0
    """Bytes of their pixels."""
    storage_dollars_a_month: float | None = None
    """Price of `stored_bytes`; None without a price of storage."""
    egress_dollars: float | None = None
    """Price of `bytes_to_read`; None without a price of egress."""
    companions: tuple[str, ...] = ()
    """URLs of files with metadata beside the images, which a copy has with ``companions=True``: the
    first ones."""
    n_companions: int = 0
    """Number of these files."""
    n_companions_copied: int = 0
    """Number of those that the copy keeps."""
    destination: DestinationFound | None = None
    """What was found at the destination; None if none was given."""
    notes: tuple[str, ...] = ()
    """What the source contains that the copy would not, and what was noticed in the headers that
    were read: a `cloudimg.Note` for each kind."""
    images: Mapping[str, Estimate] = field(default_factory=dict)
    """Of a collection (``series="all"``): the estimate of each image by its folder. The other
    fields are their sums, with the objects of the collection itself; `plan` is that of the first
    image, and the memory is that of the image that needs most."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def problems(self) -> tuple[str, ...]:
        """Why `migrate` would be refused at the destination; empty if nothing speaks against it."""
        return () if self.destination is None else self.destination.problems

    def spoken(self, speak: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Self:
        """The same with its texts in other words: those of the command line."""
        found = self.destination
        return replace(
            self,
            notes=speak(self.notes),
            destination=None if found is None else found.spoken(speak),
        )

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
            f"to write: {format_bytes(self.bytes_to_write)} before compression, {self._stored()}",
            f"requests: {self.put_requests} PUT, {self.get_requests} GET,"
            f" {self.list_requests} LIST: ${self.dollars:.2f}",
            f"volume: {self._volume()}",
            f"memory: {format_bytes(self.cell_memory_bytes)} per cell,"
            f" {counted(self.cells_in_flight, 'cell')} at once",
            *self._companions(),
            *(f"note: {note}" for note in self.notes),
        ]
        return lines + ([] if self.destination is None else self.destination.lines())

    def _stored(self) -> str:
        if self.stored_bytes is None:
            return "after it unknown"
        sample = f"{counted(self.n_sampled_chunks, 'chunk')} of {format_bytes(self.sampled_bytes)}"
        return f"about {format_bytes(self.stored_bytes)} after it, as {sample} suggest"

    def _volume(self) -> str:
        """Bytes in the unit in which they are priced, with the prices that were given."""
        parts = []
        for what, n_bytes, dollars, a_month in (
            ("stored", self.stored_bytes, self.storage_dollars_a_month, " a month"),
            ("read from the source", self.bytes_to_read, self.egress_dollars, ""),
        ):
            amount = "unknown" if n_bytes is None else f"{n_bytes / GIB:,.3f} GiB"
            price = "" if dollars is None else f" (${dollars:,.2f}{a_month})"
            parts.append(f"{amount} {what}{price}")
        return ", ".join(parts)

    def _companions(self) -> list[str]:
        if not self.n_companions:
            return []
        more = self.n_companions - len(self.companions)
        names = [*self.companions, *([f"{more} more"] if more else [])]
        what = counted(self.n_companions, "file")
        n_copied = self.n_companions_copied
        copied = f"{n_copied} copied" if n_copied else "not copied"
        return [f"beside the images: {what} with metadata, {copied}: {', '.join(names)}"]

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
    first = images[0]
    is_known = source_bytes and bytes_to_read is not None
    summed = sums(images, *_SUMMED)
    summed["metadata_objects"] += _OWN_DOCUMENTS
    summed["journal_objects"] += _OWN_JOURNAL
    summed["put_requests"] += _OWN_DOCUMENTS + _OWN_JOURNAL
    return Estimate(
        **summed,
        plan=first.plan,
        source_bytes=source_bytes,
        stored_bytes=_sum_of_known([each.stored_bytes for each in images]),
        storage_dollars_a_month=_sum_of_known([each.storage_dollars_a_month for each in images]),
        egress_dollars=_sum_of_known([each.egress_dollars for each in images]),
        # All images are in the same files, beside which there are the same others.
        companions=first.companions,
        n_companions=first.n_companions,
        amplification=(bytes_to_read or 0) / (source_bytes or 1) if is_known else 1.0,
        bytes_to_read=bytes_to_read,
        cell_memory_bytes=max(each.cell_memory_bytes for each in images),
        cells_in_flight=min(each.cells_in_flight for each in images),
        notes=notes_of_images({folder: each.notes for folder, each in estimates.items()}),
        images=estimates,
    )


def _sum_of_known(numbers: Sequence[_Number | None]) -> _Number | None:
    """The sum of numbers; None if one is not known."""
    known = [each for each in numbers if each is not None]
    return reduce(add, known) if len(known) == len(numbers) else None
