"""Commands on a terminal, whose questions are answered."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence


def ask(words: Sequence[str], answer: str) -> tuple[int, str]:
    """Run a command of cloudimg on a terminal, and answer its question.

    Returns
    -------
    tuple of int and str
        The exit code, and everything that the terminal showed.
    """
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "cloudimg", *words], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown, is_answered, deadline = b"", False, time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # how a terminal ends on Linux
                break
        if not is_answered and b"[y/N] " in shown:
            os.write(ours, f"{answer}\n".encode())
            is_answered = True
    os.close(ours)
    return child.wait(60), shown.decode()
