"""Steps of one read that run in the threads of the process, and their failures."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from cloudimg.errors import CloudimgError
from cloudimg.reading.header_cache import OpenFile
from cloudimg.storage import Engine
from cloudimg.tiff import DecodeLimits

OnOpen = Callable[[tuple[int, ...], OpenFile], None]
"""Called from many threads with the index in the grid and the header of each file that is opened.
"""
Submit = Callable[[Callable[[], None]], Future[None]]
Step = Callable[[], None]

_FIRST_TAKERS, _MOST_TAKERS = 16, 256
_EARLY_S, _LATER_S = 0.002, 0.02
"""How long the calling thread waits before it looks whether there are enough threads."""
_FILE_S = 0.0003
"""Time of the interpreter that a small file takes. More threads than this time fits into the wait
for an answer would only wait for each other: 256 of them take twice the CPU time of 16."""
_TOO_FEW = 0.75
"""Share of the threads that there may be, below which more are started."""
_FADING = 1.05
"""By how much the shortest wait for an answer is taken to be longer with each further one."""


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
        self._waiting: deque[Step] = deque()
        self._n_takers = 0
        self._began_s = 0.0
        self._answer_s = math.inf

    def start_each(self, steps: Sequence[Step]) -> None:
        """Have steps taken one after another by threads that fetch, by more of them as they wait.

        Called once, before `wait`.
        """
        with self._lock:
            self._waiting.extend(steps)
            self._n_running += len(steps)
        self._began_s = time.monotonic()
        self._add_takers(min(_FIRST_TAKERS, len(steps)))

    def was_answered(self, after_s: float) -> None:
        """Take notice of how long a store took to answer."""
        self._answer_s = min(after_s, _FADING * self._answer_s)

    def _most_takers(self) -> int:
        """As many threads as keep the interpreter busy while they wait for the store."""
        if self._answer_s == math.inf:
            is_early = time.monotonic() - self._began_s < _EARLY_S
            return _FIRST_TAKERS if is_early else _MOST_TAKERS
        return min(max(_FIRST_TAKERS, int(self._answer_s / _FILE_S)), _MOST_TAKERS)

    def _add_takers(self, count: int) -> None:
        for _ in range(count):
            with self._lock:
                self._n_takers += 1
            self.engine.fetch(self._take).add_done_callback(self._check)

    def _take(self) -> None:
        """Take steps one after another, until there are none or too many threads."""
        while True:
            with self._lock:
                if not self._waiting or self._n_takers > self._most_takers():
                    self._n_takers -= 1
                    return
                step = self._waiting.popleft()
            self._guarded(step)

    def _guarded(self, step: Step) -> None:
        try:
            step()
        except BaseException as exc:  # noqa: BLE001 - raised again by wait()
            self._fail(exc)
        finally:
            self._end()

    def start(self, submit: Submit, step: Step) -> None:
        """Submit a step to threads of the engine."""
        with self._lock:
            self._n_running += 1
        submit(partial(self._guarded, step)).add_done_callback(self._check)

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
            while not self._done.wait(self._until_next_look_s()):
                self._add_takers(self._n_lacking())
        except BaseException:
            self.failed = True
            raise
        if self._error is not None:
            raise self._error
        for step in reversed(self._last):
            step()

    def _until_next_look_s(self) -> float | None:
        if not self._waiting:
            return None
        return _EARLY_S if self._n_lacking() else _LATER_S

    def _n_lacking(self) -> int:
        """How many more threads are to take steps, doubled each time that this is asked."""
        most, now = self._most_takers(), self._n_takers
        if now > _TOO_FEW * most:
            return 0
        return min(most - now, len(self._waiting), max(now, _FIRST_TAKERS))

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
        self.run.start(submit, partial(self.attempt, step))

    def at_end(self, step: Step) -> None:
        """Run a step after all steps of the run, unless the file is bad."""

        def last() -> None:
            if self.error is None:
                self.attempt(step)

        self.run.at_end(last)

    def attempt(self, step: Step) -> None:
        """Run a step; where it finds the file to be bad, this may concern the file alone."""
        try:
            step()
        except CloudimgError as exc:
            if not self.run.keeps_bad or exc.bad_file is None:
                raise
            self.error = self.error or exc
