"""What runs inside a worker of a Dask cluster: pieces of work.

How many pieces run at once depends on the memory of the worker, not on its number of threads. Each
one is counted under the name of its job, because a piece that has begun runs to its end even if it
is cancelled: `wait_until_idle` waits for such pieces.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from cloudimg.distributed.capacity import capacity_of_worker
from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import CloudimgError, CloudimgWarning

T = TypeVar("T")

_DRAIN_S = 60
_OF_USER = 4
"""Level of the stack to which a warning is attributed."""
SHARE_OF_WORKER = 0.6
"""Share of a worker's memory that pieces may take; above it Dask spills, pauses and kills."""

_lock = threading.Lock()
_slots: dict[int, threading.BoundedSemaphore] = {}
"""Semaphores, by the number of pieces that they allow at once."""
_has_warned = False
_n_running: Counter[str] = Counter()
"""Number of pieces that this worker is running, by job."""


def run_piece(
    parcel: Parcel[Callable[[int], T]], number: int, job: str, max_bytes: int, piece_bytes: int
) -> T:
    """Do a piece of work once the memory of this worker has room for it."""
    work = parcel.open()
    n_at_once = max(1, min(max_bytes, _memory_limit()) // piece_bytes)
    with _lock:
        slots = _slots.setdefault(n_at_once, threading.BoundedSemaphore(n_at_once))
    with slots, busy(job), sendable_errors():
        return work(number)


@contextmanager
def outside_pool() -> Iterator[None]:
    """Leave the worker's threads to the work that is waited for, if the caller is a task itself."""
    has_left = False
    if "distributed" in sys.modules:
        from distributed import secede

        # Not in a task; in a thread that a task has started; or a task that has left before.
        with suppress(ValueError, AttributeError, KeyError):
            secede()
            has_left = True
    try:
        yield
    finally:
        if has_left:
            from distributed import rejoin

            rejoin()


@contextmanager
def sendable_errors() -> Iterator[None]:
    """Replace causes that cannot be pickled by their text in an error that a worker raises.

    Dask would send a text in place of the error itself. The cause may be any exception of a user's
    reader.
    """
    try:
        yield
    except CloudimgError as exc:
        if capacity_of_worker() is not None:
            _cut_causes(exc)
        raise


def _cut_causes(error: CloudimgError) -> None:
    import cloudpickle

    each: BaseException = error
    while (before := each.__cause__ or each.__context__) is not None:
        try:
            cloudpickle.dumps(before)
        except Exception:  # noqa: BLE001 - an exception of others may hold anything
            text = "".join(traceback.format_exception(before))
            each.__cause__ = each.__context__ = None
            error.add_note(f"Its cause, which cannot be pickled:\n{text}")
            return
        each = before


@contextmanager
def busy(job: str) -> Iterator[None]:
    """Count a piece of a job as running in this worker."""
    with _lock:
        _n_running[job] += 1
    try:
        yield
    finally:
        with _lock:
            _n_running[job] -= 1


async def wait_until_idle(job: str) -> None:
    """Wait until this worker runs no piece of a job, for a minute at most."""
    deadline = time.monotonic() + _DRAIN_S
    while _n_running[job] and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def _memory_limit() -> int:
    from distributed import get_worker

    limit = get_worker().memory_manager.memory_limit
    return int(limit * SHARE_OF_WORKER) if limit else 2**62


def warn_of_large_chunk(chunk_bytes: int) -> None:
    """Warn the client, once in each process, if this worker may be killed for its chunks.

    Called before a chunk is read. The exception that Dask raises then says nothing of memory.
    """
    global _has_warned
    if _has_warned:
        return
    capacity = capacity_of_worker()
    text = "" if capacity is None else capacity.too_large(chunk_bytes)
    if text:
        _has_warned = True
        warn(text)


LINE_OF_USER = 0


def warn(text: str, *, level: int = _OF_USER) -> None:
    """Warn the user: on a worker of a cluster, the client shows the warning, too.

    Parameters
    ----------
    text : str
    level : int
        Frames up to the line that is shown; `LINE_OF_USER` is the first one outside of cloudimg.
    """
    if level == LINE_OF_USER:
        level = _frames_to_user()
    if "distributed" in sys.modules:
        import distributed

        distributed.warn(text, CloudimgWarning, stacklevel=level)
    else:
        warnings.warn(text, CloudimgWarning, stacklevel=level)


def _frames_to_user() -> int:
    """Frames of cloudimg from the function that calls this up to a line of others."""
    here = inspect.currentframe()
    frame, level = None if here is None else here.f_back, 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "cloudimg":
        frame, level = frame.f_back, level + 1
    return level
