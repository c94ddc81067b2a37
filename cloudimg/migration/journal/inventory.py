"""What a finished copy consists of: digests of its objects and records, and what is there now."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.migration.journal.destination import JOURNAL, Destination, as_json
from cloudimg.migration.journal.records import CommitRecord, StoredObject, cell_of, record_key
from cloudimg.migration.journal.sealing import get_sealed
from cloudimg.migration.plan.plan import Plan

DONE = f"{JOURNAL}/done.json"
"""The last object of a migration."""

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Done:
    """That a migration is finished, and what is there since."""

    plan_id: str
    n_cells: int
    records: str
    """Digest of what all receipts say."""
    inventory: str
    """Which objects there are, by `Inventory`."""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "plan": self.plan_id,
            "n_cells": self.n_cells,
            "receipts": self.records,
            "inventory": self.inventory,
        }


def read_done(destination: Destination) -> Done | None:
    """The last word of a migration, None where there is none.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    found = get_sealed(destination, DONE)
    if found is None:
        return None
    try:
        return Done(found["plan"], found["n_cells"], found["receipts"], found["inventory"])
    except KeyError:
        url = destination.display(DONE)
        raise CorruptFileError(f"{url} is damaged: no end of a migration", url=url) from None


class ObjectsDigest:
    """Which objects there are, by name and size, in the memory of a number.

    The order in which they are told does not matter.
    """

    def __init__(self) -> None:
        self._n = 0
        self._sum = 0

    def add(self, key: str, size_bytes: int | None) -> bytes:
        """Take in an object; gives its digest."""
        digest = hashlib.sha256(as_json([key, size_bytes])).digest()
        self._n += 1
        self._sum += int.from_bytes(digest)
        return digest

    def digest(self) -> str:
        """Equal where the objects are, if nobody tries to have it so."""
        return f"{self._n}-{self._sum % 2 ** (8 * _DIGEST_BYTES):064x}"


class RecordsDigest:
    """All receipts of a migration together, in little memory and whatever order they come in."""

    def __init__(self, plan: Plan) -> None:
        shapes = [(plan.n_cells(stage), _DIGEST_BYTES) for stage in range(len(plan.stages))]
        self._digests = [np.zeros(shape, np.uint8) for shape in shapes]
        self._inventory = ObjectsDigest()

    def add(self, record: CommitRecord) -> None:
        """Take in a receipt and what it tells of."""
        self.add_digest(record.stage, record.number, record.digest())
        # The size of a receipt depends on zlib.
        self._inventory.add(record_key(record.stage, record.number), None)
        for each in record.objects():
            self._inventory.add(each.key, each.size_bytes)

    def add_digest(self, stage: int, number: int, digest: bytes) -> None:
        """Take in what is to be known of a receipt that was looked over elsewhere."""
        self._digests[stage][number] = np.frombuffer(digest, np.uint8)

    def n_missing(self, stage: int) -> int:
        """Cells of a stage of which there is no receipt."""
        return int((~self._digests[stage].any(axis=1)).sum())

    def digest(self) -> str:
        """Of all receipts."""
        return hashlib.sha256(b"".join(each.tobytes() for each in self._digests)).hexdigest()

    def done(self, plan_id: str, documents: Iterable[tuple[str, bytes]]) -> Done:
        """What is to be said at the end."""
        for key, data in documents:
            self._inventory.add(key, len(data))
        n_cells = sum(len(each) for each in self._digests)
        return Done(plan_id, n_cells, self.digest(), self._inventory.digest())


class Inventory:
    """What a destination holds, by one listing and in little memory."""

    def __init__(self, destination: Destination, plan: Plan) -> None:
        self._records = [np.zeros(plan.n_cells(stage), bool) for stage in range(len(plan.stages))]
        objects = ObjectsDigest()
        marks = array("Q")
        for entry in destination.list():
            if not entry.key.startswith(f"{JOURNAL}/"):
                digest = objects.add(entry.key, entry.size_bytes)
                marks.append(_mark(digest))
            elif (cell := cell_of(entry.key, plan)) is not None:
                objects.add(entry.key, None)
                self._records[cell[0]][cell[1]] = True
        self._marks = np.sort(np.array(marks, np.uint64))
        self.digest = objects.digest()
        """As `Done` tells it."""

    def records(self, stage: int) -> npt.NDArray[np.bool_]:
        """By number of the cell, whether it has a receipt."""
        return self._records[stage].copy()

    def has(self, stored: StoredObject) -> bool:
        """Whether an object is there, of the size that it should have."""
        unsized = ObjectsDigest().add(stored.key, None)  # some stores do not tell
        return self._has(ObjectsDigest().add(stored.key, stored.size_bytes)) or self._has(unsized)

    def _has(self, digest: bytes) -> bool:
        mark = np.uint64(_mark(digest))
        at = int(np.searchsorted(self._marks, mark))
        return at < len(self._marks) and bool(self._marks[at] == mark)


def _mark(digest: bytes) -> int:
    return int.from_bytes(digest[:8])
