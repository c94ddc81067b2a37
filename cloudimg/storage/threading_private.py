"""The private name of `threading` that cloudimg uses: ``_register_atexit``.

Seen in Python 3.11 to 3.13, where `concurrent.futures` uses it in the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import thread  # noqa: F401 - what it registers has to run later


def run_before_threads_are_joined(function: Callable[[], object]) -> None:
    """Call a function when the main thread has ended, before Python waits for other threads.

    ``_register_atexit`` does that; `atexit` and ``threading.main_thread().join()`` come later. Does
    nothing where Python is waiting already.
    """
    try:
        threading._register_atexit(function)  # type: ignore[attr-defined]
    except RuntimeError:
        return
