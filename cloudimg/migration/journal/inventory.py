"""Digests of all objects and all commit records of a copy, and its end mark.

The end mark is the last object of a migration. As long as one listing of the destination gives the
objects digest that the end mark holds, nothing has to be done again.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.errors.checked_json import (
    SHA256,
    checked_int,
    checked_notes,
    checked_object,
    checked_text,
    damage,
)
from cloudimg.errors.notes import Note, notes_as_json
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.layout import END_MARK, journal_kind
from cloudimg.migration.journal.record_from_json import PLAN_ID
from cloudimg.migration.journal.records import CommitRecord, cell_of, record_key
from cloudimg.migration.journal.sealing import get_sealed
from cloudimg.migration.journal.stored_objects import StoredObject
from cloudimg.migration.plan.places import Place, place_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import Entry

_DIGEST_BYTES = 32


_OPTIONAL_TEXTS = {"plan_sha256": SHA256, "versions_digest": None, "plan_etag": None}
"""Fields of an end mark that need not be there, and what their texts look like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMark:
    """The last object of a migration, which marks it as finished."""

    plan_id: str
    """`State.id` of the migration."""
    n_cells: int
    """Number of cells in all stages."""
    records_digest: str
    """Digest of all commit records; see `RecordsDigest`."""
    objects_digest: str
    """Digest of the names and sizes of all objects; see `ObjectsDigest`."""
    notes: tuple[Note, ...] = ()
    """What was noticed about the source's files, at open and by all cells."""
    plan_sha256: str = ""
    """`State.sha256` of the migration; empty in copies of older versions."""
    versions_digest: str = ""
    """Digest of the names, sizes and versions of what the cells stored; empty where the store has
    no versions, and in copies of older versions."""
    plan_etag: str = ""
    """`State.etag` of the migration. Where the plan has another one, the copy was moved, and its
    objects may have other versions, too."""

    def to_json(self) -> dict[str, Any]:
        """The end mark as JSON for the journal."""
        # The keys are those of journals that exist.
        return {
            "plan": self.plan_id,
            "n_cells": self.n_cells,
            "receipts": self.records_digest,
            "inventory": self.objects_digest,
            **notes_as_json("notes", self.notes),
            **{name: text for name in _OPTIONAL_TEXTS if (text := getattr(self, name))},
        }

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Make an end mark from its JSON.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or has another type or size than it can have.
        """
        checked_object(
            content,
            "end mark",
            required=("plan", "n_cells", "receipts", "inventory"),
            optional=("notes", *_OPTIONAL_TEXTS),
        )
        texts = {
            name: checked_text(content[name], name, most=1024, pattern=pattern)
            for name, pattern in _OPTIONAL_TEXTS.items()
            if name in content
        }
        return cls(
            plan_id=checked_text(content["plan"], "plan", pattern=PLAN_ID),
            n_cells=checked_int(content["n_cells"], "n_cells"),
            records_digest=checked_text(content["receipts"], "receipts", pattern=SHA256),
            objects_digest=checked_text(content["inventory"], "inventory", most=256),
            notes=checked_notes(content.get("notes", []), "notes"),
            **texts,
        )


def read_end_mark(destination: Destination) -> EndMark | None:
    """Read the end mark of a migration; None if there is none.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    content = get_sealed(destination, END_MARK)
    if content is None:
        return None
    try:
        return EndMark.from_json(content)
    except ValueError as exc:
        url = destination.display(END_MARK)
        raise CorruptFileError(
            f"{url} is damaged: not the end mark of a migration: {damage(exc)}", url=url
        ) from exc


class ObjectsDigest:
    """Digest of a set of objects by name and size, in constant memory.

    Objects can be added in any order: their own digests are summed.
    """

    def __init__(self) -> None:
        self._n = 0
        self._sum = 0

    def add(self, key: str, size_bytes: int | None, version: str | None = None) -> bytes:
        """Add an object; returns the object's own digest."""
        digest = _object_digest(key, size_bytes, version)
        self._n += 1
        self._sum += int.from_bytes(digest)
        return digest

    def digest(self) -> str:
        """Equal for equal sets of objects. Sums can be forged, so not safe against attackers."""
        return f"{self._n}-{self._sum % 2 ** (8 * _DIGEST_BYTES):064x}"


def _object_digest(key: str, size_bytes: int | None, version: str | None = None) -> bytes:
    facts = [key, size_bytes] if version is None else [key, size_bytes, version]
    return hashlib.sha256(as_json(facts)).digest()


class ObjectVersions:
    """Digest of a set of objects by name, size and version, in constant memory.

    Versions count where all objects of both sets have one: not every store reports them.
    """

    def __init__(self) -> None:
        self._by_size = ObjectsDigest()
        self._by_version = ObjectsDigest()
        self._has_all_versions = True

    def add(self, key: str, size_bytes: int | None, version: str | None) -> None:
        """Add an object."""
        self._by_size.add(key, size_bytes)
        if version is None:
            self._has_all_versions = False
        else:
            self._by_version.add(key, size_bytes, version)

    def digest(self) -> str:
        """Digest of the set; empty where not all objects have a version."""
        return self._by_version.digest() if self._has_all_versions else ""

    def agrees(self, other: ObjectVersions) -> bool:
        """Whether two sets are equal, as far as both know the versions."""
        if self._has_all_versions and other._has_all_versions:
            return self._by_version.digest() == other._by_version.digest()
        return self._by_size.digest() == other._by_size.digest()


