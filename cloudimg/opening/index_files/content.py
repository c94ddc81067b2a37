"""`Content`: what is read from the index files of an image, file by file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import Fact
from cloudimg.errors.notes import N_EXAMPLES
from cloudimg.opening.index_files.places import ABSENT, OTHER, Places
from cloudimg.tiff.flavours.facts import MICROMETRE, number, positive
from cloudimg.tiff.variation import with_silent_steps

_MOST_SIZES = 64
_LONGEST_WELL_ROW = 64


class Content:
    """What index files say of the files of an image. Each maker's module adds to it."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.grid = places.grid
        self.facts = FactColumns()
        self.time_step_s: float | None = None
        self.z_step: float | None = None
        """Distance of planes in micrometres, where it is given as such."""
        self.remarks: list[str] = []
        """What the index files say and the files do not show, each as a sentence."""
        self.pixel_sizes: set[tuple[float, float]] = set()
        """Sizes along x and y in micrometres of the images that were added."""
        self.colors: dict[str, int] = {}
        """Colours of channels by name, as in `channel_colors`."""
        self.n_absent = 0
        """Number of files that are named and do not exist."""
        self.absent: list[str] = []
        """URLs of the first few."""
        self.names_files = False
        """Whether files are named one by one, so that those that are not named are unknown."""
        self._is_known = np.zeros(self.grid.sizes.size, bool)

    def add(
        self,
        folder: str,
        name: str,
        facts: Mapping[str, Fact | None],
        pixel_size: tuple[float, float] | None = None,
    ) -> None:
        """Add what is said of one image; of several times, the last counts.

        Parameters
        ----------
        folder : str
            Key of the folder of the index file, with a slash at the end.
        name : str
            Its name there.
        facts : mapping
            Columns of the table of files; None where nothing is said.
        pixel_size : tuple of float, optional
            Sizes along x and y in micrometres.
        """
        self.names_files = True
        position = self.places(folder, name)
        if position == OTHER:
            return
        if position == ABSENT:
            self.n_absent += 1
            if len(self.absent) < N_EXAMPLES:
                self.absent.append(self.places.location.display(self.places.key(folder, name)))
            return
        self._is_known[position] = True
        if pixel_size is not None and len(self.pixel_sizes) < _MOST_SIZES:
            self.pixel_sizes.add(pixel_size)
        known = {k: value for k, value in facts.items() if value is not None}
        if "well" in self.grid.fields:  # the names of files have it
            known.pop("well", None)
        self.facts.add(position, known)

    def add_columns(
        self, rows: npt.NDArray[np.int64], columns: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """Add what is said of many files; see `FactColumns.add_columns`."""
        self._is_known[rows] = True
        self.facts.add_columns(rows, columns)

    def add_content(self, part: Content) -> None:
        """Add what another index file says."""
        self.facts.extend(part.facts, np.arange(self._is_known.size))
        self._is_known |= part._is_known
        self.time_step_s = part.time_step_s or self.time_step_s
        self.z_step = part.z_step or self.z_step
        self.remarks += part.remarks
        self.pixel_sizes |= part.pixel_sizes
        self.colors |= part.colors
        self.n_absent += part.n_absent
        self.absent = [*self.absent, *part.absent][:N_EXAMPLES]
        self.names_files |= part.names_files

    def add_silent(self) -> None:
        """Say that nothing is known of a field, channel or the like of which no file is named."""
        shape = self.grid.shape
        known = self._is_known.reshape(shape)
        present = known if self.grid.present is None else known | ~self.grid.present
        silent = with_silent_steps(known) & ~present
        self.facts.add_columns(np.flatnonzero(silent), {})

    @property
    def n_unknown(self) -> int:
        """Number of files of which nothing is said."""
        return self.grid.n_files - int(self._is_known.sum())


def stage(x: Any, y: Any, z: Any, *, factor: float = 1.0) -> dict[str, Fact]:
    """Return the columns of a position from the centre of a well, in units of `factor` micrometres.

    Such positions grow upwards along y: fields of Yokogawa are numbered from the greatest y, and so
    are those of Harmony.
    """
    given = {"stage_x": number(x), "stage_y": number(y), "stage_z": number(z)}
    known: dict[str, Fact] = {k: v * factor for k, v in given.items() if v is not None}
    finite = all(math.isfinite(v) for v in known.values() if isinstance(v, float))
    return {**known, "stage_unit": MICROMETRE, "stage_flip": "y"} if known and finite else {}


def size_of_pixels(x: Any, y: Any, *, factor: float = 1.0) -> tuple[float, float] | None:
    """Return the sizes of pixels along x and y in micrometres; None unless both are known."""
    sizes = [positive(x), positive(y)]
    scaled = [positive(size * factor) for size in sizes if size is not None]
    if len(scaled) < 2 or scaled[0] is None or scaled[1] is None:
        return None
    return scaled[0], scaled[1]


def well_label(row: Any, column: Any) -> str | None:
    """Return the label of a well, such as ``"B03"``, from numbers that count from 1."""
    numbers = [number(row), number(column)]
    if None in numbers or not all(n and n == int(n) and n > 0 for n in numbers):
        return None
    n_row, n_column = (int(n or 0) for n in numbers)
    if n_row > _LONGEST_WELL_ROW or n_column > 99:
        return None
    tens, ones = divmod(n_row - 1, 26)
    letters = (chr(ord("A") + tens - 1) if tens else "") + chr(ord("A") + ones)
    return f"{letters}{n_column:02d}"


def only_one(values: Iterable[Any]) -> Any:
    """Return the value if all are equal; None if they are not, or there are none."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
