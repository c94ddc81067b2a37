"""Decoding segments of codecs of bytes straight to where their pixels belong.

Most segments are streams of Deflate, Zstandard, LZW, LZMA or PackBits whose samples are those of
the output. Where the output has their rows one behind the other, it is what the codec writes into;
elsewhere what undoes the predictor writes there. Each saves a pass over the pixels.

The codec is called as tifffile calls it, with room for as many bytes as the segment has. What it
refuses, or finds fewer bytes in, is left to the decoder that tells what is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.compressions import NONE, OF_BYTES
from cloudimg.tiff.geometry import overlap
from cloudimg.tiff.ifd import Buffer
from cloudimg.tiff.malformed import MALFORMED
from cloudimg.tiff.pieces import PageLayout
from cloudimg.tiff.placing import Window, index_in
from cloudimg.tiff.samples import COMPLEX_INTEGER, HORIZONTAL

Array = npt.NDArray[Any]


class InPlaceDecoder:
    """Decoder of the segments of pages for which `is_possible` is true.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    layout : PageLayout
    """

    def __init__(self, keyframe: Any, layout: PageLayout) -> None:
        import tifffile

        self._decompress = tifffile.TIFF.DECOMPRESSORS[keyframe.compression]
        self._unpredict = (
            tifffile.TIFF.UNPREDICTORS[HORIZONTAL] if keyframe.predictor == HORIZONTAL else None
        )
        self._layout = layout

    def place(self, data: Buffer, index: int, window: Window, target: Array) -> bool:
        """Decode a segment.

        Parameters
        ----------
        data : bytes
            All of the segment, as it is stored.
        index : int
            Index of the segment in its page.
        window : tuple of slice
            Window in the page.
        target : ndarray
            Pixels of the window.

        Returns
        -------
        bool
            Whether all pixels of the segment that belong in the window are there. If not, those
            pixels are undefined.
        """
        samples, dtype = self._layout.plane_shape[4], self._layout.dtype
        is_dense = window[2].step == window[3].step == 1 and window[4] == slice(0, samples, 1)
        if not is_dense or target.dtype != dtype:
            return False
        (sample, deep, top, left, _), (_, height, width, _) = self._layout.segment_place(index)
        high = overlap(window[2], top, top + height)
        wide = overlap(window[3], left, left + width)
        if high is None or wide is None or (self._unpredict is not None and wide[0].start > 0):
            return False  # pixels are predicted from the first one of their row
        plane = target[index_in(window[0], sample), index_in(window[1], deep)]
        part: Array = plane[high[1], wide[1]]
        is_all = part.shape[:2] == (height, width) and part.flags.c_contiguous
        n_bytes = height * width * samples * dtype.itemsize
        room = part.reshape(-1).view(np.uint8) if is_all else n_bytes
        try:
            found = self._decompress(data, out=room)
        except MALFORMED:
            return False
        if len(found) != n_bytes:
            return False
        pixels = part
        if not is_all:
            pixels = np.frombuffer(found, dtype).reshape(height, width, samples)[high[0], wide[0]]
        if self._unpredict is not None:
            self._unpredict(pixels, axis=-2, out=part)
        elif not is_all:
            part[...] = pixels
        return True


def is_possible(keyframe: Any, layout: PageLayout) -> bool:
    """Whether the segments of a `tifffile.TiffPage` are bytes of pixels as the output has them."""
    return (
        keyframe.compression in OF_BYTES
        and keyframe.compression != NONE
        and keyframe.predictor in (1, HORIZONTAL)
        and keyframe.bitspersample == 8 * layout.dtype.itemsize
        and keyframe.sampleformat != COMPLEX_INTEGER
        and layout.dtype.isnative
        and layout.segment_shape[0] == 1
        and not layout.has_reversed_bits
    )
