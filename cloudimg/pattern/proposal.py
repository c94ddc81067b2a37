"""From the keys of a folder to the patterns that cover them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cloudimg.pattern.language import compile_pattern, escape
from cloudimg.pattern.order import natural_key
from cloudimg.pattern.regex import MAX_URL_CHARS

_WORDS = {
    "c": "c ch channel w wavelength",
    "t": "t time timepoint",
    "z": "z slice",
    "f": "f fov field site s",
    "p": "p pos",
    "r": "r row",
    "x": "x",
    "y": "y",
}
_AXES = {word: axis for axis, words in _WORDS.items() for word in words.split()}
_PIECE = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    r"(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})|(?P<well>[A-P][0-9]{2})"
    r")(?![0-9A-Za-z])"
    r"|(?P<digits>[0-9]+)|(?P<word>(?:[A-Za-z]|[^\x00-\x7f])+)"
    r"|(?P<gap>[^0-9A-Za-z\x80-\U0010ffff]+)"
)
_Piece = tuple[str, str]  # its kind, and its text where that is the same in the whole group
_Skeleton = tuple[_Piece, ...]
_Rows = list[tuple[str, ...]]  # for every key the texts of the other pieces


def propose(keys: Sequence[str]) -> list[tuple[str, int]]:
    """Return patterns that cover `keys`, each with how many it matches, most first.

    Digits that vary become fields, named by the letters that touch them; wells such as B03 and
    words of which every one has the same numbers become text fields, GUIDs become ``*``. The rest
    stays literal.
    """
    groups: dict[_Skeleton, _Rows] = {}
    for key in keys:
        if not 0 < len(key) <= MAX_URL_CHARS:
            continue  # matches no pattern
        pieces = [(found.lastgroup or "", found[0]) for found in _PIECE.finditer(key)]
        skeleton = tuple((k, text if k in ("word", "gap") else "") for k, text in pieces)
        row = tuple(text for kind, text in pieces if kind not in ("word", "gap"))
        groups.setdefault(skeleton, []).append(row)
    covered: Counter[str] = Counter()
    for skeleton, rows in _merge_words(groups).items():
        text = _pattern_of(skeleton, rows)
        split = compile_pattern(text).split
        covered[text] += sum(split(_key_of(skeleton, row)) is not None for row in rows)
    proposals = [(text, count) for text, count in covered.items() if count]
    return sorted(proposals, key=lambda proposal: (-proposal[1], natural_key(proposal[0])))


def _key_of(skeleton: _Skeleton, row: tuple[str, ...]) -> str:
    texts = iter(row)
    return "".join(text or next(texts) for _, text in skeleton)


def _merge_words(groups: dict[_Skeleton, _Rows]) -> dict[_Skeleton, _Rows]:
    """Merge groups that differ in one word and have the same numbers, or one key each."""
    while True:
        alike: dict[tuple[int, _Skeleton, frozenset[tuple[str, ...]] | None], list[_Skeleton]] = {}
        for skeleton, rows in groups.items():
            numbers = frozenset(rows) if len(rows) > 1 else None
            for i in _free_words(skeleton):
                blank = (*skeleton[:i], ("name", ""), *skeleton[i + 1 :])
                alike.setdefault((i, blank, numbers), []).append(skeleton)
        merged: dict[_Skeleton, _Rows] = {}
        left = dict(groups)
        for (i, blank, _), members in sorted(alike.items(), key=lambda item: -len(item[1])):
            if len(members) < 2 or any(member not in left for member in members):
                continue
            column = sum(not text for _, text in blank[:i])
            for member in members:
                for row in left.pop(member):
                    row = (*row[:column], member[i][1], *row[column:])
                    merged.setdefault(blank, []).append(row)
        if not merged:
            return groups
        groups = left
        for blank, rows in merged.items():
            groups.setdefault(blank, []).extend(rows)


def _free_words(skeleton: _Skeleton) -> list[int]:
    """Return where words stand free, except for the extension of the file."""
    kinds = ["gap", *(kind for kind, _ in skeleton), "gap"]
    last = len(skeleton) - 1
    return [
        i
        for i, (kind, _) in enumerate(skeleton)
        if kind == "word"
        and kinds[i] == kinds[i + 2] == "gap"
        and not (i == last > 0 and skeleton[i - 1][1].endswith("."))
    ]


@dataclass(slots=True)
class _Column:
    """The texts of one varying piece, and the field that it becomes."""

    name: str
    spec: str
    values: tuple[str, ...] | tuple[int, ...]


def _pattern_of(skeleton: _Skeleton, rows: _Rows) -> str:
    """Return the pattern of one group of keys."""
    names = _axis_names(skeleton)
    columns = zip(*rows, strict=True)
    parts: list[str | _Column] = []
    for (kind, literal), name in zip(skeleton, names, strict=True):
        texts = (literal,) if literal else next(columns)
        if len(set(texts)) == 1:
            parts.append(escape(texts[0]))
        elif kind == "guid":
            parts.append("*")
        elif kind == "well":
            letters = {text[0] for text in texts}
            axis = _AXES.get(min(letters).lower()) if len(letters) == 1 else None
            if axis:  # not wells at all: C01, C02 are channels
                parts += [min(letters), _number_column(axis, [text[1:] for text in texts])]
            else:
                parts.append(_Column("well", r":[A-P]\d{2}", texts))
        elif kind == "name":
            parts.append(_Column("name", ":s", texts))
        else:
            parts.append(_number_column(name, texts))
    chosen = _choose_names([part for part in parts if isinstance(part, _Column)])
    return "".join(
        part if isinstance(part, str) else f"{{{chosen[part.values]}{part.spec}}}" for part in parts
    )


def _number_column(name: str, texts: Sequence[str]) -> _Column:
    width = min(len(text) for text in texts)
    padded = any(text[0] == "0" and len(text) > 1 for text in texts)
    # The longer ones may follow on from 999; with a zero in front they would not be canonical.
    regular = all(len(text) == width or text[0] != "0" for text in texts)
    spec = f":0{width}d" if padded and regular and width < 100 else ""
    return _Column(name, spec, tuple(int(text) for text in texts))


def _choose_names(columns: Sequence[_Column]) -> dict[tuple[object, ...], str]:
    """Return the name by values: columns that always move together are one field."""
    wanted: dict[tuple[object, ...], str] = {}
    for column in columns:
        wanted[column.values] = wanted.get(column.values) or column.name
    chosen: dict[tuple[object, ...], str] = {}
    for values, name in wanted.items():
        name = name or "n"
        unique = (f"{name}{i}" if i > 1 else name for i in itertools.count(1))
        chosen[values] = next(each for each in unique if each not in chosen.values())
    return chosen


def _axis_names(skeleton: _Skeleton) -> list[str]:
    """Return for every piece the axis that the letters around it name, or an empty text.

    The letters before the digits count first (Z01); letters after them (3t) where none are before
    or where no other digits follow these letters; then a word one separator before (TimePoint_1).
    """
    # Padded so that looking three to the left of the first piece finds nothing, too.
    words = [text.lower() if kind == "word" else "" for kind, text in skeleton] + [""] * 3
    kinds = [kind for kind, _ in skeleton] + [""] * 3
    names = [""] * len(skeleton)
    taken = -1  # the word that named the digits before it
    for i in range(len(skeleton)):
        if kinds[i] != "digits":
            continue
        before, after = "" if taken == i - 1 else words[i - 1], words[i + 1]
        if before in _AXES:
            names[i] = _AXES[before]
        elif after in _AXES and not (before and kinds[i + 2] == "digits"):
            names[i], taken = _AXES[after], i + 1
        elif words[i - 2] in _AXES and kinds[i - 3] != "digits":
            names[i] = _AXES[words[i - 2]] if skeleton[i - 1][1] in tuple("_-= /") else ""
    return names
