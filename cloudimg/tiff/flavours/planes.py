"""What a file says of each of its planes, where it may differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.parsed import PlaneValues
from cloudimg.tiff.variation import Variation, with_silent_steps

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class PlaneColumns:
    """What metadata say of each plane that they name."""

    at: Mapping[str, npt.NDArray[np.int64]]
    """Numbers of the planes along axes by letter, in upper case; -1 where there is none."""
    columns: Mapping[str, Column]
    """Facts by name, see `cloudimg.discovery.fact_kinds.FACTS`: numbers, which are NaN where they
    are not known, and texts, which are empty then."""

    def by_axis(self, steps: Mapping[str, tuple[int, int]]) -> dict[str, PlaneValues]:
        """Return what differs between the planes of a file.

        Planes that metadata do not name do not count, unless no plane of their step is named.

        Parameters
        ----------
        steps : mapping
            Number and length of the axes of the file by letter; axes of length 1 may be absent.

        Returns
        -------
        dict of PlaneValues
            By name of the fact; empty if the metadata name planes that the file does not have.
        """
        ordered = sorted((*steps[letter], letter) for letter in self.at if letter in steps)
        lengths = {letter: length for _, length, letter in ordered}
        if not ordered or any(
            ((at < 0) | (at >= lengths.get(letter, 1))).any() for letter, at in self.at.items()
        ):
            return {}
        letters, shape = tuple(lengths), tuple(lengths.values())
        place = tuple(self.at[letter] for letter in letters)
        is_known = np.zeros(shape, bool)
        is_known[place] = True
        is_known = with_silent_steps(is_known)
        found = {}
        for name, column in self.columns.items():
            null = "" if column.dtype == object else math.nan
            values = np.full(shape, null, column.dtype)
            values[place] = column
            varied = Variation(letters, values, is_known).reduced(letters)
            if varied.names:
                axes = tuple(steps[letter][0] for letter in varied.names)
                found[name] = PlaneValues(axes, np.where(varied.is_known, varied.values, null))
        return found
