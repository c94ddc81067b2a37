"""What a file holds beyond its images: SubIFDs that cannot be read, bytes that are in no page.

A chain of IFDs that ends too early looks like one that ends where it should. It is recognized by
IFDs to which nothing leads, where these have been fetched, and elsewhere by bytes in one piece that
may be a page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cloudimg.errors import counted
from cloudimg.errors.notes import Remark
from cloudimg.tiff.ifd import Dialect, Ifd, PartialFile, read_ifd, segment_offset, sub_ifds
from cloudimg.tiff.occupied import Occupied
from cloudimg.tiff.orphans import LEAST_BYTES, find_ifds, unfetched_bytes
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import known_chain

_PLAIN = {"generic", "uniform", "shaped", "imagej"}
"""Kinds of files whose writers append nothing of their own."""
_WITH_SUBIFDS = {"generic", "ome", "shaped"}
"""Kinds of files of which tifffile reads SubIFDs."""
_LEAST_BYTES = 512
"""Fewer bytes are private metadata and gaps."""
_FEW_PAGES = 4
"""One gap between fewer pages may be anything."""
_INDEX_MAP = 54773648
"""Before the offset of Micro-Manager's index map, in the header of a file."""
_SHORT_BYTES = 64
"""Values up to this length are taken to be repeated on each page of a stack."""


def unread_parts(tiff: Any, images: Sequence[Any], file: SparseFile) -> Iterator[Remark]:
    """Remarks about parts of a file that are in no image.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    images : sequence of tifffile.TiffPageSeries
        All images of the file.
    file : SparseFile
        Nothing is fetched.
    """
    levels = [level for image in images for level in image.levels]
    if images[0].kind in _WITH_SUBIFDS and any(image.keyframe.subifds for image in images):
        yield from _unread_subifds(levels)
    if images[0].kind in _PLAIN:
        yield from _unread_bytes(tiff, levels, file)


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
    first = read_ifd(file.look, dialect, tiff.pages.first.offset) if image.kind == "stk" else None
    second = first.next_bytes if first is not None else 0
    if not 0 < second < file.size_bytes:
        return
    is_fetched = file.look(second, second + dialect.count_bytes) is not None
    if is_fetched and segment_offset(file.look, dialect, second) is None:
        return  # the link leads to something else
    yield Remark(
        "further-pages",
        "an STK has one IFD for all of its planes, but this one has another at byte"
        f" {second}: it and any after it are in no image",
    )


def _unread_bytes(tiff: Any, levels: Sequence[Any], file: SparseFile) -> Iterator[Remark]:
    chain = known_chain(tiff)
    if chain is None and levels[0].kind != "imagej":
        return  # only the description by ImageJ tells the number of pages without it
    n_stored = sum(_pixel_bytes(level)[0] for level in levels)
    if file.size_bytes - (16 if tiff.is_bigtiff else 8) - n_stored < LEAST_BYTES:
        return
    offsets = () if chain is None else chain.offsets
    known = {at for level in levels for at in _known_offsets(level)} | set(offsets)
    used = Occupied(levels, known, file, Dialect(tiff.byteorder, tiff.is_bigtiff))
    what = _lost_ifds(tiff, levels, known, used, file)
    what = what or _lost_bytes(tiff, levels, n_stored, known, used, file)
    if what and chain is not None:
        what = f"the chain of IFDs ends after {counted(len(offsets), 'page')}, but {what}"
    if what:
        yield Remark("unread-bytes", what)


def _lost_ifds(
    tiff: Any, levels: Sequence[Any], known: set[int], used: Occupied, file: SparseFile
) -> str:
    """What to say about IFDs to which nothing leads, if there are any among the fetched bytes."""
    dialect = Dialect(tiff.byteorder, tiff.is_bigtiff)
    found = list(find_ifds(file, dialect, used.gaps(LEAST_BYTES)))
    if not found:
        return ""
    partial = PartialFile(file.look, dialect, file.size_bytes, 1)
    linked = {at: ifd for at in known if (ifd := partial.ifd(at)) is not None}
    subs = _all_sub_ifds(partial, linked.values())
    # A program that changes an IFD writes it anew at the end, with the same link. The one before is
    # left, and leads to pixels that may have been replaced, too.
    last = {ifd.next_bytes: ifd.start_bytes for _, ifd in sorted(linked.items())}
    with_subs = Occupied(levels, {*known, *subs}, file, dialect)
    lost = sorted(
        ifd.start_bytes
        for ifd, segment in found
        if ifd.start_bytes not in subs
        and last.get(ifd.next_bytes, 0) < ifd.start_bytes
        and not with_subs.holds(ifd.start_bytes)
        and not with_subs.holds(segment)
    )
    if not lost:
        return ""
    found_some = "one was found," if len(lost) == 1 else f"{len(lost)} were found, the first"
    return (
        "the file has other IFDs that are in none of its images:"
        f" {found_some} at byte {lost[0]} of {file.size_bytes}"
    )


