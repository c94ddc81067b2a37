"""Gaps in numbered labels: numbers that no file has, while the others follow each other. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors.notes import Note

_LEAST_LABELS = 4
_REGULAR = 0.7
"""Share of equal steps from which labels count as numbered one after the other."""
_SHOWN = 3


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


def _absent(labels: Sequence[object]) -> list[int]:
    """The numbers that are missing in a sequence that is regular otherwise."""
    if len(labels) < _LEAST_LABELS or not all(type(label) is int for label in labels):
        return []
    if max(map(abs, labels)) >= 2**62:  # type: ignore[arg-type]
        return []
    numbers = np.array(labels, np.int64)
    steps = np.diff(numbers)
    (step, n_regular), *_ = Counter(steps.tolist()).most_common(1)
    n_absent = (int(numbers[-1]) - int(numbers[0])) // step + 1 - len(numbers)
    if n_regular < _REGULAR * len(steps) or (steps % step).any() or n_absent > len(numbers):
        return []
    present = set(numbers.tolist())
    return [n for n in range(int(numbers[0]), int(numbers[-1]), step) if n not in present]
