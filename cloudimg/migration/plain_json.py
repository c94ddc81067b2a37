"""Convert values of any type to plain JSON values. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def to_plain(
    value: Any, *, finite_only: bool = False, of_bytes: Callable[[bytes], Any] | None = None
) -> Any:
    """Convert a value to one that JSON can represent.

    Times become ISO 8601, durations seconds, arrays lists, complex numbers pairs. Values of other
    types become their `str`.

    Parameters
    ----------
    value : object
    finite_only : bool
        Convert NaN and infinities to None; by default they become text that `float` can parse.
    of_bytes : callable, optional
        Converts bytes; by default they become Latin-1 text.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return convert(_unpacked(value))
        if isinstance(value, list | tuple | set | frozenset):
            return [convert(each) for each in value]
        if isinstance(value, Mapping):
            return {str(key): convert(each) for key, each in value.items()}
        if isinstance(value, complex):
            return convert([value.real, value.imag])
        if isinstance(value, float) and not math.isfinite(value):
            return None if finite_only else str(value)
        if value is None or isinstance(value, str | bool | float):
            return value
        if isinstance(value, int):
            return int(value)  # enumerations of libraries are integers
        if isinstance(value, bytes | bytearray):
            return of_bytes(bytes(value)) if of_bytes else value.decode("latin-1")
        return _as_text(value)

    return convert(value)


def _unpacked(value: Any) -> Any:
    """The values of an array in lists, or that of a scalar."""
    if value.dtype.kind not in "mM":
        return value.tolist()
    if value.dtype.kind == "m":
        return (value / np.timedelta64(1, "s")).tolist()
    # Only the text of a datetime64 keeps its precision.
    return [_unpacked(each) for each in value] if value.ndim else str(value)


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return str(value)
