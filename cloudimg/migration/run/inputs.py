"""What cells are read from: the source image, or a level that an earlier stage wrote.

An input pickles small and connects to nothing until it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.encode.shards import decode_chunk, decode_shard
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import read_record
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.objects import producer
from cloudimg.migration.plan.plan import Plan, fill_scalar
from cloudimg.reading.reader import allocate
from cloudimg.reading.run import OnOpen
from cloudimg.reading.source import Source
from cloudimg.storage import engine, redact

Array = npt.NDArray[Any]
Region = tuple[slice, ...]


class Input(Protocol):
    """Pixels of images, by regions in the plan's dims."""

    def read(self, image: int, region: Region, on_open: OnOpen | None = None) -> Array:
        """Pixels of a region, C-contiguous, little-endian."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Level 0 of an image made of files."""

    source: Source
    axes_mapping: AxesMapping

    def read(self, image: int, region: Region, on_open: OnOpen | None = None) -> Array:
        """Pixels of a region; see `cloudimg.reading.source.Source.read`."""
        pixels = self.source.read(self.axes_mapping.to_source(image, region), on_open)
        return self.axes_mapping.from_source_pixels(pixels)


def redacted_source_key(source: Source, index: tuple[int, ...]) -> str:
    """Key of the file at an index of the grid as it may be stored: a signed query is a secret."""
    location = source.reader.store.location
    scheme = f"{location.protocol}://"  # without it a password would not be told from a path
    return redact(scheme + location.key_of(source.files.keys(index))).removeprefix(scheme)


@dataclass(frozen=True, slots=True)
class LevelInput:
    """A level of the destination, read back from its shards."""

    plan: Plan
    destination: Destination
    level: int

    def read(self, image: int, region: Region, on_open: OnOpen | None = None) -> Array:
        """Pixels of a region.

        Raises
        ------
        NotFoundError
            If an object is missing that was stored.
        CorruptFileError, StorageError
        """
        out = allocate(tuple(s.stop - s.start for s in region), np.dtype(self.plan.dtype))
        stored = self.plan.stored_shape(self.level)
        take = partial(self._take, image, region, out)
        waiting = [engine().fetch(partial(take, index)) for index in _touched(region, stored)]
        for future in waiting:
            future.result()
        return out

    def _take(self, image: int, region: Region, out: Array, index: tuple[int, ...]) -> None:
        """In a fetching thread: one object, and what of it lies in the region."""
        stored = self.plan.stored_shape(self.level)
        shape = self.plan.levels[self.level].shape
        bounds = [
            (i * n, min((i + 1) * n, length))
            for i, n, length in zip(index, stored, shape, strict=True)
        ]
        pixels = self._object(image, index, tuple(b - a for a, b in bounds))
        inside, place = [], []
        for (start, stop), part in zip(bounds, region, strict=True):
            first, last = max(start, part.start), min(stop, part.stop)
            inside.append(slice(first - start, last - start))
            place.append(slice(first - part.start, last - part.start))
        out[tuple(place)] = fill_scalar(self.plan) if pixels is None else pixels[tuple(inside)]

    def _object(self, image: int, index: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
        """Pixels of one stored object, None where it is empty and therefore not stored."""
        key = self.plan.shard_key(image, self.level, index)
        try:
            data = self.destination.get(key)
        except NotFoundError:
            if self._is_empty(image, index, key):
                return None
            raise
        try:
            return decode_object(self.plan, self.level, data, shape)
        except CorruptFileError as exc:
            url = self.destination.display(key)
            raise CorruptFileError(f"{url} is damaged: {exc.message}", url=url) from None

    def _is_empty(self, image: int, index: tuple[int, ...], key: str) -> bool:
        stage, number = producer(self.plan, self.level, image, index)
        record = read_record(self.destination, stage, number)
        return record is not None and not any(
            each.key == key for level in record.levels for each in level.objects
        )


def decode_object(plan: Plan, level: int, data: bytes, shape: tuple[int, ...]) -> Array:
    """Pixels of a stored object, cut to `shape`.

    Raises
    ------
    CorruptFileError
    """
    dtype = np.dtype(plan.dtype)
    codec = codec_from_spec(plan.codec, dtype)
    if plan.zarr_format == 3:
        shard = plan.levels[level].shard
        return decode_shard(data, shard, plan.chunk, codec, dtype, fill_scalar(plan), shape)
    chunk = decode_chunk(data, plan.chunk, codec, dtype)
    return chunk[tuple(slice(0, n) for n in shape)]


def _touched(region: Region, stored: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return product(
        *(range(s.start // n, -(-s.stop // n)) for s, n in zip(region, stored, strict=True))
    )
