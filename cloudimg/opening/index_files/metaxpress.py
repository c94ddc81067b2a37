"""MetaXpress (ImageXpress): the .HTD of a plate, lines of a quoted name and its values.

It has the names of the wavelengths, and which wells and sites were planned, with how many planes
and times. Positions and times are only in the images.

Facts: files of MetaXpress 6, and bio-formats.readthedocs.io, "Molecular Devices ImageXpress".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import counted
from cloudimg.opening.index_files.content import Content, well_label
from cloudimg.opening.index_files.objects import IndexObject

_MOST_BYTES = 2**22
_MOST_COUNT = 10**6
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned for a plate."""

    channels: Mapping[int, str]
    """Names of the wavelengths that were taken, by number."""
    counts: Mapping[str, int]
    """Numbers of times, planes and sites, by the axis that they are."""
    wells: frozenset[str]


def read_htd(
    content: Content, found: IndexObject, rows: npt.NDArray[np.int64], channel: str | None
) -> None:
    """Read a .HTD.

    Parameters
    ----------
    content : Content
    found : IndexObject
    rows : ndarray
        Positions of the files of its plate.
    channel : str, optional
        Number of the channel of all files, if they are of one.

    Raises
    ------
    ValueError, LimitError, ChangedError, StorageError
    """
    planned = parse_htd(found.whole(_MOST_BYTES))
    grid = content.grid
    if "c" in grid.fields:
        axis = grid.fields.index("c")
        names = np.array([planned.channels.get(_as_int(each), "") for each in grid.labels[axis]])
        of_rows = names[np.unravel_index(rows, grid.shape)[axis]]
    else:
        of_rows = np.full(len(rows), planned.channels.get(_as_int(channel), ""))
    if (of_rows != "").any():
        content.add_columns(rows, {"channel": of_rows})
    if len(rows) == grid.n_files:
        content.remarks += differences(planned, grid.fields, grid.labels)


def parse_htd(data: bytes) -> Planned:
    """Return what the content of a .HTD says.

    Raises
    ------
    ValueError
    """
    values: dict[str, list[str]] = {}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    try:
        for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True):
            if not values and row[:1] != ["HTSInfoFile"]:
                raise ValueError('it does not begin with "HTSInfoFile"')
            if row:
                values.setdefault(row[0], [each.strip() for each in row[1:]])
    except csv.Error as exc:
        raise ValueError(f"its lines are not comma-separated values: {exc}") from exc
    if not values:
        raise ValueError("it is empty")
    n_channels = _count(values, "NWavelengths")
    channels = {
        i: name
        for i in range(1, min(n_channels, len(values)) + 1)
        if (name := _first(values, f"WaveName{i}")) and _first(values, f"WaveCollect{i}") != "0"
    }
    counts = {"t": _count(values, "TimePoints"), "field": _n_true(values, "SiteSelection")}
    if _first(values, "ZSeries").upper() == "TRUE":
        counts["z"] = _count(values, "ZSteps")
    return Planned(channels, {axis: n for axis, n in counts.items() if n}, _wells(values))


def differences(
    planned: Planned, fields: Sequence[str], labels: Sequence[Sequence[Any]]
) -> list[str]:
    """Return what was planned and has no files along the axes, each as a part of a sentence."""
    found = dict(zip(fields, labels, strict=True))
    parts = []
    if "c" in found:
        known = set(map(_as_int, found["c"]))
        lacking = [f"{i} ({name})" for i, name in planned.channels.items() if i not in known]
        parts += [f"channel {_listed(lacking)}"] if lacking else []
    if "well" in found:
        known_wells = set(map(_plain_well, found["well"]))
        lacking = sorted(planned.wells - known_wells)
        parts += [f"well {_listed(lacking)}"] if lacking else []
    titles = {"t": "time", "z": "plane along z", "field": "site"}
    for axis, n in planned.counts.items():
        if axis in found and len(found[axis]) < n:
            parts.append(f"{counted(n - len(found[axis]), titles[axis])} of {n}")
    if not parts:
        return []
    return [f"it plans more than the files have: {'; '.join(parts)}"]


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _first(values: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(values.get(name, ())), "")


def _count(values: Mapping[str, Sequence[str]], name: str) -> int:
    return min(max(0, _as_int(_first(values, name))), _MOST_COUNT)


def _as_int(value: Any) -> int:
    """A whole number; -1 for anything else."""
    return int(value) if re.fullmatch(r"\d{1,9}", str(value), re.ASCII) else -1


def _n_true(values: Mapping[str, Sequence[str]], name: str) -> int:
    """Number of TRUE in the numbered rows of a table."""
    rows = (each for key, each in values.items() if re.fullmatch(rf"{name}\d+", key))
    return sum(flag.upper() == "TRUE" for row in rows for flag in row)


def _wells(values: Mapping[str, Sequence[str]]) -> frozenset[str]:
    wells = set()
    for key, flags in values.items():
        row = re.fullmatch(r"WellsSelection(\d{1,2})", key, re.ASCII)
        for column, flag in enumerate(flags if row else (), 1):
            label = well_label(row[1], column) if row and flag.upper() == "TRUE" else None
            wells |= {label} if label else set()
    return frozenset(wells)


def _plain_well(label: Any) -> str:
    """The label of a well as `well_label` writes it."""
    match = re.fullmatch(r"([A-Za-z]{1,2})(\d{1,2})", str(label), re.ASCII)
    return f"{match[1].upper()}{int(match[2]):02d}" if match else str(label)
