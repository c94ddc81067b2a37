"""Draw which indices of a grid are fine, as text and as pixels. Pure.

Where there is not enough room, one character or pixel stands for several indices, and shows the
worst of their states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.pattern import Label

States = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.integer[Any]]

STATES = ("fine", "missing", "odd", "bad")
"""What a file can be, by number, the worst last: it fits the grid; it does not exist; it differs
from the first one; it cannot be read."""
_CHARACTERS = np.array(list(".-oX"))
_COLOURS = np.array(
    [(74, 137, 190), (205, 205, 205), (240, 176, 52), (190, 32, 46), (255, 255, 255)], np.uint8
)
"""Blue, grey, amber and red, which also differ in brightness, and white for nothing."""
_NOTHING = -1
"""Less than any state, where the last line of a picture is shorter."""
_LEGEND = "  ".join(f"{sign} {name}" for sign, name in zip(_CHARACTERS, STATES, strict=True))
_MOST_ROWS, _MOST_COLUMNS = 24, 64
_MOST_PIXELS = 2048
_LEAST_PIXELS = 256
_LONGEST_LABEL = 16


def as_lines(states: States, axes: Sequence[str], labels: Sequence[Sequence[Label]]) -> list[str]:
    """Return a picture as lines of text, of the two longest axes; the longest goes to the right.

    Parameters
    ----------
    states : ndarray
        Numbers of `STATES` by index.
    axes : sequence of str
        Names of the axes.
    labels : sequence of sequence
        Labels by axis and index.
    """
    longest = sorted(range(states.ndim), key=lambda axis: -states.shape[axis])
    shown = [axis for axis in longest[:2] if states.shape[axis] > 1]
    if not shown:
        return []
    columns, others = shown[0], tuple(longest[len(shown) :])
    plane = states.max(axis=others)
    n_each = math.prod(states.shape[axis] for axis in others)
    along = f"{axes[columns]} from {_text(labels[columns][0])} to {_text(labels[columns][-1])}"
    if len(shown) == 1:
        drawn, n_folded = _folded(plane, (_MOST_ROWS * _MOST_COLUMNS,))
        firsts = range(0, len(drawn), _MOST_COLUMNS)
        names = [_text(labels[columns][first * n_folded]) for first in firsts]
        parts = [drawn[first : first + _MOST_COLUMNS] for first in firsts]
    else:
        along = f"{axes[shown[1]]} downwards, {along}"
        plane = plane.T if columns < shown[1] else plane
        drawn, n_folded = _folded(plane, (_MOST_ROWS, _MOST_COLUMNS))
        names = [_text(each) for each in labels[shown[1]][:: -(-len(plane) // _MOST_ROWS)]]
        parts = list(drawn)
    if n_each * n_folded > 1:
        along += f", the worst of {n_each * n_folded} in each character"
    width = max(map(len, names))
    lines = [
        f"{name:>{width}} {''.join(_CHARACTERS[part])}"
        for name, part in zip(names, parts, strict=True)
    ]
    return [along, *lines, _LEGEND]


def as_pixels(states: States) -> npt.NDArray[np.uint8]:
    """Return a picture (y, x, RGB) in C order: the last axes to the right, the first downwards.

    Parameters
    ----------
    states : ndarray
        Numbers of `STATES` by index.
    """
    widths = [math.prod(states.shape[axis:]) for axis in range(states.ndim + 1)]
    width = min(widths, key=lambda each: abs(math.log(each * each / states.size)))
    if width in (1, states.size):  # one long axis, in lines
        width = math.ceil(math.sqrt(states.size))
    plane = np.full((-(-states.size // width), width), _NOTHING, np.int8)
    plane.ravel()[: states.size] = states.ravel()
    folded, _ = _folded(plane, (_MOST_PIXELS, _MOST_PIXELS))
    zoom = max(1, _LEAST_PIXELS // max(folded.shape))
    return _COLOURS[folded.repeat(zoom, axis=0).repeat(zoom, axis=1)]


def _folded(states: Numbers, most: tuple[int, ...]) -> tuple[Numbers, int]:
    """The worst state in each part of the axes, and the number of states in a part.

    Parameters
    ----------
    states : ndarray
    most : tuple of int
        Greatest number of parts of each axis.
    """
    steps = [-(-n // each) for n, each in zip(states.shape, most, strict=True)]
    for axis, step in enumerate(steps):
        states = np.maximum.reduceat(states, range(0, states.shape[axis], step), axis=axis)
    return states, math.prod(steps)


def _text(label: Label) -> str:
    # The name of a file may hold a line feed, or codes that a terminal obeys.
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(label))
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."
