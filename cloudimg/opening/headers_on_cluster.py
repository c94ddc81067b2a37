"""Read the headers of very many files on the workers of a Dask cluster, a block of files at a time.

Most headers of an archive are equal, so a worker returns each distinct header of a block once, and
for each file two bytes that select its header, and its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import Fact
from cloudimg.discovery.facts_of_attributes import facts_in
from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import FormatError, StorageError
from cloudimg.errors.notes import Note, NoteSums, Remark
from cloudimg.opening.header import HeaderSummary, Index, remarks_of
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import engine, map_ahead, step_of
from cloudimg.tiff.parsed import PlaneValues

FILES_PER_BLOCK = 512
_BLOCK_BYTES = 64 * 2**20
"""Approximate memory for reading a block, by which the number of blocks per worker is limited."""

SummaryOrError = HeaderSummary | FormatError | StorageError


@dataclass(frozen=True, slots=True)
class Block:
    """The headers of a block of files."""

    number: int
    summaries: tuple[SummaryOrError, ...]
    """The distinct headers and errors."""
    which: bytes
    """For each file of the block its position in `summaries`, as unsigned 16-bit integers."""
    sizes: bytes
    """Sizes of the files in bytes as 64-bit integers, -1 where the header could not be read."""
    notes: tuple[Note, ...]
    """What was noticed about the files, without the first file, whose header the client has read.
    """
    facts: FactColumns
    """What headers say of files, by position in the block; without files that say nothing."""

    def __iter__(self) -> Iterator[tuple[SummaryOrError, int]]:
        sizes = np.frombuffer(self.sizes, np.int64)
        for i, size in zip(np.frombuffer(self.which, np.uint16), sizes, strict=True):
            yield self.summaries[i], int(size)


def read_on_cluster(
    client: Client,
    reader: Reader,
    grid: FileGrid,
    first_index: Index,
    *,
    report: Callable[[int], None],
    sums: NoteSums,
    facts: FactColumns | None,
) -> Iterator[tuple[Index, SummaryOrError, int]]:
    """Yield the headers of all files of a grid in C order, with the sizes of the files.

    Parameters
    ----------
    client : distributed.Client or callable
    reader : Reader
    grid : FileGrid
    first_index : tuple of int
        Index of the file whose header the client has read.
    report : callable
        Called with the number of headers read after each block.
    sums : NoteSums
        What the workers noticed about the files, except the first one, is added to it.
    facts : FactColumns, optional
        What the headers say of each file is added to it.

    Raises
    ------
    StorageError, ClusterError
    """
    blocks: dict[int, Block] = {}
    n_blocks = -(-grid.n_files // FILES_PER_BLOCK)
    first = next(number for number, index in enumerate(grid.files()) if index == first_index)

    def add(block: Block) -> None:
        blocks[block.number] = block
        report(min(grid.n_files, len(blocks) * FILES_PER_BLOCK))

    pattern = grid.keys.pattern
    run_on_cluster(
        client_of(client),
        partial(read_block, reader, FileNames.of(grid), first),
        range(n_blocks),
        step="headers" if pattern is None else step_of("headers", pattern.text),
        max_bytes=2**62,
        piece_bytes=_BLOCK_BYTES,
        report=add,
    )

    positions = grid.positions

    def headers() -> Iterator[tuple[SummaryOrError, int]]:
        for number in range(n_blocks):
            block = blocks.pop(number)
            sums.add_notes(block.notes)
            if facts is not None:
                rows = positions[number * FILES_PER_BLOCK :]
                facts.extend(block.facts, rows)
                is_read = np.frombuffer(block.sizes, np.int64) >= 0
                is_silent = is_read & ~np.isin(np.arange(is_read.size), block.facts.rows)
                facts.add_columns(rows[np.flatnonzero(is_silent)], {})
            yield from block

    for index, (summary, size) in zip(grid.files(), headers(), strict=True):
        yield index, summary, size


@dataclass(frozen=True, slots=True)
class FileNames:
    """Names of the files of a grid, by block. Pickles small."""

    keys: Keys
    shape: Index
    n_files: int
    present: bytes | None
    """Packed bitmap of the files that exist; None if all do."""

    @classmethod
    def of(cls, grid: FileGrid) -> FileNames:
        """Return the names of the files of a grid."""
        present = None if grid.present is None else np.packbits(grid.present).tobytes()
        return cls(grid.keys, grid.shape, grid.n_files, present)

    def names(self, block: int) -> Iterator[str]:
        """Yield the names of the files of one block."""
        first = block * FILES_PER_BLOCK
        flat: npt.NDArray[np.intp] = np.arange(first, min(first + FILES_PER_BLOCK, self.n_files))
        if self.present is not None:
            bits = np.unpackbits(np.frombuffer(self.present, np.uint8), count=math.prod(self.shape))
            flat = np.flatnonzero(bits)[flat]
        for i in flat:
            yield self.keys(tuple(int(k) for k in np.unravel_index(i, self.shape)))


def read_block(reader: Reader, files: FileNames, first: int, number: int) -> Block:
    """Read all headers of a block at once. Runs on a worker.

    Parameters
    ----------
    reader : Reader
    files : FileNames
    first : int
        Number of the file whose remarks the client knows already.
    number : int
        Number of the block.
    """
    keys = [reader.store.location.key_of(name) for name in files.names(number)]
    summaries: dict[SummaryOrError, int] = {}
    which = np.empty(len(keys), np.uint16)
    sizes = np.empty(len(keys), np.int64)
    # Files that are not TIFFs are decoded whole, which takes memory, so read a few at a time.
    is_whole = reader.headers.reads_whole
    n_ahead = 2 * settings().decode_threads if is_whole else max(1, len(keys))
    headers = map_ahead(
        lambda key: engine().fetch(partial(_read, reader, key)), keys, n_ahead=n_ahead
    )
    sums, facts = NoteSums(), FactColumns()
    for i, (summary, size, remarks, found, planes) in enumerate(headers):
        sizes[i] = size
        if found or planes:
            facts.add(i, found, planes)
        if remarks and (number, i) != divmod(first, FILES_PER_BLOCK):
            sums.add(remarks, reader.store.location.display(keys[i]))
        which[i] = summaries.setdefault(summary, len(summaries))
    return Block(number, tuple(summaries), which.tobytes(), sizes.tobytes(), sums.notes(), facts)


def _read(
    reader: Reader, key: str
) -> tuple[SummaryOrError, int, tuple[Remark, ...], dict[str, Fact], Mapping[str, PlaneValues]]:
    """Header, size, remarks, facts of a file and what differs between its planes.

    An error is returned, or Dask would retry.
    """
    try:
        opened = reader.headers.open(key)
    except (FormatError, StorageError) as exc:
        return exc, -1, (), {}, {}
    facts = facts_in(opened.parsed.attrs)
    summary = HeaderSummary.of(opened.parsed)
    return summary, opened.size_bytes, remarks_of(opened), facts, opened.parsed.planes
