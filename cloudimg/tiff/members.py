"""Members of a set of files: all pages by number, whatever image the file itself describes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal, overload

import numpy as np

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.tiff.derived import PALETTE, Coloured
from cloudimg.tiff.geometry import PlaneShape, find_geometry
from cloudimg.tiff.level import Level, Page
from cloudimg.tiff.metadata import describe
from cloudimg.tiff.pages import check_decodable, read_page
from cloudimg.tiff.parsed import AnyLevel, ParsedImage

_MM_HEADER_BYTES = 162
"""From an IFD that Micro-Manager writes to its pixels (tifffile reads these files so)."""
_MOST_PAGES = 2**62

Offsets = Literal["page", "directory", "pixels"]
"""What numbers pages: their count, the offset of their IFD, or that of their pixels."""


class PagesByOffset(Sequence[Page]):
    """Uncompressed pages like the first one, numbered by where they lie."""

    def __init__(self, keyframe: Any, shift_bytes: int) -> None:
        self._first = int(keyframe.offset) if shift_bytes else -1
        self._first_pixels = int(keyframe.dataoffsets[0])
        self._shift_bytes = shift_bytes
        self._page_bytes = int(keyframe.nbytes)

    def __len__(self) -> int:
        return _MOST_PAGES

    @overload
    def __getitem__(self, index: int) -> Page: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Page]: ...
    def __getitem__(self, index: int | slice) -> Page | Sequence[Page]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(_MOST_PAGES))]
        start = self._first_pixels if index == self._first else index + self._shift_bytes
        return Page((start,), (self._page_bytes,), True)


def parse_member(
    tiff: Any, url: str, numbered_by: Offsets, *, metadata: bool, in_colour: bool
) -> ParsedImage:
    """The pages of a file along a first axis ``page``.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    url : str
        For messages.
    numbered_by : {"page", "directory", "pixels"}
    metadata, in_colour : bool
        Whether attributes are wanted, and palettes as colours.

    Returns
    -------
    ParsedImage
        Pages of one shape in `levels`, with None for all others, which are in `others`.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError
    """
    first = tiff.pages.first
    if numbered_by != "page":
        check_decodable(first, first.shape, url)
        if not first.is_contiguous:
            raise UnsupportedFormatError(f"{url} is not uncompressed, as its set says", url=url)
        shift = _MM_HEADER_BYTES if numbered_by == "directory" else 0
        levels: list[tuple[AnyLevel, ...]] = [(_level(PagesByOffset(first, shift), first, url),)]
    else:
        levels = list(_groups(tiff, url, in_colour))
    dims = ("page", *(letter.lower() for letter in first.axes))
    if in_colour and first.photometric == PALETTE and first.colormap is not None:
        dims = (*dims, "s")
    attrs = _describe(tiff, dims) if metadata else {}
    return ParsedImage(dims, levels[0], attrs, {}, 1, True, others=tuple(levels[1:]))


def _describe(tiff: Any, dims: tuple[str, ...]) -> dict[str, Any]:
    """What one member says of itself; the positions of its planes are the set's to tell."""
    first = tiff.pages.first
    image = SimpleNamespace(
        keyframe=first, kind="member", name="", axes="Q" + first.axes, shape=(1, *first.shape)
    )
    attrs, _ = describe(tiff, image, dims, 0)
    kind = "mmstack" if tiff.is_mmstack else "ndtiff" if tiff.is_ndtiff else "ome"
    return {**attrs, "kind": kind}


def _groups(tiff: Any, url: str, in_colour: bool) -> Iterator[tuple[AnyLevel, ...]]:
    """Pages of equal layout together, each at its own number."""
    pages = list(tiff.pages)
    keys = [(page.hash, _palette(page) if in_colour else b"") for page in pages]
    for key in dict.fromkeys(keys):
        chosen = [page if k == key else None for k, page in zip(keys, pages, strict=True)]
        keyframe = next(page for page in chosen if page is not None)
        check_decodable(keyframe, keyframe.shape, url)
        levels = [_level(_read(chosen, keyframe, url), keyframe, url)]
        for number in range(len(keyframe.subifds or ())):
            reduced = [None if page is None else _sub_page(page, number) for page in chosen]
            key_page = next(page for page in reduced if page is not None)
            check_decodable(key_page, key_page.shape, url)
            levels.append(_level(_read(reduced, key_page, url), key_page, url))
        if in_colour and keyframe.photometric == PALETTE and keyframe.colormap is not None:
            yield tuple(Coloured(level, np.asarray(keyframe.colormap), url) for level in levels)
        else:
            yield tuple(levels)


def _palette(page: Any) -> bytes:
    return b"" if page.colormap is None else np.asarray(page.colormap).tobytes()


def _read(pages: Sequence[Any], keyframe: Any, url: str) -> list[Page | None]:
    return [read_page(page, keyframe, url) for page in pages]


def _sub_page(page: Any, number: int) -> Any:
    """A reduced copy of a page, which one of its SubIFDs describes."""
    import tifffile

    if page.subifds is None or len(page.subifds) <= number:
        raise CorruptFileError(f"page {page.index} has no SubIFD {number}, unlike the first one")
    page.parent.filehandle.seek(page.subifds[number])
    return tifffile.TiffPage(page.parent, (page.index, number + 1))


def _level(pages: Sequence[Page | None], keyframe: Any, url: str) -> Level:
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    geometry = find_geometry((len(pages), *keyframe.shape), plane)
    if geometry is None:
        raise CorruptFileError(f"pages of shape {plane} in {url} are not understood", url=url)
    return Level(geometry, pages, keyframe, np.dtype(keyframe.dtype), url)
