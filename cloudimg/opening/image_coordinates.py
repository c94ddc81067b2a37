"""Coordinates of an image, or of the part of it that was selected."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.opening.fact_coordinates import Coordinate, all_coordinates
from cloudimg.opening.opened import Opened
from cloudimg.reading.source import Source
from cloudimg.reading.window import as_array

Array = npt.NDArray[Any]


def image_coordinates(
    opened: Opened,
    source: Source,
    *,
    with_facts: bool = True,
    facts: FactColumns | None = None,
) -> dict[str, Coordinate]:
    """Return coordinates of a level by name; those of an axis that was dropped have no dims.

    Parameters
    ----------
    opened : Opened
    source : Source
        One of its sources.
    with_facts : bool
        Whether to make coordinates of what is known of each file, too.
    facts : FactColumns, optional
        What is known of files, instead of what is known of all of them.
    """
    inspection = opened.inspection
    if facts is None and with_facts:
        facts = inspection.facts
    found = all_coordinates(source.layout, opened.grid, inspection.own_coords, facts)
    if opened.selection is None:
        return found
    dims_of_files, window = source.layout.dims, source.window
    positions = {} if window is None else dict(zip(dims_of_files, window.positions, strict=True))
    dropped = set() if window is None else {dims_of_files[i] for i in window.dropped}
    counted = _counted(opened, source)
    part = {}
    for name, (dims, values) in found.items():
        if name in counted:
            values = counted[name]
        else:
            for number, dim in enumerate(dims):
                if dim in positions:
                    values = np.take(values, as_array(positions[dim]), number)
        at = tuple(0 if dim in dropped else slice(None) for dim in dims)
        kept = tuple(dim for dim in dims if dim not in dropped)
        part[name] = Coordinate(kept, np.asarray(values[at]))
    return part


def _counted(opened: Opened, source: Source) -> dict[str, Array]:
    """Positions in the image from which a part was selected, of axes on which files are joined."""
    parts = {} if opened.selection is None else opened.selection.by_axis
    lengths = dict(zip(source.layout.dims, source.layout.shape, strict=True))
    return {
        axis.name: as_array(parts[axis.name].at)
        for axis in source.layout.axes
        if axis.field is not None
        and not axis.is_stacked
        and axis.name in parts
        and parts[axis.name].at
        and lengths[axis.name]
        == opened.sources[0].layout.shape[source.layout.dims.index(axis.name)]
    }
