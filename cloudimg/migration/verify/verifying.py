"""`Verifying`: the checks of a copy, one after the other, and what they have found."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from cloudimg.discovery.unmatched import OF_LISTING
from cloudimg.distributed.run import Client, client_of, run_on_cluster
from cloudimg.errors import CloudimgError, CorruptFileError, counted
from cloudimg.migration.journal.clearing import leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files, table_key
from cloudimg.migration.journal.inventory import EndMark, read_end_mark
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from cloudimg.migration.journal.records import read_records
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.edits import Difference, Edit, Edits
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.overview import without_pixels_of_overview
from cloudimg.migration.progress import AdvanceCallback, Counter
from cloudimg.migration.run.committed import CommittedCells
from cloudimg.migration.run.contents import Listed, compare_documents, keys_beyond
from cloudimg.migration.run.inputs import Input
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cell_bytes, cells_in_flight, mean_cell_bytes
from cloudimg.migration.run.notes_by_cell import NotesByCell
from cloudimg.migration.verify.against import Against
from cloudimg.migration.verify.beside_cells import (
    flaw_of_plan_copy,
    flaws_of_retired,
    known_keys,
    sorted_listing,
)
from cloudimg.migration.verify.check_cell import CheckedCell, check_cell
from cloudimg.migration.verify.damage import Damage
from cloudimg.migration.verify.findings import Checks
from cloudimg.migration.verify.result import Problem, Verification

_MOST_PROBLEMS = 1000
"""Problems that are kept for the result; further ones are only counted."""


def checks_of(destination: Destination, state: State) -> Checks:
    """What to compare the cells of a copy with, apart from its source."""
    return Checks(
        plan=state.plan,
        destination=destination,
        source=None,
        sampled=None,
        lists_all=state.is_current,
        recorded_source=state.source,
        plan_id=state.id,
    )


class Verifying:
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
        self.damage = Damage.none(state.plan)
        self._written: dict[str, bytes] = {}

    def run(self, against: Against | None, progress: AdvanceCallback | None) -> Verification:
        """Check all cells, then everything else."""
        started = time.monotonic()
        checks = replace(
            checks_of(self.destination, self.state),
            source=self._source(against),
            sampled=None if against is None else against.sampled(self.plan.n_cells(0)),
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
        self._check_rest()
        return self._result(against, started)

    def run_again(self, cells: Sequence[Collection[int]]) -> Verification:
        """Check some cells, by stage; of the others, only that they have a commit record."""
        started = time.monotonic()
        checks = checks_of(self.destination, self.state)
        counter = Counter(what="", n_cells=0, n_done=0, bytes_left=0, progress=None)
        for stage, numbers in enumerate(cells):
            self._check_stage(checks, stage, counter, sorted(numbers))
            others = (n for n in range(self.plan.n_cells(stage)) if n not in numbers)
            for number, record in read_records(self.destination, stage, others):
                if record is None or record.plan_id != self.state.id:
                    self.has_all_records = False
                    self.damage.cells[stage].add(number)
                    continue
                self.committed.add(record)
                self.n_objects += sum(1 for _ in record.objects())
        self._check_rest()
        return self._result(None, started)

    def _check_rest(self) -> None:
        """Check what the cells add up to, and all other objects."""
        end_mark = self._read_end_mark()
        self.damage.has_other_records = end_mark is None or not self.has_all_records
        if end_mark is not None and self.has_all_records:
            self._compare_end_mark(end_mark)
        self._check_metadata()
        self._check_plan_copy()
        self._check_table()
        self._find_orphaned_objects()

    def _result(self, against: Against | None, started: float) -> Verification:
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
        if against is None:
            return notes
        return notes + against.newer(self.state.source, may_grow=self.state.plan.grow is not None)

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
        what = "the end mark is missing: the migration was not finished"
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
            self.damage.has_other_records = True
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

    def _check_plan_copy(self) -> None:
        what = flaw_of_plan_copy(self.destination, self.state)
        if what:
            self.add(self.destination.display(PLAN_COPY), what)

    def _check_table(self) -> None:
        """Check the stored table of the source's files."""
        try:
            get_files(self.destination, self.state)
        except CorruptFileError as exc:
            self.damage.lacks_table = True
            self.add(self.destination.display(table_key(self.state.files_sha256)), exc.message)

    # ----------------------------------------------------------------------------------- cells

    def _check_stage(
        self, checks: Checks, stage: int, counter: Counter, chosen: Sequence[int] | None = None
    ) -> None:
        """Check the cells of a stage: all, or those that are chosen."""
        size = mean_cell_bytes(self.plan, stage)
        is_checked = np.zeros(self.plan.n_cells(stage), bool)

        def report(checked: CheckedCell) -> None:
            is_checked[checked.number] = True
            self._add_all(checked.problems)
            if checked.problems:
                self.damage.cells[stage].add(checked.number)
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
        numbers = range(self.plan.n_cells(stage)) if chosen is None else chosen
        if self.client is None:
            in_flight = cells_in_flight(self.plan, self.max_bytes)
            run_locally(work, numbers, in_flight=in_flight, report=report)
        else:
            run_on_cluster(
                client_of(self.client),
                work,
                numbers,
                step=self.destination.step("verify"),
                max_bytes=self.max_bytes,
                piece_bytes=cell_bytes(self.plan),
                report=report,
            )
        n_unchecked = len(numbers) - int(is_checked.sum())
        if n_unchecked:
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
        """What follows from plan and commit records, once all cells were checked."""
        if not self._written:
            self._written = dict(self.committed.documents(self.state.facts, self.destination))
            if any(self.damage.cells):
                self._written = without_pixels_of_overview(self.plan, self._written)
        return self._written

    def _facts(self) -> ImageFacts:
        """The facts, with what the cells noticed."""
        return self.state.facts.with_notes(self.committed.all_notes())

    def _find_orphaned_objects(self) -> None:
        """Report objects that neither plan nor commit records list; readers may use them."""
        for path in leftovers(self.destination):
            what = "left over from a write that was killed: running the migration again deletes it"
            self.add(str(path), what)
        for path in self.destination.links():
            self.damage.links.append(path)
            self.add(str(path), "is a symbolic link: what readers find there is not of the copy")
        listed = Listed(self.plan, self._documents() if self.has_all_records else {})
        retired: list[str] = []
        for flaw in sorted_listing(self.destination, self.plan, listed, retired):
            self._add_foreign(flaw.key, flaw.what)
        for flaw in flaws_of_retired(self.destination, retired):
            self.add(self.destination.display(flaw.key), flaw.what)
        if not self.has_all_records:
            return
        # Without problems nothing is missing: equal numbers mean equal sets.
        if self.n_problems or listed.n_pixels != self.n_objects:
            known = set(known_keys(self.destination, self.plan))
            for key in keys_beyond(self.destination, self.plan, known):
                self._add_foreign(key, "does not belong to the image")
        for each in listed.differences(self.destination):
            if isinstance(each, Edit):
                self.edits.add(each)
            else:
                self._add_foreign(each.key, each.what)

    def _add_foreign(self, key: str, what: str) -> None:
        self.damage.foreign.append(key)
        self.add(self.destination.display(key), what)
