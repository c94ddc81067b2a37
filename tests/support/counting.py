"""What code costs, counted instead of timed: the same figures however busy the machine is.

A step is a line that Python executes, each round of a comprehension among them, or a call of a
Python function or its return. Work inside of a function of C is no step; where it makes a long list
or array, the memory shows it.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any


class Steps:
    """Counts the steps of a block, in this thread and in those that it starts."""

    def __init__(self) -> None:
        self._count = itertools.count()  # unlike `n += 1`, it loses nothing among threads
        self._is_on = True

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count this thread in the block; threads that it starts are counted until `stop`."""
        count = self._count

        def trace(frame: FrameType, event: str, arg: Any) -> Any:
            if not self._is_on:
                sys.settrace(None)
                return None
            next(count)
            return trace

        before, before_in_threads = sys.gettrace(), threading.gettrace()
        threading.settrace(trace)
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(before_in_threads)  # type: ignore[arg-type]  # None is none

    def so_far(self) -> int:
        return next(self._count)  # one too many each time

    def stop(self) -> None:
        """Let threads that are still there go on at their full speed."""
        self._is_on = False


@functools.cache
def steps_of_this_process() -> Steps:
    """One counter for many blocks: threads that one block starts may work for the next ones."""
    return Steps()


@dataclass
class Cost:
    """Of a ``with counted()`` block; filled when the block ends."""

    steps: int = 0
    """Of this thread, and of those that the block started."""
    peak_bytes: int = 0
    """How far the memory of Python's objects and NumPy's arrays rose above what it was."""


@contextmanager
def counted() -> Iterator[Cost]:
    """Count what a block costs. It runs ten times as slowly or so."""
    cost, steps = Cost(), Steps()
    tracemalloc.start()
    held_bytes, _ = tracemalloc.get_traced_memory()
    try:
        with steps.counting():
            yield cost
    finally:
        cost.peak_bytes = tracemalloc.get_traced_memory()[1] - held_bytes
        tracemalloc.stop()
        cost.steps = steps.so_far()
        steps.stop()


@dataclass
class Clock:
    """Stands in for the module ``time``: time passes only while someone sleeps."""

    now_s: float = 0
    sleeps_s: list[float] = field(default_factory=list)
    """How long each sleep was."""

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps_s.append(seconds)
        self.now_s += seconds
