"""Formats that are little more than their pixels: NPY, PGM and PPM, uncompressed BMP.

numpy reads them, which checks every bound; imagecodecs reads beyond the end of damaged BMPs.
"""

from __future__ import annotations

import math
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cloudimg.formats import sizes

Array = npt.NDArray[Any]


def read_npy(file: BinaryIO, url: str) -> Array:
    """Read numpy's own format; pickled objects are refused, as they may run code."""
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def read_pnm(file: BinaryIO, url: str) -> Array:
    """Read PGM and PPM as stored; Pillow would reduce colours of 16 bits to 8."""
    data = file.read()
    header = sizes.pnm_header(data)
    if header is None or header.maximum == 0:
        raise ValueError("the header is not that of a PGM or PPM")
    count = math.prod(header.shape)
    dtype = np.dtype(np.uint8 if header.maximum < 256 else ">u2")
    if header.is_text:
        values = [int(text) for text in data[header.offset :].split(maxsplit=count)[:count]]
        return np.array(values, dtype).reshape(header.shape)
    return np.frombuffer(data, dtype, count, header.offset).reshape(header.shape)


def read_plain_bmp(data: bytes) -> Array | None:
    """Read a BMP; None where it is compressed, of 16 bits or older than 1990.

    A palette of greys gives one sample, other palettes three. The fourth byte of 32 bits is not
    alpha by the format's definition.
    """
    offset, header_bytes, width, height, _, bits, compression = struct.unpack_from(
        "<IIiiHHI", data, 10
    )
    if header_bytes < 40 or compression != 0 or bits not in (1, 4, 8, 24, 32):
        return None
    n_rows, stride = abs(height), (width * bits + 31) // 32 * 4
    rows = np.frombuffer(data, np.uint8, n_rows * stride, offset).reshape(n_rows, stride)
    if height > 0:  # the last row comes first
        rows = rows[::-1]
    if bits >= 24:
        pixels = rows[:, : width * bits // 8].reshape(n_rows, width, bits // 8)
        return pixels[:, :, 2::-1]
    (n_colours,) = struct.unpack_from("<I", data, 46)
    n_colours = n_colours or 1 << bits
    start = 14 + header_bytes
    palette = np.frombuffer(data, np.uint8, 4 * n_colours, start).reshape(-1, 4)[:, 2::-1]
    if (palette == palette[:, :1]).all():
        palette = palette[:, 0]
    return palette[_unpacked(rows, bits)[:, :width]]


def _unpacked(rows: Array, bits: int) -> Array:
    """Numbers of one, four or eight bits, the first in the highest bits."""
    if bits == 1:
        return np.unpackbits(rows, axis=1)
    if bits == 4:
        return np.stack([rows >> 4, rows & 15], -1).reshape(len(rows), -1)
    return rows
