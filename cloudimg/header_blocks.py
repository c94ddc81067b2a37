"""Headers of very many files, read by the workers of a Dask cluster, a block of files at a time.

Most files of an archive say the same, so what comes back of a block is what was said, once, and
which file said it: a byte or two for each file, however many there are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import FormatError, StorageError
from cloudimg.grid import FileGrid, Keys
from cloudimg.on_cluster import Client, client_of, run_on_cluster
from cloudimg.reader import Reader
from cloudimg.storage import engine

FILES_PER_BLOCK = 512
_BLOCK_BYTES = 64 * 2**20
"""Memory that reading a block takes, about: what a worker's limit is divided by."""
_KEPT = ("stage_position", "stage_position_unit", "pixel_size", "pixel_size_unit")
"""Attributes that are compared between files."""

Index = tuple[int, ...]
Failure = FormatError | StorageError


@dataclass(frozen=True, slots=True)
class Said:
    """What a header says that is compared with others."""

    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """By level."""
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """What the headers of a block said."""

    number: int
    said: tuple[Said | Failure, ...]
    """Each once."""
    which: bytes
    """For each file of the block its number in `said`, as unsigned integers of 16 bits."""
    sizes: bytes
    """And its size in bytes, as integers of 64 bits; -1 where the header cannot be read."""

    def __iter__(self) -> Iterator[tuple[Said | Failure, int]]:
        sizes = np.frombuffer(self.sizes, np.int64)
        for number, size in zip(np.frombuffer(self.which, np.uint16), sizes, strict=True):
            yield self.said[number], int(size)


def read_on_cluster(
    client: Client,
    reader: Reader,
    grid: FileGrid,
    *,
    report: Callable[[int], None],
) -> Iterator[tuple[Index, Said | Failure, int]]:
    """Headers of all files of a grid, in C order, with the sizes of the files.

    Parameters
    ----------
    client : distributed.Client or callable
    reader : Reader
    grid : FileGrid
    report : callable
        Is told after each block how many headers were read.

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
        partial(read_block, reader, Files.of(grid)),
        range(n_blocks),
        max_bytes=2**62,
        cell_bytes=_BLOCK_BYTES,
        report=take,
    )
    said = chain.from_iterable(blocks.pop(number) for number in range(n_blocks))
    for index, (found, size) in zip(grid.files(), said, strict=True):
        yield index, found, size


@dataclass(frozen=True, slots=True)
class Files:
    """The names of a grid's files, by block. Pickles small."""

    keys: Keys
    shape: Index
    n_files: int
    present: bytes | None
    """Packed bits, 1 where there is a file."""

    @classmethod
    def of(cls, grid: FileGrid) -> Files:
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


def read_block(reader: Reader, files: Files, number: int) -> Block:
    """In a worker: all headers of a block at once."""
    keys = [reader.store.location.key_of(name) for name in files.names(number)]
    said: list[Said | Failure] = []
    which = np.empty(len(keys), np.uint16)
    sizes = np.empty(len(keys), np.int64)
    # Files that are no TIFF are decoded whole, which takes memory: a few of them at a time.
    width = 2 * engine().limits.decode_threads if reader.headers.reads_whole else len(keys)
    waiting: deque[Future[tuple[Said | Failure, int]]] = deque()
    todo = iter(keys)
    for place in range(len(keys)):
        for key in islice(todo, width - len(waiting)):
            waiting.append(engine().fetch(partial(_read, reader, key)))
        found, sizes[place] = waiting.popleft().result()
        if found not in said:
            said.append(found)
        which[place] = said.index(found)
    return Block(number, tuple(said), which.tobytes(), sizes.tobytes())


def _read(reader: Reader, key: str) -> tuple[Said | Failure, int]:
    try:
        opened = reader.headers.open(key)
    except (FormatError, StorageError) as exc:  # not raised: Dask would try the block again
        return exc, -1
    parsed = opened.parsed
    attrs = {name: parsed.attrs[name] for name in _KEPT if name in parsed.attrs}
    shapes = tuple(level.shape for level in parsed.levels)
    return Said(parsed.dims, shapes, parsed.levels[0].dtype, attrs), opened.size_bytes
