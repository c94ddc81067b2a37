"""Steps of one read that run in the threads of the process, and their failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from cloudimg.errors import CloudimgError
from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import Engine
from cloudimg.tiff import DecodeLimits

OnOpen = Callable[[tuple[int, ...], OpenFile], None]
"""Called from many threads with the index in the grid and the header of each file that is opened.
"""
Submit = Callable[[Callable[[], None]], Future[None]]
Step = Callable[[], None]


class ReadRun:
    """Steps of one read, and their first failure. Thread-safe.

    Parameters
    ----------
    engine : Engine
    limits : DecodeLimits
    on_open : callable, optional
        Called for each file that is opened.
    keeps_bad : bool
        Whether a bad file fails alone, see `FileSteps`, rather than the whole read.
    """

    def __init__(
        self, engine: Engine, limits: DecodeLimits, on_open: OnOpen | None, *, keeps_bad: bool
    ) -> None:
        self.engine = engine
        self.limits = limits
        self.on_open = on_open
        self.keeps_bad = keeps_bad
        self.failed = False
        """Whether a step failed; later steps then stop early."""
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._n_running = 1  # `wait` counts as a step
        self._done = threading.Event()
        self._last: list[Step] = []

    def start(self, submit: Submit, step: Step) -> None:
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

        submit(guarded).add_done_callback(self._check)

    def _check(self, submitted: Future[None]) -> None:
        """Stop waiting for a step that the engine gave up because the program ends."""
        if submitted.cancelled() or (error := submitted.exception()) is None:
            return
        self._fail(error)
        self._done.set()

    def at_end(self, step: Step) -> None:
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


class FileSteps:
    """The steps that read one file, within a run. Thread-safe.

    Where the run keeps bad files, one that turns out to be bad in any step stops its own steps
    only. Failures of a store always fail the whole run.
    """

    def __init__(self, run: ReadRun) -> None:
        self.run = run
        self.engine = run.engine
        self.limits = run.limits
        self.error: CloudimgError | None = None
        """Why the file is bad; None if it is not, as far as it has been read."""

    @property
    def failed(self) -> bool:
        """Whether its remaining steps are to be skipped."""
        return self.run.failed or self.error is not None

    def start(self, submit: Submit, step: Step) -> None:
        """Submit a step to threads of the engine."""
        self.run.start(submit, lambda: self._attempt(step))

    def at_end(self, step: Step) -> None:
        """Run a step after all steps of the run, unless the file is bad."""

        def last() -> None:
            if self.error is None:
                self._attempt(step)

        self.run.at_end(last)

    def _attempt(self, step: Step) -> None:
        try:
            step()
        except CloudimgError as exc:
            if not self.run.keeps_bad or exc.bad_file is None:
                raise
            self.error = self.error or exc
