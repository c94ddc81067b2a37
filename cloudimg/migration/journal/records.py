"""The journal of a migration: the plan that it follows, and a receipt for each finished cell.

A receipt is written after everything that its cell stores, so that a cell with a receipt is done
and one without is done again, as a whole: its objects come out the same, byte for byte.

What the journal holds is sealed with a checksum of its own, and receipts name the plan that they
are of: a worker that outlived an earlier migration to the same place may still write some.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.destination import JOURNAL, Destination, as_json
from cloudimg.migration.journal.sealing import get_sealed, put_sealed
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import engine

PLAN = f"{JOURNAL}/plan.json"
"""What is to be written, from what, with which arguments: the first object of a migration."""
_CELLS = f"{JOURNAL}/cells"
_AHEAD = 64


# ---------------------------------------------------------------------------------------- receipts


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One shard (of a chunk, in Zarr 2) as it was stored."""

    key: str
    """Relative to the destination."""
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """What a cell stored at one level."""

    level: int
    pixels_sha256: str
    """Of the region's pixels, little-endian, in C order of the plan's dims."""
    empty: str
    """Base64 of bits, one per chunk of the cell in C order: 1 where a chunk is all fill value."""
    objects: tuple[StoredObject, ...]
    """Empty chunks and shards are not stored."""


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """That a cell is finished, and what came of it."""

    stage: int
    number: int
    levels: tuple[StoredLevel, ...]
    sources: Mapping[str, str | None]
    """ETag by key of each file that was read."""
    histograms: tuple[Histogram, ...]
    """Of level 0 by channel of the cell; none in later stages."""
    first_channel: int
    """Which channel of the image the first histogram is of."""
    originals: StoredObject | None
    """This cell's part of the table of originals, where it has one."""
    plan_id: str
    """Of the plan that the cell is of; see `state.State`."""

    @property
    def n_bytes(self) -> int:
        """Stored bytes."""
        return sum(each.size_bytes for level in self.levels for each in level.objects)

    def objects(self) -> Iterator[StoredObject]:
        """All that the cell stored, the part of the table too."""
        for level in self.levels:
            yield from level.objects
        if self.originals is not None:
            yield self.originals

    def digest(self) -> bytes:
        """Of all that it says; not of its JSON, as each version of zlib packs in its own way."""
        histograms = [
            [each.kind, _sha256(each.bins), _sha256(each.counts), repr((each.least, each.greatest))]
            for each in self.histograms
        ]
        return hashlib.sha256(as_json(self._with(histograms))).digest()

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return self._with([each.to_json() for each in self.histograms])

    def _with(self, histograms: list[Any]) -> dict[str, Any]:
        return {
            "plan": self.plan_id,
            "stage": self.stage,
            "number": self.number,
            "levels": [
                {
                    "level": level.level,
                    "pixels_sha256": level.pixels_sha256,
                    "empty": level.empty,
                    "objects": [_as_list(each) for each in level.objects],
                }
                for level in self.levels
            ],
            "sources": dict(self.sources),
            "histograms": histograms,
            "first_channel": self.first_channel,
            "originals": None if self.originals is None else _as_list(self.originals),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The receipt again."""
        levels = tuple(
            StoredLevel(
                level["level"],
                level["pixels_sha256"],
                level["empty"],
                tuple(StoredObject(*item) for item in level["objects"]),
            )
            for level in found["levels"]
        )
        histograms = tuple(Histogram.from_json(each) for each in found["histograms"])
        return cls(
            found["stage"],
            found["number"],
            levels,
            dict(found["sources"]),
            histograms,
            found["first_channel"],
            None if found["originals"] is None else StoredObject(*found["originals"]),
            found["plan"],
        )


def _as_list(stored: StoredObject) -> list[Any]:
    return [stored.key, stored.size_bytes, stored.sha256]


def _sha256(values: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def record_key(stage: int, number: int) -> str:
    """Where the receipt of a cell lies."""
    return f"{_CELLS}/{stage}/{number:09d}.json"


def cell_of(key: str, plan: Plan) -> tuple[int, int] | None:
    """Stage and number of the cell whose receipt lies at a key; None where it is no such key."""
    stage, _, name = key.removeprefix(f"{_CELLS}/").partition("/")
    number = name.removesuffix(".json")
    if not (stage.isdecimal() and number.isdecimal()):
        return None
    cell = int(stage), int(number)
    is_planned = cell[0] < len(plan.stages) and cell[1] < plan.n_cells(cell[0])
    return cell if is_planned and record_key(*cell) == key else None


def write_record(destination: Destination, record: CommitRecord) -> None:
    """Tell that a cell is finished."""
    put_sealed(destination, record_key(record.stage, record.number), record.to_json())


def read_record(destination: Destination, stage: int, number: int) -> CommitRecord | None:
    """The receipt of a cell, None where there is none. It may be of another plan.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    key = record_key(stage, number)
    found = get_sealed(destination, key)
    if found is None:
        return None
    try:
        record = CommitRecord.from_json(found)
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error):
        record = None
    if record is None or (record.stage, record.number) != (stage, number):
        url = destination.display(key)
        raise CorruptFileError(f"{url} is damaged: no receipt of cell {number}", url=url) from None
    return record


def _read_sound(destination: Destination, stage: int, number: int) -> CommitRecord | None:
    try:
        return read_record(destination, stage, number)
    except CorruptFileError:
        return None


def read_records(
    destination: Destination, stage: int, numbers: Iterator[int]
) -> Iterator[tuple[int, CommitRecord | None]]:
    """Receipts of many cells, in order, fetched some ahead; None where missing or damaged."""
    waiting: list[tuple[int, Any]] = []
    for number in numbers:
        task = partial(_read_sound, destination, stage, number)
        waiting.append((number, engine().fetch(task)))
        if len(waiting) > _AHEAD:
            first, future = waiting.pop(0)
            yield first, future.result()
    for number, future in waiting:
        yield number, future.result()


# --------------------------------------------------------------------------------- what was written
