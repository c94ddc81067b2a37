"""Read a part of the table of originals, of which each row is checked before it is used."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cloudimg.discovery.bounded_parquet import BoundedParquet
from cloudimg.errors import CorruptFileError
from cloudimg.errors.checked_json import (
    checked_choice,
    checked_int,
    checked_ints,
    checked_list,
    checked_mapping,
    checked_object,
    checked_optional_text,
    checked_plain,
    checked_text,
    checked_texts,
    damage,
)

_TEXT, _INT = ("string",), ("int64",)
_INTS = ("list<element: int64>", "list<item: int64>")
_TEXTS = ("list<element: string>", "list<item: string>")
_REQUIRED = {
    "key": _TEXT,
    "url": _TEXT,
    "index": _INTS,
    "region_start": _INTS,
    "region_stop": _INTS,
    "file_dims": _TEXTS,
    "file_shape": _INTS,
    "page": _INT,
    "tags": _TEXT,
}
_OPTIONAL = {
    "etag": _TEXT,
    "size_bytes": _INT,
    "description": _TEXT,
    "further_tags": _TEXT,
    "has_all_tags": ("bool",),
    "byteorder": _TEXT,
    "is_bigtiff": ("bool",),
    "ifds": _INTS,
    "pyramid": _TEXT,
    "n_levels": _INT,
}
_MOST_ROWS = 2**26
_ROWS_AT_ONCE = 16
"""Rows that are made at once: each may have megabytes of text."""
_MOST_PLANES = 2**24
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_TAG = ("code", "type", "count")
_OF_TAGS = ("value", "raw", "further", "unreadable", "left_out_bytes", "ifd")
_MOST_TAGS = 2**17
_DAMAGED = (KeyError, OSError, RecursionError, TypeError, ValueError)


def rows_of_part(data: bytes, url: str, source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part of the table of originals.

    Parameters
    ----------
    data : bytes
        A Parquet file.
    url : str
        Where it is, for errors.
    source : mapping
        `State.source` of the copy.

    Raises
    ------
    CorruptFileError
        If it is not such a part, or a row is not of a file that can be part of the source.
    """
    most_rows = min(math.prod(source["shape"]), _MOST_ROWS)
    damaged = ""
    try:
        file = BoundedParquet(data, {**_REQUIRED, **_OPTIONAL}, most_rows=most_rows)
        missing = [name for name in _REQUIRED if name not in file.schema.names]
        if missing:
            raise ValueError(f"it has no column {missing[0]}")
        for batch in file.batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                _check_row(row, source)
                yield row
    except CorruptFileError:
        raise
    except _DAMAGED as exc:
        damaged = damage(exc)
    if damaged:
        raise CorruptFileError(
            f"{url} is damaged: not a part of the table of originals: {damaged}", url=url
        )


def _check_row(row: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    checked_text(row["key"], "key")
    checked_text(row["url"], "url")
    checked_ints(row["index"], "index")
    n = len(source["dims"])
    starts = checked_ints(row["region_start"], "region_start", n=n)
    stops = checked_ints(row["region_stop"], "region_stop", n=n)
    bounds = {}
    for dim, start, stop, length in zip(
        source["dims"], starts, stops, source["shape"], strict=True
    ):
        if not start < stop <= length:
            raise ValueError(f"the region {start}-{stop} along {dim} is not part of 0-{length}")
        bounds[dim] = stop - start
    dims = checked_texts(row["file_dims"], "file_dims", most=n)
    shape = checked_ints(row["file_shape"], "file_shape", n=len(dims), least=1)
    if len(set(dims)) < len(dims) or not set(dims) <= bounds.keys():
        raise ValueError("file_dims has names that the source does not have, or one twice")
    of_file = dict(zip(dims, shape, strict=True))
    if any(of_file.get(dim, 1) != length for dim, length in bounds.items()):
        raise ValueError("file_shape is not that of its region")
    if row["page"] is not None:
        checked_int(row["page"], "page")
    if row.get("ifds") is not None and not checked_ints(row["ifds"], "ifds", most=_MOST_PLANES):
        raise ValueError("ifds is empty")
    checked_choice(row.get("byteorder"), "byteorder", ("<", ">", None))
    if checked_choice(row.get("pyramid"), "pyramid", ("subifds", "pages", None)) is not None:
        checked_int(row["n_levels"], "n_levels", least=1, greatest=64)
    checked_optional_text(row.get("description"), "description", most=2**28)
    if row["tags"]:
        _check_tags(json.loads(row["tags"]), "tags")
    if row.get("further_tags"):
        further = checked_list(json.loads(row["further_tags"]), "further_tags", most=_MOST_PLANES)
        for i, tags in enumerate(further):
            _check_tags(tags, f"further_tags[{i}]")


def _check_tags(tags: Any, where: str) -> None:
    """Check tags in the form of `cloudimg.migration.metadata.tags`."""
    for name, tag in checked_mapping(checked_plain(tags, where), where, most=_MOST_TAGS).items():
        if tag is None:  # the page does not have a tag that the first one has
            continue
        at = f"{where}.{name}"
        checked_object(tag, at, required=_TAG, optional=_OF_TAGS)
        checked_int(tag["code"], f"{at}.code", greatest=2**16 - 1)
        checked_int(tag["type"], f"{at}.type", greatest=2**16 - 1)
        checked_int(tag["count"], f"{at}.count", greatest=2**64)
        if "raw" in tag:
            raw = checked_text(tag["raw"], f"{at}.raw", most=2**22, pattern=_BASE64)
            if len(raw) % 4:
                raise ValueError(f"{at}.raw is not base64")
        if "ifd" in tag:
            _check_tags(tag["ifd"], f"{at}.ifd")
