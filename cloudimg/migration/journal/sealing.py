"""JSON objects of the journal, each of which carries its own checksum."""

from __future__ import annotations

import hashlib
import json
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


def seal(content: Mapping[str, Any]) -> bytes:
    """Encode a mapping as JSON that includes a checksum of itself."""
    # Parsed again, so that the checksum is of the content as it will be read.
    plain = json.loads(as_json(content))
    return as_json({**plain, _CHECKSUM: checksum(plain)})


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
    if is_too_large(data):
        raise CorruptFileError(f"{url} is damaged: it is larger than any that is written", url=url)
    content = unsealed(data)
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
    """The content of a journal object; None if any byte differs from what was written."""
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
