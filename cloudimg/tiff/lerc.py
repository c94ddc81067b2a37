"""Decoding LERC segments (Compression 34887) with their masks of invalid pixels.

LERC was given to TIFF by GDAL and libtiff, whose ``tif_lerc.c`` defines how blobs stand for
segments: samples of a pixel are the depth of one blob, or several blobs of one sample follow each
other where each sample has a mask of its own. Layout of blobs: ``Lerc2.cpp`` and ``CntZImage.cpp``
of https://github.com/Esri/lerc.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudimg.tiff.fill_values import declared_nodata
from cloudimg.tiff.ifd import Buffer
from cloudimg.tiff.own_decoder import Array, OwnDecoder

_UNASSOCIATED_ALPHA = 2
"""Value of ExtraSamples (TIFF 6.0, section 18)."""
_MAGIC_2, _MAGIC_1, _MAGIC_ZSTD = b"Lerc2 ", b"CntZImage ", b"\x28\xb5\x2f\xfd"
_HEADER_1_BYTES, _PART_1_BYTES = 24, 16
"""Of a blob of the first version: version, type, height, width and error; and of each of its two
parts: rows and columns of tiles, size and largest value."""
_MARGIN_BYTES = 4096
"""What a blob may take beyond twice its pixels; libtiff reserves less."""
_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
"""Types of pixels by their number in a blob."""


@dataclass(frozen=True, slots=True)
class BlobHeader:
    """What the first bytes of a blob declare."""

    height: int
    width: int
    depth: int
    """Number of values of each pixel."""
    dtype: np.dtype[Any]
    n_bytes: int
    """Size of the blob; 0 if it is the only one."""


class LercDecoder(OwnDecoder):
    """Decoder of segments of LERC.

    Invalid pixels are NaN in floating-point images, as GDAL reads them. In an image of integers
    they get its nodata value. A mask in place of an alpha sample is that sample: 0 and 255.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    """

    def __init__(self, keyframe: Any) -> None:
        super().__init__(keyframe)
        self._dtype = np.dtype(keyframe.dtype)
        self._has_alpha = (
            keyframe.planarconfig == 1
            and self._dtype == np.uint8
            and tuple(keyframe.extrasamples)[-1:] == (_UNASSOCIATED_ALPHA,)
        )
        self._invalid = np.nan if self._dtype.kind == "f" else declared_nodata(keyframe)

    def _pixels(self, data: Any, index: int, shape: tuple[int, int, int, int]) -> Array:
        """See `OwnDecoder`.

        Raises
        ------
        NotImplementedError
            Pixels of an image of integers without nodata value are invalid.
        ValueError
            The segment is not what the header of the file declares.
        """
        import imagecodecs

        data = self._layout.with_high_bits_first(data)
        blobs = _unpacked(data, self._layout.segment_bytes(index))
        depth = self._check(blobs, shape)
        pixels, masks = imagecodecs.lerc_decode(blobs, masks=True)
        return self._merged(pixels, masks, shape, depth)

    def _check(self, blobs: Buffer, shape: tuple[int, ...]) -> int:
        """Refuse blobs of other sizes than the segment; their depth."""
        headers = read_headers(blobs, shape[0] * shape[3])
        for header in headers:
            if (header.height, header.width, header.dtype) != (*shape[1:3], self._dtype):
                raise ValueError(
                    f"LERC of {header.height} rows, {header.width} columns and type"
                    f" {header.dtype.name}, expected {shape[1]}, {shape[2]} and"
                    f" {self._dtype.name}"
                )
        depth = headers[0].depth if headers else 0
        found, needed = len(headers) * depth, shape[0] * shape[3]
        is_alpha_left_out = self._has_alpha and found == needed - 1 == depth
        if found != needed and not is_alpha_left_out:
            raise ValueError(f"LERC of {found} samples for each pixel, expected {needed}")
        return depth

    def _merged(
        self, pixels: Array, masks: Array | None, shape: tuple[int, ...], depth: int
    ) -> Array:
        """Pixels of blobs as the samples of a segment, with what their masks say."""
        blobs = pixels.reshape(-1, *shape[1:3], depth)
        valid = None if masks is None else masks.reshape(-1, *shape[1:3], 1)
        if depth < shape[3] and self._has_alpha:
            alpha = np.full((*blobs.shape[:3], 1), 255, blobs.dtype)
            if valid is not None:
                alpha *= valid
            return np.concatenate([blobs, alpha], -1)
        if valid is not None and not valid.all():
            if self._invalid is None:
                raise NotImplementedError(
                    "LERC marks pixels as invalid, but the file declares no nodata value for them;"
                    " integers that are invalid are not supported without one"
                )
            blobs = np.where(valid, blobs, blobs.dtype.type(self._invalid))
        if shape[0] > 1:  # a blob for each depth of a volume
            return blobs.reshape(shape)
        return blobs.transpose(1, 2, 0, 3).reshape(shape)


def read_headers(blobs: Buffer, most: int) -> list[BlobHeader]:
    """The headers of blobs that follow each other; reading ends after one more than `most`.

    Raises
    ------
    ValueError, struct.error
        The bytes are not LERC.
    """
    headers: list[BlobHeader] = []
    at = 0
    while len(headers) <= most and bytes(blobs[at : at + len(_MAGIC_2)]) == _MAGIC_2:
        header = _read_header_2(blobs, at)
        headers.append(header)
        if header.n_bytes <= 0:
            raise ValueError(f"LERC that declares {header.n_bytes} bytes")
        at += header.n_bytes
    if not headers:
        headers.append(_read_header_1(blobs))
    return headers


def _read_header_2(blobs: Buffer, at: int) -> BlobHeader:
    (version,) = struct.unpack_from("<i", blobs, at + len(_MAGIC_2))
    at += len(_MAGIC_2) + (8 if version >= 3 else 4)  # version 3 brought a checksum
    height, width = struct.unpack_from("<2i", blobs, at)
    depth = 1
    at += 8
    if version >= 4:
        (depth,) = struct.unpack_from("<i", blobs, at)
        at += 4
    _, _, n_bytes, kind = struct.unpack_from("<4i", blobs, at)
    if not 0 <= kind < len(_TYPES):
        raise ValueError(f"LERC of the unknown type {kind}")
    if version >= 6 and depth > 1 and struct.unpack_from("<i?", blobs, at + 16)[1]:
        raise NotImplementedError(
            "LERC in which single samples of a pixel are invalid, by a nodata value of its own, is"
            " not supported"
        )
    return BlobHeader(height, width, depth, np.dtype(_TYPES[kind]), n_bytes)


def _read_header_1(blobs: Buffer) -> BlobHeader:
    """The header of a blob of the first version, with a mask and then pixels, both in tiles.

    Only what cannot crash the decoder is accepted: it divides by numbers of tiles, and takes the
    mask of a second blob for pixels.
    """
    if bytes(blobs[: len(_MAGIC_1)]) != _MAGIC_1:
        raise ValueError(f"not LERC: begins with {bytes(blobs[:10])!r}")
    if bytes(blobs).count(_MAGIC_1) > 1:
        raise NotImplementedError("several blobs of LERC 1 in a segment are not supported")
    height, width = struct.unpack_from("<2i", blobs, len(_MAGIC_1) + 8)
    at = len(_MAGIC_1) + _HEADER_1_BYTES
    *mask_tiles, n_bytes = struct.unpack_from("<3i", blobs, at)
    *tiles, _ = struct.unpack_from("<3i", blobs, at + _PART_1_BYTES + max(0, n_bytes))
    if n_bytes < 0 or min(tiles) < 1 or (mask_tiles != [0, 0] and min(mask_tiles) < 1):
        raise ValueError(f"LERC of {tiles} tiles, and {mask_tiles} tiles of its mask")
    return BlobHeader(height, width, 1, np.dtype(np.float32), 0)


def _unpacked(data: Any, segment_bytes: int) -> Any:
    """Blobs without the Deflate or Zstandard around them (tag LercParameters), which is bounded."""
    import imagecodecs

    if bytes(data[: len(_MAGIC_2)]) == _MAGIC_2 or bytes(data[: len(_MAGIC_1)]) == _MAGIC_1:
        return data
    most = 2 * segment_bytes + _MARGIN_BYTES
    if bytes(data[: len(_MAGIC_ZSTD)]) == _MAGIC_ZSTD:
        return imagecodecs.zstd_decode(data, out=most)
    return imagecodecs.zlib_decode(data, out=most)
