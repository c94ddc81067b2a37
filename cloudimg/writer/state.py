"""What a destination holds, and whether a migration may go on there, begin, or must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.storage import engine
from cloudimg.writer.destination import Destination
from cloudimg.writer.facts import Facts
from cloudimg.writer.journal import DONE, PLAN
from cloudimg.writer.lease import FOLDER as LEASES
from cloudimg.writer.plan import Plan
from cloudimg.writer.request import Request

_FORMAT = 1
"""Of the journal."""
_ROOT_METADATA = ("zarr.json", ".zmetadata", ".zattrs", ".zgroup", ".zarray")
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class State:
    """A planned migration, as its destination tells of it."""

    plan: Plan
    request: Request
    source: Mapping[str, Any]
    facts: Facts
    is_done: bool

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "format": _FORMAT,
            "state": "planned",
            "plan": self.plan.to_json(),
            "request": self.request.to_json(),
            "source": dict(self.source),
            "facts": self.facts.to_json(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], *, is_done: bool) -> Self:
        """The state again."""
        return cls(
            Plan.from_json(found["plan"]),
            Request.from_json(found["request"]),
            found["source"],
            Facts.from_json(found["facts"]),
            is_done,
        )


@dataclass(frozen=True, slots=True)
class Found:
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


def look(destination: Destination, *, overwrite: bool = False) -> Found:
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
        return Found(None, True, True, True)


def _look(destination: Destination) -> Found:
    # Both questions at once, as most destinations are new.
    asked = engine().fetch(partial(_what_is_there, destination))
    found = destination.get_json(PLAN)
    if found is None:
        there = asked.result()
        # Another may have planned between the two requests, which makes it no foreign place.
        found = destination.get_json(PLAN) if there[0] else None
        if found is None:
            return Found(None, False, *there)
    try:
        if found["state"] == "clearing":
            return Found(None, True, True, True)
        if found["format"] != _FORMAT:
            raise ArgumentError(
                f"{destination.url} was begun by a version of cloudimg with another journal"
                f" (format {found['format']}): go on with that one, or begin anew with overwrite"
            )
        is_done = destination.get_json(DONE) is not None
        return Found(State.from_json(found, is_done=is_done), False, True, True)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        if isinstance(exc, ArgumentError):
            raise
        url = destination.display(PLAN)
        raise CorruptFileError(f"{url} is damaged: no plan of a migration", url=url) from None


def load(destination: Destination) -> State:
    """The migration that was planned at a destination.

    Raises
    ------
    ArgumentError
        If there is none.
    CorruptFileError, StorageError
    """
    state = look(destination).state
    if state is None:
        raise ArgumentError(
            f"{destination.url} was not written by cloudimg: there is no journal in it",
            url=destination.url,
        )
    return state


def _what_is_there(destination: Destination) -> tuple[bool, bool]:
    """Whether there are objects that are no leases, and leases."""
    has_leases = False
    for entry in destination.list():
        if not entry.key.startswith(f"{LEASES}/"):
            return True, True
        has_leases = True
    return False, has_leases


def refuse_foreign(found: Found, destination: Destination) -> None:
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
    found: Found,
    destination: Destination,
    request: Request,
    source: Mapping[str, Any],
    *,
    overwrite: bool,
    resume: bool,
) -> State | None:
    """The state to go on from, or None to begin anew.

    An overwriting that was interrupted goes on too: it is the same call.

    Raises
    ------
    ArgumentError
        If neither may be done, with the reason.
    """
    state = found.state
    if state is None:
        if not overwrite and (found.has_objects or found.is_clearing):
            raise ArgumentError(
                f"{destination.url} is being cleared by an overwriting that was interrupted: pass"
                " overwrite again",
                url=destination.url,
            )
        return None
    reasons = _differences(state, request, source)
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


def _differences(state: State, request: Request, source: Mapping[str, Any]) -> list[str]:
    """In what a call differs from the one that a migration began with."""
    reasons = []
    before, now = state.request.to_json(), request.to_json()
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            reasons.append(f"{name} was {before.get(name)!r}, now {now.get(name)!r}")
    for name in ("kind", "urls", "dims", "shape", "dtype"):
        if state.source.get(name) != source.get(name):
            reasons.append(
                f"the source's {name} was {state.source.get(name)}, now {source.get(name)}"
            )
    if not reasons and state.source.get("fingerprint") != source.get("fingerprint"):
        what = "array (its name in Dask)" if source.get("kind") == "array" else "files"
        reasons.append(f"the source's {what} changed since")
    return reasons


def clear(destination: Destination) -> None:
    """Delete everything at a destination but the leases; what is left tells that this was begun."""
    destination.put_json(PLAN, {"format": _FORMAT, "state": "clearing"})
    # First what a reader would look for, so that half an image is not mistaken for a whole one.
    destination.delete(_ROOT_METADATA)
    keys: list[str] = []
    for entry in destination.list():
        if entry.key == PLAN or entry.key.startswith(f"{LEASES}/"):
            continue
        keys.append(entry.key)
        if len(keys) == _DELETED_AT_ONCE:
            destination.delete(keys)
            keys = []
    if keys:
        destination.delete(keys)
