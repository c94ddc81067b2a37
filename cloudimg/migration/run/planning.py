"""The plan of a migration: the stored one if it is for the same copy, otherwise a new one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudimg.discovery.table import TableChanges, changes_between
from cloudimg.errors import (
    ArgumentError,
    ChangedError,
    LeaseError,
    ServerError,
    StorageError,
    counted,
)
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal.clearing import clear, deletion_at, refuse_beside_another
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.file_table import create_files, table_key
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.resuming import state_to_resume
from cloudimg.migration.journal.sealing import get_sealed
from cloudimg.migration.journal.state import (
    PLAN,
    DestinationContents,
    State,
    create_plan,
    replace_plan,
)
from cloudimg.migration.plan.make_plan import make_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.memory import cells_in_flight
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine

OpenWriteInput = Callable[[EarlierSource | None], WriteInput]
"""Opens the image to write; it keeps to the files of an earlier migration if it is the same."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What is going to be written."""

    state: State
    write_input: WriteInput
    is_continued: bool
    """Whether the migration that the destination holds is continued."""
    plan_put: Future[None]
    """Done once the plan is stored."""


def resume_or_plan(
    contents: DestinationContents,
    open_write_input: OpenWriteInput,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
    lease: Lease,
) -> Planned:
    """Take the stored plan, or clear the destination and begin to store a new plan.

    A stored plan is continued, too, after files of the source were replaced, or came or went, or
    if bad ones are now to be filled.

    Raises
    ------
    ArgumentError
        If the destination holds something else, or the plan needs more memory than allowed.
    CloudimgError
        If the image cannot be opened.
    """
    is_replaced = options.overwrite and contents.state is not None and contents.state.is_done
    earlier = None if is_replaced else EarlierSource.of(destination, contents.state)
    write_input = open_write_input(earlier)

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
        describe_changes=lambda _: _shown_changes(earlier, write_input),
        may_continue=partial(_may_continue, earlier, write_input),
    )
    if stored is None and write_input.changes is not None:
        # It keeps to the files of the migration that it replaces.
        write_input = open_write_input(None)
    state = stored or State.planned(
        make(), request, write_input.source, write_input.facts, fences=lease.fences
    )
    cells_in_flight(state.plan, options.max_bytes)  # raises if there is too little memory
    if stored is not None:
        plan_put: Future[None] = Future()
        plan_put.set_result(None)
        state = _continued(stored, write_input, destination)
        if state.fences and not lease.fences and not state.is_done:
            state = state.without_fence()
            replace_plan(destination, state)
        return Planned(state, write_input, True, plan_put)
    if contents.has_objects:
        if not options.yes:
            refuse_beside_another(contents, destination)
        _ask(destination, options)
        clear(destination, lease)
    plan_put = engine().fetch(partial(_put_plan, destination, state, write_input, create_plan))
    return Planned(state, write_input, False, plan_put)


def plan_again(planned: Planned, write_input: WriteInput, destination: Destination) -> Planned:
    """Go on with a migration, of which files were replaced meanwhile, with its source as it is now.

    Raises
    ------
    ChangedError
        If the files no longer form the same image.
    """
    state, before = planned.state, planned.write_input
    if before.files is None or not EarlierSource(state.source, before.files()).fits(write_input):
        raise ChangedError(
            f"source files changed while they were being migrated, and no longer form the same"
            f" image: {destination.url} is incomplete. Start over with overwrite=True",
            url=destination.url,
        )
    return replace(
        planned,
        state=_continued(state, write_input, destination),
        write_input=write_input,
        is_continued=True,
    )


def _ask(destination: Destination, options: RunOptions) -> None:
    """Ask whether the contents may be deleted, if somebody is to be asked.

    Raises
    ------
    ArgumentError
        If they may not.
    """
    if options.confirm is None or options.yes:
        return
    deletion = deletion_at(destination)
    if deletion.n_objects and not options.confirm(deletion):
        raise ArgumentError(
            f"nothing was deleted: {destination.url} holds"
            f" {counted(deletion.n_objects, 'object')} that overwrite=True would delete",
            url=destination.url,
        )


def _put_plan(
    destination: Destination,
    state: State,
    write_input: WriteInput,
    put_plan: Callable[[Destination, State], None],
) -> None:
    """Store the table of files, then the plan, which records its checksum."""
    _put_with_files(destination, state, write_input, put_plan)


def _put_with_files(
    destination: Destination,
    state: State,
    write_input: WriteInput,
    put_plan: Callable[[Destination, State], None],
) -> State:
    """Do what `_put_plan` does, and return the state that was stored."""
    if write_input.files is None:
        put_plan(destination, state)
        return state
    files_sha256 = create_files(destination, write_input.files(), fences=state.fences)
    state = replace(state, files_sha256=files_sha256)
    try:
        put_plan(destination, state)
    except (ServerError, LeaseError):
        raise  # a plan that names the table may be stored, or arrive later
    except StorageError:
        with suppress(StorageError):  # the first failure is the one to report
            # A plan that is replaced may name the same table.
            if get_sealed(destination, PLAN) is None:
                destination.delete([table_key(state.files_sha256)])
        raise
    return state


def _continued(stored: State, write_input: WriteInput, destination: Destination) -> State:
    """The stored state, or one with the same plan for files that changed, or are now filled."""
    before, now = stored.source, write_input.source
    if stored.is_done or before["kind"] != "image":
        return stored
    opening = {**before["open"], "bad": now["open"]["bad"]}
    source = {**before, "open": opening, "fingerprint": now["fingerprint"]}
    if source == {**before, "open": {"bad": "raise", **before["open"]}}:
        return stored
    # The identity stays, since finished cells stay finished.
    state = stored.with_files(source, write_input.facts.following(stored.facts))
    if not stored.fences:
        state = state.without_fence()
    return _put_with_files(destination, state, write_input, replace_plan)


def _may_continue(earlier: EarlierSource | None, write_input: WriteInput, state: State) -> bool:
    """Whether a migration can go on after files of its source changed.

    The cells that have read them are done again, but not those of a finished copy.
    """
    if earlier is None or not earlier.fits(write_input):
        return False
    if not state.is_done:
        return True
    changes = _changes(earlier, write_input)
    # If none came or went, one was replaced of which listings tell no version.
    return not changes.n_replaced and bool(changes)


def _changes(earlier: EarlierSource, write_input: WriteInput) -> TableChanges:
    """Which files changed since a migration was planned."""
    assert write_input.files is not None
    if write_input.changes is not None:
        return write_input.changes
    return changes_between(earlier.files, write_input.files())


def _shown_changes(earlier: EarlierSource | None, write_input: WriteInput) -> str:
    """The same as text; empty if that is not known."""
    if earlier is None or write_input.files is None:
        return ""
    return str(_changes(earlier, write_input))


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
