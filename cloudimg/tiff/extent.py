"""Which segments a header places beyond the end of the file.

Only what is certain is counted as lost: a segment that begins at the end of the file or after it,
and an uncompressed one that needs bytes beyond the end. Byte counts of compressed segments are
often a little too large; decoding decides whether such a segment is whole (see
`cloudimg.tiff.stream_end`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from operator import add

import numpy as np

from cloudimg.errors import TruncatedFileError
from cloudimg.errors.notes import Remark
from cloudimg.tiff.pieces import Page, PageLayout

LayoutOf = Callable[[int], PageLayout]
"""Layout of the page with a number."""

ENDS_EARLY = "ends-early"
"""Kind of the remark that a file ends before the bytes that its header names."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Segments of a level that are beyond the end of the file, in whole or in part, or nowhere."""

    stop_bytes: int = 0
    """Where the last of them ends."""
    n_lost: int = 0
    """Number of those of which pixels are missing."""
    n_doubtful: int = 0
    """Number of those that may be whole."""
    n_segments: int = 0
    """Number of segments of all pages; a page that is one array counts as one."""
    n_unstored: int = 0
    """Number of segments that the file does not contain: GDAL's sparse files."""

    def __add__(self, other: Beyond) -> Beyond:
        return Beyond(
            max(self.stop_bytes, other.stop_bytes),
            self.n_lost + other.n_lost,
            self.n_doubtful + other.n_doubtful,
            self.n_segments + other.n_segments,
            self.n_unstored + other.n_unstored,
        )


def find_beyond(pages: Sequence[Page | None], layout_of: LayoutOf, size_bytes: int) -> Beyond:
    """Find the segments of a level beyond the end of the file.

    Parameters
    ----------
    pages : sequence of Page or None
    layout_of : callable
    size_bytes : int
        Size of the file.
    """
    found = Beyond()
    if not isinstance(pages, list):  # they are computed on access, as many as are asked for
        return found
    n_segments = n_unstored = 0
    for number, page in enumerate(pages):
        if page is None:
            continue
        n_segments += 1 if page.is_plain else len(page.offsets)
        if not page.is_plain and (0 in page.offsets or 0 in page.bytecounts):
            pairs = zip_longest(page.offsets, page.bytecounts, fillvalue=1)
            n_unstored += sum(not offset or not count for offset, count in pairs)
        if not _is_within(page, layout_of(number), size_bytes):
            found += _of_page(page, layout_of(number), size_bytes)
    return found + Beyond(n_segments=n_segments, n_unstored=n_unstored)


def error_of(beyond: Beyond, size_bytes: int, url: str) -> TruncatedFileError:
    """The error for pixels that are missing at the end of a file."""
    return TruncatedFileError(
        f"{url} ends too early: its header places pixels at bytes up to {beyond.stop_bytes}, but"
        f" the file ends at byte {size_bytes}, so that pixels of"
        f" {beyond.n_lost} of {beyond.n_segments} segments are missing; copy the file again from"
        " where it was written",
        url=url,
        byte_range=(size_bytes, beyond.stop_bytes),
    )


def remark_on(beyond: Beyond, size_bytes: int, what: str) -> Remark:
    """What is noticed about segments that are missing outside of the image, or in doubt.

    Parameters
    ----------
    beyond : Beyond
    size_bytes : int
        Size of the file.
    what : str
        The level, for the text.
    """
    n_beyond = beyond.n_lost + beyond.n_doubtful
    text = (
        f"the header places {n_beyond} of {beyond.n_segments} segments of {what} at bytes up to"
        f" {beyond.stop_bytes}, but the file ends at byte {size_bytes};"
    )
    if beyond.n_lost:
        text += f" pixels of {beyond.n_lost} of them are missing"
    else:
        text += " whether pixels are missing is found out when they are read"
    return Remark(ENDS_EARLY, text)


def remark_on_unstored(beyond: Beyond, what: str) -> Remark:
    """What is noticed about segments that the file does not contain."""
    text = (
        f"{beyond.n_unstored} of {beyond.n_segments} segments of {what} are not stored (byte count"
        " or offset 0) and read as the fill value"
    )
    return Remark("unstored-segments", text)


def _is_within(page: Page, layout: PageLayout, size_bytes: int) -> bool:
    """Whether all that a page needs is certainly within the file; fast, as nearly all are."""
    if page.is_plain:
        return page.offsets[0] + _page_bytes(layout) <= size_bytes
    if len(page.offsets) == 1:
        counts = page.bytecounts
        needed = counts[0] if counts else layout.segment_bytes(0)
        return page.offsets[0] + needed <= size_bytes
    if len(page.bytecounts) < len(page.offsets):
        return False
    # A segment that is not stored has an offset or a count of 0, which does no harm here.
    return bool(max(map(add, page.offsets, page.bytecounts)) <= size_bytes)


def _of_page(page: Page, layout: PageLayout, size_bytes: int) -> Beyond:
    if page.is_plain:
        return Beyond(page.offsets[0] + _page_bytes(layout), 1)
    offsets = np.array(page.offsets, np.float64)
    counts = np.zeros(len(offsets))
    n_counts = min(len(offsets), len(page.bytecounts))
    counts[:n_counts] = page.bytecounts[:n_counts]
    if not layout.is_compressed:
        counts[n_counts:] = [layout.segment_bytes(i) for i in range(n_counts, len(offsets))]
    is_beyond = (offsets > 0) & (counts > 0) & (offsets + counts > size_bytes)
    is_lost = is_beyond & (offsets >= size_bytes)
    if not layout.is_compressed:
        for i in np.flatnonzero(is_beyond & ~is_lost):
            needed = min(counts[i], layout.segment_bytes(int(i)))
            is_lost[i] = offsets[i] + needed > size_bytes
    if not is_beyond.any():
        return Beyond()
    n_lost = int(is_lost.sum())
    stop = int((offsets + counts)[is_beyond].max())
    return Beyond(stop, n_lost, int(is_beyond.sum()) - n_lost)


def _page_bytes(layout: PageLayout) -> int:
    """Size of a page that is one array."""
    samples, depth, height, width, _ = layout.plane_shape
    return samples * depth * height * width * layout.pixel_bytes
