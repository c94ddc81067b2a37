"""From the tags of an original file, as JSON, to the arguments with which tifffile writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Tags = Mapping[str, Any]
"""Tags of an IFD by name, each with its ``code``, ``type``, ``count`` and ``value``."""

_FROM_ARGUMENTS = {254, 256, 257, 258, 259, 262, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296}
_FROM_ARGUMENTS |= {317, 320, 322, 323, 324, 325, 330, 338, 339, 530, 531, 532}
_FROM_ARGUMENTS |= {32997, 32998}
"""Codes of tags that tifffile writes itself: they describe how pixels are stored."""
_DESCRIPTION = "ImageDescription"
_TEXT = 2
_RATIONAL = (5, 10)
_YCBCR = 6
_DECODED_TO_RGB = (6, 7, 33007, 34892, 50001, 50002, 52546)
"""Compressions whose decoders convert YCbCr: JPEG, WebP, JPEG XL."""
_BYTES = (1, 7)
"""Types of tags whose values are bytes: BYTE and UNDEFINED."""


def tags_by_page(
    row: Mapping[str, Any], n_pages: int, numbers: Sequence[int] | None, series: int
) -> tuple[Tags, list[Tags]]:
    """Tags of a file's first IFD, and those of each page to write.

    A page whose IFD in the original is not known gets no tags: its time, for example, is not that
    of the first page.

    Parameters
    ----------
    row : mapping
        A row of the table of originals.
    n_pages : int
        Number of pages to write.
    numbers : sequence of int, optional
        Numbers of the pages in the original, if known.
    series : int
        Which image of the original is written.
    """
    first: dict[str, Any] = json.loads(row["tags"]) if row.get("tags") else {}
    further = json.loads(row["further_tags"]) if row.get("further_tags") else []
    if numbers is None or max(numbers) > len(further):  # "numbers" may be file offsets, too
        is_complete = series == 0 and row.get("has_all_tags") and n_pages == len(further) + 1
        numbers = range(n_pages) if is_complete else ()
    if not numbers:
        # One IFD may stand for all pages (ImageJ), or the file may hold several images.
        unknown: list[Tags] = [{} for _ in range(n_pages)]
        return first, [first, *unknown[1:]] if series == 0 else unknown
    changes = [further[number - 1] if number > 0 else {} for number in numbers]
    return first, [_changed(first, change) if change else first for change in changes]


def _changed(tags: Tags, change: Tags) -> Tags:
    """Tags of a further IFD, stored as changes to the first; None marks a tag that it lacks."""
    return {name: tag for name, tag in {**tags, **change}.items() if tag is not None}


def with_descriptions(
    tags: Sequence[Tags], description: str | None
) -> list[tuple[Tags, str | None]]:
    """Tags of each page with its description, which is given for the first page."""
    texts = [each.get(_DESCRIPTION, {}).get("value") for each in tags[1:]]
    further = [text if isinstance(text, str) and text else None for text in texts]
    return list(zip(tags, [description, *further], strict=True))


def photometric(tags: Tags, n_samples: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """How to interpret pixels: as in the original if the copy holds the same pixels.

    Values are those of TIFF 6.0, p. 37. YCbCr that was decoded to RGB (JPEG) is written as RGB.
    """
    original = tags.get("PhotometricInterpretation", {}).get("value")
    colormap = tags.get("ColorMap", {}).get("value")
    if n_samples == 1 and original == 3 and dtype in (np.uint8, np.uint16):
        palette = np.array(colormap, np.uint16)
        if palette.shape == (3, 2 ** (8 * dtype.itemsize)):
            return {"photometric": "palette", "colormap": palette}
    kept = {(0, 1): "miniswhite", (5, 4): "separated", (8, 3): "cielab"}
    if tags.get("Compression", {}).get("value") not in _DECODED_TO_RGB:
        kept[_YCBCR, 3] = "ycbcr"
    default = "rgb" if n_samples in (3, 4) and original != 1 else "minisblack"
    return {"photometric": kept.get((original, n_samples), default)}


def resolution(tags: Tags) -> dict[str, Any]:
    """Pixels per unit, if the tags have them."""
    values = [tags.get(name, {}).get("value") for name in ("XResolution", "YResolution")]
    if not all(isinstance(each, list) and len(each) == 2 and each[1] for each in values):
        return {}
    unit = tags.get("ResolutionUnit", {}).get("value", 2)
    x, y = (Fraction(*each) for each in values)
    return {
        "resolution": ((x.numerator, x.denominator), (y.numerator, y.denominator)),
        "resolutionunit": unit if unit in (1, 2, 3) else 1,
    }


ExtraTag = tuple[int, int, int, Any, bool]
"""Code, type, count, value, and whether to write the tag once, as tifffile takes it."""


def extra_tags(tags: Tags) -> list[ExtraTag]:
    """All other tags whose values can be written as they were."""
    candidates = (tag for tag in tags.values() if tag["code"] not in _FROM_ARGUMENTS)
    written = (_extra_tag(tag) for tag in candidates)
    return [tag for tag in written if tag is not None]


def _extra_tag(tag: Mapping[str, Any]) -> ExtraTag | None:
    """A tag as tifffile takes it; None if its value cannot be written."""
    code, kind, value = tag["code"], tag["type"], tag.get("value")
    if isinstance(value, dict):
        if kind not in _BYTES or set(value) != {"base64"}:
            return None  # a value that tifffile parsed into a structure
        data = base64.b64decode(value["base64"])
        return code, kind, len(data), data, True
    if isinstance(value, str):
        is_text = kind == _TEXT and value.isascii() and value
        return (code, _TEXT, 0, value, True) if is_text else None
    if not (isinstance(value, int | float) or _is_flat(value)) or kind in _BYTES:
        return None
    count = len(value) if isinstance(value, list) else 1
    if kind in _RATIONAL:
        count //= 2
    if count != tag["count"]:
        return None
    return code, kind, count, tuple(value) if isinstance(value, list) else value, True


def _is_flat(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, int | float) for each in value)
