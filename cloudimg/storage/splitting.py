"""Cut the keys of a listing into ranges that can be listed at once.

A store returns a thousand names a request, so a million of them are a thousand requests, each of
which begins where the one before has ended, unless one knows where else to begin. The texts of a
pattern between its fields tell: asked with a delimiter, a store says what the keys have before it.
Where that is as many texts as there are files, such as numbers, the digits of a key tell.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise, repeat

from cloudimg.errors import ServerError, StorageError
from cloudimg.storage.base import Page
from cloudimg.storage.pages import LAST_CHARACTER
from cloudimg.storage.threads import engine, map_ahead

PAGES_ALONE = 4
"""Pages of a range that are listed one after another before what is left of it is cut, so that a
small listing takes no more requests, and a large one hardly more."""
_MOST_PARTS = 8
"""Into which a range is cut at delimiters."""
_MOST_PREFIXES = 64
_ENOUGH_PREFIXES = 16
_NUMBER = re.compile("[0-9a-f]{8,}|[0-9A-F]{8,}|[0-9]+")
_DIGITS = "0123456789"

Ask = Callable[[str, str], Page]
"""Requests what the keys with a prefix have up to a delimiter."""


@dataclass(frozen=True, slots=True)
class Delimiter:
    """A text that keys of interest have, behind the stem or behind the delimiter before."""

    text: str
    accepts: Callable[[str], bool] | None = None
    """Whether keys that begin with a text, which ends with the delimiter, may be of interest; None
    if all may be. Others are left out where they are at least as many."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of the keys of a listing before it begins."""

    stem: str
    """What the keys of interest begin with."""
    delimiters: tuple[Delimiter, ...]
    """What follows the stem, in this order."""
    is_narrow: bool
    """Whether keys that a delimiter does not accept need not be listed."""
    left_out: list[str] = field(default_factory=list)
    """What keys begin with that were therefore not listed, once they have been."""


@dataclass(frozen=True, slots=True)
class Range:
    """Keys after one key, up to another and with it."""

    after: str
    end: str | None
    """None: all that follow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to list what follows a key."""

    ranges: tuple[Range, ...]
    """What is to be listed."""
    cuts: tuple[str, ...]
    """Where these can be cut, in increasing order."""


def plan_after(last: str, outline: Outline, ask: Ask) -> Plan:
    """Plan how to list what follows a key, without most keys that cannot be of interest.

    Only what an answer has shown is left out, never what it lacks: an answer may end too early.

    Parameters
    ----------
    last : str
        The last key that was listed.
    outline : Outline
    ask : callable

    Raises
    ------
    StorageError
    """
    prefixes, left_out = [outline.stem], list[list[str]]()
    for number, delimiter in enumerate(outline.delimiters):
        if not 0 < len(prefixes) <= _most_prefixes(outline, number, has_left_out=bool(left_out)):
            break
        try:
            pages = _asked(ask, prefixes, delimiter.text)
        except ServerError:
            raise
        except StorageError:
            break  # this store or this user may list plainly only
        if not all(map(_is_of, pages, prefixes, repeat(delimiter.text))):
            break
        accepts = delimiter.accepts if outline.is_narrow else None
        prefixes = [each for page in pages for each in page.prefixes]
        others = [] if accepts is None else _others(pages, accepts)
        if 2 * sum(map(len, others)) >= len(prefixes):
            left_out += others
            prefixes = list(filter(accepts, prefixes))
    outline.left_out.extend(each for texts in left_out for each in texts)
    return Plan(tuple(_without(last, left_out)), tuple(sorted(prefixes)))


def _is_of(page: Page, prefix: str, delimiter: str) -> bool:
    """Whether an answer has, in order, all that keys have behind a prefix up to a delimiter.

    Where it is not all, there are hardly fewer of them than keys. Some stores end them at another
    text, such as the first character of the delimiter.
    """
    behind = (each[len(prefix) :].partition(delimiter) for each in page.prefixes)
    have_ended = all(parts[1:] == (delimiter, "") for parts in behind)
    is_in_order = all(a < b for a, b in pairwise(page.prefixes))
    return page.token is None and is_in_order and have_ended


def _most_prefixes(outline: Outline, number: int, *, has_left_out: bool) -> int:
    """Most prefixes behind each of which it is worth asking for a delimiter."""
    if outline.is_narrow and any(each.accepts for each in outline.delimiters[number:]):
        return _MOST_PREFIXES
    return 0 if has_left_out else _ENOUGH_PREFIXES


def _others(pages: Iterable[Page], accepts: Callable[[str], bool]) -> list[list[str]]:
    """The texts of pages that are not accepted; those that follow each other together."""
    runs = (run for page in pages for run in groupby(page.prefixes, accepts))
    return [list(texts) for is_accepted, texts in runs if not is_accepted]


def _asked(ask: Ask, prefixes: Sequence[str], delimiter: str) -> list[Page]:
    """What follows each of some prefixes, asked for at once."""
    pages = map_ahead(
        lambda prefix: engine().fetch_window(lambda: ask(prefix, delimiter)),
        prefixes,
        n_ahead=_MOST_PREFIXES,
    )
    return list(pages)


def _without(after: str, left_out: Iterable[list[str]]) -> Iterator[Range]:
    """Yield what follows a key without keys that begin with some texts."""
    runs = sorted(left_out)
    for i, texts in enumerate(runs):
        # The end of a listing can be checked only where keys are listed.
        is_end = i == len(runs) - 1
        first, end = _before(texts[0]), texts[-1] + LAST_CHARACTER
        end = _before(texts[-1]) if is_end else end
        if first > after:
            yield Range(after, first)
        after = max(after, end)
    yield Range(after, None)


def _before(key: str) -> str:
    """A text after which a key is listed, and hardly any other that sorts before it."""
    code = ord(key[-1]) - 1
    if 0xD800 <= code <= 0xDFFF:  # no character, in any encoding of keys
        code = 0xD7FF
    return key[:-1] + (chr(code) + LAST_CHARACTER if code >= 0 else "")


def cut(part: Range, first: str, cuts: Sequence[str], stem: str) -> list[Range]:
    """Cut what is left of a range: at known places, or else where the digits of its keys change.

    Parameters
    ----------
    part : Range
        What is left, behind a key that was listed.
    first : str
        The first key that was listed of the range.
    cuts : sequence of str
        See `Plan`.
    stem : str
        What the keys of interest begin with.
    """
    last, end = part.after, part.end
    known = cuts[bisect_right(cuts, last) : None if end is None else bisect_left(cuts, end)]
    if len(known) >= _MOST_PARTS:
        known = [known[i * len(known) // _MOST_PARTS] for i in range(1, _MOST_PARTS)]
    if not known and first.startswith(stem) and last.startswith(stem):
        known = sorted(each for each in _at_digits(first, last) if end is None or each < end)
    return [*(Range(*each) for each in pairwise((last, *known))), Range([last, *known][-1], end)]


def _at_digits(first: str, last: str) -> Iterator[str]:
    """Yield texts behind a key that differ from it in one of two digits.

    These are the first one that differs between two keys, and the one before it. Digits of long
    numbers may be hexadecimal: names are often GUIDs.
    """
    differs = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    for number in _NUMBER.finditer(last):
        if differs is None or not number.start() <= differs < number.end():
            continue
        is_decimal = number[0].isdecimal()
        letters = "" if is_decimal else "ABCDEF" if number[0].isupper() else "abcdef"
        for at in range(max(number.start(), differs - 1), differs + 1):
            yield from (last[:at] + each for each in _DIGITS + letters if each > last[at])
