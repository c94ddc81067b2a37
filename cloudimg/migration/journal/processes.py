"""Identity of the process that holds a lease, and whether a process of this machine is dead."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Identity of this process, as stored in its leases."""
    return {**_this_machine(), "pid": os.getpid(), "born": _started_at(os.getpid())}


def describe(holder: Mapping[str, Any]) -> str:
    """The process that holds a lease, for messages."""
    return f"process {holder.get('pid')} on {holder.get('host')}"


def is_on_this_machine(holder: Mapping[str, Any]) -> bool:
    """Whether a process belongs to this boot and this PID namespace of this machine."""
    here = _this_machine()
    return bool(here["boot"]) and all(holder.get(name) == here[name] for name in here)


def is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether a process is known to have ended. False for every process of another machine."""
    if not is_on_this_machine(holder) or not isinstance(holder.get("pid"), int):
        return False
    # A PID that was reused belongs to a process with another start time.
    return _started_at(holder["pid"]) != holder.get("born")


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


def _started_at(pid: int) -> str:
    """Start time of a process in ticks since boot; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The program's name, in parentheses, may contain anything. A zombie (Z) is dead.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
