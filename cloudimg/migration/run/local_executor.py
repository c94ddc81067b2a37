"""Cells in threads of this process: some under way, until the first failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def run_locally(
    work: Callable[[int], T], numbers: Iterable[int], *, in_flight: int, report: Callable[[T], None]
) -> None:
    """Do cells in threads of this process.

    Parameters
    ----------
    work : callable
        Does the cell of a number.
    numbers : iterable of int
    in_flight : int
        Cells at once.
    report : callable
        Is given what comes of each.

    Raises
    ------
    CloudimgError
        The first failure, when the cells that were under way have ended.
    """
    todo = iter(numbers)
    with ThreadPoolExecutor(in_flight, "cloudimg-cell") as threads:
        under_way = {threads.submit(work, number) for number in islice(todo, in_flight)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                report(future.result())
            # A cell is begun when one has ended, so that no more than these are in memory.
            for number in islice(todo, len(done)):
                under_way.add(threads.submit(work, number))
