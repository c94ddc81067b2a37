"""The command ``cloudimg``: arguments in, text out, an exit code that scripts can rely on.

====  ==========================================================================================
0     success
1     failure: one line on stderr says what failed and why; ``--debug`` adds the traceback
2     usage error
130   interrupted: Ctrl-C, SIGTERM or SIGHUP
141   the reader of stdout closed it
====  ==========================================================================================
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

from cloudimg.cli.messages import (
    ProgressLine,
    notice,
    option_names,
    printable,
    secrets_in,
    speak_options,
)
from cloudimg.cli.parser import parse
from cloudimg.errors import BadFilesError, CloudimgError
from cloudimg.storage import redact

# Packages that take long to import (Dask, moto) are imported by the command that needs them.

_GRACE_S = 2.0
"""Seconds for which requests that are under way are waited for after Ctrl-C."""
_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a µ must not be an error where the locale is C
            stream.reconfigure(errors="backslashreplace")
    args = parse(argv)
    progress = ProgressLine(sys.stderr)
    try:
        if argv is None:
            for number in (signal.SIGTERM, *_HANGUP):
                if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
                    signal.signal(number, _interrupt)
            # Python delivers Ctrl-C to the main thread between two bytecodes only, and a call into
            # a store may block for long: the work is done in another thread.
            worker = ThreadPoolExecutor(1, "cloudimg-command")
            try:
                _wait_for(worker.submit(args.run, args, progress), args)
            finally:
                worker.shutdown(wait=False)
        else:
            args.run(args, progress)
        progress.clear()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # Flushing the rest of the buffer at exit would fail again, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        progress.clear()
        print("cloudimg: interrupted", file=sys.stderr)
        if argv is not None:
            return 130
        try:
            _end_leases()
            _stop_calls()
            _end_clusters()
        finally:
            sys.stderr.flush()
            os._exit(130)  # an ordinary exit waits for all threads
    except Exception as error:  # noqa: BLE001 - reported in one line; --debug shows the traceback
        progress.clear()
        _report(error, args)
        return 1


def _wait_for(work: Future[None], args: argparse.Namespace) -> None:
    """Wait for a command. One that follows a source ends after what is under way when told so."""
    try:
        work.result()
    except KeyboardInterrupt:
        stop = getattr(args, "stop", None)
        if stop is None:
            raise
        stop()
        notice("stopping after what is under way; once more stops at once")
        work.result()


def _interrupt(number: int, frame: object) -> NoReturn:
    """Handle SIGTERM and SIGHUP like Ctrl-C, or a cluster in the cloud would go on running."""
    raise KeyboardInterrupt


def _still_ending(number: int, frame: object) -> None:
    """Ignore a second signal: stopping half-way would leave machines running."""
    print("cloudimg: still stopping the cluster; please wait", file=sys.stderr)


def _end_leases() -> None:
    """Give up leases: others need not wait, unless something is still under way to a store."""
    leases = sys.modules.get("cloudimg.migration.journal.lease_view")
    if leases is None:
        return
    # A store that does not answer must not hold the process.
    ending = threading.Thread(target=leases.end_all_leases, args=(_GRACE_S,), daemon=True)
    ending.start()
    ending.join(2 * _GRACE_S)


def _stop_calls() -> None:
    """Stop what workers of a cluster drive for this process; they also do when it has ended."""
    calling = sys.modules.get("cloudimg.distributed.calling")
    if calling is not None:
        stopping = threading.Thread(target=calling.stop_all, daemon=True)
        stopping.start()
        stopping.join(2 * _GRACE_S)


def _end_clusters() -> None:
    """Stop what was started in the cloud, whatever the worker thread is doing."""
    running = sys.modules.get("cloudimg.cluster.running")
    if running is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM, *_HANGUP):
        signal.signal(number, _still_ending)
    try:
        running.end_all(notice)
    except CloudimgError as error:
        notice(f"error: {redact(str(error))}")


def _report(error: Exception, args: argparse.Namespace) -> None:
    names = ("url_options", "target_options", "source_options")
    secrets = [text for name in names for text in secrets_in("", getattr(args, name, {}))]

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return redact(text)

    if "debug" in args:
        print(hide("".join(traceback.format_exception(error))), file=sys.stderr)
        if isinstance(error, CloudimgError) and error.cause is not None:
            print(hide(f"caused by: {error.cause}"), file=sys.stderr)
    what = hide(str(error))
    if isinstance(error, CloudimgError):
        given = (getattr(args, name, None) for name in ("url", "out", "labels_of"))
        urls = (error.url, *given)
        what = speak_options(what, option_names(args), [hide(url) for url in urls if url])
    else:
        what = f"unexpected {type(error).__name__}: {what} (a bug; --debug shows where)"
    print(f"cloudimg: error: {hide(printable(what))}", file=sys.stderr)
    if isinstance(error, BadFilesError):
        lines = str(error.report).splitlines()
        if vars(args).get("report", "") is None and any(
            each.n_files > len(each.examples) for each in error.report.kinds
        ):
            lines.append("--report FILE writes a list of all of them")
        for line in lines:
            print(hide(printable(line)), file=sys.stderr)
