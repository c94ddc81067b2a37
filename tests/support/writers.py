"""Migrations in processes of their own, which tests pause, kill, and move to other machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_ELSEWHERE = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
_PROC_HIDDEN = [
    "unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh",
]  # fmt: skip
NOBODY = 65534


class Writer:
    """``cloudimg.migrate`` in another process.

    Parameters
    ----------
    arguments : mapping
        Of ``cloudimg.migrate``; JSON.
    elsewhere : bool
        On a machine with another name: nobody here can see whether the process is alive.
    hidden : bool
        As another user, who does not see the processes of others.
    ttl_s : float
        How long its lease lasts without a heartbeat.
    stops_at_move : int
        Number of the renamed file or folder before which the process pauses itself; 0 for none.
    stopped_clock : bool
        Whether its `time.monotonic` stands still while it is paused, as if the machine slept.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        elsewhere: bool = False,
        hidden: bool = False,
        ttl_s: float = 2,
        stops_at_move: int = 0,
        stopped_clock: bool = False,
        command: Sequence[str] = (),
    ) -> None:
        how = {"hidden": hidden, "stops_at_move": stops_at_move, "stopped_clock": stopped_clock}
        prefix = _ELSEWHERE if elsewhere else _PROC_HIDDEN if hidden else []
        program = ["-m", "tests.support.writers", json.dumps(dict(arguments)), json.dumps(how)]
        if command:
            program = ["-m", "cloudimg", *command]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *program],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "CLOUDIMG_LEASE_TTL_S": str(ttl_s), "CLOUDIMG_TIMEOUT_S": "60"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def is_paused(self) -> bool:
        """Whether the process has paused itself."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def end(self, timeout_s: float = 120) -> tuple[int, str]:
        """Wait for the end; return the exit code and all that was printed."""
        text, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, text


def migrated(arguments: Mapping[str, Any], **how: Any) -> tuple[int, str]:
    """Run a migration to its end; return the exit code and all that was printed."""
    with Writer(arguments, **how) as writer:
        return writer.end()


def require_other_machines() -> None:
    """Skip the test where a process cannot be given another host name."""
    _require([*_ELSEWHERE, "true"], "other host names need the right to unshare")


def require_hidden_processes() -> None:
    """Skip the test where processes of other users cannot be hidden."""
    _require([*_PROC_HIDDEN, "true"], "hiding processes needs the right to mount /proc")


def _require(command: Sequence[str], reason: str) -> None:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip(reason)
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip(reason)


# What runs in the process


def _stop_before_move(number: int) -> None:
    """Pause this process before it renames for the n-th time."""
    left = [number]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and ".cloudimg-part/" in str(arguments[1]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)


def _main() -> int:
    arguments, how = map(json.loads, sys.argv[1:])
    if how["stopped_clock"]:
        time.monotonic = time.process_time  # of the processor, which a paused process does not use
    import cloudimg

    if how["hidden"]:
        # Before this process loses the right to read its own libraries.
        warm = {**arguments, "url": f"{arguments['url']}.warm"}
        cloudimg.migrate(**warm)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if how["stops_at_move"]:
        _stop_before_move(how["stops_at_move"])
    try:
        done = cloudimg.migrate(**arguments, progress=_say)
    except cloudimg.CloudimgError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    print(done, flush=True)
    return 0


def _say(advance: Any) -> None:
    if advance.note:
        print(f"note: {advance.note}", flush=True)


if __name__ == "__main__":
    sys.exit(_main())
