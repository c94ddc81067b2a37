"""Which bands of a georeferenced image are red, green and blue. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WORDS = tuple(
    re.compile(rf"(?<![a-z]){word}(?![a-z]|[ _-]?edge)") for word in ("red", "green", "blue")
)
_NUMBER = re.compile(r"(?:[a-z]{2,4}[ _-])?(?:b|band)?[ _-]?0*(\d{1,2})")
"""Names such as B04, band_4, SR_B4 and 4."""
_LETTERS = ("r", "g", "b")
_NUMBERS = (4, 3, 2)
"""Red, green and blue of Sentinel-2 ("SENTINEL-2 User Handbook", 1.4) and of Landsat 8 and 9
("Landsat 8 Data Users Handbook", 2.2)."""
_UNNAMED = (3, 2, 1)
"""Positions of these bands."""
_AXES = ("s", "c", "band", "bands", "b")
"""Axes of bands: samples of a pixel, or files."""

Bands = tuple[str, tuple[int, int, int]]


def rgb_bands(
    attrs: Mapping[str, Any],
    lengths: Mapping[str, int],
    labels: Mapping[str, Iterable[Any]],
    colour: str | None,
) -> Bands | tuple[None, None]:
    """Return the axis of the bands, and the positions of red, green and blue along it.

    Their names decide. Where none has a name that tells, bands that are samples of one file are
    taken for those of Sentinel-2 or Landsat, of which the fourth, third and second are red, green
    and blue.

    Parameters
    ----------
    attrs : mapping
        Attributes of the image.
    lengths : mapping
        Lengths by dim.
    labels : mapping
        Labels by dim.
    colour : str, optional
        Colour space that a pixel has according to the header: many writers call any three bands
        red, green and blue, so names go before that.

    Returns
    -------
    axis, bands
        None if the image does not lie on Earth, has fewer bands, or is shown in its colour.
    """
    axis = next((name for name in _AXES if lengths.get(name, 1) > 2), None)
    if axis is None or "geo" not in attrs or colour not in (None, "rgb"):
        return None, None
    names = [str(label).strip().lower() for label in labels.get(axis, ())]
    found = _named(names)
    if colour is not None:
        is_other = axis == "s" and found not in (None, (0, 1, 2))
        return (axis, found) if is_other and found is not None else (None, None)
    if found is None and axis == "s" and _without_opacity(lengths["s"], attrs) >= max(_NUMBERS):
        found = _UNNAMED
    return (None, None) if found is None else (axis, found)


def _named(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Positions of the names of red, green and blue; None unless each is there once."""
    numbers = [match and int(match[1]) for match in map(_NUMBER.fullmatch, names)]
    of_words = (_only([bool(word.search(name)) for name in names]) for word in _WORDS)
    of_letters = (_only([name == letter for name in names]) for letter in _LETTERS)
    of_numbers = (_only([number == wanted for number in numbers]) for wanted in _NUMBERS)
    for found in (of_words, of_letters, of_numbers):
        red, green, blue = found
        if red is not None and green is not None and blue is not None:
            return red, green, blue
    return None


def _without_opacity(n_samples: int, attrs: Mapping[str, Any]) -> int:
    return n_samples - sum(str(each).startswith("alpha") for each in attrs.get("samples", ()))


def _only(matches: Sequence[bool]) -> int | None:
    return matches.index(True) if sum(matches) == 1 else None
