"""Which stored objects hold which region of a copy. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from cloudimg.errors import CorruptFileError
from cloudimg.migration.plan.plan import Cell, Output, Plan


def objects_of(plan: Plan, cell: Cell, output: Output) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Keys of the objects that a cell may store at a level, and the region that each holds."""
    stored = plan.stored_shape(output.level)
    shape = plan.levels[output.level].shape
    ranges = [
        range(part.start // n, -(-part.stop // n))
        for part, n in zip(output.region, stored, strict=True)
    ]
    for index in product(*ranges):
        region = tuple(
            slice(i * n, min((i + 1) * n, length))
            for i, n, length in zip(index, stored, shape, strict=True)
        )
        yield plan.shard_key(cell.image, output.level, index), region


def producer(plan: Plan, level: int, image: int, index: tuple[int, ...]) -> tuple[int, int]:
    """Stage and number of the cell that stores an object of a level."""
    for number, stage in enumerate(plan.stages):
        if stage.first_level <= level <= stage.last_level:
            extents = plan.levels[level].shard
            stored = plan.stored_shape(level)
            at = tuple(i * s // e for i, s, e in zip(index, stored, extents, strict=True))
            flat = int(np.ravel_multi_index(at, stage.grid))
            return number, image * int(np.prod(stage.grid, dtype=np.int64)) + flat
    raise CorruptFileError(f"the plan has no level {level}")
