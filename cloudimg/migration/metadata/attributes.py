"""Select the attributes that are small enough for the metadata. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cloudimg.migration.plain_json import to_plain

MAX_CHARACTERS = 2**16
"""Greatest length of the JSON of one attribute, and of one coordinate along several axes."""


def small_attributes(attrs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Attributes as JSON, and a note that names those that are left out as too large.

    Every reader of the metadata would have to download them; a palette of 16 bits is an example.
    """
    plain: dict[str, Any] = to_plain(attrs)
    small = {
        name: value for name, value in plain.items() if len(json.dumps(value)) <= MAX_CHARACTERS
    }
    left_out = ", ".join(name for name in plain if name not in small)
    notes = [f"attributes larger than 64 KiB are not kept: {left_out}"]
    return small, notes if left_out else []
