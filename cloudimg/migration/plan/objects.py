"""Look up which objects a cell stores, and which cell stores an object. Pure.

A stored object is a shard, or in Zarr 2 a chunk. The keys are those of `Plan.shard_key`. Objects
that contain only the fill value are stored, too; in copies of older versions they may be absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from cloudimg.errors import CorruptFileError
from cloudimg.migration.plan.plan import Cell, Output, Plan


def objects_of(
    plan: Plan, cell: Cell, output: Output
) -> Iterator[tuple[str, int, tuple[slice, ...]]]:
    """Keys of the objects that a cell may store at a level.

    Each with the place of its image among those of the cell, and with its region of the level.
    """
    stored = plan.stored_shape(output.level)
    shape = plan.levels[output.level].shape
    ranges = [
        range(part.start // n, -(-part.stop // n))
        for part, n in zip(output.region, stored, strict=True)
    ]
    for (place, image), index in product(enumerate(cell.images), product(*ranges)):
        region = tuple(
            slice(i * n, min((i + 1) * n, length))
            for i, n, length in zip(index, stored, shape, strict=True)
        )
        yield plan.shard_key(image, output.level, index), place, region


def cell_storing(plan: Plan, level: int, image: int, index: tuple[int, ...]) -> tuple[int, int]:
    """Stage and number of the cell that stores an object.

    Parameters
    ----------
    plan : Plan
    level, image : int
    index : tuple of int
        Position of the object in the level's grid of stored objects.

    Raises
    ------
    CorruptFileError
        If no stage of the plan writes that level.
    """
    for number, stage in enumerate(plan.stages):
        if stage.first_level <= level <= stage.last_level:
            shard = plan.levels[level].shard
            stored = plan.stored_shape(level)
            cell_index = tuple(i * s // e for i, s, e in zip(index, stored, shard, strict=True))
            return number, plan.cell_number(number, image, cell_index)
    raise CorruptFileError(f"no stage of the plan writes level {level}")
