"""Processes that are killed at a chosen call to a store. Nothing here knows pytest."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.support.metering import Meter
from tests.support.waiting import wait_until

SHARE = 1 if "CLOUDIMG_TEST_KILLS" in os.environ else 10
"""One call in so many is chosen."""
_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.rmdir", "os.mkdir")


def kill_at(text: str, number: int) -> None:
    """Kill this process at its n-th call for files whose path has a text, such as their folder."""
    left = [number]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and any(text in str(each) for each in arguments[:2]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def count_calls(text: str) -> Callable[[], int]:
    """Count the calls at which `kill_at` could kill this process; returns what tells the number."""
    n_calls = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal n_calls
        n_calls += event in _EVENTS and any(text in str(each) for each in arguments[:2])

    sys.addaudithook(hook)
    return lambda: n_calls


def processes_with(*modules: str) -> Any:
    """Processes that start with modules imported, so that kills hit the work, not imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cloudimg", *modules])
    return context


def exit_code(processes: Any, work: Callable[..., None], *arguments: Any) -> int:
    """Do work in a process; return its exit code."""
    process = processes.Process(target=work, args=arguments)
    process.start()
    process.join()
    return int(process.exitcode)


def next_call(at: int) -> int:
    """The number of the next chosen call after one."""
    return at + (1 if SHARE == 1 else random.Random(at).randint(1, 2 * SHARE - 1))


def chosen_calls(n_calls: int, seed: int) -> list[int]:
    """The numbers of chosen calls, counted from 1."""
    numbers = range(1, n_calls + 1)
    return sorted(random.Random(seed).sample(numbers, -(-n_calls // SHARE)))


def kill_during_request(
    processes: Any,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    meter: Meter,
    bucket: str,
    number: int,
    arrives: bool,
) -> None:
    """Do work in a process that is killed while its n-th request to a bucket is under way.

    The request is carried out after the process has died, or never.
    """
    rule = {"match": f"/{bucket}/", "skip": number - 1, "times": 1}
    meter.faults([{**rule, "kind": "hold" if arrives else "stall"}])
    meter.reset()
    process = processes.Process(target=work, args=arguments)
    process.start()
    is_under_way = partial(_is_under_way, process, meter, None if arrives else number)
    wait_until(is_under_way, "the request")
    process.kill()
    process.join()
    meter.release()
    meter.faults([])


def _is_under_way(process: Any, meter: Meter, number: int | None) -> bool:
    """Whether a request is held, or as many were made; or the process has ended without them."""
    is_there = bool(meter.held()) if number is None else len(meter.log()) >= number
    return is_there or process.exitcode is not None
