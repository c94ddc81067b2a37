"""`write`: the steps of a migration, in order.

1. Inspect the destination; refuse to overwrite what was not to be overwritten.
2. Acquire its lease, which also proves that the destination can be written to.
3. Resume the plan that is stored there, or make a plan and store it.
4. Do all cells that have no commit record, or lack an object that their record lists, by stage.
5. Check that the source did not change; write the metadata, that of the root last.

A process that is killed at any point leaves a destination that the same call continues.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from cloudimg.errors import CorruptFileError, StorageError
from cloudimg.migration.journal.clearing import leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import Inventory
from cloudimg.migration.journal.lease import Lease, acquire
from cloudimg.migration.journal.resuming import refuse_foreign
from cloudimg.migration.journal.state import (
    PLAN,
    DestinationContents,
    State,
    inspect_destination,
)
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import Advance, AdvanceCallback
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.overlap import refuse_overlap, refuse_to_delete_source
from cloudimg.migration.run.planning import resume_or_plan
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.stages import MigrationRun
from cloudimg.migration.run.write_input import WriteInput


def write(
    open_write_input: Callable[[], WriteInput],
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
) -> Migration:
    """Write an image to a destination, or continue an unfinished migration.

    Parameters
    ----------
    open_write_input : callable
        Opens the image; called once the destination is known to be writable.
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
    CloudimgError
        If reading or writing fails; finished cells stay finished.
    """
    started = time.monotonic()
    threading.Thread(target=_import_libraries, name="cloudimg-import", daemon=True).start()
    notify = partial(_notify, options.progress)
    contents = _inspect(destination, options)
    with acquire(destination, notify=notify, is_unheld=contents.is_empty) as lease:
        try:
            if not contents.is_empty or lease.number > 1:
                contents = _inspect(destination, options)  # again, as sole writer
            write_input = open_write_input()
            refuse_overlap(write_input, destination)
            if options.overwrite and contents.has_objects:
                refuse_to_delete_source(write_input, destination)
            state, is_continued, plan_put = resume_or_plan(
                contents, write_input, destination, request, options
            )
        except BaseException:
            _forget_lease_without_plan(destination, lease)
            raise
        try:
            inventory = Inventory(destination, state.plan) if is_continued else None
            if inventory is not None and _is_complete(destination, state, inventory):
                return _nothing_to_do(destination, state, time.monotonic() - started)
            for note in state.facts.all_notes:
                notify(f"note: {note}")
            run = MigrationRun(
                write_input=write_input,
                destination=destination,
                state=state,
                options=options,
                lease=lease,
                inventory=inventory,
                plan_put=plan_put,
            )
            return run.run(started)
        except BaseException:
            if _has_failed(plan_put, lease):
                _forget_lease_without_plan(destination, lease)
            raise


def _import_libraries() -> None:
    """Import what the first cell needs while requests are under way."""
    import google_crc32c  # noqa: F401
    import imagecodecs  # noqa: F401
    import numpy.ma  # noqa: F401  (used by np.unique)
    import pyarrow.parquet  # noqa: F401


def _notify(progress: AdvanceCallback | None, note: str) -> None:
    if progress is not None:
        progress(
            Advance(what="", n_done=0, n_cells=0, n_bytes=0, bytes_left=0, elapsed_s=0.0, note=note)
        )


def _inspect(destination: Destination, options: RunOptions) -> DestinationContents:
    contents = inspect_destination(destination, overwrite=options.overwrite)
    if not options.overwrite:
        refuse_foreign(contents, destination)
    return contents


def _is_complete(destination: Destination, state: State, inventory: Inventory) -> bool:
    """Whether all objects of a finished migration still exist, by name and size."""
    if state.end_mark is None or state.end_mark.objects_digest != inventory.objects_digest:
        return False
    return not leftovers(destination)


def _nothing_to_do(destination: Destination, state: State, seconds: float) -> Migration:
    n_cells = state.plan.total_cells
    return Migration(
        url=destination.url,
        n_cells=n_cells,
        n_done_before=n_cells,
        n_objects=0,
        n_bytes=0,
        seconds=seconds,
        notes=state.notes,
    )


def _has_failed(plan_put: Future[None], lease: Lease) -> bool:
    """Whether the plan could not be stored.

    Waits for the PUT, so that it cannot arrive while another migration is writing.
    """
    try:
        return plan_put.exception() is not None
    except BaseException:  # Ctrl-C while waiting
        lease.abandon()
        raise


def _forget_lease_without_plan(destination: Destination, lease: Lease) -> None:
    """Leave nothing at a destination where no plan was stored."""
    try:
        if destination.get_json(PLAN) is None:
            lease.forget()
    except (StorageError, CorruptFileError):
        return  # the failure that led here is the one to report
