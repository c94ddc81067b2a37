"""`Plan`: which cell reads which region and stores which objects. Pure arithmetic.

The rules that hold for every plan:

- A cell is a region of one image at the input level of a stage. At each level that the stage
  writes, the cell has exactly one shard (in Zarr 2: whole chunks), so no two cells share an object.
- A cell's extent is a multiple of the cumulative factors along every dim that has several cells,
  and its shard at each level a multiple of the chunk: shards shrink with the level.
- Levels for which that cannot hold belong to a later stage, which reads the last level back.
- Nothing depends on the machine, so a plan is stored and followed by whoever goes on with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from cloudimg.migration.plain_json import to_plain

Shape = tuple[int, ...]
Region = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class PlannedLevel:
    """One resolution level of each image."""

    shape: Shape
    """In the plan's dims; 0 is the full level."""
    shard: Shape
    """What one cell stores there: a shard, a multiple of the chunk. In Zarr 2 several chunks."""
    factors: Shape
    """How many pixels of the level below one pixel stands for, by dim; ones at level 0."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the images."""

    input_level: int | None
    """The level that is read back; None: the source."""
    first_level: int
    last_level: int
    """Levels that are written, both ends included."""
    cell: Shape
    """Extent of a cell in pixels of the input."""
    grid: Shape
    """Number of cells of one image, by dim."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One unit of work."""

    stage: int
    number: int
    """Among all cells of the stage: image by image, in C order of the grid."""
    image: int
    index: Shape
    """Position in the grid of cells."""
    region: Region
    """Of the input level, within its shape."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a cell stores at one level."""

    level: int
    region: Region
    """Of that level, within its shape."""
    shard_index: Shape
    """Position among the shards of the level (Zarr 2: among groups of chunks)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides which objects are written, and what of."""

    zarr_format: int
    dims: tuple[str, ...]
    """Of each image."""
    lead_dims: tuple[str, ...]
    """Axes of the source along which there are images of their own."""
    lead_shape: Shape
    dtype: str
    """NumPy's name, little-endian, such as ``<u2``."""
    fill_value: Any
    """Number or bool; text for what JSON has no number for; a pair where complex."""
    chunk: Shape
    """Inner chunk, at every level."""
    levels: tuple[PlannedLevel, ...]
    stages: tuple[Stage, ...]
    codec: Mapping[str, Any]
    """How chunks are encoded; see `codecs`."""
    method: str
    """How levels are made: mean, nearest or mode."""

    @property
    def n_images(self) -> int:
        """Number of images, 1 where there are no lead dims."""
        return math.prod(self.lead_shape)

    def n_cells(self, stage: int) -> int:
        """Number of cells of a stage, in all images."""
        return self.n_images * math.prod(self.stages[stage].grid)

    @property
    def total_cells(self) -> int:
        """Number of cells of all stages."""
        return sum(self.n_cells(stage) for stage in range(len(self.stages)))

    def input_shape(self, stage: int) -> Shape:
        """Shape of what the cells of a stage are cut from."""
        return self.levels[self.stages[stage].input_level or 0].shape

    def cell(self, stage: int, number: int) -> Cell:
        """A cell by its number."""
        planned = self.stages[stage]
        image, flat = divmod(number, math.prod(planned.grid))
        index = tuple(int(i) for i in np.unravel_index(flat, planned.grid))
        region = tuple(
            slice(i * n, min((i + 1) * n, length))
            for i, n, length in zip(index, planned.cell, self.input_shape(stage), strict=True)
        )
        return Cell(stage, number, image, index, region)

    def outputs(self, cell: Cell) -> tuple[Output, ...]:
        """What a cell stores, level by level."""
        stage = self.stages[cell.stage]
        found = []
        for number in range(stage.first_level, stage.last_level + 1):
            level = self.levels[number]
            region = tuple(
                slice(i * n, min((i + 1) * n, length))
                for i, n, length in zip(cell.index, level.shard, level.shape, strict=True)
            )
            found.append(Output(number, region, cell.index))
        return tuple(found)

    def image_path(self, image: int) -> str:
        """Folder of an image below the destination; empty for the only one."""
        return str(image) if self.lead_dims else ""

    def array_path(self, image: int, level: int) -> str:
        """Folder of the array of a level."""
        return f"{image}/{level}" if self.lead_dims else str(level)

    def shard_key(self, image: int, level: int, index: Shape) -> str:
        """Key of a stored object: of a shard, in Zarr 2 of a chunk.

        As https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#chunk-key-encoding has
        it for "default", and Zarr 2 with the dimension separator "/".
        """
        at = "/".join(map(str, index))
        path = self.array_path(image, level)
        return f"{path}/c/{at}" if self.zarr_format == 3 else f"{path}/{at}"

    def stored_shape(self, level: int) -> Shape:
        """Shape of one stored object."""
        return self.levels[level].shard if self.zarr_format == 3 else self.chunk

    def n_objects(self, level: int) -> int:
        """How many objects a level has at most, in all images; empty ones are not stored."""
        shape = self.levels[level].shape
        stored = self.stored_shape(level)
        return self.n_images * math.prod(-(-n // m) for n, m in zip(shape, stored, strict=True))

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "zarr_format": self.zarr_format,
            "dims": list(self.dims),
            "lead_dims": list(self.lead_dims),
            "lead_shape": list(self.lead_shape),
            "dtype": self.dtype,
            "fill_value": self.fill_value,
            "chunk": list(self.chunk),
            "levels": [[list(a.shape), list(a.shard), list(a.factors)] for a in self.levels],
            "stages": [
                [s.input_level, s.first_level, s.last_level, list(s.cell), list(s.grid)]
                for s in self.stages
            ],
            "codec": dict(self.codec),
            "method": self.method,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The plan again."""
        levels = tuple(PlannedLevel(*(tuple(part) for part in item)) for item in found["levels"])
        stages = tuple(
            Stage(source, first, last, tuple(cell), tuple(grid))
            for source, first, last, cell, grid in found["stages"]
        )
        return cls(
            found["zarr_format"],
            tuple(found["dims"]),
            tuple(found["lead_dims"]),
            tuple(found["lead_shape"]),
            found["dtype"],
            found["fill_value"],
            tuple(found["chunk"]),
            levels,
            stages,
            found["codec"],
            found["method"],
        )


def fill_as_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value as `Plan.fill_value` holds it."""
    of_kind = {"c": complex, "f": float, "b": bool}.get(dtype.kind, int)
    return to_plain(of_kind(value))


def fill_scalar(plan: Plan) -> Any:
    """The plan's fill value as a NumPy scalar of its dtype."""
    value, kind = plan.fill_value, np.dtype(plan.dtype).type
    if isinstance(value, list | tuple):
        return kind(complex(*(float(part) for part in value)))
    return kind(float(value)) if isinstance(value, str) else kind(value)
