"""Whether a call resumes the migration that a destination holds, replaces it, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cloudimg.discovery.table_changes import UNCHANGED
from cloudimg.errors import ArgumentError, DamagedCopyError, OccupiedError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import DestinationContents, is_being_cleared
from cloudimg.migration.journal.layout import PLAN
from cloudimg.migration.journal.state import State
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import OF_METADATA, WriteRequest
from cloudimg.storage import unsigned

_KINDS = {"image": "an image in files", "array": "an array"}


def refuse_foreign(contents: DestinationContents, destination: Destination) -> None:
    """Refuse a destination with objects that cloudimg did not write.

    Raises
    ------
    OccupiedError
    """
    if contents.collection is not None:
        raise OccupiedError(
            f"{destination.url} holds a collection of {len(contents.collection.images)} images,"
            ' which series="all" continues: choose another destination, or pass overwrite=True to'
            " delete all of them",
            url=destination.url,
        )
    if contents.state is None and contents.has_objects and not contents.is_clearing:
        raise OccupiedError(
            f"{destination.url} holds objects that cloudimg did not write: choose another"
            " destination, or pass overwrite=True to delete all of them",
            url=destination.url,
        )


def refuse_other_plan(contents: DestinationContents, destination: Destination) -> None:
    """Refuse a finished copy whose plan is another one than the migration finished with.

    Raises
    ------
    DamagedCopyError
    """
    state = contents.state
    if state is None or state.end_mark is None or state.is_of(state.end_mark):
        return
    raise DamagedCopyError(
        f"the finished copy {destination.url} is damaged: {destination.display(PLAN)} is not the"
        " plan that the migration finished with. Nothing was written. cloudimg.repair restores"
        " it; overwrite=True deletes the copy and starts over",
        url=destination.display(PLAN),
    )


def state_to_resume(
    contents: DestinationContents,
    destination: Destination,
    request: WriteRequest,
    source: Mapping[str, Any],
    *,
    overwrite: bool,
    keeps_finished: bool,
    resume: bool,
    make_plan: Callable[[], Plan],
    describe_changes: Callable[[State], str],
    may_continue: Callable[[State], bool],
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
    overwrite, keeps_finished, resume : bool
    make_plan : callable
        Makes the plan of this call: arguments that give the same plan count as equal.
    describe_changes : callable
        Returns which files of the source changed since a migration was planned, as text.
    may_continue : callable
        Whether the migration can go on, or is finished, although files of the source changed.

    Raises
    ------
    OccupiedError
        If this call may neither continue the migration nor replace it.
    """
    state = contents.state
    if state is None:
        if contents.is_clearing and not overwrite:
            raise is_being_cleared(destination)
        return None
    differences = [
        *_argument_differences(state, request, make_plan),
        *_source_differences(
            state.source,
            source,
            partial(describe_changes, state),
            lambda: may_continue(state),
        ),
    ]
    replaces_finished = overwrite and state.is_done and not keeps_finished
    if not differences and (resume or state.is_done) and not replaces_finished:
        return state
    if overwrite:
        return None
    if not differences:
        raise OccupiedError(
            f"{destination.url} holds an unfinished migration: pass resume=True to continue it, or"
            " overwrite=True to start over",
            url=destination.url,
        )
    raise OccupiedError(
        f"{destination.url} holds {'a' if state.is_done else 'an unfinished'} migration with other"
        f" arguments: {'; '.join(differences)}. Use those, choose another destination, or pass"
        " overwrite=True to delete what is there",
        url=destination.url,
    )


