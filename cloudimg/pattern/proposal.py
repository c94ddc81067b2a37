"""From the names in a folder to the patterns that cover them, where no naming is known.

Names are cut into segments at punctuation, and names with the same punctuation are compared segment
by segment: what is the same in all of them is literal, digits that vary are numbers, and other
segments that vary are words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloudimg.pattern.columns import Column, Part, Written, write_pattern
from cloudimg.pattern.language import compile_pattern, escape
from cloudimg.pattern.order import natural_key
from cloudimg.pattern.pieces import CUT, Piece, are_alike, cut_pieces, segments_of
from cloudimg.pattern.regex import MAX_URL_CHARS
from cloudimg.pattern.roles import roles_of

_LEAST_FILLED = 0.5
"""Least part of a grid that names fill if words that differ are to be one axis."""
_MOST_ROUNDS = 8
_Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """A pattern proposed for names, and what its fields are taken for."""

    text: str
    """The pattern."""
    n_names: int
    """Number of the names that it covers."""
    evidence: dict[str, str]
    """What shows the axis of each field, by its name; empty where nothing does."""


def propose(names: Sequence[str]) -> list[Guess]:
    """Return patterns that together cover all names, most names first."""
    groups: dict[_Row, list[_Row]] = {}
    segment = segments_of(names)
    usable = [name for name in names if 0 < len(name) <= MAX_URL_CHARS]
    for cut in _with_last_words_joined([segment.split(name) for name in usable]):
        extension = cut[-2:-1] if _has_extension(cut) else []
        groups.setdefault((*cut[::2], *extension), []).append(tuple(cut[1::2]))
    guesses: dict[str, Guess] = {}
    for key, rows in groups.items():
        for written, n_names in _guess(key, rows, _MOST_ROUNDS):
            text = written.pattern.text
            before = guesses.get(text)
            n_before = before.n_names if before else 0
            guesses[text] = Guess(text, n_before + n_names, written.evidence)
    return sorted(guesses.values(), key=lambda each: (-each.n_names, natural_key(each.text)))


def _has_extension(cut: Sequence[str]) -> bool:
    """Whether a name ends with an extension, which is the same for all files of an image."""
    return len(cut) > 3 and cut[-1] == "" and cut[-3].endswith(".")


def _with_last_words_joined(cuts: Sequence[list[str]]) -> list[list[str]]:
    """Make one segment of words before the extension, where other names have fewer words there.

    Only words that stand with the same beginnings: of s1_phase_contr and s1_mCherry, s2_....
    """
    begins = [_words_at(cut) for cut in cuts]
    keys = [(*cut[:at:2], *cut[-2:-1]) for cut, at in zip(cuts, begins, strict=True)]
    words = ["".join(cut[at:-3]) for cut, at in zip(cuts, begins, strict=True)]
    heads: dict[tuple[_Row, str], set[_Row]] = {}
    for key, text, cut, at in zip(keys, words, cuts, begins, strict=True):
        heads.setdefault((key, text), set()).add(tuple(cut[1:at:2]))
    alike: dict[tuple[_Row, frozenset[_Row]], set[int]] = {}
    for (key, text), each in heads.items():
        alike.setdefault((key, frozenset(each)), set()).add(text.count("_"))
    joined = {
        (key, text)
        for (key, text), each in heads.items()
        if len(each) > 1 and len(alike[key, frozenset(each)]) > 1
    }
    return [
        [*cut[:at], text, *cut[-3:]] if (key, text) in joined else cut
        for key, text, cut, at in zip(keys, words, cuts, begins, strict=True)
    ]


def _words_at(cut: Sequence[str]) -> int:
    """Where the words begin that ``_`` joins before the extension; the end if there are none."""
    at = len(cut)
    if _has_extension(cut):
        for i in range(len(cut) - 4, 0, -2):
            if not cut[i].isalpha() or (at < len(cut) and cut[i + 1] != "_"):
                break
            at = i
    return at


def _guess(key: _Row, rows: list[_Row], n_rounds: int) -> Iterator[tuple[Written, int]]:
    """Patterns of names with the same punctuation, or of parts of them with the same words."""
    n_segments = len(rows[0])
    gaps = key[: n_segments + 1]
    columns = list(zip(*rows, strict=True))
    written = write_pattern(_parts(gaps, columns), joins_roles=True)
    words = [i for i, texts in enumerate(columns) if not are_alike(texts)]
    if written is not None and (not words or not n_rounds or _is_filled(written, gaps, rows)):
        yield written, len(rows)
        return
    if not words or not n_rounds:  # nothing takes these names apart
        for row in rows:
            name = _name(gaps, row)
            yield Written(compile_pattern(escape(name)), {}), 1
        return
    for part in _alike_parts(rows, words):
        yield from _guess(key, part, n_rounds - 1 if len(part) < len(rows) else 0)


def parts_of(texts: Sequence[str]) -> list[Part]:
    """The parts of texts with the same punctuation; none otherwise."""
    cut = [CUT.split(text) for text in texts]
    if len({tuple(each[::2]) for each in cut}) > 1:
        return []
    return _parts(cut[0][::2], list(zip(*(each[1::2] for each in cut), strict=True)))


def _name(gaps: Sequence[str], row: Sequence[str]) -> str:
    return "".join(part for pair in zip(gaps, (*row, ""), strict=True) for part in pair)


def _is_filled(written: Written, gaps: Sequence[str], rows: Sequence[_Row]) -> bool:
    """Whether most indices of the grid that a pattern spans have a name."""
    splits = [written.pattern.split(_name(gaps, row)) or () for row in rows]
    lengths = [len(set(texts)) for texts in zip(*splits, strict=True)]
    seen = {}
    for occurrence, n in zip(written.pattern.occurrences, lengths, strict=True):
        seen[occurrence.name] = n
    return len(rows) >= _LEAST_FILLED * math.prod(seen.values())


def _alike_parts(rows: Sequence[_Row], words: Sequence[int]) -> list[list[_Row]]:
    """Split names by the word that tells most: words that stand with the same others stay."""
    best: list[list[_Row]] = []
    for i in words:
        by_word: dict[str, list[_Row]] = {}
        for row in rows:
            by_word.setdefault(row[i], []).append(row)
        parts: dict[object, list[_Row]] = {}
        for members in by_word.values():
            others = frozenset((*row[:i], *row[i + 1 :]) for row in members)
            parts.setdefault(others if len(members) > 1 else None, []).extend(members)
        if len(parts) > 1 and (not best or len(parts) < len(best)):
            best = list(parts.values())
    return best or [[row] for row in rows]


def _parts(gaps: Sequence[str], columns: Sequence[tuple[str, ...]]) -> list[Part]:
    """The parts of names from which a pattern is written."""
    pieces = cut_pieces(gaps, columns)
    return [_part(piece, *role) for piece, role in zip(pieces, roles_of(pieces), strict=True)]


def _part(piece: Piece, axis: str, evidence: str) -> Part:
    if piece.kind in ("gap", "word"):
        return piece.texts[0]
    return Column(
        role=axis,
        texts=piece.texts,
        is_axis=bool(evidence),
        # One that stands in several names tells images apart, as a word does.
        is_chance=piece.kind == "guid" and 2 * len(set(piece.texts)) > len(piece.texts),
        is_text=piece.kind in ("text", "well", "guid"),
        time_format=piece.kind if piece.is_time else "",
        evidence=evidence,
    )
