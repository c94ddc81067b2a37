"""A file of which only some byte ranges are here; the rest is fetched where it is read.

The TIFF parser seeks to where the next directory is and reads a few bytes; each miss fetches a
window there, a jump, not a walk from byte 0.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable

from cloudimg.errors import CloudimgError, LimitError

Buffer = bytes | memoryview
FetchWindow = Callable[[int, int], Buffer]
"""Bytes of the half-open range; fewer only where the file ends."""

_FIRST_BEFORE_BYTES = 8 * 2**10
_FIRST_WINDOW_BYTES = 32 * 2**10
_JUMP_WINDOW_BYTES = 8 * 2**10
_MAX_WINDOW_BYTES = 4 * 2**20


class SparseFile(io.RawIOBase):
    """Read-only file object over fragments.

    Parameters
    ----------
    size_bytes : int
        Size of the whole file.
    fetch : callable
        Called for what is not here.
    limit_bytes : int
        Bytes that may be fetched before `LimitError`.
    url : str
        For messages.
    """

    def __init__(self, size_bytes: int, fetch: FetchWindow, limit_bytes: int, url: str) -> None:
        super().__init__()
        self._size = size_bytes
        self._fetch = fetch
        self._limit = limit_bytes
        self._url = url
        self._position = 0
        self._fetched_bytes = 0
        self._jumped = False
        self._window = _JUMP_WINDOW_BYTES
        self._starts: list[int] = []
        self._parts: list[Buffer] = []
        self._reads: list[tuple[int, int]] = []
        self.error: CloudimgError | None = None
        """First failure of `fetch`. Parsers swallow exceptions; whoever parsed must look here."""

    def add(self, start_bytes: int, data: Buffer) -> None:
        """Give a fragment that has been fetched already."""
        if len(data):
            at = bisect_right(self._starts, start_bytes)
            self._starts.insert(at, start_bytes)
            self._parts.insert(at, data)

    def have(self, start_bytes: int, stop_bytes: int) -> Buffer | None:
        """The bytes of a range if one fragment holds them all."""
        part = self.beginning(start_bytes, stop_bytes)
        return part if part is not None and len(part) == stop_bytes - start_bytes else None

    def take_reads(self) -> list[tuple[int, int]]:
        """The ranges that were read since the last call, joined, by increasing start."""
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(self._reads):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((start, stop))
        self._reads.clear()
        return joined

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""
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
        stop = self._size if size is None or size < 0 else min(self._position + size, self._size)
        parts = []
        if self._position < stop:
            self._reads.append((self._position, stop))
        while self._position < stop:
            part = self.beginning(self._position, stop) or self._miss(self._position, stop)
            if not part:
                break
            parts.append(part)
            self._position += len(part)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def beginning(self, start: int, stop: int) -> Buffer | None:
        """As many of the first bytes of a range as one fragment holds; None for none."""
        at = bisect_right(self._starts, start) - 1
        if at < 0 or start >= self._starts[at] + len(self._parts[at]):
            return None
        begin = self._starts[at]
        return memoryview(self._parts[at])[start - begin : stop - begin]

    def _miss(self, start: int, stop: int) -> Buffer | None:
        """Fetch a window around `start`.

        The first jump goes to the directory at the end of the file, with what may be written
        before it; a read that goes on where a fragment ends doubles the window; any other jump
        is one of a chain of directories and takes little.
        """
        at = bisect_right(self._starts, start) - 1
        before = self._starts[at] + len(self._parts[at]) if at >= 0 else 0
        if before == start and at >= 0:
            self._window = min(2 * self._window, _MAX_WINDOW_BYTES)
            first, last = start, start + self._window
        elif not self._jumped:
            first = max(before, start - _FIRST_BEFORE_BYTES)
            last = first + _FIRST_WINDOW_BYTES
        else:
            self._window = _JUMP_WINDOW_BYTES
            first, last = start, start + self._window
        self._jumped = True
        last = max(last, stop)
        if at + 1 < len(self._starts):
            last = min(last, self._starts[at + 1])
        data = self._fetched(first, min(last, self._size))
        self.add(first, data)
        return self.beginning(start, stop)

    def _fetched(self, first: int, last: int) -> Buffer:
        self._fetched_bytes += last - first
        try:
            if self.error is not None:
                raise self.error
            if self._fetched_bytes > self._limit:
                raise LimitError(
                    f"the header of {self._url} wants more than {self._limit} bytes; set"
                    " CLOUDIMG_MAX_HEADER_BYTES higher if the file can be trusted",
                    url=self._url,
                )
            return self._fetch(first, last)
        except CloudimgError as exc:
            self.error = exc
            raise
