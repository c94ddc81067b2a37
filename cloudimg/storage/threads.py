"""The threads of this process, and its limits on requests and bytes in flight.

They belong to the process, not to an image or a Dask thread: a worker with forty threads must not
open forty times as many connections.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from cloudimg.settings import Settings, process_memory_bytes, settings
from cloudimg.settings.operating_system import open_files_limit, run_after_fork
from cloudimg.storage.pool import ThreadPool
from cloudimg.storage.threading_private import run_before_threads_are_joined

S = TypeVar("S")
T = TypeVar("T")


_FETCHERS = 256
"""Threads that wait for pixels; in measurements, more of them were not faster. Headers have threads
of their own, because they need many small requests."""
_CALLERS = 16
"""Threads that make requests in place of the main thread, which waits for one of them at a time;
Ctrl-C may have made it leave others."""
_OUTPUTS_SHARE = 4
"""Regions that are read at once take up to one part in so many of the memory of the process."""
_CACHED_SHARE = 10
_LAST_WAIT_S = 0.5
"""Seconds that an interrupted program waits for requests under way."""


class ByteBudget:
    """A counting semaphore over bytes that serves claims in order.

    A claim larger than the whole budget waits until nothing else is in flight, then runs alone.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._turn = threading.Lock()
        self._condition = threading.Condition()
        self._is_closed = False

    def claim(self, size_bytes: int) -> int:
        """Wait until there is room; return the cost, to be passed to `release`."""
        cost = min(size_bytes, self._total)
        with self._turn, self._condition:
            self._condition.wait_for(lambda: self._free >= cost or self._is_closed)
            self._free -= cost
        return cost

    def close(self) -> None:
        """Let everybody pass, because the program ends."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def release(self, cost_bytes: int) -> None:
        """Return what `claim` has taken."""
        with self._condition:
            self._free += cost_bytes
            self._condition.notify_all()


class Engine:
    """The threads of a process: many that wait for stores, a few that decode."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.budget = ByteBudget(settings.max_bytes_in_flight)
        """Claimed for bytes from before they are requested until they are decoded."""
        limit = process_memory_bytes()
        # Without a limit of its own, a process is not the only one for whom there is memory.
        self.outputs = None if limit is None else ByteBudget(limit // _OUTPUTS_SHARE)
        """Claimed for the pixels of a region until it has been read; None without a limit."""
        self.most_cached_bytes = sys.maxsize if limit is None else limit // _CACHED_SHARE
        # Each request needs a descriptor, and so do other parts of the program.
        n_requests = max(1, min(settings.max_requests, open_files_limit() // 2))
        self.requests = threading.BoundedSemaphore(n_requests)
        """Held while a request is in flight."""
        self.is_ending = threading.Event()
        """Set once the program ends: no request is tried again, because nobody waits for it."""
        self._fetchers = ThreadPool(min(_FETCHERS, n_requests), "cloudimg-fetch")
        self._windows = ThreadPool(n_requests, "cloudimg-header")
        self._callers = ThreadPool(_CALLERS, "cloudimg-call")
        self._readers = ThreadPool(settings.decode_threads, "cloudimg-reader")
        self._decoders = ThreadPool(settings.decode_threads, "cloudimg-decode")
        self._pools = (
            self._callers,
            self._fetchers,
            self._windows,
            self._readers,
            self._decoders,
        )

    def interrupt(self) -> None:
        """Fail whatever is waited for, now and from now on, because the program ends."""
        self.is_ending.set()
        self.budget.close()
        if self.outputs is not None:
            self.outputs.close()
        for pool in self._pools:
            pool.interrupt()

    @contextmanager
    def allocating(self, size_bytes: int) -> Iterator[None]:
        """Wait until the memory of the process has room for the pixels of a region that is read."""
        if self.outputs is None:
            yield
            return
        cost = self.outputs.claim(size_bytes)
        try:
            yield
        finally:
            self.outputs.release(cost)

    def drain(self, timeout_s: float | None) -> None:
        """Drop what has not begun, and wait up to `timeout_s` for what has."""
        self.is_ending.set()
        deadline = time.monotonic() + (timeout_s or 0)
        for pool in self._pools:
            pool.drain(None if timeout_s is None else max(0, deadline - time.monotonic()))

    def fetch(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which waits for a store, in a fetching thread."""
        return self._fetchers.submit(function)

    def fetch_window(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which requests a part of a header while a fetching thread waits for it.

        These threads are separate, because all fetching threads could be waiting for each other.
        """
        return self._windows.submit(function)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which makes a request or a listing that the main thread waits for.

        These threads are separate, because a listing waits for the others.
        """
        return self._callers.submit(function)

    def decode_file(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which decodes a whole file, perhaps by a user's own reader.

        These threads are separate, because the reader may use cloudimg and wait for the others;
        where it uses a reader itself, another thread takes the place of its own.
        """
        return self._readers.submit(function)

    @contextmanager
    def running_user_code(self) -> Iterator[None]:
        """Entered by a thread for a user's function, which may use cloudimg and wait for it."""
        # It belongs to one of them: at opening it fetches, later it decodes whole files.
        with self._fetchers.stepping_aside(), self._readers.stepping_aside():
            yield

    def decode(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which needs CPU time, in a decoding thread."""
        return self._decoders.submit(function)

    @property
    def has_free_decoder(self) -> bool:
        """Whether a decoding thread has nothing to do."""
        return self._decoders.has_room


def map_ahead(start: Callable[[S], Future[T]], items: Iterable[S], *, n_ahead: int) -> Iterator[T]:
    """Yield results in the order of `items`, while work for the next items is in progress.

    Parameters
    ----------
    start : callable
        Starts the work for an item, as with `Engine.fetch`.
    items : iterable
        Consumed only as work is started.
    n_ahead : int
        Largest number of items whose work is started and whose result is not yet yielded.

    Raises
    ------
    Exception
        What the work for an item raised, in place of its result.
    """
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(start(item))
            if len(waiting) >= n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


_lock = threading.Lock()
_engine: Engine | None = None


def engine() -> Engine:
    """The engine of this process, created at its first use."""
    global _engine
    if (found := _engine) is not None:
        return found  # each request asks several times, and threads would wait for the lock
    with _lock:
        if _engine is None:
            _engine = Engine(settings())
            run_before_threads_are_joined(_interrupt)
        return _engine


def _interrupt() -> None:
    """Interrupt the engine if Ctrl-C has ended the program.

    Threads of others, such as Dask's, may be waiting for a request that no store answers, and
    Python waits for them.
    """
    if _engine is not None and _is_interrupted():
        _engine.interrupt()


def _is_interrupted() -> bool:
    """Whether the program ends because of a Ctrl-C that nothing has handled."""
    return getattr(sys, "last_type", None) is KeyboardInterrupt


@atexit.register
def _end() -> None:
    """Wait for requests under way: a thread must not return from one when Python has ended."""
    if _engine is not None:
        _engine.drain(_LAST_WAIT_S if _is_interrupted() else None)


def _forget_after_fork() -> None:
    # Threads do not survive a fork; the child makes its own engine.
    global _engine, _lock
    _engine, _lock = None, threading.Lock()


run_after_fork(_forget_after_fork)
