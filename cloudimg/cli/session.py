"""`Session`: where a command says things, on stdout, on stderr, in the log and as JSON."""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from cloudimg.cli.exit_codes import CLOSED
from cloudimg.cli.messages import passwords_in, printable, secrets_in
from cloudimg.cli.progress import Progress
from cloudimg.cli.streams import StdoutError, print_line, tell
from cloudimg.errors import CloudimgError, CloudimgWarning
from cloudimg.storage import redact

if TYPE_CHECKING:
    from cloudimg.cli.log import Log

FORMAT = 1
"""Version of the keys of what ``--json`` prints; new ones may come without a new version."""
DEFAULT_HEARTBEAT_S = 60.0


class Session:
    """What one command says, and where: all commands get one.

    Parameters
    ----------
    args : Namespace
        The parsed command line.

    Raises
    ------
    ArgumentError, NoRoomError
        If the log cannot be opened.
    """

    def __init__(self, args: Namespace) -> None:
        self.command: str = args.command
        self.as_json: bool = args.json
        self.progress = Progress(sys.stderr)
        self._heartbeat_s: float = args.heartbeat
        self._stdout = sys.stdout
        self._secrets = list(_secrets(args))
        self._result: dict[str, Any] = {}
        self._messages: list[str] = []
        self._warnings: list[str] = []
        self._began = time.monotonic()
        self._log: Log | None = None
        if args.log is not None:
            from cloudimg.cli.log import Log

            self._log = Log(args.log, self._complain)

    # ------------------------------------------------------------------------ said while it runs

    def say(self, text: str) -> None:
        """Print lines of the result on stdout; with ``--json``, they are left to the log.

        Raises
        ------
        StdoutError
        """
        self.progress.clear()
        self._write("result", text)
        if not self.as_json and text:
            print_line("\n".join(map(printable, text.splitlines())), self._stdout)

    def result(self, facts: Mapping[str, Any]) -> None:
        """Set keys of what ``--json`` prints."""
        self._result |= facts

    def notice(self, text: str) -> None:
        """Print a line to stderr that is not part of the result."""
        text = self.hide(text)
        self.progress.clear()
        self._write("note", printable(text))
        self._messages.append(text)
        tell(f"cloudimg: {printable(text)}")

    def line(self, text: str) -> None:
        """Replace the line on a terminal that shows progress; an empty text removes it."""
        self.progress.line(text)

    def hide(self, text: str) -> str:
        """A text without secrets: those that the options of stores have, and those of URLs."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact(text)

    # -------------------------------------------------------------------------- beginning and end

    def begin(self, words: Sequence[str]) -> None:
        """Begin the log and the heartbeat.

        Raises
        ------
        ArgumentError, NoRoomError
            If the log cannot be written.
        """
        if self._log is not None:
            from cloudimg.cli.log import shown_arguments

            try:
                self._log.begin("start", f"cloudimg {shown_arguments(words, self.hide)}")
            except CloudimgError:
                self._log = None  # it is said once that it cannot be written
                raise
        if self._heartbeat_s and (self._log is not None or not self.progress.is_on_terminal):
            self.progress.beat(self._heartbeat_s, self._say_progress)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take warnings, and with ``--json`` keep the prints of others from stdout."""
        show_others = warnings.showwarning

        def show(message: Any, category: Any, *where: Any, **kwargs: Any) -> None:
            if issubclass(category, CloudimgWarning):
                self._warn(str(message))
            else:
                show_others(message, category, *where, **kwargs)

        warnings.showwarning = show
        try:
            if self.as_json:
                with redirect_stdout(sys.stderr):
                    yield
            else:
                yield
        finally:
            if warnings.showwarning is show:
                warnings.showwarning = show_others

    def end(self, code: int, error: Mapping[str, Any] | None = None) -> int:
        """Say how the command has ended, with ``--json`` on stdout and in the log.

        Returns
        -------
        int
            The exit code, which is another one if stdout cannot be written.
        """
        self.progress.stop()
        if self.as_json:
            found = {"messages": self._messages, "warnings": self._warnings, **self._result}
            code = print_document(self.command, code, error, found, file=self._stdout)
        if error is not None:
            self._write("error", printable(f"{error['kind']}: {error['message']}"))
            for of_kind in (error["report"] or {"kinds": ()})["kinds"]:
                for file in of_kind["files"]:
                    told = f"{of_kind['kind']}: {file['url']}: {file['text']}"
                    self._write("error", printable(told))
        took = time.monotonic() - self._began
        self._write("end", f"exit code {code} after {took:.1f} s")
        if self._log is not None:
            log, self._log = self._log, None
            log.close()
        return code

    def _warn(self, text: str) -> None:
        text = self.hide(text)
        self.progress.clear()
        self._write("warning", printable(text))
        self._warnings.append(text)
        tell(f"cloudimg: warning: {printable(text)}")

    def _say_progress(self, text: str) -> None:
        self._write("progress", text)
        if not self.progress.is_on_terminal:
            tell(f"cloudimg: {printable(text)}")

    def _write(self, kind: str, text: str) -> None:
        if self._log is not None:
            self._log.add(kind, self.hide(text))

    def _complain(self, text: str) -> None:
        self._messages.append(text)
        tell(f"cloudimg: {printable(text)}")


def _secrets(args: Namespace) -> Iterator[str]:
    """Secrets in options of stores, and passwords in addresses, of which libraries repeat parts."""
    for name, given in vars(args).items():
        if name in ("url_options", "target_options", "source_options"):
            yield from secrets_in("", given or {})
        for text in given if isinstance(given, list) else [given]:
            yield from passwords_in(text) if isinstance(text, str) else ()


def print_document(
    command: str,
    code: int,
    error: Mapping[str, Any] | None,
    found: Mapping[str, Any],
    *,
    file: Any = None,
) -> int:
    """Print what ``--json`` promises: one JSON object in one line, whatever has happened.

    Returns
    -------
    int
        The exit code: the given one, or that of a stdout that cannot be written.
    """
    head = {"format": FORMAT, "command": command, "exit_code": code, "error": error}
    text = json.dumps(_finite({**head, **found, **head}), allow_nan=False, default=str)
    try:
        print_line(text, file)
    except StdoutError as failed:
        if failed.code != CLOSED:
            tell(f"cloudimg: error: {failed}")
        return failed.code
    return code


def _finite(value: Any) -> Any:
    """A value without numbers that JSON lacks: those become texts, such as ``"nan"``."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    is_lacking = isinstance(value, float) and not math.isfinite(value)
    return str(value) if is_lacking else value
