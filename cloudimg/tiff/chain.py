"""Where the chain of IFDs of a file ends: after its last page, or where the file is damaged.

Each IFD names the offset of the next one, the last one 0 (TIFF 6.0, section 2). tifffile ends a
chain that leads elsewhere without an error, and the pages after it are missing. What such a chain
means depends on whether anything else tells how many pages there are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import TruncatedFileError, counted
from cloudimg.errors.notes import Remark
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import known_chain

COUNTED = {"imagej", "lsm", "stk", "fluoview"}
"""Kinds of images whose metadata give the number of planes."""
ELSEWHERE_COUNTED = {"ome", "mmstack", "ndtiff"}
"""Those of which missing planes are found by their metadata, and may be filled."""
BROKEN, UNLINKED = "broken-chain", "end-of-chain"
KINDS = {BROKEN, UNLINKED}
"""Kinds of remarks."""
_LEAST_BYTES, _LOOKED_AT_BYTES = 12, 64
"""How many zeros after an empty IFD make a hole of it: from one tag to a small IFD."""


@dataclass(frozen=True, slots=True)
class Break:
    """A chain that does not end with 0."""

    n_pages: int
    """Number of IFDs before it breaks."""
    where: str
    """Where the chain leads, to be continued with ``after 5 pages``."""
    target_bytes: int
    """Offset at which the next IFD would be, -1 if no offset was read."""
    kind: str = BROKEN
    """Kind of remark; only where it is `BROKEN` there may be further pages."""

    @property
    def text(self) -> str:
        """What is wrong with the chain."""
        return f"{self.where} after {counted(self.n_pages, 'page')}"

    @property
    def remark(self) -> Remark:
        """The remark where no page of an image is missing."""
        return Remark(self.kind, self.text)

    def error(self, url: str) -> TruncatedFileError:
        """The error for pages that are missing."""
        return TruncatedFileError(
            f"{url} is damaged or incomplete: {self.text}, so that further pages are missing; copy"
            " the file again from where it was written",
            url=url,
        )

    def loses_pages(self, pages: Iterable[Any], dialect: Any) -> bool:
        """Whether there may be pages that the chain does not reach.

        None is lost if the chain leads into the pixels of a page, or to the greatest number: some
        programs write an arbitrary number after the last page.

        Parameters
        ----------
        pages : iterable of tifffile.TiffPage
            All pages of the file.
        dialect : tifffile.TiffFormat
        """
        if self.kind != BROKEN or self.target_bytes == 2 ** (8 * dialect.offsetsize) - 1:
            return False
        return not any(_holds(page, self.target_bytes) for page in pages)


def _holds(page: Any, at_bytes: int) -> bool:
    """Whether an offset lies in the pixels of a page."""
    segments = zip(page.dataoffsets, page.databytecounts, strict=False)
    return any(start <= at_bytes < start + size for start, size in segments)


def check_chain(
    tiff: Any, images: Sequence[Any] | None, file: SparseFile, url: str
) -> tuple[Remark, ...]:
    """Check that no page is missing because the chain of IFDs breaks.

    Nothing is read: a chain that tifffile did not have to follow to its end is not checked.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    images : sequence of tifffile.TiffPageSeries, optional
        All images of the file; None for a file whose pages another file counts.
    file : SparseFile
    url : str

    Returns
    -------
    tuple of Remark
        A remark if the chain breaks, but no page of an image is missing for that.

    Raises
    ------
    CorruptFileError
    """
    found = find_break(tiff, file)
    if found is None:
        return ()
    if images is not None and not _are_counted(images, found.n_pages):
        levels = (level for image in images for level in image.levels)
        pages = (page for level in levels for page in level if page is not None)
        if found.loses_pages(pages, tiff.tiff):
            raise found.error(url)
    return (found.remark,)


def begins_beyond_end(tiff: Any, file: SparseFile) -> bool:
    """Whether the header of a file places the first IFD at the end of the file or after it."""
    start = 8 if tiff.is_bigtiff else 4
    data = file.have(start, start + tiff.tiff.offsetsize)
    return data is None or struct.unpack(tiff.tiff.offsetformat, data)[0] >= file.size_bytes


def find_break(tiff: Any, file: SparseFile) -> Break | None:
    """Where the chain of IFDs breaks, None if it does not or has not been followed to its end."""
    chain = known_chain(tiff)
    if chain is None or not chain.offsets:
        return None
    n_pages = len(chain.offsets)
    layout = tiff.tiff
    size = file.size_bytes
    stop = chain.last_link_bytes + layout.offsetsize
    data = file.have(chain.last_link_bytes, stop)
    link = None if data is None else int(struct.unpack(layout.offsetformat, data)[0])
    if (cut := _cut(chain.offsets, file, layout)) is not None:
        return cut
    if link == 0:
        return _blank(n_pages, chain.offsets[-1], file, layout)
    if link is None:
        return Break(n_pages, f"the chain of IFDs ends at byte {stop} of {size},", -1)
    leads = f"the chain of IFDs leads to byte {link}"
    if link >= size:
        beyond = f"{leads}, beyond the end of the file at byte {size},"
        return Break(n_pages, beyond, link)
    if link in chain.offsets:
        # `SparseFile` refuses loops: the pages after this one were not read, but computed from the
        # distance of the first ones.
        return None
    return Break(n_pages, f"{leads} of {size}, where there is no IFD,", link)


def _cut(offsets: Sequence[int], file: SparseFile, layout: Any) -> Break | None:
    """The break at an IFD that reaches beyond the end of the file.

    tifffile takes the last bytes of such an IFD for the offset of the next one.
    """
    size, start = file.size_bytes, max(offsets)
    data = file.have(start, start + layout.tagnosize)
    n_tags = 0 if data is None else int(struct.unpack(layout.tagnoformat, data)[0])
    link_at = start + layout.tagnosize + n_tags * layout.tagsize
    stop, number = link_at + layout.offsetsize, offsets.index(start)
    if stop <= size:
        return None
    if number == 0 and link_at == size:
        return Break(1, f"the file ends at the end of the IFD at byte {start}", -1, UNLINKED)
    if number == 0:
        return Break(1, f"the IFD at byte {start} ends at byte {stop} of {size},", -1)
    where = f"the chain of IFDs leads to byte {start}, where an IFD would end at byte {stop}"
    return Break(number, f"{where} of {size},", start)


def _blank(n_pages: int, last: int, file: SparseFile, layout: Any) -> Break | None:
    """The break where a chain leads into zeros, which look like an IFD without tags or link."""
    stop = last + layout.tagnosize + layout.offsetsize
    tags = file.have(last, last + layout.tagnosize)
    if n_pages < 2 or tags is None or any(tags):
        return None
    behind = file.look(stop, min(stop + _LOOKED_AT_BYTES, file.size_bytes))
    if behind is None or len(behind) < _LEAST_BYTES or any(behind):
        return None  # an empty IFD as the last one, as FIB-SEMs of FIBICS write it
    zeros = f"the chain of IFDs leads to byte {last} of {file.size_bytes}, where only zeros are,"
    return Break(n_pages - 1, zeros, last)


def _are_counted(images: Sequence[Any], n_pages: int) -> bool:
    """Whether metadata tell how many pages the images of a file have.

    Descriptions by tifffile tell it for one image each, and the chain leads from the last page of
    one image to the next image.
    """
    if all(image.kind == "shaped" for image in images):
        return n_pages < sum(map(n_planes, images)) and all(map(_is_whole, images))
    return all(
        image.kind in ELSEWHERE_COUNTED or (image.kind in COUNTED and _is_whole(image))
        for image in images
    )


def _is_whole(image: Any) -> bool:
    """Whether an image has all planes that its metadata describe."""
    return image.dataoffset is not None or len(image) == n_planes(image)


def n_planes(image: Any) -> int:
    """Number of pages that an image has according to its shape."""
    per_page = math.prod(image.keyframe.shape)
    return int(image.size // per_page) if per_page else 0
