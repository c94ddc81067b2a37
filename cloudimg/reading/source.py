"""`Source`: one level of an image as an array that reads regions of itself from the files.

It has only what Dask needs of an array (shape, dtype, ndim, indexing). It pickles small, and it
connects to a store only when it is read.
"""

from __future__ import annotations

import functools
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import Keys
from cloudimg.distributed.on_worker import sendable_errors, warn_of_large_chunk
from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import CloudimgError, MissingFilesError, counted
from cloudimg.errors.arrival import sent_everywhere
from cloudimg.errors.file_report import BadFile
from cloudimg.pattern import Label
from cloudimg.reading.bad_files import OnBad, warn_once
from cloudimg.reading.chunk_cost import StoredPixels
from cloudimg.reading.comparison import Expected
from cloudimg.reading.file_task import FileTask, allocate
from cloudimg.reading.identities import Identities
from cloudimg.reading.indexing import normalize_index
from cloudimg.reading.layout import Assignment, Layout, axis_boundaries
from cloudimg.reading.reader import WHOLE_FILE_BYTES, Reader
from cloudimg.reading.run import OnOpen
from cloudimg.storage import engine
from cloudimg.tiff import Region

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The grid of files as far as reading needs it. Pickles small."""

    keys: Keys
    """Names of the files by index in the grid."""
    present: bytes | None
    """Packed bitmap of the files that exist, made by `pack`; None if all do."""
    grid_shape: tuple[int, ...]
    size_bound_bytes: int | None
    """Upper bound of the size of a file, where sizes are known or can be guessed."""
    pages: npt.NDArray[np.int64] | None = None
    """Number of the page in its file by index in the grid, in a multi-file dataset."""
    first_pages: bytes | None = None
    """Packed bitmap of the first page of each file, made by `pack`, in a multi-file dataset."""
    identities: Identities | None = None
    """UUIDs of the files of a multi-file dataset, if each has one."""
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    """Labels by axis of the grid, where missing files have no names in `keys`."""

    def name_of(self, index: tuple[int, ...]) -> str | None:
        """Name of the file at an index; None of a missing file that the pattern cannot name."""
        rows = self.keys.rows
        return None if self.labels and rows is not None and rows[index] < 0 else self.keys(index)

    def labels_at(self, index: tuple[int, ...]) -> str:
        """The labels at an index, as text."""
        pairs = zip(self.labels.items(), index, strict=True)
        return "(" + ", ".join(f"{name}={labels[i]}" for (name, labels), i in pairs) + ")"

    def is_present(self, index: tuple[int, ...]) -> bool:
        """Whether there is a file at an index."""
        return self.present is None or self._bit(self.present, index)

    def is_first_page(self, index: tuple[int, ...]) -> bool:
        """Whether no earlier index of the grid has a page of the same file."""
        return self.first_pages is None or self._bit(self.first_pages, index)

    def _bit(self, packed: bytes, index: tuple[int, ...]) -> bool:
        flat = int(np.ravel_multi_index(index, self.grid_shape)) if index else 0
        return bool(_unpacked(packed)[flat >> 3] >> (7 - (flat & 7)) & 1)


def pack(present: npt.NDArray[np.bool_]) -> bytes:
    """Compress a bitmap in C order; missing files are often regular, so it becomes small."""
    return zlib.compress(np.packbits(present).tobytes(), 6)


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> bytes:
    return zlib.decompress(packed)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source:
    """One level of an image.

    Indexing works as in NumPy with integers, slices with any step, ``...``, and lists or arrays of
    integers; it returns an ndarray in the order of `dims`.
    """

    reader: Reader
    files: SourceFiles
    layout: Layout
    level: int
    """Number of the level; 0 is full resolution."""
    file_dims: tuple[str, ...]
    """Axes of the files before the user's renaming."""
    segment: tuple[int, ...]
    """Shape of a segment (tile, strip or page), in the axes of the files."""
    pixel_bytes: int | None
    """Stored size of a pixel of pages that are fetched by rows, see `AnyLevel.pixel_bytes`."""
    dtype: np.dtype[Any]
    fill_value: float | int | complex
    """Value of pixels whose file is missing or bad."""
    fills_bad: bool
    """Whether the pixels of bad files are the fill value, rather than an error."""
    first_url: str
    """URL of the first file, for messages."""
    token: str
    """Identifies the pixels: changes when a file, the pattern or an argument does. Not secret."""

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

    def __reduce__(self) -> tuple[Any, ...]:
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        return _arrived, (Parcel(content),)

    @property
    def stored_pixels(self) -> StoredPixels | None:
        """How the pixels lie in the files, None where that is not known."""
        if self.pixel_bytes is None:
            return None
        by_name = {
            self.file_dims[axis.file_axis]: dim
            for dim, axis in enumerate(self.layout.axes)
            if axis.file_axis is not None
        }
        size = self.files.size_bound_bytes
        return StoredPixels(
            layout=self.layout,
            segment=self.segment,
            pixel_bytes=self.pixel_bytes,
            rows=(by_name["y"], by_name["x"]) if self.pixel_bytes else None,
            fetches_whole=self.level == 0
            and self.files.pages is None
            and size is not None
            and size <= WHOLE_FILE_BYTES,
        )

    def boundaries(self) -> list[npt.NDArray[np.int64]]:
        """Return, per dim, the positions between segments."""
        return self._boundaries(self.segment)

    def row_boundaries(self, most_bytes: int) -> list[npt.NDArray[np.int64]]:
        """Return the positions between segments of at most so many bytes, where rows are fetched.

        Larger segments are divided evenly into groups of rows.
        """
        segment = list(self.segment)
        if self.pixel_bytes and "y" in self.file_dims:
            y = self.file_dims.index("y")
            n_parts = -(-math.prod(segment) * self.dtype.itemsize // most_bytes)
            segment[y] = max(1, -(-segment[y] // n_parts))
        return self._boundaries(segment)

    def file_boundaries(self, most_bytes: int) -> list[npt.NDArray[np.int64]] | None:
        """Return the positions between files if they are small, and are fetched whole.

        None if they are not, or have more decoded bytes than `most_bytes`.
        """
        stored = self.stored_pixels
        shape = self.layout.file_shape((0,) * self.layout.n_fields)
        if stored is None or not stored.fetches_whole:
            return None
        if math.prod(shape) * self.dtype.itemsize > most_bytes:
            return None
        return self._boundaries(shape)

    def _boundaries(self, parts: Sequence[int]) -> list[npt.NDArray[np.int64]]:
        return [
            axis_boundaries(axis, 1 if axis.file_axis is None else parts[axis.file_axis])
            for axis in self.layout.axes
        ]

    def __getitem__(self, key: Any) -> Array:
        region, final = normalize_index(key, self.shape)
        n_pixels = math.prod(len(range(s.start, s.stop, s.step)) for s in region)
        warn_of_large_chunk(n_pixels * self.dtype.itemsize)
        with sendable_errors():
            result = self.read(region)
        final_view: Array = result[final]
        return final_view

    def read(
        self, region: Region, on_open: OnOpen | None = None, on_bad: OnBad | None = None
    ) -> Array:
        """Read the pixels of a region.

        Parameters
        ----------
        region : tuple of slice
            Per dim, with start, stop and a positive step, within bounds.
        on_open : callable, optional
            Called with the index in the grid and the header of each file that is opened.
        on_bad : callable, optional
            Called with the index of each file that is missing or bad, and with its version where
            its header cannot be read, otherwise 0. Bad files are then no error, whatever
            `fills_bad` is; their pixels are the fill value. A file that `files` has is "missing" if
            it was not looked up when the image was opened and does not exist.

        Returns
        -------
        ndarray
            Pixels in the order of `dims`.

        Raises
        ------
        StorageError, FormatError, GridError
        """
        shape = tuple(len(range(s.start, s.stop, s.step)) for s in region)
        size_bytes = math.prod(shape) * self.dtype.itemsize
        # A user's function may read with cloudimg too, and must not wait for what waits for it.
        if self.reader.headers.reads_whole:
            return self._read(region, allocate(shape, self.dtype), on_open, on_bad)
        with engine().allocating(size_bytes):
            return self._read(region, allocate(shape, self.dtype), on_open, on_bad)

    def _read(
        self, region: Region, out: Array, on_open: OnOpen | None, on_bad: OnBad | None
    ) -> Array:
        """Read the pixels of a region into an array, and return it."""
        if out.size == 0:
            return out
        tasks = []
        for assignment in self.layout.assignments(region):
            place = out[assignment.place]
            if not self.files.is_present(assignment.index):
                place[...] = self.fill_value
                if on_bad is not None:
                    on_bad(assignment.index, self._missing(assignment.index), 0)
                continue
            tasks.append(self._file_task(assignment, place.transpose(assignment.transpose)))
        keeps_bad = self.fills_bad or on_bad is not None
        for task, error in self.reader.read(tasks, on_open, keeps_bad=keeps_bad):
            # A part of the pixels may have been written before the error.
            task.out[...] = self.fill_value
            if on_bad is not None:
                on_bad(task.index, self._bad(task, error), error.file_version)
            elif error.bad_file == "missing":
                raise error
            else:
                warn_once(self.warning_token, self._bad(task, error), self.fill_value)
        return out

    @property
    def warning_token(self) -> str:
        """Identifies the image of which a process warns once that it has bad files."""
        return self.reader.headers.context.epoch

    def _missing(self, index: tuple[int, ...]) -> BadFile:
        location, name = self.reader.store.location, self.files.name_of(index)
        where = (
            self.files.labels_at(index) if name is None else location.display(location.key_of(name))
        )
        return BadFile(where, "missing", "")

    def _bad(self, task: FileTask, error: CloudimgError) -> BadFile:
        url = self.reader.store.location.display(task.key)
        return BadFile.of(url, str(error.bad_file), error.message)

    def _file_task(self, assignment: Assignment, out: Array) -> FileTask:
        index, pages = assignment.index, self.files.pages
        return FileTask(
            key=self.reader.store.location.key_of(self.files.keys(index)),
            level=self.level,
            region=assignment.file_region,
            out=out,
            expected=Expected(
                self.file_dims, self.layout.file_shape(index), self.dtype, self.first_url
            ),
            size_bytes=self.files.size_bound_bytes,
            page=None if pages is None else int(pages[index]),
            index=index,
            identities=self.files.identities,
        )


@sent_everywhere
def _arrived(parcel: Parcel[dict[str, Any]]) -> Source:
    return Source(**parcel.open())


def make_token(*parts: Any) -> str:
    """Return a short digest of everything that determines the pixels of a source."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def missing_files(n_missing: int, examples: Sequence[str]) -> MissingFilesError:
    """Return the error for missing files in a grid."""
    shown = ", ".join(examples) + (", ..." if n_missing > len(examples) else "")
    return MissingFilesError(
        f"{counted(n_missing, 'file of the grid is', 'files of the grid are')} missing: {shown};"
        ' pass missing="fill" (and fill_value=) to read them as a constant, or narrow the pattern'
    )
