"""What a destination holds: a planned or finished migration, something else, or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from cloudimg.discovery.table import MOST_ROWS
from cloudimg.errors import ArgumentError, CorruptFileError, NotFoundError, ServerError
from cloudimg.errors.checked_json import checked_int, damage
from cloudimg.migration.journal.destination import (
    JOURNAL,
    ROOT_METADATA,
    Destination,
    as_json,
)
from cloudimg.migration.journal.inventory import END_MARK, EndMark, read_end_mark
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.lease_view import LEASES
from cloudimg.migration.journal.processes import this_process
from cloudimg.migration.journal.sealing import (
    create_sealed,
    get_sealed,
    is_too_large,
    put_sealed,
)
from cloudimg.migration.journal.state_from_json import (
    CONTINUED,
    check_fields,
    check_together,
    identity_of,
)
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.storage import engine

PLAN = f"{JOURNAL}/plan.json"
"""Key of the plan with everything that decides what is written: the first object of a migration."""
CLEARING = f"{JOURNAL}/clearing.json"
"""Key of the mark that the contents are being deleted: the last object that is deleted."""
TABLES = f"{JOURNAL}/files"
"""Folder of the table of the source's files, and of those of plans that were not stored."""
_FORMAT = 3
"""Format number of the journal."""
_READ_FORMATS = (2, _FORMAT)
"""Format numbers of finished copies that this version reads. Those of format 2 may lack objects of
empty chunks, and their records lack the versions of objects."""
NO_FENCE = (
    "while this copy was made, its store did not refuse to create an object that exists: only its"
    " lease kept other writers apart"
)
"""Note in copies on stores that do not fence, see `Lease.fences`."""


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
    fences: bool = True
    """Whether the store refused to create an object that exists, when the plan was made."""
    format: int = _FORMAT
    """Format number of the journal."""
    began_as: Mapping[str, Any] | None = None
    """What the fields `CONTINUED` of `source` were when the migration was planned, if it goes on
    with other files; `id` is of them."""
    end_mark: EndMark | None = None
    """None if the migration is not finished."""

    @classmethod
    def planned(
        cls,
        plan: Plan,
        request: WriteRequest,
        source: Mapping[str, Any],
        facts: ImageFacts,
        *,
        fences: bool,
    ) -> Self:
        """The state of a new migration."""
        state_id = identity_of(plan.to_json(), request.to_json(), source)
        state = cls(plan=plan, request=request, source=source, facts=facts, id=state_id)
        return state if fences else state.without_fence()

    def with_files(self, source: Mapping[str, Any], facts: ImageFacts) -> Self:
        """The state of the same migration, which goes on with other files under its identity."""
        began_as = self.began_as or {name: self.source[name] for name in CONTINUED}
        return replace(self, source=source, facts=facts, began_as=began_as)

    def without_fence(self) -> Self:
        """The state of the same migration, with a note that its store does not fence."""
        facts = replace(self.facts, notes=(*self.facts.notes, NO_FENCE))
        return replace(self, facts=facts, fences=False)

    @property
    def is_done(self) -> bool:
        """Whether the migration is finished."""
        return self.end_mark is not None

    @property
    def is_current(self) -> bool:
        """Whether this version writes journals of this format."""
        return self.format == _FORMAT

    @property
    def most_files(self) -> int:
        """Most files, or planes of files, that the source can consist of: each has a pixel."""
        n_pixels: int = math.prod(self.source["shape"])
        return min(n_pixels, MOST_ROWS)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the copy lacks, and what was noticed about the source: by all cells if finished."""
        if self.end_mark is None:
            return self.facts.all_notes
        return (*self.facts.notes, *self.end_mark.notes)

    def to_json(self) -> dict[str, Any]:
        """The state without its end mark, as JSON for the journal."""
        return {
            "format": self.format,
            "state": "planned",
            "id": self.id,
            "plan": self.plan.to_json(),
            "request": self.request.to_json(),
            "source": dict(self.source),
            "facts": self.facts.to_json(),
            **({"files": self.files_sha256} if self.files_sha256 else {}),
            **({} if self.fences else {"fence": "none"}),
            **({} if self.began_as is None else {"began_as": dict(self.began_as)}),
        }

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Make a state, without an end mark, from its JSON.

        Raises
        ------
        ValueError
            If it is not the plan of a migration that could have been made.
        """
        check_fields(content)
        plan = Plan.from_json(content["plan"])
        request = WriteRequest.from_json(content["request"])
        is_older = content["format"] != _FORMAT
        check_together(content, plan, is_older=is_older)
        # Whoever goes on with the migration stores them again, under the identity of these bytes.
        if not is_older and as_json(request.to_json()) != as_json(content["request"]):
            raise ValueError("request is not in the form in which it is stored")
        return cls(
            plan=plan,
            request=request,
            source=content["source"],
            facts=ImageFacts.from_json(content["facts"]),
            id=content["id"],
            files_sha256=content.get("files", ""),
            fences=content.get("fence") != "none",
            format=content["format"],
            began_as=content.get("began_as"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationContents:
    """What a destination holds."""

    state: State | None = None
    """The migration that was planned there."""
    is_clearing: bool = False
    """Whether an overwriting migration began to delete the contents and stored no plan since."""
    cleared_by: Mapping[str, Any] | None = None
    """The process that did that, with the number and the owner of its lease; None if not known."""
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
            cleared_by = _cleared_by(destination) if has_objects else None
            return DestinationContents(
                is_clearing=cleared_by is not None,
                cleared_by=cleared_by,
                has_objects=has_objects,
                has_leases=has_leases,
            )
    try:
        if content["state"] == "clearing":  # by an older version
            return DestinationContents(is_clearing=True)
        if checked_int(content["format"], "format") not in _READ_FORMATS:
            raise is_of_other_format(destination, content["format"])
        state = State.from_json(content)
        state = replace(state, end_mark=_end_mark(destination, state.id))
        if not (state.is_current or state.is_done):
            raise is_of_other_format(destination, state.format)
    except ArgumentError:
        raise
    except (KeyError, ValueError) as exc:
        url = destination.display(PLAN)
        raise CorruptFileError(
            f"{url} is damaged: not the plan of a migration: {damage(exc)}", url=url
        ) from exc
    return DestinationContents(state=state)


def is_of_other_format(destination: Destination, number: Any) -> ArgumentError:
    """The error for a migration that only another version of cloudimg can continue."""
    return ArgumentError(
        f"{destination.url} was written by a version of cloudimg with journal format"
        f" {number}, this version has format {_FORMAT}: continue with that version, or start over"
        " with overwrite=True"
    )


def _cleared_by(destination: Destination) -> Mapping[str, Any] | None:
    """Who began to delete the contents; None if nobody did.

    The mark counts only where there is no plan, since the plan is deleted first. A process that
    was paused just before it stored its mark may do so beside the copy of its successor.
    """
    try:
        return get_sealed(destination, CLEARING)
    except CorruptFileError:
        return {}


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


def create_plan(destination: Destination, state: State) -> None:
    """Store the plan of a new migration."""
    create_sealed(destination, PLAN, _readable(state), fences=state.fences)


def replace_plan(destination: Destination, state: State) -> None:
    """Store the plan of a migration that goes on with another state."""
    put_sealed(destination, PLAN, _readable(state))


def _readable(state: State) -> dict[str, Any]:
    """The JSON of a state, which passes the checks of those who will read it.

    Raises
    ------
    ArgumentError
        If it does not.
    """
    content = state.to_json()
    data = as_json(content)
    try:
        if is_too_large(data):
            raise ValueError(f"it has {len(data)} bytes")
        State.from_json(json.loads(data))
    except ValueError as exc:
        invalid = damage(exc)
    else:
        return content
    raise ArgumentError(f"this image cannot be migrated, its plan would be refused: {invalid}")


def put_clearing_mark(destination: Destination, lease: Lease) -> None:
    """Store a mark that the holder of a lease deletes the contents."""
    holder = {**this_process(), "number": lease.number, "owner": lease.owner}
    put_sealed(destination, CLEARING, {"format": _FORMAT, "state": "clearing", **holder})
