"""Commit records: one for each finished cell, with digests of everything the cell stored.

A cell's commit record is written after all its objects. A cell with a commit record is finished;
one without is done again as a whole and stores the same bytes.

Commit records name their plan: a worker that outlived an earlier migration to the same destination
may still write some.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.errors.file_report import BadFile
from cloudimg.errors.notes import Note, notes_as_json, notes_from_json
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.destination import JOURNAL, Destination, as_json
from cloudimg.migration.journal.sealing import get_sealed, put_sealed
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import engine, map_ahead

_CELLS = f"{JOURNAL}/cells"
"""Folder of the commit records."""
_READ_AHEAD = 64
"""Commit records that are requested before they are needed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored object: a shard (in Zarr 2, a chunk) or a part of the table of originals."""

    key: str
    """Relative to the destination."""
    size_bytes: int
    """Size in bytes."""
    sha256: str
    """SHA-256 of the stored bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """What a cell stored at one level."""

    level: int
    """Number of the level."""
    pixels_sha256: str
    """SHA-256 of the region's pixels, little-endian, in C order of the plan's dims."""
    empty: str
    """Base64 of bits, one per chunk of the cell in C order: 1 if all pixels are the fill value."""
    objects: tuple[StoredObject, ...]
    """Stored objects. Empty chunks and shards are not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """Record of a finished cell: what it read and what it stored."""

    stage: int
    """Stage of the cell."""
    number: int
    """Number of the cell in its stage."""
    levels: tuple[StoredLevel, ...]
    """What was stored, by level."""
    sources: Mapping[str, str | None]
    """ETag by key of each source file that was read."""
    histograms: tuple[Histogram, ...]
    """Histograms of level 0, one for each channel in the cell; none in later stages."""
    first_channel: int
    """Channel of the image that the first histogram belongs to."""
    originals: StoredObject | None
    """The cell's part of the table of originals; None if the cell has none."""
    plan_id: str
    """`State.id` of the migration that the cell belongs to."""
    notes: tuple[Note, ...] = ()
    """What the cell noticed about source files, each of which is counted by one cell only."""
    filled: tuple[BadFile, ...] = ()
    """Bad files in the cell, and the first missing ones whose first pixel lies in it."""
    n_missing: int = 0
    """Number of missing files whose first pixel lies in the cell."""

    @property
    def n_bytes(self) -> int:
        """Stored bytes, without the table of originals."""
        return sum(stored.size_bytes for level in self.levels for stored in level.objects)

    def objects(self) -> Iterator[StoredObject]:
        """All objects that the cell stored, including its part of the table of originals."""
        for level in self.levels:
            yield from level.objects
        if self.originals is not None:
            yield self.originals

    def digest(self) -> bytes:
        """SHA-256 of the record's values.

        Not of its JSON, which holds data compressed with zlib and so depends on zlib's version.
        """
        histograms = [
            [each.kind, _sha256(each.bins), _sha256(each.counts), repr((each.least, each.greatest))]
            for each in self.histograms
        ]
        return hashlib.sha256(as_json(self._to_json(histograms))).digest()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON for the journal."""
        return self._to_json([each.to_json() for each in self.histograms])

    def _to_json(self, histograms: list[Any]) -> dict[str, Any]:
        return {
            "plan": self.plan_id,
            "stage": self.stage,
            "number": self.number,
            "levels": [
                {
                    "level": level.level,
                    "pixels_sha256": level.pixels_sha256,
                    "empty": level.empty,
                    "objects": [_as_list(stored) for stored in level.objects],
                }
                for level in self.levels
            ],
            "sources": dict(self.sources),
            "histograms": histograms,
            "first_channel": self.first_channel,
            "originals": None if self.originals is None else _as_list(self.originals),
            **notes_as_json("notes", self.notes),
            **self._filled_json(),
        }

    def _filled_json(self) -> dict[str, Any]:
        """What was filled; nothing in records of cells without such files."""
        if not self.filled:
            return {}
        rows = [[file.url, file.kind, file.text] for file in self.filled]
        return {"filled": rows, "n_missing": self.n_missing}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Make a record from its JSON."""
        levels = tuple(
            StoredLevel(
                level["level"],
                level["pixels_sha256"],
                level["empty"],
                tuple(StoredObject(*values) for values in level["objects"]),
            )
            for level in content["levels"]
        )
        originals = content["originals"]
        return cls(
            stage=content["stage"],
            number=content["number"],
            levels=levels,
            sources=dict(content["sources"]),
            histograms=tuple(Histogram.from_json(each) for each in content["histograms"]),
            first_channel=content["first_channel"],
            originals=None if originals is None else StoredObject(*originals),
            plan_id=content["plan"],
            notes=notes_from_json(content, "notes"),
            filled=tuple(BadFile(*row) for row in content.get("filled", ())),
            n_missing=content.get("n_missing", 0),
        )


def _as_list(stored: StoredObject) -> list[Any]:
    return [stored.key, stored.size_bytes, stored.sha256]


def _sha256(values: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def record_key(stage: int, number: int) -> str:
    """Key of a cell's commit record."""
    return f"{_CELLS}/{stage}/{number:09d}.json"


def cell_of(key: str, plan: Plan) -> tuple[int, int] | None:
    """Stage and number of the cell whose commit record has a key; None for any other key."""
    stage, _, name = key.removeprefix(f"{_CELLS}/").partition("/")
    number = name.removesuffix(".json")
    if not (stage.isdecimal() and number.isdecimal()):
        return None
    cell = int(stage), int(number)
    is_planned = cell[0] < len(plan.stages) and cell[1] < plan.n_cells(cell[0])
    return cell if is_planned and record_key(*cell) == key else None


def write_record(destination: Destination, record: CommitRecord) -> None:
    """Store a commit record, which marks its cell as finished."""
    put_sealed(destination, record_key(record.stage, record.number), record.to_json())


def read_record(destination: Destination, stage: int, number: int) -> CommitRecord | None:
    """Read the commit record of a cell, possibly of another plan; None if there is none.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    key = record_key(stage, number)
    content = get_sealed(destination, key)
    if content is None:
        return None
    url = destination.display(key)
    message = f"{url} is damaged: not a commit record of cell {number}"
    try:
        record = CommitRecord.from_json(content)
    except (KeyError, TypeError, ValueError, zlib.error) as exc:
        raise CorruptFileError(message, url=url) from exc
    if (record.stage, record.number) != (stage, number):
        raise CorruptFileError(message, url=url)
    return record


def read_records(
    destination: Destination, stage: int, numbers: Iterable[int]
) -> Iterator[tuple[int, CommitRecord | None]]:
    """Read the commit records of many cells, in order; None for missing and damaged ones."""

    def start(number: int) -> Future[tuple[int, CommitRecord | None]]:
        return engine().fetch(partial(_read_numbered, destination, stage, number))

    return map_ahead(start, numbers, n_ahead=_READ_AHEAD)


def _read_numbered(
    destination: Destination, stage: int, number: int
) -> tuple[int, CommitRecord | None]:
    try:
        return number, read_record(destination, stage, number)
    except CorruptFileError:
        return number, None