def _all_sub_ifds(file: PartialFile, ifds: Iterable[Ifd]) -> set[int]:
    """Offsets of the SubIFDs of IFDs, of theirs, and of those that these link to."""
    found: set[int] = set()
    ahead = [at for ifd in ifds for at in sub_ifds(file, ifd)]
    while ahead:
        at = ahead.pop()
        ifd = file.ifd(at) if at and at not in found else None
        found.add(at)
        if ifd is not None:
            ahead += [*sub_ifds(file, ifd), ifd.next_bytes]
    return found - {0}


def _lost_bytes(
    tiff: Any,
    levels: Sequence[Any],
    n_stored: int,
    known: set[int],
    used: Occupied,
    file: SparseFile,
) -> str:
    """What to say about bytes in one piece that may be a page, and not be anything else.

    Those that have been fetched hold no IFD. They are the pixels of an interrupted writer
    if they are at the end of the file; elsewhere they are gaps or private metadata.
    """
    least, least_between = _least_lost(levels[0])
    about_ifds = sum(len(level) * _tag_bytes(level.keyframe, tiff.tiff) for level in levels)
    if file.size_bytes - n_stored - about_ifds < least_between:
        return ""
    dialect = Dialect(tiff.byteorder, tiff.is_bigtiff)
    end = _end_of_pages(tiff, file)
    pixels = Occupied(levels, (), file, dialect)
    if not pixels.has_gap(least_between):
        return ""
    gaps = [gap for gap in used.gaps(least_between) if not pixels.is_within_page(gap[0])]
    if len(gaps) > 1 or any(stop == file.size_bytes for _, stop in gaps):
        least_between = least
    # IFDs of pages that tifffile computes have not been read.
    apart = sum(_unplaced_bytes(level, tiff.tiff) for level in levels)
    for start, stop in gaps:
        is_tail, stop = stop == file.size_bytes == end, min(stop, end)
        n_bytes, n_unknown = stop - start, unfetched_bytes(file, (start, stop))
        if (n_bytes if is_tail else n_unknown) - apart < (least if start == 0 else least_between):
            continue
        partial = PartialFile(file.look, dialect, file.size_bytes, 1)
        if _all_sub_ifds(partial, filter(None, map(partial.ifd, known))) - known:
            return ""  # their pixels are there
        return (
            f"{n_bytes} of the {file.size_bytes} bytes of the file, from byte {start} on, belong to"
            " none of its images"
        )
    return ""


def _least_lost(level: Any) -> tuple[int, int]:
    """Size of the smallest piece that is taken for a page, anywhere and between two pages.

    The latter if it is the only one: compressed pages differ in size.
    """
    smallest = _pixel_bytes(level)[1]
    if level.dataoffset is not None or level.keyframe.compression == 1 or len(level) < 2:
        least = max(_LEAST_BYTES, smallest)
        return least, least
    least_between = smallest // 16 if len(level) >= _FEW_PAGES else smallest // 2
    return max(_LEAST_BYTES, smallest // 2), max(_LEAST_BYTES, least_between)


def _end_of_pages(tiff: Any, file: SparseFile) -> int:
    """Where Micro-Manager's index map begins, after the last page, or the end of the file.

    Display settings and comments follow it ("Micro-Manager File Formats", Image file stack).
    """
    head = file.look(8, 16) if tiff.is_micromanager else None
    magic, end = (0, 0) if head is None else struct.unpack(f"{tiff.byteorder}LL", head)
    return end if magic == _INDEX_MAP and 0 < end < file.size_bytes else file.size_bytes


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


def _known_offsets(level: Any) -> Iterator[int]:
    """Offsets of the IFDs of a level that have been read."""
    if level.dataoffset is not None:
        yield level.keyframe.offset  # tifffile computes the other pages
    else:
        yield from (page.offset for page in level if page is not None)


def _pages(levels: Sequence[Any]) -> Iterator[Any]:
    return (page for level in levels for page in level if page is not None)


def _pixel_bytes(level: Any) -> tuple[int, int]:
    """Bytes in the file that the pixels of a level take, and those of its smallest page."""
    if level.dataoffset is not None:
        return int(level.nbytes), int(level.keyframe.nbytes)
    sizes = [0 if page is None else sum(page.databytecounts) for page in level]
    return sum(sizes), min(sizes, default=0)


def _unplaced_bytes(level: Any, layout: Any) -> int:
    """About the size of the IFDs that are not read, and of the values outside of them."""
    if level.dataoffset is None:
        return 0
    # Descriptions are in the first IFD.
    return (len(level) - 1) * _tag_bytes(level.keyframe, layout, longest=_SHORT_BYTES)


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
