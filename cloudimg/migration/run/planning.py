"""The plan of a migration: the stored one if it is for the same copy, otherwise a new one."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from cloudimg.discovery.table import FileTable, changes_between
from cloudimg.errors import CorruptFileError, StorageError
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal.clearing import clear
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import get_files, put_files, table_key
from cloudimg.migration.journal.resuming import state_to_resume
from cloudimg.migration.journal.state import DestinationContents, State, put_plan
from cloudimg.migration.plan.make_plan import make_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.memory import cells_in_flight
from cloudimg.migration.run.mended import only_unread_files_changed
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine


def resume_or_plan(
    contents: DestinationContents,
    write_input: WriteInput,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
) -> tuple[State, bool, Future[None]]:
    """Take the stored plan, or clear the destination and begin to store a new plan.

    A stored plan is continued, too, after bad files were mended, or if they are now to be filled.

    Returns
    -------
    state : State
    is_continued : bool
        Whether the migration that the destination holds is continued.
    plan_put : Future
        Done once the plan is stored.

    Raises
    ------
    ArgumentError
        If the destination holds something else, or the plan needs more memory than allowed.
    """

    def make() -> Plan:
        dtype = write_input.dtype.newbyteorder("<")
        return plan_for(
            write_input, request, make_codec(request.codec, dtype, request.zarr_format).spec
        )

    stored = state_to_resume(
        contents,
        destination,
        request,
        write_input.source,
        overwrite=options.overwrite,
        resume=options.resume,
        make_plan=make,
        describe_changes=partial(_changes, destination, write_input),
        may_continue=partial(_may_continue, destination, write_input),
    )
    state = stored or State.planned(make(), request, write_input.source, write_input.facts)
    cells_in_flight(state.plan, options.max_bytes)  # raises if there is too little memory
    if stored is not None:
        plan_put: Future[None] = Future()
        plan_put.set_result(None)
        return _continued(stored, write_input, destination), True, plan_put
    if contents.has_objects:
        clear(destination)
    return state, False, engine().fetch(partial(_put_plan, destination, state, write_input))


def _put_plan(destination: Destination, state: State, write_input: WriteInput) -> None:
    """Store the table of files, then the plan, which records its checksum."""
    if write_input.files is None:
        put_plan(destination, state)
        return
    state = replace(state, files_sha256=put_files(destination, write_input.files()))
    try:
        put_plan(destination, state)
    except StorageError:
        with suppress(StorageError):  # the first failure is the one to report
            destination.delete([table_key(state.files_sha256)])
        raise


def _continued(stored: State, write_input: WriteInput, destination: Destination) -> State:
    """The stored state, or one with the same plan for bad files that were mended, or are filled."""
    before, now = stored.source, write_input.source
    if stored.is_done or before["kind"] != "image":
        return stored
    opening = {**before["open"], "bad": now["open"]["bad"]}
    source = {**before, "open": opening, "fingerprint": now["fingerprint"]}
    if source == {**before, "open": {"bad": "raise", **before["open"]}}:
        return stored
    # The identity stays, since finished cells stay finished.
    state = replace(stored, source=source, facts=write_input.facts)
    _put_plan(destination, state, write_input)
    return state


def _may_continue(destination: Destination, write_input: WriteInput, state: State) -> bool:
    """Whether all files that changed since a migration was planned were not used by it yet."""
    tables = _tables(destination, write_input, state)
    return tables is not None and only_unread_files_changed(destination, state, *tables)


def _changes(destination: Destination, write_input: WriteInput, state: State) -> str:
    """Which files changed since a migration was planned; empty if that is not known."""
    tables = _tables(destination, write_input, state)
    return "" if tables is None else str(changes_between(*tables))


def _tables(
    destination: Destination, write_input: WriteInput, state: State
) -> tuple[FileTable, FileTable] | None:
    """The files when a migration was planned, and as they are now; None if one is not known."""
    try:
        before = get_files(destination, state.files_sha256)
    except CorruptFileError:
        return None  # a copy without its table still has its fingerprint
    if before is None or write_input.files is None:
        return None
    return before, write_input.files()


def plan_for(write_input: WriteInput, request: WriteRequest, codec: dict[str, Any]) -> Plan:
    """Make the plan for an image; the same on every machine."""
    axes_mapping = write_input.axes_mapping
    return make_plan(
        axes_mapping.dims,
        axes_mapping.shape,
        write_input.dtype.newbyteorder("<"),
        lead_dims=axes_mapping.lead_dims,
        lead_shape=axes_mapping.lead_shape,
        fill_value=write_input.fill_value,
        request=request,
        codec=codec,
        boundaries=write_input.boundaries,
        alignment=axes_mapping.alignment,
    )
