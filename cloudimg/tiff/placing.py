"""Copying decoded pixels of one page to where they belong in the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.geometry import Geometry, overlap
from cloudimg.tiff.ifd import Buffer
from cloudimg.tiff.pieces import PageLayout, RowsPiece

Array = npt.NDArray[Any]
Window = tuple[slice, ...]
"""Separate samples, depth, height, width, contiguous samples."""


def plane_of(out: Array, geometry: Geometry, page_index: tuple[int, ...]) -> Array:
    """The part of the output that belongs to one page, as a view with five axes."""
    index: list[Any] = [slice(None)] * out.ndim
    for axis, i in zip(geometry.page_axes, page_index, strict=True):
        index[axis] = slice(i, i + 1)
    # Squeezed, not indexed by integers: a page of one pixel must stay a view.
    plane: Array = out[tuple(index)].squeeze(geometry.page_axes)
    axes = (np.newaxis if axis is None else slice(None) for axis in geometry.plane_axes)
    view: Array = plane[tuple(axes)]
    return view


def place_rows(
    piece: RowsPiece, data: Buffer, layout: PageLayout, window: Window, target: Array
) -> None:
    """Copy rows of a plain page from the bytes of their piece."""
    _, _, _, width, contig = layout.plane_shape
    shape = (len(piece.rows), len(piece.columns), contig)
    strides = (width * layout.pixel_bytes, layout.pixel_bytes, layout.dtype.itemsize)
    rows: Array = np.ndarray(shape, layout.dtype, data, 0, strides)
    if layout.has_reversed_bits:
        rows = _with_bits_reversed(rows)
    plane = target[index_in(window[0], piece.sample), index_in(window[1], piece.depth)]
    _copy(rows, (piece.rows.start, piece.columns.start), window, plane)


def place_segment(
    pixels: Array, corner: tuple[int, int, int, int], window: Window, target: Array
) -> None:
    """Copy a decoded segment.

    Parameters
    ----------
    pixels : ndarray
        Depth, height, width, contiguous samples.
    corner : tuple of int
        Separate sample of the segment, and its first depth, row and column in the page.
    window : tuple of slice
        Window in the page.
    target : ndarray
        Pixels of the window.
    """
    sample, first_depth, first_row, first_column = corner
    deep = overlap(window[1], first_depth, first_depth + pixels.shape[0])
    if deep is None:
        return
    planes = target[index_in(window[0], sample)]
    for source, destination in zip(pixels[deep[0]], planes[deep[1]], strict=True):
        _copy(source, (first_row, first_column), window, destination)


def _copy(rows: Array, corner: tuple[int, int], window: Window, plane: Array) -> None:
    """Copy height x width x contiguous samples to where they belong in the window."""
    high = overlap(window[2], corner[0], corner[0] + rows.shape[0])
    wide = overlap(window[3], corner[1], corner[1] + rows.shape[1])
    if high is not None and wide is not None:
        plane[high[1], wide[1]] = rows[high[0], wide[0], window[4]]


def _with_bits_reversed(rows: Array) -> Array:
    import imagecodecs

    reversed_rows: Array = imagecodecs.bitorder_decode(np.ascontiguousarray(rows))
    return reversed_rows


def index_in(window: slice, position: int) -> int:
    """Where a window along an axis has a position."""
    return int((position - window.start) // window.step)
