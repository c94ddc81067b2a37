"""Time and memory of the table of files, from the names of a million files.

``python benchmarks/table.py --files 1000000`` prints the processor time of building the table from
batches of a listing, of writing it as Parquet and of reading it again, and the memory that the
columns take.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from cloudimg.discovery.build_grid import GridBuilder
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.pattern import compile_pattern
from cloudimg.storage import Entry

T = TypeVar("T")

PATTERN = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
BATCH = 1000


@dataclass(frozen=True)
class Measured:
    """What a step took."""

    what: str
    seconds: float
    megabytes: float | None = None

    def __str__(self) -> str:
        memory = "" if self.megabytes is None else f"{self.megabytes:8.1f} MB"
        return f"{self.what:<28}{self.seconds:8.2f} s CPU{memory}"


def listing(n_files: int, *, etags: bool) -> Iterator[list[Entry]]:
    """Batches of a listing, each made when it is needed."""
    batch: list[Entry] = []
    n_t = max(1, n_files // 20_000)
    places = product(range(2), range(n_t), range(10), range(10), range(100))
    for i, (c, t, x, y, z) in enumerate(places):
        key = f"s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
        batch.append(Entry(key, 524_288, f'"{i:032x}"' if etags else None))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def build(n_files: int, *, etags: bool) -> tuple[FileGrid, float]:
    """The table of the files of a listing, and the processor time without making the names."""
    pattern = compile_pattern(PATTERN)
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, str))
    seconds = 0.0
    for batch in listing(n_files, etags=etags):
        started = time.process_time()
        builder.add(batch)
        seconds += time.process_time() - started
    started = time.process_time()
    grid = builder.build()
    return grid, seconds + time.process_time() - started


def timed(function: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    return function(), time.process_time() - started


def measure(n_files: int) -> Iterator[Measured]:
    """Measure each step; memory in a run of its own, since it is slow to trace."""
    for etags in (False, True):
        how = "with ETags" if etags else "from names"
        grid, seconds = build(n_files, etags=etags)
        tracemalloc.start()
        build(n_files, etags=etags)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        yield Measured(f"table, {how}", seconds, peak / 1e6)
        table, seconds = timed(lambda grid=grid: FileTable.of(grid, str))  # type: ignore[misc]
        data, more = timed(table.to_parquet)
        yield Measured("  as Parquet", seconds + more, len(data) / 1e6)
        _, seconds = timed(lambda data=data: FileTable.from_parquet(data, ""))  # type: ignore[misc]
        yield Measured("  read again", seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--files", metavar="N", type=int, default=10**6)
    for measured in measure(parser.parse_args().files):
        print(measured)


if __name__ == "__main__":
    main()
