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

from cloudimg.discovery.grid import Keys
from cloudimg.errors import MissingFilesError
from cloudimg.reading.comparison import Expected
from cloudimg.reading.indexing import normalize_index
from cloudimg.reading.layout import Layout, axis_boundaries
from cloudimg.reading.reader import FileTask, Reader, allocate
from cloudimg.reading.run import OnOpen
from cloudimg.tiff import Region

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class SourceFiles:
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
    files: SourceFiles
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

    def boundaries(self) -> list[npt.NDArray[np.int64]]:
        """Per dim, where it can be cut without cutting a segment."""
        return [
            axis_boundaries(axis, 1 if axis.file_axis is None else self.segment[axis.file_axis])
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


def make_token(*parts: Any) -> str:
    """A short name for everything that decides what a source reads."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def missing_files(n_missing: int, examples: Sequence[str]) -> MissingFilesError:
    """The error for holes in the grid."""
    shown = ", ".join(examples) + (", ..." if n_missing > len(examples) else "")
    return MissingFilesError(
        f'{n_missing} files of the grid are missing: {shown}; pass missing="fill" (and'
        " fill_value=) to read them as a constant, or narrow the pattern"
    )
