"""What only some operating systems have, and what takes its place on the others.

Windows has no ``fork``, ``pread`` or ``sysconf``. Whatever reads, writes or checks an archive works
there too; what cannot, says so by `require_posix`.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cloudimg.errors import ArgumentError

BINARY = getattr(os, "O_BINARY", 0)
"""Flag of `os.open` without which Windows translates line ends."""
NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open` with which opening a pipe does not wait for its other end."""
_CONTROL_GROUP = Path("/sys/fs/cgroup")
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


def free_files(folder: str) -> int | None:
    """How many files a file system has room for; None where it has no such limit, or does not say.

    See f_favail in statvfs(3).
    """
    if not hasattr(os, "statvfs"):
        return None
    status = os.statvfs(folder)
    return status.f_favail if status.f_files else None


def elapsed_s() -> float:
    """Seconds since some moment, also those for which the machine was suspended.

    `time.monotonic` leaves these out on Linux and macOS. CLOCK_BOOTTIME of Linux counts them
    (clock_gettime(2)), and so does what macOS calls CLOCK_MONOTONIC (clock_gettime(3) there).
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


def memory_bytes() -> int:
    """Memory of this machine, `ASSUMED_MEMORY_BYTES` where Python cannot ask for it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return ASSUMED_MEMORY_BYTES


def available_cpus(control_group: Path = _CONTROL_GROUP) -> int:
    """Processors that this process may use: its affinity, and the quota of its control group.

    Parameters
    ----------
    control_group : path
        The files of the control group; see ``cpu.max`` in
        https://docs.kernel.org/admin-guide/cgroup-v2.html. Containers have theirs here.
    """
    if hasattr(os, "sched_getaffinity"):
        n_cpus = len(os.sched_getaffinity(0))
    else:
        n_cpus = os.cpu_count() or 1
    return max(1, min(n_cpus, _cpu_quota(control_group)))


def _cpu_quota(folder: Path) -> int:
    """Processors that a control group allows, rounded up; a large number without a quota."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:  # version 1
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / "cpu" / name).read_text() for name in names)
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else sys.maxsize
    except (OSError, ValueError):  # another operating system; or "max"
        return sys.maxsize


def control_group_memory_bytes(folder: Path = _CONTROL_GROUP) -> int | None:
    """Memory that the control group of this process allows; None without a limit.

    Parameters
    ----------
    folder : path
        The files of the control group, see `available_cpus`: ``memory.max``, or the file of
        version 1, which has a number beyond any machine's memory where there is no limit.
    """
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and 0 < int(text) < memory_bytes():
            return int(text)
    return None


def open_files_limit() -> int:
    """Files and connections that this process may have open; a large number where all may be."""
    try:
        import resource
    except ImportError:  # Windows, whose limit is in the millions
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


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


def raise_in_thread(thread_id: int, kind: type[BaseException]) -> None:
    """Raise an exception in another thread, before it runs its next bytecode.

    A call into a library is not interrupted, as with Ctrl-C (C API of Python,
    PyThreadState_SetAsyncExc).
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(kind))
