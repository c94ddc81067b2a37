"""The header of a JPEG XL: how many bytes its pixels take (ISO/IEC 18181-1, annex D).

Fields are numbers of a few bits, the lowest first. Nothing behind the colour space is read: an ICC
profile comes next, which is compressed, and the headers of the frames only after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudimg.formats.boxes import Buffer, find_box, find_boxes

Width = tuple[int, int]
"""An offset, and the number of bits that are added to it."""

_NAKED = b"\xff\x0a"
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIDE: tuple[Width, ...] = ((1, 9), (1, 13), (1, 18), (1, 30))
_ENUM: tuple[Width, ...] = ((0, 0), (1, 0), (2, 4), (18, 6))
_INTEGER_BITS: tuple[Width, ...] = ((8, 0), (10, 0), (12, 0), (1, 6))
_FLOAT_BITS: tuple[Width, ...] = ((32, 0), (16, 0), (24, 0), (1, 6))
_EXTRA_COUNT: tuple[Width, ...] = ((0, 0), (1, 0), (2, 4), (1, 12))
_DIM_SHIFT: tuple[Width, ...] = ((0, 0), (3, 0), (4, 0), (1, 3))
_NAME_LENGTH: tuple[Width, ...] = ((0, 0), (0, 4), (16, 5), (48, 10))
_PREVIEW_EIGHTHS: tuple[Width, ...] = ((16, 0), (32, 0), (1, 5), (33, 9))
_PREVIEW_SIDE: tuple[Width, ...] = ((1, 6), (65, 8), (321, 10), (1345, 12))
_TICKS: tuple[Width, ...] = ((100, 0), (1000, 0), (1, 10), (1, 30))
_TICKS_DIVISOR: tuple[Width, ...] = ((1, 0), (1001, 0), (1, 8), (1, 10))
_LOOPS: tuple[Width, ...] = ((0, 0), (0, 3), (0, 16), (0, 32))
_ALPHA, _SPOT, _FILTER = 0, 2, 5
"""Kinds of extra channels with more fields than the others; `_FILTER` is a colour filter array."""
_FILTER_INDEX: tuple[Width, ...] = ((1, 0), (0, 2), (3, 4), (19, 8))
_GREY = 1
_SHAPE = re.compile(r"shape=\((\d+), \d+, \d+")


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """What the header of a JPEG XL says of its pixels."""

    height: int
    width: int
    samples: int
    """Colours and extra channels."""
    item_bytes: int
    """Size of a decoded sample."""
    is_animated: bool
    """There may be several frames; how many, the header does not say."""


class _Bits:
    """Fields of a codestream; those beyond its end are 0, and the decoder fails there."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> int:
        start, shift = divmod(self._at, 8)
        self._at += count
        window = bytes(self._data[start : start + (shift + count + 7) // 8])
        return int.from_bytes(window, "little") >> shift & (1 << count) - 1

    def flag(self) -> bool:
        return self.take(1) == 1

    def number(self, widths: tuple[Width, ...]) -> int:
        """A number whose first two bits choose its width."""
        offset, count = widths[self.take(2)]
        return offset + self.take(count)

    def skip(self, count: int) -> None:
        self._at += count


def read_header(data: Buffer) -> JxlHeader | None:
    """Parse the header of a codestream, bare or in boxes; None if the file has none."""
    codestream = _codestream(data)
    if codestream is None or bytes(codestream[:2]) != _NAKED:
        return None
    bits = _Bits(codestream[2:])
    height, width = _size(bits)
    if bits.flag():  # all defaults
        return JxlHeader(height, width, 3, 1, False)
    is_animated = _extra_fields(bits) if bits.flag() else False
    item_bytes = _item_bytes(bits)
    bits.skip(1)  # whether 16 bits suffice for the decoder
    n_extra = bits.number(_EXTRA_COUNT)
    for _ in range(n_extra):
        item_bytes = max(item_bytes, _extra_channel(bits))
    bits.skip(1)  # whether colours are coded as XYB
    is_default = bits.flag()
    if not is_default:
        bits.skip(1)  # an ICC profile
    is_grey = not is_default and bits.number(_ENUM) == _GREY
    return JxlHeader(height, width, (1 if is_grey else 3) + n_extra, item_bytes, is_animated)


def count_frames(data: Buffer, item_bytes: int) -> int:
    """Number of frames of an animated JPEG XL, which are skipped, not decoded.

    The headers of frames can be found only by a decoder, and imagecodecs has no function that
    counts them. It compares the shape of the output that it is given with the one that it needs
    before it decodes, and its error names the latter. Seen in 2026.3.6.

    Parameters
    ----------
    data : bytes or memoryview
    item_bytes : int
        Size of a decoded sample.

    Returns
    -------
    int
        1 if the file is damaged.
    """
    import numpy as np

    try:
        import imagecodecs

        decode: Any = imagecodecs.jpegxl_decode  # its types leave out memoryviews, which it takes
        decode(data, out=np.empty((0, 0, 0, 0), f"u{item_bytes}"))
    except Exception as exc:  # noqa: BLE001 - the decoder reports what is wrong with such a file
        found = _SHAPE.findall(str(exc))
        return int(found[-1]) if found else 1
    return 1


def _codestream(data: Buffer) -> Buffer | None:
    """The codestream, or its beginning, without its boxes."""
    if bytes(data[:2]) == _NAKED:
        return data
    whole, part = find_box(data, b"jxlc"), find_box(data, b"jxlp")
    if whole is not None and (part is None or whole < part):
        return data[whole:]
    # Parts begin with their number.
    parts: Iterator[bytes] = (bytes(part[4:]) for part in find_boxes(data, b"jxlp"))
    return b"".join(parts) or None


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.flag()

    def side() -> int:
        return 8 * (bits.take(5) + 1) if is_small else bits.number(_SIDE)

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return height, side()
    numerator, denominator = _RATIOS[ratio - 1]
    return height, height * numerator // denominator


def _extra_fields(bits: _Bits) -> bool:
    """Skip orientation, intrinsic size and preview; return whether there is an animation."""
    bits.skip(3)
    if bits.flag():
        _size(bits)
    if bits.flag():
        side = _PREVIEW_EIGHTHS if bits.flag() else _PREVIEW_SIDE
        bits.number(side)
        if bits.take(3) == 0:
            bits.number(side)
    if not bits.flag():
        return False
    bits.number(_TICKS)
    bits.number(_TICKS_DIVISOR)
    bits.number(_LOOPS)
    bits.skip(1)
    return True


def _item_bytes(bits: _Bits) -> int:
    if bits.flag():
        depth = bits.number(_FLOAT_BITS)
        bits.skip(4)
    else:
        depth = bits.number(_INTEGER_BITS)
    return 1 if depth <= 8 else 2 if depth <= 16 else 4


def _extra_channel(bits: _Bits) -> int:
    """Skip one extra channel; return the size of its samples."""
    if bits.flag():
        return 1  # alpha of 8 bits
    kind = bits.number(_ENUM)
    item_bytes = _item_bytes(bits)
    bits.number(_DIM_SHIFT)
    bits.skip(8 * bits.number(_NAME_LENGTH))
    if kind == _ALPHA:
        bits.skip(1)
    elif kind == _SPOT:
        bits.skip(4 * 16)
    elif kind == _FILTER:
        bits.number(_FILTER_INDEX)
    return item_bytes
