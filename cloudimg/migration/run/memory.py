"""Memory of the cells of a plan, and how many of them may run at once."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np
from dask.utils import format_bytes

from cloudimg.distributed.capacity import capacity_of_dask
from cloudimg.distributed.on_worker import SHARE_OF_WORKER
from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.cell import MEMORY_FACTOR
from cloudimg.settings.operating_system import control_group_memory_bytes, memory_bytes

if TYPE_CHECKING:
    import distributed

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
        plan.n_images_of_cells(number)
        * math.prod(min(n, m) for n, m in zip(stage.cell, plan.input_shape(number), strict=True))
        for number, stage in enumerate(plan.stages)
    )
    return int(MEMORY_FACTOR * largest * np.dtype(plan.dtype).itemsize)


def mean_cell_bytes(plan: Plan, stage: int) -> int:
    """Mean decoded size of the cells of a stage, in bytes."""
    size = plan.n_images * math.prod(plan.input_shape(stage)) / plan.n_cells(stage)
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
        n_images = plan.n_images_of_cells(0)
        images = f"{n_images} images of " if n_images > 1 else ""
        raise ArgumentError(
            f"too little memory: a cell of {images}{plan.stages[0].cell} pixels needs"
            f" {format_bytes(needed + reserve)}, the limit is {format_bytes(max_bytes)}. Raise the"
            " limit with max_mem= or use smaller shards"
        )
    return min((max_bytes - reserve) // needed, _MOST_IN_FLIGHT)


def require_worker_memory(plan: Plan, client: distributed.Client) -> None:
    """Check that a cell fits into the smallest worker of a cluster, if there are workers.

    The plan does not depend on the cluster, so smaller cells have to be asked for.

    Raises
    ------
    ArgumentError
    """
    capacity, needed = capacity_of_dask(client), cell_bytes(plan)
    if capacity is None or capacity.smallest_bytes is None:
        return
    share = int(capacity.smallest_bytes * SHARE_OF_WORKER)
    if needed > share:
        raise ArgumentError(
            f"too little memory on the cluster: a cell of {plan.stages[0].cell} pixels needs"
            f" {format_bytes(needed)}, the smallest worker has"
            f" {format_bytes(capacity.smallest_bytes)}, of which cells may take"
            f" {format_bytes(share)}. Give each worker at least"
            f" {format_bytes(int(needed / SHARE_OF_WORKER) + 1)}, or use smaller shards (shards=)"
        )


def default_max_bytes() -> int:
    """Memory for cells if `max_mem` is not given: a share of the machine's or the container's."""
    total = control_group_memory_bytes() or memory_bytes()
    return min(_MOST_BY_DEFAULT, int(_SHARE_BY_DEFAULT * total))
