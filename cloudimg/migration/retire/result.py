"""`Retirement`: what retiring the originals of a copy did, or would do. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from dask.utils import format_bytes

from cloudimg.errors import counted
from cloudimg.migration.export.result import NotWritten

_MOST_LEFT = 1000
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Left:
    """A file that was not touched, or not brought back."""

    url: str
    """Its URL, without credentials."""
    why: str

    def __str__(self) -> str:
        return f"{self.url}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """What was done to the originals of a copy, or would be done. True if none was left out.

    `str` gives a report.
    """

    url: str
    """URL of the copy, without credentials."""
    action: str
    """What is done to each file: ``tag KEY=VALUE``, ``move to URL``, or ``undo`` before one."""
    is_dry_run: bool
    """Whether nothing was done."""
    n_files: int
    """Number of files that were copied."""
    n_bytes: int
    """Size of these files in bytes."""
    n_done: int = 0
    """How many of them this run has tagged, moved or brought back."""
    n_before: int = 0
    """How many of them were so before this run."""
    left: tuple[Left, ...] = ()
    """The first thousand files that were left as they are, although they were copied."""
    n_left: int = 0
    """Number of these files."""
    stays: tuple[str, ...] = ()
    """What lies beside the files and is not touched."""
    not_held: tuple[NotWritten, ...] = ()
    """What `cloudimg.export` cannot write again of the files, by kind."""
    notes: tuple[str, ...] = ()
    """What was noticed about the files when they were copied and verified."""
    proof: str = ""
    """How it was found that the copy has the pixels of the files; empty in a dry run."""
    manifest: str = ""
    """URL of the list of the files, with the way back; empty if there is none."""

    def __bool__(self) -> bool:
        return self.n_left == 0

    def __str__(self) -> str:
        lines = [self._summary()]
        if self.proof:
            lines.append(self.proof)
        lines += [f"not touched: {each}" for each in self.stays]
        lines += [
            f"not in the copy: {each.what} of {counted(each.n_files, 'file')}, such as"
            f" {each.example} ({each.why})"
            for each in self.not_held
        ]
        lines += [f"note: {note}" for note in self.notes]
        if self.n_left:
            lines.append(f"{left_in_words(self)}:")
            lines += [f"  {each}" for each in self.left[:_SHOWN]]
            if self.n_left > _SHOWN:
                lines.append(f"  and {self.n_left - _SHOWN} more")
        return "\n".join(lines + self._next_step())

    def _summary(self) -> str:
        files = f"{counted(self.n_files, 'file')} ({format_bytes(self.n_bytes)})"
        if self.is_dry_run:
            return f"{self.url}: {self.action} for {files}: a dry run, nothing was changed"
        before = f", {self.n_before} before" if self.n_before else ""
        return f"{self.url}: {self.action}: {self.n_done} of {files} done{before}"

    def _next_step(self) -> list[str]:
        if self.is_dry_run:
            return [
                "with execute=True, all pixels are compared with the copy first, and files whose"
                " version changed are left as they are"
            ]
        if self.manifest:
            return [f"the way back is in {self.manifest}: undo=True reads it"]
        return []

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON."""
        return {
            "url": self.url,
            "action": self.action,
            "is_dry_run": self.is_dry_run,
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "n_done": self.n_done,
            "n_before": self.n_before,
            "n_left": self.n_left,
            "left": [{"url": each.url, "why": each.why} for each in self.left],
            "stays": list(self.stays),
            "not_held": [
                {"what": each.what, "why": each.why, "n_files": each.n_files}
                for each in self.not_held
            ],
            "notes": list(map(str, self.notes)),
            "proof": self.proof,
            "manifest": self.manifest,
        }


def left_in_words(done: Retirement) -> str:
    """How many files were, or would be, left as they are."""
    is_one = done.n_left == 1
    verb = "would be" if done.is_dry_run else "was" if is_one else "were"
    return f"{counted(done.n_left, 'file')} {verb} left as {'it is' if is_one else 'they are'}"


class Tally:
    """Counts what became of the files, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.left: list[Left] = []

    def add(self, outcome: Outcome) -> None:
        """Count a file."""
        self.counts[outcome.kind] += 1
        if outcome.left is not None and len(self.left) < _MOST_LEFT:
            self.left.append(outcome.left)


DONE, BEFORE, LEFT = "done", "before", "left"
"""What became of a file: acted on by this run, by an earlier one, or left as it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    kind: str
    left: Left | None = None
    """Why it was left as it is."""
