"""Read again what a cell stored, and compare it with the cell's commit record."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.journal.records import CommitRecord, record_key
from cloudimg.migration.journal.stored_objects import StoredLevel, StoredObject
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Cell, Output, Plan, fill_scalar
from cloudimg.migration.run.inputs import decode_object, most_stored_bytes
from cloudimg.migration.verify.findings import Findings

Array = npt.NDArray[Any]
_MOST_TABLE_BYTES = 2**31
"""Size of a part of the table of originals, with all tags of the files of a cell."""


def read_level(
    findings: Findings, cell: Cell, output: Output, record: CommitRecord
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


def _check_digests(findings: Findings, cell: Cell, level: StoredLevel, pixels: Array) -> None:
    """Compare the pixels of a level and its empty chunks with the commit record."""
    key = record_key(cell.stage, cell.number)
    if _digest(pixels) != level.pixels_sha256:
        findings.add(key, f"the pixels of level {level.level} are not those that were written")
        return
    empty = base64.b64encode(_empty_chunks(findings.checks.plan, level.level, pixels)).decode()
    if empty != level.empty:
        findings.add(key, f"the commit record lists other empty chunks at level {level.level}")


def _read_object(
    findings: Findings, level: int, stored: StoredObject, region: tuple[slice, ...]
) -> Array | None:
    data = read_stored(findings, stored, most_stored_bytes(findings.checks.plan, level))
    if data is None:
        return None
    try:
        shape = tuple(s.stop - s.start for s in region)
        return decode_object(findings.checks.plan, level, data, shape)
    except CorruptFileError as exc:
        findings.add(stored.key, f"cannot be decoded: {exc.message}")
        return None


def read_stored(
    findings: Findings, stored: StoredObject, most: int = _MOST_TABLE_BYTES
) -> bytes | None:
    """Read an object and compare it with its digest; None if it is missing.

    Of an object that is larger than it was, or than `most`, only one byte more is read.
    """
    destination, most = findings.checks.destination, min(most, stored.size_bytes)
    try:
        data = destination.get(stored.key, most_bytes=most)
    except NotFoundError:
        findings.add(stored.key, "missing")
        return None
    findings.n_bytes += len(data)
    if len(data) != stored.size_bytes:
        found = len(data) if len(data) < most else destination.info(stored.key).size_bytes
        findings.add(stored.key, f"{found} bytes instead of {stored.size_bytes}")
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


def _digest(pixels: Array) -> str:
    return hashlib.sha256(bits_of(pixels).data).hexdigest()


def bits_of(pixels: Array) -> npt.NDArray[np.uint8]:
    """The bytes of an array, flat."""
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)


def same_bits(first: Array, second: Array) -> bool:
    """Whether two arrays are equal to the bit: NaN equals NaN, and -0.0 does not equal 0.0."""
    return first.shape == second.shape and np.array_equal(bits_of(first), bits_of(second))
