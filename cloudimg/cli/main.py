"""The command ``cloudimg``: arguments in, text or JSON out, an exit code that scripts can rely on.

The codes are listed in `cloudimg.cli.exit_codes`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

from cloudimg.cli.exit_codes import CLOSED, DONE, SIGNALLED, USAGE, code_of
from cloudimg.cli.parser import UsageError, parse, wants_json
from cloudimg.cli.session import Session, print_document
from cloudimg.cli.streams import StdoutError, flush_or_drop, open_missing_streams, tell
from cloudimg.errors import CloudimgError
from cloudimg.storage import redact

# Packages that take long to import (Dask, moto) are imported by the command that needs them.

_GRACE_S = 2.0
"""Seconds for which requests that are under way are waited for after Ctrl-C."""
_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


class _Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP: `number`."""

    number = int(signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the name of the program; by default those of the process.

    Returns
    -------
    int
        The exit code. A usage error raises SystemExit(2).
    """
    open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a µ must not be an error where the locale is C
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parse(words)
    except UsageError as error:
        if wants_json(words):
            from cloudimg.cli.failures import plain_failure

            failed = plain_failure("UsageError", error.message, USAGE)
            print_document(error.command, USAGE, failed, {"messages": [], "warnings": []})
            flush_or_drop()
        raise
    code = _run(args, words, is_process=argv is None)
    flush_or_drop()
    return code


def _run(args: Namespace, words: Sequence[str], *, is_process: bool) -> int:
    """Do the work of a command, and say how it ended."""
    session: Session | None = None
    try:
        session = Session(args)
        session.begin(words)
        with session.listening():
            _do(args, session, is_process=is_process)
    except StdoutError as failed:
        if failed.code != CLOSED:
            return _fail(failed.reason, args, session)
        return CLOSED if session is None else session.end(CLOSED)
    except KeyboardInterrupt as stop:
        code = SIGNALLED + getattr(stop, "number", signal.SIGINT)
        _end_interrupted(session, code, is_process=is_process)
        return code
    except Exception as error:  # noqa: BLE001 - reported in one line; --debug shows the traceback
        return _fail(error, args, session)
    return session.end(DONE)


def _do(args: Namespace, session: Session, *, is_process: bool) -> None:
    if not is_process:
        _say_all(args, session)
        return
    for number in (signal.SIGTERM, *_HANGUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    # Python delivers Ctrl-C to the main thread between two bytecodes only, and a call into
    # a store may block for long: the work is done in another thread.
    worker = ThreadPoolExecutor(1, "cloudimg-command")
    try:
        _wait_for(worker.submit(_say_all, args, session), args, session)
    finally:
        worker.shutdown(wait=False)


def _say_all(args: Namespace, session: Session) -> None:
    for text in args.run(args, session):
        session.say(text)


def _fail(error: Exception, args: Namespace, session: Session | None) -> int:
    from cloudimg.cli.failures import failure, failure_lines

    hide = redact if session is None else session.hide
    if session is not None:
        session.progress.stop()
    for line in failure_lines(error, args, hide):
        tell(line)
    failed, code = failure(error, args, hide), code_of(error)
    if session is not None:
        return session.end(code, failed)
    if args.json:
        return print_document(args.command, code, failed, {"messages": [], "warnings": []})
    return code


def _end_interrupted(session: Session | None, code: int, *, is_process: bool) -> None:
    from cloudimg.cli.failures import plain_failure

    if session is not None:
        session.progress.stop()
    tell("cloudimg: interrupted")
    say: Callable[[str], Any] = tell if session is None else session.notice
    try:
        if is_process:
            _end_leases()
            _end_probe()
            _stop_calls()
            _end_clusters(say)
    finally:
        try:
            if session is not None:
                session.end(code, plain_failure("Interrupted", "interrupted by a signal", code))
        finally:
            if is_process:
                os._exit(code)  # an ordinary exit waits for all threads


def _wait_for(work: Future[None], args: Namespace, session: Session) -> None:
    """Wait for a command. One that follows a source ends after what is under way when told so."""
    try:
        work.result()
    except KeyboardInterrupt:
        stop = getattr(args, "stop", None)
        if stop is None:
            raise
        stop()
        session.notice("stopping after what is under way; once more stops at once")
        work.result()


def _interrupt(number: int, frame: object) -> NoReturn:
    """Handle SIGTERM and SIGHUP like Ctrl-C, or a cluster in the cloud would go on running."""
    interrupted = _Interrupted()
    interrupted.number = number
    raise interrupted


def _still_ending(number: int, frame: object) -> None:
    """Ignore a second signal: stopping half-way would leave machines running."""
    tell("cloudimg: still stopping the cluster; please wait")


def _end_leases() -> None:
    """Give up leases: others need not wait, unless something is still under way to a store."""
    leases = sys.modules.get("cloudimg.migration.journal.lease_view")
    if leases is None:
        return
    # A store that does not answer must not hold the process.
    ending = threading.Thread(target=leases.end_all_leases, args=(_GRACE_S,), daemon=True)
    ending.start()
    ending.join(2 * _GRACE_S)


def _end_probe() -> None:
    """Let the probe of a dry run be deleted."""
    probing = sys.modules.get("cloudimg.migration.journal.probing")
    if probing is not None:
        probing.wait_for_probe(_GRACE_S)


def _stop_calls() -> None:
    """Stop what workers of a cluster drive for this process; they also do when it has ended."""
    calling = sys.modules.get("cloudimg.distributed.calling")
    if calling is not None:
        stopping = threading.Thread(target=calling.stop_all, daemon=True)
        stopping.start()
        stopping.join(2 * _GRACE_S)


def _end_clusters(say: Callable[[str], Any]) -> None:
    """Stop what was started in the cloud, whatever the worker thread is doing."""
    running = sys.modules.get("cloudimg.cluster.running")
    if running is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM, *_HANGUP):
        signal.signal(number, _still_ending)
    try:
        running.end_all(say)
    except CloudimgError as error:
        say(f"error: {redact(str(error))}")
