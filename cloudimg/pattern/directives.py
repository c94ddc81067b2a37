"""Formats with directives such as ``%Y%m%d`` or ``%dd%Hh``: their regex, and the texts in a URL."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from cloudimg.pattern.regex import FLAGS, Fail

DIRECTIVE = re.compile("%([-_^#]?.?)", re.DOTALL)

RegexOf = Callable[[str, bool], str]
"""Returns the regex of a directive without its ``%``; its second argument is whether another
directive follows at once."""


def directives_of(spec: str) -> list[str]:
    """Return the directives of a format, without their ``%``."""
    return DIRECTIVE.findall(spec)


def format_regex(spec: str, regex_of: RegexOf, fail: Fail) -> str:
    """Return the regex of a format, without capturing groups.

    Raises
    ------
    PatternError
        If a directive appears twice.
    """
    letters = [letter for letter in directives_of(spec) if letter != "%"]
    if len(set(letters)) < len(letters):
        raise fail("a directive appears twice", "write two fields of one name")
    return _groups(spec, regex_of, "(?:")


@functools.lru_cache(maxsize=256)
def _groups(spec: str, regex_of: RegexOf, opening: str) -> str:
    """Return a regex with a group for each directive, which begins with `opening`."""
    texts = DIRECTIVE.split(spec)  # text and directive in turn
    regex = ""
    for i, text in enumerate(texts):
        if i % 2 == 0:
            regex += re.escape(text)
        else:
            is_beside = i + 2 < len(texts) and not texts[i + 1]
            regex += f"{opening}{regex_of(text, is_beside)})"
    return regex


def read_texts(text: str, spec: str, regex_of: RegexOf) -> dict[str, str]:
    """Return the text of each directive; ValueError if the format does not match.

    The text of ``f``, decimals of a second, is padded to microseconds.
    """
    match = re.fullmatch(_groups(spec, regex_of, "("), text, FLAGS)
    if match is None:
        raise ValueError(text)
    texts = dict(zip(directives_of(spec), match.groups(), strict=True))
    if "f" in texts:
        texts["f"] = texts["f"].ljust(6, "0")
    return texts
