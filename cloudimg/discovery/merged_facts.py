"""Put together what two sources say of the same files, such as headers and an index file. Pure.

The one that is closer to the pixels counts: a header before an index file or a table. The other one
fills in what it does not say. Where both say it and differ by more than rounding, a note tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns, distinct
from cloudimg.discovery.fact_kinds import FACTS, NUMBER, TEXT, TIME, null_of
from cloudimg.errors.notes import N_EXAMPLES, Note

_KIND = "said-otherwise-"
"""What the kinds of notes begin with; the name of the fact follows."""
_RELATIVE = 1e-5
_ABSOLUTE = {"stage_x": 0.5, "stage_y": 0.5, "stage_z": 0.1, "elapsed_s": 1e-3, "exposure_s": 1e-5}
"""Greatest difference of numbers that count as the same, in their units: programs round them."""
_SAME_TIME_US = 1_000_000
"""Many programs write times in whole seconds."""

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Columns = Mapping[str, Array]


def merge_facts(
    first: FactColumns,
    second: FactColumns,
    *,
    names: tuple[str, str],
    url_of: Callable[[int], str],
) -> tuple[FactColumns, tuple[Note, ...]]:
    """Return the facts of two sources, of which the first one counts.

    Parameters
    ----------
    first, second : FactColumns
        By position in C order of the grid.
    names : tuple of str
        What each of them is, for notes, such as ``("its header", "the index file meas.mlf")``.
    url_of : callable
        Returns the URL of a file by its position, without secrets, for notes.

    Returns
    -------
    facts : FactColumns
    notes : tuple of Note
        One for each fact that both give and that differs by more than rounding.
    """
    rows = distinct(first.rows, second.rows)
    mine, theirs = ({n: _values(n, each, rows) for n in FACTS} for each in (first, second))
    merged, notes, columns = FactColumns(), [], {}
    for name in FACTS:
        values = np.where(_fills(name, mine, theirs), theirs[name], mine[name])
        if not _is_null(name, values).all():
            columns[name] = values
        differing = np.flatnonzero(_differs(name, mine, theirs))
        if len(differing):
            at = differing[0]
            own, other = (_shown(name, each[name][at]) for each in (mine, theirs))
            text = f"its {name} is {own} in {names[0]}, but {other} in {names[1]}; the first counts"
            urls = [url_of(int(row)) for row in rows[differing[:N_EXAMPLES]]]
            kind = _KIND + name.replace("_", "-")
            notes.append(Note(text, kind=kind, n_files=len(differing), urls=urls))
    merged.add_columns(rows, columns)
    for name in FACTS:
        given = rows[~_is_null(name, mine[name])]
        for axes, at, planes in _planes(name, first):
            merged.add_planes(name, axes, at, planes)
            given = np.append(given, at)
        for axes, at, planes in _planes(name, second):
            is_silent = ~np.isin(at, given)
            merged.add_planes(name, axes, at[is_silent], planes[is_silent])
    return merged, tuple(notes)


def _values(name: str, facts: FactColumns, rows: npt.NDArray[np.int64]) -> Array:
    return _with_texts(name, facts, facts.column(name, rows))


def _planes(
    name: str, facts: FactColumns
) -> Iterator[tuple[tuple[int, ...], npt.NDArray[np.int64], Array]]:
    for axes, rows, planes in facts.planes(name):
        yield axes, rows, _with_texts(name, facts, planes)


def _with_texts(name: str, facts: FactColumns, numbers: Array) -> Array:
    """Plain numbers as they are, or the texts that they stand for."""
    if FACTS[name].type != TEXT:
        return numbers
    texts: Array = np.array([*facts.texts(name), ""], object)
    return np.asarray(texts[numbers])  # the number of no text, -1, is that of the last one


def _shown(name: str, value: Any) -> str:
    return str(np.datetime64(int(value), "us") if FACTS[name].type == TIME else value)


def _is_null(name: str, values: Array) -> Mask:
    if FACTS[name].type == NUMBER:
        return np.asarray(np.isnan(values))
    return np.asarray(values == ("" if FACTS[name].type == TEXT else null_of(name)), bool)


def _fills(name: str, mine: Columns, theirs: Columns) -> Mask:
    """Where a value is taken from the second source: with its unit, and with its zone."""
    is_silent = _is_null(name, mine[name])
    if name == "stage_flip":  # belongs to positions, so that it is not that of others
        has_own = ~_is_null("stage_x", mine["stage_x"]) | ~_is_null("stage_y", mine["stage_y"])
        return np.asarray(is_silent & ~has_own, bool)
    if name == "acquired_offset":
        has_time = ~_is_null("acquired", theirs["acquired"])
        return _is_null("acquired", mine["acquired"]) & (has_time | is_silent)
    return is_silent & _is_comparable(name, mine, theirs)


def _differs(name: str, mine: Columns, theirs: Columns) -> Mask:
    a, b = mine[name], theirs[name]
    both = ~_is_null(name, a) & ~_is_null(name, b) & _is_comparable(name, mine, theirs)
    if name in ("stage_unit", "stage_flip", "acquired_offset"):
        return np.zeros(len(a), bool)  # the values tell
    if FACTS[name].type == TEXT:
        return np.asarray(both & (a != b), bool)
    least = _ABSOLUTE.get(name, 0) if FACTS[name].type == NUMBER else _SAME_TIME_US
    differs: Mask = np.zeros(len(a), bool)
    x, y = a[both].astype(np.float64), b[both].astype(np.float64)
    greatest = _RELATIVE * np.abs(x) if FACTS[name].type == NUMBER else 0
    differs[both] = np.abs(x - y) > np.maximum(greatest, least)
    return differs


def _is_comparable(name: str, mine: Columns, theirs: Columns) -> Mask:
    """Where positions have one unit, and times are both in UTC or both as a clock showed them."""
    if name.startswith("stage_"):
        a, b = mine["stage_unit"], theirs["stage_unit"]
        return np.asarray((a == b) | (a == "") | (b == ""), bool)
    if name == "acquired":
        a, b = mine["acquired_offset"], theirs["acquired_offset"]
        is_silent = _is_null(name, mine[name])
        return np.asarray(((a == "") == (b == "")) | is_silent, bool)
    return np.ones(len(mine[name]), bool)
