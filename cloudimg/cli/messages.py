"""What is printed: text that a terminal can show, errors that speak of the command's options."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

_SECRET_NAME = re.compile(r"(?i)key|secret|token|password|passwd|credential|sas|connection_string")
_SHORTEST_SECRET = 6  # characters: replacing shorter texts would garble messages

_Replace = str | Callable[[re.Match[str]], str]
_AS_OPTIONS: tuple[tuple[str, _Replace], ...] = (
    (r"\bmosaic=False\b", "--no-mosaic"),
    (r"\bresume=False\b", "--no-resume"),
    (r"\bmax_bytes=math\.inf\b", "--yes"),
    (r"\b(overwrite|against_source)=True\b", lambda m: _option(m[1])),
    (r'\b(axes|index)=\{"(\w+)": "?(-?\w+)"?\}', lambda m: f"{_option(m[1])} {m[2]}={m[3]}"),
    (
        r'\b(missing|validate|layout|compression|downsampling|codec|project)="([^"]*)"',
        lambda m: f"{_option(m[1])} {m[2]}",
    ),
    (r"\b(level|series|levels|zarr_format|max_bytes)=(-?\d+)", lambda m: f"{_option(m[1])} {m[2]}"),
    (
        r"\b(axes|series|missing|mosaic|validate|index|level|levels|project|max_bytes|max_mem|chunks"
        r"|shards|factors|downsampling|codec|name|overwrite|resume|sample|against_source|layout"
        r"|compression|source_options|target_options|storage_options|zarr_format)=(?=[\s,;:.)]|$)",
        lambda m: _option(m[1]),
    ),
)
"""Python's keyword arguments in messages, and how the command line writes them."""


def speak_options(text: str) -> str:
    """A message of the library in terms of the command's options: ``--missing fill``."""
    for pattern, replacement in _AS_OPTIONS:
        text = re.sub(pattern, replacement, text)
    return text


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def printable(text: str) -> str:
    """Text with control characters escaped: names in a store may hold what terminals obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def secrets_in(name: str, value: Any) -> Iterator[str]:
    """Values of options that no message may repeat, whatever library made the message."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from secrets_in(f"{name} {inner}", each)
    elif _SECRET_NAME.search(name) and len(str(value)) >= _SHORTEST_SECRET:
        yield str(value)


class ProgressLine:
    """One line on a terminal that shows how far a count is; nothing where stderr is a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None
        self._shown_at = -1.0

    def __call__(self, what: str, count: int) -> None:
        """Show a count, but not more often than it can be read."""
        if self._stream is not None and time.monotonic() - self._shown_at > 0.1:
            self._shown_at = time.monotonic()
            self._stream.write(f"\r{what}{f': {count}' if count else ''}\x1b[K")
            self._stream.flush()

    def line(self, text: str) -> None:
        """Show a text in place of the one before."""
        if text:
            self(text, 0)
        else:
            self.clear()

    def clear(self) -> None:
        """Remove the line."""
        if self._stream is not None and self._shown_at >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown_at = -1.0


def notice(text: str) -> None:
    """Print a line to stderr that is not the command's result."""
    print(f"cloudimg: {printable(text)}", file=sys.stderr)
