"""`Migration`: what a migration returns."""

from __future__ import annotations

from dataclasses import dataclass

from dask.utils import format_bytes

from cloudimg.errors import counted
from cloudimg.errors.file_report import FileReport
from cloudimg.migration.metadata.edits import Edit, lines_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Result of a migration. `str` gives a short report."""

    url: str
    """URL of the copy, without credentials."""
    n_cells: int
    """Number of cells (units of work) of the whole migration."""
    n_done_before: int
    """Number of cells that earlier runs had already finished."""
    n_objects: int
    """Number of shards (in Zarr 2, chunks) that this run stored."""
    n_bytes: int
    """Size of these objects as stored, in bytes."""
    seconds: float
    """Duration of this run, in seconds."""
    notes: tuple[str, ...] = ()
    """What the source contains that the copy does not, and what was noticed about the source's
    files: a `cloudimg.Note` for each kind."""
    report: FileReport | None = None
    """Source files that were missing or bad, whose pixels are the fill value. If the copy was
    complete before, it has only a few of them; `verify` lists them."""
    only_metadata: bool = False
    """Whether all cells were finished before, and this run only wrote the metadata."""
    edits: tuple[Edit, ...] = ()
    """What others edited or added, as far as it was noticed, and was kept: the first thousand.
    `verify` finds all of it."""
    n_edits: int = 0
    """Number of these edits."""

    def __str__(self) -> str:
        if self.only_metadata:
            summary = (
                f"{self.url} is complete: all cells were finished before, this run wrote the"
                " metadata"
            )
        elif self.n_done_before == self.n_cells:
            summary = f"{self.url} is complete: nothing left to do"
        else:
            before = f" ({self.n_done_before} finished before)" if self.n_done_before else ""
            summary = (
                f"{self.url}: {counted(self.n_cells, 'cell')}{before}, stored"
                f" {counted(self.n_objects, 'object')} ({format_bytes(self.n_bytes)}) in"
                f" {self.seconds:.1f} s"
            )
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([summary, *lines_of(self.edits, self.n_edits), *notes])
