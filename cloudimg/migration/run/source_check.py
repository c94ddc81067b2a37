"""`SourceCheck`: whether the source changed while it was read."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.table_changes import gone_files
from cloudimg.errors import ChangedError, counted
from cloudimg.errors.notes import N_EXAMPLES, Note
from cloudimg.migration.run.source_rows import SeenVersions, SourceNow, SourceRows


class SourceCheck:
    """Compares the versions of the files, after they were read, with those that were read.

    Asking for them costs some requests. It starts as soon as the last cell has been read, while
    other cells are still being encoded and stored. Use as a context manager.

    Parameters
    ----------
    source : SourceRows, optional
        The files; None if the source has none.
    seen : SeenVersions, optional
        The versions that were read.
    newer : Note, optional
        The note about files that had come before they were read.
    """

    def __init__(
        self, source: SourceRows | None, seen: SeenVersions | None, newer: Note | None
    ) -> None:
        self._source = source
        self._seen = seen
        self._newer = newer
        self._lock = threading.Lock()
        self._n_to_read = 0
        self._current: Future[SourceNow] | None = None
        # Not a fetching thread of the engine: the check waits for those.
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

    def start(self) -> None:
        """Start to ask for the versions, unless that has begun."""
        if self._current is None and self._source is not None:
            self._current = self._executor.submit(_ask, self._source)

    def notes(self) -> tuple[Note, ...]:
        """Wait for the versions, and compare them.

        Returns
        -------
        tuple of Note
            Files that came while the source was read, and files that are gone since.

        Raises
        ------
        ChangedError
            If a cell has read another version of a file than the present one.
        """
        self.start()
        source, seen, current = self._source, self._seen, self._current
        if source is None or seen is None or current is None:
            return ()
        now = current.result()
        is_changed = seen.differ.copy()
        is_changed[now.versions.changed(np.arange(len(source)), seen.versions)] = True
        # The plan has the table of the files as they were opened.
        is_changed[now.replaced] = True
        if is_changed.any():
            raise _changed(source, np.flatnonzero(is_changed), now.versions.is_gone)
        newer = now.newer or self._newer
        notes = [] if newer is None else [newer]
        gone = source.urls(np.flatnonzero(now.versions.is_gone))
        if gone:
            notes.append(gone_files(len(gone), gone[:N_EXAMPLES]))
        return tuple(notes)


def _changed(
    source: SourceRows, rows: npt.NDArray[np.int64], is_gone: npt.NDArray[np.bool_]
) -> ChangedError:
    """The error about files that were replaced, some of which may be gone by now."""
    parts = [
        f"{counted(len(urls), 'file')} {what} ({', '.join(urls[:N_EXAMPLES])}"
        f"{', ...' if len(urls) > N_EXAMPLES else ''})"
        for what, urls in (
            ("replaced", source.urls(rows[~is_gone[rows]])),
            ("replaced, then removed", source.urls(rows[is_gone[rows]])),
        )
        if urls
    ]
    return ChangedError("; ".join(parts))


def _ask(source: SourceRows) -> SourceNow:
    now = source.now()
    now.versions.ask(np.arange(len(source)))
    return now
