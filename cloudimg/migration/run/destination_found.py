"""`DestinationFound`: what a dry run finds at the destination. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from dask.utils import format_bytes

from cloudimg.errors import counted

_UNKNOWN = "not tried: that takes a probe, an object that is stored and deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationFound:
    """What is at a destination, and what keeps a migration from writing there."""

    url: str
    """URL of the destination."""
    holds: str
    """What is there, as text."""
    problems: tuple[str, ...] = ()
    """Why `migrate` would be refused, or would fail; empty if nothing speaks against it."""
    notes: tuple[str, ...] = ()
    """What else should be known."""
    is_continued: bool = False
    """Whether the migration that is there would go on, or is finished."""
    n_objects: int | None = None
    """Objects that are there, and that ``overwrite=True`` would delete unless the migration goes
    on; None if that is not known."""
    n_bytes: int | None = None
    """Bytes in them."""
    is_writable: bool | None = None
    """Whether objects can be stored; None if that was not tried."""
    fences: bool | None = None
    """Whether the store refuses to create an object that exists; None if that was not tried."""
    free_bytes: int | None = None
    """Room on a local disk, without quotas of users; None for other stores."""

    def spoken(self, speak: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Self:
        """The same with its texts in other words."""
        (holds,) = speak((self.holds,))
        return replace(self, holds=holds, problems=speak(self.problems), notes=speak(self.notes))

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"destination: {self.url} holds {self.holds}"]
        if self.n_objects and not self.is_continued:
            what = f"{counted(self.n_objects, 'object')} of {format_bytes(self.n_bytes or 0)}"
            lines.append(f"  to overwrite deletes {what}")
        if not self.problems or self.is_writable is not None:
            lines.append(f"  writable: {_answer(self.is_writable)}")
        if self.fences is not None or not self.problems:
            lines.append(f"  refuses to create an object that exists: {_answer(self.fences)}")
        if self.free_bytes is not None:
            lines.append(f"  free: {format_bytes(self.free_bytes)}")
        lines += [f"  note: {note}" for note in self.notes]
        return [*lines, *(f"  problem: {problem}" for problem in self.problems)]


def _answer(is_so: bool | None) -> str:
    return _UNKNOWN if is_so is None else "yes" if is_so else "no"
