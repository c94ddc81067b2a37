"""Members of a multi-file dataset: all pages of a file by number, whatever images it describes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal, overload

import numpy as np

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.tiff.colours.convert import eight_bits
from cloudimg.tiff.derived import PALETTE, Coloured
from cloudimg.tiff.geometry import PlaneShape, find_geometry
from cloudimg.tiff.in_rgb import in_rgb
from cloudimg.tiff.level import Level
from cloudimg.tiff.metadata import (
    MEMBER,
    colour_attributes,
    describe,
    metadata_remarks,
    of_converted,
    of_expanded_palette,
)
from cloudimg.tiff.multifile import root_uuid
from cloudimg.tiff.pages import check_decodable, read_page
from cloudimg.tiff.parsed import AnyLevel, ParsedImage
from cloudimg.tiff.parser_log import ParserLog
from cloudimg.tiff.pieces import Page
from cloudimg.tiff.sparse import SparseFile

_MM_HEADER_BYTES = 162
"""Distance from an IFD that Micro-Manager writes to its pixels, as in tifffile."""
_MAX_PAGES = 2**62

Offsets = Literal["page", "directory", "pixels"]
"""What a page number is: a count, the offset of the IFD, or the offset of the pixels."""


class PagesByOffset(Sequence[Page]):
    """Uncompressed pages with the layout of the first one, numbered by their offset."""

    def __init__(self, keyframe: Any, shift_bytes: int) -> None:
        self._first = int(keyframe.offset) if shift_bytes else -1
        self._first_pixels = int(keyframe.dataoffsets[0])
        self._shift_bytes = shift_bytes
        self._page_bytes = int(keyframe.nbytes)

    def __len__(self) -> int:
        return _MAX_PAGES

    @overload
    def __getitem__(self, index: int) -> Page: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Page]: ...
    def __getitem__(self, index: int | slice) -> Page | Sequence[Page]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(_MAX_PAGES))]
        start = self._first_pixels if index == self._first else index + self._shift_bytes
        return Page((start,), (self._page_bytes,), True)


def parse_member(
    tiff: Any,
    url: str,
    numbered_by: Offsets,
    *,
    metadata: bool,
    palette: str,
    compared: SparseFile | None = None,
) -> ParsedImage:
    """Parse a file as pages along a first axis ``page``.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    url : str
        Shown in messages.
    numbered_by : {"page", "directory", "pixels"}
    metadata : bool
        Whether to read attributes.
    palette : {"index", "rgb", "all"}
        See `cloudimg.tiff.request.ParseRequest`.
    compared : SparseFile, optional
        The file, if its attributes are only compared with those of others.

    Returns
    -------
    ParsedImage
        Pages with the layout of the first one are in `levels`, all others in `others`. Each has all
        page numbers; those of other layouts are None.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError
    """
    first = tiff.pages.first
    first_page = 0
    if numbered_by != "page":
        first_page = int(first.offset if numbered_by == "directory" else first.dataoffsets[0])
        levels = [_level_by_offset(first, numbered_by, url)]
    else:
        levels = list(_levels_by_layout(tiff, url, palette))
    dims = ("page", *(letter.lower() for letter in first.axes))
    is_expanded = palette != "index" and first.photometric == PALETTE and first.colormap is not None
    if is_expanded:
        dims = (*dims, "s")
    with ParserLog() as log:
        attrs = _describe(tiff, dims, compared) if metadata else {}
    if is_expanded:
        attrs = of_expanded_palette(attrs)
    elif palette == "all":
        levels, attrs = _in_rgb(tiff, levels, dims, attrs, url)
    return ParsedImage(
        dims=dims,
        levels=levels[0],
        attrs=attrs,
        coords={},
        depends_on_name=True,
        others=tuple(levels[1:]),
        metadata_remarks=(*metadata_remarks(attrs), *log.remarks()),
        n_pages=len(tiff.pages) if numbered_by == "page" else 0,
        first_page=first_page,
        uuid=root_uuid(tiff.ome_metadata or "") if tiff.is_ome else "",
    )


def _level_by_offset(first: Any, numbered_by: Offsets, url: str) -> tuple[AnyLevel, ...]:
    """The level of pages that are found by their offset in the file."""
    check_decodable(first, first.shape, url)
    if not first.is_contiguous:
        raise UnsupportedFormatError(
            f"{url} is compressed, but its multi-file dataset locates planes by their offset",
            url=url,
        )
    shift = _MM_HEADER_BYTES if numbered_by == "directory" else 0
    return (_level(PagesByOffset(first, shift), first, url),)


def _in_rgb(
    tiff: Any,
    levels: list[tuple[AnyLevel, ...]],
    dims: tuple[str, ...],
    attrs: dict[str, Any],
    url: str,
) -> tuple[list[tuple[AnyLevel, ...]], dict[str, Any]]:
    """Levels and attributes of pages whose samples are converted to RGB, if they are."""
    of_colours = colour_attributes(tiff, _as_series(tiff.pages.first), dims)
    converted = [in_rgb(each, dims, of_colours, url) for each in levels]
    found: list[tuple[AnyLevel, ...]] = [tuple(each) for each in converted if each is not None]
    return (found, of_converted(attrs)) if found else (levels, attrs)


def _describe(tiff: Any, dims: tuple[str, ...], compared: SparseFile | None) -> dict[str, Any]:
    """Attributes of one member, without those that belong to the whole dataset."""
    first = tiff.pages.first
    attrs, _, _ = describe(tiff, _as_series(first), dims, 0, compared=compared)
    if compared is not None:
        return attrs  # the kind is not compared, and what decides it lies behind the pixels
    kind = "mmstack" if tiff.is_mmstack else "ndtiff" if tiff.is_ndtiff else "ome"
    return {**attrs, "kind": kind}


def _as_series(first: Any) -> SimpleNamespace:
    """The pages of a member as readers of metadata take an image, by its first page."""
    axes, shape = "Q" + first.axes, (1, *first.shape)
    return SimpleNamespace(keyframe=first, kind=MEMBER, name="", axes=axes, shape=shape)


def _levels_by_layout(tiff: Any, url: str, palette: str) -> Iterator[tuple[AnyLevel, ...]]:
    """Levels of the pages of each layout, with None in place of pages of other layouts."""
    pages = list(tiff.pages)
    in_colour = palette != "index"
    layouts = [(page.hash, _palette(page) if in_colour else b"") for page in pages]
    for layout in dict.fromkeys(layouts):
        alike = [
            page if each == layout else None for each, page in zip(layouts, pages, strict=True)
        ]
        keyframe = _first(alike)
        levels = [_level_of(alike, url)]
        for number in range(len(keyframe.subifds or ())):
            levels.append(_level_of([_sub_page(page, number) for page in alike], url))
        if in_colour and keyframe.photometric == PALETTE and keyframe.colormap is not None:
            table = np.asarray(keyframe.colormap)
            colours = eight_bits(table) if palette == "all" else table
            yield tuple(Coloured(level, colours, url) for level in levels)
        else:
            yield tuple(levels)


def _palette(page: Any) -> bytes:
    return b"" if page.colormap is None else np.asarray(page.colormap).tobytes()


def _first(pages: Sequence[Any]) -> Any:
    return next(page for page in pages if page is not None)


def _level_of(pages: Sequence[Any], url: str) -> Level:
    """The level of pages that have the layout of the first one."""
    keyframe = _first(pages)
    check_decodable(keyframe, keyframe.shape, url)
    return _level([read_page(page, keyframe, url) for page in pages], keyframe, url)


def _sub_page(page: Any, number: int) -> Any:
    """The page of a SubIFD, a reduced copy of `page`; None for None."""
    import tifffile

    if page is None:
        return None

    if page.subifds is None or len(page.subifds) <= number:
        raise CorruptFileError(f"page {page.index} has no SubIFD {number}, unlike the first page")
    page.parent.filehandle.seek(page.subifds[number])
    return tifffile.TiffPage(page.parent, (page.index, number + 1))


def _level(pages: Sequence[Page | None], keyframe: Any, url: str) -> Level:
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    geometry = find_geometry((len(pages), *keyframe.shape), plane)
    if geometry is None:
        raise CorruptFileError(f"{url} has pages of the unsupported shape {plane}", url=url)
    return Level(geometry, pages, keyframe, np.dtype(keyframe.dtype), url)
