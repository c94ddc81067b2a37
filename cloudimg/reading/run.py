"""Steps under way for one read, in the threads of the process, and their first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import Engine

OnOpen = Callable[[tuple[int, ...], OpenFile], None]
"""Called, from many threads, with the index in the grid and the header of each opened file."""


class ReadRun:
    """Steps under way for one read, and their first failure."""

    def __init__(self, of: Engine, on_open: OnOpen | None) -> None:
        self.engine = of
        self.limits = of.settings.limits
        self.on_open = on_open
        self.failed = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._under_way = 1
        self._done = threading.Event()
        self._last: list[Callable[[], None]] = []

    def start(self, submit: Callable[[Callable[[], None]], Any], step: Callable[[], None]) -> None:
        """Have a step done; after a failure it is skipped."""
        with self._lock:
            self._under_way += 1

        def guarded() -> None:
            try:
                step()
            except BaseException as exc:  # noqa: BLE001 - raised again by wait()
                self._fail(exc)
            finally:
                self._end()

        submit(guarded)

    def at_end(self, step: Callable[[], None]) -> None:
        """Have a step done when everything else has been; the steps added last come first."""
        with self._lock:
            self._last.append(step)

    def wait(self) -> None:
        """Wait until nothing is under way; raise the first failure."""
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
            self._under_way -= 1
            if self._under_way == 0:
                self._done.set()
