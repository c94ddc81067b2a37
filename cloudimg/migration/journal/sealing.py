"""JSON objects of the journal, each of which carries its own checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import Destination, as_json

_CHECKSUM = "sha256"
"""Key of the checksum in a sealed object."""


def seal(content: Mapping[str, Any]) -> bytes:
    """Encode a mapping as JSON that includes a checksum of itself."""
    # Parsed again, so that the checksum is of the content as it will be read.
    plain = json.loads(as_json(content))
    return as_json({**plain, _CHECKSUM: hashlib.sha256(as_json(plain)).hexdigest()})


def put_sealed(destination: Destination, key: str, content: Mapping[str, Any]) -> None:
    """Store a journal object."""
    destination.put(key, seal(content))


def get_sealed(destination: Destination, key: str) -> dict[str, Any] | None:
    """Read a journal object; None if there is no such object.

    Raises
    ------
    CorruptFileError
        If any byte differs from what was written.
    """
    try:
        data = destination.get(key)
    except NotFoundError:
        return None
    url = destination.display(key)
    message = f"{url} is damaged: it does not match its checksum"
    try:
        content = json.loads(data)
        if isinstance(content, dict):
            content.pop(_CHECKSUM, None)
            if seal(content) == data:
                return content
    except (ValueError, RecursionError) as exc:
        raise CorruptFileError(message, url=url) from exc
    raise CorruptFileError(message, url=url)
