"""`SourceCheck`: whether the source changed while it was read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self


class SourceCheck:
    """Compares the source's fingerprint after it was read with the one before.

    Taking a fingerprint costs some requests. It starts as soon as the last cell has been read,
    while other cells are still being encoded and stored. Use as a context manager.

    Parameters
    ----------
    fingerprint : callable
        Takes the fingerprint of the source as it is now.
    expected : str
        The fingerprint before the source was read.
    """

    def __init__(self, fingerprint: Callable[[], str], expected: str) -> None:
        self._fingerprint = fingerprint
        self._expected = expected
        self._lock = threading.Lock()
        self._n_to_read = 0
        self._current: Future[str] | None = None
        # Not a fetching thread of the engine: opening the source waits for those.
        self._executor = ThreadPoolExecutor(1, "cloudimg-source")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # After a failure the result is not needed.
        self._executor.shutdown(wait=False, cancel_futures=True)

    def expect_reads(self, n_cells: int) -> None:
        """Set the number of cells that this process is going to read from the source."""
        self._n_to_read = n_cells

    def count_read(self) -> None:
        """Count a cell that was read; thread-safe. Starts the check after the last one."""
        with self._lock:
            self._n_to_read -= 1
            if self._n_to_read == 0:
                self.start()

    def start(self) -> Future[str]:
        """Start to take the fingerprint, unless that has begun."""
        if self._current is None:
            self._current = self._executor.submit(self._fingerprint)
        return self._current

    def is_unchanged(self) -> bool:
        """Wait for the fingerprint, and compare it."""
        return self.start().result() == self._expected
