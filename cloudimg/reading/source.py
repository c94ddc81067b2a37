"""`Source`: one level of an image as an array that reads regions of itself from the files.

It has only what Dask needs of an array (shape, dtype, ndim, indexing). It pickles small, and it
connects to a store only when it is read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.distributed.on_worker import sendable_errors, warn_of_large_chunk
from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import CloudimgError, MismatchError
from cloudimg.errors.arrival import sent_everywhere
from cloudimg.errors.file_report import BadFile
from cloudimg.reading.agreement import ONE_SCALE, ExpectedFacts, differing_facts
from cloudimg.reading.averaging import Layer, average
from cloudimg.reading.bad_files import OnBad, warn_once
from cloudimg.reading.comparison import Expected
from cloudimg.reading.file_facts import facts_of
from cloudimg.reading.file_task import FileTask, allocate
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.indexing import normalize_index
from cloudimg.reading.layout import Assignment, Layout
from cloudimg.reading.reader import Reader
from cloudimg.reading.run import OnOpen
from cloudimg.reading.source_files import SourceFiles
from cloudimg.reading.window import Window
from cloudimg.storage import engine
from cloudimg.tiff import Region

Array = npt.NDArray[Any]


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
    expected: ExpectedFacts | None = None
    """What the first file says of the whole image, where files lie on Earth: each file is compared
    with it when it is read."""
    must_agree: tuple[str, ...] = ()
    """Facts that may differ from file to file otherwise."""
    window: Window | None = None
    """The part of the files' pixels that was selected; None for all."""

    @property
    def dims(self) -> tuple[str, ...]:
        dims = self.layout.dims
        return dims if self.window is None else tuple(dims[i] for i in self.window.kept)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape if self.window is None else self.window.shape

    @property
    def ndim(self) -> int:
        return len(self.dims)

    def region_of(self, index: tuple[int, ...]) -> Region:
        """Return the region of the image that the file at an index fills, maybe an empty one."""
        region = self.layout.region_of(index)
        return region if self.window is None else self.window.region(region)

    def __dask_tokenize__(self) -> str:
        return self.token

    def __repr__(self) -> str:
        return f"<cloudimg.Source {dict(zip(self.dims, self.shape, strict=True))} {self.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        return _arrived, (Parcel(content),)

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
            return self._read_window(region, allocate(shape, self.dtype), on_open, on_bad)
        with engine().allocating(size_bytes):
            return self._read_window(region, allocate(shape, self.dtype), on_open, on_bad)

    def _read_window(
        self, region: Region, out: Array, on_open: OnOpen | None, on_bad: OnBad | None
    ) -> Array:
        """Read the pixels of a region of the window into an array, and return it."""
        if self.window is None:
            return self._read(region, out, on_open, on_bad)
        told: set[tuple[int, ...]] = set()

        def on_bad_once(index: tuple[int, ...], file: BadFile, version: int) -> None:
            if on_bad is not None and index not in told:
                told.add(index)
                on_bad(index, file, version)

        whole = np.expand_dims(out, self.window.dropped)
        axes = self.layout.axes
        segment = [1 if a.file_axis is None else self.segment[a.file_axis] for a in axes]
        for full, place, picked in self.window.parts(region, segment):
            target = whole[place]
            if picked is not None:
                lengths = (len(range(s.start, s.stop, s.step)) for s in full)
                target = allocate(tuple(lengths), self.dtype)
            self._read(full, target, on_open, None if on_bad is None else on_bad_once)
            if picked is not None:
                whole[place] = target[np.ix_(*picked)]
        return out

    def _read(
        self, region: Region, out: Array, on_open: OnOpen | None, on_bad: OnBad | None
    ) -> Array:
        """Read a region of all pixels into an array, and return it."""
        if out.size == 0:
            return out
        tasks = []
        apart: list[tuple[Assignment, Array]] = []
        if self.layout.canvas is not None:
            out[...] = self.fill_value  # between the files
        # Who is told of the files that are opened, and compares them, needs each of them.
        needs_each = on_open is not None
        if on_open is None and self.expected is not None:
            on_open = self._compare
        for assignment in self.layout.assignments(region, all_files=needs_each):
            place = out[assignment.place]
            if not self.files.is_present(assignment.index):
                place[...] = self.fill_value
                if on_bad is not None:
                    on_bad(assignment.index, self._missing(assignment.index), 0)
                continue
            if assignment.is_apart:
                place = allocate(place.shape, self.dtype)
                apart.append((assignment, place))
            tasks.append(self._file_task(assignment, place.transpose(assignment.transpose)))
        fills_missing = self.reader.headers.context.fills_missing
        keeps_bad = self.fills_bad or fills_missing or on_bad is not None
        failed = self.reader.read(tasks, on_open, keeps_bad=keeps_bad)
        for task, error in failed:
            # A part of the pixels may have been written before the error.
            task.out[...] = self.fill_value
            self._tell_of_bad(task, error, on_bad)
        self._place(out, apart, {task.index for task, _ in failed})
        return out

    def _tell_of_bad(self, task: FileTask, error: CloudimgError, on_bad: OnBad | None) -> None:
        """Tell of a bad file whose pixels are filled, or raise the error of a missing one."""
        if on_bad is not None:
            on_bad(task.index, self._bad(task, error), error.file_version)
        elif error.bad_file == "missing":
            if not self.reader.headers.context.fills_missing:
                raise error
        elif not self.fills_bad:
            raise error
        else:
            warn_once(self.warning_token, self._bad(task, error), self.fill_value)

    def _place(
        self,
        out: Array,
        apart: Sequence[tuple[Assignment, Array]],
        bad: Collection[tuple[int, ...]],
    ) -> None:
        """Place pixels that were read apart, because files lie over each other."""
        if self.layout.canvas is not None and self.layout.canvas.blend == "mean":
            layers = [Layer(at.place, each) for at, each in apart if at.index not in bad]
            average(out, layers, self.layout.dims.index("y"))
        else:
            for assignment, pixels in apart:
                out[assignment.place] = pixels

    def _compare(self, index: tuple[int, ...], opened: OpenFile) -> None:
        """Refuse a file that lies elsewhere on Earth than its place in the image says."""
        assert self.expected is not None
        found = facts_of(opened.parsed.attrs, opened.parsed.coords)
        try:
            for remark in self.expected.compare(found, index, opened.url, self.layout):
                if differing_facts((remark,)) & set(self.must_agree):
                    raise MismatchError(
                        f"{opened.url} has {remark.text}. mask=True needs one: {ONE_SCALE}",
                        url=opened.url,
                    )
        except MismatchError as exc:
            exc.bad_file = None  # the file is a good one of another image
            raise

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
        index, pages, listed = assignment.index, self.files.pages, self.files.listed
        position = int(np.ravel_multi_index(index, self.files.grid_shape)) if index else 0
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
            listed=(-1, 0) if listed is None else listed.at(position),
        )


@sent_everywhere
def _arrived(parcel: Parcel[dict[str, Any]]) -> Source:
    return Source(**parcel.open())


def make_token(*parts: Any) -> str:
    """Return a short digest of everything that determines the pixels of a source."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
