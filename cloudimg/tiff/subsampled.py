"""YCbCr whose chroma has fewer samples than its luma, without JPEG (TIFF 6.0, section 21)."""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudimg.tiff.compressions import ANY_JPEG, OF_BYTES
from cloudimg.tiff.own_decoder import Array, OwnDecoder
from cloudimg.tiff.samples import stored_bytes

_YCBCR = 6
"""PhotometricInterpretation."""
_FACTORS = {(4, 4), (4, 2), (4, 1), (2, 2), (2, 1), (1, 2)}
"""Columns and rows of luma for each sample of chroma, as libtiff (``tif_getimage.c``) has them."""


def ignore_subsampling(keyframe: Any) -> None:
    """Ignore YCbCrSubSampling of other samples than YCbCr, as libtiff does."""
    if keyframe.photometric != _YCBCR:
        keyframe.subsampling = (1, 1)


def is_subsampled(keyframe: Any) -> bool:
    """Whether chroma of a `tifffile.TiffPage` is subsampled and not expanded by a JPEG decoder."""
    return bool(keyframe.is_subsampled and keyframe.compression not in ANY_JPEG)


def is_decodable(keyframe: Any) -> bool:
    """Whether a `SubsampledDecoder` decodes the subsampled segments of a `tifffile.TiffPage`."""
    return (
        keyframe.planarconfig == 1
        and (keyframe.samplesperpixel, keyframe.bitspersample) == (3, 8)
        and (keyframe.imagedepth, keyframe.tiledepth) == (1, 1)
        and (keyframe.compression in OF_BYTES and keyframe.predictor == 1)
        and _factors(keyframe) in _FACTORS
    )


def _factors(keyframe: Any) -> Any:
    """The value of YCbCrSubSampling; 2 and 2 without a tag."""
    return (2, 2) if keyframe.subsampling is None else keyframe.subsampling


class SubsampledDecoder(OwnDecoder):
    """Decoder of the segments of a page for which `is_decodable` is true.

    Samples are Y, Cb and Cr, and each sample of chroma is repeated for all pixels that share it, as
    libtiff does where it makes RGB of them.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    """

    def __init__(self, keyframe: Any) -> None:
        super().__init__(keyframe)
        self._wide, self._high = _factors(keyframe)
        self._compression = int(keyframe.compression)

    def _pixels(self, data: Any, index: int, shape: tuple[int, int, int, int]) -> Array:
        n_high, n_wide = -(-shape[1] // self._high), -(-shape[2] // self._wide)
        n_luma = self._high * self._wide
        n_bytes = n_high * n_wide * (n_luma + 2)
        units = stored_bytes(data, self._layout, self._compression, n_bytes)
        units = units.reshape(n_high, n_wide, n_luma + 2)
        pixels = np.empty((n_high, self._high, n_wide, self._wide, 3), np.uint8)
        luma = units[..., :n_luma].reshape(n_high, n_wide, self._high, self._wide)
        pixels[..., 0] = luma.transpose(0, 2, 1, 3)
        pixels[..., 1:] = units[:, np.newaxis, :, np.newaxis, n_luma:]
        whole = pixels.reshape(1, n_high * self._high, n_wide * self._wide, 3)
        return whole[:, : shape[1], : shape[2]]
