"""What an export wrote, and what of the originals it did not write. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import counted

Lost = tuple[str, str]
"""What is not written, and why."""


@dataclass(frozen=True, slots=True)
class NotWritten:
    """Something of the originals that exported files lack."""

    what: str
    """Name of a tag, or what else it is."""
    why: str
    """Why it is not written."""
    n_files: int
    """How many files have it."""
    example: str
    """Name of one of these files."""

    def __str__(self) -> str:
        return f"{self.what} of {counted(self.n_files, 'file')}: not written ({self.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """An export."""

    n_files: int
    """Number of files that the folder has now."""
    n_present: int
    """How many of them had been exported before, and were not written again."""
    not_written: tuple[NotWritten, ...]
    """What the files lack, by kind."""

    @property
    def before(self) -> str:
        """How many files were there before, in words for a message; empty if none was."""
        return f", {self.n_present} of them before" if self.n_present else ""

    def __str__(self) -> str:
        lines = [f"{counted(self.n_files, 'file')} written{self.before}"]
        return "\n".join([*lines, *map(str, self.not_written)])

    def to_json(self) -> dict[str, Any]:
        """The result as JSON."""
        return {
            "n_files": self.n_files,
            "n_present": self.n_present,
            "not_written": [
                {"what": each.what, "why": each.why, "n_files": each.n_files,
                 "example": each.example}
                for each in self.not_written
            ],
        }  # fmt: skip


class LostByKind:
    """Counts what files lack, in memory that does not grow with the number of files."""

    def __init__(self) -> None:
        self._found: dict[Lost, tuple[int, str]] = {}

    def add(self, name: str, lost: Iterable[Lost]) -> None:
        """Add what one file lacks."""
        for kind in lost:
            count, example = self._found.get(kind, (0, name))
            self._found[kind] = (count + 1, example)

    def all(self) -> tuple[NotWritten, ...]:
        """All kinds, by name."""
        return tuple(
            NotWritten(what, why, count, example)
            for (what, why), (count, example) in sorted(self._found.items())
        )
