"""Samples that tifffile does not decode, or not as they were written.

Complex numbers and 24-bit floats with a predictor, and 24-bit integers in the order of the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudimg.tiff.compressions import NONE
from cloudimg.tiff.own_decoder import Array, OwnDecoder
from cloudimg.tiff.pieces import PageLayout

HORIZONTAL, FLOATING_POINT = 2, 3
"""Values of Predictor (TIFF 6.0, section 14; TIFF Technical Note 3)."""
UNSIGNED, SIGNED, FLOAT, VOID, COMPLEX_INTEGER, COMPLEX_FLOAT = range(1, 7)
"""Values of SampleFormat (TIFF 6.0, section 19; 5 and 6 are libtiff's)."""
_COMPLEX = (COMPLEX_INTEGER, COMPLEX_FLOAT)


def is_special(keyframe: Any) -> bool:
    """Whether a `SampleDecoder` decodes the samples of a `tifffile.TiffPage`."""
    if keyframe.predictor == HORIZONTAL:
        return keyframe.sampleformat in _COMPLEX
    if keyframe.predictor == FLOATING_POINT:
        return bool(keyframe.bitspersample == 24)
    return _is_24_bit_integer(keyframe) and _is_in_order_of_file(keyframe)


def has_unknown_order(keyframe: Any) -> bool:
    """Whether nothing says in which order the bytes of the integers of a page are.

    tifffile and GDAL take the highest of three bytes first in little-endian files, which is how
    GDAL writes them. In big-endian files GDAL writes and reads the lowest byte first, and what else
    is written with libtiff, which swaps three bytes as it does two or four, has the highest first.
    """
    is_big_endian = keyframe.parent.byteorder == ">"
    return is_big_endian and _is_24_bit_integer(keyframe) and not _is_in_order_of_file(keyframe)


def _is_24_bit_integer(keyframe: Any) -> bool:
    return keyframe.bitspersample == 24 and keyframe.sampleformat in (UNSIGNED, VOID)


def _is_in_order_of_file(keyframe: Any) -> bool:
    """Whether integers of 24 bits are known to be in the byte order of the file, by their writer.

    GraphicsMagick wrote the same picture in 8, 16, 24 and 32 bits (``tiger-rgb-tile-planar-24.tif``
    of https://github.com/BitMiracle/libtiff.net): only so are all of them equal.
    """
    return str(keyframe.software).startswith("GraphicsMagick")


class SampleDecoder(OwnDecoder):
    """Decoder of the segments of a page for which `is_special` is true.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    """

    def __init__(self, keyframe: Any) -> None:
        super().__init__(keyframe)
        self._order = keyframe.parent.byteorder
        self._format = int(keyframe.sampleformat)
        self._bits = int(keyframe.bitspersample)
        self._compression = int(keyframe.compression)

    def _pixels(self, data: Any, index: int, shape: tuple[int, int, int, int]) -> Array:
        n_bytes = self._layout.segment_bytes(index)
        stored = stored_bytes(data, self._layout, self._compression, n_bytes)
        return self._samples(stored.reshape(shape[0] * shape[1], -1), shape[-1]).reshape(shape)

    def _samples(self, rows: Array, samples: int) -> Array:
        if self._format == FLOAT:
            return _predicted_floats(rows, samples)
        if self._bits == 24:
            words = np.zeros((rows.size // 3, 4), np.uint8)
            triples = rows.reshape(-1, 3)
            words[:, :3] = triples if self._order == "<" else triples[:, ::-1]
            return words.view("<u4").astype(self._native, copy=False)
        return self._complex(rows, samples)

    def _complex(self, rows: Array, samples: int) -> Array:
        """Complex numbers, of which libtiff predicts each as one integer of all its bits.

        In files in big-endian order the imaginary part thereby comes first in the integer: libtiff
        swaps all its bytes on the machines of today, when it writes as well as when it reads.
        """
        words = rows.view(f"{self._order}u{self._bits // 8}").astype(f"<u{self._bits // 8}")
        words = words.reshape(len(rows), -1, samples)
        np.cumsum(words, axis=1, dtype=words.dtype, out=words)
        if self._format == COMPLEX_FLOAT:
            return words.view(f"<c{self._bits // 8}").astype(self._native, copy=False)
        parts = words.view(f"<i{self._bits // 16}")
        return parts.astype(f"f{self._native.itemsize // 2}").view(self._native)

    @property
    def _native(self) -> np.dtype[Any]:
        return self._layout.dtype.newbyteorder("=")


def stored_bytes(data: Any, layout: PageLayout, compression: int, n_bytes: int) -> Array:
    """The first bytes of a segment, of a codec of bytes, as samples are stored in it.

    Raises
    ------
    ValueError
        The segment has fewer than `n_bytes`.
    """
    import tifffile

    data = layout.with_high_bits_first(data)
    if compression != NONE:
        data = tifffile.TIFF.DECOMPRESSORS[compression](data, out=n_bytes)
    if len(data) < n_bytes:
        raise ValueError(f"{len(data)} bytes of pixels, expected {n_bytes}")
    return np.frombuffer(data, np.uint8, n_bytes)


def _predicted_floats(rows: Array, samples: int) -> Array:
    """24-bit floats whose bytes were sorted by significance and subtracted in each row.

    TIFF Technical Note 3, as for other lengths of floating-point numbers.
    """
    import imagecodecs

    summed = rows.reshape(len(rows), -1, samples).cumsum(axis=1, dtype=np.uint8)
    planes = summed.reshape(len(rows), 3, -1)
    numbers = np.ascontiguousarray(planes.transpose(0, 2, 1))
    floats: Array = imagecodecs.float24_decode(numbers.tobytes(), byteorder=">")
    return floats
