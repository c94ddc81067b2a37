"""How much memory the cells of a plan take, and how many may be under way."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from dask.utils import format_bytes

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.cell import MEMORY_FACTOR

_MOST_IN_FLIGHT = max(4, 2 * (os.cpu_count() or 1))
"""Cells at once: some fetch while others encode; more would only compete."""
_RESERVE_BYTES = 200 * 10**6
"""What many connections and threads take besides cells, as measured: 285 MB at most, of which
cells leave something."""
_MOST_BY_DEFAULT = 4 * 2**30
_SHARE_BY_DEFAULT = 0.4
"""Of the machine's memory."""


def cell_bytes(plan: Plan) -> int:
    """Memory that the largest cell takes while it is worked on."""
    largest = max(
        math.prod(min(n, m) for n, m in zip(s.cell, plan.input_shape(i), strict=True))
        for i, s in enumerate(plan.stages)
    )
    return int(MEMORY_FACTOR * largest * np.dtype(plan.dtype).itemsize)


def mean_cell_bytes(plan: Plan, stage: int) -> int:
    """Decoded size of a cell on average."""
    grid = plan.stages[stage].grid
    size = math.prod(n / g for n, g in zip(plan.input_shape(stage), grid, strict=True))
    return int(size * np.dtype(plan.dtype).itemsize)


def cells_in_flight(plan: Plan, max_bytes: int) -> int:
    """How many cells this process may work on at once.

    Raises
    ------
    ArgumentError
        If not even one.
    """
    need = cell_bytes(plan)
    reserve = min(_RESERVE_BYTES, need)  # little cells need few connections
    if need + reserve > max_bytes:
        raise ArgumentError(
            f"max_mem={format_bytes(max_bytes)} is too little: a cell of {plan.stages[0].cell}"
            f" pixels needs {format_bytes(need + reserve)}; allow that much, or use smaller shards"
        )
    return min((max_bytes - reserve) // need, _MOST_IN_FLIGHT)


def default_max_bytes() -> int:
    """Memory for cells where the user says nothing: a share of this machine's or container's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (Path("/sys/fs/cgroup") / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            total = min(total, int(text))
    return min(_MOST_BY_DEFAULT, int(_SHARE_BY_DEFAULT * total))
