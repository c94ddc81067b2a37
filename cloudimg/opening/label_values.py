"""Values of a user, compared with labels: numbers, times, spans of time, texts of ranges. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

N_SHOWN = 3
"""Labels that a message shows of each end."""
_RANGE = re.compile(r"(-?\d*):(-?\d*)(?::(\d+))?")


def as_python(value: Any) -> Any:
    """A value of NumPy or pandas as one of Python, except times."""
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":
        return value.item()
    return value


def as_time(value: Any) -> np.datetime64:
    """A time in UTC, as coordinates have it."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(value, int | float):
        raise TypeError
    return np.datetime64(value, "us")


def as_span(value: Any, labels: npt.NDArray[Any]) -> np.timedelta64:
    """A time from the start, as coordinates have it; a text as Python shows it."""
    if isinstance(value, str):
        return {str(each): np.timedelta64(each, "us") for each in labels.tolist()}[value]
    if isinstance(value, int | float):
        raise TypeError
    return np.timedelta64(value, "us")


def ranges_in(text: str) -> Iterator[slice]:
    """The slices that a text may be: times have colons, too."""
    if match := _RANGE.fullmatch(text):
        start, stop, step = match.groups()
        yield slice(start or None, stop or None, int(step) if step else None)
        return
    for found in re.finditer(":", text):
        yield slice(text[: found.start()] or None, text[found.end() :] or None)


def nearest(value: Any, labels: npt.NDArray[Any] | None) -> list[str]:
    """The labels nearest to a number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return []
    if labels is None or labels.dtype.kind not in "iuf":
        return []
    order = np.argsort(np.abs(labels - number), kind="stable")[:N_SHOWN]
    return [str(each) for each in sorted(labels[order].tolist())]


def abridged(texts: Sequence[str]) -> str:
    if len(texts) <= 2 * N_SHOWN:
        return ", ".join(texts)
    return f"{', '.join(texts[:N_SHOWN])}, ..., {texts[-1]} ({len(texts)} in all)"
