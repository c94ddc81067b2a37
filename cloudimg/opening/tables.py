"""Read the table that lists the files of an image: its rows become a grid of files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.labelled_rows import GridInTable
from cloudimg.discovery.listing import Listing, Tabled, TableRows
from cloudimg.discovery.stored_headers import MOST_BYTES, StoredHeader, headers_in
from cloudimg.discovery.table import OWN_TABLE
from cloudimg.discovery.table_columns import HEADER, choose_roles
from cloudimg.discovery.table_content import TableContent, is_table, table_at, table_in_memory
from cloudimg.discovery.tabled import Arranged, TableBuilder
from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.errors.checked_json import (
    GREATEST,
    checked_bool,
    checked_choice,
    checked_int,
    checked_mapping,
    checked_object,
    damage,
)
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.pattern import Label
from cloudimg.storage import Location, endpoint_of, redact, split_url
from cloudimg.tiff import Offsets

_NUMBERINGS = ("page", "directory", "pixels")
_MOST_AXES = 32
_MOST_LABELS = 10**6


def read_table(urls: URLs, arguments: OpenArguments) -> tuple[URLs, OpenArguments]:
    """Read the table that lists the files of an image; other URLs are returned as they are.

    The arguments of a table in memory are returned without those that say what its columns mean,
    since the table is recorded as it was understood.

    Raises
    ------
    ArgumentError, GridError, CorruptFileError, StorageError
    """
    given = os.fspath(urls) if isinstance(urls, os.PathLike) else urls
    if not is_table(given):
        if arguments.url_column is not None and not isinstance(urls, Tabled):
            raise ArgumentError(
                f"url_column={arguments.url_column!r} names a column of a table, but no table is"
                " given"
            )
        return urls, arguments
    content = (
        table_at(given, arguments.storage_options)
        if isinstance(given, str)
        else table_in_memory(given)
    )
    try:
        tabled = _read(content, given if isinstance(given, str) else None, arguments)
    except ValueError as exc:
        if isinstance(exc, ArgumentError):
            raise
        shown = redact(given) if isinstance(given, str) else "the table"
        raise CorruptFileError(f"{shown} is damaged: {damage(exc)}") from exc
    _refuse_options(tabled, arguments)
    if tabled.url is None:
        arguments = replace(
            arguments, axes=tabled.axes or None, pattern=None, url_column=None, exclude=None
        )
    return tabled, arguments


def _read(content: TableContent, url: str | None, arguments: OpenArguments) -> Tabled:
    roles = choose_roles(
        content.schema,
        url=arguments.url_column,
        axes=arguments.axes or {},
        has_pattern=arguments.pattern is not None,
    )
    exclusion = Exclusion(arguments.exclude)
    builder = TableBuilder(
        roles,
        folder=content.folder,
        pattern=arguments.pattern,
        exclusion=exclusion,
        decode_key=content.decode_key,
        scheme="s3" if url is None else _scheme_of_buckets(url),
    )
    n_rows = 0
    for batch in content.read(roles.of_grid):
        builder.add(batch)
        n_rows += len(batch)
        if arguments.progress is not None:
            arguments.progress("rows of the table", n_rows)
    own = _OwnTable.of(content.metadata)
    arranged = builder.build(own.grid)
    facts = builder.facts(content.read(roles.facts), arranged.flat) if roles.facts else None
    headers = _headers(content, arranged) if HEADER in content.schema.names else {}
    return Tabled(
        listing=Listing(
            arranged.grid,
            arranged.unmatched,
            exclusion.note(redact),
            is_complete=False,
            table=TableRows(
                facts=facts,
                pages=arranged.pages,
                pages_are=own.pages_are,
                headers=headers,
                has_segments=own.has_segments,
            ),
        ),
        location=arranged.location,
        url=url,
        axes={
            axis: name
            for axis, name in (arguments.axes or {}).items()
            if axis not in content.schema.names
        },
    )


def _scheme_of_buckets(url: str) -> str:
    """Protocol of the buckets that an inventory names: that of its own, unless it was copied."""
    protocol = split_url(url)[0].protocol
    return protocol if protocol in ("s3", "gs") else "s3"


def _headers(content: TableContent, arranged: Arranged) -> dict[str, StoredHeader]:
    """Headers by key of the file."""
    found: dict[str, StoredHeader] = {}
    location = arranged.location
    first_row, budget = 0, MOST_BYTES
    for batch in content.read([HEADER]):
        for row, header in headers_in(batch, HEADER, budget).items():
            budget -= sum(len(data) for _, data in header.parts)
            name = arranged.name_of_row(first_row + row)
            if name is not None:
                found[location.key_of(name)] = header
        first_row += len(batch)
    return found


@dataclass(frozen=True, slots=True)
class _OwnTable:
    """What a table says of itself that cloudimg has made."""

    grid: GridInTable | None = None
    pages_are: Offsets = "page"
    has_segments: bool = False

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> _OwnTable:
        """Read what the metadata of a schema say; nothing if another program has made the table.

        Raises
        ------
        ValueError
        """
        text = metadata.get(OWN_TABLE)
        if text is None:
            return cls()
        stored = json.loads(text)
        required = ("n_rows", "shape", "labels")
        checked_object(
            stored, OWN_TABLE.decode(), required=required, optional=("pages_are", "has_segments")
        )
        numbered = checked_choice(stored.get("pages_are", "page"), "pages_are", _NUMBERINGS)
        shape = checked_mapping(stored["shape"], "shape", most=_MOST_AXES)
        labels = checked_mapping(stored["labels"], "labels", most=_MOST_AXES)
        return cls(
            GridInTable(
                n_rows=checked_int(stored["n_rows"], "n_rows"),
                shape={axis: checked_int(n, f"shape.{axis}") for axis, n in shape.items()},
                labels={axis: dict(_labels(each, axis)) for axis, each in labels.items()},
            ),
            cast(Offsets, numbered),
            checked_bool(stored.get("has_segments", False), "has_segments"),
        )


def _labels(stored: Any, axis: str) -> Iterator[tuple[int, Label]]:
    for index, label in checked_mapping(stored, f"labels.{axis}", most=_MOST_LABELS).items():
        if isinstance(label, bool) or not isinstance(label, int | float | str):
            raise ValueError(f"labels.{axis} has another label than a number or a text")
        yield min(int(index), GREATEST), label


def _refuse_options(tabled: Tabled, arguments: OpenArguments) -> None:
    """Refuse options that would be used for the table and for files on another server.

    Raises
    ------
    ArgumentError
    """
    options = arguments.storage_options
    if options is None or options.keys() <= {"max_rate"} or tabled.url is None:
        return
    at: Sequence[Location] = (split_url(tabled.url)[0], tabled.location)
    if at[0].is_on_this_machine or at[0] == at[1]:
        return
    first, second = (endpoint_of(location, options) for location in at)
    if first is None or first != second:
        raise ArgumentError(
            f"storage_options= belong to one store, but the table is at {redact(tabled.url)}, and"
            f" its files are elsewhere, such as {redact(tabled.first)}: read the table by another"
            " library, such as pyarrow.parquet, and pass it with the options of the store of the"
            " files"
        )
