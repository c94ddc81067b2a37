"""What a destination holds, and whether a migration may go on there, begin, or must not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.inventory import Done, read_done
from cloudimg.migration.journal.lease import FOLDER as LEASES
from cloudimg.migration.journal.records import PLAN
from cloudimg.migration.journal.sealing import get_sealed, put_sealed
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.storage import engine, unsigned
from cloudimg.storage.local import PASSING

_FORMAT = 2
"""Of the journal."""
_ROOT_METADATA = ("zarr.json", ".zmetadata", ".zattrs", ".zgroup", ".zarray")
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class State:
    """A planned migration, as its destination tells of it."""

    plan: Plan
    request: WriteRequest
    source: Mapping[str, Any]
    facts: ImageFacts
    id: str
    """Names the plan with all that decides which pixels are written; the same on every machine."""
    done: Done | None
    """What was said at its end, if it came to that."""

    @classmethod
    def planned(
        cls, plan: Plan, request: WriteRequest, source: Mapping[str, Any], facts: ImageFacts
    ) -> Self:
        """A migration that is to begin."""
        told = as_json([plan.to_json(), request.to_json(), dict(source)])
        return cls(plan, request, source, facts, hashlib.sha256(told).hexdigest()[:32], None)

    @property
    def is_done(self) -> bool:
        """Whether it came to its end."""
        return self.done is not None

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "format": _FORMAT,
            "state": "planned",
            "id": self.id,
            "plan": self.plan.to_json(),
            "request": self.request.to_json(),
            "source": dict(self.source),
            "facts": self.facts.to_json(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], done: Done | None) -> Self:
        """The state again."""
        return cls(
            Plan.from_json(found["plan"]),
            WriteRequest.from_json(found["request"]),
            found["source"],
            ImageFacts.from_json(found["facts"]),
            found["id"],
            done,
        )


@dataclass(frozen=True, slots=True)
class DestinationContents:
    """What is at a destination."""

    state: State | None
    """Of a migration that was planned there."""
    is_clearing: bool
    """Whether an overwriting was begun there and did not come to its new plan."""
    has_objects: bool
    """Whether there is anything but leases."""
    has_leases: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever written there."""
        return not (self.has_objects or self.has_leases)


def look(destination: Destination, *, overwrite: bool = False) -> DestinationContents:
    """See what is at a destination.

    With `overwrite` a plan that cannot be followed counts as one that is being cleared.

    Raises
    ------
    ArgumentError
        If the plan there is of a version with another journal.
    CorruptFileError
        If the plan there is damaged.
    StorageError
    """
    try:
        return _look(destination)
    except (ArgumentError, CorruptFileError):
        if not overwrite:
            raise
        return DestinationContents(None, True, True, True)


