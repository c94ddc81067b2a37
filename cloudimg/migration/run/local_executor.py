"""Cells in threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def run_locally(
    work: Callable[[int], T], numbers: Iterable[int], *, in_flight: int, report: Callable[[T], None]
) -> None:
    """Do cells in threads of this process, until the first failure.

    Parameters
    ----------
    work : callable
        Does the cell with a given number.
    numbers : iterable of int
    in_flight : int
        Number of cells at once.
    report : callable
        Called with the result of each cell.

    Raises
    ------
    CloudimgError
        The first failure, after all running cells have ended.
    """
    remaining = iter(numbers)
    with ThreadPoolExecutor(in_flight, "cloudimg-cell") as threads:
        running = {threads.submit(work, number) for number in islice(remaining, in_flight)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                report(future.result())
            # A cell starts when another has ended, so that memory holds no more than `in_flight`.
            for number in islice(remaining, len(done)):
                running.add(threads.submit(work, number))
