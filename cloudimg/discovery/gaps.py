"""Gaps in regular labels: numbers or times that no file has, while others follow. Pure."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors.notes import Note
from cloudimg.pattern import Label

_LEAST_LABELS = 4
_REGULAR = 0.7
"""Share of equal steps from which labels count as numbered one after the other."""
_SHOWN = 3
_MICROSECOND = datetime.timedelta(microseconds=1)
_FLOAT_STEP = 1e-6
"""Unit in which labels with fractions are counted, since 0.1 + 0.2 is not 0.3."""


def notes_of_gaps(grid: FileGrid) -> Iterator[Note]:
    """Yield a note if numbers along an axis are missing altogether.

    Such files are not holes of the grid, which has no index for them: the image is shorter.
    """
    found = []
    for name, labels in zip(grid.fields, grid.labels, strict=True):
        absent = _absent(labels)
        if absent:
            shown = ", ".join(map(str, absent[:_SHOWN]))
            more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
            found.append(f"{name} has no {shown}{more}")
    if found:
        text = f"{'; '.join(found)}: the image has no place for them"
        yield Note(text, kind="gaps-in-labels", n_files=1, urls=())


def _absent(labels: Sequence[Label]) -> list[Label]:
    """The numbers and times that are missing in a sequence that is regular otherwise."""
    counts = _counted(labels) if len(labels) >= _LEAST_LABELS else None
    if counts is None or max(map(abs, counts)) >= 2**62:
        return []
    numbers = np.array(counts, np.int64)
    steps = np.diff(numbers)
    (step, n_regular), *_ = Counter(steps.tolist()).most_common(1)
    n_absent = (int(numbers[-1]) - int(numbers[0])) // step + 1 - len(numbers)
    if n_regular < _REGULAR * len(steps) or (steps % step).any() or n_absent > len(numbers):
        return []
    present = set(counts)
    missing = (n for n in range(counts[0], counts[-1], step) if n not in present)
    return [_label(n - counts[0], labels[0]) for n in missing]


def _counted(labels: Sequence[Any]) -> list[int] | None:
    """Labels of one kind as whole numbers of a unit, in their order; None of texts."""
    first = labels[0]
    if all(type(label) is int for label in labels):
        return list(labels)
    if all(isinstance(label, float) and math.isfinite(label) for label in labels):
        return [round(label / _FLOAT_STEP) for label in labels]
    if isinstance(first, datetime.datetime | datetime.timedelta):
        return [(label - first) // _MICROSECOND for label in labels]
    return None


def _label(units: int, first: Label) -> Label:
    """The label that is some units, see `_counted`, after the first one."""
    if isinstance(first, datetime.datetime | datetime.timedelta):
        return first + units * _MICROSECOND
    if isinstance(first, float):
        return round(first + units * _FLOAT_STEP, 6) + 0.0  # not -0.0
    assert isinstance(first, int)
    return first + units
