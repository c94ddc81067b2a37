"""`Part`: the cells that one of several independent processes does. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from cloudimg.errors import ArgumentError

_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts of a migration. `str` gives it as users write it."""

    index: int
    """Number of the part, from 0."""
    count: int
    """Number of parts."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a part as users write it: ``"0/8"`` to ``"7/8"``.

        Raises
        ------
        ArgumentError
        """
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        part = None if match is None else cls(int(match[1]), int(match[2]))
        if part is None or part.index >= part.count:
            raise ArgumentError(
                f"part={text!r} must be I/N: the number of this part, from 0 to N - 1, and the"
                " number of all parts, such as 0/8"
            )
        return part

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def share(self, n_cells: int) -> range:
        """Numbers of the cells of this part: neighbours, which read neighbouring files.

        Nothing but the part and the plan decides, so processes agree without asking each other.
        """
        first, stop = (n_cells * i // self.count for i in (self.index, self.index + 1))
        return range(first, stop)

    def shifted(self, n: int) -> Self:
        """The part some places further on, in a circle.

        With the images of a collection, lest the same parts do all small ones.
        """
        return type(self)((self.index + n) % self.count, self.count)
