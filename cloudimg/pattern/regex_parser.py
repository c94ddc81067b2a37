"""The private names of Python's `re` that cloudimg uses; tests/test_private_apis.py holds them.

`re` has no public way to see what a regular expression consists of. Its parser was public as
``sre_parse`` until Python 3.11 deprecated that. Seen from 3.11 to 3.13 as ``re._parser``, with its
operators in ``re._constants``.
"""

from __future__ import annotations

from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
"""Operators of repeats; their value is the least count, the largest count and what is repeated."""
FINAL = (
    _constants.POSSESSIVE_REPEAT,
    _constants.ATOMIC_GROUP,
    _constants.ASSERT,
    _constants.ASSERT_NOT,
)
"""Operators of parts that are never entered again once they have matched."""


def parse(regex: str, flags: int) -> Any:
    """The parsed regex: an iterable of pairs of an operator and its value.

    Uses ``re._parser.parse``; see the module for why.
    """
    return _parser.parse(regex, flags)


def width(regex: str, flags: int) -> tuple[int, int]:
    """How many characters a regex takes, at least and at most.

    Uses ``re._parser.SubPattern.getwidth``; see the module for why.
    """
    low, high = parse(regex, flags).getwidth()
    return low, high


def parts(value: object) -> Iterator[Any]:
    """Yield the regexes in what the parser gives with an operator: branches are in a list.

    Uses ``re._parser.SubPattern``; see the module for why.
    """
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from parts(each)
