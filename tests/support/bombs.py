"""TIFFs made by hand that claim or become more than anybody has."""

from __future__ import annotations

import json
import lzma
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import imagecodecs
import numpy as np

from tests.support.mutations import CODES, OME, SIZES, Tiff

Tags = Mapping[int, tuple[int, Sequence[int] | bytes]]
"""Type and values by tag."""


def build(directories: Sequence[Tags], *, blob: bytes = b"", is_big: bool = False) -> bytes:
    """A little-endian TIFF: `blob` at byte 16, then the directories; what is long comes last."""
    at = 16 + len(blob) + len(blob) % 2
    inline, entry, head = (8, 20, 8) if is_big else (4, 12, 2)
    ends = at + sum(head + entry * len(tags) + inline for tags in directories)
    body, rest = bytearray(), bytearray()
    for number, tags in enumerate(directories):
        body += struct.pack("<Q" if is_big else "<H", len(tags))
        for tag, (kind, values) in sorted(tags.items()):
            count = len(values) // SIZES[kind] if isinstance(values, bytes) else len(values)
            text = values if isinstance(values, bytes) else _values(kind, values)
            body += struct.pack("<HHQ" if is_big else "<HHI", tag, kind, count)
            if len(text) > inline:
                body += struct.pack("<Q" if is_big else "<I", ends + len(rest))
                rest += text
            else:
                body += text.ljust(inline, b"\0")
        last = number == len(directories) - 1
        after = 0 if last else at + len(body) + inline
        body += struct.pack("<Q" if is_big else "<I", after)
    magic = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if is_big else b"II*\0" + _values(4, [at])
    return b"".join((magic.ljust(16, b"\0"), blob, b"\0" * (len(blob) % 2), body, rest))


def _values(kind: int, values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}{CODES[kind]}", *values)


def page(width: int, length: int, compression: int = 1, **more: Any) -> dict[int, Any]:
    """Tags of an image of bytes; a tile (`side`) or one strip, at byte 16."""
    n_bytes = more.pop("n_bytes", 0)
    samples = more.pop("samples", 1)
    tags: dict[int, Any] = {
        256: (4, [width]),
        257: (4, [length]),
        258: (3, [8] * samples),
        259: (3, [compression]),
        262: (3, [2 if samples == 3 else 1]),
        277: (3, [samples]),
    }
    side = more.pop("side", None)
    assert not more, more
    if side is None:
        return tags | {273: (4, [16]), 278: (4, [length]), 279: (4, [n_bytes])}
    n_tiles = math.ceil(width / side) * math.ceil(length / side)
    tags |= {322: (4, [side]), 323: (4, [side])}
    return tags | {324: (4, [16] * n_tiles), 325: (4, [n_bytes] * n_tiles)}


