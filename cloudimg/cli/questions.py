"""Questions to the person at the terminal."""

from __future__ import annotations

import sys

from cloudimg.cli.messages import printable
from cloudimg.errors import ArgumentError, CloudimgError


def confirm(facts: str, question: str, instead: str) -> None:
    """Ask a question that is answered with yes or no; return if the answer is yes.

    Parameters
    ----------
    facts : str
        What the person has to know, as a sentence without its full stop.
    question : str
        Ends with a question mark.
    instead : str
        What to do without a terminal, for the error.

    Raises
    ------
    ArgumentError
        If standard input or standard error is not a terminal.
    CloudimgError
        If the user declines.
    """
    # A program without a console has no streams at all.
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        raise ArgumentError(f"{facts}: {instead}")
    print(f"cloudimg: {printable(f'{facts}. {question}')} [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        raise CloudimgError("nothing was done, because the answer was not yes")
