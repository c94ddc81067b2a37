"""A file of which only some byte ranges have been fetched; the rest is fetched on first read.

The TIFF parser seeks to the next IFD and reads a few bytes; each miss fetches a window there.
Where the parser is about to jump from IFD to IFD over the whole file, `prefetch` decides which of
them to fetch together.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from cloudimg.errors import CloudimgError, CorruptFileError, LimitError, counted
from cloudimg.tiff.ifd import Buffer, Dialect, Range
from cloudimg.tiff.loops import ChainWatch
from cloudimg.tiff.prefetch import missing_ifds

FetchRanges = Callable[[Sequence[Range]], Sequence[tuple[int, Buffer]]]
"""Fetches half-open ranges concurrently; returns the offset and the bytes of each part. Parts may
be joined; bytes may be missing only beyond the end of the file."""


class NotFetchedError(Exception):
    """Bytes of a file are not fetched while `SparseFile.fetches` is False."""


_FIRST_BEFORE_BYTES = 8 * 2**10
_FIRST_WINDOW_BYTES = 32 * 2**10
_JUMP_WINDOW_BYTES = 8 * 2**10
_MAX_WINDOW_BYTES = 4 * 2**20
_MAX_REREADS = 8
"""The parser may read this many times the size of the file, and `_REREAD_BYTES` on top: more
means many IFDs that share what is large."""
_REREAD_BYTES = 4 * 2**20
_MANY_JUMPS = 32
_SMALL_BYTES = 16 * 2**20
"""A file up to this size is fetched whole if its IFDs are scattered unpredictably."""
_MAX_VISITS = 32
"""Mean number of visits allowed per IFD: the parser walks a chain a few times."""
_FEW_VISITS = 1000
"""Visits allowed in addition, for files of few IFDs."""


class SparseFile(io.RawIOBase):
    """Read-only file object over fetched fragments.

    Parameters
    ----------
    size_bytes : int
        Size of the whole file.
    fetch : callable
        Called for ranges that have not been fetched.
    in_flight : int
        Maximum number of ranges in one call of `fetch`.
    limit_bytes : int
        Maximum number of bytes to fetch; beyond it, reading raises `LimitError`.
    url : str
        For messages.
    """

    def __init__(
        self, size_bytes: int, fetch: FetchRanges, *, in_flight: int, limit_bytes: int, url: str
    ) -> None:
        super().__init__()
        self._size = size_bytes
        self._fetch = fetch
        self._in_flight = in_flight
        self._limit = limit_bytes
        self._url = url
        self._position = 0
        self._fetched_bytes = self._dropped_bytes = 0
        self._read_bytes = 0
        self._jumps = 0
        self._n_visits = 0
        self._watch: ChainWatch | None = None
        self._window = _JUMP_WINDOW_BYTES
        self._starts: list[int] = []
        self._parts: list[memoryview] = []
        self._reads: list[Range] = []
        self.fetches = True
        """Whether bytes that are missing are fetched; if not, reading them is `NotFetchedError`."""
        self.n_refused = 0
        """Number of reads that were refused because bytes are missing."""
        self.error: CloudimgError | None = None
        """First failure of `fetch`. Parsers swallow exceptions, so check this after parsing."""
        self.ends_too_early = False
        """Whether the parser tried to read beyond the end of the file."""

    def add(self, start_bytes: int, data: Buffer) -> None:
        """Add a fetched fragment; fragments are kept disjoint."""
        view = memoryview(data)
        if not self._starts or start_bytes >= self._starts[-1] + len(self._parts[-1]):
            if len(view):
                self._starts.append(start_bytes)
                self._parts.append(view)
            return
        at = bisect_right(self._starts, start_bytes)
        if at:
            known = self._starts[at - 1] + len(self._parts[at - 1]) - start_bytes
            view, start_bytes = view[max(0, known) :], start_bytes + max(0, known)
        stop = start_bytes + len(view)
        covered = at
        while (
            covered < len(self._starts)
            and self._starts[covered] + len(self._parts[covered]) <= stop
        ):
            covered += 1
        del self._starts[at:covered], self._parts[at:covered]
        if at < len(self._starts):
            view = view[: max(0, self._starts[at] - start_bytes)]
        if len(view):
            self._starts.insert(at, start_bytes)
            self._parts.insert(at, view)

    def keep_only(self, within: Range, kept: Sequence[Range]) -> None:
        """Drop what has been fetched of a range, but for some parts of it.

        Dropped bytes lay between parts of the header, and do not count towards the limit on its
        size. At most as many as the file has are left out of the count, so that bytes that are
        fetched and dropped again and again reach the limit.
        """
        start, stop = within
        held = self.held_bytes
        parts = [(first, self.have(first, last)) for first, last in kept]
        begin, end = max(0, bisect_right(self._starts, start) - 1), bisect_left(self._starts, stop)
        for at, part in zip(self._starts[begin:end], self._parts[begin:end], strict=True):
            parts.append((at, part[: max(0, start - at)]))
            parts.append((max(at, stop), part[max(0, stop - at) :]))
        del self._starts[begin:end], self._parts[begin:end]
        for at, data in sorted((at, bytes(part)) for at, part in parts if part is not None):
            self.add(at, data)
        self._dropped_bytes += held - self.held_bytes

    def have(self, start_bytes: int, stop_bytes: int) -> Buffer | None:
        """The bytes of a range, or None unless all of them have been fetched."""
        part = self.beginning(start_bytes, stop_bytes)
        if part is None or len(part) == stop_bytes - start_bytes:
            return part
        parts = [part]
        while start_bytes + len(part) < stop_bytes:
            start_bytes += len(part)
            part = self.beginning(start_bytes, stop_bytes)
            if part is None:
                return None
            parts.append(part)
        return b"".join(parts)

    def look(self, start_bytes: int, stop_bytes: int) -> Buffer | None:
        """Read a range if it has been fetched; None if it has not."""
        part = self.have(start_bytes, stop_bytes)
        if part is not None:
            self._reads.append((start_bytes, stop_bytes))
        return part

    def fetched_ranges(self) -> list[Range]:
        """The ranges that have been fetched, adjacent ones joined."""
        joined: list[Range] = []
        for start, part in zip(self._starts, self._parts, strict=True):
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], start + len(part))
            else:
                joined.append((start, start + len(part)))
        return joined

    def take_reads(self) -> list[Range]:
        """The ranges read since the last call, sorted, overlapping ones joined."""
        joined: list[Range] = []
        for start, stop in sorted(self._reads):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        self._reads.clear()
        return joined

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self._size

    @property
    def fetched_bytes(self) -> int:
        """Number of bytes that were fetched for the parser."""
        return self._fetched_bytes

    @property
    def held_bytes(self) -> int:
        """Number of bytes in memory."""
        return sum(len(part) for part in self._parts)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        start = self._position
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        self.ends_too_early |= size is not None and start + size > self._size
        if not self.fetches and start < stop and self.have(start, stop) is None:
            self.n_refused += 1
            raise NotFetchedError(f"bytes {start}-{stop} of {self._url}")
        if start < stop:
            self._reads.append((start, stop))
            self._count(stop - start)
        parts = []
        while self._position < stop:
            part = self.beginning(self._position, stop) or self._miss(self._position, stop)
            if not part:
                break
            parts.append(part)
            self._position += len(part)
        data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
        if data:
            self._watch_chain(start, data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        # len() of an array or a record counts items, not bytes.
        return io.BytesIO(self.read(memoryview(buffer).nbytes)).readinto(buffer)

    def beginning(self, start: int, stop: int) -> Buffer | None:
        """The first bytes of a range, as many as one fragment holds; None if it holds none."""
        at = bisect_right(self._starts, start) - 1
        if at < 0 or start >= self._starts[at] + len(self._parts[at]):
            return None
        begin = self._starts[at]
        return self._parts[at][start - begin : stop - begin]

    def _count(self, n_bytes: int) -> None:
        """Stop a parser that is led to the same bytes again and again."""
        if self.error is not None:  # parsers swallow it and go on
            raise self.error
        self._read_bytes += n_bytes
        watch = self._watch
        is_too_often = self._read_bytes > _MAX_REREADS * self._size + _REREAD_BYTES
        if watch is not None and watch.is_visit(n_bytes):
            self._n_visits += 1
            is_too_often |= self._n_visits > _MAX_VISITS * watch.n_ifds + _FEW_VISITS
        if is_too_often:
            self.error = CorruptFileError(
                f"the header of {self._url} leads to the same bytes again and again: many IFDs"
                f" share large tags, or many SubIFDs are the same one (the parser read"
                f" {self._read_bytes} bytes of a file of {self._size})",
                url=self._url,
            )
            raise self.error

    def _watch_chain(self, start: int, data: bytes) -> None:
        """Stop a parser that follows a circular chain of IFDs."""
        if self._watch is None:
            magic = self.beginning(0, 4) or b""
            order = ">" if magic[:2] == b"MM" else "<"
            self._watch = ChainWatch(Dialect(order, magic[2:] in (b"+\0", b"\0+")))
        loop = self._watch.loop(start, data)
        if loop is not None:
            last, following = loop
            which = "itself" if last == following else f"the IFD at byte {following}"
            self.error = CorruptFileError(
                f"the chain of IFDs of {self._url} is circular: after"
                f" {counted(self._watch.n_ifds, 'IFD')},"
                f" the one at byte {last} leads back to {which}, so the number of pages is unknown;"
                " copy the file again from where it was written",
                url=self._url,
            )
            raise self.error

    def _miss(self, start: int, stop: int) -> Buffer | None:
        """Fetch a window around `start`.

        The first jump usually goes to the IFD at the end of the file and also fetches the values
        that may be stored before it. A read that continues where a fragment ends doubles the
        window. Any other jump follows a chain of IFDs and fetches little.
        """
        at = bisect_right(self._starts, start) - 1
        before = self._starts[at] + len(self._parts[at]) if at >= 0 else 0
        if before == start and at >= 0:
            self._window = min(2 * self._window, _MAX_WINDOW_BYTES)
            first, last = start, start + self._window
        else:
            self._jumps += 1
            if self._prefetched(start):
                part = self.beginning(start, stop)
                if part is not None:
                    return part
                at = bisect_right(self._starts, start) - 1
            if self._jumps == 1:
                first = max(before, start - _FIRST_BEFORE_BYTES)
                last = first + _FIRST_WINDOW_BYTES
            else:
                self._window = _JUMP_WINDOW_BYTES
                first, last = start, start + self._window
        last = max(last, stop)
        if at + 1 < len(self._starts):
            last = min(last, self._starts[at + 1])
        self._fetch_now([(first, min(last, self._size))])
        return self.beginning(start, stop)

    def _prefetched(self, start: int) -> bool:
        """Fetch what the parser will read after a jump to `start`, if that is predictable."""
        if self._jumps > 3 and self._jumps.bit_count() > 1:
            # Tried again only at jumps 4, 8, 16 ..., because it walks the whole known chain.
            return False
        if self._jumps == _MANY_JUMPS and self._size <= _SMALL_BYTES:
            self._fetch_now([(0, self._size)])  # faster than as many jumps again
            return True
        rounds = missing_ifds(self.have, self._size, start, self._in_flight, self.keep_only)
        if rounds is None:
            return False
        for ranges in rounds:
            for i in range(0, len(ranges), self._in_flight):
                missing = [r for r in ranges[i : i + self._in_flight] if self.have(*r) is None]
                if missing:
                    self._fetch_now(missing)
        return True

    def _fetch_now(self, ranges: list[Range]) -> None:
        self._fetched_bytes += sum(stop - start for start, stop in ranges)
        try:
            if self.error is not None:
                raise self.error
            if self._fetched_bytes - min(self._dropped_bytes, self._size) > self._limit:
                raise LimitError(
                    f"the header of {self._url} needs more than {self._limit} bytes; set"
                    " CLOUDIMG_MAX_HEADER_BYTES higher if you trust the file",
                    url=self._url,
                )
            for start, data in self._fetch(ranges):
                self.add(start, data)
        except CloudimgError as exc:
            self.error = exc
            raise
