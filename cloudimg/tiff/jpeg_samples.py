"""JPEG whose samples are neither RGB nor YCbCr: L*a*b*, three grey bands, planes of one sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudimg.tiff.compressions import JPEG

_PHOTOMETRIC = 262
_OTHERS = (0, 1, 8, 9, 10)
"""PhotometricInterpretation: grey, and the kinds of L*a*b*."""
_RGB_PHOTOMETRIC = 2
_RGB = 2
"""A colour space of libjpeg; between equal spaces it converts nothing."""


def has_other_samples(keyframe: Any) -> bool:
    """Whether libjpeg must be told not to convert the samples of a `tifffile.TiffPage`.

    libjpeg takes three components without a marker for YCbCr and converts them to RGB. In a TIFF
    PhotometricInterpretation decides (TIFF Technical Note 2). Planes of RGB are grey JPEGs, for
    which tifffile asks libjpeg for RGB all the same.
    """
    if keyframe.compression in JPEG and keyframe.planarconfig == 2:
        return bool(keyframe.photometric == _RGB_PHOTOMETRIC)
    return (
        keyframe.compression in JPEG
        and keyframe.planarconfig == 1
        and keyframe.samplesperpixel == 3
        and keyframe.photometric in _OTHERS
        and _PHOTOMETRIC in keyframe.tags
    )


def decoder_as_stored(keyframe: Any) -> Callable[..., Any]:
    """A decoder with the signature of `tifffile.TiffPage.decode` that converts no colours."""
    locate, bits = keyframe.decode, keyframe.bitspersample

    def decode(data: Any, index: int, **tables: bytes | None) -> Any:
        import imagecodecs

        _, place, shape = locate(None, index)
        if data is None:
            return None, place, shape
        space = _RGB if shape[3] == 3 else None
        pixels = imagecodecs.jpeg_decode(
            data,
            bitspersample=bits,
            tables=tables.get("jpegtables"),
            header=tables.get("jpegheader"),
            colorspace=space,
            outcolorspace=space,
            shape=shape[1:3],
        )
        return pixels.reshape(1, *pixels.shape[:2], shape[3]), place, shape

    return decode
