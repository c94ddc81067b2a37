"""Elapsed times in URLs, such as 01d03h30m since the start of an acquisition."""

from __future__ import annotations

import datetime
import functools
import re

from cloudimg.pattern.regex import FLAGS, Fail

PREFIX = "elapsed "
"""Begins the format of an elapsed time: ``{t:elapsed %dd%Hh%Mm}``."""
_UNITS = {"d": "days", "H": "hours", "M": "minutes", "S": "seconds", "f": "microseconds"}
_DIRECTIVE = re.compile("%(.?)", re.DOTALL)


def elapsed_regex(spec: str, fail: Fail) -> str:
    """Return the regex of the format of an elapsed time."""
    letters = _DIRECTIVE.findall(spec)
    unknown = [letter for letter in letters if letter not in _UNITS]
    if unknown or not letters:
        known = " ".join(f"%{letter}" for letter in _UNITS)
        raise fail(
            f"%{unknown[0]} is not a part of an elapsed time" if unknown else "no part of a time",
            f"write some of {known}",
        )
    if len(set(letters)) < len(letters):
        raise fail("a directive appears twice", "write two fields of one name")
    return _groups(spec, "(?:")[1]


@functools.lru_cache(maxsize=256)
def _groups(spec: str, opening: str) -> tuple[list[str], str]:
    """Return the directives, and a regex with a group for each that begins with `opening`."""
    texts = _DIRECTIVE.split(spec.removeprefix(PREFIX))  # text and directive in turn
    regex = ""
    for i, text in enumerate(texts):
        if i % 2 == 0:
            regex += re.escape(text)
        elif text == "f":
            regex += rf"{opening}\d{{1,6}})"
        else:
            # Where no text separates two parts, only a fixed width can.
            is_beside = i + 2 < len(texts) and not texts[i + 1]
            regex += opening + (r"\d{2})" if is_beside else r"\d+)")
    return texts[1::2], regex


@functools.lru_cache(maxsize=65536)  # many files share few times
def read_elapsed(text: str, spec: str) -> datetime.timedelta:
    """Return the time span that a text stands for; ValueError or OverflowError if there is none."""
    letters, regex = _groups(spec, "(")
    match = re.fullmatch(regex, text, FLAGS)
    if match is None:
        raise ValueError(text)
    parts = dict(zip(letters, match.groups(), strict=True))
    if "f" in parts:
        parts["f"] = parts["f"].ljust(6, "0")  # decimals of a second
    return datetime.timedelta(**{_UNITS[letter]: int(part) for letter, part in parts.items()})
