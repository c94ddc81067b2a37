"""Split a NumPy index into a region to read and an index into the array read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.tiff import Region


def normalize_index(key: Any, shape: Sequence[int]) -> tuple[Region, tuple[Any, ...]]:
    """Split a NumPy index into a region to read and an index into the array read.

    Returns
    -------
    region : tuple of slice
        Per dim, with a positive step, within bounds.
    final : tuple
        Index into the array read: drops the dims of integers, reverses those of negative steps,
        selects the positions of lists and arrays.

    Raises
    ------
    ArgumentError, IndexError
    """
    parts = [
        _split_item(item, length)
        for item, length in zip(_expand_ellipsis(key, len(shape)), shape, strict=True)
    ]
    return tuple(region for region, _ in parts), tuple(final for _, final in parts)


def _expand_ellipsis(key: Any, ndim: int) -> list[Any]:
    """Return one item per dim, with full slices for an ellipsis and for dims at the end."""
    items = list(key) if isinstance(key, tuple) else [key]
    n_ellipses = sum(item is Ellipsis for item in items)
    if n_ellipses > 1:
        raise ArgumentError("an index can only have a single ellipsis ('...')")
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    n_omitted = ndim - (len(items) - n_ellipses)
    if n_omitted < 0:
        raise IndexError(f"too many indices: {len(items) - n_ellipses} for {ndim} dims")
    items[at : at + 1] = [slice(None)] * n_omitted
    return items


def _split_item(item: Any, length: int) -> tuple[slice, Any]:
    """Split the index of one dim."""
    if isinstance(item, slice):
        return _split_slice(item, length)
    if isinstance(item, list | np.ndarray):
        return _split_positions(item, length)
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        i = int(item)
        if not -length <= i < length:
            raise IndexError(f"index {i} is out of bounds for a dim of length {length}")
        i %= length
        return slice(i, i + 1, 1), 0
    raise ArgumentError(f"an index must be integers, slices or lists, not {item!r}")


def _split_slice(item: slice, length: int) -> tuple[slice, slice]:
    try:
        positions = range(length)[item]
    except (TypeError, ValueError) as exc:
        raise ArgumentError(f"{item} is not a valid slice of a dim: {exc}") from exc
    final = slice(None)
    if positions.step < 0:
        positions, final = positions[::-1], slice(None, None, -1)
    if not positions:
        return slice(0, 0, positions.step), final
    return slice(positions[0], positions[-1] + 1, positions.step), final


def _split_positions(item: Any, length: int) -> tuple[slice, npt.NDArray[np.intp]]:
    """Return the range that spans some positions, and the positions relative to its start."""
    chosen = np.asarray(item)
    if chosen.dtype == bool:
        if chosen.shape != (length,):
            raise IndexError(f"a mask of shape {chosen.shape} for a dim of length {length}")
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0:
        return slice(0, 0, 1), np.zeros(chosen.shape, np.intp)
    if chosen.dtype.kind not in "iu":
        raise IndexError(f"positions must be integers, not {chosen.dtype}")
    if chosen.min() < -length or chosen.max() >= length:
        raise IndexError(f"positions out of bounds for a dim of length {length}")
    chosen = np.where(chosen < 0, chosen + length, chosen).astype(np.intp)
    first = int(chosen.min())
    return slice(first, int(chosen.max()) + 1, 1), chosen - first
