"""Write an original file again. Memory holds a few planes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.export.original_tags import (
    Tags,
    extra_tags,
    photometric,
    resolution,
    tags_by_page,
    with_descriptions,
)
from cloudimg.tiff.parser_log import ParserLog
from cloudimg.tiff.tifffile_private import open_alone

Array = npt.NDArray[Any]
ReadRegion = Callable[[tuple[slice, ...]], Array]
"""Returns the pixels of a region."""

BIGTIFF_BYTES = 2**32 - 2**25
"""Largest size in bytes of the pixels of a classic TIFF, whose offsets have 32 bits."""
_BLOCK_BYTES = 2**28
"""Most bytes of planes that are read together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalFile:
    """An original file, as the table of originals describes it."""

    shape: tuple[int, ...]
    """Shape of the file's pixels."""
    dims: tuple[str, ...]
    """Axes of the file's pixels, in the file's order."""
    dtype: np.dtype[Any]
    """Type of the pixels."""
    row: Mapping[str, Any]
    """Row of the table of originals that holds the tags and the description."""
    depth: int
    """Planes along the last axis before the plane to read together, unless they are too large."""
    numbers: Sequence[int] | None = None
    """Numbers of the pages in the original, if known."""
    series: int = 0
    """Which image of the original it is."""

    @property
    def plane_ndim(self) -> int:
        """How many of the last axes form a plane: y and x, with samples 3."""
        return 3 if tuple(self.dims[-3:]) in (("y", "x", "s"), ("s", "y", "x")) else 2

    @property
    def n_pages(self) -> int:
        """Number of planes."""
        return int(np.prod(self.shape[: -self.plane_ndim], dtype=np.int64))

    @property
    def is_planar(self) -> bool:
        """Whether each sample has a plane of its own."""
        return tuple(self.dims[-3:]) == ("s", "y", "x")

    @property
    def nbytes(self) -> int:
        """Size of the pixels in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def write_original(
    path: Path, read: ReadRegion, original: OriginalFile, compression: str | None
) -> None:
    """Write a file as it was: pages in its own order, each with its tags and description.

    OME-XML may assign pages to planes in any order: the order is known only after a first attempt
    is read back. A description is left out if it makes another image of the pages than the
    original (as that of a multi-file dataset may), and tags are left out if they may belong to
    another page.
    """
    first, tags = tags_by_page(original.row, original.n_pages, original.numbers, original.series)
    description = original.row.get("description") if original.series == 0 else None

    def write(pages: Iterator[Array], description: str | None) -> None:
        described = with_descriptions(tags, description)
        _write_pages(path, pages, described, original, first, compression)

    write(_planes(read, original), description)
    if description is None:
        return
    order = _page_order(path, original.shape)
    if order is None:
        write(_planes(read, original), None)
    elif original.numbers is None and sorted(order) == list(range(original.n_pages)) != order:
        write(_planes_by_page(read, original, order), description)


def _planes(read: ReadRegion, original: OriginalFile) -> Iterator[Array]:
    """All planes, in C order of the axes before them."""
    n = original.plane_ndim
    lead, plane = original.shape[:-n], original.shape[-n:]
    in_plane = tuple(slice(0, length) for length in plane)
    if not lead:
        yield read(in_plane)
        return
    plane_bytes = int(np.prod(plane, dtype=np.int64)) * original.dtype.itemsize
    depth = max(1, min(original.depth, _BLOCK_BYTES // max(1, plane_bytes)))
    for outer in np.ndindex(*lead[:-1]):
        for start in range(0, lead[-1], depth):
            stop = min(start + depth, lead[-1])
            region = (*(slice(i, i + 1) for i in outer), slice(start, stop), *in_plane)
            yield from read(region).reshape(stop - start, *plane)


def _page_order(path: Path, shape: Sequence[int]) -> list[int] | None:
    """By plane of a file's first image, the number of its page; empty if they are in order.

    None if the description makes another image of the pages: one with another shape, apart from
    axes of length 1.
    """
    import tifffile

    try:
        with ParserLog(), open_alone(path) as tiff:
            image = tiff.series[0]
            if [n for n in image.shape if n > 1] != [n for n in shape if n > 1]:
                return None
            # Only in OME-TIFF may pages be in another order than planes.
            return [page.index for page in image if page is not None] if tiff.is_ome else []
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError):
        return None  # tifffile raises all of these for descriptions that it cannot interpret


def _planes_by_page(
    read: ReadRegion, original: OriginalFile, order: Sequence[int]
) -> Iterator[Array]:
    """All planes in the order of their pages; `order` has the number of each plane's page."""
    n = original.plane_ndim
    lead, plane = original.shape[:-n], original.shape[-n:]
    in_plane = tuple(slice(0, length) for length in plane)
    for number in np.argsort(order):
        outer = np.unravel_index(int(number), lead)
        yield read((*(slice(int(i), int(i) + 1) for i in outer), *in_plane)).reshape(plane)


def _write_pages(
    path: Path,
    pages: Iterator[Array],
    described: Sequence[tuple[Tags, str | None]],
    original: OriginalFile,
    first: Tags,
    compression: str | None,
) -> None:
    """Write pages, each with its tags and description; `first` are the tags of the first IFD."""
    import tifffile

    n_samples = 1
    options: dict[str, Any] = {"compression": compression, "metadata": None, "software": False}
    if original.plane_ndim == 3:
        n_samples = original.shape[-3 if original.is_planar else -1]
    if n_samples > 1:
        options["planarconfig"] = "separate" if original.is_planar else "contig"
    with tifffile.TiffWriter(path, bigtiff=original.nbytes > BIGTIFF_BYTES) as file:
        for page, (tags, description) in zip(pages, described, strict=True):
            file.write(
                np.ascontiguousarray(page, original.dtype),
                description=None if description is None else description.encode(errors="replace"),
                extratags=extra_tags(tags),
                **photometric(tags or first, n_samples, original.dtype),
                **resolution(tags),
                **options,
            )
