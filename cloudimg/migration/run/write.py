"""`write`: the steps of a migration, in order.

1. Inspect the destination; refuse to overwrite what was not to be overwritten. Where it is empty,
   open the source and check all arguments, before anything is stored.
2. Acquire its lease, which also proves that the destination can be written to.
3. Resume the plan that is stored there, or make a plan and store it. If the copy is finished,
   compare it with a listing, and return.
4. Do all cells, by stage, that have no commit record, lack an object that their record lists, or
   have read files that were replaced since.
5. Write the metadata, except that of the root. Check that the destination holds what was stored,
   and that the source did not change; do cells again for which that is not so.
6. Write the metadata of the root and the end mark.
7. If the copy may grow and there are further files, take its plan for them, and do 4 to 6.

A process that is killed at any point leaves a destination that the same call continues.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import cache, partial

from cloudimg.distributed.on_worker import LINE_OF_USER, warn
from cloudimg.errors.notes import MARK
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.clearing import remove_leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import (
    DestinationContents,
    has_only_leases,
    inspect_destination,
    is_of_other_format,
)
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.resuming import refuse_foreign, refuse_other_plan
from cloudimg.migration.metadata.edits import Edits
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import notify_of
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.filled_files import report_of_notes
from cloudimg.migration.run.finished import edits_of_finished
from cloudimg.migration.run.growing import grow, has_newer_files
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.overlap import refuse_overlap, refuse_to_delete_source
from cloudimg.migration.run.planning import (
    OpenWriteInput,
    Planned,
    check_memory,
    plan_for_request,
    resume_or_plan,
)
from cloudimg.migration.run.result import Migration, after
from cloudimg.migration.run.rounds import Rounds
from cloudimg.migration.run.write_input import WriteInput


def write(
    open_write_input: OpenWriteInput,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
) -> Migration:
    """Write an image to a destination, or continue an unfinished migration.

    Parameters
    ----------
    open_write_input : callable
        Opens the image.
    destination : Destination
    request : WriteRequest
        The arguments that decide which bytes are written.
    options : RunOptions

    Raises
    ------
    ArgumentError
        If the destination holds something else, or a migration with other arguments or another
        source.
    LeaseError
        If another migration is writing to the destination.
    DamagedCopyError
        If a finished copy lacks objects, or has another plan or others among its own.
    CloudimgError
        If reading or writing fails; finished cells stay finished.
    """
    started = time.monotonic()
    start_imports()
    notify = partial(notify_of, options.progress)
    contents = _inspect(destination, options, is_first_look=True)
    opened: list[WriteInput] = []
    if contents.is_empty:
        opened.append(open_write_input(None))
        refuse_overlap(opened[0], destination)
        check_memory(plan_for_request(opened[0], request), options)
    with acquire(destination, notify=notify, is_unheld=contents.is_empty) as lease:
        destination = lease.guarded()
        # Others may have stored objects while the image was opened. Where the store fences, nobody
        # had the first lease before, and one listing, beside the probe of the lease, tells.
        is_first = contents.is_empty and lease.number == 1
        if not (is_first and has_only_leases(destination) and lease.fences):
            contents = _inspect(destination, options)  # again, as sole writer
        if not options.overwrite:
            refuse_other_plan(contents, destination)

        tell = cache(partial(_tell_of_no_fence, destination, options))

        def open_checked(earlier: EarlierSource | None) -> WriteInput:
            is_opened = earlier is None and opened
            write_input = opened.pop() if is_opened else open_write_input(earlier)
            if not lease.fences:  # the answer came meanwhile; until now nothing was stored
                tell()
            refuse_overlap(write_input, destination)
            if options.overwrite and contents.has_objects:
                refuse_to_delete_source(write_input, destination)
            return write_input

        writing = _Writing(open_checked, destination, request, options, lease, started)
        planned = writing.plan(contents, options)
        done = writing.finish(planned)
        if request.grow is None or not (planned.is_continued and has_newer_files(done.notes)):
            return done
        if not planned.state.is_done:
            as_it_is = replace(options, overwrite=False)
            planned = writing.plan(_inspect(destination, as_it_is), as_it_is)
        grown = grow(planned.state, open_checked, destination, lease)
        return done if grown is None else after(done, writing.finish(grown))


@dataclass(frozen=True, slots=True)
class _Writing:
    """What the holder of the lease does, once, or again for a copy that grows."""

    open_write_input: OpenWriteInput
    destination: Destination
    request: WriteRequest
    options: RunOptions
    lease: Lease
    started: float

    def plan(self, contents: DestinationContents, options: RunOptions) -> Planned:
        """Take the stored plan, or make and store a new one."""
        return resume_or_plan(
            contents, self.open_write_input, self.destination, self.request, options, self.lease
        )

    def finish(self, planned: Planned) -> Migration:
        """Do what is left to do; of a finished copy, compare it with a listing."""
        state, destination = planned.state, self.destination
        inventory = Inventory(destination, state.plan) if planned.is_continued else None
        if inventory is not None and state.end_mark is not None:
            edits = edits_of_finished(destination, state, state.end_mark, inventory)
            remove_leftovers(destination)
            return _nothing_to_do(destination, planned, edits, time.monotonic() - self.started)
        if not state.is_current:
            raise is_of_other_format(destination, state.format)
        for note in state.facts.all_notes:
            notify_of(self.options.progress, f"{MARK}{note}")
        rounds = Rounds(destination, self.options, self.lease, self.open_write_input)
        return rounds.run(planned, inventory, self.started)


def start_imports() -> None:
    """Import what the first cell needs while requests are under way."""
    threading.Thread(target=_import_libraries, name="cloudimg-import", daemon=True).start()


def _import_libraries() -> None:
    import google_crc32c  # noqa: F401
    import imagecodecs  # noqa: F401
    import numpy.ma  # noqa: F401  (used by np.unique)
    import pyarrow.parquet  # noqa: F401


def _inspect(
    destination: Destination, options: RunOptions, *, is_first_look: bool = False
) -> DestinationContents:
    contents = inspect_destination(
        destination, overwrite=options.overwrite, is_first_look=is_first_look
    )
    if not options.overwrite:
        refuse_foreign(contents, destination)
    return contents


def _tell_of_no_fence(destination: Destination, options: RunOptions) -> None:
    text = (
        f"the store of {destination.url} does not refuse to create an object that exists (it"
        " ignores the condition, or does not know it): only the lease there, which is read back"
        " every few seconds, keeps two migrations apart. Let no other process write to it"
    )
    if options.progress is None:
        warn(text, level=LINE_OF_USER)
    else:
        notify_of(options.progress, text)


def _nothing_to_do(
    destination: Destination, planned: Planned, edits: Edits, seconds: float
) -> Migration:
    state, changes = planned.state, planned.write_input.changes
    n_cells = state.plan.total_cells
    return Migration(
        url=destination.url,
        n_cells=n_cells,
        n_done_before=n_cells,
        n_objects=0,
        n_bytes=0,
        seconds=seconds,
        notes=state.notes if changes is None else (*state.notes, *changes.notes()),
        report=report_of_notes(state.notes, state.source.get("files", {})),
        edits=tuple(edits.first),
        n_edits=edits.n,
    )
