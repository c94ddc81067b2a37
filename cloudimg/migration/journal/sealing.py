"""JSON objects of the journal, each with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cloudimg.errors import CorruptFileError, NotFoundError
from cloudimg.migration.journal.destination import Destination, as_json

_SEAL = "sha256"


def seal(content: Mapping[str, Any]) -> bytes:
    """JSON that tells by itself whether it was damaged."""
    # As it will be read again, so that the checksum is of the same text.
    plain = json.loads(as_json(content))
    return as_json({**plain, _SEAL: hashlib.sha256(as_json(plain)).hexdigest()})


def put_sealed(destination: Destination, key: str, content: Mapping[str, Any]) -> None:
    """Store a part of the journal."""
    destination.put(key, seal(content))


def get_sealed(destination: Destination, key: str) -> dict[str, Any] | None:
    """A part of the journal; None where there is no such object.

    Raises
    ------
    CorruptFileError
        If a byte of it is not as it was written.
    """
    try:
        data = destination.get(key)
    except NotFoundError:
        return None
    try:
        found = json.loads(data)
        content = {name: each for name, each in found.items() if name != _SEAL}
        is_sound = seal(content) == data
    except (ValueError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        url = destination.display(key)
        raise CorruptFileError(f"{url} is damaged: it does not have its checksum", url=url)
    return content
