"""Which index files there may be for the files of a grid, and of which files each one tells."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.index_names import IndexNames
from cloudimg.discovery.layout import Layout
from cloudimg.discovery.layouts import LAYOUTS
from cloudimg.errors import LimitError
from cloudimg.storage import Location

MOST_FILES = 1000
"""Most index files of one image; Micro-Manager writes one for each position."""
_NAME_IMAGES = re.compile(r"(?i)(?:.*/)?(?:measurementdata\.mlf|index\.idx\.xml)", re.DOTALL)
"""Index files that name their images, so that no layout need be known."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An index file that may exist."""

    keys: tuple[str, ...]
    """Keys that it may have, the one to try first first."""
    rows: npt.NDArray[np.int64]
    """Positions of the files of which it may tell."""
    is_listed: bool | None
    """Whether the first of its keys was listed; None if nobody has looked."""
    channel: str | None = None
    """What the name of the first file says of its channel."""


def find_candidates(
    grid: FileGrid, location: Location, listed: IndexNames | None, in_folder: IndexNames | None
) -> list[Candidate]:
    """Return index files that were listed, or that a known layout has where nobody has looked.

    Parameters
    ----------
    grid : FileGrid
    location : Location
    listed : IndexNames, optional
        Index files that the listing of the files has shown.
    in_folder : IndexNames, optional
        Index files that an earlier listing of the folder has shown.

    Raises
    ------
    LimitError
        If there are too many of them.
    """
    known = _Known([names for names in (listed, in_folder) if names is not None], location)
    first = location.key_of(grid.keys(grid.first()))
    layout = _layout_of(first)
    if layout is None:
        named = [each for each in known.keys if _NAME_IMAGES.match(each)]
        _check_number(len(named))
        return [Candidate((each,), grid.positions, True) for each in named]

    def names_for(key: str) -> tuple[str, ...]:
        return tuple(_names(layout, key, known))

    groups = list(_groups(grid, location, names_for))
    match = _match(layout, first)
    channel = match.groupdict().get("c") if match else None
    return [
        Candidate(names, rows, known.is_listed(names[0]), channel)
        for names, rows in groups
        if names
    ]


class _Known:
    """What listings have shown of index files."""

    def __init__(self, listings: Sequence[IndexNames], location: Location) -> None:
        self._listings = listings
        self.location = location
        names = sorted(frozenset().union(*(each.names for each in listings)))
        self.keys = [location.key_of(name) for name in names]
        self.by_name: dict[str, list[str]] = defaultdict(list)
        """Keys by the name in their folder, in lower case."""
        for key in self.keys:
            self.by_name[key.rpartition("/")[2].lower()].append(key)

    def is_listed(self, key: str) -> bool | None:
        """Whether a name exists; None if nobody has looked."""
        text = self.location.pattern_text(key)
        answers = [each.among(text) for each in self._listings]
        return next((answer for answer in answers if answer is not None), None)


def _check_number(n: int) -> None:
    if n > MOST_FILES:
        raise LimitError(f"the files lie in {n} folders, and index files of at most {MOST_FILES}"
                         " are read")  # fmt: skip


def _layout_of(key: str) -> Layout | None:
    """The layout of a name, if it has an index file; the first one that fits is meant."""
    fitting = next((each for each in LAYOUTS if each.index_files and _match(each, key)), None)
    if fitting is None or any(
        _match(each, key) for each in LAYOUTS[: LAYOUTS.index(fitting)] if not each.index_files
    ):
        return None
    return fitting


def _match(layout: Layout, key: str) -> re.Match[str] | None:
    return layout.compiled.fullmatch(key.lstrip("/"))


def _names(layout: Layout, key: str, known: _Known) -> Iterator[str]:
    """Yield keys that the index file of an image file may have, listed ones first."""
    match = _match(layout, key)
    if match is None:
        return
    root = key[: len(key) - len(key.lstrip("/"))]
    parts = {**match.groupdict(), "folder": key.lstrip("/").rpartition("/")[0]}
    parts["folder"] += "/" if parts["folder"] else ""
    names = [
        f"{root}{template.format_map(parts)}"
        for template in layout.index_files
        if all(parts[part] is not None for part in re.findall(r"{(\w+)}", template))
    ]
    for name in names:
        yield from _listed_like(name, f"{root}{match['folders']}", known)
    # Many web servers answer a request for a missing file with a page and status 200.
    if known.location.protocol not in ("http", "https"):
        yield from (name for name in names if known.is_listed(name) is None)


def _listed_like(key: str, folder: str, known: _Known) -> Iterator[str]:
    """Yield the listed file of that name that is nearest to a folder; case does not matter."""
    name = key.rpartition("/")[2].lower()
    # MetaXpress copies it into the folders of times and planes; others have one in each folder.
    may_be_below = name.endswith(".htd")
    fitting = [
        each
        for each in known.by_name.get(name, ())
        if each.lower() == key.lower() or (may_be_below and each.startswith(folder))
    ]
    if fitting:
        yield min(fitting, key=lambda each: (each.count("/"), each))


def _tried(n: int) -> Iterable[int]:
    """Indices along an axis: all of a few, because a single folder may have an index file."""
    return range(n) if n <= MOST_FILES else (0, n - 1)


def _groups(
    grid: FileGrid, location: Location, names_for: Callable[[str], tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.int64]]]:
    """Yield the names that an index file may have, and the positions of its files."""
    if grid.keys.pattern is None:
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        by_folder: dict[str, tuple[str, ...]] = {}
        for index, position in zip(grid.files(), grid.positions.tolist(), strict=True):
            key = location.key_of(grid.keys(index))
            folder = key.rpartition("/")[0]
            if folder not in by_folder:
                _check_number(len(by_folder) + 1)
                by_folder[folder] = names_for(key)
            found[by_folder[folder]].append(position)
        yield from ((names, np.array(rows, np.int64)) for names, rows in found.items())
        return
    first = tuple(grid.first())

    def names_at(changed: dict[int, int]) -> tuple[str, ...]:
        index = tuple(changed.get(axis, i) for axis, i in enumerate(first))
        return names_for(location.key_of(grid.keys(index)))

    of_first = names_at({})
    axes = [
        axis
        for axis, n in enumerate(grid.shape)
        if any(names_at({axis: i}) != of_first for i in _tried(n))
    ]
    lengths = [grid.shape[axis] for axis in axes]
    _check_number(int(np.prod(lengths, dtype=np.int64)))
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, combination in enumerate(product(*map(range, lengths))):
        groups[names_at(dict(zip(axes, combination, strict=True)))].append(number)
    rows = grid.positions
    coordinates = np.unravel_index(rows, grid.shape)
    numbers = np.zeros(rows.size, np.int64)
    for axis, n in zip(axes, lengths, strict=True):
        numbers = numbers * n + coordinates[axis]
    for names, members in groups.items():
        yield names, rows[np.isin(numbers, members)]
