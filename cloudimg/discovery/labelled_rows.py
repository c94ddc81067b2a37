"""Rows of a table whose columns are axes, arranged as a grid. Pure."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.build_grid import short_etag, short_names
from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.listing import FILE_AXIS
from cloudimg.discovery.names import NameColumn, name_digests
from cloudimg.discovery.places import Places, sorted_labels
from cloudimg.discovery.table_columns import Roles
from cloudimg.discovery.table_values import Rows, column_at, labels_in, whole_numbers
from cloudimg.errors import ArgumentError, DuplicateIndexError, GridError
from cloudimg.pattern import Label
from cloudimg.storage import redact, unsigned

_MOST_LABELS = 200_000
"""Most labels of an axis: more are identifiers or measurements of the files."""
_AXES_OF_FACTS = {"channel": "c", "well": "well"}
"""The axes that columns with the names of facts often are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridInTable:
    """The grid that a table of cloudimg's own has been made of."""

    n_rows: int
    """Number of rows; if there are others now, the table was changed."""
    shape: Mapping[str, int]
    """Lengths of the axes."""
    labels: Mapping[str, Mapping[int, Label]] = field(default_factory=dict)
    """Labels by axis of the indices at which no file is."""


class LabelledRows:
    """Rows whose axes are columns."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._axes = [_Axis(axis, roles) for axis in roles.axes]
        self._names = NameColumn()
        self._digests = bytearray()
        self._sizes, self._etags = array("q"), array("Q")
        self._has_versions = bool(roles.etag)

    def add(
        self,
        batch: Any,
        names: list[str],
        sizes: npt.NDArray[np.int64],
        etags: list[str | None],
        rows: Rows,
    ) -> None:
        """Add a batch of rows, of which the names, sizes and ETags are known already."""
        for axis in self._axes:
            axis.add(batch, rows)
        for name in names:
            self._names.append(name)
        self._digests += name_digests(map(unsigned, names))
        self._sizes.frombytes(sizes.tobytes())
        if self._roles.etag:
            self._etags.extend(map(short_etag, etags))
            self._has_versions &= None not in etags

    def build(
        self, known: GridInTable | None, pages: npt.NDArray[np.int64] | None, n_rows: int
    ) -> tuple[FileGrid, Places]:
        """Return the grid of the files, and where in it each of them is.

        Parameters
        ----------
        known : GridInTable, optional
            What the table says of its grid, if it has all rows that it had.
        pages : ndarray, optional
            Number of the page of each file.
        n_rows : int
            Number of rows of the table.

        Raises
        ------
        GridError
        """
        n_files = len(self._names)
        if self._axes:
            fields = self._roles.axes
            parts = [axis.build(known, n_files) for axis in self._axes]
            labels = tuple(part[0] for part in parts)
            places = Places.of(fields, labels, (part[1] for part in parts), n_files)
        elif known is not None and not known.shape and n_files == 1:
            places = Places.of((), (), (), 1)  # a single file without axes
        else:
            fields, labels = (FILE_AXIS,), (tuple(short_names(list(self._names))),)
            places = Places.of(fields, labels, [np.arange(n_files)], n_files)
        twice = places.twice()
        if twice is not None:
            raise self._duplicate(twice, places, is_whole=n_rows == n_files)
        grid = places.grid(
            Keys(None, (), self._names, places.rows),
            np.frombuffer(self._sizes, np.int64),
            np.frombuffer(self._etags, np.uint64) if self._etags else None,
            np.frombuffer(self._digests, np.uint64),
            has_versions=self._has_versions,
            pages=pages,
        )
        return grid, places

    def _duplicate(
        self, twice: tuple[int, int], places: Places, *, is_whole: bool
    ) -> DuplicateIndexError:
        first, second = twice
        rows = (
            f"rows {first} and {second} of the table, counted from 0," if is_whole else "two rows"
        )
        names = " and ".join(redact(self._names[row]) for row in twice)
        advice = "add a column in which they differ, or leave one out"
        if self._roles.facts:
            facts = self._roles.facts
            columns = {column: axis for axis, column in self._roles.labels.items()}
            likely = {fact: axis for fact, axis in _AXES_OF_FACTS.items() if fact in facts}
            axes = json.dumps({**columns, **(likely or {facts[-1]: facts[-1]})}, ensure_ascii=False)
            advice += (
                f"; columns with the names of facts ({', '.join(facts)}) are axes only if axes="
                f" names them and all other axes, as in axes={axes}"
            )
        return DuplicateIndexError(
            f"{rows} are both at {places.labels_of(first)}: {names}; {advice}"
        )


class _Axis:
    """The labels of one axis, and of each row."""

    def __init__(self, name: str, roles: Roles) -> None:
        self.name = name
        self._labels, self._indices = roles.labels.get(name, ""), roles.indices.get(name, "")
        self._codes = array("i")
        self._code_of: dict[Any, int] = {}
        """By index, or by label where there are no indices."""
        self._label_of: list[Label] = []

    def add(self, batch: Any, rows: Rows) -> None:
        """Learn the labels of a batch.

        Raises
        ------
        ArgumentError, GridError
        """
        labels: list[Label] = []
        which = np.zeros(0, np.int64)
        if self._labels:
            labels, which = labels_in(column_at(batch, self._labels), self._labels, rows)
        if self._indices:
            codes = self._codes_by_index(batch, labels, which, rows)
        else:
            self._learn(labels, labels, rows)
            codes = np.array([self._code_of[label] for label in labels], np.int32)[which]
        self._codes.frombytes(codes.tobytes())

    def _learn(self, keys: list[Any], labels: list[Label], rows: Rows) -> None:
        for key, label in zip(keys, labels, strict=True):
            if self._code_of.setdefault(key, len(self._label_of)) == len(self._label_of):
                self._label_of.append(label)
        if len(self._label_of) > _MOST_LABELS and not self._indices:
            raise GridError(
                f"the column {self._labels!r} of the table has {len(self._label_of):,} different"
                f" values up to row {rows[-1]}, but an axis has at most {_MOST_LABELS:,}: leave the"
                " column out of the table, or pass axes= with the columns that are axes"
            )

    def _codes_by_index(
        self, batch: Any, labels: list[Label], which: npt.NDArray[Any], rows: Rows
    ) -> npt.NDArray[np.int32]:
        """Numbers of the labels of a batch, where the table has the index of each label."""
        numbers = whole_numbers(column_at(batch, self._indices), self._indices, rows)
        if (numbers < 0).any():
            raise ArgumentError(
                f"row {rows[int(np.argmin(numbers))]} of the table, counted from 0, has no value in"
                f" the column {self._indices!r}"
            )
        found, at, inverse = np.unique(numbers, return_index=True, return_inverse=True)
        keys, inverse = found.tolist(), inverse.ravel()
        self._learn(keys, [labels[i] for i in which[at]] if self._labels else keys, rows)
        codes: npt.NDArray[np.int32] = np.array([self._code_of[key] for key in keys], np.int32)
        if self._labels:
            number_of = {label: number for number, label in enumerate(labels)}
            expected = [number_of.get(self._label_of[code], -1) for code in codes.tolist()]
            is_right = np.array(expected)[inverse] == which
            if not is_right.all():
                at_row = int(np.argmin(is_right))
                raise ArgumentError(
                    f"row {rows[at_row]} of the table, counted from 0, has another label in the"
                    f" column {self._labels!r} than other rows with {numbers[at_row]} in the column"
                    f" {self._indices!r}: leave the column {self._indices!r} out"
                )
        return codes[inverse]

    def build(
        self, known: GridInTable | None, n_files: int
    ) -> tuple[tuple[Label, ...], npt.NDArray[np.int32]]:
        """The labels by index, and the index of each row."""
        codes = np.frombuffer(self._codes, np.int32)
        if not self._indices:
            labels, ranks = sorted_labels(self._code_of)
            return labels, ranks[codes]
        places = sorted(self._code_of)
        length = 0 if known is None else known.shape.get(self.name, 0)
        if not places[-1] < length <= 100 * n_files + 10**6:
            rank = np.empty(len(places), np.int32)
            rank[[self._code_of[place] for place in places]] = np.arange(len(places))
            return tuple(self._label_of[self._code_of[place]] for place in places), rank[codes]
        assert known is not None
        of_none = known.labels.get(self.name, {})
        labels = tuple(
            self._label_of[self._code_of[place]] if place in self._code_of
            else of_none.get(place, place)
            for place in range(length)
        )  # fmt: skip
        index_of = np.empty(len(places), np.int32)
        index_of[[self._code_of[place] for place in places]] = places
        return labels, index_of[codes]
