"""The values in the columns of a table of files: numbers, labels and facts, row by row. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.arrow_columns import from_numbers
from cloudimg.discovery.fact_kinds import FACTS, NUMBER, TEXT, TIME, null_of
from cloudimg.errors import ArgumentError
from cloudimg.pattern import Label
from cloudimg.storage import redact, unsigned

Rows = npt.NDArray[np.int64]
"""Numbers of the rows in the table, counted from 0."""
_OFFSET = "acquired_offset"


def is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def column_at(batch: Any, path: str) -> Any:
    """The column of a batch with a name, or at a path in a column of structures."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if path in batch.schema.names:
        found = batch.column(path)
    else:
        head, *rest = path.split(".")
        found = pc.struct_field(batch.column(head), rest)
    if pa.types.is_dictionary(found.type):
        found = found.dictionary_decode()
    # Few functions of pyarrow take views of texts.
    return found.cast(pa.large_string()) if str(found.type) == "string_view" else found


def texts(column: Any) -> list[str | None]:
    """Texts, with None for nulls and empty ones."""
    import pyarrow as pa

    if not is_text(column.type):
        column = column.cast(pa.string())
    return [text or None for text in column.to_pylist()]


def whole_numbers(column: Any, name: str, rows: Rows) -> npt.NDArray[np.int64]:
    """Numbers from 0 on, with -1 for nulls, NaN and empty texts.

    Raises
    ------
    ArgumentError
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if is_text(column.type):
            column = pc.if_else(pc.equal(column, ""), None, column)
        elif pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        numbers = from_numbers(column.cast(pa.int64()), -1)
        is_right = numbers >= -1
    except pa.ArrowInvalid:
        numbers = np.array([_whole_number(value) for value in column.to_pylist()], np.int64)
        is_right = numbers >= -1
    if not is_right.all():
        row = int(np.argmin(is_right))
        raise _bad_value(column, row, name, rows, "a whole number from 0 on")
    return numbers


def _whole_number(value: Any) -> int:
    """A number such as 12 or "12.0"; -1 for None, and -2 for what is not one."""
    if value is None:
        return -1
    match = re.fullmatch(r"([0-9]{1,18})(\.0*)?", str(value))
    return int(match[1]) if match else -2


def labels_in(column: Any, name: str, rows: Rows) -> tuple[list[Label], npt.NDArray[Any]]:
    """The different labels of a column, and the number of the label in each row.

    Raises
    ------
    ArgumentError
        If a row has none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_float = pa.types.is_floating(column.type)
    absent = pc.is_null(column, nan_is_null=True)
    if is_text(column.type):
        absent = pc.or_kleene(absent, pc.equal(column, ""))
    row = pc.index(absent, True).as_py()
    if row >= 0:
        what = "NaN" if is_float and column[row].is_valid else "no value"
        raise ArgumentError(
            f"row {rows[row]} of the table, counted from 0, has {what} in the column"
            f" {name!r}, which is an axis: give it a value there, leave the row out, or leave the"
            " column out"
        )
    try:
        if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
            zone = getattr(column.type, "tz", None)
            column = column.cast(pa.timestamp("us", zone))
        elif pa.types.is_duration(column.type):
            column = column.cast(pa.duration("us"))
        encoded = column.dictionary_encode()
        found = [_plain(value) for value in encoded.dictionary.to_pylist()]
    except (pa.ArrowInvalid, ValueError, OverflowError) as exc:
        raise ArgumentError(
            f"the column {name!r} of the table has times that are not between the years 1 and 9999"
            f" in whole microseconds, from row {rows[0]} on: {exc}"
        ) from exc
    return found, from_numbers(encoded.indices)


def _plain(value: Any) -> Label:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC)
    label: Label = _shown(value) if isinstance(value, str) else value
    return label


def _shown(text: str) -> str:
    """A text without secrets, since labels and facts are shown and stored: it may be a URL."""
    return redact(unsigned(text)) if "://" in text else text


def facts_in_batch(batch: Any, names: Sequence[str], rows: Rows) -> dict[str, Any]:
    """The facts of a batch of rows, as `FactColumns.add_columns` takes them.

    Raises
    ------
    ArgumentError
    """
    found: dict[str, Any] = {}
    for name in names:
        column = column_at(batch, name)
        kind = FACTS[name].type
        if kind == TEXT:
            found[name] = np.array([_shown(text or "") for text in texts(column)], object)
            continue
        found[name] = _fact_numbers(column, name, kind, rows)
        if kind == TIME and getattr(column.type, "tz", None) and _OFFSET not in names:
            is_known = found[name] != null_of(name)
            found[_OFFSET] = np.where(is_known, "+00:00", "").astype(object)
    return found


def _fact_numbers(column: Any, name: str, kind: str, rows: Rows) -> npt.NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_text(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column)
    expected = "a number" if kind == NUMBER else "a time such as 2026-11-30T12:00:00"
    try:
        if kind == NUMBER:
            return from_numbers(column.cast(pa.float64()), np.nan)  # type: ignore[arg-type]
        # Nanoseconds may be cut off, but seconds must not overflow.
        is_exact = getattr(column.type, "unit", "") in ("s", "ms")
        times = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=is_exact)
        return from_numbers(times.view(pa.int64()), int(null_of(name)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        row = _first_that_fails(column, pa.float64() if kind == NUMBER else pa.timestamp("us"))
    raise _bad_value(column, row, name, rows, expected)


def _first_that_fails(column: Any, kind: Any) -> int:
    import pyarrow as pa

    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            column.slice(low, middle - low).cast(kind)
            low = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
            high = middle
    return low


def _bad_value(column: Any, row: int, name: str, rows: Rows, expected: str) -> ArgumentError:
    try:
        value = redact(str(column[row].as_py()))[:50]
    except (ValueError, OverflowError):  # a time that Python does not have
        value = str(column.view("int64")[row].as_py())
    return ArgumentError(
        f"row {rows[row]} of the table, counted from 0, has {value!r} in the column {name!r},"
        f" where {expected} or nothing should be"
    )
