"""What a field is, and how its texts stand for labels and labels for texts."""

from __future__ import annotations

import datetime
import operator
import re
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.pattern.regex import FLAGS, width_of
from cloudimg.pattern.times import read_time, write_time

Label = int | float | str | datetime.datetime


@dataclass(frozen=True, slots=True)
class Field:
    """One occurrence of a field in a pattern."""

    name: str
    """The axis that it names."""
    regex: str
    """What its text must match."""
    kind: str
    """``"int"``, ``"float"``, ``"str"`` or ``"time"``."""
    format: str
    """The strftime format for kind ``"time"``, else empty."""


def read_label(found: Field, text: str) -> Label:
    """Return the label that a text stands for in a field.

    Raises
    ------
    ArgumentError
        The text is no value of that field.
    """
    try:
        if found.kind == "int":
            return int(text)
        if found.kind == "float":
            return float(text)
        if found.kind == "time":
            return read_time(text, found.format)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"{text[:50]!r} is no value of field {found.name!r}") from error
    return text


def write_label(found: Field, spec: str, label: Label) -> str:
    """Return the canonical text of a label in a field."""
    text = ""
    try:
        if found.kind == "int" and isinstance(label, SupportsIndex):
            text = str(operator.index(label)).zfill(width_of(found.regex)[0])
        elif found.kind == "float" and isinstance(label, SupportsFloat):
            if spec == "f":  # never with an exponent
                text = np.format_float_positional(float(label), trim="0")
            else:
                text = repr(float(label)) if spec == "g" else format(float(label), spec)
        elif found.kind == "time" and isinstance(label, datetime.datetime):
            text = write_time(label, spec)
        elif found.kind == "str" and isinstance(label, str):
            text = label
    except (ValueError, OverflowError):
        pass  # told below, as for a text that does not fit
    if not text or not re.fullmatch(found.regex, text, FLAGS):
        raise ArgumentError(
            f"field {found.name!r} ({found.kind}, {spec or 'digits'}) cannot hold {label!r}"
        )
    return text
