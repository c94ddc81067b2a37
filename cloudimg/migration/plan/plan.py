"""`Plan`: which cell reads which region and stores which objects. Pure.

Every plan follows these rules:

- A cell is a region of an image at the input level of a stage. At each level that the stage
  writes, the cell stores exactly one shard (in Zarr 2: whole chunks), so no two cells share an
  object.
- Of small images, each of which would be one cell, a cell covers several, one after the other.
- Along every dim that has several cells, the extent of a cell is a multiple of the cumulative
  factors. Its shard at each level is a multiple of the chunk, so shards shrink with the level.
- Levels for which this is impossible are written by a later stage, which reads the last level of
  the stage before it back.
- Nothing depends on the machine: the plan is stored, and another machine can resume from it.
- In a plan that grows along an axis, cells, chunks and shards have one index of it, no factor is
  along it, and it is the slowest one of the numbers of cells: a longer plan only adds cells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from cloudimg.errors.checked_json import (
    checked_choice,
    checked_int,
    checked_ints,
    checked_list,
    checked_mapping,
    checked_object,
    checked_text,
    checked_texts,
)
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.plate import Plate
from cloudimg.migration.plan.stage import PlannedLevel, Shape, Stage

Region = tuple[slice, ...]

METHODS = ("mean", "nearest", "mode")
FORMATS = (3, 2)
_FIELDS = (
    "zarr_format", "dims", "lead_dims", "lead_shape", "dtype", "fill_value", "chunk", "levels",
    "stages", "codec", "method",
)  # fmt: skip
_OPTIONAL = ("nodata", "plate", "overview", "grow")
_MOST_DIMS = 32
_MOST_LEVELS = 64
_MOST_OVERVIEW = 1024
_DTYPE = re.compile(r"[<|][biufc][0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Cell:
    """One unit of work: a region of one or several images that is read, downsampled and stored."""

    stage: int
    """Number of the stage."""
    number: int
    """Number among all cells of the stage: image by image, in C order of the grid; of a copy that
    grows, index by index of the growing axis first."""
    lead: Region
    """Region of the lead dims, clipped to their lengths: that of the images."""
    images: range
    """Numbers of the images."""
    index: Shape
    """Position in the grid of cells of an image."""
    region: Region
    """Region of the input level that is read of each image, clipped to the level's shape."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a cell stores at one level of each of its images."""

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
    nodata: Any = None
    """Value of pixels without data, in the form of `fill_value`, which with NaN have no part in
    means and histograms; None if there is none, and in plans of older versions."""
    plate: Plate | None = None
    """The plate whose fields the images are; None if they are none, and in plans of older
    versions, which number them."""
    overview: int | None = None
    """Longest side of the small image of each image in the overview; None if there is none."""
    grow: str | None = None
    """The axis of `dims` along which the copy may grow; None if it does not."""

    @property
    def n_images(self) -> int:
        """Number of images, 1 if there are no lead dims."""
        return math.prod(self.lead_shape)

    def n_cells(self, stage: int) -> int:
        """Number of cells of a stage, in all images."""
        return math.prod(self._lead_grid(stage)) * math.prod(self.stages[stage].grid)

    def _lead_grid(self, stage: int) -> Shape:
        """Number of cells of a stage by lead dim."""
        images = self.stages[stage].images or (1,) * len(self.lead_shape)
        return tuple(-(-n // m) for n, m in zip(self.lead_shape, images, strict=True))

    def n_images_of_cells(self, stage: int) -> int:
        """Number of images of a cell of a stage, at most."""
        return math.prod(self.stages[stage].images)

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
        grid, order = self._grid_of_cells(stage)
        found = dict(zip(order, _unraveled(number, tuple(grid[i] for i in order)), strict=True))
        position, n_lead = tuple(found[i] for i in range(len(grid))), len(self.lead_dims)
        lead = _box(position[:n_lead], planned.images or (1,) * n_lead, self.lead_shape)
        first = _raveled([part.start for part in lead], self.lead_shape)
        images = range(first, first + math.prod(part.stop - part.start for part in lead))
        index = position[n_lead:]
        region = _box(index, planned.cell, self.input_shape(stage))
        return Cell(stage, number, lead, images, index, region)

    def cell_number(self, stage: int, image: int, index: Shape) -> int:
        """Number of the cell with an image at a position in the grid of its cells."""
        planned = self.stages[stage]
        at = _unraveled(image, self.lead_shape)
        if planned.images:
            at = tuple(i // n for i, n in zip(at, planned.images, strict=True))
        grid, order = self._grid_of_cells(stage)
        position = (*at, *index)
        return _raveled([position[i] for i in order], tuple(grid[i] for i in order))

    def _grid_of_cells(self, stage: int) -> tuple[Shape, Sequence[int]]:
        """Number of cells of a stage by lead dim and dim, and the order of these, slowest first."""
        grid = (*self._lead_grid(stage), *self.stages[stage].grid)
        if self.grow is None:
            return grid, range(len(grid))
        first = len(self.lead_dims) + self.dims.index(self.grow)
        return grid, [first, *(i for i in range(len(grid)) if i != first)]

    def grown(self, length: int) -> Plan:
        """The plan with another length of the axis along which it grows."""
        assert self.grow is not None
        axis = self.dims.index(self.grow)

        def with_length(shape: Shape) -> Shape:
            return (*shape[:axis], length, *shape[axis + 1 :])

        return replace(
            self,
            levels=tuple(replace(each, shape=with_length(each.shape)) for each in self.levels),
            stages=tuple(replace(each, grid=with_length(each.grid)) for each in self.stages),
        )

    def outputs(self, cell: Cell) -> tuple[Output, ...]:
        """What a cell stores, level by level."""
        stage = self.stages[cell.stage]
        outputs = []
        for number in range(stage.first_level, stage.last_level + 1):
            level = self.levels[number]
            outputs.append(Output(number, _box(cell.index, level.shard, level.shape), cell.index))
        return tuple(outputs)

    def image_path(self, image: int) -> str:
        """Path of an image below the destination; empty if there are no lead dims."""
        if self.plate is not None:
            return self.plate.path(image)
        return str(image) if self.lead_dims else ""

    def is_listed(self, image: int) -> bool:
        """Whether the metadata lists an image: not those of wells of a plate without any file."""
        return self.plate is None or self.plate.is_listed(image)

    def array_path(self, image: int, level: int) -> str:
        """Path of the array of a level below the destination."""
        return f"{self.image_path(image)}/{level}" if self.lead_dims else str(level)

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
        """Number of objects of a level in all images."""
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
            "levels": [level.to_json() for level in self.levels],
            "stages": [stage.to_json() for stage in self.stages],
            "codec": dict(self.codec),
            "method": self.method,
            **({} if self.nodata is None else {"nodata": self.nodata}),
            **({} if self.plate is None else {"plate": self.plate.to_json()}),
            **({} if self.overview is None else {"overview": self.overview}),
            **({} if self.grow is None else {"grow": self.grow}),
        }

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore a plan from `to_json`; see `check_plan` for whether it is one that can be made.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or has another type or size than it can have.
        """
        checked_object(stored, "plan", required=_FIELDS, optional=_OPTIONAL)
        dims = tuple(checked_texts(stored["dims"], "plan.dims", most=_MOST_DIMS, characters=256))
        lead_dims = checked_texts(
            stored["lead_dims"], "plan.lead_dims", most=_MOST_DIMS, characters=256
        )
        lead_shape = checked_ints(
            stored["lead_shape"], "plan.lead_shape", n=len(lead_dims), least=1
        )
        plate, overview = stored.get("plate"), stored.get("overview")
        if overview is not None:
            checked_int(overview, "plan.overview", least=1, greatest=_MOST_OVERVIEW)
        n = len(dims)
        return cls(
            zarr_format=checked_choice(stored["zarr_format"], "plan.zarr_format", FORMATS),
            dims=dims,
            lead_dims=tuple(lead_dims),
            lead_shape=lead_shape,
            dtype=checked_text(stored["dtype"], "plan.dtype", pattern=_DTYPE),
            fill_value=stored["fill_value"],
            chunk=checked_ints(stored["chunk"], "plan.chunk", n=n, least=1),
            levels=tuple(
                PlannedLevel.from_json(each, f"plan.levels[{i}]", n)
                for i, each in enumerate(
                    checked_list(stored["levels"], "plan.levels", most=_MOST_LEVELS)
                )
            ),
            stages=tuple(
                Stage.from_json(each, f"plan.stages[{i}]", n, len(lead_dims))
                for i, each in enumerate(
                    checked_list(stored["stages"], "plan.stages", most=_MOST_LEVELS)
                )
            ),
            codec=checked_mapping(stored["codec"], "plan.codec", most=1),
            method=checked_choice(stored["method"], "plan.method", METHODS),
            nodata=stored.get("nodata"),
            plate=None if plate is None else Plate.from_json(plate, lead_dims, lead_shape),
            overview=overview,
            grow=None
            if "grow" not in stored
            else checked_choice(stored["grow"], "plan.grow", dims),
        )


def _box(index: Shape, extents: Shape, shape: Shape) -> Region:
    """Region at an index of a grid of boxes, clipped to a shape."""
    return tuple(
        slice(i * n, min((i + 1) * n, length))
        for i, n, length in zip(index, extents, shape, strict=True)
    )


def _unraveled(number: int, shape: Shape) -> Shape:
    """Index of a number in C order."""
    return tuple(int(i) for i in np.unravel_index(number, shape))


def _raveled(index: Sequence[int], shape: Shape) -> int:
    """Number of an index in C order."""
    return int(np.ravel_multi_index(tuple(index), shape)) if shape else 0


def fill_as_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """A fill value in the form of `Plan.fill_value`."""
    convert = {"c": complex, "f": float, "b": bool}.get(dtype.kind, int)
    return to_plain(convert(value))


def fill_scalar(plan: Plan) -> Any:
    """The fill value of a plan as a NumPy scalar of its dtype."""
    return scalar_of(plan, plan.fill_value)


def nodata_scalar(plan: Plan) -> Any:
    """The value of pixels without data as a NumPy scalar of its dtype; None if there is none."""
    return None if plan.nodata is None else scalar_of(plan, plan.nodata)


def scalar_of(plan: Plan, value: Any) -> Any:
    """A value in the form of `Plan.fill_value` as a NumPy scalar of the plan's dtype."""
    scalar = np.dtype(plan.dtype).type
    if isinstance(value, list | tuple):
        return scalar(complex(*(float(part) for part in value)))
    return scalar(float(value)) if isinstance(value, str) else scalar(value)
