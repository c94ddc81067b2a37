"""What users type as the values of options, and what the library takes instead."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from cloudimg.errors import ArgumentError


def by_axis(text: str) -> list[tuple[str, int]]:
    """A number for each axis, or one for all of them (under an empty name)."""
    if re.fullmatch(r"-?\d+", text):
        return [("", int(text))]
    matches = [re.fullmatch(r"(\w+)=(-?\d+)", part) for part in text.split(",")]
    if not all(matches):
        raise argparse.ArgumentTypeError("must be AXIS=N, separated by commas, as in y=256,x=256")
    return [(match[1], int(match[2])) for match in matches if match]


def extents(pairs: list[tuple[str, int]] | None) -> Any:
    """Numbers of `by_axis` as the library takes them."""
    if pairs is None:
        return None
    return pairs[0][1] if pairs[0][0] == "" else dict(pairs)


def steps(factors: list[list[tuple[str, int]]] | None) -> Any:
    """Factors, given once for all levels or once for each, as the library takes them."""
    if factors is None:
        return None
    by_level = [extents(each) for each in factors]
    return by_level[0] if len(by_level) == 1 else by_level


def sizes(text: str) -> list[tuple[str, str]]:
    """A size for each axis, or one for y and x: ``x=325nm,z=2um``."""
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        axis, is_axis, size = part.partition("=")
        if pairs and not is_axis:
            # A decimal comma would otherwise make sizes of two numbers: of 0,325 it made 325.
            raise argparse.ArgumentTypeError(
                "must be AXIS=SIZE, separated by commas, as in x=0.325um,z=2um: numbers have a"
                " decimal point"
            )
        pairs += [(axis.strip(), size)] if is_axis else [(dim, part) for dim in ("y", "x")]
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError("must name each axis once, as in x=0.325um,z=2um")
    return pairs


def codec(text: str | None) -> Any:
    """A codec by its name, or as JSON."""
    if text is None or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"--codec is not valid JSON: {error}") from error


def price(text: str) -> tuple[str, float]:
    """Kind of a request, and dollars for a thousand of them."""
    match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)", text)
    if match is None:
        raise argparse.ArgumentTypeError("must be KIND=DOLLARS, such as put=0.005")
    return match[1], float(match[2])


def sample(text: str) -> int | float:
    """Number of cells, or fraction of all."""
    try:
        value = float(text) if "." in text else int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError("must be a number of cells, or a fraction such as 0.1")
    return value
