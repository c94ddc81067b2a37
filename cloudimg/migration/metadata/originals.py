"""Make the table of originals: what a copy would lose of each file, as Parquet beside the image.

The table is a Parquet dataset with one part for each cell that contains the first pixel of a file.
Workers can therefore write it cell by cell, in little memory. A file of a multi-file dataset has
one row for each of its planes; texts about the whole file are in the first of these rows in a part.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

# Imported before a migration starts its threads. While pyarrow makes a class that is a sequence and
# a mapping, another thread may find that a tuple is a mapping, and Python believes that from then
# on: https://github.com/python/cpython/issues/82266
import pyarrow as pa

from cloudimg.migration.metadata.facts_of_files import facts_of_file, with_facts
from cloudimg.migration.metadata.tags import file_tags
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.source import Source
from cloudimg.settings.operating_system import run_after_fork
from cloudimg.storage.urls import Location, redact
from cloudimg.tiff import Derived, Level, ParsedImage

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
    "byteorder": "string",
    "is_bigtiff": "bool",
    "ifds": "list",
    "pyramid": "string",
    "n_levels": "int64",
}
_FILE_COLUMNS = (
    "description", "tags", "further_tags", "has_all_tags", "byteorder", "is_bigtiff", "ifds",
    "pyramid", "n_levels",
)  # fmt: skip
"""Columns that describe the whole file, the same for each of its planes."""


def part_key(number: int) -> str:
    """Key of the part of a cell, below the destination."""
    return f"{FOLDER}/part-{number:09d}.parquet"


def original_row(source: Source, index: tuple[int, ...], opened: OpenFile) -> dict[str, Any]:
    """Row of the table for the file at an index of the grid.

    ``region_start`` and ``region_stop`` are in the dims of the source image. ``file_dims`` are the
    dims that the file has, in the file's order, and ``file_shape`` is what the image has of it.
    ``page`` is the number of the plane if the file belongs to a multi-file dataset, and otherwise
    None. ``tags`` and ``further_tags`` are JSON, and bytes in them have the ``byteorder`` of the
    file (``<`` or ``>``). ``ifds`` has the number of each plane's IFD, None if it is not known.
    ``pyramid`` says where the file has the further ones of its ``n_levels`` levels: in
    ``"subifds"`` or in ``"pages"``. ``ome_xml``, which the table does not have, is the description
    as stored, if it is OME-XML.
    Neither ``key`` nor ``url`` contains credentials.
    """
    location = source.reader.store.location
    key = location.key_of(source.files.keys(index))
    region = source.region_of(index)
    # The files may have axes that a selection dropped.
    own = {axis.file_axis: axis.name for axis in source.layout.axes if axis.name in source.dims}
    file_dims = [own[i] for i in range(source.layout.n_file_axes) if i in own]
    lengths = {dim: part.stop - part.start for dim, part in zip(source.dims, region, strict=True)}
    page = None if source.files.pages is None else int(source.files.pages[index])
    columns = _file_columns(opened) if page is None else _cached_file_columns(opened)
    facts = facts_of_file(opened.parsed.attrs, columns["tags"]) if page is None else {}
    return {
        "key": storable_key(location, key),
        "url": location.display(key),
        "etag": opened.etag,
        "size_bytes": opened.size_bytes,
        "index": list(index),
        "region_start": [part.start for part in region],
        "region_stop": [part.stop for part in region],
        "file_dims": file_dims,
        "file_shape": [lengths[dim] for dim in file_dims],
        "page": page,
        **columns,
        **facts,
    }


def storable_key(location: Location, key: str) -> str:
    """A key without the signature that a URL may contain."""
    if location.protocol == "file":
        return key
    return location.key_of(redact(location.pattern_text(key)))


def _file_columns(opened: OpenFile) -> dict[str, Any]:
    """Values of the columns that describe the whole file."""
    tags = file_tags(opened)
    if tags is None:
        return dict.fromkeys((*_FILE_COLUMNS, "ome_xml")) | {"has_all_tags": False}
    return {
        "description": tags.description,
        "tags": _json(tags.tags),
        "further_tags": _json(tags.further) if tags.further else None,
        "has_all_tags": tags.is_complete,
        "byteorder": tags.dialect.order,
        "is_bigtiff": tags.dialect.is_big,
        "ifds": _ifds_of_planes(opened.parsed, tags.segments),
        "pyramid": _pyramid(opened.parsed, tags.segments),
        "n_levels": len(opened.parsed.levels),
        "ome_xml": tags.ome_xml,
    }


def _ifds_of_planes(parsed: ParsedImage, segments: Sequence[int]) -> list[int] | None:
    """The number of the IFD of each plane of an image; None if it is not known.

    An IFD is recognized by where its first segment is. Several with the same one, or without any,
    cannot be told apart, and one IFD may stand for many planes.
    """
    planes = _first_segments(parsed.levels[0], len(segments)) if parsed.levels else None
    known = {at: number for number, at in enumerate(segments) if at > 0}
    if not planes or len(known) < len(segments) or len(set(planes)) < len(planes):
        return None
    found = [known.get(at) for at in planes]
    return None if None in found else [number for number in found if number is not None]


def _pyramid(parsed: ParsedImage, segments: Sequence[int]) -> str | None:
    """Where a file has the further levels of its image; None if it has none."""
    if len(parsed.levels) < 2:
        return None
    first = _first_segments(parsed.levels[1], len(segments))
    return "pages" if first and first[0] in segments else "subifds"


def _first_segments(level: Any, most: int) -> list[int] | None:
    """For each page of a level, where its first segment is.

    None if a page is not in the file, or if there are more pages than IFDs.
    """
    while isinstance(level, Derived):
        level = level.base
    if not isinstance(level, Level) or len(level.pages) > most:
        return None
    found = [int(page.offsets[0]) if page and len(page.offsets) else -1 for page in level.pages]
    return None if -1 in found else found


_cache: WeakKeyDictionary[OpenFile, dict[str, Any]] = WeakKeyDictionary()
"""File columns of files in multi-file datasets, which need them once for each plane."""
_cache_lock = threading.Lock()


def _cached_file_columns(opened: OpenFile) -> dict[str, Any]:
    with _cache_lock:  # several threads have planes of the same file, and one should parse it
        columns = _cache.get(opened)
        if columns is None:
            columns = _cache[opened] = _file_columns(opened)
        return columns


def _reset_after_fork() -> None:
    global _cache_lock  # it may be held by a thread that does not exist in the child
    _cache_lock = threading.Lock()


run_after_fork(_reset_after_fork)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def part_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as a Parquet file; the same rows always give the same bytes."""
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
    # Converted from JSON, since pyarrow imports pandas for Python objects, which takes 0.3 s.
    table = arrow_json.read_json(
        pa.BufferReader(lines),  # which pyarrow's threads read without Python
        arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        arrow_json.ParseOptions(schema, unexpected_field_behavior="error"),
    )
    table = with_facts(table, rows)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", row_group_size=max(1, len(rows)))
    return file.getvalue()


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Rows as JSON, with the file columns of a file only in its first row."""
    described: set[str] = set()
    for row in rows:
        line = {name: _storable(row[name]) for name in _COLUMNS}
        if row["page"] is not None and row["key"] in described:
            line |= dict.fromkeys(_FILE_COLUMNS)
        described.add(row["key"])
        yield json.dumps(line)


def _storable(value: Any) -> Any:
    # Names of local files and tags may contain bytes that are not valid text.
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
