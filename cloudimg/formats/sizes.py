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

from cloudimg.formats.boxes import Buffer, find_box
from cloudimg.formats.jpeg_xl import count_frames, read_header

Factors = tuple[int, ...]

UNREADABLE = (struct.error, IndexError, ValueError)
"""Errors that truncated or garbled headers raise."""

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers with a size: baseline, progressive, lossless ... and JPEG-LS (0xF7)."""
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
"""Decoders skip whatever lies before a marker, and its fill bytes."""
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_ITEM_SIZE = re.compile(rb"ispe.{4}(.{8})", re.DOTALL)
_CHANNELS = re.compile(rb"pixi.{4}([\x01-\x04])(.{1,4})", re.DOTALL)
_AV1 = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""Version, profile and level, and a byte with the depth (0x40: 10 bits or 12) and 0x10: grey."""
_SAMPLE_COUNT = re.compile(rb"stsz.{8}(.{4})", re.DOTALL)
_JXR_WIDTH, _JXR_HEIGHT, _JXR_OFFSET, _JXR_ALPHA = 0xBC80, 0xBC81, 0xBCC0, 0xBCC2
_JXR_SAMPLES = {1: 3, 2: 3, 3: 3, 4: 4, 5: 4, 7: 3, 8: 3}
"""By colour format; 1 to 3 are YUV, 4 and 5 CMYK, 7 RGB, 8 RGBE."""
_JXR_ITEM_BYTES = {2: 2, 3: 2, 4: 2, 6: 4, 7: 4}
"""By bit depth."""
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


def png(data: Buffer) -> Factors:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    samples = {2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 1)  # palettes (3) decode to RGB
    return png_frames(data), height, width, samples, 2 if bits == 16 else 1


def png_frames(data: Buffer) -> int:
    """Number of images in a PNG; an animation declares it before the pixels."""
    content = bytes(data)
    at = content.find(b"acTL", 0, max(content.find(b"IDAT"), 0))
    return 1 if at < 0 else int.from_bytes(content[at + 4 : at + 8], "big")


def jpeg(data: Buffer) -> Factors | None:
    frame = jpeg_frame(data)
    return None if frame is None else frame.factors


def jpeg_frame(data: Buffer) -> JpegFrame | None:
    """Find the frame header of a JPEG or JPEG-LS (ITU T.81, B.2); None if there is none.

    Of several in front of the pixels, the factors are those of the largest one: which of them
    counts depends on the decoder.
    """
    found: JpegFrame | None = None
    at = 2
    while (match := _JPEG_MARKER.search(data, at)) is not None:
        marker, at = match[1][0], match.end()
        if marker in (_JPEG_SCAN, _JPEG_END):
            return found
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        if marker in _JPEG_FRAMES and at + 8 <= len(data):
            bits, height, width, samples = struct.unpack_from(">BHHB", data, at + 2)
            factors = (height, width, samples, 2 if bits > 8 else 1)
            if found is None:
                found = JpegFrame(at - 2, marker == 0xF7, factors)
            elif math.prod(factors) > math.prod(found.factors):
                found = JpegFrame(found.offset, found.is_ls, factors)
        at += int.from_bytes(data[at : at + 2], "big")
    return found


def jpeg2000(data: Buffer) -> Factors | None:
    at = 0 if bytes(data[:2]) == b"\xff\x4f" else find_box(data, b"jp2c")
    if at is None:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    (samples,) = struct.unpack_from(">H", data, at + 40)
    # Each component has a depth and two steps (ITU T.800, A.5.1); all decode to the largest type.
    depths = bytes(data[at + 42 : at + 42 + 3 * samples : 3])
    bits = max((depth & 0x7F) + 1 for depth in depths)
    item_bytes = 1 if bits <= 8 else 2 if bits <= 16 else 4
    return max(bottom - top, 0), max(right - left, 0), samples, item_bytes


def jpeg_xl(data: Buffer) -> Factors | None:
    header = read_header(data)
    if header is None:
        return None
    n_frames = count_frames(data, header.item_bytes) if header.is_animated else 1
    return n_frames, header.height, header.width, header.samples, header.item_bytes


def jpeg_xr(data: Buffer) -> Factors | None:
    """Of the container and of the codestream (ITU T.832, A.2 and 8.3) whatever is larger.

    The number of samples is a lower bound: that of files with a free number of them is coded later.
    """
    tags = jpeg_xr_tags(data)
    start = tags.get(_JXR_OFFSET, 0)
    if bytes(data[start : start + 8]) != b"WMPHOTO\0":
        return None
    flags, layout = struct.unpack_from(">BB", data, start + 10)
    width, height = struct.unpack_from(">HH" if flags & 0x80 else ">II", data, start + 12)
    width = max(width + 1, tags.get(_JXR_WIDTH, 0))
    height = max(height + 1, tags.get(_JXR_HEIGHT, 0))
    samples = _JXR_SAMPLES.get(layout >> 4, 1) + (_JXR_ALPHA in tags)
    return height, width, samples, _JXR_ITEM_BYTES.get(layout & 15, 1)


def jpeg_xr_tags(data: Buffer) -> dict[int, int]:
    """Values of the tags of the container of a JPEG XR (ITU T.832, A.5), or where they are."""
    (at,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, at)
    tags: dict[int, int] = {}
    for i in range(n_tags):
        tag, kind, value = struct.unpack_from("<HH4xI", data, at + 2 + 12 * i)
        tags[tag] = value & 0xFFFF if kind == 3 else value
    return tags


def webp(data: Buffer) -> Factors | None:
    kind = bytes(data[12:16])
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF, 3
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return ((packed >> 14) & 0x3FFF) + 1, (packed & 0x3FFF) + 1, 3
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        n_frames = bytes(data).count(b"ANMF") if data[20] & 0x02 else 1
        return max(n_frames, 1), height, width, 3
    return None


def heif(data: bytes) -> Factors | None:
    """AVIF and HEIF: the largest item; those of a sequence say how many samples they have."""
    meta, moov = find_box(data, b"meta"), find_box(data, b"moov")
    if meta is None:
        return None
    # Boxes within are found by name: an item too many makes the size larger, never smaller.
    sizes = (struct.unpack(">II", found[1]) for found in _ITEM_SIZE.finditer(data, meta))
    height, width = max(((h, w) for w, h in sizes), key=math.prod, default=(0, 0))
    counts = _SAMPLE_COUNT.findall(data, moov) if moov is not None else []
    n_images = max([1, *(int.from_bytes(count, "big") for count in counts)])
    # Alpha is an item of one channel; AV1 without chroma is grey.
    channels = [(found[1][0], max(found[2])) for found in _CHANNELS.finditer(data, meta)]
    av1 = [found[1][0] for found in _AV1.finditer(data, meta)]
    samples = max([1, *(n for n, _ in channels), *(1 if flags & 0x10 else 3 for flags in av1)])
    is_deep = any(bits > 8 for _, bits in channels) or any(flags & 0x40 for flags in av1)
    return n_images, height, width, min(samples, 3), 2 if is_deep else 1


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
