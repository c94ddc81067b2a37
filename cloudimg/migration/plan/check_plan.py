"""`check_plan`: whether a stored plan is one that can be made for its source. Pure.

A plan is followed exactly, by every machine that resumes the copy or reads it. One that broke the
rules of `cloudimg.migration.plan.plan` would ask for memory, objects and cells without limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.overview import check_overview
from cloudimg.migration.plan.plan import Plan, scalar_of
from cloudimg.migration.plan.stage import Stage

MOST_CELLS = 2**26
"""Most cells of a plan: of the usual size, they are two petabytes."""
_MOST_SHARD_BYTES = 2**33
"""Twice the largest shard that can be requested, since shards are rounded up to whole chunks."""
_MOST_PIXELS = 2**62
_MOST_IMAGES = 2**12
"""Most images of a cell; this version covers far fewer."""


def check_plan(plan: Plan, source: Mapping[str, Any]) -> None:
    """Check that a plan follows the rules for plans, and is one for its source.

    Parameters
    ----------
    plan : Plan
        Restored by `Plan.from_json`, so that its fields have the right types.
    source : mapping
        The ``dims``, ``shape`` and ``dtype`` of the source.

    Raises
    ------
    ValueError
        If it does not, with the field that is wrong.
    """
    _check_source(plan, source)
    _check_number(plan, "fill_value")
    if plan.nodata is not None:
        if np.dtype(plan.dtype).kind not in "iuf":
            raise ValueError("plan.nodata is of pixels that are not plain numbers")
        _check_number(plan, "nodata")
    _check_levels(plan)
    _check_stages(plan)
    if plan.grow is not None:
        _check_growth(plan, plan.dims.index(plan.grow))
    check_overview(plan)
    if plan.total_cells > MOST_CELLS:
        raise ValueError(f"plan.stages have {plan.total_cells} cells, more than {MOST_CELLS}")


def _check_source(plan: Plan, source: Mapping[str, Any]) -> None:
    """The images are those into which the source is divided."""
    try:
        mapping = AxesMapping(source["dims"], source["shape"], is_plate=plan.plate is not None)
    except ArgumentError as exc:
        invalid = exc.message
    else:
        invalid = ""
    if invalid:
        raise ValueError(f"source.dims: {invalid}")
    for name, expected in (
        ("dims", mapping.dims),
        ("lead_dims", mapping.lead_dims),
        ("lead_shape", mapping.lead_shape),
    ):
        if getattr(plan, name) != expected:
            raise ValueError(f"plan.{name} does not follow from the source: expected {expected}")
    if not plan.levels or plan.levels[0].shape != mapping.shape:
        raise ValueError(f"plan.levels[0].shape is not that of the source, {mapping.shape}")
    if math.prod(source["shape"]) > _MOST_PIXELS:
        raise ValueError(f"source.shape has more than {_MOST_PIXELS} pixels")
    expected = np.dtype(source["dtype"]).newbyteorder("<").str
    # Labels of one bit are stored as bytes.
    if plan.dtype != expected and (expected, plan.dtype) != ("|b1", "|u1"):
        raise ValueError(f"plan.dtype does not follow from that of the source, {expected}")


def _check_number(plan: Plan, name: str) -> None:
    """Check a value that pixels of the plan can have."""
    value = getattr(plan, name)
    parts = value if isinstance(value, list) else [value]
    dtype = np.dtype(plan.dtype)
    kinds = (bool,) if dtype.kind == "b" else (int,) if dtype.kind in "iu" else (int, float, str)
    if not isinstance(value, int | float | str | bool | list) or (
        isinstance(value, list) and (dtype.kind != "c" or len(value) != 2)
    ):
        raise ValueError(f"plan.{name} is not a number")
    is_plain = all(
        isinstance(part, kinds) and isinstance(part, bool) == (dtype.kind == "b") for part in parts
    )
    try:
        is_plain = is_plain and scalar_of(plan, value) is not None
    except (OverflowError, TypeError, ValueError):
        is_plain = False
    if not is_plain:
        raise ValueError(f"plan.{name} is not a number of type {plan.dtype}")


def _check_levels(plan: Plan) -> None:
    """Each level follows from the one below it, and consists of whole chunks."""
    below = plan.levels[0].shape
    itemsize = np.dtype(plan.dtype).itemsize
    for number, level in enumerate(plan.levels):
        where = f"plan.levels[{number}]"
        expected = tuple(-(-n // f) for n, f in zip(below, level.factors, strict=True))
        if level.shape != expected or (number == 0 and set(level.factors) - {1}):
            raise ValueError(f"{where}.shape does not follow from the level below it, {expected}")
        if any(n % m for n, m in zip(level.shard, plan.chunk, strict=True)):
            raise ValueError(f"{where}.shard is not of whole chunks of {plan.chunk}")
        if math.prod(level.shard) * itemsize > _MOST_SHARD_BYTES:
            raise ValueError(f"{where}.shard has more than {_MOST_SHARD_BYTES} bytes")
        below = level.shape


def _check_stages(plan: Plan) -> None:
    """The stages write all levels one after the other, each cell one shard of each of them."""
    last = -1
    for number, stage in enumerate(plan.stages):
        where = f"plan.stages[{number}]"
        follows = (stage.input_level, stage.first_level) == (last if number else None, last + 1)
        if not follows or not stage.first_level <= stage.last_level < len(plan.levels):
            raise ValueError(f"{where} does not follow from the levels that were written before")
        shape = plan.input_shape(number)
        if stage.grid != tuple(-(-n // m) for n, m in zip(shape, stage.cell, strict=True)):
            raise ValueError(f"{where}.grid does not follow from its cell and the level's shape")
        _check_shards(plan, stage, where)
        if stage.images:
            _check_images(plan, stage, where)
        last = stage.last_level
    if last != len(plan.levels) - 1:
        raise ValueError(f"plan.stages write {last + 1} of {len(plan.levels)} levels")


def _check_growth(plan: Plan, axis: int) -> None:
    """Along the growing axis, everything has one index, so that no object covers several."""
    extents = [
        plan.chunk,
        *(each.shard for each in plan.levels),
        *(each.factors for each in plan.levels),
        *(each.cell for each in plan.stages),
    ]
    if any(each[axis] != 1 for each in extents) or any(each.images for each in plan.stages):
        raise ValueError(f"plan.grow is {plan.grow}, but chunks or cells have several of it")


def _check_images(plan: Plan, stage: Stage, where: str) -> None:
    """A cell covers several whole images, one after the other, which fit into memory."""
    divided = next((i for i, n in enumerate(stage.images) if n > 1), len(stage.images))
    n, *others = stage.images[divided:] or (1,)
    if not 1 < n <= plan.lead_shape[divided] or tuple(others) != plan.lead_shape[divided + 1 :]:
        raise ValueError(f"{where}.images are not several, one after the other")
    if stage.input_level is not None or math.prod(stage.grid) > 1:
        raise ValueError(f"{where}.images are not of cells with a whole image")
    size = math.prod((*stage.images, *plan.levels[0].shape)) * np.dtype(plan.dtype).itemsize
    if math.prod(stage.images) > _MOST_IMAGES or size > _MOST_SHARD_BYTES:
        raise ValueError(f"{where}.images are more than {_MOST_IMAGES}, or take too much memory")


def _check_shards(plan: Plan, stage: Stage, where: str) -> None:
    """Along each dim, the shards of the cells of a stage cover its levels, and each lies in one."""
    cumulative: Sequence[int] = [1] * len(plan.dims)
    for number in range(stage.input_level or 0, stage.last_level + 1):
        level = plan.levels[number]
        if number > (stage.input_level or 0):
            cumulative = [a * b for a, b in zip(cumulative, level.factors, strict=True)]
        if number < stage.first_level:
            continue
        for n, shard, factor, cell, length in zip(
            stage.grid, level.shard, cumulative, stage.cell, level.shape, strict=True
        ):
            if shard < length if n == 1 else shard * factor != cell:
                raise ValueError(f"{where}.cell does not have the shards of level {number}")
