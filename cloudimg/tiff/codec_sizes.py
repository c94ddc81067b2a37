"""How large the image in a segment is by the header of its codec, compared with the segment.

A codec with a header of its own allocates what that header says, whatever the TIFF around it
says. It is read first, and a segment that holds an image of another size is refused: the decoder
would take gigabytes, or leave pixels that belong elsewhere. Streams of bytes (Deflate, LZMA,
Zstandard, LZW, PackBits) have no size that counts, because their decoders get an output as large
as the segment. `cloudimg.tiff.lerc` measures its blobs itself.

libtiff refuses the same for JPEG (``tif_jpeg.c``, JPEGPreDecode: "strip/tile size exceeds expected
dimensions"). It accepts a last strip that is stored as high as the others, and tiles at the edges
that are cut there, as does this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cloudimg.formats import sizes
from cloudimg.formats.sizes import Factors
from cloudimg.tiff.compressions import ANY_JPEG, JPEG_2000, JPEG_XL, JPEG_XR, OLD_JPEG, PNG, WEBP
from cloudimg.tiff.ifd import Buffer
from cloudimg.tiff.pieces import PageLayout

_MOST_SCANS = 100
"""libtiff's limit on the scans of a progressive JPEG, each of which takes a pass over all pixels;
encoders make about ten."""
_SCAN, _PROGRESSIVE, _LOSSLESS = b"\xff\xda", b"\xff\xc2", b"\xc3"
_MOST_TIMES = 4
"""How many times as large as its segment an image may be, with samples that are not counted or
rows that are not used."""
_SPARE_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec whose streams begin with the size of an image."""

    name: str
    measure: Callable[[Buffer], Factors | None]
    """Returns height, width, samples and bytes per sample, perhaps after the number of images, or
    height, width and samples for bytes."""
    counts_samples: bool = True
    """Whether the number of samples is that of the decoded image, not a lower bound."""


def _webp(data: Buffer) -> Factors | None:
    factors = sizes.webp(bytes(data))
    return None if factors is None else (*factors, 1)


_JPEG = Codec("JPEG", sizes.jpeg)
_JPEG_2000 = Codec("JPEG 2000", sizes.jpeg2000)
_JPEG_XL = Codec("JPEG XL", sizes.jpeg_xl)
_JPEG_XR = Codec("JPEG XR", sizes.jpeg_xr, counts_samples=False)
_PNG = Codec("PNG", sizes.png)
_WEBP = Codec("WebP", _webp, counts_samples=False)
_CODECS: Mapping[int, Codec] = {
    **dict.fromkeys(ANY_JPEG, _JPEG),
    **dict.fromkeys(JPEG_2000, _JPEG_2000),
    **dict.fromkeys(JPEG_XL, _JPEG_XL),
    **dict.fromkeys(JPEG_XR, _JPEG_XR),
    PNG: _PNG,
    **dict.fromkeys(WEBP, _WEBP),
}
"""By Compression, as tifffile chooses decoders."""


class SegmentSizes:
    """Compares the images in the segments of a page with the layout of the page.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    layout : PageLayout
    """

    def __init__(self, keyframe: Any, layout: PageLayout) -> None:
        self._codec = _CODECS.get(int(keyframe.compression))
        self._header: bytes = keyframe.jpegheader or b""
        # An old JPEG may be one for the page, and the header of an NDPI may be that of the page.
        self._has_own_size = keyframe.compression != OLD_JPEG and not self._header
        self._layout = layout

    def problem(self, data: Buffer, index: int, segment_bytes: int) -> str:
        """What is wrong with the size of the image in a segment; empty if it fits.

        Parameters
        ----------
        data : bytes
            The segment as it is stored.
        index : int
            Index of the segment in its page.
        segment_bytes : int
            Size of a decoded segment.
        """
        if self._codec is None:
            return ""
        if self._codec is _WEBP:
            data = self._layout.with_high_bits_first(data)
        factors = self._measured(data)
        if factors is None:
            return ""  # no decoder of the codec finds an image either
        _, (_, height, width, samples) = self._layout.segment_place(index)
        if not self._fits(factors, data, index) or math.prod(factors) > _most(segment_bytes):
            return (
                f"its {self._codec.name} declares {_product(factors)} = {math.prod(factors)} bytes"
                f" of pixels, but the page has segments of {_product((height, width, samples))}"
                f" pixels, {segment_bytes} bytes"
            )
        if self._codec is _JPEG and _PROGRESSIVE in bytes(data[:_SPARE_BYTES]):
            n_scans = bytes(data).count(_SCAN)
            if n_scans > _MOST_SCANS:
                return f"its JPEG has {n_scans} scans, more than {_MOST_SCANS}"
        return ""

    def _measured(self, data: Buffer) -> Factors | None:
        assert self._codec is not None
        try:
            return self._codec.measure(self._header or data)
        except sizes.UNREADABLE:
            return None

    def _fits(self, factors: Factors, data: Buffer, index: int) -> bool:
        """Whether height, width and samples are those of the segment or of its part of the page."""
        assert self._codec is not None
        if not self._has_own_size or self._layout.segment_shape[0] > 1:
            return True
        height, width, samples, _ = factors[-4:]
        place, (_, most_high, most_wide, n_samples) = self._layout.segment_place(index)
        needed_high = min(most_high, self._layout.plane_shape[2] - place[2])
        needed_wide = min(most_wide, self._layout.plane_shape[3] - place[3])
        heights = (most_high, needed_high) if self._layout.is_tiled else range(needed_high, 2**32)
        fits = height in heights and width in (most_wide, needed_wide)
        fits = fits and (not self._codec.counts_samples or samples == n_samples)
        return fits or (self._codec is _JPEG and (height == 0 or _is_lossless(data)))


def _is_lossless(data: Buffer) -> bool:
    """Whether a JPEG is lossless: DNG stores a mosaic as two samples of half the width."""
    frame = sizes.jpeg_frame(data)
    return frame is not None and bytes(data[frame.offset + 1 : frame.offset + 2]) == _LOSSLESS


def _most(segment_bytes: int) -> int:
    return _MOST_TIMES * segment_bytes + _SPARE_BYTES


def _product(factors: Factors) -> str:
    return " x ".join(str(factor) for factor in factors if factor != 1) or "1"
