"""What a file holds beyond its images: SubIFDs that cannot be read, bytes that are in no page.

A chain of IFDs that ends too early looks like one that ends where it should. Only bytes that
belong to no page tell: an interrupted writer leaves pixels to which no IFD leads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cloudimg.errors import counted
from cloudimg.notes import Remark
from cloudimg.tiff.ifd import Dialect, read_ifd, segment_offset
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import known_chain

_PLAIN = {"generic", "uniform", "shaped", "imagej"}
"""Kinds of files whose writers append nothing of their own."""
_WITH_SUBIFDS = {"generic", "ome", "shaped"}
"""Kinds of files of which tifffile reads SubIFDs."""
_LEAST_BYTES = 512
"""Fewer bytes are private metadata and gaps."""
_SHORT_BYTES = 64
"""Values up to this length are taken to be repeated on each page of a stack."""


def unread_parts(tiff: Any, images: Sequence[Any], size_bytes: int) -> Iterator[Remark]:
    """Remarks about parts of a file that are in no image.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    images : sequence of tifffile.TiffPageSeries
        All images of the file.
    size_bytes : int
        Size of the file.
    """
    levels = [level for image in images for level in image.levels]
    if images[0].kind in _WITH_SUBIFDS and any(image.keyframe.subifds for image in images):
        yield from _unread_subifds(levels)
    if images[0].kind in _PLAIN and not tiff.is_micromanager:
        yield from _unread_bytes(tiff, levels, size_bytes)


def unread_ifd(tiff: Any, image: Any, file: SparseFile) -> Iterator[Remark]:
    """A remark if an STK has a second IFD; tifffile reads only the first one.

    It should have one for all planes ("MetaMorph Stack (STK) Image File Format", Universal
    Imaging).

    Parameters
    ----------
    tiff : tifffile.TiffFile
    image : tifffile.TiffPageSeries
        The first image of the file.
    file : SparseFile
    """
    dialect = Dialect(tiff.byteorder, tiff.is_bigtiff)
    first = read_ifd(file.have, dialect, tiff.pages.first.offset) if image.kind == "stk" else None
    second = first.next_bytes if first is not None else 0
    if not 0 < second < file.size_bytes:
        return
    is_fetched = file.have(second, second + dialect.count_bytes) is not None
    if is_fetched and segment_offset(file.have, dialect, second) is None:
        return  # the link leads to something else
    yield Remark(
        "further-pages",
        "an STK has one IFD for all of its planes, but this one has another at byte"
        f" {second}: it and any after it are in no image",
    )


def _unread_bytes(tiff: Any, levels: Sequence[Any], size_bytes: int) -> Iterator[Remark]:
    chain = known_chain(tiff)
    if chain is None and levels[0].kind != "imagej":
        return  # only the description by ImageJ tells the number of pages without it
    # Compressed pages differ in size: one to which no IFD leads may be half as large as the others.
    # ImageJ writes nothing of its own after the last IFD, but planes of a stack with one IFD may be
    # followed by anything.
    of_levels, of_pages = zip(*map(_pixel_bytes, levels), strict=True)
    least = max(_LEAST_BYTES, min(of_pages) // 2)
    if levels[0].kind == "imagej":
        least = _LEAST_BYTES if chain is None else max(_LEAST_BYTES, min(of_pages))
    n_unread = size_bytes - (16 if tiff.is_bigtiff else 8) - sum(of_levels)
    if n_unread - sum(_about_ifd_bytes(level, tiff.tiff) for level in levels) < least:
        return
    n_unread -= sum(_ifd_bytes(level, tiff.tiff) for level in levels)
    if n_unread >= least:
        text = f"{n_unread} of the {size_bytes} bytes of the file belong to none of its images"
        if chain is not None:
            n_pages = counted(len(chain.offsets), "page")
            text = f"the chain of IFDs ends after {n_pages}, but {text}"
        yield Remark("unread-bytes", text)


def _unread_subifds(levels: Sequence[Any]) -> Iterator[Remark]:
    pages = list(_pages(levels))
    named = {at for page in pages if not page.is_subifd for at in page.subifds or () if at >= 8}
    found = {page.offset for page in pages if page.is_subifd}
    missing = sorted(named - found)
    if missing:
        text = (
            f"{counted(len(missing), 'SubIFD')} of {len(named)} cannot be read, the first at byte"
            f" {missing[0]}: smaller levels, or other images, are missing"
        )
        yield Remark("unread-subifds", text)


def _pages(levels: Sequence[Any]) -> Iterator[Any]:
    return (page for level in levels for page in level if page is not None)


def _pixel_bytes(level: Any) -> tuple[int, int]:
    """Bytes in the file that the pixels of a level take, and those of its smallest page."""
    if level.dataoffset is not None:
        return int(level.nbytes), int(level.keyframe.nbytes)
    sizes = [0 if page is None else sum(page.databytecounts) for page in level]
    return sum(sizes), min(sizes, default=0)


def _about_ifd_bytes(level: Any, layout: Any) -> int:
    """About the size of the IFDs of a level, if all pages have the tags of the first one."""
    if level.dataoffset is not None:
        return _ifd_bytes(level, layout)
    return len(level) * _tag_bytes(level.keyframe, layout)


def _ifd_bytes(level: Any, layout: Any) -> int:
    """Size of the IFDs of a level, and of the values outside of them."""
    if level.dataoffset is not None:
        # Descriptions are in the first IFD, and the others need not have been read.
        repeated = _tag_bytes(level.keyframe, layout, longest=_SHORT_BYTES)
        return _tag_bytes(level.keyframe, layout) + (len(level) - 1) * repeated
    return sum(_tag_bytes(page, layout) for page in level if page is not None)


def _tag_bytes(page: Any, layout: Any, longest: int | None = None) -> int:
    """Size of one IFD and its values; of a page of which tifffile keeps no tags, of its keyframe.

    Values longer than `longest` are left out.
    """
    tags = getattr(page, "tags", None) or page.keyframe.tags
    total = layout.tagnosize + layout.offsetsize
    for tag in tags:
        n_bytes = tag.valuebytecount
        is_outside = n_bytes > layout.offsetsize and (longest is None or n_bytes <= longest)
        total += layout.tagsize + (n_bytes if is_outside else 0)
    return int(total)
