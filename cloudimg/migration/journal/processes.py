"""Identity of the process that holds a lease, and whether a process of this machine is dead."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


class Life(Enum):
    """What is known of a process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """It belongs to another machine, or this process may not look at it."""


def this_process() -> dict[str, Any]:
    """Identity of this process, as stored in its leases."""
    return {**_this_machine(), "pid": os.getpid(), "born": _started_at(os.getpid(), _PROC) or ""}


def describe(holder: Mapping[str, Any]) -> str:
    """The process that holds a lease, for messages."""
    return f"process {holder.get('pid')} on {holder.get('host')}"


def is_this_process(holder: Mapping[str, Any]) -> bool:
    """Whether a process is the one that asks."""
    return _is_on_this_machine(holder) and holder.get("pid") == os.getpid()


def life_of(holder: Mapping[str, Any], *, proc: Path = _PROC) -> Life:
    """Whether a process is alive.

    A process is dead only where the operating system says that nobody has its PID, or that
    somebody else has. Where ``/proc`` hides the processes of other users (``hidepid=2``), it looks
    as if they had ended; ``kill(pid, 0)`` still knows that they exist (kill(2): EPERM).
    """
    pid, born = holder.get("pid"), holder.get("born")
    if not _is_on_this_machine(holder) or not isinstance(pid, int) or not born:
        return Life.UNKNOWN
    started_at = _started_at(pid, proc)
    if started_at is not None:
        # A PID that was reused belongs to a process with another start time.
        return Life.ALIVE if started_at == born else Life.DEAD
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Life.DEAD
    except OSError:
        pass
    return Life.UNKNOWN  # it or another one with its PID exists, and its start time is hidden


def _is_on_this_machine(holder: Mapping[str, Any]) -> bool:
    """Whether a process belongs to this boot and this PID namespace of this machine."""
    here = _this_machine()
    return bool(here["boot"]) and all(holder.get(name) == here[name] for name in here)


def _this_machine() -> dict[str, str]:
    """The host, its boot and its PID namespace.

    Only Linux has the last two; elsewhere a dead holder is detected by its missing heartbeat.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - its target is not a path
    except OSError:
        boot = namespace = ""
    return {"host": socket.gethostname(), "boot": boot, "space": namespace}


def _started_at(pid: int, proc: Path) -> str | None:
    """Start time of a process in ticks since boot: empty for a zombie, None if it is not shown."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The program's name, in parentheses, may contain anything. A zombie (Z) is dead.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
