"""Steps of one read that run in the threads of the process, and their first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import Engine
from cloudimg.tiff import DecodeLimits

OnOpen = Callable[[tuple[int, ...], OpenFile], None]
"""Called from many threads with the index in the grid and the header of each file that is opened.
"""


class ReadRun:
    """Steps of one read, and their first failure. Thread-safe.

    Parameters
    ----------
    engine : Engine
    limits : DecodeLimits
    on_open : callable, optional
        Called for each file that is opened.
    """

    def __init__(self, engine: Engine, limits: DecodeLimits, on_open: OnOpen | None) -> None:
        self.engine = engine
        self.limits = limits
        self.on_open = on_open
        self.failed = False
        """Whether a step failed; later steps then stop early."""
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._n_running = 1  # `wait` counts as a step
        self._done = threading.Event()
        self._last: list[Callable[[], None]] = []

    def start(self, submit: Callable[[Callable[[], None]], Any], step: Callable[[], None]) -> None:
        """Submit a step to threads of the engine."""
        with self._lock:
            self._n_running += 1

        def guarded() -> None:
            try:
                step()
            except BaseException as exc:  # noqa: BLE001 - raised again by wait()
                self._fail(exc)
            finally:
                self._end()

        submit(guarded)

    def at_end(self, step: Callable[[], None]) -> None:
        """Run a step in `wait` after all others have ended, last added first."""
        with self._lock:
            self._last.append(step)

    def wait(self) -> None:
        """Wait until all steps have ended; raise the first failure."""
        self._end()
        try:
            self._done.wait()
        except BaseException:
            self.failed = True
            raise
        if self._error is not None:
            raise self._error
        for step in reversed(self._last):
            step()

    def _fail(self, exc: BaseException) -> None:
        with self._lock:
            if self._error is None:
                self._error = exc
            self.failed = True

    def _end(self) -> None:
        with self._lock:
            self._n_running -= 1
            if self._n_running == 0:
                self._done.set()
