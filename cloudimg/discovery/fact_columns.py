"""Columns of the table of files with what is known of each file and may differ. Pure.

A file has at most one value of each: where and when its first plane was taken, and its channel if
it has only one. Null says that the file does not give it, or that its header was not read.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.flavours.facts import MICROMETRE, micrometres

NUMBER, TEXT, TIME = "number", "text", "time"
Fact = float | int | str


@dataclass(frozen=True, slots=True)
class FactKind:
    """What a column holds."""

    type: str
    """``"number"`` (float64), ``"text"`` (a dictionary), or ``"time"`` (microseconds)."""
    about: str
    """Unit and meaning, for those who read the stored table."""


FACTS: Mapping[str, FactKind] = {
    "stage_x": FactKind(NUMBER, "position of the stage at the first plane, in stage_unit"),
    "stage_y": FactKind(NUMBER, "position of the stage at the first plane, in stage_unit"),
    "stage_z": FactKind(NUMBER, "position of the stage at the first plane, in stage_unit"),
    "stage_unit": FactKind(TEXT, "µm, or what the file says if it is not a unit of length"),
    "acquired": FactKind(TIME, "UTC where acquired_offset is known, else as the file has it"),
    "acquired_offset": FactKind(TEXT, "offset of the file's own time from UTC, such as +02:00"),
    "elapsed_s": FactKind(NUMBER, "seconds from the start of the acquisition to the first plane"),
    "exposure_s": FactKind(NUMBER, "exposure of each plane in seconds"),
    "channel": FactKind(TEXT, "name of the only channel"),
    "objective": FactKind(TEXT, "name of the objective"),
    "magnification": FactKind(NUMBER, "nominal magnification of the objective"),
}
"""Kinds of the columns by name."""
_AS_THEY_ARE = ("elapsed_s", "exposure_s", "objective", "magnification")
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_NO_TIME = -(2**63)
_NO_CODE = -1


def facts_in(attrs: Mapping[str, Any]) -> dict[str, Fact]:
    """Return what the attributes of one file say, by column; see `cloudimg.tiff.metadata`."""
    found: dict[str, Fact] = {name: attrs[name] for name in _AS_THEY_ARE if name in attrs}
    if "stage_position" in attrs:
        found |= _stage(attrs["stage_position"], attrs["stage_position_unit"])
    if "acquired" in attrs:
        found |= time_facts(attrs["acquired"])
    channels = attrs.get("channel_names", ())
    if len(channels) == 1:
        found["channel"] = channels[0]
    return found


def _stage(position: Mapping[str, float], units: Mapping[str, str]) -> dict[str, Fact]:
    """Positions in micrometres; as they are if none is a length and all have one unit."""
    lengths = {dim: micrometres(value, units[dim]) for dim, value in position.items()}
    known: dict[str, Fact] = {f"stage_{d}": v for d, v in lengths.items() if v is not None}
    if known:
        return {**known, "stage_unit": MICROMETRE}
    if len(set(units.values())) > 1:
        return {}
    as_given: dict[str, Fact] = {f"stage_{dim}": value for dim, value in position.items()}
    return {**as_given, "stage_unit": next(iter(units.values()))}


def time_facts(text: str) -> dict[str, Fact]:
    """Return the columns of a time in ISO 8601; none if it is not one."""
    try:
        moment = datetime.fromisoformat(text)
        own = moment.replace(tzinfo=None)
        utc = own if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return {}
    offset = moment.isoformat().removeprefix(own.isoformat())
    facts: dict[str, Fact] = {"acquired": (utc - _EPOCH) // _MICROSECOND}
    return {**facts, "acquired_offset": offset} if offset else facts


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

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: int, facts: Mapping[str, Fact]) -> None:
        """Add what is known of a file; of several calls for one row, the last counts."""
        if not facts:
            return
        for name in facts.keys() - self._values.keys():
            self._values[name] = _nulls(name, len(self._rows))
        self._rows.append(row)
        for name, values in self._values.items():
            value = facts.get(name)
            if value is None:
                values.extend(_nulls(name, 1))
            elif FACTS[name].type == TEXT:
                texts = self._texts.setdefault(name, {})
                text = str(value).encode("utf-8", "backslashreplace").decode()
                values.append(texts.setdefault(text, len(texts)))
            else:
                values.append(value)

    def extend(self, other: FactColumns, rows: npt.NDArray[np.int64]) -> None:
        """Add the facts of other files, whose row i is row ``rows[i]`` here."""
        n_before, n_added = len(self._rows), len(other._rows)
        self._rows.extend(rows[np.frombuffer(other._rows, np.int64)].tolist())
        for name in {*self._values, *other._values}:
            mine = self._values.setdefault(name, _nulls(name, n_before))
            theirs = other._values.get(name)
            if theirs is None:
                mine.extend(_nulls(name, n_added))
            elif FACTS[name].type == TEXT:
                texts = self._texts.setdefault(name, {})
                codes = [texts.setdefault(text, len(texts)) for text in other._texts[name]]
                codes.append(_NO_CODE)  # what the code of null, -1, stands for
                mine.extend(codes[code] for code in theirs)
            else:
                mine.extend(theirs)

    def to_arrow(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns of some rows as `pyarrow.Array`, in the order of `FACTS`.

        Parameters
        ----------
        rows : ndarray
            Numbers of the rows, increasing.
        """
        import pyarrow as pa

        found = np.frombuffer(self._rows, np.int64)
        places = np.searchsorted(rows, found)
        is_wanted = rows[np.minimum(places, len(rows) - 1)] == found if len(rows) else found < 0
        columns: dict[str, Any] = {}
        for name, kind in FACTS.items():
            if name not in self._values:
                continue
            numbers = np.frombuffer(_nulls(name, 1) * len(rows), _DTYPES[kind.type]).copy()
            given = np.frombuffer(self._values[name], numbers.dtype)
            numbers[places[is_wanted]] = given[is_wanted]
            if kind.type == NUMBER:
                columns[name] = pa.array(numbers, mask=np.isnan(numbers))
            elif kind.type == TIME:
                times = pa.array(numbers, mask=numbers == _NO_TIME)
                columns[name] = times.cast(pa.timestamp("us"))
            else:
                codes = pa.array(numbers, mask=numbers == _NO_CODE)
                texts = pa.array(list(self._texts[name]), pa.string())
                columns[name] = pa.DictionaryArray.from_arrays(codes, texts)
        return columns


_DTYPES: Mapping[str, Any] = {NUMBER: np.float64, TEXT: np.int32, TIME: np.int64}
_NULLS: Mapping[str, array[Any]] = {
    NUMBER: array("d", [math.nan]),
    TEXT: array("i", [_NO_CODE]),
    TIME: array("q", [_NO_TIME]),
}


def _nulls(name: str, count: int) -> array[Any]:
    """Values of a column in rows without the fact."""
    return _NULLS[FACTS[name].type] * count
