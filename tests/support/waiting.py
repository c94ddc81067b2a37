"""Waiting for what other processes do. The limits are for hangs only: far longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_S = 300.0
"""Seconds after which it is certain that what a test waits for never comes."""


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = HANG_S) -> None:
    """Poll.

    Raises
    ------
    TimeoutError
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
