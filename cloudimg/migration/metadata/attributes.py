"""Attributes in the form in which the metadata stores them, unless they are too large. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cloudimg.migration.plain_json import to_plain

MAX_CHARACTERS = 2**16
"""Greatest length of the JSON of one attribute, and of one coordinate along several axes."""

_AS_JSON = (
    "channel_names", "channel_colors", "colormap", "display_ranges", "geo", "pixel_size",
    "pixel_size_unit", "plane_labels", "samples", "stage_position", "stage_position_unit",
)  # fmt: skip
"""Attributes that `cloudimg.Image.to_xarray` may turn into JSON, as netCDF wants it."""


def decoded_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an `xarray.DataArray` as JSON, without JSON in texts."""
    decoded: dict[str, Any] = to_plain(attrs)
    for name in _AS_JSON:
        if isinstance(text := attrs.get(name), str) and text[:1] in ("[", "{"):
            with suppress(ValueError):
                decoded[name] = json.loads(text)
    return decoded


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
