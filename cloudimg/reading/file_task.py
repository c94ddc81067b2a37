"""`FileTask`: a region of one file to read, and how it lies in the file that was found. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, LimitError, MismatchError
from cloudimg.reading.comparison import Comparison, Expected, FileShape
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.identities import Identities
from cloudimg.tiff import Derived, Level, Region

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTask:
    """A region of one file to read, and the output for its pixels."""

    key: str
    level: int
    region: Region
    """Region in the axes of the file."""
    out: Array
    """Writable view of the region's shape, with any strides."""
    expected: Expected
    size_bytes: int | None
    """Size of the object, or an upper bound of it, where known."""
    page: int | None = None
    """Number of the page to read, in a file of a multi-file dataset."""
    index: tuple[int, ...] = ()
    """Index of the file in the grid, passed to `on_open`."""
    identities: Identities | None = None
    """UUIDs of the files of a multi-file dataset, which the file is checked against."""
    listed: tuple[int, int] = (-1, 0)
    """Size and digest of the ETag of the file in the table that lists it, see `check_listed`."""


def levels_of(opened: OpenFile, page: int) -> tuple[Level | Derived, ...]:
    """Return the levels of a page, in a file of a multi-file dataset.

    Raises
    ------
    CorruptFileError
        If the file does not have the page.
    """
    for levels in (opened.parsed.levels, *opened.parsed.others):
        readable = tuple(level for level in levels if isinstance(level, Level | Derived))
        if readable and readable[0].has(page):
            return readable
    raise CorruptFileError(
        f"{opened.url} has no page {page}, which its multi-file dataset places there",
        url=opened.url,
    )


def on_page(task: FileTask, page: int, opened: OpenFile) -> tuple[FileTask, Level | Derived]:
    """Return the task with a leading axis of pages, and the level to read.

    Raises
    ------
    CorruptFileError, MismatchError
        If the file does not have the page, or another one.
    """
    if task.identities is not None:
        task.identities.check(task.index, opened.parsed.uuid, opened.url)
    levels = levels_of(opened, page)
    level = levels[task.level] if task.level < len(levels) else None
    shape = level.shape[1:] if level is not None else ()
    dtype = level.dtype if level is not None else None
    comparison = Comparison(FileShape(opened.parsed.dims[1:], shape, dtype), task.expected)
    if level is None or not comparison.fits:
        error = MismatchError(
            f"page {page} of {opened.url} does not fit its multi-file dataset:"
            f" {comparison.differences} (expected from {task.expected.first_url})",
            url=opened.url,
        )
        error.bad_file = comparison.kind
        raise error
    region = (slice(page, page + 1, 1), *task.region)
    return replace(task, region=region, out=task.out[np.newaxis]), level


def without_omitted_axes(task: FileTask, opened: OpenFile, *, advise: bool) -> FileTask:
    """Return the task without axes of length 1 that the file omits.

    Parameters
    ----------
    task : FileTask
    opened : OpenFile
    advise : bool
        See `Comparison.error`.

    Raises
    ------
    MismatchError
        If the file differs otherwise from what is expected.
    """
    parsed = opened.parsed
    level = parsed.levels[task.level] if task.level < len(parsed.levels) else None
    found = FileShape(parsed.dims, level.shape if level else (), level.dtype if level else None)
    comparison = Comparison(found, task.expected)
    if comparison.fits:
        return task
    omitted = comparison.omitted_axes
    if not omitted:
        raise comparison.error(opened.url, advise=advise)
    region = tuple(part for i, part in enumerate(task.region) if i not in omitted)
    return replace(task, region=region, out=task.out.squeeze(omitted))


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Allocate an array for a region.

    Raises
    ------
    LimitError
        If there is not enough memory.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as exc:
        raise LimitError(
            f"cannot allocate {math.prod(shape) * dtype.itemsize} bytes for a region of shape"
            f" {shape} and type {dtype}: read a smaller region, or read the image chunk by chunk"
            " with to_dask()"
        ) from exc
