"""Work on hostile input in child processes: a crash, a hang and memory belong to one item.

A few long-lived children take one item after another. A child that dies, or does not reach its next
step in time, is replaced, and the outcome of its item says what happened.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

ADDRESS_SPACE_BYTES = 20 * 2**30
"""Guards the machine; what an item may take is measured in memory that is really used. Stacks and
arenas of 768 waiting threads are 10 GB of addresses and next to no memory."""
_START_S = 60
_PROJECT = f"{Path(__file__).resolve().parents[2]}/"


@dataclass(frozen=True, slots=True)
class Step:
    """Yielded by work where a step begins."""

    name: str
    limit_s: float
    so_far: Any = None
    """The result if the child does not survive this step."""


@dataclass(frozen=True, slots=True)
class Outcome:
    item: Any
    result: Any
    """What the work returned, else what it had so far."""
    step: str = ""
    """The step in which something went wrong."""
    trouble: str = ""
    """What went wrong, with the stacks of the child; empty where the work was done."""


Work = Callable[[Any], Generator[Step, None, Any]]


class PeakMemory:
    """How far the memory in use rises above where it is now."""

    def __init__(self) -> None:
        with suppress(OSError):  # Linux alone can begin anew; elsewhere the peak of all counts
            Path("/proc/self/clear_refs").write_text("5")
        self._begin = _peak_bytes()

    def bytes(self) -> int:
        return _peak_bytes() - self._begin


def _peak_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def each_apart(work: Work, items: Iterable[Any], *, n_children: int = 2) -> Iterator[Outcome]:
    """Do the work for every item; outcomes come as they are ready."""
    waiting = iter(items)
    children: list[_Child] = []
    try:
        while True:
            while len(children) < n_children and (child := _started(work, waiting)) is not None:
                children.append(child)
            if not children:
                return
            for child in _ready(children):
                outcome = child.advance()
                if outcome is None:
                    continue
                yield outcome
                if outcome.trouble or not child.give_next(waiting):
                    child.stop()
                    children.remove(child)
    finally:
        for child in children:
            child.stop()


def _started(work: Work, waiting: Iterator[Any]) -> _Child | None:
    for item in waiting:
        child = _Child(work)
        child.give(item)
        return child
    return None


def _ready(children: list[_Child]) -> list[_Child]:
    """Those who have something to say, or whose time is up."""
    rest_s = min(child.deadline for child in children) - time.monotonic()
    heard = set(wait([child.pipe for child in children], max(0, rest_s)))
    now = time.monotonic()
    return [child for child in children if child.pipe in heard or child.deadline <= now]


class _Child:
    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        handle, self._traces = tempfile.mkstemp(prefix="stacks-")
        os.close(handle)
        arguments = (other_end, work, self._traces)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        other_end.close()
        self._allowance_s: float = _START_S

    def give(self, item: Any) -> None:
        self.pipe.send(item)
        self._item = item
        self._step = Step("start", self._allowance_s)
        self.deadline = time.monotonic() + self._allowance_s
        self._allowance_s = 10

    def give_next(self, waiting: Iterator[Any]) -> bool:
        for item in waiting:
            self.give(item)
            return True
        return False

    def advance(self) -> Outcome | None:
        """Take the child's message, or find out what became of it; None goes on."""
        if not self.pipe.poll():
            return self._lost(f"no end after {self._step.limit_s:g} s", interrupt=True)
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            return self._lost(f"the process died: exit code {self._process.exitcode}")
        if isinstance(message, Step):
            self._step = message
            self.deadline = time.monotonic() + message.limit_s
            return None
        result, failure = message
        if failure:
            return Outcome(self._item, self._step.so_far, self._step.name, failure)
        return Outcome(self._item, result)

    def _lost(self, trouble: str, *, interrupt: bool = False) -> Outcome:
        if interrupt and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(0.5)  # it writes its stacks
        stacks = Path(self._traces).read_text(errors="replace")
        stacks = _shortened(stacks) if interrupt else stacks
        return Outcome(
            self._item, self._step.so_far, self._step.name, f"{trouble}\n{stacks}".strip()
        )

    def stop(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()
        Path(self._traces).unlink(missing_ok=True)


def _shortened(stacks: str) -> str:
    """Of each thread: its frames in the project, without those of the tests."""
    found = []
    # Writing the stacks of running threads may itself crash; what came before is good.
    for thread in stacks.partition("Fatal Python error")[0].split("\n\n"):
        own = [line.replace(_PROJECT, "") for line in thread.splitlines() if _PROJECT in line]
        found.append("\n".join([line for line in own if '"tests/' not in line][:8]))
    return "\n\n".join(text for text in found if text)


def _serve(pipe: Connection, work: Work, traces: str) -> None:
    """In the child."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)  # parsers log every oddity of every hostile file
    warnings.simplefilter("ignore")
    with Path(traces).open("w") as file, suppress(EOFError, OSError):
        faulthandler.enable(file)
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)
        while True:
            steps = work(pipe.recv())
            try:
                while True:
                    pipe.send(next(steps))
            except StopIteration as end:
                pipe.send((end.value, ""))
            except Exception:  # noqa: BLE001 - a directory that is not here, whatever the parser makes of it
                pipe.send((None, traceback.format_exc()))
