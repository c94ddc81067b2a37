"""Waiting for what other processes do. The limits are for hangs only: far longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 120) -> None:
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
