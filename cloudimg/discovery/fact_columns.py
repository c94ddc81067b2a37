"""Columns of the table of files with what is known of each file and may differ. Pure.

A file has at most one value of each: where and when its first plane was taken, and its channel if
it has only one. Null says that the file does not give it, or that its header was not read. What a
file says of each of its planes is kept beside the columns, where it differs between them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.arrow_columns import as_numbers, as_texts
from cloudimg.discovery.fact_kinds import (
    DTYPES,
    FACTS,
    NO_CODE,
    NO_TIME,
    NUMBER,
    TEXT,
    TIME,
    Fact,
    null_of,
    nulls,
)
from cloudimg.tiff.parsed import PlaneValues

_NO_PLANES: Mapping[str, PlaneValues] = {}


class _Within(NamedTuple):
    """What files with a fact of each plane must have in common to be kept together."""

    name: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]


class FactColumns:
    """Facts of files, collected in any order: a column is made when a file first has its fact.

    A row takes 8 bytes, and so does each number and time in it; a text takes 4. Picklable.
    """

    def __init__(self) -> None:
        self._rows = array("q")
        self._values: dict[str, array[Any]] = {}
        """Numbers, microseconds, or numbers of texts, by column."""
        self._texts: dict[str, dict[str, int]] = {}
        """Numbers of the texts of a column, in the order in which they were found."""
        self._planes: dict[_Within, tuple[array[int], array[Any]]] = {}
        """Rows, and the values of the planes of each of them."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, row: int, facts: Mapping[str, Fact], planes: Mapping[str, PlaneValues] = _NO_PLANES
    ) -> None:
        """Add what is known of a file; of several calls for one row, the last counts.

        A file that says nothing is added, too: it differs from one of which nothing was read.

        Parameters
        ----------
        row : int
            Position in C order of the grid.
        facts : mapping
        planes : mapping
            What differs between the planes of the file, by name of the fact.
        """
        for name, each in planes.items():
            self.add_planes(name, each.axes, np.array([row]), each.values[np.newaxis])
        for name in facts.keys() - self._values.keys():
            self._values[name] = nulls(name, len(self._rows))
        self._rows.append(row)
        for name, values in self._values.items():
            value = facts.get(name)
            if value is None:
                values.extend(nulls(name, 1))
            else:
                values.append(self._code(name, value) if FACTS[name].type == TEXT else value)

    def add_columns(
        self, rows: npt.NDArray[np.int64], columns: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """Add what is known of many files.

        Parameters
        ----------
        rows : ndarray
            Positions in C order of the grid.
        columns : mapping
            By name, a value for each row: numbers, ``datetime64``, or texts; null is NaN, NaT, and
            an empty text.
        """
        n_before = len(self._rows)
        self._rows.frombytes(np.asarray(rows, np.int64).tobytes())
        for name in {*self._values, *columns}:
            mine = self._values.setdefault(name, nulls(name, n_before))
            if name in columns:
                mine.frombytes(self._as_numbers(name, columns[name]).tobytes())
            else:
                mine.extend(nulls(name, len(rows)))

    def add_planes(
        self,
        name: str,
        axes: tuple[int, ...],
        rows: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
    ) -> None:
        """Add what differs between the planes of files that have the same lengths.

        Parameters
        ----------
        name : str
        axes : tuple of int
            Numbers of the axes of the files along which it differs, increasing.
        rows : ndarray
            Positions of the files in C order of the grid.
        values : ndarray
            Values as in `add_columns`: a row for each file, then its axes.
        """
        my_rows, planes = self._planes_of(_Within(name, axes, values.shape[1:]))
        my_rows.frombytes(np.asarray(rows, np.int64).tobytes())
        planes.frombytes(self._as_numbers(name, values.ravel()).tobytes())

    def add_batches(
        self, rows: npt.NDArray[np.int64], batches: Iterable[Mapping[str, npt.NDArray[Any]]]
    ) -> None:
        """Add what is known of millions of files, of some at a time; see `add_columns`.

        Columns that grow a little at a time would take half as much memory again.
        """
        whole: dict[str, npt.NDArray[Any]] = {}
        start = 0
        for columns in batches:
            stop = start + max(map(len, columns.values()), default=0)
            for name, values in columns.items():
                if name not in whole:
                    whole[name] = np.full(len(rows), null_of(name), DTYPES[FACTS[name].type])
                whole[name][start:stop] = self._as_numbers(name, values)
            start = stop
        n_before = len(self._rows)
        self._rows.frombytes(np.ascontiguousarray(rows, np.int64).view(np.uint8).data)
        for name in {*self._values, *whole}:
            mine = self._values.setdefault(name, nulls(name, n_before))
            if name in whole:
                mine.frombytes(whole.pop(name).view(np.uint8).data)
            else:
                mine.extend(nulls(name, len(rows)))

    def extend(self, other: FactColumns, rows: npt.NDArray[np.int64]) -> None:
        """Add the facts of other files, whose row i is row ``rows[i]`` here."""
        n_before, n_added = len(self._rows), len(other._rows)
        self._rows.extend(rows[np.frombuffer(other._rows, np.int64)].tolist())
        for name in {*self._values, *other._values}:
            mine = self._values.setdefault(name, nulls(name, n_before))
            theirs = other._values.get(name)
            if theirs is None:
                mine.extend(nulls(name, n_added))
            else:
                mine.extend(self._recoded(name, theirs, other))
        for within, (their_rows, planes) in other._planes.items():
            my_rows, values = self._planes_of(within)
            my_rows.extend(rows[np.frombuffer(their_rows, np.int64)].tolist())
            values.extend(self._recoded(within.name, planes, other))

    def taken(self, rows: npt.NDArray[np.int64]) -> FactColumns:
        """Return the facts of the files at some rows, each of which becomes its place among them.

        Parameters
        ----------
        rows : ndarray
            Positions in C order of the grid, increasing.
        """
        part = FactColumns()
        part._texts = {name: dict(texts) for name, texts in self._texts.items()}
        part._rows, mask = _taken_rows(self._rows, rows)
        for name, values in self._values.items():
            part._values[name] = nulls(name, 0)
            part._values[name].frombytes(np.frombuffer(values, values.typecode)[mask].tobytes())
        for within, (places, values) in self._planes.items():
            kept, mask = _taken_rows(places, rows)
            of_planes = np.frombuffer(values, values.typecode).reshape(len(places), -1)[mask]
            part._planes[within] = kept, nulls(within.name, 0)
            part._planes[within][1].frombytes(of_planes.tobytes())
        return part

    def without(self, *names: str) -> FactColumns:
        """Return these facts except some."""
        rest = FactColumns()
        rest._rows = self._rows
        rest._values = {name: each for name, each in self._values.items() if name not in names}
        rest._texts = {name: each for name, each in self._texts.items() if name not in names}
        rest._planes = {at: each for at, each in self._planes.items() if at.name not in names}
        return rest

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the facts that are known of any file, in the order of `FACTS`."""
        known = {*self._values, *(within.name for within in self._planes)}
        return tuple(name for name in FACTS if name in known)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Positions of the files that were added, increasing."""
        return distinct(np.frombuffer(self._rows, np.int64))

    def column(self, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return what is known of the files at some rows, as plain numbers.

        Parameters
        ----------
        name : str
        rows : ndarray
            Positions in C order of the grid, increasing.

        Returns
        -------
        ndarray
            Numbers, microseconds, or numbers of `texts`; `null_of` the fact where it is not known.
        """
        numbers = np.full(len(rows), null_of(name), DTYPES[FACTS[name].type])
        if name in self._values and len(rows):
            found = np.frombuffer(self._rows, np.int64)
            places = np.minimum(np.searchsorted(rows, found), len(rows) - 1)
            is_wanted = rows[places] == found
            given = np.frombuffer(self._values[name], numbers.dtype)
            numbers[places[is_wanted]] = given[is_wanted]
        return numbers

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of a column by number."""
        return tuple(self._texts.get(name, ()))

    def planes(
        self, name: str
    ) -> Iterator[tuple[tuple[int, ...], npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Yield what differs between the planes of files that have the same axes and lengths.

        Yields
        ------
        axes : tuple of int
            Numbers of the axes of the files along which it differs.
        rows : ndarray
            Positions of the files.
        values : ndarray
            Values as in `column`: a row for each file, then the axes of the file.
        """
        for within, (rows, values) in self._planes.items():
            if within.name == name:
                numbers = np.frombuffer(values, DTYPES[FACTS[name].type])
                shape = (len(rows), *within.shape)
                yield within.axes, np.frombuffer(rows, np.int64), numbers.reshape(shape)

    def to_arrow(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns of some rows as `pyarrow.Array`, in the order of `FACTS`.

        Parameters
        ----------
        rows : ndarray
            Numbers of the rows, increasing.
        """
        import pyarrow as pa

        columns: dict[str, Any] = {}
        for name, kind in FACTS.items():
            if name not in self._values:
                continue
            numbers = self.column(name, rows)
            if kind.type == NUMBER:
                columns[name] = as_numbers(numbers, np.isnan(numbers))
            elif kind.type == TIME:
                times = as_numbers(numbers, numbers == NO_TIME)
                columns[name] = times.view(pa.timestamp("us"))
            else:
                codes = as_numbers(numbers, numbers == NO_CODE)
                texts = as_texts(self.texts(name))
                columns[name] = pa.DictionaryArray.from_arrays(codes, texts)
        return columns

    def _planes_of(self, within: _Within) -> tuple[array[int], array[Any]]:
        return self._planes.setdefault(within, (array("q"), nulls(within.name, 0)))

    def _code(self, name: str, value: Fact) -> int:
        """Number of a text of a column."""
        texts = self._texts.setdefault(name, {})
        text = str(value).encode("utf-8", "backslashreplace").decode()
        return texts.setdefault(text, len(texts))

    def _as_numbers(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values as `column` has them."""
        kind = FACTS[name].type
        if kind == TEXT:
            texts = values.tolist()
            known = (text for text in dict.fromkeys(texts) if isinstance(text, str) and text)
            codes = {text: self._code(name, text) for text in known}
            return np.array([codes.get(text, NO_CODE) for text in texts], np.int32)
        times = "datetime64[us]" if values.dtype.kind == "M" else np.int64
        return np.asarray(values, times if kind == TIME else np.float64).view(DTYPES[kind])

    def _recoded(self, name: str, values: array[Any], other: FactColumns) -> Any:
        """Values of another table, with the numbers that their texts have here."""
        if FACTS[name].type != TEXT:
            return values
        codes = [self._code(name, text) for text in other._texts.get(name, ())]
        codes.append(NO_CODE)  # what the code of null, -1, stands for
        return (codes[code] for code in values)


def distinct(*positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions that occur, increasing; `numpy.unique` takes many times as long."""
    occurs = np.zeros(1 + max((int(each.max(initial=-1)) for each in positions), default=-1), bool)
    for each in positions:
        occurs[each] = True
    return np.flatnonzero(occurs)


def _taken_rows(
    found: array[int], rows: npt.NDArray[np.int64]
) -> tuple[array[int], npt.NDArray[np.bool_]]:
    """Return the places of rows among some that are taken, and which of them are taken."""
    positions = np.frombuffer(found, np.int64)
    if not len(rows):
        return array("q"), np.zeros(len(positions), bool)
    places = np.minimum(np.searchsorted(rows, positions), len(rows) - 1)
    is_taken: npt.NDArray[np.bool_] = rows[places] == positions
    return array("q", places[is_taken].tolist()), is_taken
