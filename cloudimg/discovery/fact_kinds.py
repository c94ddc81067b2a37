"""Which facts of files have columns in the table of files, and what stands for null. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    "stage_flip": FactKind(TEXT, "axes along which positions fall while pixels are counted up: y"),
    "acquired": FactKind(TIME, "UTC where acquired_offset is known, else as the file has it"),
    "acquired_offset": FactKind(TEXT, "offset of the file's own time from UTC, such as +02:00"),
    "elapsed_s": FactKind(NUMBER, "seconds from the start of the acquisition to the first plane"),
    "exposure_s": FactKind(NUMBER, "exposure of each plane in seconds"),
    "channel": FactKind(TEXT, "name of the only channel"),
    "objective": FactKind(TEXT, "name of the objective"),
    "magnification": FactKind(NUMBER, "nominal magnification of the objective"),
    "well": FactKind(TEXT, "well of a plate, such as B03"),
}
"""Kinds of the columns by name."""
NO_TIME = -(2**63)
"""Number of NaT."""
NO_CODE = -1
"""Stands for the number of a text that is not known."""
DTYPES: Mapping[str, Any] = {NUMBER: np.float64, TEXT: np.int32, TIME: np.int64}
"""Types of the plain numbers of a column, by kind."""
_NULLS: Mapping[str, array[Any]] = {
    NUMBER: array("d", [math.nan]),
    TEXT: array("i", [NO_CODE]),
    TIME: array("q", [NO_TIME]),
}


def null_of(name: str) -> float:
    """The value of a fact that is not known: NaN, the number of NaT, or the number of no text."""
    null: float = _NULLS[FACTS[name].type][0]
    return null


def nulls(name: str, count: int) -> array[Any]:
    """Values of a column in rows without the fact."""
    return _NULLS[FACTS[name].type] * count
