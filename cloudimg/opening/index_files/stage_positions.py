"""Whether stage positions can be true: fields of view do not lie on each other. Pure."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError
from cloudimg.opening.place_by_stage import REPEATED, axes_of_fields

_LEAST_UM = 0.1
"""Distance of fields in micrometres where the size of a pixel is not known."""


def impossible_positions(grid: FileGrid, facts: FactColumns, pixel_um: float | None) -> str | None:
    """Return why stage positions cannot be where the fields are; None if they can.

    Two fields of one well, time, channel and plane that are nearer than a pixel are one field that
    is listed twice, or positions that were never measured.

    Parameters
    ----------
    grid : FileGrid
    facts : FactColumns
        What is known of the files, by position in C order of the grid.
    pixel_um : float, optional
        Size of a pixel in micrometres.
    """
    try:
        axes = axes_of_fields(grid.fields, ())
    except ArgumentError:  # there are none
        return None
    n_fields = int(np.prod([grid.shape[axis] for axis in axes], dtype=np.int64))
    if n_fields < 2 or not {"stage_x", "stage_y"} <= set(facts.names):
        return None
    rows = _first_files(grid)
    stage = np.array([facts.column(f"stage_{dim}", rows) for dim in "xyz"])
    rows, stage = (each[..., np.isfinite(stage[:2]).all(axis=0)] for each in (rows, stage))
    index = np.array(np.unravel_index(rows, grid.shape)).reshape(len(grid.shape), -1)
    apart = [
        axis for axis, name in enumerate(grid.fields) if axis not in axes and name not in REPEATED
    ]
    # Positions within half a cell of each other share a cell of one of these grids.
    for shift in product((0, 0.5), repeat=2):
        cells = np.nan_to_num(stage) / (pixel_um or _LEAST_UM)
        cells[:2] += np.array(shift)[:, None]
        places = np.vstack((index[apart], np.floor(cells)))
        order = np.lexsort(places)
        is_same = (places[:, order[:-1]] == places[:, order[1:]]).all(axis=0)
        if is_same.any():
            first = order[:-1][is_same][0], order[1:][is_same][0]
            names = " and ".join(_labels(grid, index[:, i]) for i in sorted(first))
            x, y = stage[:2, first[0]]
            return f"{names} are both at x {x:g}, y {y:g} µm"
    return None


def _first_files(grid: FileGrid) -> npt.NDArray[np.int64]:
    """Positions of the first file of each field, whatever its time, channel and plane."""
    rows = grid.positions
    index = np.unravel_index(rows, grid.shape)
    places = np.zeros(rows.size, np.int64)
    for n, name, each in zip(grid.shape, grid.fields, index, strict=True):
        if name not in REPEATED:
            places = places * n + each
    return rows[np.unique(places, return_index=True)[1]]


def _labels(grid: FileGrid, index: npt.NDArray[Any]) -> str:
    labels = grid.labels_at(tuple(int(i) for i in index))
    return "(" + ", ".join(f"{name}={label}" for name, label in labels.items()) + ")"
