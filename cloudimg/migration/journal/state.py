"""What a destination holds: a planned or finished migration, something else, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from cloudimg.errors import ArgumentError, CorruptFileError, NotFoundError, ServerError
from cloudimg.migration.journal.destination import (
    JOURNAL,
    ROOT_METADATA,
    Destination,
    as_json,
)
from cloudimg.migration.journal.inventory import END_MARK, EndMark, read_end_mark
from cloudimg.migration.journal.lease import LEASES
from cloudimg.migration.journal.sealing import get_sealed, put_sealed
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.storage import engine

PLAN = f"{JOURNAL}/plan.json"
"""Key of the plan with everything that decides what is written: the first object of a migration."""
TABLES = f"{JOURNAL}/files"
"""Folder of the table of the source's files, and of those of plans that were not stored."""
_FORMAT = 2
"""Format number of the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A planned migration, as its destination records it."""

    plan: Plan
    request: WriteRequest
    """The arguments that the plan was made from."""
    source: Mapping[str, Any]
    """`WriteInput.source` of the migration."""
    facts: ImageFacts
    id: str
    """Digest of everything that decides which pixels are written; the same on every machine."""
    files_sha256: str = ""
    """SHA-256 of the stored table of files; empty for an array, and in plans of older versions."""
    end_mark: EndMark | None = None
    """None if the migration is not finished."""

    @classmethod
    def planned(
        cls, plan: Plan, request: WriteRequest, source: Mapping[str, Any], facts: ImageFacts
    ) -> Self:
        """The state of a new migration."""
        identity = as_json([plan.to_json(), request.to_json(), dict(source)])
        state_id = hashlib.sha256(identity).hexdigest()[:32]
        return cls(plan=plan, request=request, source=source, facts=facts, id=state_id)

    @property
    def is_done(self) -> bool:
        """Whether the migration is finished."""
        return self.end_mark is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the copy lacks, and what was noticed about the source: by all cells if finished."""
        if self.end_mark is None:
            return self.facts.all_notes
        return (*self.facts.notes, *self.end_mark.notes)

    def to_json(self) -> dict[str, Any]:
        """The state without its end mark, as JSON for the journal."""
        return {
            "format": _FORMAT,
            "state": "planned",
            "id": self.id,
            "plan": self.plan.to_json(),
            "request": self.request.to_json(),
            "source": dict(self.source),
            "facts": self.facts.to_json(),
            **({"files": self.files_sha256} if self.files_sha256 else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Make a state, without an end mark, from its JSON."""
        return cls(
            plan=Plan.from_json(content["plan"]),
            request=WriteRequest.from_json(content["request"]),
            source=content["source"],
            facts=ImageFacts.from_json(content["facts"]),
            id=content["id"],
            files_sha256=content.get("files", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationContents:
    """What a destination holds."""

    state: State | None = None
    """The migration that was planned there."""
    is_clearing: bool = False
    """Whether an overwriting migration began to delete the contents and stored no plan since."""
    has_objects: bool = True
    """Whether there are objects other than leases."""
    has_leases: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether the destination has no objects at all."""
        return not (self.has_objects or self.has_leases)


def inspect_destination(
    destination: Destination, *, overwrite: bool = False
) -> DestinationContents:
    """Find out what a destination holds.

    Parameters
    ----------
    destination : Destination
    overwrite : bool
        Treat a plan that cannot be read as contents that are being deleted.

    Raises
    ------
    ArgumentError
        If the plan was stored by a version of cloudimg with another journal format.
    CorruptFileError
        If the plan is damaged.
    StorageError
    """
    try:
        return _inspect(destination)
    except (ArgumentError, CorruptFileError):
        if not overwrite:
            raise
        return DestinationContents(is_clearing=True)


def _inspect(destination: Destination) -> DestinationContents:
    # Both requests at once, because most destinations are new and have no plan.
    listing = engine().fetch(partial(_has_objects_and_leases, destination))
    content = get_sealed(destination, PLAN)
    if content is None:
        has_objects, has_leases = listing.result()
        # Another migration may have stored its plan between the two requests.
        content = get_sealed(destination, PLAN) if has_objects else None
        if content is None:
            return DestinationContents(has_objects=has_objects, has_leases=has_leases)
    try:
        if content["state"] == "clearing":
            return DestinationContents(is_clearing=True)
        if content["format"] != _FORMAT:
            raise ArgumentError(
                f"{destination.url} was written by a version of cloudimg with journal format"
                f" {content['format']}, this version has format {_FORMAT}: continue with that"
                " version, or start over with overwrite=True"
            )
        state = State.from_json(content)
    except ArgumentError:
        raise
    except (KeyError, TypeError, ValueError) as exc:
        url = destination.display(PLAN)
        raise CorruptFileError(f"{url} is damaged: not the plan of a migration", url=url) from exc
    return DestinationContents(state=replace(state, end_mark=_end_mark(destination, state.id)))


def _end_mark(destination: Destination, plan_id: str) -> EndMark | None:
    """The end mark of a migration; None if it is missing, damaged or of another migration."""
    with suppress(CorruptFileError):
        end_mark = read_end_mark(destination)
        if end_mark is not None and end_mark.plan_id == plan_id:
            return end_mark
    return None


def _has_objects_and_leases(destination: Destination) -> tuple[bool, bool]:
    """Whether there are objects other than leases, and whether there are leases.

    Raises
    ------
    ServerError
        If the store lists none, although there are: the others would be overwritten unseen.
    """
    listed = _listed_objects_and_leases(destination)
    hidden = None if listed[0] else _known_object(destination)
    if hidden is None:
        return listed
    listed = _listed_objects_and_leases(destination)  # another migration may have just stored it
    if not listed[0]:
        raise ServerError(
            f"the store lists no objects in {destination.url}, but {destination.display(hidden)}"
            " exists: its listings cannot be trusted, and nothing was written. Try again later, or"
            " choose another destination",
            url=destination.url,
        )
    return listed


def _listed_objects_and_leases(destination: Destination) -> tuple[bool, bool]:
    has_leases = False
    for entry in destination.list():
        if not entry.key.startswith((f"{LEASES}/", f"{TABLES}/")):
            return True, True
        has_leases = True
    return bool(destination.links()), has_leases


def _known_object(destination: Destination) -> str | None:
    """An object that images have and that exists, asked for by name."""

    def exists(key: str) -> bool:
        try:
            destination.info(key)
            return True
        except NotFoundError:
            return False

    requests = {
        # Not in fetching threads, one of which waits here.
        key: engine().fetch_window(partial(exists, key))
        for key in (*ROOT_METADATA, END_MARK)
    }
    return next((key for key, request in requests.items() if request.result()), None)


def load(destination: Destination) -> State:
    """Read the migration that a destination holds.

    Raises
    ------
    ArgumentError
        If it holds none.
    CorruptFileError, StorageError
    """
    contents = inspect_destination(destination)
    if contents.is_clearing:
        raise is_being_cleared(destination)
    if contents.state is None:
        raise ArgumentError(
            f"{destination.url} was not written by cloudimg: it has no journal",
            url=destination.url,
        )
    return contents.state


def is_being_cleared(destination: Destination) -> ArgumentError:
    """The error for a destination whose contents were deleted in part."""
    return ArgumentError(
        f"{destination.url} holds no image: a migration with overwrite=True was interrupted while"
        " it deleted the previous contents. Run it again with overwrite=True",
        url=destination.url,
    )


def put_plan(destination: Destination, state: State) -> None:
    """Store the plan of a new migration."""
    put_sealed(destination, PLAN, state.to_json())


def put_clearing_mark(destination: Destination) -> None:
    """Replace the plan by a mark that the contents are being deleted."""
    put_sealed(destination, PLAN, {"format": _FORMAT, "state": "clearing"})
