"""Stacks whose metadata tell how many planes they have, and whether the file has as many.

ImageJ writes ``images=``, ``channels=``, ``slices=`` and ``frames=`` into the description, tifffile
a shape, MetaMorph the number of planes of an STK. Uncompressed planes follow one another, and some
files have an IFD for the first plane only. tifffile then believes the description or drops all
planes but the first one, whatever the file holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import CorruptFileError, TruncatedFileError, counted
from cloudimg.errors.notes import Remark
from cloudimg.tiff.chain import n_planes
from cloudimg.tiff.derived import Derived
from cloudimg.tiff.ifd import Dialect, segment_offset
from cloudimg.tiff.level import Level
from cloudimg.tiff.one_ifd import check_planes
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import first_known_offsets

_BY_IFDS = {"generic", "uniform"}
"""Kinds of images that tifffile makes of pages where metadata do not fit."""
_OF_IMAGEJ = {"imagej", *_BY_IFDS}
"""Kinds of images that may have a description by ImageJ."""
_SHAPE = re.compile(r"shape\"?\s*[:=]\s*[\[(]\s*(\d+(?:\s*,\s*\d+)*)")
_PADDING_BYTES = 1
"""Data may end at an even number of bytes (TIFF 6.0, section 2)."""


def settle_stacks(
    tiff: Any, images: Sequence[Any], file: SparseFile, url: str
) -> tuple[list[Any], tuple[Remark, ...]]:
    """Check that a file has all planes that its metadata describe.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    images : sequence of tifffile.TiffPageSeries
        All images of the file.
    file : SparseFile
    url : str

    Returns
    -------
    images : list of tifffile.TiffPageSeries
        The images; a stack of ImageJ has as many planes as its description counts if they are
        there, even if channels, slices and frames are not.
    remarks : tuple of Remark
        Planes that the file has and the metadata do not mention, or the other way round.

    Raises
    ------
    CorruptFileError
        Planes are missing.
    """
    on_planes: list[Remark] = []
    remarks: list[Remark] = []
    settled = list(images)
    for image in images:
        if image.kind == "shaped":
            _check_pages(tiff, image, url)
        if image.kind in ("shaped", "stk"):
            for level in image.levels:
                _check_room(level, file.size_bytes, url)
        if image.kind in ("shaped", "imagej"):
            on_planes += check_planes(tiff, image, file, url)
    kind = images[0].kind
    if kind in _OF_IMAGEJ and tiff.is_imagej:
        settled, remarks = _settle_imagej(tiff, images, file, url)
    elif kind in _BY_IFDS and tiff.is_shaped:
        _check_described_shape(tiff, images, url)
    elif kind in ("stk", "shaped") and images[0].dataoffset is not None:
        remarks = _remarks_on_stack(tiff, images[0], file, url)
    return settled, (*on_planes, *remarks)


def remark_on_shape(image: Any, level: Level | Derived) -> tuple[Remark, ...]:
    """A remark if the pages do not have the shape that the metadata give to the image."""
    described, shape = tuple(int(n) for n in image.shape), tuple(level.shape)
    if described == shape:
        return ()
    text = (
        f"its {image.kind} metadata describe an image of shape {described}, but its pages have"
        f" {shape}: all of them are read, along the axis page"
    )
    return (Remark("shape-of-stack", text),)


def _remarks_on_stack(tiff: Any, image: Any, file: SparseFile, url: str) -> list[Remark]:
    """Remarks about a stack by MetaMorph or tifffile."""
    stack, n_read = _stack_of(tiff, file.size_bytes), n_planes(image)
    if stack is None or (n_read < 2 and image.kind != "stk"):
        return []
    _check_plane(image.keyframe, n_read, url)
    further = _further_pages(tiff, file, stack, n_read) if stack.n_ifds < n_read else ()
    return [*_surplus(stack, n_read, image.kind), *further]


@dataclass(frozen=True, slots=True)
class _Stack:
    """The planes of a file that follow one another from the first one on."""

    start_bytes: int
    plane_bytes: int
    n_ifds: int
    """Number of IFDs that are known."""
    stop_bytes: int
    """Where something else begins, or the end of the file."""
    size_bytes: int
    """Size of the file."""

    @property
    def room(self) -> int:
        """Number of planes that can be stored there."""
        return max(0, self.stop_bytes - self.start_bytes) // self.plane_bytes

    def has_more_than(self, count: int) -> bool:
        """Whether there are bytes after some planes that belong to nothing else."""
        return self.stop_bytes - self.start_bytes - count * self.plane_bytes > _PADDING_BYTES


def _stack_of(tiff: Any, size_bytes: int) -> _Stack | None:
    """The stack that begins with the first page, None if planes cannot follow one another."""
    page = tiff.pages.first
    if not page.is_final or not page.nbytes or len(page.dataoffsets) == 0:
        return None
    start = int(page.dataoffsets[0])
    offsets = first_known_offsets(tiff)
    values = (tag.valueoffset for tag in page.tags)
    behind = [at for at in (*offsets, *values) if at >= start + page.nbytes]
    stop = min([size_bytes, *behind])
    return _Stack(start, int(page.nbytes), len(offsets), stop, size_bytes)


def _settle_imagej(
    tiff: Any, images: Sequence[Any], file: SparseFile, url: str
) -> tuple[list[Any], list[Remark]]:
    page = tiff.pages.first
    stack = _stack_of(tiff, file.size_bytes)
    counts = _Counts.of(tiff.imagej_metadata or {}, page)
    if images[0].kind != "imagej":
        return _settle_refused(tiff, images, stack, counts, url)
    if stack is None or images[0].dataoffset is None:
        return list(images), []  # one IFD for each plane, counted where levels are made
    n_read = n_planes(images[0])
    if n_read > 1:
        _check_plane(page, n_read, url)
    if n_read >= counts.images:
        further = _further_pages(tiff, file, stack, n_read)
        return list(images), [*_surplus(stack, n_read, "ImageJ"), *further]
    if counts.images <= stack.room:
        return [_all_planes(page, counts.images)], [counts.remark]
    if stack.has_more_than(n_read):
        raise _incomplete(stack, counts.images, "ImageJ metadata", url)
    return list(images), [_foreign(counts.images, n_read)]


def _check_plane(page: Any, n_planes: int, url: str) -> None:
    """Check that planes have the size that they are stored with.

    Raises
    ------
    CorruptFileError
    """
    stored = sum(page.databytecounts)
    if stored not in (0, page.nbytes, n_planes * page.nbytes):
        raise CorruptFileError(
            f"{url} contradicts itself: a plane of {page.imagewidth} x {page.imagelength} pixels"
            f" takes {page.nbytes} bytes, but the byte counts of the first plane say {stored}",
            url=url,
        )


def _further_pages(tiff: Any, file: SparseFile, stack: _Stack, n_read: int) -> Iterator[Remark]:
    """A remark if the second IFD is not of a plane of the stack."""
    if stack.n_ifds < 2 or n_read < 2:
        return
    second = first_known_offsets(tiff)[1]
    start = segment_offset(file.look, Dialect(tiff.byteorder, tiff.is_bigtiff), second)
    stop_bytes = stack.start_bytes + n_read * stack.plane_bytes
    if start is not None and not stack.start_bytes < start < stop_bytes:
        yield Remark(
            "further-pages",
            f"its metadata tell of {n_read} planes, which follow one another, but the IFD at byte"
            f" {second} is of another page: it and any after it are in no image",
        )


def _settle_refused(
    tiff: Any, images: Sequence[Any], stack: _Stack | None, counts: _Counts, url: str
) -> tuple[list[Any], list[Remark]]:
    """Planes of a stack of ImageJ whose description tifffile ignores, because it does not fit."""
    n_described = counts.hyperstack or counts.images
    n_found = sum(map(n_planes, images))
    if stack is not None and stack.n_ifds == 1:
        if counts.images != n_described and 1 < counts.images <= stack.room:
            return [_all_planes(tiff.pages.first, counts.images)], [counts.remark]
        if n_described > 1 and stack.has_more_than(1):
            raise _incomplete(stack, n_described, "ImageJ metadata", url)
    return list(images), [_foreign(n_described, n_found)] if n_found < n_described else []


def _foreign(n_described: int, n_found: int) -> Remark:
    """The remark about a description of more planes than the file ever had."""
    text = (
        f"its ImageJ metadata tell of {n_described} planes, but the file has"
        f" {counted(n_found, 'page')} and no part of another: they may belong to another file"
    )
    return Remark("planes-of-description", text)


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers of planes in a description by ImageJ."""

    images: int
    """What ``images=`` says, which ImageJ itself goes by."""
    hyperstack: int
    """Product of channels, slices and frames; 0 where one of them is not positive."""

    @classmethod
    def of(cls, meta: Mapping[str, Any], page: Any) -> _Counts:
        """The counts, as tifffile takes them: channels may be samples of one plane."""
        images, frames, slices, channels = (
            value if isinstance(value := meta.get(key, 1), int) else 0
            for key in ("images", "frames", "slices", "channels")
        )
        separate, *_, samples = page.shaped
        n = frames * slices
        if min(frames, slices, channels) < 1:
            n = 0
        elif separate != channels and not (images == n and samples == channels):
            n *= channels
        return cls(images, n)

    @property
    def remark(self) -> Remark:
        """The remark for a stack that is read as ``images=`` says."""
        return Remark(
            "planes-of-description",
            f"its ImageJ metadata tell of {counted(self.images, 'image')}, but channels, slices"
            f" and frames make {self.hyperstack}: all {self.images} are read, along the axis page",
        )


