"""Names cut into pieces: punctuation, words, digits, times, wells and GUIDs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloudimg.pattern.dates import are_times, time_formats

_HEX = "[0-9A-Fa-f]"
_UNIQUE = rf"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}|{_HEX}{{32}}"
_ALNUM = r"[0-9A-Za-z\x80-\U0010ffff]"
_SEGMENT = (
    rf"(?:{_UNIQUE})(?!{_ALNUM})|(?<=[_=/ ,(])[-+](?=\d)[0-9]+(?!{_ALNUM})"
    rf"|{_ALNUM}+?(?=(?:{_UNIQUE})(?!{_ALNUM}))|{_ALNUM}+"
)
CUT = re.compile(f"({_SEGMENT})", re.DOTALL)
"""Splits a name at its segments, which punctuation separates."""
_SIGNED = re.compile(rf"(?<!{_ALNUM})([A-Za-z]{{1,5}})([-+]?)(?=[0-9])")
_GUID = re.compile(_UNIQUE)
_PIECES = re.compile(r"[-+]?[0-9]+|[^-+0-9]+|[-+]")
_ROWS = "ABCDEFGHIJKLMNOP"
_MOST_COLUMNS = 48
"""Columns of a plate with 1536 wells."""
_WELL = re.compile(r"(?:[A-P]|A[A-F])(?:[0-9]{2}|[1-9])")
_NAMED = re.compile("(?i:well|channel)")
"""Words to which another is glued, as in WellA01_ChannelDAPI."""
_NEVER_WELLS = "ctzxyfsn"
"""Letters before digits that are rather axes, or degrees north, than a row of a plate."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of names: punctuation, a word, digits, words or GUIDs."""

    kind: str
    """``"gap"``, ``"word"``, ``"num"``, ``"text"``, ``"well"``, ``"guid"``, or a time's format."""
    texts: tuple[str, ...]
    """Text by name; that of a gap or a word is the same in all."""

    @property
    def varies(self) -> bool:
        return len(set(self.texts)) > 1

    @property
    def is_time(self) -> bool:
        return "%" in self.kind

    @property
    def word(self) -> str:
        """The word in lower case, empty for other kinds."""
        return self.texts[0].lower() if self.kind == "word" else ""


def cut_pieces(gaps: Sequence[str], columns: Sequence[tuple[str, ...]]) -> list[Piece]:
    """The pieces of names with the same punctuation.

    Parameters
    ----------
    gaps : sequence of str
        The punctuation around the segments, one more than there are segments.
    columns : sequence of tuple
        The texts of each segment, by name.
    """
    n_names = len(columns[0]) if columns else 1
    pieces = [Piece("gap", (gaps[0],) * n_names)]
    for gap, texts in zip(gaps[1:], columns, strict=True):
        pieces += _pieces(texts)
        pieces.append(Piece("gap", (gap,) * n_names))
    return _with_fractions(_with_times([piece for piece in pieces if any(piece.texts)]))


def segments_of(names: Sequence[str]) -> re.Pattern[str]:
    """What finds segments. A sign belongs to one if the same word stands with several signs."""
    signs: dict[str, set[str]] = {}
    for name in names:
        for found in _SIGNED.finditer(name):
            signs.setdefault(found[1], set()).add(found[2])
    signed = [re.escape(word) for word, each in signs.items() if len(each) > 1]
    word = "".join(rf"(?<!{_ALNUM})(?:{'|'.join(signed)})[-+][0-9]+|" for _ in signed[:1])
    return re.compile(f"({word}{_SEGMENT})", re.DOTALL)


def are_alike(texts: Sequence[str]) -> bool:
    """Whether segments differ in nothing but digits."""
    distinct = set(texts)
    if len(set(map(_shape, distinct))) == 1:
        return True
    return all(_WELL.fullmatch(text) or _GUID.fullmatch(text) for text in distinct)


