"""Fields: the axes that a pattern names, and the labels that their texts stand for."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cloudimg.errors import ArgumentError
from cloudimg.pattern.elapsed import read_elapsed
from cloudimg.pattern.times import read_time

Label = int | float | str | datetime.datetime | datetime.timedelta


@dataclass(frozen=True, slots=True)
class Field:
    """One occurrence of a field in a pattern."""

    name: str
    """Name of the axis."""
    regex: str
    """Regular expression that its text must match."""
    kind: str
    """``"int"``, ``"float"``, ``"str"``, ``"time"`` or ``"elapsed"``."""
    format: str
    """The format for the kinds ``"time"`` and ``"elapsed"``, else empty."""


def read_label(field: Field, text: str) -> Label:
    """Return the label that a text stands for in a field.

    Raises
    ------
    ArgumentError
        The text is not a value of that field.
    """
    try:
        if field.kind == "int":
            return int(text)
        if field.kind == "float":
            return float(text)
        if field.kind == "time":
            return read_time(text, field.format)
        if field.kind == "elapsed":
            return read_elapsed(text, field.format)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"{text[:50]!r} is not a value of field {field.name!r}") from error
    return text
