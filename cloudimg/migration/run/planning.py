"""The plan of a migration: the stored one if it is for the same copy, otherwise a new one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudimg.discovery.table_changes import TableChanges, changes_between
from cloudimg.distributed.capacity import capacity_of_worker
from cloudimg.distributed.run import client_of
from cloudimg.errors import ArgumentError, ChangedError, counted
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal.clearing import clear, deletion_at, refuse_beside_another
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import DestinationContents
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.resuming import state_to_resume
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_plan import complete_plan, create_plan, replace_plan
from cloudimg.migration.plan.make_plan import make_plan
from cloudimg.migration.plan.overview import with_overview
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import Plate
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import notify_of
from cloudimg.migration.run.advice import facts_with_advice
from cloudimg.migration.run.companions import with_companions
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.memory import cells_in_flight, require_worker_memory
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.source_files import is_comparable
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
    plan_put: Future[State]
    """The state as it is stored, once it is."""


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
    write_input, stored = opened_for(contents, open_write_input, destination, request, options)
    if stored is None:
        plan = plan_for_request(write_input, request)
        state = planned_state(plan, request, write_input, fences=lease.fences)
    else:
        state = stored
    check_memory(state.plan, options)
    write_input = write_input.mapped(is_plate=state.plan.plate is not None)
    if stored is not None:
        state = _continued(stored, write_input, destination)
        if state.fences and not lease.fences and not state.is_done:
            state = replace_plan(destination, state.without_fence())
        return Planned(state, write_input, True, _known(state))
    if contents.has_objects:
        clear_for(contents, destination, options, lease)
    plan_put = engine().fetch(partial(create_plan, destination, state, write_input.files))
    return Planned(state, write_input, False, plan_put)


def opened_for(
    contents: DestinationContents,
    open_write_input: OpenWriteInput,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
) -> tuple[WriteInput, State | None]:
    """Open the source, and find out whether the migration that is at a destination goes on.

    Returns
    -------
    write_input : WriteInput
    state : State or None
        That of the migration that goes on; None if a new one begins.

    Raises
    ------
    ArgumentError
        If the destination holds something else.
    CloudimgError
        If the image cannot be opened.
    """
    replaces_finished = options.overwrite and not options.keeps_finished
    is_replaced = replaces_finished and contents.state is not None and contents.state.is_done
    earlier = None if is_replaced else EarlierSource.of(destination, contents.state)
    write_input = open_write_input(earlier)
    stored = state_to_resume(
        contents,
        destination,
        request,
        write_input.source,
        overwrite=options.overwrite,
        keeps_finished=options.keeps_finished,
        resume=options.resume,
        make_plan=lambda: plan_for_request(write_input, request),
        describe_changes=lambda _: shown_changes(earlier, write_input),
        may_continue=partial(_may_continue, earlier, write_input),
    )
    if stored is None and write_input.changes is not None:
        # It keeps to the files of the migration that it replaces.
        return open_write_input(None), None
    return write_input, stored


def planned_state(
    plan: Plan, request: WriteRequest, write_input: WriteInput, *, fences: bool
) -> State:
    """The state of a new migration of an image."""
    facts = with_companions(facts_with_advice(write_input, plan, request), write_input, request)
    return State.planned(plan, request, write_input.source, facts, fences=fences)


def plan_again(
    planned: Planned, open_write_input: OpenWriteInput, destination: Destination
) -> Planned:
    """Open the source of a migration again, of which files were replaced meanwhile, to go on.

    Raises
    ------
    ChangedError
        If the files no longer form the same image.
    CloudimgError
        If the image cannot be opened.
    """
    state = planned.plan_put.result()
    assert planned.write_input.files is not None  # an array has no files that could be replaced
    earlier = EarlierSource(state.source, planned.write_input.files())
    write_input = open_write_input(earlier)
    if not earlier.fits(write_input):
        raise ChangedError(
            f"source files changed while they were being migrated, and no longer form the same"
            f" image: {destination.url} is incomplete. Start over with overwrite=True",
            url=destination.url,
        )
    write_input = write_input.mapped(is_plate=state.plan.plate is not None)
    state = _continued(state, write_input, destination)
    return Planned(state, write_input, True, _known(state))


def _known(state: State) -> Future[State]:
    """A state that is stored already, as a future."""
    future: Future[State] = Future()
    future.set_result(state)
    return future


def clear_for(
    contents: DestinationContents, destination: Destination, options: RunOptions, lease: Lease
) -> None:
    """Delete what a destination holds, if nobody else may be doing so and the user agrees.

    Raises
    ------
    ArgumentError, LeaseError
    """
    if not options.yes:
        refuse_beside_another(contents, destination)
    _ask(destination, options)
    clear(destination, lease, notify=partial(notify_of, options.progress))


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


def _continued(stored: State, write_input: WriteInput, destination: Destination) -> State:
    """The stored state, or one with the same plan for files that changed, or are now filled."""
    before, now = stored.source, write_input.source
    if stored.is_done:
        return stored
    complete_plan(destination, stored)
    if before["kind"] != "image":
        return stored
    opening = {**before["open"], "bad": now["open"]["bad"]}
    source = {**before, "open": opening, "fingerprint": now["fingerprint"]}
    if source == {**before, "open": {"bad": "raise", **before["open"]}}:
        return stored
    # The identity stays, since finished cells stay finished.
    facts = facts_with_advice(write_input, stored.plan, stored.request).following(stored.facts)
    state = stored.with_files(source, replace(facts, name=stored.facts.name))
    if not stored.fences:
        state = state.without_fence()
    return replace_plan(destination, state, write_input.files)


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
    is_explained = bool(changes) or not is_comparable(state.source["fingerprint"])
    return not changes.n_replaced and is_explained


def _changes(earlier: EarlierSource, write_input: WriteInput) -> TableChanges:
    """Which files changed since a migration was planned."""
    assert write_input.files is not None
    if write_input.changes is not None:
        return write_input.changes
    return changes_between(earlier.files, write_input.files())


def shown_changes(earlier: EarlierSource | None, write_input: WriteInput) -> str:
    """The same as text; empty if that is not known."""
    if earlier is None or write_input.files is None:
        return ""
    return str(_changes(earlier, write_input))


def check_memory(plan: Plan, options: RunOptions) -> None:
    """Check that there is memory for a cell, here or in every worker of a running cluster.

    Raises
    ------
    ArgumentError
    """
    cells_in_flight(plan, options.max_bytes)
    client = options.client
    # A function may start a cluster; that of a worker which drives the migration is there.
    if client is not None and (not callable(client) or capacity_of_worker() is not None):
        require_worker_memory(plan, client_of(client))


def plan_for_request(write_input: WriteInput, request: WriteRequest) -> Plan:
    """Make the plan for an image with the codec of a request.

    Raises
    ------
    ArgumentError
    """
    dtype = write_input.dtype.newbyteorder("<")
    codec = make_codec(request.codec, dtype, request.zarr_format).spec
    return plan_for(write_input, request, codec)


def plan_for(write_input: WriteInput, request: WriteRequest, codec: dict[str, Any]) -> Plan:
    """Make the plan for an image; the same on every machine.

    Raises
    ------
    ArgumentError
    """
    plate = None if request.plate is False else write_input.plate()
    if request.plate and not isinstance(plate, Plate):
        why = plate or f"its axes are {tuple(write_input.source['dims'])}"
        raise ArgumentError(
            f"plate=True, but the image is not a plate: {why}. A plate has an axis well, or row and"
            " col; leave out plate=True to copy its images one by one"
        )
    plate = plate if isinstance(plate, Plate) else None
    write_input = write_input.mapped(is_plate=plate is not None)
    axes_mapping = write_input.axes_mapping
    plan = make_plan(
        axes_mapping.dims,
        axes_mapping.shape,
        write_input.dtype.newbyteorder("<"),
        lead_dims=axes_mapping.lead_dims,
        lead_shape=axes_mapping.lead_shape,
        plate=plate,
        fill_value=write_input.fill_value,
        method=write_input.reduction.method,
        nodata=write_input.nodata,
        spacing=write_input.facts.spacing,
        request=request,
        codec=codec,
        boundaries=write_input.boundaries,
        alignment=axes_mapping.alignment,
    )
    return with_overview(plan) if request.overview else plan
