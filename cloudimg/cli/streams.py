"""Standard streams and files that are closed or full, or whose terminal is gone."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloudimg.cli.exit_codes import CLOSED, code_of
from cloudimg.errors import CloudimgError, NoRoomError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StdoutError(Exception):
    """A line that could not be written to stdout: what to say about it, and the exit code.

    Parameters
    ----------
    error : OSError
    """

    def __init__(self, error: OSError) -> None:
        self.reason = unwritable("stdout cannot be written", error, CloudimgError)
        self.code = CLOSED if isinstance(error, BrokenPipeError) else code_of(self.reason)
        super().__init__(self.reason.message)


def unwritable(what: str, error: OSError, kind: type[CloudimgError]) -> CloudimgError:
    """The error for a local file that cannot be written: of a kind, unless its disk is full."""
    text = f"{what}: {error.strerror}"
    return NoRoomError(text) if error.errno in _FULL else kind(text)


def open_missing_streams() -> None:
    """Give a process streams that it was started without: nobody wants what they get.

    ``print`` would write to stdout what is for a stderr that is None.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
            setattr(sys, name, stream)


def tell(line: str) -> None:
    """Print a line to stderr. Where that fails, work goes on: there is nowhere else to say it."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def print_line(line: str, file: Any = None) -> None:
    """Print a line to stdout.

    Raises
    ------
    StdoutError
        If it cannot be written: its reader has closed it, or the disk is full.
    """
    try:
        print(line, file=file or sys.stdout, flush=True)
    except OSError as error:
        raise StdoutError(error) from error


def flush_or_drop() -> None:
    """Write what is left for stdout, or drop it: at exit, Python would fail with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
