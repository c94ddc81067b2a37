"""`Verification`: what verifying a copy returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dask.utils import format_bytes

from cloudimg.errors import counted
from cloudimg.errors.file_report import BadFile, FileReport
from cloudimg.errors.notes import Note
from cloudimg.migration.metadata.edits import Edit, lines_of


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a copy."""

    url: str
    """URL of the object, without credentials."""
    what: str
    """What is wrong with it."""
    cell: tuple[int, int] | None = None
    """Stage and number of the cell that it concerns; None if it concerns none."""

    def __str__(self) -> str:
        return f"{self.url}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Result of verifying a copy. True if there are no problems; `str` gives a report."""

    url: str
    """URL of the copy, without credentials."""
    n_cells: int
    """Number of cells (units of work) of the whole migration."""
    n_objects: int
    """Number of objects that commit records list: shards (in Zarr 2, chunks) and tables."""
    n_bytes: int
    """Size of these objects as read, in bytes."""
    n_compared: int
    """Number of cells whose pixels were compared with the source."""
    n_problems: int
    """Number of problems."""
    problems: tuple[Problem, ...]
    """The first thousand problems."""
    seconds: float
    """Duration in seconds."""
    notes: tuple[str, ...] = ()
    """What the source contains that the copy does not, and what was noticed about the source's
    files: a `cloudimg.Note` for each kind."""
    report: FileReport | None = None
    """Source files that were missing or bad, by kind: their pixels in the copy are the fill value.
    """
    filled: tuple[BadFile, ...] = ()
    """Each of them, up to a thousand of each kind."""
    edits: tuple[Edit, ...] = ()
    """What others edited in the metadata, or added beside the image: the first thousand. They are
    no problems."""
    n_edits: int = 0
    """Number of these edits."""

    @property
    def is_verified(self) -> bool:
        """Whether there are no problems."""
        return self.n_problems == 0

    def __bool__(self) -> bool:
        return self.is_verified

    def __str__(self) -> str:
        read = f"{counted(self.n_objects, 'object')} ({format_bytes(self.n_bytes)}) read"
        if self.n_compared:
            read += f", {counted(self.n_compared, 'cell')} compared with the source"
        edits = lines_of(self.edits, self.n_edits)
        remarks = [*edits, *(f"note: {note}" for note in self.notes)]
        if self.is_verified:
            about = f", {counted(self.n_edits, 'edit')}" if self.n_edits else ""
            about += f", {counted(len(self.notes), 'note')}" if self.notes else ""
            summary = f"{self.url} is verified: {read}, no problems{about}, in {self.seconds:.1f} s"
            return "\n".join([summary, *remarks, *self._filled_lines()])
        lines = [f"{self.url}: {counted(self.n_problems, 'problem')} ({read})"]
        lines += [f"  {problem}" for problem in self.problems]
        if self.n_problems > len(self.problems):
            lines.append(f"  and {self.n_problems - len(self.problems)} more")
        return "\n".join([*lines, *remarks, *self._filled_lines()])

    def _filled_lines(self) -> list[str]:
        if not self.report:
            return []
        lines = [f"filled: {self.report.summary}", *(f"  {file}" for file in self.filled)]
        if self.report.total > len(self.filled):
            lines.append(f"  and {self.report.total - len(self.filled)} more")
        return lines

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON; notes about files once more, with their parts."""
        about_files = [note.to_json() for note in self.notes if isinstance(note, Note)]
        report = None if self.report is None else self.report.to_json()
        return {
            "is_verified": self.is_verified,
            **asdict(self),
            "source_notes": about_files,
            "report": report,
        }
