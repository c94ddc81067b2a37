"""Which axis the words beside a number, or the words of a name, speak for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from cloudimg.pattern.elapsed import PREFIX
from cloudimg.pattern.pieces import Piece

_WORDS = {
    "c": "ch chan channel channelindex wavelength wv lambda",
    "t": "time timepoint timepoints timestep tp tl frame frames frametime",
    "z": "slice zstep zslice zplane zstack zpos zindex plane",
    "field": "fov field site fld fieldofview",
    "position": "pos position xy stage point",
    "row": "row",
    "col": "col column",
    "well": "well",
    "plate": "plate",
    "angle": "angle ang rot view",
    "cycle": "cyc cycle round",
    "tile": "tile",
}
_AXIS_OF = {word: axis for axis, words in _WORDS.items() for word in words.split()}
"""Axis by word, in lower case."""
_LETTERS = {"c": "c", "t": "t", "z": "z", "x": "x", "y": "y"}
"""Axis by single letter, which counts where no word names the same axis."""
_ROWS = {"r": "row", "c": "col"}
_OF_MAPS = {"geo", "world", "earth", "globe", "map", "wgs84", "utm", "lonlat"}
"""Words of names whose A1 is a tile of a map, rather than a well."""
_OF_MICROSCOPES = {"c", "z", "field", "position"}

Role = tuple[str, str]
"""The name of an axis, and what shows it; empty if nothing does."""
_NO_WELL: Role = ("name", "")

_DYE = re.compile(
    r"(?i)(?:.*[^a-z])?(?:"
    r"dapi|hoechst|draq5|[eytm]?[gyrcb]fp\d?|m?cherry|mscarlet|tdtomato|ds-?red|venus|citrine|"
    r"fitc|tritc|texas ?red|txred|rhod(?:amine)?|cy[2357]5?|cy5_5|af\d{3}|alexa(?:fluor)?_?\d*|"
    r"gcamp\d?\w?|syto\w*|mito\w*|er|actin|tubulin|phalloidin|wga|lysotracker|"
    r"bright_?-?field|bf|phase(?:contrast)?|dic|trans|tl|\d{3} ?nm|"
    r"red|green|blue|yellow|farred|far-red|nir|autofluorescence|af|membrane|nuclei|nucleus|"
    r"cd\d{1,3}[a-z]{0,2}|ki-?67|foxp3|pan-?ck|dsdna|vimentin"
    r")(?:[^a-z].*)?",
    re.ASCII,
)
_BAND = re.compile(
    r"(?:B\d{1,2}A?|SCL|AOT|WVP|TCI|QA(?:_\w+)?|Fmask|SR_B\d|ST_B\d+|NDVI|EVI|red|green|blue|"
    r"nir\d*|swir\d*|coastal|pan|VV|VH|HH|HV|[vh][vh])"
)


def _are_bands(texts: Sequence[str]) -> bool:
    return all(_BAND.fullmatch(text) for text in texts)


def _role_of_words(words: Sequence[str]) -> Role:
    """The axis of words, and what shows it; ``name`` if they say nothing."""
    distinct = sorted(set(words))
    bands = sum(_BAND.fullmatch(word) is not None for word in distinct)
    dyes = sum(_DYE.fullmatch(word) is not None for word in distinct)
    if 2 * bands > len(distinct) and bands > dyes:
        return "band", f"spectral bands such as {distinct[0]}"
    if 2 * dyes >= len(distinct):
        return "c", f"names of channels such as {distinct[0]}"
    return "name", ""


def _neutral_name(word: str) -> str:
    """The name of an axis of which only a word beside its number is known."""
    name = re.sub(r"[^a-z]", "", word.lower())
    if name in ("", "s", *_LETTERS) or name in _AXIS_OF.values() or len(name) > 12:
        return "n"
    return name


def roles_of(pieces: Sequence[Piece]) -> list[Role]:
    """Axis of each piece, and what shows it."""
    words = _words_of_numbers(pieces)
    claims = _claims(pieces, words)
    roles: list[Role] = []
    for i, (axis, why) in enumerate(claims):
        if axis and why and _prevails(i, pieces, claims, words):
            roles.append((axis, why))
        elif pieces[i].kind in ("text", "well", "guid"):
            roles.append(("name", ""))
        else:
            is_touched = i > 0 and pieces[i - 1].word == words[i]
            roles.append((_neutral_name(words[i] * is_touched), ""))
    return _without_lone_tiles(pieces, _with_planes(pieces, roles))


def _claims(pieces: Sequence[Piece], words: Sequence[str]) -> list[Role]:
    """The axis that each piece would be by itself, but for rows and columns, and bands."""
    varying = {word for word, piece in zip(words, pieces, strict=True) if piece.varies}
    rows = _ROWS if {*_ROWS} <= varying else {}
    claims = [
        (rows[word], "beside r and c") if word in rows else _claim(piece, word)
        for piece, word in zip(pieces, words, strict=True)
    ]
    if any(piece.word in _OF_MAPS for piece in pieces):
        return [
            _NO_WELL if piece.kind == "well" else c for piece, c in zip(pieces, claims, strict=True)
        ]
    if _are_of_microscope(pieces, claims):
        return claims
    return [  # B02 and B03 may as well be bands
        _NO_WELL if piece.kind == "well" and _are_bands(piece.texts) else claim
        for piece, claim in zip(pieces, claims, strict=True)
    ]


def _are_of_microscope(pieces: Sequence[Piece], claims: Sequence[Role]) -> bool:
    """Whether names have an axis that only microscopes have, and no dates as satellites have."""
    found = {axis for (axis, why), p in zip(claims, pieces, strict=True) if why and p.varies}
    has_dates = any(piece.is_time and PREFIX not in piece.kind for piece in pieces)
    return bool(found & _OF_MICROSCOPES) and not has_dates


def _prevails(
    i: int, pieces: Sequence[Piece], claims: Sequence[Role], words: Sequence[str]
) -> bool:
    """Whether no other piece has as good a claim to an axis; the first of several times has it."""
    for k, (axis, _) in enumerate(claims):
        is_rival = axis == claims[i][0] and pieces[k].varies
        if not is_rival or _move_together(pieces[k], pieces[i]):
            continue
        if pieces[i].is_time and (pieces[k].is_time or len(words[k]) == 1) and k > i:
            continue
        if _weight(words[k]) >= _weight(words[i]):
            return False
    return True


def _weight(word: str) -> int:
    """How much a word counts against another for the same axis: frames may be anything's."""
    return 0 if word in ("frame", "frames") else len(word)


