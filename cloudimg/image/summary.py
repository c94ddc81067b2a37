"""The text of an image, as Python shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.discovery.unmatched import UNMATCHED
from cloudimg.opening.coordinates import coordinate_lines
from cloudimg.opening.opened import Opened
from cloudimg.reading.window import as_array
from cloudimg.tiff import place_among


def summary(opened: Opened, series: int) -> str:
    """Describe an image in a few lines; `series` is its number in its file."""
    from dask.utils import format_bytes

    grid, inspection, report = opened.grid, opened.inspection, opened.report
    full = opened.sources[0]
    sizes = ", ".join(f"{dim}: {n}" for dim, n in zip(full.dims, full.shape, strict=True))
    nbytes = format_bytes(math.prod(full.shape) * full.dtype.itemsize)
    missing = f", {grid.n_missing} missing" if grid.n_missing else ""
    lines = [
        f"<cloudimg.Image ({sizes}) {full.dtype}, {nbytes}>",
        f"  {opened.url}",
        f"  files: {opened.n_files}{missing}",
    ]
    if report.total > report.count("missing"):
        lines.append(f"  {report.summary}")
    beside = opened.unmatched
    if beside is not None and beside.n_objects:
        lines.append(f"  unmatched: {beside.summary} among {beside.scope}")
    if images := inspection.headers[0].images:
        lines.append(f"  {place_among(images, series)}")
    if len(opened.sources) > 1:
        lines.append(f"  levels: {' '.join(str(source.shape) for source in opened.sources)}")
    lines += (f"  {line}" for line in coordinate_lines(full.layout, grid, _own_coords(opened)))
    lines += (f"  note: {note}" for note in inspection.notes if note.kind != UNMATCHED)
    return "\n".join(lines)


def _own_coords(opened: Opened) -> Mapping[str, Sequence[Any]]:
    """Coordinates in each file at the positions that the image has."""
    own, source = opened.inspection.own_coords, opened.sources[0]
    if source.window is None:
        return own
    positions = dict(zip(source.layout.dims, source.window.positions, strict=True))
    return {
        dim: [values[i] for i in as_array(positions[dim])]
        for dim, values in own.items()
        if dim in positions  # labels along a dim are not shown
    }
