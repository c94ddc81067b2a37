"""Convert values of any type to plain JSON values. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_plain(value: Any, *, finite_only: bool = False) -> Any:
    """Convert a value to one that JSON can represent.

    Times become ISO 8601, durations seconds, arrays lists, complex numbers pairs, bytes Latin-1
    text. Values of other types become their `str`.

    Parameters
    ----------
    value : object
    finite_only : bool
        Convert NaN and infinities to None; by default they become text that `float` can parse.
    """
    if isinstance(value, np.ndarray | np.generic):
        return _plain_array(value, finite_only)
    if isinstance(value, Mapping):
        return {str(key): to_plain(each, finite_only=finite_only) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(each, finite_only=finite_only) for each in value]
    if isinstance(value, complex):
        return to_plain([value.real, value.imag], finite_only=finite_only)
    if isinstance(value, float) and not math.isfinite(value):
        return None if finite_only else str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return _as_text(value)


def _plain_array(value: Any, finite_only: bool) -> Any:
    if value.dtype.kind not in "mM":
        return to_plain(value.tolist(), finite_only=finite_only)
    # Only the text of a datetime64 keeps its precision.
    return [_plain_array(each, finite_only) for each in value] if value.ndim else str(value)


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
