"""From what a user selects along an axis to positions: labels, numbers, slices, lists, texts.

By label, as `Image.sel` and ``select=`` do:

- Along an axis on which files are stacked, a value is a label: what the names of the files say,
  and the coordinate of `Image.coords`. A slice has both of its ends.
- Along ``c``, a text that is not a label is the name of a channel.
- Along any other axis, whose positions have no labels, a value is a position, counted from 0, and a
  slice lacks its end, as in Python.

A text is read as the command line writes it: ``"DAPI"``, ``"3"``, ``"0:10"``, ``"0:10:2"``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.opening.coordinates import as_array
from cloudimg.opening.label_values import (
    N_SHOWN,
    abridged,
    as_python,
    as_span,
    as_time,
    nearest,
    ranges_in,
)
from cloudimg.pattern import Label


@dataclass(frozen=True, slots=True)
class Choice:
    """Positions that are chosen along one axis of an image."""

    positions: npt.NDArray[np.int64]
    """Increasing positions."""
    drops: bool
    """Whether a single position was named, so that the image does not have the axis."""
    is_range: bool
    """Whether they are all positions from the first to the last."""
    bounds: tuple[Label | None, Label | None] | None = None
    """The labels between which the user selects; None if they are not known, or not numbers."""


class AxisLabels:
    """The labels along an axis, and how a user's values are found among them.

    Parameters
    ----------
    axis : str
    length : int
    labels : sequence of Label, optional
        Labels of the files along the axis, None if its positions have none.
    names : callable, optional
        Returns names of the positions that a text may be, such as those of channels.
    keyword : str
        What the user passed, for messages.
    """

    def __init__(
        self,
        axis: str,
        length: int,
        labels: Sequence[Label] | None,
        names: Callable[[], Sequence[str]] | None,
        keyword: str,
    ) -> None:
        self._axis = axis
        self._length = length
        self._labels = None if labels is None else as_array(labels)
        self._names = names
        self._keyword = keyword
        self._bounds: tuple[Label | None, Label | None] | None = None
        self._text: str | None = None
        """The text that is being read, for messages."""

    def choose(self, value: Any, *, by_label: bool) -> Choice:
        """Return the positions for the value of a user.

        Raises
        ------
        ArgumentError
            If there are none, they do not increase, or a label is not known.
        """
        if isinstance(value, np.ndarray):
            value = value.item() if value.ndim == 0 else value.tolist()
        if isinstance(value, str) and by_label:
            return self._of_text(value)
        if isinstance(value, slice):
            self._bounds = None
            found = self._of_slice(value, by_label)
            return self._checked(value, found, is_range=value.step in (None, 1))
        if isinstance(value, list | tuple | range):
            is_mask = all(isinstance(each, bool | np.bool_) for each in value)
            by_number = not by_label or is_mask
            numbers = self._numbers(value) if by_number else list(map(self._position, value))
            return self._checked(value, np.array(numbers, np.int64), is_range=False)
        number = self._position(value) if by_label else self._index(value)
        return Choice(np.array([number], np.int64), drops=True, is_range=False)

    def _checked(self, value: Any, positions: npt.NDArray[np.int64], *, is_range: bool) -> Choice:
        if not positions.size:
            raise ArgumentError(f"{self._shown(value)} selects nothing: {self._what_there_is()}")
        if (np.diff(positions) <= 0).any():
            raise ArgumentError(
                f"{self._shown(value)} must name each position once, in the order of the image;"
                " to_dask() and to_xarray() return arrays that can be put into any order"
            )
        bounds = self._bounds if is_range else None
        return Choice(positions, drops=False, is_range=is_range, bounds=bounds)

    def _of_text(self, text: str) -> Choice:
        """A label, the name of a channel, or a range, as the command line has it."""
        self._text = text
        found = self._find(text)
        if found is not None:
            return Choice(np.array([found], np.int64), drops=True, is_range=False)
        ranges = list(ranges_in(text))
        for part in ranges:
            ends = self._as_number(part.start), self._as_number(part.stop)
            try:
                return self.choose(slice(*ends, part.step), by_label=True)
            except ArgumentError:
                if len(ranges) == 1:
                    raise
        raise self._unknown(text)

    def _as_number(self, end: str | None) -> str | int | None:
        """An end of a range as a position, where positions have no labels."""
        is_number = end is not None and re.fullmatch(r"-?\d+", end)
        if self._labels is not None or not is_number or self._find_name(end) is not None:
            return end
        return int(str(end))

    def _of_slice(self, value: slice, by_label: bool) -> npt.NDArray[np.int64]:
        step = 1 if value.step is None else value.step
        if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 1:
            raise ArgumentError(f"{self._shown(value)}: the step must be a positive integer")
        ends = as_python(value.start), as_python(value.stop)
        if by_label and self._labels is not None:
            return self._between(self._labels, *ends)[:: int(step)]
        if by_label and any(isinstance(end, str) for end in ends):
            return self._between_names(*ends)[:: int(step)]
        for end in ends:
            if end is not None and (isinstance(end, bool) or not isinstance(end, int)):
                raise self._not_a_position(end)
        return np.arange(self._length)[slice(*ends, int(step))]

    def _between_names(self, first: Any, last: Any) -> npt.NDArray[np.int64]:
        """Positions from one label or name to another, both included."""
        start = 0 if first is None else self._position(first)
        stop = self._length if last is None else self._position(last) + 1
        return np.arange(start, max(start, stop))

    def _between(self, labels: npt.NDArray[Any], first: Any, last: Any) -> npt.NDArray[np.int64]:
        """Positions from one label to another, both included."""
        if labels.dtype.kind in "US":
            return self._between_names(first, last)
        is_in = np.ones(len(labels), bool)
        bounds: list[Any] = []
        for end, is_beyond in ((first, np.less), (last, np.greater)):
            bounds.append(None if end is None else self._as_label(end))
            if end is not None:
                if bounds[-1] is None:
                    raise self._unknown(end)
                is_in &= ~is_beyond(labels, bounds[-1])
        if labels.dtype.kind in "iuf":
            self._bounds = (bounds[0], bounds[1])
        return np.flatnonzero(is_in)

    def _position(self, value: Any) -> int:
        """The position of one label, name or number.

        Raises
        ------
        ArgumentError
        """
        value = as_python(value)
        if self._labels is None and not isinstance(value, str):
            return self._index(value)
        found = self._find(value)
        if found is None:
            raise self._unknown(value)
        return found

    def _find(self, value: Any) -> int | None:
        """The position of one label or name; None if there is none."""
        if self._labels is None:
            found = self._find_name(value)
            is_number = found is None and isinstance(value, str) and re.fullmatch(r"-?\d+", value)
            return self._index(int(value)) if is_number else found
        label = self._as_label(value)
        places = [] if label is None else np.flatnonzero(self._labels == label).tolist()
        if places:
            return int(places[0])
        return self._find_name(value)

    def _find_name(self, value: Any) -> int | None:
        if self._names is None or not isinstance(value, str):
            return None
        places = [i for i, name in enumerate(self._names()) if name == value]
        if len(places) > 1:
            raise ArgumentError(
                f"{self._shown(value)}: {len(places)} positions along {self._axis} have this name;"
                " select one by its number"
            )
        return places[0] if places else None

    def _as_label(self, value: Any) -> Any:
        """A value in the type of the labels; None if it is not of this type."""
        assert self._labels is not None
        kind = self._labels.dtype.kind
        try:
            if kind in "US":
                return None if isinstance(value, bool) else str(value)
            if kind == "M":
                return as_time(value)
            if kind == "m":
                return as_span(value, self._labels)
            if isinstance(value, str):
                return float(value) if kind == "f" else int(value)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return value if is_number else None
        except (ValueError, TypeError, OverflowError):
            return None

    def _index(self, value: Any) -> int:
        number = as_python(value)
        if isinstance(number, bool) or not isinstance(number, int):
            raise self._not_a_position(number)
        if not -self._length <= number < self._length:
            raise ArgumentError(f"{self._shown(value)}: {self._what_there_is()}")
        return number % self._length

    def _numbers(self, values: Sequence[Any]) -> list[int]:
        if values and all(isinstance(each, bool | np.bool_) for each in values):
            if len(values) != self._length:
                raise ArgumentError(
                    f"a mask of {len(values)} values for {self._axis}, which has {self._length}"
                    " positions"
                )
            return [i for i, is_kept in enumerate(values) if is_kept]
        return [self._index(each) for each in values]

    def _not_a_position(self, value: Any) -> ArgumentError:
        why = "isel() takes positions, and sel() labels"
        if self._labels is None:
            why = f"the positions along {self._axis} have no labels"
        return ArgumentError(
            f"{self._shown(value)} must be a position, an integer from 0 to {self._length - 1}:"
            f" {why}. For values in physical units, use to_xarray().sel()"
        )

    def _unknown(self, value: Any) -> ArgumentError:
        names = self._names() if self._names is not None else ()
        labels = [] if self._labels is None else [str(each) for each in self._labels.tolist()]
        near = nearest(value, self._labels) or difflib.get_close_matches(
            str(value), [*labels, *names], N_SHOWN, 0.5
        )
        advice = f"; the nearest: {', '.join(near)}" if near else ""
        named = f", named {abridged(names)}" if names else ""
        return ArgumentError(
            f"{self._shown(value)} is not there: {self._what_there_is()}{named}{advice}"
        )

    def _what_there_is(self) -> str:
        if self._labels is None:
            return f"positions along {self._axis} are 0 to {self._length - 1}"
        return f"{self._axis} has {abridged([str(each) for each in self._labels.tolist()])}"

    def _shown(self, value: Any) -> str:
        given = repr(value if self._text is None else self._text)
        if isinstance(value, list | tuple) and self._text is None:
            given = f"[{abridged(list(map(repr, value)))}]"
        return f'{self._keyword}={{"{self._axis}": {given}}}'


def check_axes(given: Mapping[str, Any], dims: Sequence[str], keyword: str) -> None:
    """Check that an image has the axes along which a user selects.

    Raises
    ------
    ArgumentError
    """
    for axis in given:
        if axis not in dims:
            close = difflib.get_close_matches(str(axis), dims, 1, 0.5)
            advice = f"; did you mean {close[0]}?" if close else ""
            raise ArgumentError(
                f"{keyword}= names the axis {axis!r}, but the axes of the image are"
                f" {', '.join(dims)}{advice}"
            )
