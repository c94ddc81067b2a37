"""From what the headers said to the sources that travel to workers and read themselves."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.grid import FileGrid
from cloudimg.image import Files, Source, make_token, pack
from cloudimg.reader import Reader
from cloudimg.survey import Survey
from cloudimg.tiff import Level


def make_sources(
    reader: Reader, grid: FileGrid, found: Survey, fill_value: Any
) -> tuple[Source, ...]:
    """One source per level, the full one first.

    Raises
    ------
    ArgumentError
        If `fill_value` cannot be held by the pixels' type.
    """
    levels = found.first.parsed.levels
    try:
        filled = levels[0].dtype.type(fill_value)
        if not np.array_equal(filled, fill_value, equal_nan=filled.dtype.kind in "fc"):
            raise OverflowError
    except (OverflowError, ValueError, TypeError):
        raise ArgumentError(f"fill_value={fill_value!r} does not fit {levels[0].dtype}") from None
    files = Files(
        grid.keys,
        None if grid.present is None else pack(grid.present),
        grid.shape,
        _size_bound(grid, found),
    )
    return tuple(
        Source(
            reader=reader,
            files=files,
            layout=layout,
            level=number,
            file_dims=found.first.parsed.dims,
            segment=_segment(level),
            dtype=level.dtype,
            fill_value=fill_value,
            first_url=found.first_url,
            token=make_token(
                _version(grid, found),
                reader.store.__dask_tokenize__(),
                reader.headers.selection,
                grid.digest,
                layout,
                number,
                repr(fill_value),
            ),
        )
        for number, (level, layout) in enumerate(zip(levels, found.layouts, strict=True))
    )


def _version(grid: FileGrid, found: Survey) -> tuple[Any, ...]:
    """What tells this state of the files from a later one."""
    seen = tuple((h.key, h.etag, h.size_bytes) for h in found.headers)
    if grid.has_versions or (len(seen) == grid.n_files and all(etag for _, etag, _ in seen)):
        return seen
    # Where the store names no versions, equal names must not claim equal pixels.
    return (uuid.uuid4().hex,)


def _size_bound(grid: FileGrid, found: Survey) -> int | None:
    known = grid.sizes[grid.sizes >= 0]
    if known.size == grid.n_files:
        return int(known.max())
    # Without a listing the first file is the best guess; a larger one only takes more room.
    return 2 * found.first.size_bytes


def _segment(level: Level) -> tuple[int, ...]:
    """Shape of what is read together, in the axes of the files."""
    geometry = level.geometry
    segment = [1] * len(geometry.shape)
    sizes = (1, *level.segment_shape, geometry.plane_shape[4])
    for axis, size in zip(geometry.plane_axes, sizes, strict=True):
        if axis is not None:
            segment[axis] = min(size, geometry.shape[axis])
    return tuple(segment)
