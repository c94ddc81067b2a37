"""A damaged document of a copy as it should be, with what others edited in it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cloudimg.migration.metadata.edits import Edit, compare_document, parsed

_POINTING = ("multiscales", "series", "bioformats2raw.layout")
"""Attributes that lead readers to the arrays and images of a copy."""


def mended_document(key: str, expected: bytes, found: bytes) -> bytes:
    """A document without its flaws: as it was written, with what others edited in it.

    Parameters
    ----------
    key : str
    expected : bytes
        The document as it was written.
    found : bytes
        The document as it is now; empty if it is missing.
    """
    content = parsed(found)
    if content is None or key.endswith(".xml"):
        return expected
    for candidate in _candidates(json.loads(expected), content):
        data = json.dumps(candidate).encode()
        differences = compare_document(key, expected, data)
        if not differences:
            return expected
        if all(isinstance(each, Edit) for each in differences):
            return data
    return expected


def _candidates(written: dict[str, Any], found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Documents between the one that was found and the one that was written."""
    yield {name: value for name, value in found.items() if name != "consolidated_metadata"}
    attributes = found.get("attributes")
    if isinstance(attributes, dict):
        yield {**written, "attributes": attributes}
        ome, own = attributes.get("ome"), written.get("attributes", {}).get("ome", {})
        if isinstance(ome, dict):
            yield {**written, "attributes": {**attributes, "ome": {**ome, **_pointing(own)}}}
        yield {**written, "attributes": {**attributes, "ome": own}}
    yield {**found, **_pointing(written)}
    yield {**found, **written}


def _pointing(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in _POINTING if name in attributes}
