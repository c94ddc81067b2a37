"""The plan of a migration: the stored one if it is for the same copy, otherwise a new one."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any

from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal.clearing import clear
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.resuming import state_to_resume
from cloudimg.migration.journal.state import DestinationContents, State, put_plan
from cloudimg.migration.plan.make_plan import make_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.memory import cells_in_flight
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage import engine


def resume_or_plan(
    contents: DestinationContents,
    write_input: WriteInput,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
) -> tuple[State, Future[None]]:
    """Take the stored plan, or clear the destination and begin to store a new plan.

    Returns
    -------
    state : State
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
    )
    state = stored or State.planned(make(), request, write_input.source, write_input.facts)
    cells_in_flight(state.plan, options.max_bytes)  # raises if there is too little memory
    if stored is not None:
        plan_put: Future[None] = Future()
        plan_put.set_result(None)
        return stored, plan_put
    if contents.has_objects:
        clear(destination)
    return state, engine().fetch(partial(put_plan, destination, state))


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
