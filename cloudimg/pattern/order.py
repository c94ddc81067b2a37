"""Natural order: numbers in texts by their value."""

from __future__ import annotations

import re


def natural_key(text: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """Return a sort key for natural order, "z2" before "z10"; distinct texts never tie."""
    # Digits by length and text: int() refuses long ones. Texts and digits alternate from a text
    # on, so like meets like; the whole text apart decides between "z2" and "z02".
    parts: list[str | tuple[int, str]] = []
    for i, part in enumerate(re.split("([0-9]+)", text)):
        stripped = part.lstrip("0")
        parts.append((len(stripped), stripped) if i % 2 else part)
    return tuple(parts), text