def _move_together(a: Piece, b: Piece) -> bool:
    return len(set(zip(a.texts, b.texts, strict=True))) == len(set(a.texts)) == len(set(b.texts))


def _claim(piece: Piece, word: str) -> Role:
    """The axis that a piece would be by itself, and what says so."""
    if piece.is_time:
        return "t", f"times such as {piece.texts[0]}"
    if piece.kind == "well":
        return "well", f"wells such as {piece.texts[0]}"
    if piece.kind == "text" and not word:
        return _role_of_words(piece.texts)
    if piece.kind not in ("num", "text"):
        return "", ""
    return _AXIS_OF.get(word) or _LETTERS.get(word) or "", f"beside {word!r}"


def _words_of_numbers(pieces: Sequence[Piece]) -> list[str]:
    """The word that names each number, or to which another word is glued.

    The letters before the digits count first (Z01); letters after them (3t) where none are before
    or where no other digits follow these letters; then a word one separator before (TimePoint_1).
    """
    known = _AXIS_OF | _LETTERS
    padded = [*pieces, *[Piece("gap", ("",))] * 3]  # looking to the left of the first finds these
    words = [""] * len(pieces)
    taken = -1  # the word that named the number before it
    for i, piece in enumerate(pieces):
        if piece.kind == "text":
            words[i] = padded[i - 1].word
        if piece.kind != "num":
            continue
        before, after = "" if taken == i - 1 else padded[i - 1].word, padded[i + 1].word
        is_joined = padded[i - 1].kind == "gap" and padded[i - 1].texts[0] in tuple("_-= /")
        if before in known:
            words[i] = before
        elif after in known and not (before and padded[i + 2].kind == "num"):
            words[i], taken = after, i + 1
        elif before:
            words[i] = before
        elif is_joined and padded[i - 3].kind != "num":
            words[i] = padded[i - 2].word
    return words


def _with_planes(pieces: Sequence[Piece], roles: Sequence[Role]) -> list[Role]:
    """Take the last number after names of channels for z, as in Micro-Manager's img_..._DAPI_000.

    Only three digits that count from 000, and where nothing else may be z.
    """
    varying = [i for i, piece in enumerate(pieces) if piece.varies]
    if len(varying) < 2 or any(axis == "z" for axis, _ in roles):
        return list(roles)
    words, last = varying[-2:]
    texts = pieces[last].texts
    if (
        roles[words][0] == "c"
        and pieces[words].kind == "text"
        and pieces[last].kind == "num"
        and roles[last][0] == "n"
        and last == words + 2
        and {len(text) for text in texts} == {3}
        and "000" in texts
    ):
        evidence = "three digits from 000 after the channel, as Micro-Manager writes planes"
        return [*roles[:last], ("z", evidence), *roles[last + 1 :]]
    return list(roles)


def _without_lone_tiles(pieces: Sequence[Piece], roles: Sequence[Role]) -> list[Role]:
    """Keep the names x and y, which make a mosaic, only for indices of tiles side by side."""
    values = {
        axis: sorted(set(map(float, pieces[i].texts)))
        for i, (axis, _) in enumerate(roles)
        if axis in ("x", "y")
    }
    are_indices = all(
        after - before == 1
        for each in values.values()
        for before, after in itertools.pairwise(each)
    )
    if len(values) == 2 and are_indices:
        return list(roles)
    # One of them alone may be anything, an experiment as well.
    return [
        ((f"tile_{axis}", why) if len(values) == 2 else ("n", ""))
        if axis in values
        else (axis, why)
        for axis, why in roles
    ]
