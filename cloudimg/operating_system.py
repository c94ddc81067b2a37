"""What only some operating systems have, and what takes its place on the others.

Windows has no ``fork``, ``pread`` or ``sysconf``. Whatever reads, writes or checks an archive works
there too; what cannot, says so by `require_posix`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cloudimg.errors import ArgumentError

BINARY = getattr(os, "O_BINARY", 0)
"""Flag of `os.open` without which Windows translates line ends."""
NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open` with which opening a pipe does not wait for its other end."""
ASSUMED_MEMORY_BYTES = 4 * 2**30
"""Memory that a machine is taken to have if it cannot be asked."""


def run_after_fork(callback: Callable[[], object]) -> None:
    """Run a callback in each process that is forked from this one; nothing where none can be."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def read_at(handle: int, n_bytes: int, start: int) -> bytes:
    """Read bytes of a file from an offset on; fewer than `n_bytes` are not an error.

    The position of the handle may change, so threads must not share one.
    """
    if hasattr(os, "pread"):
        return os.pread(handle, n_bytes, start)
    os.lseek(handle, start, os.SEEK_SET)
    return os.read(handle, n_bytes)


def memory_bytes() -> int:
    """Memory of this machine, `ASSUMED_MEMORY_BYTES` where Python cannot ask for it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return ASSUMED_MEMORY_BYTES


def require_posix(what: str) -> None:
    """Refuse what works on POSIX systems only.

    Parameters
    ----------
    what : str
        The subject of the message, in the plural.

    Raises
    ------
    ArgumentError
    """
    if not hasattr(os, "fork"):
        raise ArgumentError(f"{what} need Linux or macOS: this operating system is not POSIX")
