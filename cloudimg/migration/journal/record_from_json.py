"""Check a commit record as it was read, field by field. Pure."""

from __future__ import annotations

import re
from typing import Any

from cloudimg.errors.checked_json import (
    SHA256,
    checked_choice,
    checked_int,
    checked_list,
    checked_mapping,
    checked_notes,
    checked_object,
    checked_optional_text,
    checked_text,
    unexpected,
)
from cloudimg.errors.file_report import KINDS, BadFile
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.journal.files_read import FilesRead
from cloudimg.migration.journal.stored_objects import StoredLevel, StoredObject
from cloudimg.migration.metadata.image_place import ImagePlace
from cloudimg.migration.metadata.source_xml import MOST_FILES, SourceXml

_REQUIRED = ("plan", "stage", "number", "levels", "histograms", "first_channel", "originals")
_OPTIONAL = ("files", "sources", "notes", "filled", "n_missing", "ome_xml", "places")
PLAN_ID = re.compile(r"[0-9a-f]{32}")
_MOST_LEVELS = 64
_MOST_BYTES = 2**40
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_MOST_BASE64 = 2**24


def checked_record(content: Any) -> dict[str, Any]:
    """The fields of `CommitRecord`, from its JSON.

    Raises
    ------
    ValueError
        If a field is missing or unknown, or has another type or size than it can have.
    """
    checked_object(content, "record", required=_REQUIRED, optional=_OPTIONAL)
    levels = checked_list(content["levels"], "levels", most=_MOST_LEVELS)
    originals = content["originals"]
    filled = _filled(content.get("filled", []))
    n_missing = checked_int(content.get("n_missing", 0), "n_missing")
    if n_missing and not any(file.kind == "missing" for file in filled):
        raise ValueError("n_missing counts files that filled does not list")
    return {
        "plan_id": checked_text(content["plan"], "plan", pattern=PLAN_ID),
        "stage": checked_int(content["stage"], "stage"),
        "number": checked_int(content["number"], "number"),
        "first_channel": checked_int(content["first_channel"], "first_channel"),
        "n_missing": n_missing,
        "sources": _sources(content["sources"]) if "sources" in content else None,
        "levels": tuple(_level(each, f"levels[{i}]") for i, each in enumerate(levels)),
        "files": FilesRead.from_json(content["files"]) if "files" in content else None,
        "histograms": tuple(
            Histogram.from_json(each) for each in checked_list(content["histograms"], "histograms")
        ),
        "originals": None if originals is None else _object(originals, "originals"),
        "notes": checked_notes(content.get("notes", []), "notes"),
        "filled": filled,
        "ome_xml": tuple(
            SourceXml.from_json(each)
            for each in checked_list(content.get("ome_xml", []), "ome_xml", most=MOST_FILES)
        ),
        "places": tuple(
            ImagePlace.from_json(each, f"places[{i}]")
            for i, each in enumerate(checked_list(content.get("places", []), "places"))
        ),
    }


def _sources(stored: Any) -> dict[str, str | None]:
    sources = checked_mapping(stored, "sources")
    for etag in sources.values():
        checked_optional_text(etag, "an ETag in sources")
    return dict(sources)


def _level(stored: Any, where: str) -> StoredLevel:
    level = checked_object(stored, where, required=("level", "pixels_sha256", "empty", "objects"))
    objects = checked_list(level["objects"], f"{where}.objects")
    return StoredLevel(
        checked_int(level["level"], f"{where}.level", greatest=_MOST_LEVELS),
        checked_text(level["pixels_sha256"], f"{where}.pixels_sha256", pattern=SHA256),
        checked_text(level["empty"], f"{where}.empty", most=_MOST_BASE64, pattern=_BASE64),
        tuple(_object(each, f"{where}.objects[{i}]") for i, each in enumerate(objects)),
    )


def _object(stored: Any, where: str) -> StoredObject:
    """One stored object: its key lies below the destination, whatever stores make of keys."""
    fields = checked_list(stored, where, most=4)
    if len(fields) < 3:
        raise unexpected(fields, where, "a key, a size, a SHA-256 and perhaps an ETag")
    key, size, sha256, *etag = fields
    checked_text(key, f"{where}.key", most=1024)
    if "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{where}.key is not the name of an object below the copy")
    return StoredObject(
        key,
        checked_int(size, f"{where}.size", greatest=_MOST_BYTES),
        checked_text(sha256, f"{where}.sha256", pattern=SHA256),
        checked_optional_text(etag[0], f"{where}.etag", most=4096) if etag else None,
    )


def _filled(stored: Any) -> tuple[BadFile, ...]:
    found = []
    for i, row in enumerate(checked_list(stored, "filled")):
        url, kind, text = checked_list(row, f"filled[{i}]", n=3)
        checked_text(url, f"filled[{i}].url")
        checked_choice(kind, f"filled[{i}].kind", KINDS)
        checked_text(text, f"filled[{i}].text")
        found.append(BadFile(url, kind, text))
    return tuple(found)
