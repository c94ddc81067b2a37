"""`Plan`: which cell reads which region and stores which objects. Pure.

Every plan follows these rules:

- A cell is a region of one image at the input level of a stage. At each level that the stage
  writes, the cell stores exactly one shard (in Zarr 2: whole chunks), so no two cells share an
  object.
- Along every dim that has several cells, the extent of a cell is a multiple of the cumulative
  factors. Its shard at each level is a multiple of the chunk, so shards shrink with the level.
- Levels for which this is impossible are written by a later stage, which reads the last level of
  the stage before it back.
- Nothing depends on the machine: the plan is stored, and another machine can resume from it.
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
    """Shape of the array, in the plan's dims."""
    shard: Shape
    """Shape of what one cell stores: a shard, which is whole chunks. In Zarr 2 several chunks."""
    factors: Shape
    """By dim, the number of pixels of the level below that make one pixel; ones at level 0."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the images, which reads one level and writes one or more."""

    input_level: int | None
    """The level that is read back. None: the source is read."""
    first_level: int
    """First level that is written."""
    last_level: int
    """Last level that is written, inclusive."""
    cell: Shape
    """Extent of a cell in pixels of the input level."""
    grid: Shape
    """Number of cells of one image, by dim."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One unit of work: a region that is read, downsampled and stored."""

    stage: int
    """Number of the stage."""
    number: int
    """Number among all cells of the stage: image by image, in C order of the grid."""
    image: int
    """Number of the image."""
    index: Shape
    """Position in the grid of cells of the image."""
    region: Region
    """Region of the input level that is read, clipped to the level's shape."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a cell stores at one level."""

    level: int
    """Number of the level."""
    region: Region
    """Region of the level that is stored, clipped to the level's shape."""
    shard_index: Shape
    """Position in the level's grid of shards (Zarr 2: of groups of chunks)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that determines which objects are written, and from which pixels."""

    zarr_format: int
    """3 or 2."""
    dims: tuple[str, ...]
    """Axes of each image."""
    lead_dims: tuple[str, ...]
    """Axes of the source along which each index is a separate image."""
    lead_shape: Shape
    """Lengths of the lead dims."""
    dtype: str
    """NumPy type string, little-endian, such as ``<u2``."""
    fill_value: Any
    """A number or bool; a string for numbers that JSON lacks; a pair for complex numbers."""
    chunk: Shape
    """Shape of a chunk (in Zarr 3 within a shard), the same at every level."""
    levels: tuple[PlannedLevel, ...]
    """Levels of each image, the full one first."""
    stages: tuple[Stage, ...]
    """Stages in the order in which they run."""
    codec: Mapping[str, Any]
    """How chunks are encoded; see `Codec.spec`."""
    method: str
    """How levels are downsampled: mean, nearest or mode."""

    @property
    def n_images(self) -> int:
        """Number of images, 1 if there are no lead dims."""
        return math.prod(self.lead_shape)

    def n_cells(self, stage: int) -> int:
        """Number of cells of a stage, in all images."""
        return self.n_images * math.prod(self.stages[stage].grid)

    @property
    def total_cells(self) -> int:
        """Number of cells of all stages."""
        return sum(self.n_cells(stage) for stage in range(len(self.stages)))

    def input_shape(self, stage: int) -> Shape:
        """Shape of the level that the cells of a stage divide."""
        return self.levels[self.stages[stage].input_level or 0].shape

    def cell(self, stage: int, number: int) -> Cell:
        """Cell of a stage by its number."""
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
        outputs = []
        for number in range(stage.first_level, stage.last_level + 1):
            level = self.levels[number]
            region = tuple(
                slice(i * n, min((i + 1) * n, length))
                for i, n, length in zip(cell.index, level.shard, level.shape, strict=True)
            )
            outputs.append(Output(number, region, cell.index))
        return tuple(outputs)

    def image_path(self, image: int) -> str:
        """Path of an image below the destination; empty if there are no lead dims."""
        return str(image) if self.lead_dims else ""

    def array_path(self, image: int, level: int) -> str:
        """Path of the array of a level below the destination."""
        return f"{image}/{level}" if self.lead_dims else str(level)

    def shard_key(self, image: int, level: int, index: Shape) -> str:
        """Key of a stored object: of a shard, or in Zarr 2 of a chunk.

        Zarr 3 uses the chunk key encoding "default"
        (https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#chunk-key-encoding), Zarr 2
        the dimension separator "/".
        """
        path, position = self.array_path(image, level), "/".join(map(str, index))
        return f"{path}/c/{position}" if self.zarr_format == 3 else f"{path}/{position}"

    def stored_shape(self, level: int) -> Shape:
        """Shape of one stored object."""
        return self.levels[level].shard if self.zarr_format == 3 else self.chunk

    def n_objects(self, level: int) -> int:
        """Greatest number of objects of a level in all images; empty ones are not stored."""
        shape = self.levels[level].shape
        stored = self.stored_shape(level)
        return self.n_images * math.prod(-(-n // m) for n, m in zip(shape, stored, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON, as the journal stores it."""
        return {
            "zarr_format": self.zarr_format,
            "dims": list(self.dims),
            "lead_dims": list(self.lead_dims),
            "lead_shape": list(self.lead_shape),
            "dtype": self.dtype,
            "fill_value": self.fill_value,
            "chunk": list(self.chunk),
            "levels": [
                [list(level.shape), list(level.shard), list(level.factors)] for level in self.levels
            ],
            "stages": [
                [s.input_level, s.first_level, s.last_level, list(s.cell), list(s.grid)]
                for s in self.stages
            ],
            "codec": dict(self.codec),
            "method": self.method,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Restore a plan from `to_json`."""
        return cls(
            zarr_format=stored["zarr_format"],
            dims=tuple(stored["dims"]),
            lead_dims=tuple(stored["lead_dims"]),
            lead_shape=tuple(stored["lead_shape"]),
            dtype=stored["dtype"],
            fill_value=stored["fill_value"],
            chunk=tuple(stored["chunk"]),
            levels=tuple(
                PlannedLevel(tuple(shape), tuple(shard), tuple(factors))
                for shape, shard, factors in stored["levels"]
            ),
            stages=tuple(
                Stage(input_level, first, last, tuple(cell), tuple(grid))
                for input_level, first, last, cell, grid in stored["stages"]
            ),
            codec=stored["codec"],
            method=stored["method"],
        )


def fill_as_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value in the form of `Plan.fill_value`."""
    convert = {"c": complex, "f": float, "b": bool}.get(dtype.kind, int)
    return to_plain(convert(value))


def fill_scalar(plan: Plan) -> Any:
    """The fill value of a plan as a NumPy scalar of its dtype."""
    value, scalar = plan.fill_value, np.dtype(plan.dtype).type
    if isinstance(value, list | tuple):
        return scalar(complex(*(float(part) for part in value)))
    return scalar(float(value)) if isinstance(value, str) else scalar(value)
