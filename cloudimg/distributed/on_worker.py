"""What runs inside a worker: pieces of work, as many at once as its memory holds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_DRAIN_S = 60

_SHARE_OF_WORKER = 0.6
"""Of a worker's memory: above that Dask begins to spill, to pause and to kill."""

_lock = threading.Lock()

_slots: dict[int, threading.BoundedSemaphore] = {}


def run_piece(
    work: Callable[[int], T], number: int, name: str, max_bytes: int, cell_bytes: int
) -> T:
    """In a worker: as many cells at once as its memory holds, whatever its threads."""
    room = max(1, min(max_bytes, _memory_limit()) // cell_bytes)
    with _lock:
        slots = _slots.setdefault(room, threading.BoundedSemaphore(room))
    with slots, busy(name):
        return work(number)


_busy: Counter[str] = Counter()
"""Cells that this worker is doing, by job."""


@contextmanager
def busy(name: str) -> Iterator[None]:
    """In a worker: a cell of a job is being done."""
    with _lock:
        _busy[name] += 1
    try:
        yield
    finally:
        with _lock:
            _busy[name] -= 1


async def wait_until_idle(name: str) -> None:
    deadline = time.monotonic() + _DRAIN_S
    while _busy[name] and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def _memory_limit() -> int:
    from distributed import get_worker

    limit = get_worker().memory_manager.memory_limit
    return int(limit * _SHARE_OF_WORKER) if limit else 2**62
