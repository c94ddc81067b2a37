"""The command ``cloudimg``: arguments in, text out, an exit code that scripts can rely on.

======  =====================================================================================
0       fine
1       it did not work: one line on stderr says what and why, ``--debug`` shows the traceback
2       the command itself is wrong
130     Ctrl-C
141     nobody reads the output any more
======  =====================================================================================
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from cloudimg.cli.messages import ProgressLine, printable, secrets_in, speak_options
from cloudimg.cli.parser import parse
from cloudimg.errors import CloudimgError
from cloudimg.storage import redact

# Whatever takes long to import (Dask, moto) is imported by the command that needs it.


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the name of the program; those of the process without it.

    Returns
    -------
    int
        The exit code. A command that is wrong itself raises SystemExit(2).
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a µ must not be an error where the locale is C
            stream.reconfigure(errors="backslashreplace")
    args = parse(argv)
    progress = ProgressLine(sys.stderr)
    try:
        if argv is None:
            for number in (signal.SIGTERM, *_HANGUP):
                if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                    signal.signal(number, _interrupt)
            # Ctrl-C reaches the main thread between two calls only, and a call may wait for a
            # store for long: the work is done in another thread.
            ThreadPoolExecutor(1).submit(args.run, args, progress).result()
        else:
            args.run(args, progress)
        progress.clear()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # What is left in the buffer would fail again at exit, and loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        progress.clear()
        print("cloudimg: interrupted", file=sys.stderr)
        if argv is not None:
            return 130
        try:
            _end_clusters()
        finally:
            sys.stderr.flush()
            os._exit(130)  # an ordinary exit waits for all threads
    except Exception as error:  # noqa: BLE001 - no traceback for people who did not ask for one
        progress.clear()
        _report(error, args)
        return 1


_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


def _interrupt(number: int, frame: object) -> NoReturn:
    """Other ways to be asked to end are like Ctrl-C: a cluster in the cloud would stay behind."""
    raise KeyboardInterrupt


def _still_ending(number: int, frame: object) -> None:
    """Half an end would leave machines behind."""
    print("cloudimg: still ending the cluster; wait", file=sys.stderr)


def _end_clusters() -> None:
    """End what was started in the cloud, whatever the thread that does the work is doing."""
    running = sys.modules.get("cloudimg.cluster.running")
    if running is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM, *_HANGUP):
        signal.signal(number, _still_ending)
    try:
        running.end_all(lambda text: print(f"cloudimg: {text}", file=sys.stderr))
    except CloudimgError as error:
        print(f"cloudimg: error: {printable(redact(str(error)))}", file=sys.stderr)


def _report(error: Exception, args: argparse.Namespace) -> None:
    names = ("url_options", "target_options", "source_options")
    hidden = [text for name in names for text in secrets_in("", getattr(args, name, {}))]

    def show(text: str) -> None:
        for secret in hidden:
            text = text.replace(secret, "***")
        print(redact(text), file=sys.stderr)

    if "debug" in args:
        show("".join(traceback.format_exception(error)))
        if isinstance(error, CloudimgError) and error.cause is not None:
            show(f"caused by: {error.cause}")
    what = speak_options(str(error))
    if not isinstance(error, CloudimgError):
        what = f"unexpected {type(error).__name__}: {what} (a bug; --debug shows where)"
    show(f"cloudimg: error: {printable(what)}")
