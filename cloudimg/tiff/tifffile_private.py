"""The private names of tifffile that cloudimg uses; tests/test_private_apis.py holds them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any


def open_alone(file: IO[bytes] | str | os.PathLike[str], **options: Any) -> Any:
    """Open a file as `tifffile.TiffFile` whose series consist of its own pages only.

    Uses the argument ``_multifile`` of `tifffile.TiffFile`, "internal use" in its documentation.
    There is no public one: by default tifffile opens the other files that OME-XML names, and
    ``is_ome=False`` would ignore the OME-XML of a file that stands alone too. Seen from 2026.2.24
    to 2026.11.8.

    Parameters
    ----------
    file : file object, str or path
    **options
        Public arguments of `tifffile.TiffFile`.
    """
    import tifffile

    tiff: Any = tifffile.TiffFile(file, _multifile=False, **options)
    if tiff.pages._cached and tiff.is_scanimage and not _are_true_frames(tiff):
        # The flag decides in the constructor whether pages are computed, later about axes.
        tiff.filehandle.seek(0)
        tiff = tifffile.TiffFile(file, _multifile=False, is_scanimage=False, **options)
        tiff.is_scanimage = True
    return tiff


def _are_true_frames(tiff: Any) -> bool:
    """Whether the pages of a file by ScanImage are those that tifffile computed.

    tifffile computes them from the distance of the first ones and the size of the file. It leaves
    out one that ends where the file ends, which is added, and one that is incomplete, and takes
    what may follow the last page for more. Uses ``_cached``, ``_offsets`` and ``_loaded`` of
    `tifffile.TiffPages`. Seen from 2026.2.24 to 2026.11.8.
    """
    import tifffile

    pages, layout, handle = tiff.pages, tiff.tiff, tiff.filehandle
    first, number = pages.first, len(pages._offsets)
    distance = pages._offsets[2] - pages._offsets[1]
    start = pages._offsets[1] + (number - 1) * distance
    known = start if start < 2**31 - 1 else None
    if start + distance == handle.size:
        pages._offsets.append(known or 0)
        pages._loaded[number] = tifffile.TiffFrame(
            tiff,
            index=number,
            offset=known,
            dataoffsets=tuple(offset + number * distance for offset in first.dataoffsets),
            databytecounts=first.databytecounts,
            keyframe=first,
        )
        return True
    if known is None:
        return True  # the links of a file beyond 4 GiB lead nowhere
    # Something follows the last page: whether it is the last one, its link tells.
    handle.seek(pages._offsets[-1])
    data = handle.read(layout.tagnosize)
    n_tags = int.from_bytes(data, "little" if layout.byteorder == "<" else "big")
    handle.seek(pages._offsets[-1] + layout.tagnosize + n_tags * layout.tagsize)
    link = handle.read(layout.offsetsize)
    return 0 < n_tags < 4096 and len(link) == layout.offsetsize and not any(link)


@dataclass(frozen=True, slots=True)
class KnownChain:
    """The chain of IFDs, after tifffile followed it to its end."""

    offsets: Sequence[int]
    """Offset of each IFD in bytes; 0 where tifffile computes pages instead of reading their IFDs.
    """
    last_link_bytes: int
    """Where the offset of the next IFD is stored that tifffile read last."""


def known_chain(tiff: Any) -> KnownChain | None:
    """The chain of IFDs of a file, None unless tifffile has followed it to its end.

    Uses ``_offsets``, ``_indexed`` and ``_nextpageoffset`` of `tifffile.TiffPages`. The public
    ``len(tiff.pages)`` and ``tiff.pages.next_page_offset`` would follow the chain, which takes
    requests. Seen from 2026.2.24 to 2026.11.8.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    """
    pages = tiff.pages
    if not pages._indexed or pages._nextpageoffset is None:
        return None
    return KnownChain(pages._offsets, int(pages._nextpageoffset))


def first_known_offsets(tiff: Any) -> Sequence[int]:
    """Offsets of the IFDs that tifffile knows by now, from the first one on.

    Uses ``_offsets`` of `tifffile.TiffPages`; see `known_chain`.
    """
    offsets: Sequence[int] = tiff.pages._offsets
    return offsets


def known_pages(image: Any) -> Sequence[Any]:
    """The pages of an image that tifffile has read: all of them, or the first of a stack.

    Uses ``_pages`` of `tifffile.TiffPageSeries`. Its public iterator would read the IFDs of all
    pages that follow one another, which takes requests. Seen in 2026.2.24 and 2026.3.3.

    Parameters
    ----------
    image : tifffile.TiffPageSeries
    """
    pages: Sequence[Any] = image._pages
    return pages
