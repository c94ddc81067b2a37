"""Finding out what a destination holds: a migration, something else, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudimg.errors import ArgumentError, CorruptFileError, NotFoundError, ServerError
from cloudimg.errors.checked_json import checked_int, damage
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import EndMark, read_end_mark
from cloudimg.migration.journal.layout import (
    CLEARING,
    END_MARK,
    FORMAT,
    PLAN,
    READ_FORMATS,
    ROOT_METADATA,
    JournalKind,
    journal_kind,
)
from cloudimg.migration.journal.sealing import checksum, get_sealed, get_sealed_with_etag
from cloudimg.migration.journal.state import State
from cloudimg.storage import engine


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
    content, etag = get_sealed_with_etag(destination, PLAN)
    if content is None:
        has_objects, has_leases = listing.result()
        # Another migration may have stored its plan between the two requests.
        if has_objects:
            content, etag = get_sealed_with_etag(destination, PLAN)
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
        if checked_int(content["format"], "format") not in READ_FORMATS:
            raise is_of_other_format(destination, content["format"])
        state = State.from_json(content)
        end_mark = _end_mark(destination, state.id)
        state = replace(state, sha256=checksum(content), etag=etag, end_mark=end_mark)
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
        f" {number}, this version has format {FORMAT}: continue with that version, or start over"
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
        if journal_kind(entry.key) not in (JournalKind.LEASE, JournalKind.TABLE):
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
