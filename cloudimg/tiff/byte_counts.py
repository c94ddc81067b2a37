"""Byte counts of segments where the header does not give them.

Some writers leave the byte count of a page of one strip at 0, or leave out the tag. libtiff
(``tif_dirread.c``, ByteCountLooksBad and EstimateStripByteCounts) then takes an uncompressed strip
for as long as its rows, and reads a compressed one up to the end of the file. Of pages of several
strips it refuses those without the tag, and a count of 0 means that nothing is stored (GDAL's
sparse files).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COUNTS = (279, 325)
"""StripByteCounts and TileByteCounts."""
_SPARE_BYTES = 64 * 2**10
_MOST_TIMES = 2
"""A compressed strip is read up to this many times the size of its pixels, and `_SPARE_BYTES`: no
compression makes them as large, and the rest of the file may be much larger."""


def known_counts(page: Any, keyframe: Any, offsets: Sequence[int]) -> Sequence[int]:
    """Byte counts of the segments of one of tifffile's pages; estimated where it has none.

    Empty for an uncompressed strip, whose size follows from the layout.
    """
    counts: Sequence[int] = page.databytecounts
    if keyframe.is_tiled or offsets[0] == 0 or len(offsets) != _n_strips(keyframe):
        return counts
    if len(offsets) == 1 and keyframe.compression == 1 and not keyframe.is_subsampled:
        return ()
    if len(offsets) == 1 and (not counts or counts[0] == 0):
        return _up_to_next(page, keyframe, offsets)
    if _has_no_tag(page) and keyframe.compression != 1 and _is_strip_a_plane(keyframe, offsets):
        return _up_to_next(page, keyframe, offsets)
    return counts


def _has_no_tag(page: Any) -> bool:
    """Whether a page has no byte counts; tifffile takes the size of its pixels for one then."""
    tags = getattr(page, "tags", None)
    return tags is not None and not any(code in tags for code in _COUNTS)


def _is_strip_a_plane(keyframe: Any, offsets: Sequence[int]) -> bool:
    """Whether each strip has all rows of a page or, of separate planes, of one sample."""
    n_planes = keyframe.samplesperpixel if keyframe.planarconfig == 2 else 1
    return bool(len(offsets) == n_planes)


def _n_strips(keyframe: Any) -> int:
    samples, depth, height, _, _ = keyframe.shaped
    return int(samples * depth * -(-height // max(1, min(keyframe.rowsperstrip, height))))


def _up_to_next(page: Any, keyframe: Any, offsets: Sequence[int]) -> tuple[int, ...]:
    """From each strip up to what is known to follow it: a strip, the IFD, or the end."""
    end = int(keyframe.parent.filehandle.size)
    most = _MOST_TIMES * keyframe.nbytes + _SPARE_BYTES
    ends = sorted({*offsets, page.offset, end})
    return tuple(
        min(most, next((stop for stop in ends if stop > start), start) - start) for start in offsets
    )
