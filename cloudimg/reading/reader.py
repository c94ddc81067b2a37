"""Read regions of files by byte ranges: header, plan, fetch, decode into the output.

The regions of many files are read together. Each file takes these steps:

1. its header is taken from the cache of this process, or parsed from the first bytes of the object
   (all of it where it is small and mostly wanted), fetching IFDs elsewhere in the file as needed;
2. the pieces that hold the region are planned and coalesced into few spans;
3. each span is fetched with one request, and decoded into the output as it arrives, by as many
   threads as have nothing else to decode.

Fetching waits in the many threads of `storage.Engine`, decoding runs in its few; the steps of all
files overlap. The calling thread only waits, and has more threads fetch where the store keeps them
waiting, see `ReadRun`, so the concurrency does not depend on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, ServerError
from cloudimg.reading.arrivals import compare_header, is_settled
from cloudimg.reading.check_listed import check_listed
from cloudimg.reading.chunk_cost import WHOLE_FRACTION
from cloudimg.reading.coalescing import WHOLE_FILE_BYTES, Span, coalesce, span_bytes
from cloudimg.reading.file_task import FileTask, allocate, on_page, without_omitted_axes
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HEAD_BYTES, HeaderReader
from cloudimg.reading.run import FileSteps, OnOpen, ReadRun
from cloudimg.reading.sharing import Claim, Place, SharedDecoding, Stored
from cloudimg.reading.transit import Arrival
from cloudimg.reading.whole_file import WholeLevel
from cloudimg.reading.zarr_images.documents import is_document
from cloudimg.reading.zarr_images.level import ZarrLevel
from cloudimg.reading.zarr_parts import start_parts
from cloudimg.storage import Blob, Store, engine, pause
from cloudimg.tiff import AnyLevel, Derived, Level, Piece

Array = npt.NDArray[Any]

_SMALL_BYTES = 128 * 2**10
"""A file of at most so many bytes, whose pixels take at most as many, is decoded by the thread that
fetched it: to wake another one would take as long. Larger ones are left to the decoding threads,
since there are more fetching threads than processors."""
_MAX_GAP_BYTES = 2**20
_FREE_GAP_BYTES = 512
_MAX_WASTE = 0.2


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

    def read(
        self,
        tasks: Sequence[FileTask],
        on_open: OnOpen | None = None,
        *,
        keeps_bad: bool = False,
    ) -> list[tuple[FileTask, CloudimgError]]:
        """Fill the output of every task.

        Parameters
        ----------
        tasks : sequence of FileTask
        on_open : callable, optional
            Called for each file.
        keeps_bad : bool
            Return the tasks of bad files, with their errors, instead of raising the first error.
            Their outputs are undefined.

        Raises
        ------
        StorageError, FormatError, MismatchError
            The first failure; the outputs are then undefined.
        """
        run = ReadRun(engine(), self.headers.limits, on_open, keeps_bad=keeps_bad)
        all_steps = [FileSteps(run) for _ in tasks]
        run.start_each(
            [
                partial(steps.attempt, partial(self._read_file, steps, task))
                for steps, task in zip(all_steps, tasks, strict=True)
            ]
        )
        run.wait()
        return [
            (task, steps.error)
            for task, steps in zip(tasks, all_steps, strict=True)
            if steps.error is not None
        ]

    def _read_file(self, steps: FileSteps, task: FileTask) -> None:
        """Get the header of a file and start its next steps. Runs in a fetching thread."""
        if steps.failed:
            return
        opened = self.headers.cached(task.key)
        with self.headers.looking_up():
            # A small file came as a whole with its header.
            is_small = opened is not None and opened.size_bytes <= HEAD_BYTES
            is_whole = is_small or self.headers.reads_whole or _is_fetched_whole(task)
            is_whole &= not is_document(task.key)  # pixels are in other objects
            if is_whole and (opened is None or not is_settled(self.headers, task.key, opened)):
                self._fetch_whole(steps, task)
                return
            if opened is None:
                opened = self.headers.shared(task.key, size_bytes=task.size_bytes)
        steps.start(steps.engine.decode, self._start_fetches(steps, task, opened))

    def _fetch_whole(
        self,
        steps: FileSteps,
        task: FileTask,
        failures: Sequence[ServerError] = (),
    ) -> None:
        """Fetch a whole file, then start decoding it. Runs in a fetching thread.

        `failures` are those of the attempts before.
        """
        if failures:
            pause(failures[-1], len(failures) - 1)
        claim = Claim(steps.engine, task.size_bytes or WHOLE_FILE_BYTES)
        try:
            began_s = time.monotonic()
            # Computing an MD5 does not hold the interpreter's lock.
            blob, arrival = self.headers.transit.get(task.key)
            steps.run.was_answered(time.monotonic() - began_s)
        except BaseException:
            claim.release()
            raise
        if self.headers.reads_whole:
            # A user's function may read with cloudimg too, so the budget is released before it.
            claim.release()
            submit, held = steps.engine.decode_file, None
        else:
            submit, held = steps.engine.decode, claim
        decode = partial(self._decode_whole, steps, task, blob, arrival, held, failures)
        if held is not None and max(len(blob.data), task.out.nbytes) <= _SMALL_BYTES:
            decode()
        else:
            steps.start(submit, decode)

    def _decode_whole(
        self,
        steps: FileSteps,
        task: FileTask,
        blob: Blob,
        arrival: Arrival,
        claim: Claim | None,
        failures: Sequence[ServerError],
    ) -> None:
        """Parse and decode a file that was fetched whole.

        Runs in a decoding thread, because decoding takes memory and time, or for a small file in
        the one that fetched it.
        """
        try:
            if steps.failed:
                return
            compare_header(self.headers, task.key, blob)
            opened = self.headers.parse_answer(task.key, blob, arrival)
            if isinstance(opened, ServerError):
                again = partial(self._fetch_whole, steps, task, (*failures, opened))
                steps.start(steps.engine.fetch, again)
                return
            decode = self._start_fetches(steps, task, opened, claim)
            decode()
        finally:
            if claim is not None:
                claim.release()

    def _start_fetches(
        self, steps: FileSteps, task: FileTask, opened: OpenFile, claim: Claim | None = None
    ) -> Callable[[], None]:
        """Start fetching what a region lacks; return the step that decodes what is in memory.

        `claim` is that of the bytes in memory, if they count as in flight.
        """
        check_listed(opened, *task.listed)
        if steps.run.on_open is not None:
            steps.run.on_open(task.index, opened)
        if task.page is None:
            task = without_omitted_axes(task, opened, advise=not steps.run.keeps_bad)
            level = opened.parsed.levels[task.level]
        else:
            task, level = on_page(task, task.page, opened)
        while isinstance(level, Derived):
            level, task = _on_base(steps, level, task)
        if isinstance(level, WholeLevel):
            pixels = level.pixels[task.region]
            return lambda: np.copyto(task.out, pixels)
        if isinstance(level, ZarrLevel):
            return partial(start_parts, steps, level, task.region, task.out)
        assert isinstance(level, Level)
        return self._start_span_fetches(steps, task, opened, level, claim)

    def _start_span_fetches(
        self,
        steps: FileSteps,
        task: FileTask,
        opened: OpenFile,
        level: Level,
        claim: Claim | None,
    ) -> Callable[[], None]:
        """Do what `_start_fetches` does, for a level made of segments."""
        place = level.placer(task.region, task.out, steps.limits)
        in_memory: list[Stored] = []
        missing: list[Piece] = []
        for piece in level.plan(task.region):
            if piece.start_bytes == piece.stop_bytes:
                # A piece without bytes fills a plane, in which other pieces then place pixels.
                place(piece, b"")
                continue
            stop = min(piece.stop_bytes, opened.size_bytes)
            data = opened.file.have(piece.start_bytes, stop) if piece.start_bytes < stop else b""
            if data is None:
                missing.append(piece)
            else:
                in_memory.append((piece, data))
        for span in _spans(missing, opened.size_bytes) if missing else ():
            fetch = partial(self._fetch_span, steps, task.key, opened, missing, span, place)
            steps.start(steps.engine.fetch, fetch)

        def decode() -> None:
            if claim is not None:
                claim.hold()
            SharedDecoding(steps, in_memory, place, claim).decode()

        return decode

    def _fetch_span(
        self,
        steps: FileSteps,
        key: str,
        opened: OpenFile,
        pieces: list[Piece],
        span: Span,
        place: Place,
    ) -> None:
        """Fetch one span, then start decoding it. Runs in a fetching thread."""
        claim = Claim(steps.engine, span.stop_bytes - span.start_bytes)
        try:
            if steps.failed:
                claim.release()
                return
            blob = self._get_span(key, opened, span)
        except BaseException:
            claim.release()
            raise
        view = memoryview(blob.data)
        stored = []
        for piece in (pieces[i] for i in span.members):
            start = max(0, piece.start_bytes - blob.start_bytes)
            stop = max(0, piece.stop_bytes - blob.start_bytes)
            stored.append((piece, view[start:stop]))
        steps.start(steps.engine.decode, SharedDecoding(steps, stored, place, claim).decode)

    def _get_span(self, key: str, opened: OpenFile, span: Span) -> Blob:
        """Get the bytes of a span; those that came with the header are not fetched again."""
        start, stop = span.start_bytes, span.stop_bytes
        beginning = opened.file.beginning(start, stop) or b""
        blob = self.store.get(
            key, start + len(beginning), stop, size_bytes=opened.size_bytes, etag=opened.etag
        )
        self.headers.check_version(key, opened.etag, opened.size_bytes, blob)
        if not beginning:
            return blob
        offset = start + len(beginning) - blob.start_bytes
        data = b"".join((beginning, memoryview(blob.data)[offset:]))
        return Blob(data, start, blob.size_bytes, blob.etag)


def _on_base(steps: FileSteps, level: Derived, task: FileTask) -> tuple[AnyLevel, FileTask]:
    """Return the level from which a derived one is computed, and the task to read from it.

    The derived pixels are computed at the end of the run, when everything has been read.
    """
    region = level.needs(task.region)
    shape = tuple(len(range(s.start, s.stop, s.step)) for s in region)
    pixels = allocate(shape, level.base.dtype)
    steps.at_end(partial(level.finish, pixels, task.region, task.out))
    return level.base, replace(task, region=region, out=pixels)


def _is_fetched_whole(task: FileTask) -> bool:
    """Whether a file is small, and most of its pixels are wanted."""
    size = task.size_bytes
    if task.level != 0 or task.page is not None or size is None or size > WHOLE_FILE_BYTES:
        return False
    n_pixels = math.prod(task.expected.shape)
    n_wanted = math.prod(len(range(s.start, s.stop, s.step)) for s in task.region)
    return n_wanted >= WHOLE_FRACTION * n_pixels


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
        max_span_bytes=span_bytes(size_bytes, int((stops - starts).sum())),
    )
