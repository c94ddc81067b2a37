"""`verify`: check that a copy is complete and correct, or list its problems."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from cloudimg.discovery.unmatched import OF_LISTING
from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import CloudimgError, CorruptFileError, counted
from cloudimg.migration.journal.clearing import leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files, table_key
from cloudimg.migration.journal.inventory import EndMark, read_end_mark
from cloudimg.migration.journal.layout import END_MARK, PLAN, JournalKind, journal_kind
from cloudimg.migration.journal.records import cell_of, read_records
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.edits import Difference, Edit, Edits
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.progress import AdvanceCallback, Counter
from cloudimg.migration.run.committed import CommittedCells
from cloudimg.migration.run.contents import Listed, compare_documents, keys_beyond
from cloudimg.migration.run.inputs import Input
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.migration.run.notes_by_cell import NotesByCell
from cloudimg.migration.verify.against import Against
from cloudimg.migration.verify.check_cell import CheckedCell, check_cell
from cloudimg.migration.verify.findings import Checks
from cloudimg.migration.verify.result import Problem, Verification

_MOST_PROBLEMS = 1000
"""Problems that are kept for the result; further ones are only counted."""


def verify(
    destination: Destination,
    state: State,
    against: Against | None,
    *,
    unreadable: str = "",
    max_bytes: int,
    client: Client | None,
    progress: AdvanceCallback | None,
) -> Verification:
    """Read a copy again and compare it with its journal.

    Parameters
    ----------
    destination : Destination
        The copy.
    state : State
        The migration that wrote it.
    against : Against, optional
        A source to compare the pixels with.
    unreadable : str
        Why the source could not be opened; empty if it was, or need not be.
    max_bytes : int
        Memory for cells in flight.
    client : distributed.Client or callable, optional
        Cluster that checks the cells; None: this process.
    progress : callable, optional
        Called after each cell.

    Raises
    ------
    ArgumentError
        If the copy cannot have been made from the source.
    StorageError
        If the store fails. Problems of the copy are part of the result.
    """
    work = _Verifying(destination, state, max_bytes=max_bytes, client=client)
    if unreadable:
        work.add(destination.url, f"the source cannot be opened: {unreadable}")
    return work.run(against, progress)


class _Verifying:
    """A verification in progress, and what it has found so far."""

    def __init__(
        self, destination: Destination, state: State, *, max_bytes: int, client: Client | None
    ) -> None:
        self.destination = destination
        self.state = state
        self.plan = state.plan
        self.max_bytes = max_bytes
        self.client = client
        self.problems: list[Problem] = []
        self.n_problems = 0
        self.n_objects = self.n_bytes = self.n_compared = 0
        self.edits = Edits()
        self.committed = CommittedCells(state.plan)
        self.notes_now = NotesByCell()
        self.has_all_records = True

    def run(self, against: Against | None, progress: AdvanceCallback | None) -> Verification:
        started = time.monotonic()
        end_mark = self._read_end_mark()
        checks = Checks(
            plan=self.plan,
            destination=self.destination,
            source=self._source(against),
            sampled=None if against is None else against.sampled(self.plan.n_cells(0)),
            lists_all=self.state.is_current,
            recorded_source=self.state.source,
            plan_id=self.state.id,
            compares_versions=against is not None and against.compares_versions,
        )
        stages = range(len(self.plan.stages))
        n_bytes = sum(mean_cell_bytes(self.plan, n) * self.plan.n_cells(n) for n in stages)
        if self.client is not None:
            client_of(self.client)  # connects before the clock of the progress starts
        counter = Counter(
            what="verifying",
            n_cells=self.plan.total_cells,
            n_done=0,
            bytes_left=n_bytes,
            progress=progress,
        )
        for stage in stages:
            self._check_stage(checks, stage, counter)
        if end_mark is not None and self.has_all_records:
            self._compare_end_mark(end_mark)
        self._check_metadata()
        self._check_table()
        self._find_orphaned_objects()
        return Verification(
            url=self.destination.url,
            n_cells=self.plan.total_cells,
            n_objects=self.n_objects,
            n_bytes=self.n_bytes,
            n_compared=self.n_compared,
            n_problems=self.n_problems,
            problems=tuple(self.problems),
            seconds=time.monotonic() - started,
            notes=self._all_notes(against),
            report=self.committed.filled.report(self.state.source.get("files", {})),
            filled=self.committed.filled.listed(),
            edits=tuple(self.edits.first),
            n_edits=self.edits.n,
        )

    def _all_notes(self, against: Against | None) -> tuple[str, ...]:
        """The notes of the copy, and those about the source as it is now, if it was read."""
        facts = self._facts()
        if against is not None:
            # Copies that were made by versions without notes have none of their own.
            found = against.write_input.facts.source_notes
            facts = facts.with_notes(tuple(each for each in found if each.kind not in OF_LISTING))
        notes = facts.with_notes(self.notes_now.notes()).all_notes
        return notes if against is None else notes + against.newer(self.state.source)

    def add(self, url: str, what: str) -> None:
        """Add a problem."""
        self._add_all([Problem(url, what)])

    def _add_all(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.n_problems += 1
            if len(self.problems) < _MOST_PROBLEMS:
                self.problems.append(problem)

    # ------------------------------------------------------------------- end mark, source, sample

    def _read_end_mark(self) -> EndMark | None:
        """The end mark; None, and a problem, if it is missing or of another migration."""
        what = "there is no end mark: the migration was not finished"
        try:
            end_mark = read_end_mark(self.destination)
        except CorruptFileError as exc:
            end_mark, what = None, exc.message
        if end_mark is not None:
            if (end_mark.plan_id, end_mark.n_cells) == (self.state.id, self.plan.total_cells):
                if not self.state.is_of(end_mark):
                    what = "is not the plan that the migration finished with"
                    self.add(self.destination.display(PLAN), what)
                return end_mark
            what = "the end mark is of another migration"
        self.add(self.destination.display(END_MARK), what)
        return None

    def _compare_end_mark(self, end_mark: EndMark) -> None:
        if end_mark.records_digest != self.committed.records_digest.digest():
            what = "the commit records are not those that the migration finished with"
            self.add(self.destination.display(END_MARK), what)
        recorded, found = end_mark.notes, self._facts().source_notes
        if [note.to_json() for note in recorded] != [note.to_json() for note in found]:
            what = "the end mark has other notes than the plan and the commit records"
            self.add(self.destination.display(END_MARK), what)

    def _source(self, against: Against | None) -> Input | None:
        """Pixels to compare with; problems if the source changed since the migration."""
        if against is None:
            return None
        pixels, changes = against.compared(self.state.source)
        for what in changes:
            self.add(self.destination.url, what)
        return pixels

    def _check_table(self) -> None:
        """Check the stored table of the source's files."""
        try:
            get_files(self.destination, self.state)
        except CorruptFileError as exc:
            self.add(self.destination.display(table_key(self.state.files_sha256)), exc.message)

    # ----------------------------------------------------------------------------------- cells

    def _check_stage(self, checks: Checks, stage: int, counter: Counter) -> None:
        size = mean_cell_bytes(self.plan, stage)
        is_checked = np.zeros(self.plan.n_cells(stage), bool)

        def report(checked: CheckedCell) -> None:
            is_checked[checked.number] = True
            self._add_all(checked.problems)
            self.n_objects += checked.n_objects
            self.n_bytes += checked.n_bytes
            self.n_compared += checked.is_compared
            self.notes_now.add(checked.number, checked.notes)
            if checked.record is None:
                self.has_all_records = False
            else:
                self.committed.add_checked(checked.record, checked.digest)
            counter.add(size)

        work = partial(check_cell, checks, stage)
        numbers: Iterable[int] = range(self.plan.n_cells(stage))
        if self.client is None:
            in_flight = cells_in_flight(self.plan, self.max_bytes)
            run_locally(work, numbers, in_flight=in_flight, report=report)
        else:
            run_on_cluster(
                client_of(self.client),
                work,
                numbers,
                max_bytes=self.max_bytes,
                piece_bytes=cell_bytes(self.plan),
                report=report,
            )
        if not is_checked.all():
            n_unchecked = int((~is_checked).sum())
            raise CloudimgError(
                f"{counted(n_unchecked, 'cell was', 'cells were')} not checked, although no error"
                " was reported: this is a bug in cloudimg"
            )

    # ------------------------------------------------------------------- metadata and other objects

    def _check_metadata(self) -> None:
        """Compare the metadata with what follows from plan and commit records."""
        if self.has_all_records:
            self._add_differences(compare_documents(self.destination, self._documents()))

    def _add_differences(self, differences: Iterable[Difference]) -> None:
        for each in differences:
            if isinstance(each, Edit):
                self.edits.add(each)
            else:
                self.add(self.destination.display(each.key), each.what)

    def _documents(self) -> dict[str, bytes]:
        return dict(documents(self.plan, self._facts(), self.committed.contrast.limits()))

    def _facts(self) -> ImageFacts:
        """The facts, with what the cells noticed."""
        return self.state.facts.with_notes(self.committed.all_notes())

    def _find_orphaned_objects(self) -> None:
        """Report objects that neither plan nor commit records list; readers may use them."""
        for path in leftovers(self.destination):
            what = "left over from a write that was killed: running the migration again deletes it"
            self.add(str(path), what)
        for path in self.destination.links():
            self.add(str(path), "is a symbolic link: what readers find there is not of the copy")
        listed = Listed(self.plan, self._documents() if self.has_all_records else {})
        for entry in self.destination.list():
            if journal_kind(entry.key) is None:
                listed.add(entry.key)
            elif not self._is_of_journal(entry.key):
                self.add(self.destination.display(entry.key), "does not belong to the journal")
        if not self.has_all_records:
            return
        # Without problems nothing is missing: equal numbers mean equal sets.
        if self.n_problems or listed.n_pixels != self.n_objects:
            for key in keys_beyond(self.destination, self.plan, set(self._known_keys())):
                self.add(self.destination.display(key), "does not belong to the image")
        self._add_differences(listed.differences(self.destination))

    def _is_of_journal(self, key: str) -> bool:
        # Beside a plan, the mark of who may not delete, or stored it late, means nothing.
        kind = journal_kind(key)
        if kind is JournalKind.RECORD:
            return cell_of(key, self.plan) is not None
        return kind is not JournalKind.OTHER

    def _known_keys(self) -> Iterator[str]:
        for stage in range(len(self.plan.stages)):
            numbers = range(self.plan.n_cells(stage))
            for _, record in read_records(self.destination, stage, numbers):
                if record is not None:
                    yield from (stored.key for stored in record.objects())
