"""`Selection`: which part of an image was selected. Pure; storable as JSON.

Along axes on which files are stacked a selection keeps files, by their labels, so that it means the
same when files are listed again and newer ones have come. Along all other axes it keeps positions.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import NoMatchError
from cloudimg.errors.checked_json import (
    GREATEST,
    checked_bool,
    checked_int,
    checked_list,
    checked_object,
    checked_optional_text,
    checked_text,
)
from cloudimg.pattern import Label
from cloudimg.reading.window import Positions

_MOST_ITEMS = 2**20
"""Most labels or ranges of positions along one axis."""
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPart:
    """What is selected along one axis."""

    axis: str
    """Dim of the image."""
    grid_axis: str | None = None
    """Axis of the grid whose files are kept; None if all are."""
    labels: tuple[Label, ...] | None = None
    """Labels of the files to keep."""
    bounds: tuple[Label | None, Label | None] | None = None
    """Lowest and highest label of the files to keep, instead of all labels; None for no limit."""
    positions: Positions | None = None
    """Positions to keep among those of the files that are kept; None for all."""
    drops: bool = False
    """Whether the image does not have the axis, of which a single position is kept."""
    at: Positions = field(default=(), compare=False)
    """The positions in the image from which it was selected, for coordinates; not stored."""

    def to_json(self) -> dict[str, Any]:
        """The part as JSON."""
        ranges = self.positions
        return {
            "axis": self.axis,
            "grid_axis": self.grid_axis,
            "labels": None if self.labels is None else list(map(_label_to_json, self.labels)),
            "bounds": None if self.bounds is None else list(map(_label_to_json, self.bounds)),
            "positions": None if ranges is None else [[r.start, r.stop, r.step] for r in ranges],
            "drops": self.drops,
        }

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore a part from `to_json`.

        Raises
        ------
        ValueError
        """
        names = ("axis", "grid_axis", "labels", "bounds", "positions", "drops")
        checked_object(stored, "select", required=names)
        bounds = stored["bounds"]
        if bounds is not None:
            pair = checked_list(bounds, "select.bounds", n=2)
            bounds = tuple(None if each is None else _label_from_json(each) for each in pair)
        return cls(
            axis=checked_text(stored["axis"], "select.axis", most=256),
            grid_axis=checked_optional_text(stored["grid_axis"], "select.grid_axis", most=256),
            labels=_labels_from_json(stored["labels"]),
            bounds=bounds,
            positions=_positions_from_json(stored["positions"]),
            drops=checked_bool(stored["drops"], "select.drops"),
        )

    def kept(self, labels: Sequence[Label]) -> npt.NDArray[np.int64]:
        """Return which of the labels of an axis are kept; those that are gone are passed over."""
        if self.labels is not None:
            chosen = set(self.labels)
            return np.flatnonzero([label in chosen for label in labels])
        first, last = (None, None) if self.bounds is None else self.bounds
        if isinstance(first, str) and isinstance(last, str):
            ends = [labels.index(label) for label in (first, last) if label in labels]
            return np.arange(ends[0], ends[1] + 1) if len(ends) == 2 else np.zeros(0, np.int64)
        limits: Any = first, last
        is_kept = [
            (first is None or limits[0] <= label) and (last is None or label <= limits[1])
            for label in labels
        ]
        return np.flatnonzero(is_kept)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected of an image, by axis in alphabetic order."""

    parts: tuple[AxisPart, ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, AxisPart]) -> Self:
        """Return the selection of parts by axis."""
        return cls(tuple(parts[axis] for axis in sorted(parts)))

    @property
    def by_axis(self) -> dict[str, AxisPart]:
        """The parts by axis."""
        return {part.axis: part for part in self.parts}

    @property
    def cuts_files(self) -> bool:
        """Whether files are kept of which the image does not have all pixels."""
        return any(part.positions is not None for part in self.parts)

    def among_its_files(self) -> Self:
        """What is selected where the files that were left out are not there."""
        parts = (
            replace(part, grid_axis=None, labels=None, bounds=None)
            for part in self.parts
            if part.positions is not None or part.drops
        )
        return type(self)(tuple(parts))

    def to_json(self) -> list[dict[str, Any]]:
        """The selection as JSON, as a plan stores it."""
        return [part.to_json() for part in self.parts]

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore a selection from `to_json`.

        Raises
        ------
        ValueError
            If it is not one.
        """
        return cls(tuple(map(AxisPart.from_json, checked_list(stored, "select", most=64))))

    def narrowed(self, grid: FileGrid) -> FileGrid:
        """Return the grid with the files that are kept.

        Raises
        ------
        NoMatchError
            If there are none.
        """
        kept = self.kept(grid)
        narrowed = grid.taken(kept) if kept else grid
        if narrowed.n_files == 0:
            raise NoMatchError("none of the files that were selected exist")
        return narrowed

    def positions(self, grid: FileGrid) -> npt.NDArray[np.int64]:
        """Return the positions in C order of a grid that the narrowed one has, in its order."""
        numbers = np.arange(grid.sizes.size).reshape(grid.shape)
        for axis, indices in self.kept(grid).items():
            numbers = np.take(numbers, indices, axis)
        return numbers.ravel()

    def kept(self, grid: FileGrid) -> dict[int, npt.NDArray[np.int64]]:
        """Return the indices to keep along each axis of a grid that loses files."""
        kept = {}
        for part in self.parts:
            if part.grid_axis is not None and part.grid_axis in grid.fields:
                axis = grid.fields.index(part.grid_axis)
                indices = part.kept(grid.labels[axis])
                if len(indices) < len(grid.labels[axis]):
                    kept[axis] = indices
        return kept


def _label_to_json(label: Label | None) -> Any:
    if isinstance(label, datetime.datetime):
        return {"time": label.isoformat()}
    if isinstance(label, datetime.timedelta):
        return {"microseconds": label // _MICROSECOND}
    return label


def _labels_from_json(stored: Any) -> tuple[Label, ...] | None:
    if stored is None:
        return None
    return tuple(map(_label_from_json, checked_list(stored, "select.labels", most=_MOST_ITEMS)))


def _label_from_json(stored: Any) -> Label:
    if isinstance(stored, Mapping):
        if "time" in stored:
            return datetime.datetime.fromisoformat(checked_text(stored["time"], "time", most=64))
        count = checked_int(stored.get("microseconds"), "microseconds", least=-GREATEST)
        return count * _MICROSECOND
    if isinstance(stored, bool) or not isinstance(stored, str | int | float):
        raise ValueError("select.labels must be texts, numbers or times")
    return stored


def _positions_from_json(stored: Any) -> Positions | None:
    if stored is None:
        return None
    ranges = []
    end = 0
    for each in checked_list(stored, "select.positions", most=_MOST_ITEMS):
        start, stop, step = (
            checked_int(n, "select.positions") for n in checked_list(each, "range", most=3)
        )
        found = range(start, stop, max(1, step))
        if not found or start < end:
            raise ValueError("select.positions must increase")
        ranges.append(found)
        end = stop
    if not ranges:
        raise ValueError("select.positions must not be empty")
    return tuple(ranges)
