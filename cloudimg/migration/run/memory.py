"""Memory of the cells of a plan, and how many of them may run at once."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from dask.utils import format_bytes

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.cell import MEMORY_FACTOR
from cloudimg.operating_system import memory_bytes

_MOST_IN_FLIGHT = max(4, 2 * (os.cpu_count() or 1))
"""Cells at once, at most: some fetch while others encode; more would only compete."""
_RESERVE_BYTES = 200 * 10**6
"""Memory of many connections and threads, besides cells. At most 285 MB were measured, part of
which fits into the memory that cells were granted and did not use."""
_MOST_BY_DEFAULT = 4 * 2**30
"""Largest default limit, in bytes."""
_SHARE_BY_DEFAULT = 0.4
"""Default limit as a share of the machine's memory."""


def cell_bytes(plan: Plan) -> int:
    """Peak memory of the largest cell, in bytes."""
    largest = max(
        math.prod(min(n, m) for n, m in zip(stage.cell, plan.input_shape(number), strict=True))
        for number, stage in enumerate(plan.stages)
    )
    return int(MEMORY_FACTOR * largest * np.dtype(plan.dtype).itemsize)


def mean_cell_bytes(plan: Plan, stage: int) -> int:
    """Mean decoded size of the cells of a stage, in bytes."""
    grid = plan.stages[stage].grid
    size = math.prod(n / g for n, g in zip(plan.input_shape(stage), grid, strict=True))
    return int(size * np.dtype(plan.dtype).itemsize)


def cells_in_flight(plan: Plan, max_bytes: int) -> int:
    """Number of cells that this process may do at once within `max_bytes` of memory.

    Raises
    ------
    ArgumentError
        If there is too little memory for a single cell.
    """
    needed = cell_bytes(plan)
    reserve = min(_RESERVE_BYTES, needed)  # small cells need few connections
    if needed + reserve > max_bytes:
        raise ArgumentError(
            f"too little memory: a cell of {plan.stages[0].cell} pixels needs"
            f" {format_bytes(needed + reserve)}, the limit is {format_bytes(max_bytes)}. Raise the"
            " limit with max_mem= or use smaller shards"
        )
    return min((max_bytes - reserve) // needed, _MOST_IN_FLIGHT)


def default_max_bytes() -> int:
    """Memory for cells if `max_mem` is not given: a share of the machine's or the container's."""
    total = memory_bytes()
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (Path("/sys/fs/cgroup") / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            total = min(total, int(text))
    return min(_MOST_BY_DEFAULT, int(_SHARE_BY_DEFAULT * total))
