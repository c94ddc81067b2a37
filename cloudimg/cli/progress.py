"""Progress of a command: a line on a terminal, and a line now and then where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from cloudimg.errors import duration

_SHORTEST_S = 0.1
"""Least time between two lines on a terminal."""


class Progress:
    """Shows how far a command is; all commands report to it, whatever they do.

    On a terminal, one line is rewritten. A heartbeat says the same every few seconds, with the time
    since the start, also while nothing advances.

    Parameters
    ----------
    stream : file
        Where the line is shown if it is a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None
        self._shown_at = -1.0
        self._began = time.monotonic()
        self._text = ""
        self._totals: dict[str, int] = {}
        self._counted: tuple[str, int, float] | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_on_terminal(self) -> bool:
        """Whether the line is shown."""
        return self._stream is not None

    def __call__(self, what: str, count: int) -> None:
        """Show a count, such as that of names that are listed."""
        now = time.monotonic()
        if self._counted is None or self._counted[0] != what:
            self._counted = (what, count, now)
        _, first, began = self._counted
        rate = (count - first) / (now - began) if now > began else 0
        total = self._totals.get(what, 0)
        text = f"{what}: {count} of {total}" if total else f"{what}: {count}"
        left = f", {duration((total - count) / rate)} left" if rate and count < total else ""
        self._text = f"{text}, {rate:.0f}/s{left}"
        self._show(text, now)

    def expected(self, what: str, total: int) -> None:
        """Learn how many there are in all of what is going to be counted."""
        self._totals[what] = total

    def line(self, text: str) -> None:
        """Show a line of text; an empty one removes the line."""
        if text:
            self._text = text
            self._show(text, time.monotonic())
        else:
            self.clear()

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self._stream is not None and self._shown_at >= 0:
            self._write("\r\x1b[K")
            self._shown_at = -1.0

    def beat(self, every_s: float, say: Callable[[str], None]) -> None:
        """Say how far the command is every few seconds, in a thread, until `stop`."""
        self._thread = threading.Thread(
            target=self._beat, args=(every_s, say), name="cloudimg-heartbeat", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Remove the line and end the heartbeat."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(1)
        self.clear()

    def _show(self, text: str, now: float) -> None:
        if self._stream is not None and now - self._shown_at > _SHORTEST_S:
            self._shown_at = now
            self._write(f"\r{text}\x1b[K")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with suppress(OSError):  # the terminal may be gone, and the work goes on
                self._stream.write(text)
                self._stream.flush()

    def _beat(self, every_s: float, say: Callable[[str], None]) -> None:
        while not self._stopped.wait(every_s):
            say(f"after {duration(time.monotonic() - self._began)}: {self._text or 'running'}")
