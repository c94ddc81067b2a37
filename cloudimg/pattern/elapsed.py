"""Elapsed times in URLs, such as 01d03h30m since the start of an acquisition."""

from __future__ import annotations

import datetime
import functools

from cloudimg.pattern.directives import directives_of, format_regex, read_texts
from cloudimg.pattern.regex import Fail

PREFIX = "elapsed "
"""Begins the format of an elapsed time: ``{t:elapsed %dd%Hh%Mm}``."""
UNITS = {"d": "days", "H": "hours", "M": "minutes", "S": "seconds", "f": "microseconds"}
"""Directives of an elapsed time, and the unit that each counts."""


def elapsed_regex(spec: str, fail: Fail) -> str:
    """Return the regex of the format of an elapsed time."""
    letters = directives_of(spec)
    unknown = [letter for letter in letters if letter not in UNITS]
    if unknown or not letters:
        known = " ".join(f"%{letter}" for letter in UNITS)
        raise fail(
            f"%{unknown[0]} is not a part of an elapsed time" if unknown else "no part of a time",
            f"write some of {known}",
        )
    return format_regex(spec.removeprefix(PREFIX), _regex_of, fail)


def _regex_of(letter: str, is_beside: bool) -> str:
    if letter == "f":
        return r"\d{1,6}"
    # Where no text separates two parts, only a fixed width can.
    return r"\d{2}" if is_beside else r"\d+"


@functools.lru_cache(maxsize=65536)  # many files share few times
def read_elapsed(text: str, spec: str) -> datetime.timedelta:
    """Return the time span that a text stands for; ValueError or OverflowError if there is none."""
    parts = read_texts(text, spec.removeprefix(PREFIX), _regex_of)
    return datetime.timedelta(**{UNITS[letter]: int(part) for letter, part in parts.items()})
