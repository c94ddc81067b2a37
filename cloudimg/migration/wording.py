"""Parts of messages. Pure."""

from __future__ import annotations


def counted(n: int, one: str, several: str | None = None) -> str:
    """A number and what it counts: ``1 cell``, ``2 cells``.

    Parameters
    ----------
    n : int
    one, several : str
        What follows the number if it is 1, and otherwise; by default `one` with an s.
    """
    return f"{n} {one if n == 1 else several or one + 's'}"
