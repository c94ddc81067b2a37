"""Commit records: one for each finished cell, with digests of everything the cell stored.

A cell's commit record is written after all its objects. A cell with a commit record is finished;
one without is done again as a whole and stores the same bytes.

Commit records name their plan: a worker that outlived an earlier migration to the same destination
may still write some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.errors.checked_json import damage
from cloudimg.errors.file_report import BadFile
from cloudimg.errors.notes import Note, notes_as_json
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.files_read import FilesRead
from cloudimg.migration.journal.layout import RECORDS
from cloudimg.migration.journal.record_from_json import checked_record
from cloudimg.migration.journal.sealing import get_sealed_with_etag, packed, seal, unsealed
from cloudimg.migration.journal.stored_objects import StoredLevel, StoredObject, create_object
from cloudimg.migration.metadata.image_place import ImagePlace
from cloudimg.migration.metadata.originals import part_key
from cloudimg.migration.metadata.source_xml import SourceXml
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import Data, engine, map_ahead

_READ_AHEAD = 64
"""Commit records that are requested before they are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """Record of a finished cell: what it read and what it stored."""

    stage: int
    """Stage of the cell."""
    number: int
    """Number of the cell in its stage."""
    levels: tuple[StoredLevel, ...]
    """What was stored, by level."""
    files: FilesRead | None
    """The source files that were read; None of cells that read none."""
    histograms: tuple[Histogram, ...]
    """Histograms of level 0, one for each channel in the cell, image by image; none in later
    stages."""
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
    ome_xml: tuple[SourceXml, ...] = ()
    """OME-XML of the files whose first pixel lies in the cell, as far as it is kept."""
    places: tuple[ImagePlace, ...] = ()
    """Where the images of a collection lie whose first pixel lies in the cell, if files say it."""
    sources: Mapping[str, str | None] | None = None
    """In records of older versions, instead of `files`: ETag by key of each file that was read."""
    etag: str | None = None
    """Version of the stored record, which is not part of it; None before it is stored."""

    @property
    def n_bytes(self) -> int:
        """Stored bytes, without the table of originals."""
        return sum(stored.size_bytes for level in self.levels for stored in level.objects)

    def pixels(self) -> tuple[str, ...]:
        """What tells cells with the same pixels: their plan, and the digest of each level."""
        return (self.plan_id, *(level.pixels_sha256 for level in self.levels))

    def objects(self) -> Iterator[StoredObject]:
        """All objects that the cell stored, including its part of the table of originals."""
        for level in self.levels:
            yield from level.objects
        if self.originals is not None:
            yield self.originals

    def digest(self) -> bytes:
        """SHA-256 of the record's values, which are the same wherever the cell is done.

        Not of the stored bytes, which are compressed with zlib and so depend on zlib's version, and
        not of the versions of the stored objects.
        """
        histograms = [
            [each.kind, _sha256(each.bins), _sha256(each.counts), repr((each.least, each.greatest))]
            for each in self.histograms
        ]
        unversioned = replace(
            self,
            levels=tuple(
                replace(level, objects=tuple(replace(each, etag=None) for each in level.objects))
                for level in self.levels
            ),
            originals=None if self.originals is None else replace(self.originals, etag=None),
        )
        texts = [[hashlib.sha256(each.text).hexdigest(), each.files] for each in self.ome_xml]
        return hashlib.sha256(as_json(unversioned._to_json(histograms, texts))).digest()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON for the journal."""
        texts = [each.to_json() for each in self.ome_xml]
        return self._to_json([each.to_json() for each in self.histograms], texts)

    def _to_json(self, histograms: list[Any], ome_xml: list[Any]) -> dict[str, Any]:
        return {
            "plan": self.plan_id,
            "stage": self.stage,
            "number": self.number,
            "levels": [level.to_json() for level in self.levels],
            **self._files_json(),
            "histograms": histograms,
            "first_channel": self.first_channel,
            "originals": None if self.originals is None else self.originals.to_json(),
            **notes_as_json("notes", self.notes),
            **self._filled_json(),
            **({"ome_xml": ome_xml} if ome_xml else {}),
            **({"places": [each.to_json() for each in self.places]} if self.places else {}),
        }

    def _files_json(self) -> dict[str, Any]:
        if self.sources is not None:
            return {"sources": dict(self.sources)}
        return {} if self.files is None else {"files": self.files.to_json()}

    def _filled_json(self) -> dict[str, Any]:
        """What was filled; nothing in records of cells without such files."""
        if not self.filled:
            return {}
        rows = [[file.url, file.kind, file.text] for file in self.filled]
        return {"filled": rows, "n_missing": self.n_missing}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Make a record from its JSON.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or has another type or size than it can have.
        """
        return cls(**checked_record(content))


