"""Read again what a cell stored, and compare it with the cell's commit record."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import CommitRecord, record_key
from cloudimg.migration.journal.stored_objects import StoredLevel, StoredObject
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Cell, Output, Plan, fill_scalar
from cloudimg.migration.run.inputs import decode_object, most_stored_bytes
from cloudimg.migration.verify.findings import Findings
from cloudimg.storage import engine, map_ahead

Array = npt.NDArray[Any]
_OBJECTS_AHEAD = 8
"""Objects of a cell that are read before they are needed."""
_MOST_TABLE_BYTES = 2**31
"""Size of a part of the table of originals, with all tags of the files of a cell."""


def read_level(
    findings: Findings, cell: Cell, output: Output, record: CommitRecord
) -> Array | None:
    """Pixels that a cell stored at a level, see `Input.read`; None if they cannot be read."""
    plan = findings.checks.plan
    level = next((each for each in record.levels if each.level == output.level), None)
    if level is None:
        return None
    stored_at = {stored.key: stored for stored in level.objects}
    extents = [len(cell.images), *(s.stop - s.start for s in output.region)]
    pixels = np.full(extents, fill_scalar(plan), np.dtype(plan.dtype))
    is_complete = True
    # Objects of older versions that are not listed are empty, and therefore not stored.
    listed = [each for each in objects_of(plan, cell, output) if each[0] in stored_at]
    objects = [stored_at[key] for key, _, _ in listed]
    read = _read_ahead(findings.checks.destination, objects, most_stored_bytes(plan, output.level))
    for (_, place, region), stored, data in zip(listed, objects, read, strict=True):
        part = _decoded(findings, output.level, stored, data, region)
        if part is None:
            is_complete = False
            continue
        in_output = tuple(
            slice(s.start - o.start, s.stop - o.start)
            for s, o in zip(region, output.region, strict=True)
        )
        pixels[place][in_output] = part
    if not is_complete:
        return None
    _check_digests(findings, cell, level, pixels)
    return pixels


def _check_digests(findings: Findings, cell: Cell, level: StoredLevel, pixels: Array) -> None:
    """Compare the pixels of a level and its empty chunks with the commit record."""
    key = record_key(cell.stage, cell.number)
    if _digest(pixels) != level.pixels_sha256:
        findings.add(key, f"the pixels of level {level.level} are not those that were written")
        return
    bits = b"".join(_empty_chunks(findings.checks.plan, level.level, each) for each in pixels)
    empty = base64.b64encode(bits).decode()
    if empty != level.empty:
        findings.add(key, f"the commit record lists other empty chunks at level {level.level}")


def _read_ahead(
    destination: Destination, objects: Sequence[StoredObject], most: int
) -> Iterator[bytes | None]:
    def start(stored: StoredObject) -> Future[bytes | None]:
        return engine().fetch(partial(_get, destination, stored, most))

    return map_ahead(start, objects, n_ahead=_OBJECTS_AHEAD)


def _decoded(
    findings: Findings,
    level: int,
    stored: StoredObject,
    data: bytes | None,
    region: tuple[slice, ...],
) -> Array | None:
    """Pixels of an object that was read; None, and a problem, if that is not possible."""
    if data is None:
        findings.add(stored.key, "missing")
        return None
    _compare(findings, stored, data)
    try:
        shape = tuple(s.stop - s.start for s in region)
        return decode_object(findings.checks.plan, level, data, shape)
    except CorruptFileError as exc:
        findings.add(stored.key, f"cannot be decoded: {exc.message}")
        return None


def read_stored(findings: Findings, stored: StoredObject) -> bytes | None:
    """Read an object and compare it with its digest; None if it is missing."""
    data = _get(findings.checks.destination, stored, _MOST_TABLE_BYTES)
    if data is None:
        findings.add(stored.key, "missing")
    else:
        _compare(findings, stored, data)
    return data


def _get(destination: Destination, stored: StoredObject, most: int) -> bytes | None:
    """The bytes of an object; None if it is missing.

    Of an object that is larger than it was, or than `most`, only one byte more is read.
    """
    try:
        return destination.get(stored.key, most_bytes=min(most, stored.size_bytes))
    except NotFoundError:
        return None


def _compare(findings: Findings, stored: StoredObject, data: bytes) -> None:
    """Compare what was read of an object with its digest."""
    findings.n_bytes += len(data)
    if len(data) != stored.size_bytes:
        found = findings.checks.destination.info(stored.key).size_bytes  # not all was read
        findings.add(stored.key, f"{found} bytes instead of {stored.size_bytes}")
    elif hashlib.sha256(data).hexdigest() != stored.sha256:
        findings.add(stored.key, "its bytes are not those that were stored (SHA-256 differs)")


def _empty_chunks(plan: Plan, level: int, pixels: Array) -> bytes:
    """Bits of the chunks of an image in a cell, 1 if empty, as `StoredLevel.empty` has them."""
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


def _digest(pixels: Array) -> str:
    return hashlib.sha256(bits_of(pixels).data).hexdigest()


def bits_of(pixels: Array) -> npt.NDArray[np.uint8]:
    """The bytes of an array, flat."""
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)


def same_bits(first: Array, second: Array) -> bool:
    """Whether two arrays are equal to the bit: NaN equals NaN, and -0.0 does not equal 0.0."""
    return first.shape == second.shape and np.array_equal(bits_of(first), bits_of(second))
