"""Limits on what a header may declare, checked before the parser allocates for it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import CorruptFileError, LimitError

_MAX_PLANES = 10**7
_MAX_IMAGES = 20_000
_MAX_TEXT_SHARE = 8
"""A description may take an eighth of the limit on headers: parsing takes many times its size."""
_SIZES = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_SIZE = re.compile(r"\bSize([CTXYZ])\s*=\s*[\"']\s*(\d+)")
_COUNT = re.compile(r"\b(?:PlaneCount|NumPlanes|IFD|First[CTZ])\s*=\s*[\"']\s*(\d+)")
_IMAGE = re.compile(r"<(?:\w+:)?Image\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Limits on the memory that the header of a file can make us allocate."""

    header_bytes: int
    """Most bytes of a file that are fetched as its header."""
    segment_bytes: int
    """Most bytes that a segment, or a file of another format, may decode to."""


def check_description(text: str, url: str, limits: DecodeLimits) -> None:
    """Refuse descriptions that would keep the parser busy for too long.

    Raises
    ------
    LimitError
    """
    longest = limits.header_bytes // _MAX_TEXT_SHARE
    if len(text) > longest:
        raise LimitError(
            f"the description of {url} is {len(text)} characters long, more than the limit of"
            f" {longest}; set CLOUDIMG_MAX_HEADER_BYTES to at least {_MAX_TEXT_SHARE * len(text)}"
            " if you trust the file",
            url=url,
        )


def check_ome(text: str, url: str, page_pixels: int = 1) -> None:
    """Refuse OME-XML that declares planes and images by the billion.

    `page_pixels` is the number of pixels of a page; the parser creates as many pages as the sizes
    in the XML require.

    Raises
    ------
    LimitError
    """
    counts = [int(match[1]) for match in _COUNT.finditer(text)]
    for pixels in _SIZES.finditer(text):
        # DimensionOrder may omit any dimension, so a size of zero does not bound the product.
        sizes = {size[1]: max(1, int(size[2])) for size in _SIZE.finditer(pixels[0])}
        counts.append(math.prod(n for axis, n in sizes.items() if axis in "CTZ"))
        if page_pixels > 1:
            counts.append(math.prod(sizes.values()) // page_pixels)
    n_images = sum(1 for _ in _IMAGE.finditer(text))
    if n_images > _MAX_IMAGES or max(counts, default=0) > _MAX_PLANES:
        raise LimitError(
            f"the OME-XML of {url} declares {n_images} images and up to {max(counts, default=0)}"
            f" planes in one, more than the limits of {_MAX_IMAGES} images or {_MAX_PLANES} planes",
            url=url,
        )


def check_layout(keyframe: Any, url: str) -> None:
    """Refuse layouts that no decoder can handle.

    Raises
    ------
    CorruptFileError
    """
    if keyframe.is_tiled:
        sizes = {n: getattr(keyframe, n) for n in ("tilewidth", "tilelength", "tiledepth")}
    else:
        sizes = {"rowsperstrip": keyframe.rowsperstrip}
    sizes["planarconfig"] = keyframe.planarconfig
    wrong = {n: v for n, v in sizes.items() if not isinstance(v, int) or v < 1}
    if keyframe.planarconfig not in (1, 2):  # TIFF 6.0, section 8
        wrong["planarconfig"] = keyframe.planarconfig
    if wrong:
        raise CorruptFileError(f"{url} has an impossible layout: {wrong}", url=url)
