"""The bytes of tags: as a file stores them, and from the JSON in the table of originals. Pure.

The table has the value of a tag as tifffile understands it. Where the bytes do not follow from that
(text that is not UTF-8, structures, NaN), the table has them too, in the byte order of the file.
Sizes and codes of types: TIFF 6.0, section 2, and the BigTIFF design of Aware Systems.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from typing import Any

from cloudimg.tiff.ifd import TYPE_BYTES, Dialect, entries_of

Read = Callable[[int, int], bytes]
"""Returns the bytes from an offset on, of a length; raises `OSError` if they were not fetched."""

SUB_IFDS = {
    400: "GlobalParametersIFD",
    34665: "ExifTag",
    34853: "GPSTag",
    40965: "InteroperabilityTag",
}
"""Tags whose values are offsets of IFDs with further tags: TIFF-FX (RFC 3949) and Exif 2.32, 4.6.3.
"""
LARGEST_TAG_BYTES = 2**20
"""The values of larger tags are left out, since they are pixels or the like."""
_DEEPEST = 3
_LETTERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_LETTERS |= {5: "I", 10: "i", 16: "Q", 17: "q", 18: "Q"}
_ASCII, _UNDEFINED = 2, 7


def bytes_of(tag: Mapping[str, Any], order: str) -> bytes | None:
    """The stored bytes of a tag's value; None if the table of originals does not hold them.

    Parameters
    ----------
    tag : mapping
        A tag of the table of originals.
    order : str
        Byte order of the file: ``<`` or ``>``.
    """
    if "raw" in tag:
        return base64.b64decode(tag["raw"])
    try:
        data = _packed(tag["type"], tag.get("value"), order)
    except (struct.error, TypeError, ValueError, OverflowError):
        return None
    if data is None or len(data) != TYPE_BYTES.get(tag["type"], 0) * tag["count"]:
        return None
    return data


def _packed(kind: int, value: Any, order: str) -> bytes | None:
    """A value as a type stores it, if it is one that the type can store."""
    if value is None:
        return None
    if isinstance(value, dict):
        return base64.b64decode(value["base64"]) if set(value) == {"base64"} else None
    if isinstance(value, str):
        # A value that ends in several NULs, or in none, is another one than its text.
        return value.encode() + b"\0" if kind == _ASCII else None
    if kind not in _LETTERS:
        return None
    items = value if isinstance(value, list) else [value]
    return struct.pack(f"{order}{len(items)}{_LETTERS[kind]}", *items)


def with_bytes(tag: dict[str, Any], data: bytes, order: str) -> dict[str, Any]:
    """A tag with its stored bytes, where they do not follow from its value."""
    if bytes_of(tag, order) != data:
        tag["raw"] = base64.b64encode(data).decode()
    return tag


def read_sub_ifd(read: Read, dialect: Dialect, start: int, depth: int = 1) -> dict[str, Any] | None:
    """Tags of an IFD that a tag points at, by number; None if it was not fetched or is not an IFD.

    Parameters
    ----------
    read : callable
    dialect : Dialect
        Byte order and width of offsets of the file.
    start : int
        Offset of the IFD in bytes.
    depth : int
        How many IFDs led to this one.
    """
    try:
        entries = entries_of(read, dialect, start)
    except (OSError, struct.error):
        return None
    if entries is None:
        return None
    tags: dict[str, Any] = {}
    for code, kind, count, at in entries:
        tag: dict[str, Any] = {"code": code, "type": kind, "count": count}
        n_bytes = TYPE_BYTES.get(kind, 0) * count
        if str(code) in tags:
            tags[str(code)]["further"] = tags[str(code)].get("further", 0) + 1
            continue
        tags[str(code)] = tag
        if not TYPE_BYTES.get(kind):
            continue
        if n_bytes > LARGEST_TAG_BYTES:
            tag["left_out_bytes"] = n_bytes
            continue
        try:
            data = read(at, n_bytes)
        except OSError:
            tag["unreadable"] = True
            continue
        if code in SUB_IFDS and depth < _DEEPEST:
            add_sub_ifd(tag, data, read, dialect, depth + 1)
        else:
            tag["raw"] = base64.b64encode(data).decode()
    return tags


def add_sub_ifd(
    tag: dict[str, Any], data: bytes, read: Read, dialect: Dialect, depth: int = 1
) -> None:
    """Add the tags of the IFD that a tag points at, or that they cannot be read."""
    found = None
    if len(data) in (4, 8):
        start = int.from_bytes(data, dialect.byteorder)
        found = read_sub_ifd(read, dialect, start, depth)
    if found is None:
        tag["unreadable"] = True
    else:
        tag["ifd"] = found
