"""`repair`: the steps of a repair, in order.

1. Find the right one of the two stored plans, and verify the copy by it.
2. Acquire the lease of the copy.
3. Store again what the journal lacks: the plans, and the table of files.
4. Mend the cells that have problems, stage by stage; what needs the source last.
5. Store the metadata that is missing or damaged. What others edited stays.
6. Store the end mark again, if it is missing, or if cells have other records now.
7. Check what was mended, and everything that is not a cell. Delete what does not belong to the
   copy, if that is wanted.

The end mark stays while a copy is being repaired. It says what the copy consists of, so that a
repair that was killed leaves a damaged copy, which the next one mends, and never one that counts as
whole because nobody knows what is missing. A new end mark is stored only if nothing is left that is
beyond repair, and if all commit records are known to be those of the migration.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from cloudimg.errors import ArgumentError, CloudimgError, GridError, NotFoundError
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.clearing import delete_all, remove_leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import table_key
from cloudimg.migration.journal.inspecting import is_of_other_format
from cloudimg.migration.journal.layout import END_MARK, PLAN, RETIRED_LIST
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.plans import StoredPlans, read_plans
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.plan.overview import without_pixels_of_overview
from cloudimg.migration.plan.places import is_own_folder
from cloudimg.migration.progress import notify_of
from cloudimg.migration.repair.mend_cells import CellMender
from cloudimg.migration.repair.mend_rest import (
    mend_documents,
    mend_end_mark,
    mend_plans,
    mend_table,
    written_documents,
)
from cloudimg.migration.repair.new_documents import Renewal
from cloudimg.migration.repair.options import (
    OpenOriginal,
    Original,
    RepairOptions,
    may_delete,
)
from cloudimg.migration.repair.result import Repair
from cloudimg.migration.run.cell import Job
from cloudimg.migration.run.committed import CommittedCells, committed_cells
from cloudimg.migration.verify.damage import Damage
from cloudimg.migration.verify.result import Problem, Verification
from cloudimg.migration.verify.verifying import Verifying, checks_of
from cloudimg.storage.moving import remove


def repair(destination: Destination, open_original: OpenOriginal, options: RepairOptions) -> Repair:
    """Mend a copy.

    Parameters
    ----------
    destination : Destination
        The copy.
    open_original : callable
        Called only if something can be made from the source alone.
    options : RepairOptions

    Raises
    ------
    ArgumentError
        If the destination holds no finished copy.
    CorruptFileError, DamagedCopyError
        If it has no plan that can be read and is its own.
    LeaseError
        If another process writes to it.
    StorageError
        If a store fails. What was mended by then stays, and another repair continues.
    """
    started = time.monotonic()
    plans = read_plans(destination)
    _refuse_unfinished(destination, plans)
    if options.dry_run and options.new_documents:
        renewal = Renewal(destination, plans, open_original, options)
        return renewal.run(started, fences=plans.state.fences)
    if options.dry_run:
        found, _ = _find(destination, plans, options)
        return Repair.of(found, found, started, is_dry_run=True)
    with acquire(destination, notify=partial(notify_of, options.progress)) as lease:
        plans = read_plans(destination)  # again, as the only writer
        if options.new_documents:
            renewal = Renewal(lease.guarded(), plans, open_original, options)
            return renewal.run(started, fences=lease.fences)
        return _Repairing(destination, lease, plans, open_original, options).run(started)


def _refuse_unfinished(destination: Destination, plans: StoredPlans) -> None:
    """Refuse a migration that was not finished: it has neither end mark nor root metadata.

    One that grows has root metadata all the time, and each end mark is made by the migration.

    Raises
    ------
    ArgumentError
    """
    state = plans.state
    if not state.is_current:
        raise is_of_other_format(destination, state.format)
    if state.end_mark is not None:
        return
    *_, (root, _) = documents(state.plan, state.facts, {})
    if state.plan.grow is None:
        with suppress(NotFoundError):
            destination.info(root)
            return
    raise ArgumentError(
        f"{destination.url} is not finished: run the same migration again to continue it",
        url=destination.url,
    )


def _find(
    destination: Destination, plans: StoredPlans, options: RepairOptions
) -> tuple[Verification, Damage]:
    """Verify a copy, by the right one of its plans."""
    work = _verifying(destination, plans, options)
    found = work.run(None, options.progress)
    if PLAN in plans.broken:
        what = "is missing, damaged, or not the plan that the migration finished with"
        problem = Problem(destination.display(PLAN), what)
        problems = (problem, *found.problems)
        found = replace(found, n_problems=found.n_problems + 1, problems=problems)
    return found, work.damage


def _verifying(destination: Destination, plans: StoredPlans, options: RepairOptions) -> Verifying:
    return Verifying(destination, plans.state, max_bytes=options.max_bytes, client=options.client)


class _Repairing:
    """A repair in progress.

    Parameters
    ----------
    destination : Destination
    lease : Lease
        Of the destination.
    plans : StoredPlans
    open_original : callable
    options : RepairOptions
    """

    def __init__(
        self,
        destination: Destination,
        lease: Lease,
        plans: StoredPlans,
        open_original: OpenOriginal,
        options: RepairOptions,
    ) -> None:
        self._destination = lease.guarded()
        self._lease = lease
        self._plans = plans
        self._state = plans.state
        self._open_original = open_original
        self._opened: Original | None = None
        self._options = options
        self._mended: list[str] = []
        self._left: list[Problem] = []
        self._n_removed = 0
        self._cells = CellMender(
            job=Job(
                plan=plans.state.plan,
                source=None,
                destination=self._destination,
                lease=lease.view(),
                plan_id=plans.state.id,
                is_repair=True,
            ),
            checks=checks_of(self._destination, plans.state),
            open_source=lambda: self._original().source,
            max_bytes=options.max_bytes,
            client=options.client,
            progress=options.progress,
        )

    def run(self, started: float) -> Repair:
        """Mend what can be mended, and check that again."""
        found, damage = _find(self._destination, self._plans, self._options)
        if not found.n_problems:
            return Repair.of(found, found, started, is_dry_run=False)
        remove_leftovers(self._destination)
        fences = self._lease.fences
        self._mended += mend_plans(self._destination, self._plans, fences=fences)
        if self._removes_links(damage.links):
            _, damage = _find(self._destination, self._plans, self._options)  # what they hid
        if damage.lacks_table:
            self._mend_table()
        self._cells.mend(damage.cells)
        committed = self._proven_cells(damage)
        if committed is not None:
            written = written_documents(self._destination, self._state, committed)
            if self._cells.failures:
                written = without_pixels_of_overview(self._state.plan, written)
            self._mended += mend_documents(self._destination, written, fences=fences)
            if not (self._cells.failures or self._left):
                end_mark = mend_end_mark(
                    self._destination, self._plans, committed, written.items(), fences=fences
                )
                if end_mark:
                    self._mended += end_mark
                    self._plans = read_plans(self._destination)  # with the new end mark
        self._left += self._cells.beyond_repair()
        last, n_orphaned = self._check_again()
        return Repair.of(
            found,
            last,
            started,
            is_dry_run=False,
            mended=[*self._cells.mended, *self._mended],
            left=self._left,
            n_removed=self._n_removed,
            n_orphaned=n_orphaned,
        )

    def _original(self) -> Original:
        if self._opened is None:
            try:
                self._opened = self._open_original(self._state)
            except (NotFoundError, GridError) as exc:
                failure = self._with_place(exc)
            else:
                return self._opened
            raise failure
        return self._opened

    def _with_place(self, failure: CloudimgError) -> CloudimgError:
        """An error that also says where the files are, if they were retired."""
        try:
            self._destination.info(RETIRED_LIST)
        except NotFoundError:
            return failure
        return GridError(
            f"{failure.message}; the files were retired, and"
            f" {self._destination.display(RETIRED_LIST)} says how: bring them back with"
            " cloudimg.retire(..., undo=True), or pass source= with their URL now",
            url=failure.url,
        )

    def _mend_table(self) -> None:
        try:
            files = self._original().write_input.files
            table = None if files is None else files()
            fences = self._lease.fences
            self._mended.append(mend_table(self._destination, self._state, table, fences=fences))
        except CloudimgError as exc:
            url = self._destination.display(table_key(self._state.files_sha256))
            self._left.append(Problem(url, f"beyond repair: {exc.message}"))
        self._opened = None  # with the table it can be told whether the source is the same

    def _proven_cells(self, damage: Damage) -> CommittedCells | None:
        """What all cells add up to; None if one is beyond repair.

        If the commit records are not those that the end mark names, and it is not known which one
        is another's, all cells are made again from the source.
        """
        committed = committed_cells(self._destination, self._state)
        end_mark = self._state.end_mark
        if committed is None or end_mark is None or not damage.has_other_records:
            return committed
        if committed.records_digest.digest() == end_mark.records_digest:
            return committed
        try:
            self._original()
        except CloudimgError as exc:
            what = f"beyond repair: only the source tells which commit record is wrong: {exc}"
            self._left.append(Problem(self._destination.display(END_MARK), what))
            return committed
        self._cells.mend_all_from_source()
        return committed_cells(self._destination, self._state)

    # ------------------------------------------------------------------- what does not belong there

    def _check_again(self) -> tuple[Verification, int]:
        """Check what was mended, and delete what does not belong to the copy if that is wanted.

        Returns
        -------
        tuple
            The verification without what was deleted, and number of objects that are left.
        """
        work = _verifying(self._destination, self._plans, self._options)
        for stage, number in self._cells.failures:
            work.damage.cells[stage].add(number)
        last = work.run_again(self._cells.to_check())
        foreign = work.damage.foreign
        if foreign and may_delete(self._destination, foreign, self._options):
            delete_all(self._destination, foreign)
            self._n_removed += len(foreign)
            gone = set(map(self._destination.display, foreign))
            problems = tuple(each for each in last.problems if each.url not in gone)
            n_left = last.n_problems - (len(last.problems) - len(problems))
            last, foreign = replace(last, problems=problems, n_problems=n_left), []
        return last, len(foreign) + len(work.damage.links)

    def _removes_links(self, links: Sequence[Path]) -> bool:
        """Delete symbolic links among the copy's objects, which hide these, if that is wanted."""
        root = Path(self._destination.root)
        own = [
            path
            for path in links
            if is_own_folder(self._state.plan, path.relative_to(root).as_posix())
        ]
        if not own or not may_delete(self._destination, [str(path) for path in own], self._options):
            return False
        with self._lease.writing():
            self._lease.check(in_store=True)
            for path in own:
                remove(path)
        self._n_removed += len(own)
        return True