def _source_differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    describe_changes: Callable[[], str],
    may_continue: Callable[[], bool],
) -> list[str]:
    if before.get("kind") != now.get("kind"):
        was, is_now = (_KINDS.get(str(each.get("kind")), "unknown") for each in (before, now))
        differences = [f"the source was {was} and is now {is_now}"]
    elif _unsigned(before.get("urls")) != _unsigned(now.get("urls")):
        was, is_now = (", ".join(each.get("urls") or ()) for each in (before, now))
        differences = [f"the source's URLs were {was} and are now {is_now}"]
    else:
        differences = []
    for name, text in (("dims", "axes were"), ("shape", "shape was"), ("dtype", "dtype was")):
        was, is_now = (_as_tuple(each.get(name)) for each in (before, now))
        if was != is_now:
            verb = "are" if text.endswith("were") else "is"
            differences.append(f"the source's {text} {was} and {verb} now {is_now}")
    differences += _policy_differences(before, now)
    if differences or before.get("fingerprint") == now.get("fingerprint"):
        return differences
    if now.get("kind") != "array":
        if may_continue():
            return []
        differences = _option_differences(before, now)
        return differences or [_changed_files(before, now, describe_changes())]
    return [
        "the source's array changed since the migration began (its name in Dask differs). If equal"
        " arrays get different names in each run, pass identity= to name their content"
    ]


def _changed_files(before: Mapping[str, Any], now: Mapping[str, Any], changes: str) -> str:
    was, is_now = (each.get("arrangement") for each in (before, now))
    # The files are the same, or the shape or an option would differ.
    if was and was != is_now and changes in ("", str(UNCHANGED)):
        return (
            "the source's files lie at other places in the image than when the migration began:"
            " their positions, as an index file or a table has them, changed"
        )
    which = f": {changes}" if changes else ""
    return f"the source's files changed since the migration began{which}"


def _option_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options of `open` that both sources record, and that are others now."""
    was, are_now = (each.get("open") or {} for each in (before, now))
    return [
        _argument_difference(name, value, are_now[name], ())
        for name, value in was.items()
        if name in are_now and (value or None) != (are_now[name] or None)
    ]


def _policy_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Bad files may be filled now; if they were before, finished cells may have some."""
    options = [each.get("open") or {} for each in (before, now)]
    was, is_now = (each.get("bad", "raise") for each in options)
    differences = []
    if (was, is_now) == ("fill", "raise"):
        differences.append(f'bad="{was}" before, bad="{is_now}" now')
    if bool(options[0].get("rgb")) != bool(options[1].get("rgb")):
        was, is_now = (bool(each.get("rgb")) for each in options)
        differences.append(f"rgb={was} before, rgb={is_now} now")
    if options[0].get("select") != options[1].get("select"):
        differences.append("select= was for another part of the image")
    return differences


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
        names = [n for n in names if resolved_before.get(n) != resolved_now.get(n)]
        # An argument may now be given that was left to be chosen before, with the same result.
        # The image's name and its calibration are not part of the plan.
        if names and not {*names} & {*OF_METADATA} and _is_same(make_plan(), state, request):
            return []
    except ArgumentError:
        pass  # arguments that are refused in any case are reported as different
    return [_argument_difference(name, before.get(name), now.get(name), dims) for name in names]


def _is_same(planned: Plan, state: State, request: WriteRequest) -> bool:
    """Whether arguments give the stored plan, apart from what versions choose differently."""
    before = state.plan
    chosen_by_version = {"nodata": before.nodata, "fill_value": before.fill_value}
    if request.downsampling is None and state.request.downsampling is None:
        chosen_by_version["method"] = before.method
    if request.plate is None and state.request.plate is None:
        chosen_by_version["plate"] = before.plate
    return replace(planned, **chosen_by_version) == before


def _argument_difference(name: str, before: Any, now: Any, dims: Sequence[str]) -> str:
    """Both values as written in a call, which the command line turns into its options."""
    was, is_now = (
        # The command line takes lengths by dim.
        dict(zip(dims, value, strict=True))
        if name in ("chunks", "shards") and isinstance(value, list) and len(value) == len(dims)
        else value
        for value in (before, now)
    )
    if is_now is None:
        return f"{name}={was!r} before, not given now"
    if was is None:
        return f"{name}={is_now!r} now, not given before"
    return f"{name}={was!r} before, {name}={is_now!r} now"
