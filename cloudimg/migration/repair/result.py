"""`Repair`: what repairing a copy returns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from cloudimg.errors import counted
from cloudimg.migration.metadata.edits import Edit, lines_of
from cloudimg.migration.verify.result import Problem, Verification

MOST = 1000
"""What is kept of each kind; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Result of a repair. True if the copy has no problems afterwards; `str` gives a report."""

    url: str
    """URL of the copy, without credentials."""
    is_dry_run: bool
    """Whether nothing was to be changed."""
    n_found: int
    """Number of problems that were found."""
    found: tuple[Problem, ...]
    """The first thousand of them."""
    n_mended: int = 0
    """Number of cells, documents and objects of the journal that were stored again."""
    mended: tuple[str, ...] = ()
    """The first thousand of them, each with what it was made from."""
    n_removed: int = 0
    """Number of objects that did not belong to the copy and were deleted."""
    n_problems: int = 0
    """Number of problems that are left."""
    problems: tuple[Problem, ...] = ()
    """The first thousand of them: what is beyond repair, and what was not to be deleted."""
    n_orphaned: int = 0
    """How many of these are objects that do not belong to the copy, and were not to be deleted."""
    seconds: float = 0.0
    """Duration in seconds."""
    n_renewed: int | None = None
    """Number of documents that were written anew, or would be; None if that was not wanted."""
    renewed: tuple[str, ...] = ()
    """The first thousand of them."""
    notes: tuple[str, ...] = ()
    """What could not be made anew, and why."""
    edits: tuple[Edit, ...] = ()
    """What others edited or added, and was kept: the first thousand."""
    n_edits: int = 0
    """Number of these edits."""

    @classmethod
    def of(
        cls,
        found: Verification,
        last: Verification,
        started: float,
        *,
        is_dry_run: bool,
        mended: Sequence[str] = (),
        left: Sequence[Problem] = (),
        n_removed: int = 0,
        n_orphaned: int = 0,
    ) -> Self:
        """The result of a repair, from what verifying found before and after it.

        Parameters
        ----------
        found, last : Verification
        started : float
            `time.monotonic` at its beginning.
        is_dry_run, mended, left, n_removed, n_orphaned
            See `Repair`; what is left beside the problems of `last`.
        """
        return cls(
            url=found.url,
            is_dry_run=is_dry_run,
            n_found=found.n_problems,
            found=found.problems[:MOST],
            n_mended=len(mended),
            mended=tuple(mended[:MOST]),
            n_removed=n_removed,
            n_problems=len(left) + last.n_problems,
            problems=(*left, *last.problems)[:MOST],
            n_orphaned=n_orphaned,
            seconds=time.monotonic() - started,
            edits=last.edits,
            n_edits=last.n_edits,
        )

    def __bool__(self) -> bool:
        return self.n_problems == 0

    def __str__(self) -> str:
        lines = [self._summary()]
        lines += _listed("found", self.found, self.n_found)
        lines += _listed("mended", self.mended, self.n_mended)
        if not self.is_dry_run:
            lines += _listed("left", self.problems, self.n_problems)
        lines += _listed("written anew", self.renewed, self.n_renewed or 0)
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, *lines_of(self.edits, self.n_edits)])

    def _summary(self) -> str:
        found = counted(self.n_found, "problem")
        if self.n_renewed is not None:
            return f"{self.url}: {found}, {self._renewed()}"
        if self.is_dry_run:
            return f"{self.url}: {found}, nothing was changed"
        if not self.n_found:
            return f"{self.url} has no problems: nothing was changed"
        removed = f", {counted(self.n_removed, 'object')} removed" if self.n_removed else ""
        left = f"{counted(self.n_problems, 'problem')} left" if self.n_problems else "none left"
        return (
            f"{self.url}: {found}, {self.n_mended} mended{removed}, {left}, in {self.seconds:.1f} s"
        )

    def _renewed(self) -> str:
        anew = counted(self.n_renewed or 0, "document")
        if self.is_dry_run:
            return f"{anew} would be written anew, nothing was changed"
        left = f"{counted(self.n_problems, 'problem')} left" if self.n_problems else "none left"
        return f"{anew} written anew, {left}, in {self.seconds:.1f} s"

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        return {"is_repaired": bool(self), **asdict(self)}


def _listed(name: str, items: tuple[Any, ...], n_all: int) -> list[str]:
    lines = [f"  {name}: {each}" for each in items]
    return lines + ([f"  and {n_all - len(items)} more {name}"] if n_all > len(items) else [])
