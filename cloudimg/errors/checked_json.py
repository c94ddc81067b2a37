"""Check values that were read from JSON: types, sizes, counts and names of fields. Pure.

What is read from a store may have been written by anybody. Nothing is done with a value before it
has passed one of these functions, which all raise a `ValueError` that names the field. It says
nothing of the content of texts, which may hold secrets. JSON has one type of number, so booleans
are told from integers here, and integers may be given where any number is expected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from cloudimg.errors.notes import Note

MOST_CHARACTERS = 2**16
"""Length of a text that is not limited otherwise, such as a URL."""
MOST_DEPTH = 64
"""Depth of nested values; Python's own limit would be reached in the middle of some work."""
GREATEST = 2**53
"""Greatest integer that all readers of JSON keep exactly (RFC 8259, section 6)."""
SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_NOTES = 10_000
_MOST_EXAMPLES = 64
_MOST_SHOWN = 300


def checked_object(
    value: Any, where: str, *, required: Collection[str] = (), optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """A JSON object that has all required fields and none that is not known."""
    if not isinstance(value, Mapping):
        raise unexpected(value, where, "an object")
    for name in required:
        if name not in value:
            raise ValueError(f"{where} has no {name}")
    unknown = [name for name in value if name not in required and name not in optional]
    if unknown:
        raise ValueError(f"{where} has {len(unknown)} unknown field(s)")
    return value


def checked_mapping(value: Any, where: str, *, most: int = 2**20) -> Mapping[str, Any]:
    """A JSON object with any names."""
    if not isinstance(value, Mapping) or len(value) > most:
        raise unexpected(value, where, f"an object with up to {most} fields")
    for name in value:
        checked_text(name, f"a name in {where}", most=4096)
    return value


def checked_list(value: Any, where: str, *, n: int | None = None, most: int = 2**20) -> list[Any]:
    """A list of `n` values, or of up to `most`."""
    if not isinstance(value, list) or len(value) > most or n not in (None, len(value)):
        raise unexpected(value, where, f"a list of {f'up to {most}' if n is None else n}")
    return value


def checked_text(
    value: Any, where: str, *, most: int = MOST_CHARACTERS, pattern: re.Pattern[str] | None = None
) -> str:
    """A text of limited length that matches a pattern as a whole."""
    if not isinstance(value, str) or len(value) > most:
        raise unexpected(value, where, f"a text of up to {most} characters")
    if pattern is not None and not pattern.fullmatch(value):
        raise ValueError(f"{where} is not of the form {pattern.pattern}")
    return value


def checked_optional_text(value: Any, where: str, *, most: int = MOST_CHARACTERS) -> str | None:
    """A text, or null."""
    return None if value is None else checked_text(value, where, most=most)


def checked_texts(
    value: Any, where: str, *, most: int = 2**20, characters: int = MOST_CHARACTERS
) -> list[str]:
    """A list of texts."""
    texts = checked_list(value, where, most=most)
    for i, text in enumerate(texts):
        checked_text(text, f"{where}[{i}]", most=characters)
    return texts


def checked_choice(value: Any, where: str, choices: Collection[Any]) -> Any:
    """One of a few values, of the same type: 1 is not True."""
    if not any(type(each) is type(value) and each == value for each in choices):
        raise unexpected(value, where, f"one of {', '.join(map(repr, choices))}")
    return value


def checked_bool(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise unexpected(value, where, "true or false")
    return value


def checked_int(value: Any, where: str, *, least: int = 0, greatest: int = GREATEST) -> int:
    """An integer, which is not a boolean, within limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= greatest:
        raise unexpected(value, where, f"an integer from {least} to {greatest}")
    return value


def checked_ints(
    value: Any,
    where: str,
    *,
    n: int | None = None,
    most: int = 64,
    least: int = 0,
    greatest: int = GREATEST,
) -> tuple[int, ...]:
    """A list of integers, such as a shape."""
    numbers = checked_list(value, where, n=n, most=most)
    return tuple(
        checked_int(each, f"{where}[{i}]", least=least, greatest=greatest)
        for i, each in enumerate(numbers)
    )


def checked_number(value: Any, where: str) -> float:
    """A finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_exact = isinstance(value, float) or (is_number and abs(value) <= GREATEST)
    if not is_number or not is_exact or not math.isfinite(value):
        raise unexpected(value, where, "a finite number")
    number: float = value
    return number


def checked_plain(value: Any, where: str) -> Any:
    """A value of any type whose depth is limited."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"{where} is nested more than {MOST_DEPTH} times")
        nested = (each for each in level if isinstance(each, list | Mapping))
        level = [
            below
            for each in nested
            for below in (each.values() if isinstance(each, Mapping) else each)
            if isinstance(below, list | Mapping)
        ]
    return value


def checked_notes(value: Any, where: str) -> tuple[Note, ...]:
    """Notes, as `cloudimg.errors.notes.notes_as_json` stores them."""
    found = []
    for i, each in enumerate(checked_list(value, where, most=_MOST_NOTES)):
        at = f"{where}[{i}]"
        note = checked_object(each, at, required=("kind", "text", "n_files", "urls"))
        checked_text(note["kind"], f"{at}.kind", most=256)
        checked_text(note["text"], f"{at}.text")
        checked_int(note["n_files"], f"{at}.n_files")
        checked_texts(note["urls"], f"{at}.urls", most=_MOST_EXAMPLES)
        found.append(Note.from_json(note))
    return tuple(found)


def unexpected(value: Any, where: str, expected: str) -> ValueError:
    """The error for a value that is not what is expected."""
    return ValueError(f"{where} is {_shown(value)}, not {expected}")


def damage(exc: Exception) -> str:
    """What such an error says, for a message: names of fields may be any text."""
    text = "".join(each if each.isprintable() else "?" for each in str(exc))
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def _shown(value: Any) -> str:
    """A value in a message: what it is, and numbers that are not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
