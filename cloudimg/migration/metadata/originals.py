"""The table of originals: for each file what would be lost with it, in Parquet beside the image.

It is a dataset of one part for each cell that holds the first pixel of a file, so that workers
write it as they go, in little memory. A file that holds many planes of a set has a row for each
plane; what is said of the file as a whole stands in the first of its rows in a part.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from cloudimg.migration.metadata.tags import file_tags
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.source import Source
from cloudimg.storage.urls import Location, redact

FOLDER = "originals"
_COLUMNS = {
    "key": "string",
    "url": "string",
    "etag": "string",
    "size_bytes": "int64",
    "index": "list",
    "region_start": "list",
    "region_stop": "list",
    "file_dims": "texts",
    "file_shape": "list",
    "page": "int64",
    "description": "string",
    "tags": "string",
    "further_tags": "string",
    "has_all_tags": "bool",
}
_OF_FILE = ("description", "tags", "further_tags", "has_all_tags")


def part_key(number: int) -> str:
    """Where the part of a cell lies, below the destination."""
    return f"{FOLDER}/part-{number:09d}.parquet"


def original_row(source: Source, index: tuple[int, ...], opened: OpenFile) -> dict[str, Any]:
    """What the table says of the file at an index of the grid.

    ``region_start`` and ``region_stop`` are in the dims of the source image, ``file_dims`` are
    those of them that the file has, in its own order. ``page`` is a number where the file is a
    member of a set, which has a row for each of its planes. ``tags`` and ``further_tags`` are
    JSON. Neither ``key`` nor ``url`` holds credentials.
    """
    location = source.reader.store.location
    key = location.key_of(source.files.keys(index))
    region = source.layout.region_of(index)
    own = [axis for axis in source.layout.axes if axis.file_axis is not None]
    page = None if source.files.pages is None else int(source.files.pages[index])
    return {
        "key": storable_key(location, key),
        "url": location.display(key),
        "etag": opened.etag,
        "size_bytes": opened.size_bytes,
        "index": list(index),
        "region_start": [part.start for part in region],
        "region_stop": [part.stop for part in region],
        "file_dims": [axis.name for axis in sorted(own, key=lambda axis: axis.file_axis or 0)],
        "file_shape": list(source.layout.file_shape(index)),
        "page": page,
        **(_texts(opened) if page is None else _texts_once(opened)),
    }


def storable_key(location: Location, key: str) -> str:
    """A key without the signature that a URL may have."""
    if location.protocol == "file":
        return key
    return location.key_of(redact(location.pattern_text(key)))


def _texts(opened: OpenFile) -> dict[str, Any]:
    """What is said of a file as a whole."""
    found = file_tags(opened)
    return {
        "description": None if found is None else found.description,
        "tags": None if found is None else _json(found.tags),
        "further_tags": None if found is None or not found.further else _json(found.further),
        "has_all_tags": found is not None and found.is_complete,
    }


_known: WeakKeyDictionary[OpenFile, dict[str, Any]] = WeakKeyDictionary()
"""Texts of members of sets: there is a row for each of their planes, and as many directories."""
_at_one_time = threading.Lock()


def _texts_once(opened: OpenFile) -> dict[str, Any]:
    with _at_one_time:  # else all threads, which have planes of one file, do the same
        found = _known.get(opened)
        if found is None:
            found = _known[opened] = _texts(opened)
        return found


def _reset_after_fork() -> None:
    global _at_one_time  # it may be held by a thread that the child lacks
    _at_one_time = threading.Lock()


os.register_at_fork(after_in_child=_reset_after_fork)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def part_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as a file of Parquet; the same bytes for the same rows."""
    import pyarrow as pa
    import pyarrow.json as arrow_json
    import pyarrow.parquet as pq

    kinds = {
        "string": pa.string(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "list": pa.list_(pa.int64()),
        "texts": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in _COLUMNS.items()])
    lines = "\n".join(_lines(rows)).encode()
    # By way of JSON: from Python's objects pyarrow would import pandas, for a third of a second.
    table = arrow_json.read_json(
        io.BytesIO(lines),
        arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        arrow_json.ParseOptions(schema, unexpected_field_behavior="error"),
    )
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", row_group_size=max(1, len(rows)))
    return file.getvalue()


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    told: set[str] = set()
    for row in rows:
        line = {name: _storable(row[name]) for name in _COLUMNS}
        if row["page"] is not None and row["key"] in told:
            line |= dict.fromkeys(_OF_FILE)
        told.add(row["key"])
        yield json.dumps(line)


def _storable(value: Any) -> Any:
    # Names of local files and tags may hold bytes that are no text.
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
