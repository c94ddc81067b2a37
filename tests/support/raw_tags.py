"""The tags of a TIFF as bytes, by a parser of the tests' own (TIFF 6.0, section 2; BigTIFF)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
EXIF, GPS, INTEROPERABILITY, GLOBAL_PARAMETERS, SUBIFDS = 34665, 34853, 40965, 400, 330
POINTERS = {EXIF, GPS, INTEROPERABILITY, GLOBAL_PARAMETERS}


@dataclass(frozen=True, slots=True)
class RawTag:
    """A tag: its value as it is stored, or the IFD that it points at."""

    kind: int
    count: int
    data: bytes | None
    """None where it is not in the file, or its type has no size."""
    ifd: dict[int, RawTag] | None = None


@dataclass(slots=True)
class RawFile:
    """The IFDs of a file's chain."""

    order: str
    is_big: bool
    ifds: list[dict[int, RawTag]] = field(default_factory=list)
    n_further: int = 0
    """Entries whose number an IFD has already had."""


def read_raw_tags(data: bytes) -> RawFile:
    """All IFDs of the chain, until it breaks or loops."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack(f"{order}H", data[2:4])[0] == 43
    found = RawFile(order, is_big)
    width = "Q" if is_big else "I"
    (at,) = struct.unpack_from(f"{order}{width}", data, 8 if is_big else 4)
    seen: set[int] = set()
    while at and at not in seen and at < len(data):
        seen.add(at)
        read = _ifd(found, data, at)
        if read is None:
            break
        tags, link = read
        found.ifds.append(tags)
        if link + struct.calcsize(width) > len(data):
            break
        (at,) = struct.unpack_from(f"{order}{width}", data, link)
    return found


def _ifd(
    file: RawFile, data: bytes, at: int, depth: int = 0
) -> tuple[dict[int, RawTag], int] | None:
    """Tags of an IFD, and where the offset of the next one is."""
    head, entry = ("Q", "HHQ8s") if file.is_big else ("H", "HHI4s")
    size = struct.calcsize(f"={entry}")
    try:
        (n_tags,) = struct.unpack_from(f"{file.order}{head}", data, at)
    except struct.error:
        return None
    start = at + struct.calcsize(f"={head}")
    if not 0 < n_tags <= 4096 or start + n_tags * size > len(data):
        return None
    tags: dict[int, RawTag] = {}
    for i in range(n_tags):
        code, kind, count, inline = struct.unpack_from(
            f"{file.order}{entry}", data, start + i * size
        )
        if code in tags:
            file.n_further += 1
            continue
        tags[code] = _tag(file, data, code, (kind, count, inline), depth)
    return tags, start + n_tags * size


def _tag(
    file: RawFile, data: bytes, code: int, entry: tuple[int, int, bytes], depth: int
) -> RawTag:
    kind, count, inline = entry
    n_bytes = _SIZES.get(kind, 0) * count
    if not n_bytes:
        return RawTag(kind, count, None if kind not in _SIZES else b"")
    value = inline[:n_bytes]
    if n_bytes > len(inline):
        (at,) = struct.unpack(f"{file.order}{'Q' if file.is_big else 'I'}", inline)
        value = data[at : at + n_bytes]
        if len(value) < n_bytes:
            return RawTag(kind, count, None)
    if code in POINTERS and count == 1 and depth < 3:
        at = int.from_bytes(value, "little" if file.order == "<" else "big")
        read = _ifd(file, data, at, depth + 1)
        return RawTag(kind, count, None, None if read is None else read[0])
    return RawTag(kind, count, value)