def _sha256(values: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def record_key(stage: int, number: int) -> str:
    """Key of a cell's commit record."""
    return f"{RECORDS}/{stage}/{number:09d}.json"


def cell_of(key: str, plan: Plan) -> tuple[int, int] | None:
    """Stage and number of the cell whose commit record has a key; None for any other key."""
    stage, _, name = key.removeprefix(f"{RECORDS}/").partition("/")
    number = name.removesuffix(".json")
    if not (stage.isdecimal() and number.isdecimal()):
        return None
    cell = int(stage), int(number)
    is_planned = cell[0] < len(plan.stages) and cell[1] < plan.n_cells(cell[0])
    return cell if is_planned and record_key(*cell) == key else None


def lists_own_objects(record: CommitRecord, plan: Plan, *, lists_all: bool) -> bool:
    """Whether `flaws_of_lists` finds none, and the table of originals has the cell's own part."""
    return lists_own_part(record) and not flaws_of_lists(record, plan, lists_all=lists_all)


def flaws_of_lists(record: CommitRecord, plan: Plan, *, lists_all: bool) -> list[str]:
    """What is wrong with the levels and objects that a record lists, as ends of a sentence.

    Parameters
    ----------
    record : CommitRecord
        Of a cell that the plan has.
    plan : Plan
    lists_all : bool
        Whether it also has to list all objects of the cell, as records of this version do.
    """
    cell = plan.cell(record.stage, record.number)
    outputs = plan.outputs(cell)
    if [level.level for level in record.levels] != [output.level for output in outputs]:
        return ["lists other levels than the plan"]
    flaws = []
    for level, output in zip(record.levels, outputs, strict=True):
        own = {key for key, _, _ in objects_of(plan, cell, output)}
        listed = [stored.key for stored in level.objects]
        if not own.issuperset(listed):
            flaws.append(f"lists objects of other cells at level {level.level}")
        elif lists_all and sorted(own) != sorted(listed):
            flaws.append(f"does not list all objects of its cell at level {level.level}")
    return flaws


def lists_own_part(record: CommitRecord) -> bool:
    """Whether a record lists no part of the table of originals but that of its cell."""
    originals = record.originals
    return originals is None or (record.stage, originals.key) == (0, part_key(record.number))


def write_record(destination: Destination, record: CommitRecord, *, fences: bool) -> CommitRecord:
    """Store a commit record, which marks its cell as finished; returns it with its version.

    Without a lease, that of another process counts if its pixels are the same.
    """

    def is_equal(data: Data) -> bool:
        content = unsealed(data)
        try:
            found = None if content is None else CommitRecord.from_json(content)
        except ValueError:
            return False
        if found is not None and destination.only_creates:
            return found.pixels() == record.pixels()
        return (
            found is not None
            and found.digest() == record.digest()
            and list(found.objects()) == list(record.objects())
        )

    stored = create_object(
        destination,
        record_key(record.stage, record.number),
        packed(seal(record.to_json())),
        fences=fences,
        is_equal=is_equal,
    )
    return replace(record, etag=stored.etag)


def read_record(destination: Destination, stage: int, number: int) -> CommitRecord | None:
    """Read the commit record of a cell, possibly of another plan; None if there is none.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    key = record_key(stage, number)
    content, etag = get_sealed_with_etag(destination, key)
    if content is None:
        return None
    url = destination.display(key)
    message = f"{url} is damaged: not a commit record of cell {number}"
    try:
        record = replace(CommitRecord.from_json(content), etag=etag)
    except ValueError as exc:
        raise CorruptFileError(f"{message}: {damage(exc)}", url=url) from exc
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
