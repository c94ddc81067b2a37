"""JSON objects of the journal, each of which carries its own checksum; some are compressed."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.stored_objects import StoredObject, create_object
from cloudimg.storage import Data

_CHECKSUM = "sha256"
"""Key of the checksum in a sealed object."""
_MOST_BYTES = 2**28
"""Size of a plan with a million URLs, or with the OME-XML of a large plate."""
_MOST_VALUES = 2**22
_MOST_UNPACKED = 2**26
"""Several times the size of a commit record with histograms of 64 channels of 16 bits; what is
larger is stored as it is."""
_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""What compressed objects begin with, see RFC 1952: without a time and the operating system."""
_LEVEL = 6


def seal(content: Mapping[str, Any]) -> bytes:
    """Encode a mapping as JSON that includes a checksum of itself."""
    # Parsed again, so that the checksum is of the content as it will be read.
    plain = json.loads(as_json(content))
    return as_json({**plain, _CHECKSUM: checksum(plain)})


def packed(data: bytes) -> bytes:
    """Compress a journal object, as ``gunzip`` reads it."""
    if len(data) > _MOST_UNPACKED:
        return data
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = compressor.compress(data) + compressor.flush()
    return _GZIP + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _unpacked(data: Data) -> Data | None:
    """A journal object as JSON; None if it cannot be decompressed, or is too large then."""
    if bytes(data[: len(_GZIP)]) != _GZIP:
        return data
    if len(data) > 2 * _MOST_UNPACKED:  # what follows the compressed bytes would be copied
        return None
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(data, _MOST_UNPACKED)
    except zlib.error:
        return None
    return found if unpacker.eof and not unpacker.unused_data else None


def checksum(content: Mapping[str, Any]) -> str:
    """The checksum that a journal object carries: SHA-256 of its content as canonical JSON."""
    return hashlib.sha256(as_json(content)).hexdigest()


def create_sealed(
    destination: Destination, key: str, content: Mapping[str, Any], *, fences: bool
) -> StoredObject:
    """Store a journal object in the place of nothing; see `create_object`."""
    return create_object(destination, key, seal(content), fences=fences)


def put_sealed(destination: Destination, key: str, content: Mapping[str, Any]) -> None:
    """Store a journal object, or replace it."""
    destination.put(key, seal(content))


def get_sealed(destination: Destination, key: str) -> dict[str, Any] | None:
    """Read a journal object; None if there is no such object.

    Raises
    ------
    CorruptFileError
        If any byte differs from what was written.
    """
    return get_sealed_with_etag(destination, key)[0]


def get_sealed_with_etag(
    destination: Destination, key: str
) -> tuple[dict[str, Any] | None, str | None]:
    """Read a journal object, and its version; see `get_sealed`."""
    try:
        data, etag = destination.get_with_etag(key, most_bytes=_MOST_BYTES)
    except NotFoundError:
        return None, None
    url = destination.display(key)
    found = _unpacked(data)
    if found is not None and is_too_large(found):
        raise CorruptFileError(f"{url} is damaged: it is larger than any that is written", url=url)
    content = None if found is None else _checked(found)
    if content is None:
        raise CorruptFileError(f"{url} is damaged: it does not match its checksum", url=url)
    return content, etag


def is_too_large(data: Data) -> bool:
    """Whether a journal object is larger than any that is written.

    A value takes up to thirty times its JSON in memory, so values are counted before they are
    parsed.
    """
    return len(data) > _MOST_BYTES or bytes(data).count(b",") > _MOST_VALUES


def unsealed(data: Data) -> dict[str, Any] | None:
    """The content of a journal object; None if it differs from what was written."""
    found = _unpacked(data)
    return None if found is None or is_too_large(found) else _checked(found)


def _checked(data: Data) -> dict[str, Any] | None:
    """The content of a journal object that was decompressed, once and not again."""
    try:
        content = json.loads(bytes(data))
        if not isinstance(content, dict):
            return None
        recorded = content.pop(_CHECKSUM, None)
        if checksum(content) != recorded:
            return None
        # Only canonical JSON: no name twice, no NaN, no other way to write the same.
        return content if as_json({**content, _CHECKSUM: recorded}) == data else None
    except (ValueError, RecursionError):
        return None
