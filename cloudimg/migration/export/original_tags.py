"""From the tags of an original file, as the table of originals has them, to those that are written.

What cannot be written is named, with the reason. Tags that say how the original stored its pixels
(offsets, compression, strips) are left out without being named: the pixels are stored anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from cloudimg.migration.export.result import Lost
from cloudimg.migration.export.tiff_writer import Directory, Tag
from cloudimg.migration.metadata.tag_bytes import SUB_IFDS, bytes_of
from cloudimg.tiff.ifd import TYPE_BYTES

Tags = Mapping[str, Any]
"""Tags of an IFD by name, each with its ``code``, ``type``, ``count`` and ``value``."""

_STORAGE = {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293, 317}
_STORAGE |= {320, 322, 323, 324, 325, 338, 339, 347, *range(512, 522), 530}
_STORAGE |= {32997, 32998, 50674, 65324, 65325, 65426, 65432}
"""Codes of tags that say how pixels are stored, which are written from the pixels or not at all."""
_SUBIFDS = 330
_OFFSETS_WITHIN = {33471, 33560, 33628, 33629, 33630, 33631, 34412}
"""Codes of tags whose values hold offsets into the original file: Olympus SIS, MetaMorph STK, Zeiss
LSM."""
DESCRIPTION, SOFTWARE = 270, 305
"""Codes of texts by which readers recognize vendors."""
_GENERAL = {
    33432, 33421, 33422, 33550, 33723, 33922, 34264, 34377, 34665, 34675, 34735, 34736, 34737,
    34853, 37724, 42112, 42113, 50844,
}  # fmt: skip
"""Private tags that say nothing of which pages make an image: copyright, georeference, IPTC, ICC,
Photoshop, Exif, GPS, GDAL."""
_PLACE = {33550, 33922, 34264}
"""Codes of tags that say where pixels lie on Earth."""
_OF_SAMPLES = {301, 332, 333, 334, 336, 433, 529, 532, 34675, 42113}
"""Codes of tags that describe colours as they were stored, among them the ICC profile and GDAL's
nodata value."""
_FIRST_PRIVATE = 32768

OF_ANOTHER_IMAGE = "with it the pages would make another image"
_OF_WHOLE = "the copy has a part of the file, which begins elsewhere"
_OFFSETS_REASON = "it holds offsets into the original file"
_OLD_COPY = "the copy does not hold its bytes"
CONVERTED = "the copy holds converted pixels"
_UNKNOWN_PAGE = "the copy does not say which page has them"
_FURTHER = "those after the first in an IFD: a copy keeps one tag of each number"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTags:
    """What is written of the tags of one page, apart from how its pixels are stored."""

    tags: tuple[Tag, ...]
    subs: tuple[tuple[int, int, tuple[Directory, ...]], ...]
    """IFDs that tags point at."""
    lost: frozenset[Lost]
    """What is not written."""


def tags_by_page(
    row: Mapping[str, Any], n_pages: int, numbers: Sequence[int] | None, series: int
) -> tuple[Tags, list[Tags], set[Lost]]:
    """Tags by which pixels are understood, those of each page, and what of them is not known.

    A page whose IFD in the original is not known gets no tags: its time, for example, is not that
    of the first page.

    Parameters
    ----------
    row : mapping
        A row of the table of originals.
    n_pages : int
        Number of pages to write.
    numbers : sequence of int, optional
        Number of the IFD of each page in the original, if known.
    series : int
        Which image of the original is written.
    """
    first: dict[str, Any] = json.loads(row["tags"]) if row.get("tags") else {}
    further = json.loads(row["further_tags"]) if row.get("further_tags") else []
    lost: set[Lost] = set()
    if not first:
        lost.add(("all tags", "the original is not a TIFF, or its tags were not read"))
    elif not row.get("has_all_tags"):
        lost.add(("tags of further pages", "they were not read when the copy was made"))
    if numbers is None or max(numbers) > len(further):  # "numbers" may be file offsets, too
        is_complete = series == 0 and row.get("has_all_tags") and n_pages == len(further) + 1
        numbers = range(n_pages) if is_complete else ()
    if not numbers:
        return _of_unknown_pages(first, further, n_pages, series, lost)
    changes = [further[number - 1] if number > 0 else {} for number in numbers]
    tags = [_changed(first, change) if change else first for change in changes]
    return tags[0], tags, lost


def _of_unknown_pages(
    first: Tags, further: Sequence[Tags], n_pages: int, series: int, lost: set[Lost]
) -> tuple[Tags, list[Tags], set[Lost]]:
    """As `tags_by_page`, for pages whose IFDs are not known.

    One IFD may stand for all pages (ImageJ), or the file may hold several images.
    """
    unknown: list[Tags] = [{} for _ in range(n_pages)]
    if series:
        return {}, unknown, lost | {("all tags", _UNKNOWN_PAGE)}
    if n_pages > 1 and further:
        lost = lost | {("tags of further pages", _UNKNOWN_PAGE)}
    return first, [first, *unknown[1:]], lost


def _changed(tags: Tags, change: Tags) -> Tags:
    """Tags of a further IFD, stored as changes to the first; None marks a tag that it lacks."""
    return {name: tag for name, tag in {**tags, **change}.items() if tag is not None}


def lost_pages(row: Mapping[str, Any], n_pages: int, n_levels: int) -> set[Lost]:
    """Pages of the original that are not written, among them levels of a pyramid.

    Parameters
    ----------
    row : mapping
        A row of the table of originals.
    n_pages, n_levels : int
        Number of pages that are written, and of further levels.
    """
    lost: set[Lost] = set()
    further = json.loads(row["further_tags"]) if row.get("further_tags") else []
    pyramid = row.get("pyramid")
    if pyramid and not n_levels:
        lost.add(("pyramid", "the copy has no further levels of its planes"))
    elif pyramid:
        lost.add(
            ("pyramid", "its levels are those of the copy, without the tags of the original's")
        )
    first = json.loads(row["tags"]) if row.get("tags") else {}
    if "SubIFDs" in first and pyramid != "subifds":
        lost.add(("SubIFDs", "the images in them are not in the copy"))
    n_stored = n_pages * (row["n_levels"] if pyramid == "pages" else 1)
    if len(further) + 1 > n_stored:
        lost.add(("further pages", "they are not part of the copied image"))
    return lost


def page_tags(
    tags: Tags, order: str, plane: tuple[int, int] | None = None, *, is_converted: bool = False
) -> PageTags:
    """The tags of a page that can be written as they were, and the others.

    Parameters
    ----------
    tags : Tags
    order : str
    plane : tuple of int, optional
        Height and width of the page as it is written, if they may differ from the original's.
    is_converted : bool
        Whether other colours are written than the original has.
    """
    own = {
        name: tag
        for name, tag in tags.items()
        if tag["code"] not in _STORAGE and tag["code"] != _SUBIFDS
    }
    page = _tags_of_ifd(own, order, _OFFSETS_WITHIN)
    names = {tag["code"]: name for name, tag in own.items()}
    if is_converted:
        page = without(page, _OF_SAMPLES, names, CONVERTED)
    stored = (value_of(tags, "ImageLength"), value_of(tags, "ImageWidth"))
    if plane is None or None in stored or plane == stored:
        return page
    return without(page, _PLACE, names, _OF_WHOLE)


def _tags_of_ifd(
    tags: Tags, order: str, offsets_within: AbstractSet[int] = frozenset()
) -> PageTags:
    """The tags of an IFD; those within others have codes of their own meaning."""
    written: list[Tag] = []
    subs: list[tuple[int, int, tuple[Directory, ...]]] = []
    lost: set[Lost] = set()
    for name, tag in tags.items():
        code, data = tag["code"], bytes_of(tag, order)
        if tag.get("further"):
            lost.add((name, _FURTHER))
        if "ifd" in tag:
            found = _tags_of_ifd(tag["ifd"], order)
            lost |= {(f"{name}/{within}", why) for within, why in found.lost}
            if found.tags or found.subs:
                subs.append((code, tag["type"], (Directory(found.tags, found.subs),)))
        elif code in offsets_within:
            lost.add((name, _OFFSETS_REASON))
        elif data is None or code in SUB_IFDS:
            lost.add((name, why_not(tag)))
        else:
            written.append(Tag(code, tag["type"], tag["count"], data))
    return PageTags(tags=tuple(written), subs=tuple(subs), lost=frozenset(lost))


def why_not(tag: Mapping[str, Any]) -> str:
    """Why a tag cannot be written."""
    if not TYPE_BYTES.get(tag["type"]):
        return f"its type {tag['type']} does not exist in TIFF"
    if "left_out_bytes" in tag:
        return "it is larger than 1 MiB, which copies do not keep"
    if tag.get("unreadable"):
        return "its bytes were not read when the copy was made, or are not in the file"
    return _OLD_COPY


def without(
    page: PageTags, codes: Iterable[int], names: Mapping[int, str], why: str = OF_ANOTHER_IMAGE
) -> PageTags:
    """A page without some tags, which are named as not written."""
    left_out = set(codes)
    gone = {tag.code for tag in page.tags if tag.code in left_out}
    return PageTags(
        tags=tuple(tag for tag in page.tags if tag.code not in left_out),
        subs=page.subs,
        lost=page.lost | {(names.get(code, str(code)), why) for code in gone},
    )


def vendor_codes(pages: Iterable[PageTags]) -> set[int]:
    """Codes of private tags that may say which pages make an image."""
    return {
        tag.code
        for page in pages
        for tag in page.tags
        if tag.code >= _FIRST_PRIVATE and tag.code not in _GENERAL
    }


def same_tag(tag: Mapping[str, Any] | None, order: str) -> Tag | None:
    """A tag as it was stored, if the copy has its bytes."""
    data = None if tag is None else bytes_of(tag, order)
    return (
        None if tag is None or data is None else Tag(tag["code"], tag["type"], tag["count"], data)
    )


def value_of(tags: Tags, name: str, default: Any = None) -> Any:
    """The value of a tag of integers."""
    value = tags.get(name, {}).get("value", default)
    items = value if isinstance(value, list) else [value]
    return value if all(each is None or isinstance(each, int) for each in items) else default