def _all_planes(page: Any, count: int) -> Any:
    """An image of planes that follow one another from the first page on."""
    import tifffile

    shape, axes = (count, *page.shape), "I" + page.axes
    return tifffile.TiffPageSeries([page], shape, page.dtype, axes, kind="imagej", truncated=True)


def _surplus(stack: _Stack | None, n_read: int, writer: str) -> Iterator[Remark]:
    """A remark about room for further planes after those that are read."""
    if stack is not None and stack.room > n_read:
        begin = stack.start_bytes + n_read * stack.plane_bytes
        yield Remark(
            "planes-of-description",
            f"its {writer} metadata tell of {counted(n_read, 'plane')}, but there is room for"
            f" {stack.room}: bytes {begin}-{stack.stop_bytes} are in no image",
        )


def _check_pages(tiff: Any, image: Any, url: str) -> None:
    """Check that an image has as many pages as its description by tifffile tells of.

    If it has fewer, tifffile believes that they follow the first one without IFDs between them.

    Raises
    ------
    CorruptFileError
    """
    page = image.keyframe
    n_described = _n_described(page)
    starts = first_known_offsets(tiff)[page.index :]
    if page.is_subifd or n_described <= len(starts):
        return
    if image.dataoffset is None or any(
        image.dataoffset < start < image.dataoffset + n_described * page.nbytes for start in starts
    ):
        _check_number(n_described, len(starts), "shaped metadata", url)


