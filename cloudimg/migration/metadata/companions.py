"""Files with metadata beside the images, which a copy keeps as they were. Pure.

They are part of the plan, so that every run, `verify` and `repair` have the same bytes, however the
files are since. That bounds how large they may be.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cloudimg.errors.checked_json import checked_list, checked_text
from cloudimg.migration.plan.places import COMPANIONS, NODES

MOST_FILES = 1000
"""Files that a copy keeps, in the order of their names."""
MOST_BYTES = 2**24
"""Bytes of all of them."""
LEFT_OUT = "companions-left-out"
"""Kind of the note about files that a copy does not keep."""
_MOST_BASE64 = 2 * MOST_BYTES
_LONGEST = 1024

Companions = tuple[tuple[str, str], ...]
"""Path of each file below the folder of the companions, and its bytes as text."""


def packed(data: bytes) -> str:
    """The bytes of a file as text, compressed."""
    return base64.b64encode(zlib.compress(data, 6)).decode()


def is_storable(path: str) -> bool:
    """Whether a copy can keep a file at a path: one that leads nowhere else, and is no Zarr."""
    parts = path.split("/")
    is_inside = not {"", ".", ".."} & {*parts} and len(path) <= _LONGEST
    return is_inside and not {*NODES, ".zattrs", ".zmetadata"} & {*parts}


def checked_companions(stored: Any, where: str) -> Companions:
    """Restore companions from the JSON of a plan.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    found = []
    for each in checked_list(stored, where, most=MOST_FILES):
        path, text = checked_list(each, where, n=2)
        checked_text(path, where, most=_LONGEST)
        if not is_storable(path):
            raise ValueError(f"{where} has a path that leads elsewhere")
        found.append((path, checked_text(text, where, most=_MOST_BASE64)))
    if len(dict(found)) < len(found):
        raise ValueError(f"{where} has a path twice")
    for _ in _unpacked(found, where):
        pass
    return tuple(found)


def documents_of_companions(companions: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes of the files in the copy."""
    for path, data in _unpacked(companions, "companions"):
        yield f"{COMPANIONS}/{path}", data


def _unpacked(companions: Iterable[tuple[str, str]], where: str) -> Iterator[tuple[str, bytes]]:
    """Yield paths and bytes.

    Raises
    ------
    ValueError
        If they are not what `packed` returns, or more than they can be.
    """
    left = MOST_BYTES
    for path, text in companions:
        try:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(base64.b64decode(text, validate=True), left + 1)
        except (zlib.error, binascii.Error) as exc:
            raise ValueError(f"{where} cannot be unpacked") from exc
        left -= len(data)
        if left < 0 or not unpacker.eof:
            raise ValueError(f"{where} is cut off, or larger than {MOST_BYTES} bytes")
        yield path, data
