"""Places in the grid of the files that an index file names."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError
from cloudimg.pattern import Pattern
from cloudimg.storage import Location

ABSENT = -1
"""Place of a file that the pattern matches, and that does not exist."""
OTHER = -2
"""Place of a file that does not belong to the image."""


class Places:
    """Positions of files in C order of the grid, by key.

    Parameters
    ----------
    pattern : Pattern
    grid : FileGrid
    location : Location
    exclude : str or sequence of str, optional
        Globs of files that the user leaves out.
    is_part : bool
        Whether the grid has only some of the files that the pattern matches.
    """

    def __init__(
        self,
        pattern: Pattern,
        grid: FileGrid,
        location: Location,
        exclude: str | Sequence[str] | None,
        *,
        is_part: bool,
    ) -> None:
        self.grid = grid
        self.location = location
        self._pattern = pattern
        self._exclusion = Exclusion(exclude)
        self._absent = OTHER if is_part else ABSENT
        axis_of = [pattern.fields.index(each.name) for each in pattern.occurrences]
        self._occurrences = [axis_of.index(axis) for axis in range(len(pattern.fields))]
        """The first occurrence of each field, which gives its label."""
        self._indices = [{label: i for i, label in enumerate(each)} for each in grid.labels]
        self._known: list[dict[str, int]] = [{} for _ in pattern.fields]
        """Indices by text, by axis."""
        self._names: dict[str, int] | None = None
        if not pattern.fields:
            self._names = {grid.keys(index): grid.position(index) for index in grid.files()}

    def __call__(self, folder: str, name: str) -> int:
        """Return the position of a file, `ABSENT`, or `OTHER`.

        Parameters
        ----------
        folder : str
            Key of the folder from which it is named, with a slash at the end.
        name : str
            What the index file calls it.
        """
        text = self.location.pattern_text(self.key(folder, name))
        texts = self._pattern.split(text)
        if texts is None or self._exclusion.excludes(text):
            return OTHER
        if self._names is not None:
            return self._names.get(text, self._absent)
        index = [self._index(axis, texts[k]) for axis, k in enumerate(self._occurrences)]
        if ABSENT in index or not self.grid.is_present(tuple(index)):
            return self._absent
        return self.grid.position(tuple(index))

    @staticmethod
    def key(folder: str, name: str) -> str:
        """Return the key of a file; index files of Windows programs have backslashes."""
        return posixpath.normpath(f"{folder}{name.strip().replace(chr(92), '/')}")

    def _index(self, axis: int, text: str) -> int:
        index = self._known[axis].get(text)
        if index is None:
            try:
                label = self._pattern.value(self._occurrences[axis], text)
            except ArgumentError:
                return ABSENT
            index = self._indices[axis].get(label, ABSENT)
            if index != ABSENT:  # of others there may be any number
                self._known[axis][text] = index
        return index
