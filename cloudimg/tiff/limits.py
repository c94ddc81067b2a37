"""Limits on what a header may declare, checked before the parser allocates for it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import CorruptFileError, LimitError
from cloudimg.tiff.ifd import LEAST_IFD_BYTES

_MAX_PLANES = 10**7
_MAX_IMAGES = 20_000
_MAX_TAGS = 10**6
"""Start and end tags of XML: so many take 150 MB and four seconds. The largest OME-XML
with a description of every plane has five for each of 100,000 planes."""
_FEW_PLANES = 100_000
_MAX_SAMPLES = 65535
"""SamplesPerPixel is a number of 16 bits (TIFF 6.0, section 8)."""
_MAX_TEXT_SHARE = 8
"""A description may take an eighth of the limit on headers: parsing takes many times its size."""
_SIZES = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_SIZE = re.compile(r"\bSize([CTXYZ])\s*=\s*[\"']\s*(\d+)")
_LARGE_COUNT = re.compile(
    r"\b(?:PlaneCount|NumPlanes|IFD|First[CTZ])\s*=\s*[\"']\s*0*([1-9]\d{7,})"
)
"""Of 8 digits or more: no fewer reach `_MAX_PLANES`, and there may be millions of small ones."""
_IMAGE = re.compile(r"<(?:\w+:)?Image\b")
_TIFF_DATA = re.compile(r"<(?:\w+:)?TiffData\b")
_UUID = re.compile(r"<(?:\w+:)?UUID\b")


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


def check_ome(text: str, url: str, page_pixels: int = 1, *, file_bytes: int | None = None) -> None:
    """Refuse OME-XML that declares planes and images by the billion.

    Parameters
    ----------
    text : str
        The document.
    url : str
        URL of the file, for messages.
    page_pixels : int
        Number of pixels of a page; the parser creates as many pages as the sizes in the XML
        require.
    file_bytes : int, optional
        Size of the TIFF with the document. A ``TiffData`` without UUID is about pages of this file,
        which cannot have more IFDs than fit in it.

    Raises
    ------
    LimitError
    """
    _check_elements(text, url, file_bytes)
    n_images = sum(1 for _ in _IMAGE.finditer(text))
    most = max(_declared_planes(text, page_pixels), default=0)
    if n_images > _MAX_IMAGES or most > _MAX_PLANES:
        raise LimitError(
            f"the OME-XML of {url} declares {n_images} images and up to {most} planes in one, more"
            f" than the limits of {_MAX_IMAGES} images or {_MAX_PLANES} planes",
            url=url,
        )


def _declared_planes(text: str, page_pixels: int) -> Iterator[int]:
    """Numbers of planes that a document gives, without small ones of single elements."""
    yield from (int(match[1]) for match in _LARGE_COUNT.finditer(text))
    for pixels in _SIZES.finditer(text):
        # DimensionOrder may omit any dimension, so a size of zero does not bound the product.
        sizes = {size[1]: max(1, int(size[2])) for size in _SIZE.finditer(pixels[0])}
        yield math.prod(n for axis, n in sizes.items() if axis in "CTZ")
        if page_pixels > 1:
            yield math.prod(sizes.values()) // page_pixels


def _check_elements(text: str, url: str, file_bytes: int | None) -> None:
    """Refuse OME-XML with more elements than a parser should make, or than the file has pages."""
    n_tags = text.count("<")
    if n_tags > _MAX_TAGS:
        raise LimitError(
            f"the OME-XML of {url} has {n_tags} tags, more than the limit of {_MAX_TAGS}", url=url
        )
    if file_bytes is None or n_tags <= _FEW_PLANES:
        return
    n_own = sum(1 for _ in _TIFF_DATA.finditer(text)) - sum(1 for _ in _UUID.finditer(text))
    most = max(_FEW_PLANES, (file_bytes - len(text)) // LEAST_IFD_BYTES)
    if n_own > most:
        raise LimitError(
            f"the OME-XML of {url} places planes in {n_own} ranges of its pages, but its"
            f" {file_bytes} bytes hold {most} pages at most",
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
    if keyframe.samplesperpixel > _MAX_SAMPLES:
        wrong["samplesperpixel"] = keyframe.samplesperpixel
    if keyframe.planarconfig not in (1, 2):  # TIFF 6.0, section 8
        wrong["planarconfig"] = keyframe.planarconfig
    if wrong:
        raise CorruptFileError(f"{url} has an impossible layout: {wrong}", url=url)
    if keyframe.subifds and keyframe.offset in keyframe.subifds:
        raise CorruptFileError(
            f"page {keyframe.index} of {url}, at byte {keyframe.offset}, is its own SubIFD", url=url
        )
