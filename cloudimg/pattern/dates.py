"""Recognize dates, times and elapsed times in the parts of names."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator

from cloudimg.pattern.directives import DIRECTIVE
from cloudimg.pattern.elapsed import PREFIX
from cloudimg.pattern.times import read_time

_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "j": 3}
_FIRST_YEAR, _LAST_YEAR = 1950, 2099
"""Other numbers of four digits are more likely to count something."""


def _absolute() -> Iterator[str]:
    """Formats of times, those that take more text first."""
    dates = ["%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y%m%d"]
    clocks = ["%H:%M:%S", "%H-%M-%S", "%H_%M_%S", "%H.%M.%S", "%Hh%Mm%Ss", "%H%M%S"]
    minutes = ["%H:%M", "%H-%M", "%Hh%Mm", "%H%M"]
    yield "%Yy%mm%dd_%Hh%Mm"  # Incucyte
    for date, join, clock in itertools.product([*dates, "%Y%j"], "T_- .", [*clocks, *minutes]):
        # A date and four digits without a letter between them may be a date and a number.
        if clock != "%H%M" or join == "T":
            yield f"{date}{join}{clock}"
    yield "%Y%m%d%H%M%S"
    yield from dates
    yield from ("%Y-%m", "%Y_%m", "%Y.%m", "%Y%j", "%Y%m")


_ABSOLUTE = tuple(_absolute())
_ELAPSED = tuple(
    PREFIX + spec
    for spec in (
        *("%dd%Hh%Mm%Ss", "%dd%Hh%Mm", "%dd%Hh", "%dd_%Hh_%Mm", "%Hh%Mm%Ss", "%Hh%Mm", "%Mm%Ss"),
        *("%Hhr%Mmin", "%Hh_%Mm", "%Hhrs", "%Hhr", "%Hh", "%Mmin", "%Ssec"),
    )
)


def time_formats(text: str) -> Iterator[tuple[str, int]]:
    """Yield formats of times with which a text may begin, and the length of the time."""
    for spec in (*_ABSOLUTE, *_ELAPSED):
        found = _regex(spec).match(text)
        if found:
            yield spec, found.end()


@functools.cache
def _regex(spec: str) -> re.Pattern[str]:
    is_elapsed = spec.startswith(PREFIX)
    pieces = DIRECTIVE.split(spec.removeprefix(PREFIX))
    regex = "".join(
        (r"\d+" if is_elapsed else rf"\d{{{_WIDTHS[piece]}}}") if i % 2 else re.escape(piece)
        for i, piece in enumerate(pieces)
    )
    return re.compile(rf"{regex}(?![0-9A-Za-z])" if is_elapsed else rf"{regex}(?!\d)", re.ASCII)


def are_times(texts: Iterable[str], spec: str) -> bool:
    """Whether all texts are times in a format, of years that files have."""
    regex = _regex(spec)
    for text in set(texts):
        if regex.fullmatch(text) is None:
            return False
        if not spec.startswith(PREFIX):
            try:
                time = read_time(text, spec)
            except (ValueError, OverflowError):
                return False
            if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
                return False
    return True
