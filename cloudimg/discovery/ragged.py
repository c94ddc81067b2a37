"""Holes of a grid that two axes explain, such as channels with fewer planes than others. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors.notes import Note
from cloudimg.pattern import Label

_MOST_PLACES = 10**7
"""Largest grid that is looked at."""
_SHOWN = 4
_FIRST = ("c", "channel", "band", "well", "field", "position")
"""Axes whose labels a text names first, each with its labels of other axes."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """Labels of one axis that have files for some labels of another axis only."""

    text: str
    """Which labels these are, such as ``c=2 and c=3 have only z=1``."""
    advice: tuple[str, ...]
    """Arguments that select a part without holes."""

    def note(self, n_missing: int) -> Note:
        """The note for an image whose holes are filled."""
        return Note(
            f"{self.text}: {n_missing} places of the image have no file and are filled",
            kind="ragged-axes",
            n_files=1,
            urls=(),
        )


def find_ragged(grid: FileGrid) -> Ragged | None:
    """Return which two axes explain all holes of a grid; None if there are no such axes."""
    if grid.present is None or grid.present.size > _MOST_PLACES:
        return None
    fields = sorted(enumerate(grid.fields), key=lambda each: _rank(each[1]))
    for (axis, name), (other, of) in permutations(fields, 2):
        rest = tuple(set(range(grid.present.ndim)) - {axis, other})
        has = np.asarray(grid.present.any(axis=rest))
        if (has != grid.present.all(axis=rest)).any():
            continue
        has = has if axis < other else has.T
        if math.prod(grid.shape) == has.size and not _end_early(has):
            continue
        return _described(name, grid.labels[axis], of, grid.labels[other], has)
    return None


def _end_early(has: npt.NDArray[np.bool_]) -> bool:
    """Whether several places are empty, and only at the ends of rows.

    Without further axes, two axes explain any holes, also those of files that were lost.
    """
    has_gap = (has[:, 1:] & ~has[:, :-1]).any()
    return bool(np.count_nonzero(~has) > 1 and not has_gap)


def _rank(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _described(
    name: str, labels: Sequence[Label], of: str, others: Sequence[Label], has: npt.NDArray[np.bool_]
) -> Ragged:
    groups: dict[tuple[Label, ...], list[Label]] = {}
    for label, row in zip(labels, has, strict=True):
        if not row.all():
            groups.setdefault(tuple(np.array(others, object)[row]), []).append(label)
    parts = [
        f"{_named(name, members)} {'has' if len(members) == 1 else 'have'}"
        f" {f'only {_named(of, kept)}' if kept else 'no files'}"
        for kept, members in groups.items()
    ]
    more = f", and {len(parts) - _SHOWN} more kinds" if len(parts) > _SHOWN else ""
    whole = (
        (name, [label for label, row in zip(labels, has, strict=True) if row.all()]),
        (of, [label for label, column in zip(others, has.T, strict=True) if column.all()]),
    )
    advice = (each for axis, kept in whole for each in _selecting(axis, kept))
    return Ragged(", ".join(parts[:_SHOWN]) + more, tuple(advice))


def _named(axis: str, labels: Sequence[Label]) -> str:
    shown = [f"{axis}={label}" for label in labels[:_SHOWN]]
    if len(labels) > _SHOWN:
        return f"{', '.join(shown)} and {len(labels) - _SHOWN} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _selecting(axis: str, labels: Sequence[Label]) -> Iterator[str]:
    """Yield the argument that selects some labels, if there are a few that can be written."""
    if 0 < len(labels) <= _SHOWN and all(isinstance(each, int | str) for each in labels):
        chosen = labels[0] if len(labels) == 1 else list(labels)
        yield f"select={json.dumps({axis: chosen}, ensure_ascii=False)}"
