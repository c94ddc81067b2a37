"""`Validation`: which files of an image are fine, missing, odd or bad, by all their headers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from cloudimg.errors.file_report import OTHER_THAN_FIRST, FileReport
from cloudimg.errors.notes import Note, notes_as_json
from cloudimg.image.grid_picture import STATES, States, as_lines, as_pixels
from cloudimg.image.png import write_png
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments
from cloudimg.pattern import Label

_FINE, _MISSING, _ODD, _BAD = range(len(STATES))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Validation:
    """Which files of an image are fine, by the headers of all. True if all are.

    ``str()`` of it is a table with a few files of each kind and a picture of the grid.
    """

    url: str
    """URL without credentials."""
    axes: tuple[str, ...]
    """Axes along which the files lie."""
    labels: tuple[Sequence[Label], ...] = field(repr=False)
    """Labels by axis and index."""
    states: States = field(repr=False)
    """By index along `axes`: 0 where the file is fine, 1 where it is missing, 2 where it is odd (it
    differs from the first file), 3 where it is bad (it cannot be read)."""
    report: FileReport
    """The files that are not fine, by kind."""
    notes: tuple[Note, ...]
    """What was noticed in the headers."""

    @classmethod
    def of(cls, opened: Opened) -> Self:
        """Return what was found when an image was opened with `validating`."""
        grid = opened.grid
        return cls(
            url=opened.url,
            axes=grid.fields,
            labels=grid.labels,
            states=_states(opened),
            report=opened.report,
            notes=opened.inspection.notes,
        )

    def __bool__(self) -> bool:
        return not self.report

    @property
    def counts(self) -> dict[str, int]:
        """Number of files by what they are: ``fine``, ``missing``, ``odd`` and ``bad``."""
        missing = self.report.count("missing")
        odd = sum(map(self.report.count, OTHER_THAN_FIRST))
        bad = self.report.total - missing - odd
        fine = self.report.n_files - self.report.total
        return dict(zip(STATES, (fine, missing, odd, bad), strict=True))

    @property
    def grid(self) -> str:
        """A picture of the grid as text, of its two longest axes; empty for a single file.

        A character is ``.`` for files that are fine, ``-`` for missing, ``o`` for odd and ``X`` for
        bad ones; where it stands for several files, for the worst of them.
        """
        return "\n".join(as_lines(self.states, self.axes, self.labels))

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of the grid as a PNG, replacing an existing file.

        Each file is a square: blue if it is fine, grey if it is missing, amber if it is odd, red if
        it is bad. The last axes go to the right, the first downwards; where that is more than 2048
        files, the worst of neighbours is shown.

        Raises
        ------
        ArgumentError
            If it cannot be written.
        """
        write_png(os.fspath(path), as_pixels(self.states))

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        return "\n".join(
            [
                f"{self.url}: {counts} of {self.report.n_files} files",
                *self.grid.splitlines(),
                *(str(self.report).splitlines()[1:]),
                *(f"note: {note}" for note in self.notes),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """The validation as a JSON object."""
        return {
            "url": self.url,
            "counts": self.counts,
            "axes": dict(zip(self.axes, self.states.shape, strict=True)),
            "grid": self.grid.splitlines(),
            "report": self.report.to_json(),
            **notes_as_json("notes", self.notes),
        }


def validating(arguments: OpenArguments) -> OpenArguments:
    """Arguments with which the headers of all files are read, and no file is refused."""
    purpose = replace(arguments.purpose, lists_odd=True)
    return replace(
        arguments, listing="full", validate="all", missing="fill", bad="fill", purpose=purpose
    )


def _states(opened: Opened) -> States:
    grid, rows = opened.grid, opened.grid.keys.rows
    states = np.zeros(grid.shape, np.uint8)
    if grid.present is not None:
        states[~grid.present] = _MISSING
    for index, error in opened.inspection.bad:
        state = _ODD if error.bad_file in OTHER_THAN_FIRST else _BAD
        if error.bad_file == "missing":
            state = _MISSING
        # A file of a dataset that cannot be read is at several indices.
        is_shared = state != _ODD and opened.sources[0].files.pages is not None
        at: Any = index if rows is None or not is_shared else rows == rows[index]
        states[at] = np.maximum(states[at], np.uint8(state))
    return states
