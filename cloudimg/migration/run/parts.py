"""`write_part`: the cells of one part of a migration, as one of many processes without a lease.

1. Wait until no migration holds the lease. Inspect the destination, and refuse what is not empty
   and not of the same plan. A part never overwrites.
2. Take the plan that is stored there, with the files of its table, which are not listed again; or
   open the source, make the plan, and create it.
3. Do those cells of the first stage that are the part's and have no commit record.

Whether commit records are right is left to the migration that finishes the copy: it reads all of
them, and does all other cells. `journal.part_guard` says why parts do no harm.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from cloudimg.errors import ArgumentError, ChangedError, CloudimgError, OccupiedError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import (
    DestinationContents,
    inspect_destination,
    is_being_cleared,
)
from cloudimg.migration.journal.layout import RECORDS
from cloudimg.migration.journal.part_guard import PartGuard, does_not_fence
from cloudimg.migration.journal.records import CommitRecord, cell_of
from cloudimg.migration.journal.resuming import (
    refuse_foreign,
    refuse_other_plan,
    state_to_resume,
)
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_plan import create_plan
from cloudimg.migration.plan.part import Part
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import Counter, notify_of
from cloudimg.migration.run.cell import BadCell, Job, run_cell
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.filled_files import FilledFiles
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.migration.run.memory import cells_in_flight, mean_cell_bytes
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.overlap import refuse_overlap
from cloudimg.migration.run.planning import (
    OpenWriteInput,
    check_memory,
    plan_for_request,
    planned_state,
    shown_changes,
)
from cloudimg.migration.run.refused_files import cells_with_bad_files, report_of
from cloudimg.migration.run.result import Migration, PartOfCells
from cloudimg.migration.run.write import start_imports
from cloudimg.migration.run.write_input import WriteInput


def write_part(
    open_write_input: OpenWriteInput,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
    part: Part,
    outer: PartGuard | None = None,
) -> Migration:
    """Do the cells of a part that are left; see `write` for the other parameters.

    Parameters
    ----------
    open_write_input, destination, request, options
    part : Part
    outer : PartGuard, optional
        That of the collection to which the destination belongs.

    Raises
    ------
    ArgumentError
        If the destination holds something else, or a migration with other arguments or another
        source.
    LeaseError
        If a migration without a part holds the lease, or acquires it.
    ChangedError
        If files changed since the plan was made, or since another process read them.
    NotConditionalError
        If the store does not refuse to create an object that exists.
    BadFilesError
        If there are bad files, once all other cells are done.
    CloudimgError
        If reading or writing fails; finished cells stay finished.
    """
    started = time.monotonic()
    if request.grow is not None:
        raise ArgumentError(
            f"part= and grow={request.grow!r} exclude each other: leave out part=, or copy each"
            " part of a growing source to a destination of its own"
        )
    start_imports()
    guard = PartGuard(destination, partial(notify_of, options.progress), outer)
    contents = inspect_destination(destination)
    refuse_foreign(contents, destination)
    refuse_other_plan(contents, destination)
    if contents.is_clearing:
        raise is_being_cleared(destination)
    opening = _Opening(open_write_input, destination, request)
    state, write_input = contents.state, None
    if state is None:
        write_input = open_write_input(None)
        refuse_overlap(write_input, destination)
        planned = planned_state(
            plan_for_request(write_input, request), request, write_input, fences=True
        )
        check_memory(planned.plan, options)
        guard.require_fence()
        contents, state = opening.create(guard.guarded(), planned, write_input)
        if state.id != planned.id:  # another process was first, and perhaps listed other files
            write_input = opening.open_as_planned(contents, state)
    elif part.share(state.plan.n_cells(0)):
        write_input = opening.open_as_planned(contents, state)
        check_memory(state.plan, options)
        if not (state.is_done or state.fences):
            raise does_not_fence(destination)
    work = _Work(guard, destination, state, options, part)
    if write_input is not None and not state.is_done:
        work.run(write_input.mapped(is_plate=state.plan.plate is not None))
    return work.result(time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Opening:
    """Opens the source of a migration that several processes plan, and all in the same way."""

    open_write_input: OpenWriteInput
    destination: Destination
    request: WriteRequest

    def create(
        self, shared: Destination, planned: State, write_input: WriteInput
    ) -> tuple[DestinationContents, State]:
        """Create the plan, or find that of another process.

        Raises
        ------
        StorageError
        """
        with suppress(ChangedError):
            create_plan(shared, planned, write_input.files)
        contents = inspect_destination(self.destination)
        if contents.state is None:
            raise ChangedError(
                f"the plan at {self.destination.url} was deleted while this part began",
                url=self.destination.url,
            )
        return contents, contents.state

    def open_as_planned(self, contents: DestinationContents, state: State) -> WriteInput:
        """Open the files of the stored table, or else those that are there now.

        Raises
        ------
        ArgumentError, ChangedError
            If they or the arguments are not those of the plan.
        CloudimgError
            If the image cannot be opened.
        """
        earlier = EarlierSource.of(self.destination, state)
        if earlier is not None:
            # What only a listing shows may be missing, such as index files that place images.
            with suppress(CloudimgError):
                tabled = replace(earlier, lists_again=False)
                return self._require_same(contents, self.open_write_input(tabled), tabled)
        return self._require_same(contents, self.open_write_input(earlier), earlier)

    def _require_same(
        self,
        contents: DestinationContents,
        write_input: WriteInput,
        earlier: EarlierSource | None,
    ) -> WriteInput:
        """Refuse a source or arguments other than those of the stored plan."""

        def refuse_changed(state: State) -> bool:
            """Refuse files that changed, which a part cannot put into the plan."""
            if earlier is None or not earlier.fits(write_input):
                return False
            raise ChangedError(
                f"the source's files changed since {self.destination.url} was planned"
                f" ({shown_changes(earlier, write_input)}): run the same call without part=, which"
                " does the cells again that have read them",
                url=self.destination.url,
            )

        state = state_to_resume(
            contents,
            self.destination,
            self.request,
            write_input.source,
            overwrite=False,
            keeps_finished=False,
            resume=True,
            make_plan=lambda: plan_for_request(write_input, self.request),
            describe_changes=lambda _: shown_changes(earlier, write_input),
            may_continue=refuse_changed,
        )
        assert state is not None  # without overwrite=True nothing is begun anew
        planned, given = (
            each["open"].get("bad", "raise") for each in (state.source, write_input.source)
        )
        if planned != given and not state.is_done:
            raise OccupiedError(
                f'{self.destination.url} was planned with bad="{planned}", not with'
                f' bad="{given}": pass bad="{planned}", or leave out part=, since only a whole'
                " migration can go on in the other way",
                url=self.destination.url,
            )
        return write_input


class _Work:
    """The cells of a part, and what they add up to."""

    def __init__(
        self,
        guard: PartGuard,
        destination: Destination,
        state: State,
        options: RunOptions,
        part: Part,
    ) -> None:
        self._guard = guard
        self._destination = destination
        self._state = state
        self._options = options
        self._part = part
        self._share = part.share(state.plan.n_cells(0))
        self._n_before = 0
        self._n_objects = 0
        self._n_bytes = 0
        self._n_bad_cells = 0
        self._filled = FilledFiles()

    def run(self, write_input: WriteInput) -> None:
        """Do the cells that have no commit record."""
        plan = self._state.plan
        numbers = self._left()
        self._n_before = len(self._share) - len(numbers)
        if not numbers:
            return
        self._guard.require_fence()
        n_bytes = mean_cell_bytes(plan, 0)
        counter = Counter(
            what=f"migrating part {self._part}",
            n_cells=len(self._share),
            n_done=self._n_before,
            bytes_left=n_bytes * len(numbers),
            progress=self._options.progress,
        )

        def report(done: CommitRecord | BadCell) -> None:
            self._filled.add(done.number, done.filled, done.n_missing)
            if isinstance(done, BadCell):
                self._n_bad_cells += 1
                return
            self._n_objects += sum(len(level.objects) for level in done.levels)
            self._n_bytes += done.n_bytes
            counter.add(n_bytes)

        assert not isinstance(write_input.pixels, DaskInput)  # only files are migrated in parts
        job = Job(plan, write_input.pixels, self._guard.guarded(), self._guard, self._state.id)

        def work(number: int) -> CommitRecord | BadCell:
            self._guard.check()  # before anything is read for nothing
            return run_cell(job, 0, number)

        run_locally(
            work,
            numbers,
            in_flight=cells_in_flight(plan, self._options.max_bytes),
            report=report,
        )
        if self._n_bad_cells:
            raise cells_with_bad_files(
                self._n_bad_cells, self._filled, self._state, self._destination.url, self._part
            )

    def _left(self) -> list[int]:
        """Numbers of the cells without commit records, by one listing of these."""
        listed = self._destination.list(f"{RECORDS}/0", believes_empty=True)
        recorded = {cell_of(entry.key, self._state.plan) for entry in listed}
        return [number for number in self._share if (0, number) not in recorded]

    def result(self, seconds: float) -> Migration:
        """The result of the part, or of a copy that is finished."""
        state = self._state
        n_cells = state.plan.total_cells if state.is_done else len(self._share)
        return Migration(
            url=self._destination.url,
            n_cells=n_cells,
            n_done_before=n_cells if state.is_done else self._n_before,
            n_objects=self._n_objects,
            n_bytes=self._n_bytes,
            seconds=seconds,
            report=report_of(self._filled, state),
            part=None if state.is_done else PartOfCells(str(self._part), state.plan.n_cells(0)),
        )
