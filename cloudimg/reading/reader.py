"""Reading regions of files by byte ranges: header, plan, fetch, decode into place.

Strategy. The regions of many files are read in one go. Each file takes these steps:

1. its header: from the cache of this process, else the first bytes of the object (all of it where
   it is small and wanted whole), parsed with jumps to directories elsewhere in the file;
2. a plan: the pieces that hold the region, joined into few spans;
3. the spans are fetched, each as its own request, and decoded into the output as they arrive.

Fetching waits in the many threads of `storage.Engine`, decoding works in its few; the steps of all
files overlap. The thread that called only waits, so the concurrency does not depend on it.
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
from cloudimg.tiff import Derived, Level, Piece, Region
from cloudimg.tiff.parsed import AnyLevel

Array = npt.NDArray[Any]

WHOLE_FILE_BYTES = 16 * 2**20
"""Files up to this size are fetched by one request when most of them is wanted."""
_WHOLE_FRACTION = 0.5
_MAX_SPAN_BYTES = 8 * 2**20
_MAX_GAP_BYTES = 2**20
_FREE_GAP_BYTES = 512
_MAX_WASTE = 0.2


@dataclass(frozen=True, slots=True)
class FileTask:
    """A region of one file and where its pixels go."""

    key: str
    level: int
    region: Region
    """In the file's own dims."""
    out: Array
    """Writable view of the region's shape, any strides."""
    expected: Expected
    size_bytes: int | None
    """Size of the object or an upper bound of it, where known."""
    page: int | None = None
    """Number of the page that is meant, in a member of a set."""
    index: tuple[int, ...] = ()
    """Of the file in the grid, for whom it is told to that the file was opened."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads files of one store. Making one fetches nothing; it pickles; it is thread-safe."""

    headers: HeaderReader

    @property
    def store(self) -> Store:
        """The store of the files."""
        return self.headers.store

    def using(self, **changes: Any) -> Reader:
        """A reader whose `ReadContext` has other values."""
        return Reader(self.headers.using(**changes))

    def read(self, tasks: Sequence[FileTask], on_open: OnOpen | None = None) -> None:
        """Fill the output of every task; tell `on_open` of each file.

        Raises
        ------
        StorageError, FormatError, MismatchError
            The first failure; the outputs are then undefined.
        """
        run = ReadRun(engine(), on_open)
        for task in tasks:
            run.start(run.engine.fetch, partial(self._begin, run, task))
        run.wait()

    def _begin(self, run: ReadRun, task: FileTask) -> None:
        """In a fetching thread: get the header, then go on with the pieces."""
        if run.failed:
            return
        opened = self.headers.cached(task.key)
        size = task.size_bytes
        small = size is not None and size <= WHOLE_FILE_BYTES and task.page is None
        if opened is None and (self.headers.reads_whole or (small and _wants_most(task))):
            cost = run.engine.budget.claim(size or WHOLE_FILE_BYTES)
            try:
                blob = self.store.get(task.key)
            except BaseException:
                run.engine.budget.release(cost)
                raise
            if self.headers.reads_whole:
                # Not held while a user's reader runs: it may read by cloudimg too.
                run.engine.budget.release(cost)
                run.start(run.engine.decode_file, partial(self._take_whole, run, task, blob, 0))
            else:
                run.start(run.engine.decode, partial(self._take_whole, run, task, blob, cost))
            return
        if opened is None:
            opened = self.headers.shared(task.key, size_bytes=size)
        decode_here = self._go_on(run, task, opened)
        run.start(run.engine.decode, decode_here)

    def _take_whole(self, run: ReadRun, task: FileTask, blob: Blob, held_bytes: int) -> None:
        """In a decoding thread: all of a file is here.

        Parsing holds the interpreter's lock; in the many fetching threads it would keep the
        answers of all others waiting.
        """
        try:
            if not run.failed:
                self._go_on(run, task, self.headers.parse(task.key, blob))()
        finally:
            run.engine.budget.release(held_bytes)

    def _go_on(self, run: ReadRun, task: FileTask, opened: OpenFile) -> Callable[[], None]:
        """Plan; have the rest fetched; returns the decoding of what is here already."""
        if run.on_open is not None:
            run.on_open(task.index, opened)
        if task.page is None:
            task = self._checked(task, opened)
            level = opened.parsed.levels[task.level]
        else:
            task, level = self._page(task, task.page, opened)
        while isinstance(level, Derived):
            level, task = _below(run, level, task)
        if isinstance(level, WholeLevel):
            pixels = level.pixels[task.region]
            return lambda: np.copyto(task.out, pixels)
        assert isinstance(level, Level)
        return self._go_on_segments(run, task, opened, level)

    def _go_on_segments(
        self, run: ReadRun, task: FileTask, opened: OpenFile, level: Level
    ) -> Callable[[], None]:
        """The same for a level made of segments."""
        here: list[Piece] = []
        missing: list[Piece] = []
        for piece in level.plan(task.region):
            if piece.start_bytes == piece.stop_bytes:
                level.place(
                    piece, b"", task.region, task.out, run.limits
                )  # before what it surrounds
                continue
            stop = min(piece.stop_bytes, opened.size_bytes)
            if piece.start_bytes >= stop or opened.file.have(piece.start_bytes, stop):
                here.append(piece)
            else:
                missing.append(piece)
        for span in _spans(missing, opened.size_bytes):
            fetch = partial(self._fetch, run, task, opened, level, missing, span)
            run.start(run.engine.fetch, fetch)

        def decode_here() -> None:
            for piece in here:
                if run.failed:
                    return
                stop = max(piece.start_bytes, min(piece.stop_bytes, opened.size_bytes))
                data = opened.file.have(piece.start_bytes, stop) or b""
                level.place(piece, data, task.region, task.out, run.limits)

        return decode_here

    def _fetch(
        self,
        run: ReadRun,
        task: FileTask,
        opened: OpenFile,
        level: Level,
        pieces: list[Piece],
        span: Span,
    ) -> None:
        """In a fetching thread: get one span, then have it decoded."""
        cost = run.engine.budget.claim(span.stop_bytes - span.start_bytes)
        try:
            if run.failed:
                run.engine.budget.release(cost)
                return
            blob = self._rest_of(task.key, opened, span)
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
                    data = view[
                        max(0, piece.start_bytes - blob.start_bytes) : max(
                            0, piece.stop_bytes - blob.start_bytes
                        )
                    ]
                    level.place(piece, data, task.region, task.out, run.limits)
            finally:
                run.engine.budget.release(cost)

        run.start(run.engine.decode, decode)

    def _rest_of(self, key: str, opened: OpenFile, span: Span) -> Blob:
        """A span, of which the header's request may have brought the beginning already."""
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
        """The levels that have a page of a member of a set.

        Raises
        ------
        CorruptFileError
            If there is no such page.
        """
        for levels in (opened.parsed.levels, *opened.parsed.others):
            found = tuple(level for level in levels if isinstance(level, Level | Derived))
            if found and found[0].has(page):
                return found
        raise CorruptFileError(
            f"{opened.url} has no page {page}, which the set that it belongs to places there",
            url=opened.url,
        )

    def _page(
        self, task: FileTask, page: int, opened: OpenFile
    ) -> tuple[FileTask, Level | Derived]:
        """The task for one page of a member of a set, and the level that has it."""
        levels = self.levels_of(opened, page)
        level = levels[task.level] if task.level < len(levels) else None
        shape = level.shape[1:] if level is not None else ()
        dtype = level.dtype if level is not None else None
        found = FileShape(opened.parsed.dims[1:], shape, dtype)
        comparison = Comparison(found, task.expected)
        if level is None or not comparison.fits:
            raise MismatchError(
                f"page {page} of {opened.url} does not fit its multi-file dataset:"
                f" {comparison.differences} (expected from {task.expected.first_url})",
                url=opened.url,
            )
        region = (slice(page, page + 1, 1), *task.region)
        return replace(task, region=region, out=task.out[np.newaxis]), level

    def _checked(self, task: FileTask, opened: OpenFile) -> FileTask:
        """The task in the axes that the file has, if the file is what is expected of it."""
        parsed, expected = opened.parsed, task.expected
        level = parsed.levels[task.level] if task.level < len(parsed.levels) else None
        found = FileShape(parsed.dims, level.shape if level else (), level.dtype if level else None)
        comparison = Comparison(found, expected)
        if comparison.fits:
            return task
        lacking = comparison.lacking
        if not lacking:
            raise comparison.error(self.store.location.display(task.key))
        region = tuple(part for i, part in enumerate(task.region) if i not in lacking)
        return replace(task, region=region, out=task.out.squeeze(lacking))


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Room for a region.

    Raises
    ------
    LimitError
        If the machine does not have it.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as exc:
        raise LimitError(
            f"cannot allocate {math.prod(shape) * dtype.itemsize} bytes for a region of shape"
            f" {shape} and type {dtype}: read a smaller one, or read the image chunk by chunk with"
            " to_dask()"
        ) from exc


def _below(run: ReadRun, level: Derived, task: FileTask) -> tuple[AnyLevel, FileTask]:
    """The level that a derived one is made of and what to read of it; the rest is done at the end.

    Its pixels are complete when everything has been read, so that is when they are turned.
    """
    region = level.needs(task.region)
    shape = tuple(len(range(s.start, s.stop, s.step)) for s in region)
    pixels = allocate(shape, level.base.dtype)
    run.at_end(partial(level.finish, pixels, task.region, task.out))
    return level.base, replace(task, region=region, out=pixels)


def _wants_most(task: FileTask) -> bool:
    whole = np.prod([float(n) for n in task.expected.shape])
    wanted = np.prod([float(len(range(s.start, s.stop, s.step))) for s in task.region])
    return bool(task.level == 0 and wanted >= _WHOLE_FRACTION * whole)


def _spans(pieces: list[Piece], size_bytes: int) -> list[Span]:
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
