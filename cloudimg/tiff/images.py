"""All images of a file: which are images of their own, which only accompany one, and pages in none.

An image beside the one that is opened is a further image unless the file says that it is a
thumbnail, a label or the like: by NewSubfileType (TIFF 6.0, section 8, bits 0 and 2), by the name
that tifffile gives to an image of a slide scanner, or by the name in OME-XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from cloudimg.errors import counted
from cloudimg.errors.notes import Remark
from cloudimg.tiff.markup import child, children, descendants, parse_xml
from cloudimg.tiff.parsed import IMAGE, FileImage

SURPLUS = "surplus-pages"
"""Kind of the remark about pages that are in no image."""
SLIDES = {"svs", "ndpi", "avs", "philips", "bif", "qpi"}
"""Kinds of files whose images tifffile names by their role."""
_SLIDE_ROLES = {name.title(): name for name in ("thumbnail", "label", "macro", "map")}
_OME_ROLE = re.compile(
    r"(?:slide |specimen )?(label|macro|thumbnail|overview|map)(?: image)?", re.IGNORECASE
)
"""Names of images in OME-XML; Bio-Formats writes ``label image`` and ``macro image``."""
_NAMES = {role: (role, None) for role in ("thumbnail", "label", "macro", "map", "mask")} | {
    "empty": ("image without pixels", "images without pixels")
}
FURTHER_IMAGES = ("further-images", *_NAMES)
"""Kinds of the remarks about other images of a file."""
_REDUCED, _MASK = 1, 4
_CHOOSING = {"generic", "ome", "scn", "lsm", "mdgel", "eer", *SLIDES}
"""Kinds of files of which tifffile reads all pages, but may use only some."""


def list_images(tiff: Any, series: Sequence[Any]) -> tuple[FileImage, ...]:
    """All images of a file, by number; empty if it has only one.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    series : sequence of tifffile.TiffPageSeries
        The images of the file.
    """
    if len(series) < 2:
        return ()
    overviews = _scn_overviews(tiff, len(series)) if series[0].kind == "scn" else set()
    largest = max(_plane_size(each.shape, each.axes) for each in series)
    return tuple(
        FileImage(
            number,
            "macro" if number in overviews else _role(each, largest),
            str(each.name or ""),
            tuple(int(n) for n in each.shape),
            str(each.dtype),
        )
        for number, each in enumerate(series)
    )


def _role(series: Any, largest: int) -> str:
    if 0 in series.shape:
        return "empty"
    if series.keyframe.subfiletype & _MASK:
        return "mask"
    if series.kind in SLIDES and series.name in _SLIDE_ROLES:
        return _SLIDE_ROLES[series.name]
    if series.keyframe.subfiletype & _REDUCED:
        return "thumbnail"
    if series.kind == "ome":
        return role_in_ome(series.name, _plane_size(series.shape, series.axes), largest)
    return IMAGE


def role_in_ome(name: str | None, n_pixels: int, largest: int) -> str:
    """Role of an image by its name in OME-XML.

    The name counts only if its planes are smaller than those of another image: the labels of a
    segmentation are as large as what they label.

    Parameters
    ----------
    name : str, optional
    n_pixels, largest : int
        Number of pixels of one plane of the image, and of the largest one in the file.
    """
    match = _OME_ROLE.fullmatch((name or "").strip())
    if match is None or n_pixels >= largest:
        return IMAGE
    role = match[1].lower()
    return "macro" if role == "overview" else role


def _plane_size(shape: Sequence[int], axes: str) -> int:
    lengths = dict(zip(axes, shape, strict=True))
    return int(lengths.get("Y", 1)) * int(lengths.get("X", 1))


def _scn_overviews(tiff: Any, n_images: int) -> set[int]:
    """Numbers of the images of a Leica SCN that show the whole slide.

    They are as large as their collection, which is how OpenSlide tells them ("Leica format").
    """
    root = parse_xml(tiff.pages.first.description)
    found, number = set(), 0
    for collection in descendants(root, "collection"):
        slide = collection.get("sizeX"), collection.get("sizeY")
        for image in children(collection, "image"):
            view = child(image, "view")
            for pixels in children(image, "pixels"):
                if not children(pixels, "dimension"):
                    continue
                if view is not None and (view.get("sizeX"), view.get("sizeY")) == slide:
                    found.add(number)
                number += 1
    return found if number == n_images and len(found) < n_images else set()


def place_among(images: Sequence[FileImage], series: int) -> str:
    """Which image of how many an image is, and which numbers open the others.

    Such as ``image 1 of 4; series=1..3``, or ``image 1 of 3; series=1 (label), 2 (macro)``.
    """
    others = [(image.series, image.role) for image in images if image.series != series]
    return f"image {series + 1} of {len(images)}; series={_numbers(others)}"


def remarks_on(images: Sequence[FileImage], series: int) -> Iterator[Remark]:
    """Remarks about the images of a file beside the one that is opened, one for each role."""
    by_role: dict[str, list[int]] = {}
    for image in images:
        if image.series != series:
            by_role.setdefault(image.role, []).append(image.series)
    for role, found in by_role.items():
        which = f"series={_numbers((number, IMAGE) for number in found)}"
        if role == IMAGE:
            text = f"this is image {series + 1} of {len(images)}; further images: {which}"
            yield Remark("further-images", text)
        else:
            what = counted(len(found), *_NAMES[role])
            yield Remark(role, f"the file also has {what}, not part of this image: {which}")


def _numbers(images: Iterable[tuple[int, str]]) -> str:
    """Numbers of images, neighbours of one role joined; the role of what is not an image."""
    parts = []
    keyed = groupby(enumerate(images), lambda pair: (pair[1][0] - pair[0], pair[1][1]))
    for (_, role), run in keyed:
        numbers = [number for _, (number, _) in run]
        text = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}..{numbers[-1]}"
        parts.append(text if role == IMAGE else f"{text} ({role})")
    return ", ".join(parts)


def surplus_pages(tiff: Any, series: Sequence[Any]) -> Iterator[Remark]:
    """A remark about pages that are in no image of the file, if there are any.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    series : sequence of tifffile.TiffPageSeries
        All images of the file.
    """
    if series[0].kind not in _CHOOSING or (n_pages := len(tiff.pages)) < 2:
        return
    used = {
        page.index
        for image in series
        for level in image.levels
        for page in level
        if page is not None and not page.is_subifd
    }
    if len(used) < n_pages:
        by = "the OME-XML places" if series[0].kind == "ome" else "its images have"
        yield surplus_remark(n_pages, len(used), by)


def surplus_remark(n_pages: int, n_used: int, by: str) -> Remark:
    """The remark about pages that are in no image; `by` begins the clause that says why."""
    are = counted(n_pages - n_used, "page is", "pages are")
    text = f"the file has {n_pages} pages, but {by} only {n_used} of them: {are} in no image"
    return Remark(SURPLUS, text)
