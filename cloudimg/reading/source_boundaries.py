"""Where segments, rows and files begin in a source: chunks that are cut elsewhere cost more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cloudimg.reading.chunk_cost import StoredPixels
from cloudimg.reading.coalescing import WHOLE_FILE_BYTES
from cloudimg.reading.layout import boundaries
from cloudimg.reading.source import Source

Boundaries = list[npt.NDArray[np.int64]]
"""Positions per dim, in increasing order."""


def stored_pixels(source: Source) -> StoredPixels | None:
    """How the pixels lie in the files; None if unknown, on a canvas, or in a window."""
    layout, size = source.layout, source.files.size_bound_bytes
    if source.pixel_bytes is None or layout.canvas is not None or source.window is not None:
        return None
    by_name = {
        source.file_dims[axis.file_axis]: dim
        for dim, axis in enumerate(layout.axes)
        if axis.file_axis is not None
    }
    return StoredPixels(
        layout=layout,
        segment=source.segment,
        pixel_bytes=source.pixel_bytes,
        rows=(by_name["y"], by_name["x"]) if source.pixel_bytes else None,
        fetches_whole=source.level == 0
        and source.files.pages is None
        and size is not None
        and size <= WHOLE_FILE_BYTES,
    )


def segment_boundaries(source: Source) -> Boundaries:
    """Return, per dim, the positions between segments."""
    return _boundaries(source, source.segment)


def row_boundaries(source: Source, most_bytes: int) -> Boundaries:
    """Return the positions between segments of at most so many bytes, where rows are fetched.

    Larger segments are divided evenly into groups of rows.
    """
    segment = list(source.segment)
    if source.pixel_bytes and "y" in source.file_dims:
        y = source.file_dims.index("y")
        n_parts = -(-math.prod(segment) * source.dtype.itemsize // most_bytes)
        segment[y] = max(1, -(-segment[y] // n_parts))
    return _boundaries(source, segment)


def file_boundaries(source: Source, most_bytes: int) -> Boundaries | None:
    """Return the positions between files if they are small, and are fetched whole.

    None if they are not, or have more decoded bytes than `most_bytes`.
    """
    stored = stored_pixels(source)
    shape = source.layout.file_shape((0,) * source.layout.n_fields)
    if stored is None or not stored.fetches_whole:
        return None
    if math.prod(shape) * source.dtype.itemsize > most_bytes:
        return None
    return _boundaries(source, shape)


def _boundaries(source: Source, parts: Sequence[int]) -> Boundaries:
    layout, window = source.layout, source.window
    by_axis = [
        boundaries(layout, axis, 1 if axis.file_axis is None else parts[axis.file_axis])
        for axis in layout.axes
    ]
    return by_axis if window is None else window.boundaries(by_axis)