def _pieces(texts: tuple[str, ...]) -> Iterator[Piece]:
    """Cut a segment into words and digits, if all names have the same words in it."""
    if all(_GUID.fullmatch(text) for text in texts) and len(set(texts)) > 1:
        yield Piece("guid", texts)
        return
    firsts = {text[:1] for text in texts}
    if firsts in ({"-"}, {"+"}):  # rather a hyphen than a sign
        yield Piece("gap", tuple(text[0] for text in texts))
        texts = tuple(text[1:] for text in texts)
    if len(set(map(_shape, texts))) > 1 or _are_wells(texts):
        yield from _words(texts)
    else:
        for column in zip(*map(_PIECES.findall, texts), strict=True):
            yield Piece("num" if _is_number(column[0]) else "word", column)


def _words(texts: tuple[str, ...]) -> Iterator[Piece]:
    """The piece of wells or words, after the word of `_NAMED` with which all of them begin."""
    found = _NAMED.match(texts[0])
    if found and all(text.startswith(found[0]) and text != found[0] for text in texts):
        yield Piece("word", (found[0],) * len(texts))
        texts = tuple(text.removeprefix(found[0]) for text in texts)
    wells = all(_WELL.fullmatch(text) for text in texts)
    yield Piece("well" if wells else "text", texts)


def _shape(text: str) -> str:
    """The text with all numbers alike."""
    return re.sub("[-+]?[0-9]+", "0", text)


def _is_number(piece: str) -> bool:
    return piece[-1] in "0123456789"


def _are_wells(texts: Sequence[str]) -> bool:
    """Whether segments are wells of one row: B03, B04, but not C01, C02, which are channels."""
    letters = {text[0].lower() for text in texts}
    return (
        len(set(texts)) > 1
        and all(len(text) > 2 and _WELL.fullmatch(text) for text in texts)
        and all(int(text.lstrip(_ROWS)) <= _MOST_COLUMNS for text in texts)
        and not letters <= set(_NEVER_WELLS)
    )


def _with_times(pieces: list[Piece]) -> list[Piece]:
    """Join pieces that are a time together."""
    joined: list[Piece] = []
    i = 0
    while i < len(pieces):
        end, spec = _time_at(pieces, i)
        if end > i:
            texts = tuple(map("".join, zip(*(p.texts for p in pieces[i:end]), strict=True)))
            joined.append(Piece(spec, texts))
            i = end
        else:
            joined.append(pieces[i])
            i += 1
    return joined


def _with_fractions(pieces: list[Piece]) -> list[Piece]:
    """Join digits around a dot that stand between the word of an axis, or before a unit."""
    joined = list(pieces)
    i = 1
    while i < len(joined) - 2:
        part = joined[i : i + 3]
        units = [piece.word for piece in joined[i + 3 : i + 5]]
        is_length = joined[i - 1].word in ("z", "x", "y") or {*units} & {"um", "mm", "nm", "deg"}
        are_digits = part[0].kind == part[2].kind == "num"
        if is_length and are_digits and part[1].texts[0] == ".":
            texts = tuple(map("".join, zip(*(piece.texts for piece in part), strict=True)))
            joined[i : i + 3] = [Piece("num", texts)]
        i += 1
    return joined


def _time_at(pieces: Sequence[Piece], start: int) -> tuple[int, str]:
    """Where a time ends that begins at a piece, and its format; `start` if none does."""
    if pieces[start].kind != "num":
        return start, ""
    ends = [0]
    for piece in pieces[start:]:
        ends.append(ends[-1] + len(piece.texts[0]))
    text = "".join(piece.texts[0] for piece in pieces[start:])
    for spec, length in time_formats(text):
        if length not in ends:
            continue
        end = start + ends.index(length)
        texts = list(map("".join, zip(*(p.texts for p in pieces[start:end]), strict=True)))
        if len(set(texts)) > 1 and are_times(texts, spec):
            return end, spec
    return start, ""
