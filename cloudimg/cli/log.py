"""``--log FILE``: what a command does, as lines with times that many processes may append."""

from __future__ import annotations

import json
import os
import shlex
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from cloudimg.cli.messages import printable
from cloudimg.cli.streams import unwritable
from cloudimg.errors import ArgumentError, CloudimgError
from cloudimg.storage import redact


class Log:
    """A file to which lines are appended. Thread-safe.

    Each line is one write to a file that is open for appending, so that lines of several processes
    do not mix on a local disk.

    Parameters
    ----------
    path : str
    complain : callable
        Is told, once, that a line could not be written.

    Raises
    ------
    ArgumentError, NoRoomError
        If the file cannot be opened for appending.
    """

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self._path, self._complain = path, complain
        self._lock = threading.Lock()
        self._has_failed = self._is_torn = False
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._refusal(error) from error

    def begin(self, kind: str, text: str) -> None:
        """Append the first line.

        Raises
        ------
        ArgumentError, NoRoomError
            If it cannot be written.
        """
        try:
            self._append(kind, text)
        except OSError as error:
            raise self._refusal(error) from error

    def add(self, kind: str, text: str) -> None:
        """Append a line for each line of a text. Where that fails, work goes on."""
        for line in filter(str.strip, text.splitlines()):
            try:
                self._append(kind, line)
            except OSError as error:
                if not self._has_failed:
                    self._has_failed = True
                    self._complain(
                        f"the log {self._path} cannot be written: {error.strerror}; the command"
                        " goes on, and the log lacks lines"
                    )

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, kind: str, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{now} {os.getpid()} {kind:<8} {printable(text)}\n".encode(errors="replace")
        with self._lock:
            if self._is_torn:  # the beginning of a line stands there
                line = b"\n" + line
            written = os.write(self._file, line)
            self._is_torn = written < len(line)

    def _refusal(self, error: OSError) -> CloudimgError:
        return unwritable(f"--log {self._path} cannot be written", error, ArgumentError)


_HARMLESS = frozenset({
    "account_name", "consistency", "endpoint_url", "location", "max_rate", "profile", "project",
    "region", "region_name", "signature_version",
})  # fmt: skip
"""Options of stores whose values are no secrets, whatever they are."""


def shown_arguments(words: Sequence[str], hide: Callable[[str], str]) -> str:
    """A command line as one would type it, without secrets.

    Of the options of stores, only those that are known to be harmless are shown: any header may
    hold a password.

    Examples
    --------
    >>> shown_arguments(["info", "s3://b/a.tif", "--storage-options", '{"key": "k"}'], str)
    'info s3://b/a.tif --storage-options \\'{"key": "***"}\\''
    """
    before = ["", *words]
    shown = (
        word if option.startswith("--c") else _masked(word)  # a codec is JSON, too
        for option, word in zip(before, words, strict=False)
    )
    return shlex.join(hide(redact(word)) for word in shown)


def _masked(word: str) -> str:
    """An argument whose JSON is shown without secrets; an argument that is not JSON is hidden."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if option.startswith("--c") or not value.lstrip().startswith("{"):
        return word
    try:
        shown = json.dumps(_without_secrets("", json.loads(value)))
    except ValueError:
        shown = "***"
    return f"{option}{equals}{shown}"


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(key, each) for key, each in value.items()}
    is_shown = isinstance(value, bool | None) or name in _HARMLESS
    return value if is_shown else "***"
