"""Whether a call resumes the migration that a destination holds, replaces it, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import DestinationContents, State, is_being_cleared
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.storage import unsigned


def refuse_foreign(contents: DestinationContents, destination: Destination) -> None:
    """Refuse a destination with objects that cloudimg did not write.

    Raises
    ------
    ArgumentError
    """
    if contents.state is None and contents.has_objects and not contents.is_clearing:
        raise ArgumentError(
            f"{destination.url} holds objects that cloudimg did not write: choose another"
            " destination, or pass overwrite=True to delete all of them",
            url=destination.url,
        )


def state_to_resume(
    contents: DestinationContents,
    destination: Destination,
    request: WriteRequest,
    source: Mapping[str, Any],
    *,
    overwrite: bool,
    resume: bool,
    make_plan: Callable[[], Plan],
) -> State | None:
    """The state to continue from; None to start a new migration.

    An interrupted migration with `overwrite` is continued by the same call.

    Parameters
    ----------
    contents : DestinationContents
    destination : Destination
    request : WriteRequest
        The arguments of this call.
    source : mapping
        `WriteInput.source` of this call.
    overwrite, resume : bool
    make_plan : callable
        Makes the plan of this call: arguments that give the same plan count as equal.

    Raises
    ------
    ArgumentError
        If this call may neither continue the migration nor replace it.
    """
    state = contents.state
    if state is None:
        if contents.is_clearing and not overwrite:
            raise is_being_cleared(destination)
        return None
    differences = [
        *_argument_differences(state, request, make_plan),
        *_source_differences(state.source, source),
    ]
    replaces_finished = overwrite and state.is_done
    if not differences and (resume or state.is_done) and not replaces_finished:
        return state
    if overwrite:
        return None
    if not differences:
        raise ArgumentError(
            f"{destination.url} holds an unfinished migration: pass resume=True to continue it, or"
            " overwrite=True to start over",
            url=destination.url,
        )
    raise ArgumentError(
        f"{destination.url} holds {'a' if state.is_done else 'an unfinished'} migration with other"
        f" arguments: {'; '.join(differences)}. Use those, choose another destination, or pass"
        " overwrite=True to delete what is there",
        url=destination.url,
    )


def _source_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    differences = [
        f"the source's {name} was {before.get(name)}, now {now.get(name)}"
        for name in ("kind", "urls", "dims", "shape", "dtype")
        if before.get(name) != now.get(name)
        and not (name == "urls" and _unsigned(before.get(name)) == _unsigned(now.get(name)))
    ]
    if differences or before.get("fingerprint") == now.get("fingerprint"):
        return differences
    if now.get("kind") != "array":
        return ["the source's files changed since the migration began"]
    return [
        "the source's array changed since the migration began (its name in Dask differs). If equal"
        " arrays get different names in each run, pass identity= to name their content"
    ]


def _unsigned(urls: Any) -> list[str]:
    return [unsigned(url) for url in urls or ()]


def _argument_differences(
    state: State, request: WriteRequest, make_plan: Callable[[], Plan]
) -> list[str]:
    dims = state.plan.dims
    before, now = state.request.to_json(), request.to_json()
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    try:
        resolved_before, resolved_now = state.request.resolved(dims), request.resolved(dims)
        names = [name for name in names if resolved_before[name] != resolved_now[name]]
        # An argument may now be given that was left to be chosen before, with the same result.
        # The image's name is not part of the plan.
        if names and "name" not in names and make_plan() == state.plan:
            return []
    except ArgumentError:
        pass  # arguments that are refused in any case are reported as different
    return [f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in names]
