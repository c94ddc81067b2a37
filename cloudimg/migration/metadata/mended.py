"""A document of a copy as it should be, with what others edited in the one there. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cloudimg.migration.metadata.edits import Edit, Flaw, compare_document, is_json, parsed

_NOTHING = object()
_POINTING = ("multiscales", "series", "bioformats2raw.layout", "plate", "well")
"""Attributes that lead readers to the arrays and images of a copy."""

_COORDINATES = ("axes", "datasets", "coordinateTransformations")
"""What says where pixels lie, and only together: numbers are in the units that axes have."""


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
    if content is None or not is_json(key):
        return expected
    for candidate in _candidates(json.loads(expected), content):
        data = json.dumps(candidate).encode()
        differences = compare_document(key, expected, data)
        if not differences:
            return expected
        if all(isinstance(each, Edit) for each in differences):
            return data
    return expected


def renewed_document(key: str, written: bytes | None, found: bytes, new: bytes) -> bytes:
    """A document by other rules than before, with what others edited in the one before.

    Parameters
    ----------
    key : str
    written : bytes, optional
        The document as it was written before; None if there was none.
    found : bytes
        The document as it is now.
    new : bytes
        The document as it is written now.
    """
    if found in (written, new):
        return new
    content = parsed(found)
    if key.endswith(".xml"):
        return new if any(isinstance(e, Flaw) for e in compare_document(key, new, found)) else found
    if content is None or not is_json(key):
        return new
    before = {} if written is None else json.loads(written)
    merged = _merged(before, content, json.loads(new))
    if merged == content:
        return found
    data = json.dumps(merged).encode()
    differences = compare_document(key, new, data)
    if not differences:
        return new
    if not any(isinstance(each, Flaw) for each in differences):
        return data
    return mended_document(key, new, data)


def _merged(before: Any, found: Any, new: Any) -> Any:
    """A value that both sides may have changed: that of others counts where they changed it."""
    if found == before:
        return new
    if isinstance(before, dict) and isinstance(found, dict) and isinstance(new, dict):
        new = {**new, **_edited_coordinates(before, found)}
        names = {**new, **found}
        merged = {
            name: _merged(*(each.get(name, _NOTHING) for each in (before, found, new)))
            for name in names
        }
        return {name: value for name, value in merged.items() if value is not _NOTHING}
    are_lists = isinstance(before, list) and isinstance(found, list) and isinstance(new, list)
    if are_lists and len(before) == len(found) == len(new):
        return [_merged(*each) for each in zip(before, found, new, strict=True)]
    return found


def _edited_coordinates(before: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What says where pixels lie, if others edited any of it."""
    if all(before.get(name) == found.get(name) for name in _COORDINATES):
        return {}
    return {name: found[name] for name in _COORDINATES if name in found}


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
