"""What cells read: the source image, or a level that an earlier stage stored.

Inputs are picklable and small, and connect to no store before they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.errors.file_report import BadFile
from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.encode.shards import decode_chunk, decode_shard, most_encoded_bytes
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import read_record
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.objects import cell_storing
from cloudimg.migration.plan.plan import Cell, Plan, fill_scalar
from cloudimg.reading.agreement import ExpectedFacts
from cloudimg.reading.file_task import allocate
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.source import Source
from cloudimg.storage import engine, map_ahead

Array = npt.NDArray[Any]
Region = tuple[slice, ...]
_OBJECTS_AHEAD = 64
"""Stored objects that are read at once for one region."""


class FileObserver(Protocol):
    """Learns which files a read opens, and which are missing or bad. Called from many threads."""

    def on_open(self, index: tuple[int, ...], opened: OpenFile) -> None:
        """Called with each file that was opened, and its index in the grid."""

    def on_bad(self, index: tuple[int, ...], file: BadFile, version: int) -> None:
        """Called with each file that is missing or bad, its index in the grid, and its version.

        The version is 0 if the file was opened, too.
        """


class Input(Protocol):
    """Pixels of images, read by cells."""

    def read(self, cell: Cell, files: FileObserver | None = None) -> Array:
        """Read the pixels of a cell in the plan's dims, C-contiguous and little-endian.

        Its images are stacked along a first axis.
        """


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Level 0 of an image that consists of files."""

    source: Source
    axes_mapping: AxesMapping
    expected: ExpectedFacts | None = None
    """What the first file says of the whole image, with which the others are compared."""
    series_is_chosen: bool = True
    """Whether the user chose which image of each file is copied, see `OpenArguments.series`."""

    def read(self, cell: Cell, files: FileObserver | None = None) -> Array:
        """Read the pixels of a cell; see `cloudimg.reading.source.Source.read`."""
        of_source = self.axes_mapping.to_source(cell.lead, cell.region)
        if files is None:
            pixels = self.source.read(of_source)
        else:
            pixels = self.source.read(of_source, files.on_open, files.on_bad)
        return self.axes_mapping.from_source_pixels(pixels)

    def image_of_first(self, index: tuple[int, ...]) -> int | None:
        """Number of the image of a collection whose first file is at an index of the grid.

        None if the file is another one, or has several images itself.
        """
        mapping, layout = self.axes_mapping, self.source.layout
        lead = dict.fromkeys(mapping.lead_dims, 0)
        for axis in layout.axes:
            at = 0 if axis.field is None else index[axis.field]
            if axis.name in lead and axis.file_axis is None:
                lead[axis.name] = at
            elif at or axis.name in lead:
                return None
        if not lead or layout.canvas is not None:
            return None
        return int(np.ravel_multi_index(tuple(lead.values()), mapping.lead_shape))


@dataclass(frozen=True, slots=True)
class LevelInput:
    """A level of the destination, read back from its shards (in Zarr 2, chunks)."""

    plan: Plan
    destination: Destination
    level: int
    digest_of: Callable[[int, tuple[int, ...]], str | None] | None = None
    """By image and position in the level's grid of objects, the SHA-256 that an object must have;
    None where it is not known. Codecs do not notice all damage."""

    def read(self, cell: Cell, files: FileObserver | None = None) -> Array:
        """Read the pixels of a cell; see `read_image`."""
        (image,) = cell.images  # only cells that read the source have several
        return self.read_image(image, cell.region)[np.newaxis]

    def read_image(self, image: int, region: Region) -> Array:
        """Read the pixels of a region of an image.

        Raises
        ------
        NotFoundError
            If an object is missing although it was stored.
        CorruptFileError, StorageError
        """
        out = allocate(tuple(s.stop - s.start for s in region), np.dtype(self.plan.dtype))
        stored = self.plan.stored_shape(self.level)
        read_into = partial(self._read_into, image, region, out)
        for _ in map_ahead(
            lambda index: engine().fetch(partial(read_into, index)),
            _touched(region, stored),
            n_ahead=_OBJECTS_AHEAD,
        ):
            pass
        return out

    def _read_into(self, image: int, region: Region, out: Array, index: tuple[int, ...]) -> None:
        """Copy the part of an object that lies in a region to `out`. Runs in a fetching thread."""
        stored = self.plan.stored_shape(self.level)
        shape = self.plan.levels[self.level].shape
        bounds = [
            (i * n, min((i + 1) * n, length))
            for i, n, length in zip(index, stored, shape, strict=True)
        ]
        pixels = self._object(image, index, tuple(b - a for a, b in bounds))
        in_object, in_out = [], []
        for (start, stop), part in zip(bounds, region, strict=True):
            first, last = max(start, part.start), min(stop, part.stop)
            in_object.append(slice(first - start, last - start))
            in_out.append(slice(first - part.start, last - part.start))
        out[tuple(in_out)] = fill_scalar(self.plan) if pixels is None else pixels[tuple(in_object)]

    def _object(self, image: int, index: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
        """Pixels of one stored object; None if it is empty and therefore not stored."""
        key = self.plan.shard_key(image, self.level, index)
        try:
            data = self.destination.get_checked(
                key, most_bytes=most_stored_bytes(self.plan, self.level)
            )
        except NotFoundError:
            if self._is_empty(image, index, key):
                return None
            raise
        digest = None if self.digest_of is None else self.digest_of(image, index)
        try:
            if digest is not None and hashlib.sha256(data).hexdigest() != digest:
                raise CorruptFileError(
                    "its SHA-256 is not that of its commit record; cloudimg.repair mends what can"
                    " be mended"
                )
            return decode_object(self.plan, self.level, data, shape)
        except CorruptFileError as exc:
            url = self.destination.display(key)
            raise CorruptFileError(f"{url} is damaged: {exc.message}", url=url) from exc

    def _is_empty(self, image: int, index: tuple[int, ...], key: str) -> bool:
        stage, number = cell_storing(self.plan, self.level, image, index)
        record = read_record(self.destination, stage, number)
        return record is not None and not any(
            stored.key == key for level in record.levels for stored in level.objects
        )


def most_stored_bytes(plan: Plan, level: int) -> int:
    """Bytes that an object of a level can have; more need not be read to see that it is damaged."""
    codec = codec_from_spec(plan.codec, np.dtype(plan.dtype))
    return most_encoded_bytes(plan.stored_shape(level), plan.chunk, codec, plan.dtype)


def decode_object(plan: Plan, level: int, data: bytes, shape: tuple[int, ...]) -> Array:
    """Decode a stored object, cropped to `shape`.

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
    """Indices of the stored objects that a region intersects."""
    return product(
        *(range(s.start // n, -(-s.stop // n)) for s, n in zip(region, stored, strict=True))
    )
