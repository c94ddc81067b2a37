"""`Source`: an image as an array that reads itself, by regions, from its files.

It has what Dask asks of an array (shape, dtype, ndim, slicing) and nothing else; it pickles small
and connects to nothing until it is read. One source is one level of one image.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, MissingFilesError
from cloudimg.grid import Keys
from cloudimg.layout import Layout, boundaries
from cloudimg.reader import Expected, FileTask, OnOpen, Reader, allocate
from cloudimg.tiff import Region

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of an image, as far as reading needs to know them."""

    keys: Keys
    present: bytes | None
    """Bits in C order of the grid, packed and compressed; None where every file is there."""
    grid_shape: tuple[int, ...]
    size_bound_bytes: int | None
    """No file is larger, where sizes are known."""
    pages: npt.NDArray[np.int64] | None = None
    """By index in the grid: which page of its file is there, in a set of files."""

    def is_present(self, index: tuple[int, ...]) -> bool:
        if self.present is None:
            return True
        flat = int(np.ravel_multi_index(index, self.grid_shape)) if index else 0
        return bool(_unpacked(self.present)[flat >> 3] >> (7 - (flat & 7)) & 1)


def pack(present: npt.NDArray[np.bool_]) -> bytes:
    """A bitmap as `Files` holds it: holes are regular, so that it travels small."""
    return zlib.compress(np.packbits(present).tobytes(), 6)


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> bytes:
    return zlib.decompress(packed)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One level of an image.

    Indexing takes integers, slices with any step, ``...`` and lists or arrays of integers, with
    NumPy's meaning, and returns an ndarray in the order of `dims`.
    """

    reader: Reader
    files: Files
    layout: Layout
    level: int
    file_dims: tuple[str, ...]
    """Axes of the files as the files name them."""
    segment: tuple[int, ...]
    """Shape of a segment (tile, strip or page), in the files' axes."""
    dtype: np.dtype[Any]
    fill_value: float | int | complex
    """Stands where a file is missing."""
    first_url: str
    token: str
    """Changes when a file, the pattern or an argument does; holds no secret."""

    @property
    def dims(self) -> tuple[str, ...]:
        return self.layout.dims

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    @property
    def ndim(self) -> int:
        return len(self.layout.axes)

    def __dask_tokenize__(self) -> str:
        return self.token

    def __repr__(self) -> str:
        return f"<cloudimg.Source {dict(zip(self.dims, self.shape, strict=True))} {self.dtype}>"

    def cuts(self) -> list[npt.NDArray[np.int64]]:
        """Per dim, where it can be cut without cutting a segment."""
        return [
            boundaries(axis, 1 if axis.file_axis is None else self.segment[axis.file_axis])
            for axis in self.layout.axes
        ]

    def __getitem__(self, key: Any) -> Array:
        region, final = normalize_index(key, self.shape)
        result = self.read(region)
        final_view: Array = result[final]
        return final_view

    def read(self, region: Region, on_open: OnOpen | None = None) -> Array:
        """Pixels of a region.

        Parameters
        ----------
        region : tuple of slice
            Per dim, with start, stop and a positive step, within bounds.
        on_open : callable, optional
            Is told the index in the grid and the header of each file that is opened.

        Returns
        -------
        ndarray
            In the order of `dims`; a slice keeps its dim.

        Raises
        ------
        StorageError, FormatError, GridError
        """
        shape = tuple(len(range(s.start, s.stop, s.step)) for s in region)
        out = allocate(shape, self.dtype)
        if out.size == 0:
            return out
        tasks = []
        for assignment in self.layout.assignments(region):
            place = out[assignment.place]
            if not self.files.is_present(assignment.index):
                place[...] = self.fill_value
                continue
            expected = Expected(
                self.file_dims,
                self.layout.file_shape(assignment.index),
                self.dtype,
                self.first_url,
            )
            key = self.reader.store.location.key_of(self.files.keys(assignment.index))
            view = place.transpose(assignment.transpose)
            tasks.append(
                FileTask(
                    key,
                    self.level,
                    assignment.file_region,
                    view,
                    expected,
                    self.files.size_bound_bytes,
                    None if self.files.pages is None else int(self.files.pages[assignment.index]),
                    assignment.index,
                )
            )
        self.reader.read(tasks, on_open)
        return out


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


def make_token(*parts: Any) -> str:
    """A short name for everything that decides what a source reads."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def refuse_missing(n_missing: int, examples: Sequence[str]) -> MissingFilesError:
    """The error for holes in the grid."""
    shown = ", ".join(examples) + (", ..." if n_missing > len(examples) else "")
    return MissingFilesError(
        f'{n_missing} files of the grid are missing: {shown}; pass missing="fill" (and'
        " fill_value=) to read them as a constant, or narrow the pattern"
    )
