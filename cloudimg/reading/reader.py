"""Read regions of files by byte ranges: header, plan, fetch, decode into the output.

The regions of many files are read together. Each file takes these steps:

1. its header is taken from the cache of this process, or parsed from the first bytes of the object
   (all of it where it is small and mostly wanted), fetching IFDs elsewhere in the file as needed;
2. the pieces that hold the region are planned and coalesced into few spans;
3. each span is fetched with one request, and decoded into the output as it arrives.

Fetching waits in the many threads of `storage.Engine`, decoding runs in its few; the steps of all
files overlap. The calling thread only waits, so the concurrency does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, LimitError, MismatchError
from cloudimg.reading.coalescing import Span, coalesce
from cloudimg.reading.comparison import Comparison, Expected, FileShape
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader
from cloudimg.reading.run import OnOpen, ReadRun
from cloudimg.reading.whole_file import WholeLevel
from cloudimg.storage import Blob, Store, engine
from cloudimg.tiff import AnyLevel, Derived, Level, Piece, Region

Array = npt.NDArray[Any]

WHOLE_FILE_BYTES = 16 * 2**20
"""Files up to this size are fetched with one request where most of their pixels are wanted."""
_WHOLE_FRACTION = 0.5
_MAX_SPAN_BYTES = 8 * 2**20
_MAX_GAP_BYTES = 2**20
_FREE_GAP_BYTES = 512
_MAX_WASTE = 0.2


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


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads regions of files in one store. Picklable and thread-safe."""

    headers: HeaderReader

    @property
    def store(self) -> Store:
        """The store of the files."""
        return self.headers.store

    def using(self, **changes: Any) -> Reader:
        """Return a reader with a changed `ReadContext`."""
        return Reader(self.headers.using(**changes))

    def read(self, tasks: Sequence[FileTask], on_open: OnOpen | None = None) -> None:
        """Fill the output of every task; call `on_open` for each file.

        Raises
        ------
        StorageError, FormatError, MismatchError
            The first failure; the outputs are then undefined.
        """
        run = ReadRun(engine(), self.headers.limits, on_open)
        for task in tasks:
            run.start(run.engine.fetch, partial(self._read_file, run, task))
        run.wait()

    def _read_file(self, run: ReadRun, task: FileTask) -> None:
        """Get the header of a file and start its next steps. Runs in a fetching thread."""
        if run.failed:
            return
        opened = self.headers.cached(task.key)
        if opened is None and (self.headers.reads_whole or _is_fetched_whole(task)):
            self._fetch_whole(run, task)
            return
        if opened is None:
            opened = self.headers.shared(task.key, size_bytes=task.size_bytes)
        run.start(run.engine.decode, self._start_fetches(run, task, opened))

    def _fetch_whole(self, run: ReadRun, task: FileTask) -> None:
        """Fetch a whole file, then start decoding it. Runs in a fetching thread."""
        budget = run.engine.budget
        cost = budget.claim(task.size_bytes or WHOLE_FILE_BYTES)
        try:
            blob = self.store.get(task.key)
        except BaseException:
            budget.release(cost)
            raise
        if self.headers.reads_whole:
            # A user's function may read with cloudimg too, so the budget is released before it.
            budget.release(cost)
            run.start(run.engine.decode_file, partial(self._decode_whole, run, task, blob, 0))
        else:
            run.start(run.engine.decode, partial(self._decode_whole, run, task, blob, cost))

    def _decode_whole(self, run: ReadRun, task: FileTask, blob: Blob, claimed_bytes: int) -> None:
        """Parse and decode a file that was fetched whole. Runs in a decoding thread.

        Parsing holds the interpreter's lock; in the many fetching threads it would delay all other
        responses.
        """
        try:
            if not run.failed:
                decode = self._start_fetches(run, task, self.headers.parse(task.key, blob))
                decode()
        finally:
            run.engine.budget.release(claimed_bytes)

    def _start_fetches(self, run: ReadRun, task: FileTask, opened: OpenFile) -> Callable[[], None]:
        """Start fetching what a region lacks; return the step that decodes what is in memory."""
        if run.on_open is not None:
            run.on_open(task.index, opened)
        if task.page is None:
            task = self._without_omitted_axes(task, opened)
            level = opened.parsed.levels[task.level]
        else:
            task, level = self._on_page(task, task.page, opened)
        while isinstance(level, Derived):
            level, task = _on_base(run, level, task)
        if isinstance(level, WholeLevel):
            pixels = level.pixels[task.region]
            return lambda: np.copyto(task.out, pixels)
        assert isinstance(level, Level)
        return self._start_span_fetches(run, task, opened, level)

    def _start_span_fetches(
        self, run: ReadRun, task: FileTask, opened: OpenFile, level: Level
    ) -> Callable[[], None]:
        """Do what `_start_fetches` does, for a level made of segments."""
        in_memory: list[Piece] = []
        missing: list[Piece] = []
        for piece in level.plan(task.region):
            if piece.start_bytes == piece.stop_bytes:
                # A piece without bytes fills a plane, in which other pieces then place pixels.
                level.place(piece, b"", task.region, task.out, run.limits)
                continue
            stop = min(piece.stop_bytes, opened.size_bytes)
            if piece.start_bytes >= stop or opened.file.have(piece.start_bytes, stop):
                in_memory.append(piece)
            else:
                missing.append(piece)
        for span in _spans(missing, opened.size_bytes):
            fetch = partial(self._fetch_span, run, task, opened, level, missing, span)
            run.start(run.engine.fetch, fetch)

        def decode() -> None:
            for piece in in_memory:
                if run.failed:
                    return
                stop = max(piece.start_bytes, min(piece.stop_bytes, opened.size_bytes))
                data = opened.file.have(piece.start_bytes, stop) or b""
                level.place(piece, data, task.region, task.out, run.limits)

        return decode

    def _fetch_span(
        self,
        run: ReadRun,
        task: FileTask,
        opened: OpenFile,
        level: Level,
        pieces: list[Piece],
        span: Span,
    ) -> None:
        """Fetch one span, then start decoding it. Runs in a fetching thread."""
        cost = run.engine.budget.claim(span.stop_bytes - span.start_bytes)
        try:
            if run.failed:
                run.engine.budget.release(cost)
                return
            blob = self._get_span(task.key, opened, span)
        except BaseException:
            run.engine.budget.release(cost)
            raise

        def decode() -> None:
            try:
                view = memoryview(blob.data)
                for i in span.members:
                    if run.failed:
                        return
                    piece = pieces[i]
                    start = max(0, piece.start_bytes - blob.start_bytes)
                    stop = max(0, piece.stop_bytes - blob.start_bytes)
                    level.place(piece, view[start:stop], task.region, task.out, run.limits)
            finally:
                run.engine.budget.release(cost)

        run.start(run.engine.decode, decode)

    def _get_span(self, key: str, opened: OpenFile, span: Span) -> Blob:
        """Get the bytes of a span; those that came with the header are not fetched again."""
        start, stop = span.start_bytes, span.stop_bytes
        beginning = opened.file.beginning(start, stop) or b""
        blob = self.store.get(key, start + len(beginning), stop)
        self.headers.check_version(key, opened.etag, opened.size_bytes, blob)
        if not beginning:
            return blob
        offset = start + len(beginning) - blob.start_bytes
        data = b"".join((beginning, memoryview(blob.data)[offset:]))
        return Blob(data, start, blob.size_bytes, blob.etag)

    def levels_of(self, opened: OpenFile, page: int) -> tuple[Level | Derived, ...]:
        """Return the levels of a page, in a file of a multi-file dataset.

        Raises
        ------
        CorruptFileError
            If there is no such page.
        """
        for levels in (opened.parsed.levels, *opened.parsed.others):
            readable = tuple(level for level in levels if isinstance(level, Level | Derived))
            if readable and readable[0].has(page):
                return readable
        raise CorruptFileError(
            f"{opened.url} has no page {page}, which its multi-file dataset places there",
            url=opened.url,
        )

    def _on_page(
        self, task: FileTask, page: int, opened: OpenFile
    ) -> tuple[FileTask, Level | Derived]:
        """Return the task with a leading axis of pages, and the level to read."""
        levels = self.levels_of(opened, page)
        level = levels[task.level] if task.level < len(levels) else None
        shape = level.shape[1:] if level is not None else ()
        dtype = level.dtype if level is not None else None
        comparison = Comparison(FileShape(opened.parsed.dims[1:], shape, dtype), task.expected)
        if level is None or not comparison.fits:
            raise MismatchError(
                f"page {page} of {opened.url} does not fit its multi-file dataset:"
                f" {comparison.differences} (expected from {task.expected.first_url})",
                url=opened.url,
            )
        region = (slice(page, page + 1, 1), *task.region)
        return replace(task, region=region, out=task.out[np.newaxis]), level

    def _without_omitted_axes(self, task: FileTask, opened: OpenFile) -> FileTask:
        """Return the task without axes of length 1 that the file omits.

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
            raise comparison.error(self.store.location.display(task.key))
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


def _on_base(run: ReadRun, level: Derived, task: FileTask) -> tuple[AnyLevel, FileTask]:
    """Return the level from which a derived one is computed, and the task to read from it.

    The derived pixels are computed at the end of the run, when everything has been read.
    """
    region = level.needs(task.region)
    shape = tuple(len(range(s.start, s.stop, s.step)) for s in region)
    pixels = allocate(shape, level.base.dtype)
    run.at_end(partial(level.finish, pixels, task.region, task.out))
    return level.base, replace(task, region=region, out=pixels)


def _is_fetched_whole(task: FileTask) -> bool:
    """Whether a file is small, and most of its pixels are wanted."""
    size = task.size_bytes
    if task.level != 0 or task.page is not None or size is None or size > WHOLE_FILE_BYTES:
        return False
    n_pixels = math.prod(task.expected.shape)
    n_wanted = math.prod(len(range(s.start, s.stop, s.step)) for s in task.region)
    return n_wanted >= _WHOLE_FRACTION * n_pixels


def _spans(pieces: list[Piece], size_bytes: int) -> list[Span]:
    """Return the spans to fetch for some pieces."""
    starts = np.array([piece.start_bytes for piece in pieces], np.int64)
    stops = np.array([min(piece.stop_bytes, size_bytes) for piece in pieces], np.int64)
    return coalesce(
        starts,
        stops,
        max_gap_bytes=_MAX_GAP_BYTES,
        free_gap_bytes=_FREE_GAP_BYTES,
        max_waste=_MAX_WASTE,
        max_span_bytes=_MAX_SPAN_BYTES,
    )