def _check_room(image: Any, size_bytes: int, url: str) -> None:
    """Check that planes of which only the first one has an IFD end within the file.

    Raises
    ------
    CorruptFileError
    """
    page, n = image.keyframe, n_planes(image)
    if n < 2 or image.dataoffset is None or not page.nbytes:
        return
    stack = _Stack(int(image.dataoffset), int(page.nbytes), 1, size_bytes, size_bytes)
    if stack.room < n:
        raise _incomplete(stack, n, f"{image.kind} metadata", url)


def _check_described_shape(tiff: Any, images: Sequence[Any], url: str) -> None:
    """Check that images have the pixels of a shape in which tifffile found a contradiction.

    Raises
    ------
    CorruptFileError
    """
    n_described = _n_described(tiff.pages.first)
    _check_number(n_described, sum(map(n_planes, images)), "shaped metadata", url)


def _n_described(page: Any) -> int:
    """Number of planes in a description by tifffile, 0 if it does not have one."""
    match = _SHAPE.search(page.shaped_description or "")
    per_page = math.prod(page.shape)
    if match is None or not per_page:
        return 0
    return math.prod(int(n) for n in match[1].split(",")) // int(per_page)


def _check_number(n_described: int, n_found: int, what: str, url: str) -> None:
    if n_described > n_found:
        raise CorruptFileError(
            f"{url} has {counted(n_found, 'page')}, but its {what} tell of {n_described}: the file"
            " is incomplete, or was written with the description of another one",
            url=url,
        )


def _incomplete(stack: _Stack, n_described: int, what: str, url: str) -> TruncatedFileError:
    stop = stack.start_bytes + n_described * stack.plane_bytes
    return TruncatedFileError(
        f"{url} ends too early: its {what} tell of {n_described} planes at bytes"
        f" {stack.start_bytes}-{stop}, but the file ends at byte {stack.size_bytes} and holds"
        f" {stack.room} of them; copy the file again from where it was written",
        url=url,
        byte_range=(stack.start_bytes, stop),
    )
