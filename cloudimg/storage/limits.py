"""The process-wide caps: requests and bytes in flight, retries, time-outs.

They belong to the process, not to an image or a Dask thread: a worker with forty threads shall
not open forty times as many connections. They are read from the environment once, so that they
reach the workers of a cluster the way that their other settings do.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from cloudimg.errors import ArgumentError

T = TypeVar("T")


_FETCHERS = 256
"""Threads that wait for pixels; more of them gained nothing. Directories are many and small."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of one process, from the environment variables named."""

    max_requests: int
    """Requests in flight: CLOUDIMG_MAX_REQUESTS."""
    max_bytes: int
    """Bytes asked for and not yet decoded: CLOUDIMG_MAX_BYTES_IN_FLIGHT."""
    attempts: int
    """Tries per request before a server error is raised: CLOUDIMG_ATTEMPTS."""
    timeout_s: float
    """Seconds without a byte before a request counts as failed: CLOUDIMG_TIMEOUT_S."""
    decode_threads: int
    """Threads that decode: CLOUDIMG_DECODE_THREADS."""


def _from_environment(name: str, default: float, *, whole: bool = True) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0
    if not 0 < value < math.inf or (whole and value < 1):
        raise ArgumentError(f"{name}={text!r} is not a positive {'integer' if whole else 'number'}")
    return value


def read_limits() -> Limits:
    """The limits that the environment asks for."""
    return Limits(
        max_requests=int(_from_environment("CLOUDIMG_MAX_REQUESTS", 512)),
        max_bytes=int(_from_environment("CLOUDIMG_MAX_BYTES_IN_FLIGHT", 256 * 2**20)),
        attempts=int(_from_environment("CLOUDIMG_ATTEMPTS", 6)),
        timeout_s=_from_environment("CLOUDIMG_TIMEOUT_S", 20, whole=False),
        decode_threads=int(_from_environment("CLOUDIMG_DECODE_THREADS", os.cpu_count() or 1)),
    )


class ByteBudget:
    """A counting semaphore over bytes, first come first served.

    A claim larger than the whole budget waits until nothing else is in flight, then runs alone.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._turn = threading.Lock()
        self._condition = threading.Condition()

    def claim(self, size_bytes: int) -> int:
        """Wait for room; returns what `release` must be given."""
        cost = min(size_bytes, self._total)
        with self._turn, self._condition:
            self._condition.wait_for(lambda: self._free >= cost)
            self._free -= cost
        return cost

    def release(self, cost_bytes: int) -> None:
        with self._condition:
            self._free += cost_bytes
            self._condition.notify_all()


class Engine:
    """The threads of this process: many that wait for stores, a few that decode."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = ByteBudget(limits.max_bytes)
        self.requests = threading.BoundedSemaphore(limits.max_requests)
        """Held while a request is in flight."""
        self._fetchers = ThreadPoolExecutor(min(_FETCHERS, limits.max_requests), "cloudimg-fetch")
        self._windows = ThreadPoolExecutor(limits.max_requests, "cloudimg-header")
        self._readers = ThreadPoolExecutor(limits.decode_threads, "cloudimg-reader")
        self._decoders = ThreadPoolExecutor(limits.decode_threads, "cloudimg-decode")

    def fetch(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which waits for a store, in one of the fetching threads."""
        return self._fetchers.submit(function)

    def fetch_window(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, one request for a part of a header, for a fetching thread that waits.

        In threads of their own: the fetching ones could all be waiting for each other.
        """
        return self._windows.submit(function)

    def decode_file(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which decodes a whole file by what may be a user's own reader.

        In threads of their own: it may use cloudimg itself and wait for the others.
        """
        return self._readers.submit(function)

    def decode(self, function: Callable[[], T]) -> Future[T]:
        """Run `function`, which needs the processor, in one of the decoding threads."""
        return self._decoders.submit(function)


_lock = threading.Lock()
_engine: Engine | None = None


def engine() -> Engine:
    """The engine of this process, made at its first use."""
    global _engine
    with _lock:
        if _engine is None:
            _engine = Engine(read_limits())
        return _engine


def _forget_after_fork() -> None:
    # Threads do not survive a fork; the child makes its own engine.
    global _engine, _lock
    _engine, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
