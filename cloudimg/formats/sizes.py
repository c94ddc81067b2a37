"""How many bytes an image decodes to by its own header, before anything is decoded.

Each function takes the bytes of a file and returns factors whose product is the decoded size, or
None where the header declares none. Where a header leaves the number of samples or their size
open, the factors are a lower bound. A truncated header may raise the errors of `UNREADABLE`; the
decoder reports what is wrong with such a file.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

Factors = tuple[int, ...]

UNREADABLE = (struct.error, IndexError, ValueError)
"""Errors that truncated or garbled headers raise."""

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers with a size: baseline, progressive, lossless ... and JPEG-LS (0xF7)."""
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAME_BYTES = 10
"""Length of a frame header up to the number of samples."""
_ITEM_SIZE = re.compile(rb"ispe.{4}(.{8})", re.DOTALL)
_SAMPLE_COUNT = re.compile(rb"stsz.{8}(.{4})", re.DOTALL)
_JXL_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(
    rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s"
)


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """The frame header of a JPEG."""

    offset: int
    """Where it begins in the file."""
    is_ls: bool
    """JPEG-LS, which takes another decoder."""
    factors: Factors


@dataclass(frozen=True, slots=True)
class PnmHeader:
    """The header of a PGM or PPM."""

    shape: tuple[int, ...]
    maximum: int
    """Of a sample; above 255 they take two bytes each."""
    is_text: bool
    offset: int
    """Where the samples begin."""


def png(data: bytes) -> Factors:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    # Palettes (3) decode to RGB.
    samples = {2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 1)
    return png_frames(data), height, width, samples, 2 if bits == 16 else 1


def png_frames(data: bytes) -> int:
    """Number of images in a PNG; an animation declares it before the pixels."""
    at = data.find(b"acTL", 0, max(data.find(b"IDAT"), 0))
    return 1 if at < 0 else int.from_bytes(data[at + 4 : at + 8], "big")


def jpeg(data: bytes) -> Factors | None:
    frame = jpeg_frame(data)
    return None if frame is None else frame.factors


def jpeg_frame(data: bytes | memoryview) -> JpegFrame | None:
    """Find the frame header of a JPEG or JPEG-LS (ITU T.81, B.2); None if there is none."""
    at = 2
    while at + _JPEG_FRAME_BYTES <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        elif marker in _JPEG_FRAMES:
            bits, height, width, samples = struct.unpack_from(">BHHB", data, at + 4)
            factors = (height, width, samples, 2 if bits > 8 else 1)
            return JpegFrame(at, marker == 0xF7, factors)
        elif marker in (0xDA, 0xD9):  # pixels, or the end
            return None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def jpeg2000(data: bytes) -> Factors | None:
    at = 0 if data.startswith(b"\xff\x4f") else _box(data, b"jp2c")
    if at is None:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    bits = (depth & 0x7F) + 1
    return max(bottom - top, 0), max(right - left, 0), samples, 1 if bits <= 8 else 2


def jpeg_xl(data: bytes) -> Factors | None:
    """Height and width alone; what follows them in the header is another hundred lines."""
    at = 0 if data.startswith(b"\xff\x0a") else _box(data, b"jxlc")
    if at is None:
        part = _box(data, b"jxlp")
        if part is None:
            return None
        at = part + 4  # its number
    bits = int.from_bytes(data[at + 2 : at + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    is_small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return height, side()
    numerator, denominator = _JXL_RATIOS[ratio - 1]
    return height, height * numerator // denominator


def webp(data: bytes) -> Factors | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF, 3
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return ((packed >> 14) & 0x3FFF) + 1, (packed & 0x3FFF) + 1, 3
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return max(data.count(b"ANMF"), 1), height, width, 3
    return None


def heif(data: bytes) -> Factors | None:
    """AVIF and HEIF: the largest item; those of a sequence say how many samples they have."""
    meta, moov = _box(data, b"meta"), _box(data, b"moov")
    if meta is None:
        return None
    # Boxes within are found by name: an item too many makes the size larger, never smaller.
    sizes = (struct.unpack(">II", found[1]) for found in _ITEM_SIZE.finditer(data, meta))
    height, width = max(((h, w) for w, h in sizes), key=math.prod, default=(0, 0))
    counts = _SAMPLE_COUNT.findall(data, moov) if moov is not None else []
    return max([1, *(int.from_bytes(count, "big") for count in counts)]), height, width


def _box(data: bytes, name: bytes) -> int | None:
    """Where the content of a top-level box begins: JPEG 2000, JPEG XL and HEIF share them."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if kind == name:
            return at + head
        if size < head:  # 0: up to the end of the file
            return None
        at += size
    return None


def bmp(data: bytes) -> Factors:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    # Rows from the top down have a negative height; a palette of greys decodes to one sample.
    return abs(height), abs(width), 1 if bits <= 8 else 3


def gif(data: bytes) -> Factors:
    """All images together: each decodes to the whole canvas, which grows to hold every one."""
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    n_frames = 0

    def byte(at: int) -> int:
        return data[at] if at < len(data) else 0

    def palette_bytes(packed: int) -> int:
        return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0

    at = 13 + palette_bytes(packed)
    while byte(at) in (0x2C, 0x21) and at + 10 <= len(data):
        if data[at] == 0x2C:
            left, top, columns, rows, packed = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, left + columns), max(height, top + rows)
            n_frames += 1
            at += 11 + palette_bytes(packed)
        else:
            at += 2
        while byte(at):
            at += byte(at) + 1
        at += 1
    return max(n_frames, 1), height, width, 3


def qoi(data: bytes) -> Factors:
    width, height, samples = struct.unpack_from(">IIB", data, 4)
    return height, width, samples


def rgbe(data: bytes) -> Factors | None:
    # As lax as the decoder, which skips blanks and takes signs.
    found = re.search(rb"Y\s*[-+]?(\d{1,20})\s*[-+]X\s*[-+]?(\d{1,20})", data)
    return None if found is None else (int(found[1]), int(found[2]), 3, 4)


def pnm(data: bytes) -> Factors | None:
    header = pnm_header(data)
    return None if header is None else (*header.shape, 1 if header.maximum < 256 else 2)


def pnm_header(data: bytes) -> PnmHeader | None:
    """Parse the header of a PGM or PPM, the binary kinds and those in text."""
    found = _PNM.match(data)
    if found is None:
        return None
    kind, width, height, maximum = (int(text) for text in found.groups())
    samples = (3,) if kind in (3, 6) else ()
    return PnmHeader((height, width, *samples), maximum, kind in (2, 3), found.end())


def npy(data: bytes) -> Factors | None:
    header = data[: 2**16]
    shape = re.search(rb"'shape':\s*\(([\d, ]*)\)", header)
    item = re.search(rb"'descr':\s*'[<>|=]?[a-zA-Z](\d{1,9})'", header)
    if shape is None or item is None:
        return None
    return *(int(text) for text in shape[1].replace(b" ", b"").split(b",") if text), int(item[1])
