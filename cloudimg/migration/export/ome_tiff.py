"""Write an image of a copy as a tiled OME-TIFF. Memory holds a band of one plane at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.export.original_file import BIGTIFF_BYTES, ReadRegion
from cloudimg.migration.export.read_back import Digest, PlaneDigest, check_levels
from cloudimg.migration.export.result import Lost
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.ome_xml import pixel_type
from cloudimg.migration.metadata.units import is_length, symbol_of
from cloudimg.migration.plan.plan import Plan

Array = npt.NDArray[Any]

_TILE = 256
"""Side length of a tile in pixels."""


def write_ome(
    path: Path,
    reads: Sequence[ReadRegion],
    plan: Plan,
    facts: ImageFacts,
    compression: str | None,
    url: str,
) -> frozenset[Lost]:
    """Write one image as a tiled OME-TIFF, its further levels as SubIFDs, and read it back.

    Pixels of a type that OME-TIFF lacks are written as a plain TIFF of the same structure, with
    the names of the axes in tifffile's own metadata.

    Parameters
    ----------
    path : Path
    reads : sequence of callable
        Functions that return the pixels of a region, by level.
    plan : Plan
    facts : ImageFacts
    compression : str, optional
    url : str
        URL that the file is to have, for messages.

    Returns
    -------
    frozenset of Lost
        Empty: this layout does not compare tags with those of the originals.

    Raises
    ------
    CorruptFileError
        If the file, read back, differs from what was to be written.
    """
    import tifffile

    dtype = np.dtype(plan.dtype)
    nbytes = sum(int(np.prod(level.shape, dtype=np.int64)) for level in plan.levels)
    nbytes *= dtype.itemsize
    is_ome = pixel_type(dtype) is not None
    metadata = _ome_metadata(plan, facts)
    digests: list[list[Digest]] = [[] for _ in reads]
    with tifffile.TiffWriter(path, bigtiff=nbytes > BIGTIFF_BYTES, ome=is_ome) as file:
        for number, (level, read) in enumerate(zip(plan.levels, reads, strict=True)):
            is_first = number == 0
            file.write(
                _tiles(read, level.shape, digests[number]),
                shape=level.shape,
                dtype=dtype,
                tile=(_TILE, _TILE),
                photometric="minisblack",
                compression=compression,
                subifds=len(plan.levels) - 1 if is_first else 0,
                subfiletype=0 if is_first else 1,
                # In a plain TIFF, each level describes its own shape.
                metadata=metadata if is_first or not is_ome else None,
            )
    check_levels(path, digests, url)
    return frozenset()


def _tiles(read: ReadRegion, shape: Sequence[int], digests: list[Digest]) -> Iterator[Array]:
    """All tiles of all planes (the last two axes); reads a band of tiles at a time.

    The digest of each plane is added to `digests`.
    """
    lead, (height, width) = tuple(shape[:-2]), shape[-2:]
    for outer in np.ndindex(*lead):
        digest = PlaneDigest()
        for top in range(0, height, _TILE):
            rows = slice(top, min(top + _TILE, height))
            region = (*(slice(i, i + 1) for i in outer), rows, slice(0, width))
            band = read(region).reshape(rows.stop - rows.start, width)
            digest.add(band)
            if rows.stop == height:  # here: tifffile asks for no item after the last tile
                digests.append(digest.value())
            for left in range(0, width, _TILE):
                tile = band[:, left : left + _TILE]
                if tile.shape != (_TILE, _TILE):
                    tile = np.pad(tile, [(0, _TILE - n) for n in tile.shape])
                yield np.ascontiguousarray(tile)


def _ome_metadata(plan: Plan, facts: ImageFacts) -> dict[str, Any]:
    """Metadata from which tifffile writes OME-XML."""
    # OME-TIFF has no other axes: any other one is written as time, or as channel if there is time.
    other = "T" if "t" not in plan.dims else "C"
    axes = "".join(dim.upper() if dim in ("t", "c", "z", "y", "x") else other for dim in plan.dims)
    metadata: dict[str, Any] = {"axes": axes, "Name": facts.name or "image"}
    for dim in ("x", "y", "z"):
        size, unit = facts.scales.get(dim, (0.0, None))
        if dim in plan.dims and is_length(unit):
            metadata[f"PhysicalSize{dim.upper()}"] = size
            metadata[f"PhysicalSize{dim.upper()}Unit"] = symbol_of(unit)
    step, unit = facts.scales.get("t", (0.0, None))
    if "t" in plan.dims and unit == "second":
        metadata["TimeIncrement"], metadata["TimeIncrementUnit"] = step, "s"
    if "c" in plan.dims and len(facts.channel_names) == plan.levels[0].shape[plan.dims.index("c")]:
        metadata["Channel"] = {"Name": list(facts.channel_names)}
    return metadata
