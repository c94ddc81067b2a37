"""Why other readers give other pixels than cloudimg, by class of file, with what proves it.

A difference is explained only where the pixels themselves show that the reason is the one that is
given: the other reader's pixels follow from ours by what it is known to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.support.flavours import Array

_JPEG = (6, 7)
_FAX3 = 3
_YCBCR, _CIELAB, _SEPARATED = 6, 8, 5
_LUMA = np.array([0.299, 0.587, 0.114])


def why_gdal_differs(pages: Sequence[Any], ours: Array, theirs: Array) -> str:
    """A reason for GDAL's other pixels; empty where none of those below is true.

    Parameters
    ----------
    pages : sequence of tifffile.TiffPage
        Those of the image; none where tifffile reads none.
    ours, theirs : array
        Bands, y, x of the first page.
    """
    return _first(_GDAL_DIFFERS, *pages[:1], ours, theirs) if pages else ""


def _first(reasons: Mapping[str, Callable[..., bool]], *arguments: Any) -> str:
    return next((text for text, is_so in reasons.items() if is_so(*arguments)), "")


def why_tifffile_differs(pages: Sequence[Any]) -> str:
    """A reason for tifffile's other pixels, where GDAL reads all pages as cloudimg does."""
    if any(page.compression == _FAX3 and _t4_options(page) & 1 for page in pages):
        return "tifffile decodes Group 3 with lines in two dimensions as lines in one"
    return ""


def _t4_options(page: Any) -> int:
    found = page.tags.get(292)
    return int(found.value) if found is not None else 0


def why_gdal_fails(pages: Sequence[Any], message: str) -> str:
    """A reason why GDAL does not read what tifffile and cloudimg read alike."""
    return _first(_GDAL_FAILS, *pages[:1], message) if pages else ""


def why_refused(error: str, *, by_gdal: bool) -> str:
    """A reason why cloudimg refuses what another reader reads.

    Parameters
    ----------
    error : str
        Class and message of cloudimg's error.
    by_gdal : bool
        Whether GDAL is one of those that read it.
    """
    if not by_gdal and re.search(r"^TruncatedFileError: \S+ ends too early", error):
        return "pixels lie beyond the end of the file; tifffile gives what there is"
    return next((why for text, why in _REFUSED.items() if re.search(text, error)), "")


def _interpolates_no_chroma(page: Any, ours: Array, theirs: Array) -> bool:
    """The luma is the same wherever no colour was clipped."""
    if page.photometric != _YCBCR or page.compression not in _JPEG or len(ours) != 3:
        return False
    if ours.shape != theirs.shape:
        return False
    clipped = ((ours == 0) | (ours == 255) | (theirs == 0) | (theirs == 255)).any(0)
    luma, other = (np.tensordot(_LUMA, one.astype(float), 1) for one in (ours, theirs))
    return bool((~clipped).mean() > 0.05 and np.abs(luma - other)[~clipped].max() < 1)


def _converts_ycbcr(page: Any, ours: Array, theirs: Array) -> bool:
    """Its colours are the conversion of ours (TIFF 6.0, section 21)."""
    if page.photometric != _YCBCR or page.compression in _JPEG or len(ours) != 3:
        return False
    y, cb, cr = ours.astype(float)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    return bool(np.abs(rgb.clip(0, 255) - theirs[:3]).max() < 1)


def _converts_cmyk(page: Any, ours: Array, theirs: Array) -> bool:
    """Its colours are those of ours, with an alpha channel that is opaque."""
    if page.photometric != _SEPARATED or len(ours) < 4 or ours.dtype != np.uint8:
        return False
    inks = ours[:4].astype(int)
    rgb = (255 - inks[:3]) * (255 - inks[3]) // 255
    return np.array_equal(rgb, theirs[:3]) and bool((theirs[3:] == 255).all())


def _converts_lab(page: Any, ours: Array, theirs: Array) -> bool:
    """Its colours are about as light as ours (CIE 1976 L*, from sRGB)."""
    if page.photometric != _CIELAB or len(theirs) != 4 or ours.dtype != np.uint8:
        return False
    light = np.tensordot([0.2126, 0.7152, 0.0722], (theirs[:3] / 255) ** 2.2, 1)
    lightness = (1.16 * np.cbrt(light) - 0.16) * 255
    return bool(np.abs(lightness - ours[0]).mean() < 20 and (theirs[3] == 255).all())


_GDAL_DIFFERS: dict[str, Callable[[Any, Array, Array], bool]] = {
    "GDAL repeats chroma of half the resolution, libjpeg interpolates it": _interpolates_no_chroma,
    "GDAL converts YCbCr to RGB, which comes as it is stored": _converts_ycbcr,
    "GDAL converts inks to RGBA, which come as they are stored": _converts_cmyk,
    "GDAL converts CIELab to RGBA, which comes as it is stored": _converts_lab,
}

_GDAL_FAILS: dict[str, Callable[[Any, str], bool]] = {
    "GDAL was built without the codec": lambda page, message: "missing codec" in message,
    "GDAL reads old-style JPEG as RGBA only": lambda page, message: "Old-JPEG" in message,
    "GDAL has no JPEG of other than 8 bits": lambda page, message: (
        page.compression in _JPEG and page.bitspersample != 8
    ),
    "GDAL refuses the header of another directory": lambda page, message: (
        "MissingRequired" in message or "Too large" in message
    ),
    "byte counts are larger than the file, whose pixels are all there": lambda page, message: (
        page.compression == 1
        and page.is_tiled
        and max(page.dataoffsets) + page.tilewidth * page.tilelength * page.samplesperpixel
        <= page.parent.filehandle.size
        < max(page.databytecounts)
    ),
}

_REFUSED = {
    r"^UnsupportedFormatError: .*(cannot be decoded|no decoder)": "there is no decoder",
    r"^LimitError: ": "reading it would take more than a limit allows",
    r"^CorruptFileError: the chain of IFDs of \S+ is circular": (
        "the number of pages is unknown; others read the first one or go round for a while"
    ),
    r"hold \d+ of \d+ rows": (
        "a fax that ends with fewer rows than the page has; others give blank rows for the rest"
    ),
    r"the value of tag \d+ .*cannot be decoded without it": (
        "the offset of a tag that decides pixels is damaged; others go on without the tag and guess"
    ),
    r"has offsets of only \d+$": "others take segments without offset for empty, or guess offsets",
    r"^CorruptFileError: segment \d+ .*DEFLATE": (
        "GDAL gives what it could decode of a broken Deflate stream, and garbage or zeros after it"
    ),
    r"^CorruptFileError: segment \d+ .*OJPEG": (
        "old-style JPEG whose stream has to be made up from tags (TIFF technical note 2)"
    ),
}
"""Causes by the message of the error."""