def _look(destination: Destination) -> DestinationContents:
    # Both questions at once, as most destinations are new.
    asked = engine().fetch(partial(_what_is_there, destination))
    found = get_sealed(destination, PLAN)
    if found is None:
        there = asked.result()
        # Another may have planned between the two requests, which makes it no foreign place.
        found = get_sealed(destination, PLAN) if there[0] else None
        if found is None:
            return DestinationContents(None, False, *there)
    try:
        if found["state"] == "clearing":
            return DestinationContents(None, True, True, True)
        if found["format"] != _FORMAT:
            raise ArgumentError(
                f"{destination.url} was begun by a version of cloudimg with another journal"
                f" (format {found['format']}): go on with that one, or begin anew with overwrite"
            )
        return DestinationContents(
            State.from_json(found, _done(destination, found["id"])), False, True, True
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        if isinstance(exc, ArgumentError):
            raise
        url = destination.display(PLAN)
        raise CorruptFileError(f"{url} is damaged: no plan of a migration", url=url) from None


def _done(destination: Destination, plan_id: str) -> Done | None:
    """The end of a migration; what is damaged or tells of another one is written again."""
    with suppress(CorruptFileError):
        done = read_done(destination)
        if done is not None and done.plan_id == plan_id:
            return done
    return None


def load(destination: Destination) -> State:
    """The migration that was planned at a destination.

    Raises
    ------
    ArgumentError
        If there is none.
    CorruptFileError, StorageError
    """
    found = look(destination)
    if found.is_clearing:
        raise _being_cleared(destination)
    if found.state is None:
        raise ArgumentError(
            f"{destination.url} was not written by cloudimg: there is no journal in it",
            url=destination.url,
        )
    return found.state


def _being_cleared(destination: Destination) -> ArgumentError:
    return ArgumentError(
        f"{destination.url} is being cleared by an overwriting that was interrupted, and holds no"
        " image: run the migration again, with overwrite",
        url=destination.url,
    )


def _what_is_there(destination: Destination) -> tuple[bool, bool]:
    """Whether there are objects that are no leases, and leases."""
    has_leases = False
    for entry in destination.list():
        if not entry.key.startswith(f"{LEASES}/"):
            return True, True
        has_leases = True
    return bool(destination.links()), has_leases


def refuse_foreign(found: DestinationContents, destination: Destination) -> None:
    """Leave alone what is not ours.

    Raises
    ------
    ArgumentError
    """
    if found.state is None and found.has_objects and not found.is_clearing:
        raise ArgumentError(
            f"{destination.url} holds something that cloudimg did not write: write to another"
            " place, or pass overwrite to have all of it deleted",
            url=destination.url,
        )


def decide(
    found: DestinationContents,
    destination: Destination,
    request: WriteRequest,
    source: Mapping[str, Any],
    *,
    overwrite: bool,
    resume: bool,
    make_plan: Callable[[], Plan],
) -> State | None:
    """The state to go on from, or None to begin anew.

    An overwriting that was interrupted goes on too: it is the same call. `make_plan` gives what
    would be planned now: arguments that come to the same are no others.

    Raises
    ------
    ArgumentError
        If neither may be done, with the reason.
    """
    state = found.state
    if state is None:
        if not overwrite and (found.has_objects or found.is_clearing):
            raise _being_cleared(destination)
        return None
    reasons = _differences(state, request, source, make_plan)
    if not reasons and not (overwrite and state.is_done) and (resume or state.is_done):
        return state
    if overwrite:
        return None
    if not reasons:
        raise ArgumentError(
            f"{destination.url} holds a migration that is not finished: pass resume to go on with"
            " it, or overwrite to begin anew",
            url=destination.url,
        )
    raise ArgumentError(
        f"{destination.url} holds a migration {'' if state.is_done else 'begun '}with other"
        f" arguments: {'; '.join(reasons)}. Use those, write to another place, or pass overwrite"
        " to delete what is there",
        url=destination.url,
    )


def _differences(
    state: State, request: WriteRequest, source: Mapping[str, Any], make_plan: Callable[[], Plan]
) -> list[str]:
    """In what a call differs from the one that a migration began with."""
    reasons = []
    for name in ("kind", "urls", "dims", "shape", "dtype"):
        before, now = state.source.get(name), source.get(name)
        if before != now and not (name == "urls" and _unsigned(before) == _unsigned(now)):
            reasons.append(f"the source's {name} was {before}, now {now}")
    if not reasons and state.source.get("fingerprint") != source.get("fingerprint"):
        reasons.append(_changed(source))
    return _other_arguments(state, request, make_plan) + reasons


def _unsigned(urls: Any) -> list[str]:
    return [unsigned(url) for url in urls or ()]


def _changed(source: Mapping[str, Any]) -> str:
    if source.get("kind") != "array":
        return "the source's files changed since"
    return (
        "the source's array (its name in Dask) changed since; where equal arrays get other names in"
        " each run, name what they hold by identity="
    )


def _other_arguments(
    state: State, request: WriteRequest, make_plan: Callable[[], Plan]
) -> list[str]:
    dims = state.plan.dims
    before, now = state.request.to_json(), request.to_json()
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    try:
        resolved, other = state.request.resolved(dims), request.resolved(dims)
        names = [name for name in names if resolved[name] != other[name]]
        # What was left to be chosen may be what is asked for now. Names are not planned.
        if names and "name" not in names and make_plan() == state.plan:
            return []
    except ArgumentError:  # what is refused anyway differs in what it says
        pass
    return [f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in names]


def clear(destination: Destination) -> None:
    """Delete everything at a destination but the leases; what is left tells that this was begun."""
    put_sealed(destination, PLAN, {"format": _FORMAT, "state": "clearing"})
    # First what a reader would look for, so that half an image is not mistaken for a whole one.
    destination.delete(_ROOT_METADATA)
    delete_all(
        destination,
        (
            entry.key
            for entry in destination.list()
            if entry.key != PLAN and not entry.key.startswith(f"{LEASES}/")
        ),
    )
    for path in (*destination.links(), *leftovers(destination)):
        path.unlink()


def delete_all(destination: Destination, keys: Iterable[str]) -> None:
    """Delete objects, however many there are."""
    todo = iter(keys)
    while batch := list(islice(todo, _DELETED_AT_ONCE)):
        destination.delete(batch)


def leftovers(destination: Destination) -> list[Path]:
    """Files of writes to a local folder that were killed, which no list has."""
    if destination.store.location.protocol != "file":
        return []
    return [
        Path(folder, name)
        for folder, _, names in os.walk(destination.root)
        for name in sorted(names)
        if name.endswith(PASSING)
    ]
