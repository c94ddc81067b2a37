"""The files of an image as a table, from which the image can be opened again."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cloudimg.discovery.arrow_columns import as_numbers
from cloudimg.discovery.build_grid import short_etag
from cloudimg.discovery.earlier_listing import shown_name
from cloudimg.discovery.fact_kinds import FACTS
from cloudimg.discovery.table import OWN_TABLE, FileTable
from cloudimg.discovery.table_columns import AXIS, LABEL, RESERVED
from cloudimg.opening.opened import Opened
from cloudimg.pattern import Label

_LONG = 2**63
"""Numbers of the names of files that no column holds; they become texts."""


def table_of_files(opened: Opened) -> Any:
    """Return the table of `Image.table`."""

    grid, source = opened.grid, opened.sources[0]
    location = source.reader.store.location
    table = FileTable.of(
        grid,
        lambda name: shown_name(f"{location.before}{name}{location.after}"),
        source.files.pages,
        opened.inspection.facts,
    )
    if not grid.fields:  # opened without a listing
        header = opened.inspection.headers[0]
        sizes, etag = np.array([header.size_bytes]), short_etag(header.etag)
        table = replace(table, sizes=sizes, etags=np.array([etag], np.uint64))
    found = table.to_table()
    index = np.unravel_index(table.rows, grid.shape) if grid.shape else ()
    for axis, labels, numbers in zip(grid.fields, grid.labels, index, strict=True):
        # An axis may have the name of a fact, or of another column.
        is_taken = axis in found.schema.names or axis in (*RESERVED, *FACTS)
        column = _labels(labels).take(as_numbers(numbers.astype(np.int64)))
        at = found.schema.names.index(f"{AXIS}{axis}") + 1
        found = found.add_column(at, f"{LABEL}{axis}" if is_taken else axis, column)
    return found.replace_schema_metadata({OWN_TABLE: _described(opened, index).encode()})


def _labels(labels: Sequence[Label]) -> Any:
    """The labels of an axis as a column: numbers, texts, times in UTC if they say so, durations."""
    import pyarrow as pa

    first = labels[0]
    if isinstance(first, datetime.datetime):
        zone = "UTC" if first.tzinfo is not None else None
        return pa.array(labels, pa.timestamp("us", zone))
    if isinstance(first, datetime.timedelta):
        return pa.array(labels, pa.duration("us"))
    numbers = [label for label in labels if isinstance(label, int | float)]
    if len(numbers) == len(labels) and all(abs(number) < _LONG for number in numbers):
        is_whole = all(isinstance(number, int) for number in numbers)
        return pa.array(numbers, pa.int64() if is_whole else pa.float64())
    return pa.array([shown_name(str(label)) for label in labels], pa.string())


def _described(opened: Opened, index: Sequence[Any]) -> str:
    """What the table says of its grid, of which some indices may have no file."""
    grid, numbered = opened.grid, opened.sources[0].reader.headers.context.member
    absent: dict[str, Mapping[int, Any]] = {}
    for axis, labels, numbers in zip(grid.fields, grid.labels, index, strict=True):
        of_none = np.setdiff1d(np.arange(len(labels)), numbers).tolist()
        if of_none:
            shown = {i: labels[i] for i in of_none}
            absent[axis] = {
                i: label if isinstance(label, int | float) else str(label)
                for i, label in shown.items()
            }
    shape = dict(zip(grid.fields, grid.shape, strict=True))
    pages = {} if numbered is None else {"pages_are": numbered}
    return json.dumps({"n_rows": grid.n_files, "shape": shape, "labels": absent, **pages})
