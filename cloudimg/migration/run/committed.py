"""What the commit records of all finished cells add up to."""

from __future__ import annotations

from cloudimg.errors.notes import Note
from cloudimg.migration.journal.inventory import RecordsDigest
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.contrast import Contrast
from cloudimg.migration.run.filled_files import FilledFiles
from cloudimg.migration.run.notes_by_cell import NotesByCell
from cloudimg.migration.run.source_rows import SeenVersions


class CommittedCells:
    """Contrast limits, notes, filled files and digest of all finished cells of all runs.

    Parameters
    ----------
    plan : Plan
    seen : SeenVersions, optional
        Gets the versions of the files that the cells have read.
    """

    def __init__(self, plan: Plan, seen: SeenVersions | None = None) -> None:
        self.contrast = Contrast(plan)
        self.notes = NotesByCell()
        self.filled = FilledFiles()
        self.records_digest = RecordsDigest(plan)
        self._seen = seen

    def all_notes(self) -> tuple[Note, ...]:
        """What the cells noticed about files, and which files they filled."""
        return (*self.notes.notes(), *self.filled.notes())

    def add(self, record: CommitRecord) -> None:
        """Add a finished cell."""
        self._sum_up(record)
        self.records_digest.add(record)
        if self._seen is not None:
            self._seen.add(record)

    def add_checked(self, record: CommitRecord, digest: bytes) -> None:
        """Add a cell that was verified: its record without sources, and the whole one's digest."""
        self._sum_up(record)
        self.records_digest.add_digest(record.stage, record.number, digest)

    def _sum_up(self, record: CommitRecord) -> None:
        self.contrast.add(record)
        self.notes.add(record.number, record.notes)
        self.filled.add(record.number, record.filled, record.n_missing)
