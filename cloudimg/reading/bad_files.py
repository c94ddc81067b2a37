"""What happens when a file turns out to be bad while its pixels are read."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cloudimg.distributed.on_worker import warn
from cloudimg.errors.file_report import BadFile
from cloudimg.settings.operating_system import run_after_fork

OnBad = Callable[[tuple[int, ...], BadFile, int], None]
"""Called with the index in the grid of each file that is missing or bad, in the reading thread."""

_MOST_TOKENS = 10_000


class _Warned:
    """Images of which this process has warned. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget all: also in a forked child, where another thread may have held the lock."""
        self._lock = threading.Lock()
        self._tokens: set[str] = set()

    def is_new(self, token: str) -> bool:
        """Whether an image was not seen before; it is remembered."""
        with self._lock:
            is_new = token not in self._tokens
            if len(self._tokens) >= _MOST_TOKENS:
                self._tokens.clear()
            self._tokens.add(token)
            return is_new


_warned = _Warned()
run_after_fork(_warned.forget)


def warn_once(token: str, first: BadFile, fill_value: object) -> None:
    """Warn that an image has bad files, once in each process.

    Parameters
    ----------
    token : str
        Identifies the image.
    first : BadFile
        The first one that was read.
    fill_value : number
        Value of its pixels.
    """
    if _warned.is_new(token):
        warn(
            f"{first}. Its pixels are read as {fill_value}, and so are those of other bad files,"
            ' without further warnings (bad="fill"); validate="all" lists them when the image is'
            " opened"
        )


def warn_of_known(token: str, summary: str, fill_value: object) -> None:
    """Warn of bad files that were found when the image was opened, once in each process."""
    if _warned.is_new(token):
        warn(f'{summary}. Their pixels are read as {fill_value} (bad="fill")')
