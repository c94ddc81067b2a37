"""Pages that have more segments than their sizes need.

Where sizes in the header are too small, what is left of an image looks whole. The table of segments
still has all of them, and where a page has several columns or planes of them, they are even taken
for one another. Some writers leave unused entries at the end of the table, so that more of them are
not an error by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import CorruptFileError
from cloudimg.errors.notes import Remark
from cloudimg.tiff.chain import n_planes
from cloudimg.tiff.extent import LayoutOf
from cloudimg.tiff.pieces import Page, PageLayout

SURPLUS_SEGMENTS = "surplus-segments"
"""Kind of remarks."""
_STRIP_OFFSETS = 273


@dataclass(frozen=True, slots=True)
class Surplus:
    """The segments of the first page of a level that has too many."""

    page: int
    """Number of the page."""
    n_entries: int
    """Number of segments in the table."""
    n_stored: int
    """Number of stored ones behind those that the page needs."""
    layout: PageLayout

    @property
    def is_of_other_planes(self) -> bool:
        """Whether the table has a whole number of segments for each of the planes of a page.

        Each plane after the first one then begins at another segment than the sizes say.
        """
        samples, deep, _, _ = self.layout.segment_grid
        return samples * deep > 1 and self.n_entries % (samples * deep) == 0


def find_surplus(pages: Sequence[Page | None], layout_of: LayoutOf) -> Surplus | None:
    """Find the first page of a level that has more stored segments than its sizes need."""
    if not isinstance(pages, list):  # they are computed on access, and have one segment each
        return None
    for number, page in enumerate(pages):
        if page is None or page.is_plain:
            continue
        layout = layout_of(number)
        needed = math.prod(layout.segment_grid)
        if len(page.offsets) > needed:
            rest = zip(page.offsets[needed:], page.bytecounts[needed:], strict=False)
            n_stored = sum(offset > 0 and count > 0 for offset, count in rest)
            if n_stored:
                return Surplus(number, len(page.offsets), n_stored, layout)
    return None


def surplus_in_strips(image: Any) -> Iterator[Remark]:
    """A remark about the first page of an image whose strips have more rows than the page.

    Parameters
    ----------
    image : tifffile.TiffPageSeries
    """
    for level in image.levels:
        is_stack = level.dataoffset is not None
        for page in (level.keyframe,) if is_stack else level:
            if page is None or page.keyframe.is_tiled or not page.keyframe.nbytes:
                continue
            remark = _left_out(page)
            if remark is None and not (is_stack and n_planes(level) > 1):  # see `stacks`
                remark = _more_rows(page)
            if remark is not None:
                yield remark
                return


def _left_out(page: Any) -> Remark | None:
    """The remark on entries of strips that tifffile leaves out, which it does of whole pages."""
    tag = page.tags.get(_STRIP_OFFSETS) if hasattr(page, "tags") else None
    n_strips = len(page.dataoffsets)
    if tag is None or tag.count <= n_strips or not isinstance(tag.value, tuple):
        return None
    n_more = sum(offset > 0 for offset in tag.value[n_strips:])
    if not n_more:
        return None
    text = (
        f"page {page.index} has {tag.count} strips, but consists of {n_strips} by its sizes:"
        f" {n_more} stored ones are in no image"
    )
    return Remark(SURPLUS_SEGMENTS, text)


def _more_rows(page: Any) -> Remark | None:
    """The remark on uncompressed rows behind those of a page, by the byte counts of its strips.

    libtiff and others ignore them. Some writers store the last strip as high as the others.
    """
    keyframe = page.keyframe
    if keyframe.compression != 1 or keyframe.is_subsampled or keyframe.dtype is None:
        return None
    layout = PageLayout.of(keyframe, keyframe.shaped)
    samples, depth, height, width, _ = layout.plane_shape
    row_bytes = math.ceil(width * layout.pixel_bits / 8)
    needed = samples * depth * height * row_bytes
    whole = math.prod(layout.segment_grid) * layout.segment_shape[1] * row_bytes
    stored = sum(page.databytecounts)
    if stored - needed < row_bytes or stored == whole:
        return None
    text = (
        f"page {page.index} consists of {needed} bytes of pixels by its sizes, but its byte counts"
        f" say {stored}: the rest is in no image"
    )
    return Remark("surplus-rows", text)


def error_of(surplus: Surplus, url: str) -> CorruptFileError:
    """The error for segments that would be taken for those of other planes."""
    return CorruptFileError(
        f"{url} contradicts itself: {_text(surplus, 'the image')}, so that segments would be read"
        " as parts of planes to which they do not belong",
        url=url,
    )


def remark_on(surplus: Surplus, what: str) -> Remark:
    """What is noticed about a level, which `what` names."""
    text = f"{_text(surplus, what)}: {surplus.n_stored} stored ones are in no image"
    return Remark(SURPLUS_SEGMENTS, text)


def _text(surplus: Surplus, what: str) -> str:
    name = "tiles" if surplus.layout.is_tiled else "strips"
    needed = math.prod(surplus.layout.segment_grid)
    return (
        f"page {surplus.page} of {what} has {surplus.n_entries} {name}, but consists of {needed} by"
        " its sizes"
    )
