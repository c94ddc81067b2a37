"""What the commit records of all finished cells add up to."""

from __future__ import annotations

from cloudimg.errors.notes import Note
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import RecordsDigest
from cloudimg.migration.journal.records import CommitRecord, read_records
from cloudimg.migration.journal.state import GrownFrom, State
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.image_place import ImagePlace
from cloudimg.migration.metadata.source_xml import SourceXml, merged
from cloudimg.migration.metadata.stage_origins import placed
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.contrast import Contrast
from cloudimg.migration.run.filled_files import FilledFiles
from cloudimg.migration.run.notes_by_cell import NotesByCell
from cloudimg.migration.run.overview import documents_of_overview
from cloudimg.migration.run.source_rows import SeenVersions


class CommittedCells:
    """Contrast limits, notes, OME-XML, places, filled files and digest of finished cells.

    Those of all runs.

    Parameters
    ----------
    plan : Plan
    seen : SeenVersions, optional
        Gets the versions of the files that the cells have read.
    before : CommittedCells, optional
        Gets the cells that the copy had before it has grown: those of its shorter plan.
    """

    def __init__(
        self,
        plan: Plan,
        seen: SeenVersions | None = None,
        before: CommittedCells | None = None,
    ) -> None:
        self._plan = plan
        self._before = before
        self.contrast = Contrast(plan)
        self.notes = NotesByCell()
        self.filled = FilledFiles()
        self._ome_xml: list[SourceXml] = []
        self._places: list[ImagePlace] = []
        self.records_digest = RecordsDigest(plan)
        self._seen = seen

    def all_notes(self) -> tuple[Note, ...]:
        """What the cells noticed about files, and which files they filled."""
        return (*self.notes.notes(), *self.filled.notes())

    def documents(self, facts: ImageFacts, copy: Destination) -> list[tuple[str, bytes]]:
        """The metadata of the copy, see `cloudimg.migration.metadata.documents.documents`.

        Parameters
        ----------
        facts : ImageFacts
            Those of the plan.
        copy : Destination
            The pixels of the finished cells, of which an overview is made.
        """
        facts = placed(facts.with_notes(self.all_notes()), self._plan, self._places)
        histograms = self.contrast.histograms()
        overview = documents_of_overview(copy, self._plan, facts, histograms)
        return [*overview, *documents(self._plan, facts, histograms, merged(self._ome_xml))]

    def add(self, record: CommitRecord) -> None:
        """Add a finished cell."""
        self._sum_up(record)
        self.records_digest.add(record)
        before = self._before
        if before is not None and record.number < before._plan.n_cells(record.stage):
            before.add(record)
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
        self._ome_xml += record.ome_xml
        self._places += record.places


def committed_cells(destination: Destination, state: State) -> CommittedCells | None:
    """What the commit records of all cells add up to; None if a cell has none."""
    committed = CommittedCells(state.plan)
    for stage in range(len(state.plan.stages)):
        numbers = range(state.plan.n_cells(stage))
        for _, record in read_records(destination, stage, numbers):
            if record is None or record.plan_id != state.id:
                return None
            committed.add(record)
    return committed


def documents_before(
    grown_from: GrownFrom, committed: CommittedCells, destination: Destination
) -> dict[str, bytes]:
    """The documents as they were written before a copy grew; only some if files came late."""
    if grown_from.written is None:
        return dict(committed.documents(grown_from.facts, destination))
    return {key: text.encode() for key, text in grown_from.written.items()}
