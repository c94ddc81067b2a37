"""`ThreadPool`: threads that end when they are idle, and that Python does not wait for at its end.

`concurrent.futures.ThreadPoolExecutor` keeps its threads until the interpreter exits, and then
waits for each of them, also for a request that a store does not answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from cloudimg.errors import CloudimgError

T = TypeVar("T")

_IDLE_S = 10.0
"""Longer than most pauses of a computation."""

_Work = tuple[Future[Any], Callable[[], Any]]

_current = threading.local()
"""Its `pool` is the one that a thread belongs to."""


class ThreadPool:
    """Runs functions in up to `most` threads, which are started as they are needed.

    Parameters
    ----------
    most : int
        Where the operating system refuses to start as many, the pool makes do with fewer.
    name : str
        Name of the threads.
    idle_s : float
        Seconds without work after which a thread ends.
    """

    def __init__(self, most: int, name: str, idle_s: float = _IDLE_S) -> None:
        self._most = most
        self._name = name
        self._idle_s = idle_s
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._ended = threading.Condition(lock)
        self._queue: deque[_Work] = deque()
        self._running: set[Future[Any]] = set()
        self._n_threads = self._n_idle = 0
        self._is_interrupted = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in a thread; or here and now if the system has no thread for it.

        Raises
        ------
        CloudimgError
            If the program was interrupted.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._is_interrupted:
                raise _interrupted()
            self._queue.append((future, function))
            if len(self._queue) <= self._n_idle:
                self._changed.notify()
                return future
            if self._n_threads >= self._most:
                return future
            self._n_threads += 1
        self._start_thread()
        return future

    @property
    def has_room(self) -> bool:
        """Whether a thread, perhaps one still to be started, has nothing to do."""
        return len(self._running) + len(self._queue) < self._most

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """Let another thread take the place of this one while it may wait for the pool.

        Does nothing in threads that do not belong to the pool.
        """
        if getattr(_current, "pool", None) is not self:
            yield
            return
        with self._changed:
            has_work = len(self._queue) > self._n_idle
            if not has_work:
                self._n_threads -= 1  # otherwise it is the other thread that counts
        if has_work:
            self._start_thread()
        try:
            yield
        finally:
            with self._changed:
                self._n_threads += 1

    def _start_thread(self) -> None:
        """Start a thread that is counted already, or do its work here."""
        if self._has_started_thread():
            return
        with self._changed:
            self._n_threads -= 1
            is_alone = self._n_threads == 0
        while is_alone and (work := self._next(wait_s=0)) is not None:
            self._run(work)

    def _has_started_thread(self) -> bool:
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # "can't start new thread"
            return False
        return True

    def _work(self) -> None:
        _current.pool = self
        while (work := self._next(wait_s=self._idle_s)) is not None:
            self._run(work)
            del work  # its result may be large, and this thread may wait for long

    def _next(self, *, wait_s: float) -> _Work | None:
        """Take the next function from the queue; None, and one thread less, after a long wait."""
        with self._changed:
            if self._n_threads > self._most and wait_s:  # one that stepped aside is back
                self._n_threads -= 1
                return None
            if not self._queue and wait_s:
                self._n_idle += 1
                self._changed.wait_for(lambda: self._queue or self._is_interrupted, wait_s)
                self._n_idle -= 1
            if not self._queue:
                self._n_threads -= bool(wait_s)
                return None
            work = self._queue.popleft()
            self._running.add(work[0])
            return work

    def _run(self, work: _Work) -> None:
        future, function = work
        if future.set_running_or_notify_cancel():
            # A future that was interrupted has a result already.
            with suppress(InvalidStateError):
                try:
                    result = function()
                except BaseException as exc:  # noqa: BLE001 - raised where the result is wanted
                    future.set_exception(exc)
                else:
                    future.set_result(result)
        with self._changed:
            self._running.discard(future)
            self._ended.notify_all()
        # The traceback of a failure has this frame, which must not lead back to the failure.
        del work, future, function

    def interrupt(self) -> None:
        """Fail whatever is waited for, now and from now on, because the program ends."""
        with self._changed:
            self._is_interrupted = True
            futures = [*self._running, *(future for future, _ in self._queue)]
            self._queue.clear()
            self._changed.notify_all()
        for future in futures:
            with suppress(InvalidStateError):
                future.set_exception(_interrupted())

    def drain(self, timeout_s: float | None) -> None:
        """Drop what has not begun, and wait for what has, even if it was interrupted.

        Parameters
        ----------
        timeout_s : float or None
            Seconds to wait at most; None: as long as it takes.
        """
        with self._changed:
            dropped = list(self._queue)
            self._queue.clear()
        for future, _ in dropped:
            future.cancel()
        with self._changed:
            self._ended.wait_for(lambda: not self._running, timeout_s)


def _interrupted() -> CloudimgError:
    return CloudimgError("the program was interrupted")
