"""Write an original file again, and read it back. Memory holds a few planes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import UnsupportedFormatError
from cloudimg.migration.export.original_colours import colour_tags, stored_bits, subfile_tags
from cloudimg.migration.export.original_file import OriginalFile, ReadRegion
from cloudimg.migration.export.original_tags import (
    DESCRIPTION,
    SOFTWARE,
    PageTags,
    Tags,
    lost_pages,
    page_tags,
    tags_by_page,
    vendor_codes,
    without,
)
from cloudimg.migration.export.read_back import (
    Expected,
    check_pixels,
    check_tags,
    digest_of,
    order_of_pages,
)
from cloudimg.migration.export.result import Lost
from cloudimg.migration.export.tiff_writer import (
    Directory,
    PlaneFormat,
    StoredPlane,
    Tag,
    TiffWriter,
    storage_tags,
)

Array = npt.NDArray[Any]
_BLOCK_BYTES = 2**28
"""Most bytes of planes that are read together."""
_SUBIFDS, _NEW_SUBFILE_TYPE = 330, 254
_REDUCED = 1


@dataclass(slots=True)
class _Plane:
    """A plane that is stored: its segments, and the digest of its pixels; by level."""

    stored: list[StoredPlane]
    digests: list[bytes]


def write_original(
    path: Path, read: ReadRegion, original: OriginalFile, compression: str | None, url: str
) -> frozenset[Lost]:
    """Write a file as it was: pages in its own order, each with its tags and description.

    OME-XML may assign pages to planes in any order. Where the copy does not have it, a first
    attempt is read back. A description, and tags of vendors, are left out if they make another
    image of the pages than the original (as those of a multi-file dataset may), and tags are left
    out if they may belong to another page.

    Parameters
    ----------
    path : Path
        File to write.
    read : callable
        Returns the pixels of a region of the file.
    original : OriginalFile
    compression : str, optional
    url : str
        URL that the file is to have, for messages.

    Returns
    -------
    frozenset of Lost
        What of the original's tags is not written, and why.

    Raises
    ------
    CorruptFileError
        If the file, read back, differs from what was to be written.
    """
    first, tags, unknown = tags_by_page(
        original.row, original.n_pages, original.known_numbers, original.series
    )
    storage = PlaneFormat(
        bits=stored_bits(first, original.samples),
        is_planar=original.is_planar,
        compression=compression,
        dialect=original.dialect(compression),
    )
    with path.open("w+b") as file:
        writer = TiffWriter(file, storage.dialect)
        planes = [_Plane([], []) for _ in range(original.n_pages)]
        sources = ((read, original.shape), *((one.read, one.shape) for one in original.levels))
        for one, shape in sources:
            for plane, pixels in zip(planes, _planes(one, original, shape), strict=True):
                whole = np.ascontiguousarray(pixels, original.dtype)
                plane.stored.append(writer.write_plane(whole, storage))
                plane.digests.append(digest_of(whole))
        pages = _Pages(original, storage, first, tags, planes)
        lost, chain, order = _write_tags(path, writer, pages)
        check_tags(file, chain, url)
    check_pixels(path, pages.expected(order), url)
    return lost | unknown | lost_pages(original.row, original.n_pages, len(original.levels))


class _Pages:
    """The IFDs of a file, made of its planes and of their tags.

    Parameters
    ----------
    original : OriginalFile
    storage : PlaneFormat
    first : Tags
        Tags by which the pixels of pages without known tags are understood.
    tags : sequence of Tags
        Tags of each plane.
    planes : sequence of _Plane
    """

    def __init__(
        self,
        original: OriginalFile,
        storage: PlaneFormat,
        first: Tags,
        tags: Sequence[Tags],
        planes: Sequence[_Plane],
    ) -> None:
        self.original = original
        self._storage = storage
        self._first = first
        self._tags = tags
        self._planes = planes
        self._are_subifds = original.row.get("pyramid") == "subifds" or original.n_pages > 1
        known: dict[int, PageTags] = {}
        self.tags: list[PageTags] = []
        for each in tags:  # many pages share one set of tags
            if id(each) not in known:
                known[id(each)] = page_tags(
                    each, storage.dialect.order, original.plane,
                    is_converted=original.samples.is_converted(each),
                )  # fmt: skip
            self.tags.append(known[id(each)])
        self.names = {tag["code"]: name for each in tags for name, tag in each.items()}

    def chain(self, tags: Sequence[PageTags], order: Sequence[int]) -> list[Directory]:
        """The IFDs of the file; `order` has the plane of each."""
        chain = [self._directory(number, tags[number]) for number in order]
        if not self._are_subifds:
            levels = range(1, len(self._planes[0].stored))
            chain += [self._level(0, level) for level in levels]
        return chain

    def expected(self, order: Sequence[int]) -> list[Expected]:
        """What the IFDs must hold."""
        planes = [self._planes[number] for number in order]
        if self._are_subifds:
            return [Expected(one.digests[0], tuple(one.digests[1:])) for one in planes]
        return [Expected(digest) for one in planes for digest in one.digests]

    def lost_colours(self) -> set[Lost]:
        """What is not written of how pixels are understood."""
        lost: set[Lost] = set()
        for each in {id(each): each for each in self._tags}.values():
            lost |= self._colours(each)[1]
        return lost

    def _colours(self, tags: Tags) -> tuple[list[Tag], set[Lost]]:
        order, samples = self._storage.dialect.order, self.original.samples
        found, lost = colour_tags(tags or self._first, samples, self._storage.bits, order)
        kind, lost_kind = subfile_tags(tags, order)
        return [*found, *kind], lost | lost_kind

    def _directory(self, number: int, tags: PageTags) -> Directory:
        colours, _ = self._colours(self._tags[number])
        subs = tags.subs
        if self._are_subifds and self.original.levels:
            levels = range(1, len(self._planes[number].stored))
            kind = 16 if self._storage.dialect.is_big else 4
            subs += ((_SUBIFDS, kind, tuple(self._level(number, level) for level in levels)),)
        return Directory((*self._storage_tags(number, 0), *colours, *tags.tags), subs)

    def _level(self, number: int, level: int) -> Directory:
        order = self._storage.dialect.order
        colours, _ = colour_tags(
            self._tags[number] or self._first, self.original.samples, self._storage.bits, order
        )
        reduced = Tag(
            _NEW_SUBFILE_TYPE, 4, 1, _REDUCED.to_bytes(4, self._storage.dialect.byteorder)
        )
        return Directory((reduced, *self._storage_tags(number, level), *colours))

    def _storage_tags(self, number: int, level: int) -> list[Tag]:
        original = self.original
        shape = original.levels[level - 1].shape if level else original.shape
        return storage_tags(
            self._planes[number].stored[level],
            original.plane_shape(shape),
            self._storage,
            original.dtype,
        )


def _write_tags(
    path: Path, writer: TiffWriter, pages: _Pages
) -> tuple[frozenset[Lost], list[Directory], list[int]]:
    """Write the IFDs with as many tags as possible, so that the pages still make the same image."""
    original = pages.original
    # Pages follow one another as in the original.
    order = list(range(original.n_pages))
    numbers = original.known_numbers
    if numbers is not None:
        order = [int(i) for i in np.argsort(numbers)]
    vendors = vendor_codes(pages.tags)
    plain = {*vendors, DESCRIPTION}, {*vendors, DESCRIPTION, SOFTWARE}
    # Without a description the pages follow one another along one axis.
    flat = (original.n_pages, *original.plane_shape(original.shape))
    attempts = [(codes, original.shape) for codes in (set(), vendors, {DESCRIPTION}, *plain)]
    attempts += [(codes, flat) for codes in plain]
    for codes, shape in attempts:
        tags = [without(each, codes, pages.names) for each in pages.tags] if codes else pages.tags
        chain = pages.chain(tags, order)
        writer.write_directories(chain)
        found = order_of_pages(path, shape, original.dtype)
        if found is None or sorted(found) != sorted(order):
            continue
        by_page = [int(i) for i in np.argsort(found)]
        if by_page != order:
            if numbers is not None:
                continue
            order = by_page
            chain = pages.chain(tags, order)
            writer.write_directories(chain)
        lost = frozenset().union(*(each.lost for each in tags)) | pages.lost_colours()
        if shape is flat:
            lost |= {("axes", "no tag names them: all planes follow one another along one axis")}
        return lost, chain, order
    raise UnsupportedFormatError(
        f"pixels of shape {original.shape} and type {original.dtype} do not come back from a TIFF"
    )


def _planes(read: ReadRegion, original: OriginalFile, shape: Sequence[int]) -> Iterator[Array]:
    """All planes of a level, in C order of the axes before them."""
    n = original.plane_ndim
    lead, plane = tuple(shape[:-n]), tuple(shape[-n:])
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