def zeros_deflate(n_bytes: int) -> bytes:
    """A zlib stream of zeros, made in no time from a piece that repeats."""
    piece_bytes = 2**24
    squeeze = zlib.compressobj(9, wbits=-15)
    piece = squeeze.compress(bytes(piece_bytes)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    last = squeeze.compress(bytes(n_bytes % piece_bytes)) + squeeze.flush()
    adler = (n_bytes % 65521) << 16 | 1
    return b"\x78\xda" + piece * (n_bytes // piece_bytes) + last + struct.pack(">I", adler)


def zeros_zstd(n_bytes: int) -> bytes:
    """A Zstandard frame of blocks that say "this byte, 128 KiB long"."""
    block = 2**17
    head = struct.pack("<IBBQ", 0xFD2FB528, 0xC0, 0x58, n_bytes)
    full = struct.pack("<I", block << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", (n_bytes % block) << 3 | 1 << 1 | 1)[:3] + b"\0"
    return head + full * (n_bytes // block) + last


def zeros_xz(n_bytes: int) -> bytes:
    """An xz stream of zeros whose chunks of 1 MiB are one chunk again and again."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    chunk = lzma.compress(bytes(2**20), lzma.FORMAT_RAW, filters=filters)[:-1]
    packed = chunk * (n_bytes // 2**20) + b"\0"
    # Block header: 12 bytes, one filter (LZMA2, properties of one byte: a dictionary of 1 MiB).
    block = _with_crc(b"\x02\0\x21\x01\x10\0\0\0")
    sizes = _xz_number(len(block) + len(packed)) + _xz_number(n_bytes)
    index = b"\0\x01" + sizes
    index = _with_crc(index + b"\0" * (-len(index) % 4))
    no_check = b"\0\0"
    footer = struct.pack("<I", len(index) // 4 - 1) + no_check
    head = b"\xfd7zXZ\0" + _with_crc(no_check)
    padding = b"\0" * (-len(packed) % 4)
    end = struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"
    return head + block + packed + padding + index + end


def _with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def _xz_number(value: int) -> bytes:
    text = bytearray()
    while value >= 0x80:
        text.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*text, value])


def bombs() -> dict[str, Callable[[], bytes]]:
    """Files that claim, or expand to, more than any machine can hold, by name."""
    return {**_claims(), **_inflating(), **_directories()}


def _claims() -> dict[str, Callable[[], bytes]]:
    """Headers of a few bytes that claim gigabytes."""
    huge = page(60_000, 60_000)
    return {
        "plain 60000 x 60000": lambda: build([huge | {279: (4, [2**32 - 1])}]),
        "4 G x 4 G": lambda: build([page(2**32 - 1, 2**32 - 1)]),
        "tiles of 65535 x 65535": lambda: build([page(65535, 65535, 8, side=65535, n_bytes=64)]),
        "tiles of 2 G x 2 G": lambda: build([page(1, 1, 8, side=2**31 - 1, n_bytes=64)]),
        "tile not stored": lambda: build([page(16, 16, 8, side=65535) | {324: (4, [0])}]),
        "strip not stored": lambda: build([page(60_000, 60_000, 8) | {273: (4, [0])}]),
        "2 G samples": lambda: build([page(4, 4) | {277: (4, [2**31 - 1])}]),
        "65535 planar samples": lambda: build(
            [page(999, 999) | {277: (3, [65535]), 284: (3, [2])}]
        ),
        "2 G strips": lambda: _counted(build([page(16, 2**31 - 1) | {278: (4, [1])}]), 2**31 - 1),
        "2 G strips, big": lambda: _counted(build([page(16, 2**31 - 1)], is_big=True), 2**31 - 1),
        "2^60 strips, big": lambda: _counted(build([page(16, 2**31 - 1)], is_big=True), 2**60),
        "depth of 2 G": lambda: build([page(16, 16, 8, side=16) | {32997: (4, [2**31 - 1])}]),
        "ImageJ of 10^9 planes": lambda: _described("ImageJ=1.5\nimages=999999999\n"),
        "ImageJ of 2^40 slices": lambda: _described(f"ImageJ=1.5\nimages=2\nslices={2**40}\n"),
        "shaped 10^9": lambda: _described(json.dumps({"shape": [10**9, 16, 16]})),
        "shaped in 10^5 dims": lambda: _described(json.dumps({"shape": [1] * 10**5 + [16, 16]})),
        "OME of 10^9 planes": lambda: _described(ome(1, 10**9, "<TiffData/>")),
        "OME of 10^6 x 10^6": lambda: _described(ome(10**6, 10**6, "<TiffData/>")),
        "OME counting 10^9": lambda: _described(ome(2, 2, '<TiffData PlaneCount="999999999"/>')),
        "OME of 10^5 images": lambda: _described(_many_images(10**5)),
        "OME of deep XML": lambda: _described("<OME>" + "<a>" * 10**5),
        "OME of many entities": lambda: _described(_laughs()),
    }


def _inflating() -> dict[str, Callable[[], bytes]]:
    """Segments that are small and become large, with and without saying so."""

    def strip(stream: bytes, width: int, length: int, compression: int) -> bytes:
        return build([page(width, length, compression, n_bytes=len(stream))], blob=stream)

    def tile(stream: bytes, compression: int, samples: int = 1) -> bytes:
        tags = page(64, 64, compression, side=64, n_bytes=len(stream), samples=samples)
        return build([tags], blob=stream)

    size = 60_000 * 60_000
    rows = bytes(64 * 64)
    many_tiles = build(
        [page(65536, 65536, 8, side=4096, n_bytes=17_000)], blob=zeros_deflate(2**24)
    )
    return {
        "deflate of 3.6 GB": lambda: strip(zeros_deflate(size), 60_000, 60_000, 8),
        "deflate unannounced": lambda: strip(zeros_deflate(size), 64, 64, 8),
        "deflate in a tile": lambda: tile(zeros_deflate(size), 8),
        "256 tiles of 16 MB": lambda: many_tiles,
        "zstd of 3.6 GB": lambda: strip(zeros_zstd(size), 60_000, 60_000, 50000),
        "zstd unannounced": lambda: strip(zeros_zstd(size), 64, 64, 50000),
        "xz of 4 GB": lambda: strip(zeros_xz(2**32), 2**16, 2**16, 34925),
        "xz unannounced": lambda: strip(zeros_xz(2**32), 64, 64, 34925),
        "lzw unannounced": lambda: strip(imagecodecs.lzw_encode(bytes(2**27)), 64, 64, 5),
        "packbits unannounced": lambda: strip(b"\x81\0" * 2**20, 64, 64, 32773),
        "JPEG of 65500 x 65500": lambda: tile(_swollen_jpeg(), 7, samples=3),
        "PNG of 60000 x 60000": lambda: tile(_swollen_png(), 34933),
        "JPEG 2000 of 60000 x 60000": lambda: tile(_swollen_jpeg2k(), 34712),
        "fax of 4 G rows": lambda: strip(rows, 65_535, 2**32 - 1, 4),
        "fax of 60000 x 60000": lambda: strip(rows, 60_000, 60_000, 3),
    }


def _directories() -> dict[str, Callable[[], bytes]]:
    """Many directories that share what is large, and chains without end."""
    return {
        "5000 directories share 50000 offsets": lambda: _sharing(5000, 273),
        "5000 directories share 200 KB of text": lambda: _sharing(5000, 270),
        "5000 directories share values of an unknown tag": lambda: _sharing(5000, 65000),
        "65535 sub-directories, all one": lambda: _all_one(65535),
        "directory that is its own sub-directory": lambda: _all_one(1),
        "20000 pages": lambda: build([page(16, 16, n_bytes=256)] * 20_000, blob=bytes(256)),
        "chain that loops": _looping,
        "65535 tags": lambda: build([{tag: (4, [0]) for tag in range(65535)}]),
        "description of 64 MB": lambda: _described("ImageJ=1\n" + "a=1\n" * 2**24),
    }


def _counted(data: bytes, count: int) -> bytes:
    """Offsets and byte counts of segments claim to be that many."""
    tiff = Tiff.of(data)
    for tag in (273, 279):
        entry = tiff.find(tiff.directories[0], tag)
        assert entry is not None
        tiff.put(entry + 4, tiff.offset_code, count)
    return bytes(tiff.data)


def _described(text: str) -> bytes:
    pages: list[dict[int, Any]] = [page(16, 16, n_bytes=256)] * 2
    pages[0] = pages[0] | {270: (2, text.encode() + b"\0")}
    return build(pages, blob=bytes(256))


def ome(size_z: int, size_t: int, data: str) -> str:
    head, _, end = OME.format(order="ZCT", x=16, type="uint8", channels="", data=data).partition(
        'SizeC="#" SizeT="#"'
    )
    return f'{head}SizeC="1" SizeT="{size_t}"' + end.replace('SizeZ="#"', f'SizeZ="{size_z}"')


def _many_images(n: int) -> str:
    head, image, end = re.split("(<Image.*</Image>)", ome(1, 1, "<TiffData/>"))
    return head + n * image + end


def _laughs() -> str:
    """Entities that stand for ten of the one before."""
    lines = [f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12)]
    return (
        f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY l0 "ha">{"".join(lines)}]><OME>&l11;</OME>'
    )


def _sharing(n: int, tag: int) -> bytes:
    """Directories whose tag has its 200 KB at one place."""
    shared = _values(4, [16] * 50_000)
    tags = page(16, 16, n_bytes=256) | {tag: (4, [0])}
    tiff = Tiff.of(build([tags] * n, blob=shared))
    entry_bytes = tiff.entry_bytes
    first = tiff.directories[0]
    stride = tiff.head_bytes + first.n_entries * entry_bytes + 4
    found = tiff.find(first, tag)
    assert found is not None
    for i in range(n):
        entry = found + i * stride
        if tag == 270:
            tiff.put(entry + 2, "H", 2)
        tiff.put(entry + 4, "I", 50_000 if tag != 270 else 200_000)
        tiff.put(entry + 8, "I", 16)
    return bytes(tiff.data)


def _all_one(n: int) -> bytes:
    data = build([page(16, 16, n_bytes=256) | {330: (13, [16 + 256] * n)}], blob=bytes(256))
    return data


def _looping() -> bytes:
    tiff = Tiff.of(build([page(16, 16, n_bytes=256)] * 3, blob=bytes(256)))
    tiff.put(tiff.directories[-1].next_at, "I", tiff.directories[1].at)
    return bytes(tiff.data)


def _swollen_jpeg() -> bytes:
    """Its frame header says 65500 x 65500."""
    data = bytearray(imagecodecs.jpeg8_encode(np.zeros((64, 64, 3), np.uint8)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def _swollen_png() -> bytes:
    data = bytearray(imagecodecs.png_encode(np.zeros((64, 64), np.uint8)))
    at = data.index(b"IHDR")
    data[at + 4 : at + 12] = struct.pack(">II", 60_000, 60_000)
    data[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(data[at : at + 17]))
    return bytes(data)


def _swollen_jpeg2k() -> bytes:
    data = bytearray(imagecodecs.jpeg2k_encode(np.zeros((64, 64), np.uint8), codecformat="j2k"))
    at = data.index(b"\xff\x51") + 6
    data[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    data[at + 16 : at + 24] = struct.pack(">II", 60_000, 60_000)
    return bytes(data)
