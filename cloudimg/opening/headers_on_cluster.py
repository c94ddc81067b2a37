"""Headers of very many files, read by the workers of a Dask cluster, a block of files at a time.

Most headers of an archive are equal, so what comes back for a block is each distinct header once,
and for each file which one it has: two bytes and its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import FormatError, StorageError
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import engine, map_ahead

FILES_PER_BLOCK = 512
_BLOCK_BYTES = 64 * 2**20
"""Memory that reading a block takes, about: what a worker's limit is divided by."""
_KEPT = ("stage_position", "stage_position_unit", "pixel_size", "pixel_size_unit")
"""Attributes that are compared between files."""

Index = tuple[int, ...]
Failure = FormatError | StorageError


@dataclass(frozen=True, slots=True)
class HeaderSummary:
    """What of a header is compared with other headers."""

    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """By level."""
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """The headers of a block of files."""

    number: int
    summaries: tuple[HeaderSummary | Failure, ...]
    """Distinct ones, each once."""
    which: bytes
    """For each file of the block its position in `summaries`, as unsigned integers of 16 bits."""
    sizes: bytes
    """Size in bytes of each file, as integers of 64 bits; -1 where the header cannot be read."""

    def __iter__(self) -> Iterator[tuple[HeaderSummary | Failure, int]]:
        sizes = np.frombuffer(self.sizes, np.int64)
        for number, size in zip(np.frombuffer(self.which, np.uint16), sizes, strict=True):
            yield self.summaries[number], int(size)


def read_on_cluster(
    client: Client,
    reader: Reader,
    grid: FileGrid,
    *,
    report: Callable[[int], None],
) -> Iterator[tuple[Index, HeaderSummary | Failure, int]]:
    """Headers of all files of a grid, in C order, with the sizes of the files.

    Parameters
    ----------
    client : distributed.Client or callable
    reader : Reader
    grid : FileGrid
    report : callable
        Called after each block with the number of headers read.

    Raises
    ------
    StorageError, ClusterError
    """
    blocks: dict[int, Block] = {}
    n_blocks = -(-grid.n_files // FILES_PER_BLOCK)

    def take(block: Block) -> None:
        blocks[block.number] = block
        report(min(grid.n_files, len(blocks) * FILES_PER_BLOCK))

    run_on_cluster(
        client_of(client),
        partial(read_block, reader, FileNames.of(grid)),
        range(n_blocks),
        max_bytes=2**62,
        cell_bytes=_BLOCK_BYTES,
        report=take,
    )
    found = chain.from_iterable(blocks.pop(number) for number in range(n_blocks))
    for index, (summary, size) in zip(grid.files(), found, strict=True):
        yield index, summary, size


@dataclass(frozen=True, slots=True)
class FileNames:
    """The names of a grid's files, by block. Pickles small."""

    keys: Keys
    shape: Index
    n_files: int
    present: bytes | None
    """Packed bits, 1 where there is a file."""

    @classmethod
    def of(cls, grid: FileGrid) -> FileNames:
        present = None if grid.present is None else np.packbits(grid.present).tobytes()
        return cls(grid.keys, grid.shape, grid.n_files, present)

    def names(self, block: int) -> Iterator[str]:
        first = block * FILES_PER_BLOCK
        flat: npt.NDArray[np.intp] = np.arange(first, min(first + FILES_PER_BLOCK, self.n_files))
        if self.present is not None:
            bits = np.unpackbits(np.frombuffer(self.present, np.uint8), count=math.prod(self.shape))
            flat = np.flatnonzero(bits)[flat]
        for each in flat:
            yield self.keys(tuple(int(i) for i in np.unravel_index(each, self.shape)))


def read_block(reader: Reader, files: FileNames, number: int) -> Block:
    """In a worker: all headers of a block at once."""
    keys = [reader.store.location.key_of(name) for name in files.names(number)]
    summaries: list[HeaderSummary | Failure] = []
    which = np.empty(len(keys), np.uint16)
    sizes = np.empty(len(keys), np.int64)
    # Files that are not TIFFs are decoded whole, which takes memory: a few of them at a time.
    is_whole = reader.headers.reads_whole
    n_ahead = 2 * settings().decode_threads if is_whole else max(1, len(keys))
    found = map_ahead(
        lambda key: engine().fetch(partial(_read, reader, key)), keys, n_ahead=n_ahead
    )
    for place, (summary, size) in enumerate(found):
        sizes[place] = size
        if summary not in summaries:
            summaries.append(summary)
        which[place] = summaries.index(summary)
    return Block(number, tuple(summaries), which.tobytes(), sizes.tobytes())


def _read(reader: Reader, key: str) -> tuple[HeaderSummary | Failure, int]:
    try:
        opened = reader.headers.open(key)
    except (FormatError, StorageError) as exc:  # not raised: Dask would try the block again
        return exc, -1
    parsed = opened.parsed
    attrs = {name: parsed.attrs[name] for name in _KEPT if name in parsed.attrs}
    shapes = tuple(level.shape for level in parsed.levels)
    return HeaderSummary(parsed.dims, shapes, parsed.levels[0].dtype, attrs), opened.size_bytes
