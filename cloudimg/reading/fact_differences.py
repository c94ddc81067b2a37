"""Compare what two files say of the whole image, fact by fact. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.reading.file_facts import COORDINATES, FileFacts
from cloudimg.tiff.flavours.facts import micrometres

_SIZE_TOLERANCE = 1e-4
"""Share by which pixel sizes may differ: writers round them."""
_ORIGIN_TOLERANCE = 0.5 - 1e-6
"""Greatest distance in pixels of a file from its place. Half a pixel is the distance between the
corner and the centre of a pixel, which writers confuse."""
_TITLES = {
    "pixel_size": "pixel size",
    "photometric": "photometric interpretation",
    "color_space": "color space",
    "colormap": "colormap",
    "nodata": "nodata value",
    "crs": "coordinate reference system",
    "origin": "origin",
    "scale": "scale and offset",
    "exposure_s": "exposure",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that differs from what the first file leads one to expect."""

    name: str
    found: str = ""
    """What the file says; empty if it is too long for a message."""
    expected: str = ""
    note: str = ""
    """What else a message should say of it."""


def shared_differences(
    found: FileFacts, first: FileFacts, shift: tuple[int, int] | None
) -> Iterator[Difference]:
    """Yield the facts that must be the same in all files, and are not in two of them.

    Parameters
    ----------
    found, first : FileFacts
    shift : tuple of int, optional
        Columns and rows from the first file to the other; None if they are not in one plane, so
        that their places are not compared.
    """
    if not _have_same_sizes(found, first):
        yield Difference("pixel_size", _size_text(found), _size_text(first))
    for name in ("photometric", "color_space", "colormap"):
        here, there = getattr(found, name), getattr(first, name)
        # A file that does not say anything does not contradict.
        if here and there and here != there:
            yield Difference(name, here, there)
    if found.nodata != first.nodata:
        yield Difference("nodata", _or_none(found.nodata), _or_none(first.nodata))
    if found.crs != first.crs:
        yield Difference("crs", found.crs or "none", first.crs or "none")
    elif shift is not None:
        yield from _origin_difference(found, first, shift)


def title_of(name: str) -> str:
    """Return the name of a fact as messages say it."""
    if name.startswith(COORDINATES):
        return f"coordinates along {name.removeprefix(COORDINATES)}"
    return _TITLES.get(name, name.replace("_", " "))


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)


def _have_same_sizes(found: FileFacts, first: FileFacts) -> bool:
    sizes = {dim: (size, unit) for dim, size, unit in first.pixel_size}
    for dim, size, unit in found.pixel_size:
        expected, expected_unit = sizes.get(dim, (size, unit))
        if unit != expected_unit:
            # Half a micrometre is 500 nm; other units than those of lengths must be the same.
            here, there = micrometres(size, unit), micrometres(expected, expected_unit)
            if here is None or there is None:
                return False
            size, expected = here, there
        if not math.isclose(size, expected, rel_tol=_SIZE_TOLERANCE):
            return False
    return _have_same_steps(found.transform, first.transform)


def _have_same_steps(found: Sequence[float], first: Sequence[float]) -> bool:
    """Whether a step along columns and rows is the same; also if either is unknown."""
    if not found or not first:
        return True
    steps = [(found[i], first[i]) for i in (0, 1, 3, 4)]
    longest = max(abs(step) for _, step in steps)
    return all(abs(a - b) <= _SIZE_TOLERANCE * longest for a, b in steps)


def _size_text(facts: FileFacts) -> str:
    if facts.pixel_size:
        return ", ".join(f"{dim} {size:.10g} {unit}" for dim, size, unit in facts.pixel_size)
    return f"({', '.join(f'{facts.transform[i]:.10g}' for i in (0, 1, 3, 4))}) in the affine form"


def _origin_difference(
    found: FileFacts, first: FileFacts, shift: tuple[int, int]
) -> Iterator[Difference]:
    """Yield the difference if a file does not lie where its place in the image is on Earth."""
    if not found.transform or not first.transform:
        here, there = (_origin_text(each) for each in (found, first))
        # Control points are given in the columns and rows of each file.
        is_comparable = bool(found.transform or first.transform) or shift == (0, 0)
        if is_comparable and here != there:
            yield Difference("origin", here, there)
        return
    if not _have_same_steps(found.transform, first.transform):
        return
    a, b, c, d, e, f = first.transform
    columns, rows = shift
    x, y = found.transform[2] - c, found.transform[5] - f
    area = a * e - b * d
    apart = ((e * x - b * y) / area - columns, (a * y - d * x) / area - rows)
    if max(map(abs, apart)) <= _ORIGIN_TOLERANCE:
        return
    note = ""
    if shift != (0, 0):
        place = (a * columns + b * rows + c, d * columns + e * rows + f)
        note = (
            f", from which the file is {columns} columns and {rows} rows away in the mosaic, so"
            f" that its origin should be {_pair(place)}"
        )
    yield Difference("origin", _origin_text(found), _origin_text(first), note)


def _origin_text(facts: FileFacts) -> str:
    if facts.transform:
        return _pair((facts.transform[2], facts.transform[5]))
    return facts.control_points or "none"


def _pair(point: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.12g}' for value in point)})"
