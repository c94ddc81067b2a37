"""Estimate what a migration would read, write and cost. Does no I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.make_plan import amplification
from cloudimg.migration.plan.overview import overview_keys
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.estimate import GIB, Estimate
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight
from cloudimg.migration.run.sampling import Sample
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.reading.coalescing import span_bytes
from cloudimg.tiff import FileImage

PRICES = {"put": 0.005, "get": 0.0004, "list": 0.005}
"""US dollars for a thousand requests to S3 Standard in us-east-1, as listed on
https://aws.amazon.com/s3/pricing/ when this was written."""
_PRICES_OF_BYTES = ("storage", "egress")
"""Prices without a default: of a GiB that is stored for a month, and of one that is read from the
source. Storage classes, regions and networks differ too much in them."""
_GROWS = 2
"""A copy that is as many times as large as its source gets a note."""
_LOSSY = re.compile(r"(?i)jpe?g|jp2|jp2000|jpegxr|jpegxl|webp|ndpi")
"""Compressions that mostly lose something, by parts of their names in tifffile."""
_LISTED_AT_ONCE = 1000


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
    sample: Sample,
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
        US dollars for a thousand requests, by kind, those of `PRICES` for kinds it does not name;
        for a GiB that is stored for a month ("storage"), and that is read ("egress").
    sample : Sample
        Chunks of the image.

    Raises
    ------
    ArgumentError
        If `prices` names unknown kinds, or there is too little memory for a cell.
    """
    price = checked_prices(prices)
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
    stored_bytes = None if sample.share is None else round(sum(level_bytes) * sample.share)
    unmatched = write_input.unmatched
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
        notes=(*facts.all_notes, *_notes_of_size(stored_bytes, source_bytes, facts, sample)),
        stored_bytes=stored_bytes,
        n_sampled_chunks=sample.n_chunks,
        sampled_bytes=sample.n_bytes,
        storage_dollars_a_month=_price_of(stored_bytes, price.get("storage")),
        egress_dollars=_price_of(bytes_to_read, price.get("egress")),
        companions=() if unmatched is None else unmatched.companions,
        n_companions=0 if unmatched is None else unmatched.n_companions,
        n_companions_copied=len(facts.companions),
    )


def checked_prices(given: Mapping[str, float] | None) -> dict[str, float]:
    """The given prices, and those of `PRICES`.

    Raises
    ------
    ArgumentError
    """
    known = (*PRICES, *_PRICES_OF_BYTES)
    unknown = set(given or {}) - set(known)
    if unknown:
        raise ArgumentError(f"prices= names {sorted(unknown)}: use only {', '.join(known)}")
    return {**PRICES, **(given or {})}


def _price_of(n_bytes: int | None, price: float | None) -> float | None:
    return None if n_bytes is None or price is None else n_bytes / GIB * price


def _notes_of_size(
    stored_bytes: int | None, source_bytes: int | None, facts: ImageFacts, sample: Sample
) -> Iterator[str]:
    """Notes that the copy is much larger than its source, or that its size is not well known."""
    if sample.problem:
        yield f"a chunk could not be read to tell the size of the copy: {sample.problem}"
    if not stored_bytes or not source_bytes or stored_bytes < _GROWS * source_bytes:
        return
    compression = str(facts.attrs.get("compression") or "")
    why = ""
    if _LOSSY.search(compression):
        why = (
            f": the files are compressed with {compression}, which is mostly lossy, and the copy"
            " has the decoded pixels without loss. Keep the files where size matters"
        )
    yield (
        f"the copy would be about {stored_bytes / source_bytes:.1f} times as large as the files"
        f'{why}. codec= sets the compression, such as codec="zstd:9"; none of them is lossy'
    )


def _n_spans(n_bytes: int, n_files: int) -> float:
    """Number of requests for all bytes of files of about the same size."""
    file_bytes = n_bytes // max(1, n_files)
    return n_bytes / span_bytes(file_bytes, file_bytes)
