"""The journal of a migration: the plan that it follows, and a receipt for each finished cell.

A receipt is written after everything that its cell stores, so that a cell with a receipt is done
and one without is done again, as a whole: its objects come out the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.storage import engine
from cloudimg.writer.destination import JOURNAL, Destination
from cloudimg.writer.histogram import Histogram

PLAN = f"{JOURNAL}/plan.json"
"""What is to be written, from what, with which arguments: the first object of a migration."""
DONE = f"{JOURNAL}/done.json"
"""The last object of a migration."""
_AHEAD = 64


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

    @property
    def n_bytes(self) -> int:
        """Stored bytes."""
        return sum(each.size_bytes for level in self.levels for each in level.objects)

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
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
            "histograms": [each.to_json() for each in self.histograms],
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
        )


def _as_list(stored: StoredObject) -> list[Any]:
    return [stored.key, stored.size_bytes, stored.sha256]


def _folder(stage: int) -> str:
    return f"{JOURNAL}/cells/{stage}"


def receipt_key(stage: int, number: int) -> str:
    """Where the receipt of a cell lies."""
    return f"{_folder(stage)}/{number:09d}.json"


def finished(destination: Destination, stage: int, n_cells: int) -> npt.NDArray[np.bool_]:
    """By number of the cell, whether it has a receipt."""
    done = np.zeros(n_cells, bool)
    for entry in destination.list(_folder(stage)):
        name = entry.key.rpartition("/")[2].removesuffix(".json")
        if name.isdecimal() and int(name) < n_cells:
            done[int(name)] = True
    return done


def write_receipt(destination: Destination, receipt: Receipt) -> None:
    """Tell that a cell is finished."""
    destination.put_json(receipt_key(receipt.stage, receipt.number), receipt.to_json())


def read_receipt(destination: Destination, stage: int, number: int) -> Receipt | None:
    """The receipt of a cell, None where there is none.

    Raises
    ------
    CorruptFileError
        If it is damaged.
    """
    key = receipt_key(stage, number)
    found = destination.get_json(key)
    if found is None:
        return None
    try:
        receipt = Receipt.from_json(found)
    except (KeyError, TypeError, ValueError, AttributeError):
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
