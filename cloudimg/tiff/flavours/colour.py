"""Colours of the pixels of any TIFF, as the decoder delivers them.

PhotometricInterpretation says how pixels are stored. Some decoders convert: JPEG in YCbCr comes as
RGB (TIFF Technical Note 2; libjpeg does it), and so do WebP and JPEG XL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cloudimg.tiff.flavours.facts import HeaderFacts, MetadataSource

PHOTOMETRIC = 262
COLORMAP = 320
_INK_SET, _INK_NAMES = 332, 333
_YCBCR_COEFFICIENTS, _REFERENCE_BLACK_WHITE = 529, 532
_RATIONALS = {5, 10}
"""Types of tags whose values are numerators and denominators."""
_PALETTE, _SEPARATED, _YCBCR = 3, 5, 6
_CONTIGUOUS = 1
# TIFF 6.0, sections 18 (ExtraSamples), 16 (InkSet: 1 is CMYK, also the default).
_EXTRA_SAMPLES = {0: "unspecified", 1: "alpha: associated", 2: "alpha: unassociated"}
_CMYK_INKS = 1
_JPEG = {6, 7, 33007, 34892}
_CCITT = {2, 3, 4, 32771}
_ALWAYS_RGB = {50001, 50002, 52546}
"""WebP and JPEG XL, whose decoders give no other colours than RGB."""
_APERIO_YCBCR = 33003
"""JPEG 2000 in YCbCr, whatever the photometric interpretation says (OpenSlide's documentation of
Aperio). Where chrominance is subsampled, which ImageDescription tells, imagecodecs converts it."""
_SUBSAMPLED = ("YUV16", "YUV12")
"""Aperio's words for 16 and 12 bits a pixel."""

OF_INDICES = {"bits_per_sample", "nodata", "samples"}
"""Attributes that describe the indices into a palette."""

_SPACES = {
    0: "gray-inverted",
    1: "gray",
    2: "rgb",
    _PALETTE: "palette",
    4: "mask",
    _SEPARATED: "cmyk",
    _YCBCR: "ycbcr",
    8: "cielab",
    9: "icclab",
    10: "itulab",
    32803: "cfa",
    32844: "logl",
    32845: "logluv",
    34892: "linear-raw",
}
"""Colour spaces by PhotometricInterpretation: TIFF 6.0, its supplements, RFC 2301, DNG, libtiff."""
_SAMPLES = {
    "gray-inverted": ["gray"],
    "gray": ["gray"],
    "rgb": ["red", "green", "blue"],
    "palette": ["palette"],
    "cmyk": ["cyan", "magenta", "yellow", "black"],
    "ycbcr": ["luma", "cb", "cr"],
    "cielab": ["L*", "a*", "b*"],
    "icclab": ["L*", "a*", "b*"],
    "itulab": ["L*", "a*", "b*"],
}


def read_color_space(source: MetadataSource) -> HeaderFacts:
    """Read the colour space of the delivered pixels and what converting them takes."""
    facts = HeaderFacts()
    page = source.keyframe
    space = _color_space(source)
    facts.put("color_space", space)
    if space == "ycbcr":
        facts.put("ycbcr_coefficients", _numbers(page, _YCBCR_COEFFICIENTS, 3))
        facts.put("reference_black_white", _numbers(page, _REFERENCE_BLACK_WHITE, 6))
    facts.put("samples", _samples(source, space))
    dtype = page.dtype
    if dtype is not None and dtype.kind in "iu" and isinstance(page.bitspersample, int):
        is_less = 0 < page.bitspersample < 8 * dtype.itemsize
        facts.put("bits_per_sample", page.bitspersample if is_less else None)
    return facts


def read_colormap(source: MetadataSource) -> HeaderFacts:
    """Read the colours of a palette as they are stored: 3 rows of 2**bits 16-bit numbers."""
    facts = HeaderFacts()
    page = source.keyframe
    if page.photometric == _PALETTE:
        table = np.asarray(source.tag(COLORMAP), np.uint16)
        facts.put("colormap", table.reshape(3, 2**page.bitspersample))
    return facts


def _color_space(source: MetadataSource) -> str:
    """Name of the colour space of delivered pixels; see `cloudimg.ImageAttributes`."""
    page = source.keyframe
    n_samples, photometric = int(page.samplesperpixel), int(page.photometric)
    if PHOTOMETRIC not in page.tags:
        # libtiff's TIFFRGBAImageBegin infers the same.
        if n_samples - len(page.extrasamples) >= 3:
            return "rgb"
        return "gray-inverted" if int(page.compression) in _CCITT else "gray"
    if page.compression == _APERIO_YCBCR and n_samples == 3:
        return "rgb" if any(word in page.description for word in _SUBSAMPLED) else "ycbcr"
    space = _SPACES.get(photometric, "unknown")
    if space == "cmyk":
        other_inks = source.tag(_INK_SET) not in (None, _CMYK_INKS)
        return "inks" if other_inks or n_samples < 4 else space
    if space == "ycbcr" and _is_decoded_to_rgb(page):
        space = "rgb"
    return "unknown" if space in ("rgb", "ycbcr") and n_samples < 3 else space


def _is_decoded_to_rgb(page: Any) -> bool:
    """Whether the decoder turns YCbCr into RGB: JPEG of three samples that are stored together."""
    if page.compression in _ALWAYS_RGB:
        return True
    is_one_stream = page.planarconfig == _CONTIGUOUS and page.samplesperpixel == 3
    return page.compression in _JPEG and is_one_stream and not page.extrasamples


def _samples(source: MetadataSource, space: str) -> list[str] | None:
    """Meaning of each sample of a pixel; None if all are red, green and blue, or there is one."""
    page = source.keyframe
    n_samples = int(page.samplesperpixel)
    extra = [_EXTRA_SAMPLES.get(int(kind), "unspecified") for kind in page.extrasamples]
    colors = _SAMPLES.get(space, [])
    if space == "inks":
        names = source.tag(_INK_NAMES)
        colors = [name for name in names.split("\0") if name] if isinstance(names, str) else []
    n_extra = n_samples - len(colors)
    if n_samples < 2 or not colors or n_extra < 0 or (space == "rgb" and not n_extra):
        return None
    # Writers leave the tag out, or count colours among the extra samples.
    extra += ["unspecified"] * (n_extra - len(extra))
    return [*colors, *extra[len(extra) - n_extra :]]


def _numbers(page: Any, code: int, count: int) -> list[float] | None:
    """Values of a tag of rationals; None if it is absent, or no such numbers."""
    tag = page.tags.get(code)
    if tag is None or tag.count != count:
        return None
    values: Sequence[Any] = tag.value
    if int(tag.dtype) in _RATIONALS:
        values = [a / b if b else math.nan for a, b in zip(values[::2], values[1::2], strict=True)]
    found = [float(value) for value in values]
    return found if all(map(math.isfinite, found)) else None
