"""Boxes of files in the manner of ISO/IEC 14496-12: JPEG 2000, JPEG XL, AVIF and HEIF have them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

Buffer = bytes | memoryview


def find_box(data: Buffer, name: bytes) -> int | None:
    """Where the content of the first top-level box of this name begins."""
    return next((start for start, _ in _boxes(data, name)), None)


def find_boxes(data: Buffer, name: bytes) -> Iterator[Buffer]:
    """Contents of all top-level boxes of this name."""
    for start, stop in _boxes(data, name):
        yield data[start:stop]


def _boxes(data: Buffer, name: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if size == 0:  # up to the end of the file
            size = len(data) - at
        if kind == name:
            yield at + head, at + size
        if size < head:
            return
        at += size
