"""NumPy indices as a region to read and what is left to do to it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.tiff import Region


def normalize_index(key: Any, shape: Sequence[int]) -> tuple[Region, tuple[Any, ...]]:
    """Split a NumPy basic index into a region to read and what is left to do to it.

    Returns
    -------
    region : tuple of slice
        Positive steps, within bounds.
    final : tuple
        Index for the array read: drops integer axes, flips negative steps.

    Raises
    ------
    ArgumentError, IndexError
    """
    items = list(key) if isinstance(key, tuple) else [key]
    if sum(item is Ellipsis for item in items) > 1:
        raise ArgumentError("an index can only have a single ellipsis ('...')")
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    rest = len(shape) - (len(items) - (at < len(items)))
    if rest < 0:
        raise IndexError(f"too many indices: {len(items)} for {len(shape)} dims")
    items[at : at + 1] = [slice(None)] * rest
    region: list[slice] = []
    final: list[Any] = []
    for item, length in zip(items, shape, strict=True):
        if isinstance(item, slice):
            try:
                start, stop, step = item.indices(length)
            except (TypeError, ValueError) as exc:
                raise ArgumentError(f"{item} is no slice of a dim: {exc}") from None
            count = len(range(start, stop, step))
            if step < 0:
                start, step = start + (count - 1) * step, -step
                final.append(slice(None, None, -1))
            else:
                final.append(slice(None))
            first = start if count else 0
            region.append(
                slice(first, first + max(0, (count - 1) * step + 1) if count else first, step)
            )
        elif isinstance(item, list | np.ndarray):
            part, chosen = _fancy(item, length)
            region.append(part)
            final.append(chosen)
        elif isinstance(item, int | np.integer) and not isinstance(item, bool):
            i = int(item)
            if not -length <= i < length:
                raise IndexError(f"index {i} is out of bounds for a dim of length {length}")
            i %= length
            region.append(slice(i, i + 1, 1))
            final.append(0)
        else:
            raise ArgumentError(f"an index must be integers, slices or lists, not {item!r}")
    return tuple(region), tuple(final)


def _fancy(item: Any, length: int) -> tuple[slice, npt.NDArray[np.intp]]:
    """The range that some positions span, and the positions in it."""
    chosen = np.asarray(item)
    if chosen.dtype == bool:
        if chosen.shape != (length,):
            raise IndexError(f"a mask of shape {chosen.shape} for a dim of length {length}")
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0:
        return slice(0, 0, 1), np.zeros(chosen.shape, np.intp)
    if chosen.dtype.kind not in "iu" or chosen.min() < -length or chosen.max() >= length:
        raise IndexError(f"positions out of bounds for a dim of length {length}, or no integers")
    chosen = np.where(chosen < 0, chosen + length, chosen).astype(np.intp)
    first = int(chosen.min())
    return slice(first, int(chosen.max()) + 1, 1), chosen - first
