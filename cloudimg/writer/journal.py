"""The journal of a migration: the plan that it follows, and a receipt for each finished cell.

A receipt is written after everything that its cell stores, so that a cell with a receipt is done
and one without is done again, as a whole: its objects come out the same, byte for byte.

What the journal holds is sealed with a checksum of its own, and receipts name the plan that they
are of: a worker that outlived an earlier migration to the same place may still write some.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.storage import engine
from cloudimg.writer.destination import JOURNAL, Destination, as_json
from cloudimg.writer.histogram import Histogram
from cloudimg.writer.plan import Plan

PLAN = f"{JOURNAL}/plan.json"
"""What is to be written, from what, with which arguments: the first object of a migration."""
DONE = f"{JOURNAL}/done.json"
"""The last object of a migration."""
_CELLS = f"{JOURNAL}/cells"
_SEAL = "sha256"
_AHEAD = 64
_DIGEST_BYTES = 32


def seal(content: Mapping[str, Any]) -> bytes:
    """JSON that tells by itself whether it was damaged."""
    # As it will be read again, so that the checksum is of the same text.
    plain = json.loads(as_json(content))
    return as_json({**plain, _SEAL: hashlib.sha256(as_json(plain)).hexdigest()})


def put_sealed(destination: Destination, key: str, content: Mapping[str, Any]) -> None:
    """Store a part of the journal."""
    destination.put(key, seal(content))


def get_sealed(destination: Destination, key: str) -> dict[str, Any] | None:
    """A part of the journal; None where there is no such object.

    Raises
    ------
    CorruptFileError
        If a byte of it is not as it was written.
    """
    try:
        data = destination.get(key)
    except NotFoundError:
        return None
    try:
        found = json.loads(data)
        content = {name: each for name, each in found.items() if name != _SEAL}
        is_sound = seal(content) == data
    except (ValueError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        url = destination.display(key)
        raise CorruptFileError(f"{url} is damaged: it does not have its checksum", url=url)
    return content


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
class Receipt:
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


def receipt_key(stage: int, number: int) -> str:
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
    return cell if is_planned and receipt_key(*cell) == key else None


def write_receipt(destination: Destination, receipt: Receipt) -> None:
    """Tell that a cell is finished."""
    put_sealed(destination, receipt_key(receipt.stage, receipt.number), receipt.to_json())


def read_receipt(destination: Destination, stage: int, number: int) -> Receipt | None:
    """The receipt of a cell, None where there is none. It may be of another plan.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    key = receipt_key(stage, number)
    found = get_sealed(destination, key)
    if found is None:
        return None
    try:
        receipt = Receipt.from_json(found)
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error):
        receipt = None
    if receipt is None or (receipt.stage, receipt.number) != (stage, number):
        url = destination.display(key)
        raise CorruptFileError(f"{url} is damaged: no receipt of cell {number}", url=url) from None
    return receipt


def _read_sound(destination: Destination, stage: int, number: int) -> Receipt | None:
    try:
        return read_receipt(destination, stage, number)
    except CorruptFileError:
        return None


def read_receipts(
    destination: Destination, stage: int, numbers: Iterator[int]
) -> Iterator[tuple[int, Receipt | None]]:
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


@dataclass(frozen=True, slots=True)
class Done:
    """That a migration is finished, and what is there since."""

    plan_id: str
    n_cells: int
    receipts: str
    """Digest of what all receipts say."""
    inventory: str
    """Which objects there are, by `Inventory`."""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "plan": self.plan_id,
            "n_cells": self.n_cells,
            "receipts": self.receipts,
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


class Inventory:
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


class Tally:
    """All receipts of a migration together, in little memory and whatever order they come in."""

    def __init__(self, plan: Plan) -> None:
        shapes = [(plan.n_cells(stage), _DIGEST_BYTES) for stage in range(len(plan.stages))]
        self._digests = [np.zeros(shape, np.uint8) for shape in shapes]
        self._inventory = Inventory()

    def add(self, receipt: Receipt) -> None:
        """Take in a receipt and what it tells of."""
        self.add_digest(receipt.stage, receipt.number, receipt.digest())
        # The size of a receipt depends on zlib.
        self._inventory.add(receipt_key(receipt.stage, receipt.number), None)
        for each in receipt.objects():
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


class Stock:
    """What a destination holds, by one listing and in little memory."""

    def __init__(self, destination: Destination, plan: Plan) -> None:
        self._receipts = [np.zeros(plan.n_cells(stage), bool) for stage in range(len(plan.stages))]
        inventory = Inventory()
        marks = array("Q")
        for entry in destination.list():
            if not entry.key.startswith(f"{JOURNAL}/"):
                digest = inventory.add(entry.key, entry.size_bytes)
                marks.append(_mark(digest))
            elif (cell := cell_of(entry.key, plan)) is not None:
                inventory.add(entry.key, None)
                self._receipts[cell[0]][cell[1]] = True
        self._marks = np.sort(np.array(marks, np.uint64))
        self.inventory = inventory.digest()
        """As `Done` tells it."""

    def receipts(self, stage: int) -> npt.NDArray[np.bool_]:
        """By number of the cell, whether it has a receipt."""
        return self._receipts[stage].copy()

    def has(self, stored: StoredObject) -> bool:
        """Whether an object is there, of the size that it should have."""
        unsized = Inventory().add(stored.key, None)  # some stores do not tell
        return self._has(Inventory().add(stored.key, stored.size_bytes)) or self._has(unsized)

    def _has(self, digest: bytes) -> bool:
        mark = np.uint64(_mark(digest))
        at = int(np.searchsorted(self._marks, mark))
        return at < len(self._marks) and bool(self._marks[at] == mark)


def _mark(digest: bytes) -> int:
    return int.from_bytes(digest[:8])