class RecordsDigest:
    """Digest of all commit records of a migration, which can be added in any order.

    Takes 32 bytes of memory for each cell.
    """

    def __init__(self, plan: Plan) -> None:
        shapes = [(plan.n_cells(stage), _DIGEST_BYTES) for stage in range(len(plan.stages))]
        self._digests = [np.zeros(shape, np.uint8) for shape in shapes]
        self._objects = ObjectsDigest()
        self.versions = ObjectVersions()
        """Versions of the commit records and of the objects that they list."""

    def add(self, record: CommitRecord) -> None:
        """Add a commit record and the objects that it lists."""
        self.add_digest(record.stage, record.number, record.digest())
        # Without a size: that of a commit record depends on the version of zlib.
        key = record_key(record.stage, record.number)
        self._objects.add(key, None)
        self.versions.add(key, None, record.etag)
        for stored in record.objects():
            self._objects.add(stored.key, stored.size_bytes)
            self.versions.add(stored.key, stored.size_bytes, stored.etag)

    def add_digest(self, stage: int, number: int, digest: bytes) -> None:
        """Add the digest of a commit record, without the objects that it lists."""
        self._digests[stage][number] = np.frombuffer(digest, np.uint8)

    def has(self, stage: int, number: int, record: CommitRecord) -> bool:
        """Whether a commit record is the one that was added for its cell."""
        return bool(self._digests[stage][number].tobytes() == record.digest())

    def n_missing(self, stage: int) -> int:
        """Number of cells of a stage whose commit record was not added."""
        return int((~self._digests[stage].any(axis=1)).sum())

    def digest(self) -> str:
        """Digest of all commit records."""
        return hashlib.sha256(b"".join(each.tobytes() for each in self._digests)).hexdigest()

    def end_mark(
        self,
        plan_id: str,
        documents: Iterable[tuple[str, bytes]],
        notes: Sequence[Note],
        *,
        plan_sha256: str,
        plan_etag: str | None = None,
    ) -> EndMark:
        """Add the metadata documents, by key, and make the end mark.

        Versions are compared later only if that of the plan is given.
        """
        for key, data in documents:
            self._objects.add(key, len(data))
        n_cells = sum(len(each) for each in self._digests)
        return EndMark(
            plan_id=plan_id,
            n_cells=n_cells,
            records_digest=self.digest(),
            objects_digest=self._objects.digest(),
            notes=tuple(notes),
            plan_sha256=plan_sha256,
            versions_digest=self.versions.digest() if plan_etag else "",
            plan_etag=plan_etag or "",
        )


class ObjectSet:
    """The objects of a listing, in which others are looked up. Takes eight bytes for each."""

    def __init__(self, hashes: array[int]) -> None:
        self._hashes = np.sort(np.array(hashes, np.uint64))

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """The objects by name, size and version."""
        return cls(array("Q", (_short_hash(_object_digest(*entry[:3])) for entry in entries)))

    def has(self, stored: StoredObject) -> bool:
        """Whether an object was listed with its size and version."""
        # Some stores list objects without sizes or versions.
        return any(
            self._has(_object_digest(stored.key, size, version))
            for version in dict.fromkeys((stored.etag, None))
            for size in (stored.size_bytes, None)
        )

    def _has(self, digest: bytes) -> bool:
        short = np.uint64(_short_hash(digest))
        position = int(np.searchsorted(self._hashes, short))
        return position < len(self._hashes) and bool(self._hashes[position] == short)


def _short_hash(digest: bytes) -> int:
    return int.from_bytes(digest[:8])


class Inventory:
    """Which objects a destination holds, from one listing. Takes eight bytes for each object."""

    def __init__(self, destination: Destination, plan: Plan) -> None:
        self._recorded = [np.zeros(plan.n_cells(stage), bool) for stage in range(len(plan.stages))]
        objects, others, versions = ObjectsDigest(), ObjectsDigest(), ObjectVersions()
        hashes = array("Q")
        self.has_documents = False
        """Whether there is metadata where the copy has its own."""
        for entry in destination.list():
            if journal_kind(entry.key) is None:
                place = place_of(plan, entry.key)
                self.has_documents |= place is Place.DOCUMENT
                is_of_cell = place in (Place.CHUNKS, Place.ORIGINALS)
                is_own = is_of_cell or place is Place.DOCUMENT
                if is_of_cell:
                    versions.add(*entry[:3])
                digest = (objects if is_own else others).add(entry.key, entry.size_bytes)
                hashes.append(_short_hash(digest))
            elif (cell := cell_of(entry.key, plan)) is not None:
                objects.add(entry.key, None)
                versions.add(entry.key, None, entry.etag)
                self._recorded[cell[0]][cell[1]] = True
        self._objects = ObjectSet(hashes)  # without versions
        self.own_digest = objects.digest()
        """To compare with `EndMark.objects_digest`: of what lies in the places of the copy."""
        self.versions_digest = versions.digest()
        """To compare with `EndMark.versions_digest`; empty where the store has no versions."""
        self.has_others = others.digest() != ObjectsDigest().digest()
        """Whether there are objects in other places."""

    def recorded_cells(self, stage: int) -> npt.NDArray[np.bool_]:
        """By number of the cell, whether it has a commit record."""
        return self._recorded[stage].copy()

    def forget_records(self, stage: int, numbers: Sequence[int]) -> None:
        """Leave out commit records that were deleted since the listing."""
        self._recorded[stage][list(numbers)] = False

    def has(self, stored: StoredObject) -> bool:
        """Whether an object exists and has the expected size."""
        return self._objects.has(stored)
