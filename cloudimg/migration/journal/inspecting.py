"""Finding out what a destination holds: a migration, something else, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudimg.errors import (
    ArgumentError,
    CorruptFileError,
    NotFoundError,
    OccupiedError,
    ServerError,
)
from cloudimg.errors.checked_json import checked_int, damage
from cloudimg.migration.journal.collection import Collection, is_collection, read_collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inventory import EndMark, read_end_mark
from cloudimg.migration.journal.layout import (
    CLEARING,
    END_MARK,
    FORMAT,
    PLAN,
    PLAN_COPY,
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
    collection: Collection | None = None
    """The images, of a collection of copies."""
    has_objects: bool = True
    """Whether there are objects other than leases."""
    has_leases: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether the destination has no objects at all."""
        return not (self.has_objects or self.has_leases)


def inspect_destination(
    destination: Destination, *, overwrite: bool = False, is_first_look: bool = False
) -> DestinationContents:
    """Find out what a destination holds.

    Parameters
    ----------
    destination : Destination
    overwrite : bool
        Treat a plan that cannot be read as contents that are being deleted.
    is_first_look : bool
        Whether the caller looks again with a lease: a listing that lacks the lease is none. Until
        then one empty answer is believed, since to check it takes another client of the store,
        half a second of processor time.

    Raises
    ------
    ArgumentError
        If the plan was stored by a version of cloudimg with another journal format.
    CorruptFileError
        If the plan is damaged.
    StorageError
    """
    try:
        return _inspect(destination, is_first_look)
    except (ArgumentError, CorruptFileError):
        if not overwrite:
            raise
        return DestinationContents(is_clearing=True)


def _inspect(destination: Destination, is_first_look: bool) -> DestinationContents:
    # Both requests at once, because most destinations are new and have no plan.
    listing = engine().fetch(
        partial(_listed_objects_and_leases, destination, believes_empty=is_first_look)
    )
    content, etag = get_sealed_with_etag(destination, PLAN)
    if content is None:
        known = _ask_for_known_objects(destination)  # while an empty listing is checked
        has_objects, has_leases = listing.result()
        if not has_objects:
            has_objects, has_leases = _as_asked(destination, known, has_leases)
        # Another migration may have stored its plan between the two requests.
        if has_objects:
            content, etag = get_sealed_with_etag(destination, PLAN)
        if content is None:
            found = DestinationContents(has_objects=has_objects, has_leases=has_leases)
            return _without_plan(destination, found) if has_objects else found
    try:
        if content["state"] == "clearing":  # by an older version
            return DestinationContents(is_clearing=True)
        if checked_int(content["format"], "format") not in READ_FORMATS:
            raise is_of_other_format(destination, content["format"])
        state = state_of(content, etag)
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


def _without_plan(destination: Destination, found: DestinationContents) -> DestinationContents:
    """What a destination with objects holds, but no plan."""
    collection, _ = read_collection(destination)
    if collection is not None:
        return replace(found, collection=collection)
    cleared_by = _cleared_by(destination)
    if cleared_by is not None:
        return replace(found, is_clearing=True, cleared_by=cleared_by)
    _refuse_without_plan(destination)
    return found


def state_of(content: Mapping[str, Any], etag: str | None) -> State:
    """The state that a stored plan holds, without its end mark.

    Raises
    ------
    ValueError
    """
    return replace(State.from_json(content), sha256=checksum(content), etag=etag)


def _refuse_without_plan(destination: Destination) -> None:
    """Refuse a copy of which only the second copy of the plan is left.

    Raises
    ------
    CorruptFileError
    """
    try:
        destination.info(PLAN_COPY)
    except NotFoundError:
        return
    url = destination.display(PLAN)
    raise CorruptFileError(f"{url}, the plan of this copy, is missing", url=url)


def is_of_other_format(destination: Destination, number: Any) -> OccupiedError:
    """The error for a migration that only another version of cloudimg can continue."""
    return OccupiedError(
        f"{destination.url} was written by a version of cloudimg with journal format"
        f" {number}, this version has format {FORMAT}: continue with that version, or start over"
        " with overwrite=True"
    )


def _cleared_by(destination: Destination) -> Mapping[str, Any] | None:
    """Who began to delete the contents; None if nobody did.

    A process deletes the plan before anything else, so a mark beside a plan does not count: the
    process that stored the mark was paused before it did so, and another migration began since.
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


def _as_asked(
    destination: Destination, known: Mapping[str, Future[bool]], has_leases: bool
) -> tuple[bool, bool]:
    """Whether there are objects and leases, where none but leases were listed.

    Raises
    ------
    ServerError
        If there are, although the store lists none: the others would be overwritten unseen.
    """
    hidden = next((key for key, request in known.items() if request.result()), None)
    if hidden is None:
        return False, has_leases
    listed = _listed_objects_and_leases(destination)  # another migration may have just stored it
    if not listed[0]:
        raise ServerError(
            f"the store lists no objects in {destination.url}, but {destination.display(hidden)}"
            " exists: its listings cannot be trusted, and nothing was written. Try again later, or"
            " choose another destination",
            url=destination.url,
        )
    return listed


def has_only_leases(destination: Destination) -> bool:
    """Whether a listing of a destination has leases or tables of files, and no other objects."""
    return _listed_objects_and_leases(destination) == (False, True)


def _listed_objects_and_leases(
    destination: Destination, *, believes_empty: bool = False
) -> tuple[bool, bool]:
    """Whether objects other than leases are listed, and whether leases are."""
    has_leases = False
    for entry in destination.list(believes_empty=believes_empty):
        if journal_kind(entry.key) not in (JournalKind.LEASE, JournalKind.TABLE):
            return True, True
        has_leases = True
    return bool(destination.links()), has_leases


def _ask_for_known_objects(destination: Destination) -> dict[str, Future[bool]]:
    """Whether objects exist that images have, asked for by name."""

    def exists(key: str) -> bool:
        try:
            destination.info(key)
            return True
        except NotFoundError:
            return False

    return {key: engine().fetch(partial(exists, key)) for key in (*ROOT_METADATA, END_MARK)}


def load(destination: Destination) -> State:
    """Read the migration that a destination holds.

    Raises
    ------
    ArgumentError
        If it holds none, or a collection of copies.
    CorruptFileError, StorageError
    """
    found = load_any(destination)
    if isinstance(found, Collection):
        raise is_collection(destination, found)
    return found


def load_any(destination: Destination) -> State | Collection:
    """Read the migration, or the list of a collection of copies, that a destination holds.

    Raises
    ------
    ArgumentError
        If it holds neither.
    CorruptFileError, StorageError
    """
    unreadable = ""
    try:
        contents = inspect_destination(destination)
    except CorruptFileError as exc:
        unreadable, url = exc.message, exc.url
    if unreadable:
        what = f"{unreadable}. cloudimg.repair restores it if its second copy is whole"
        raise CorruptFileError(what, url=url)
    if contents.is_clearing:
        raise is_being_cleared(destination)
    if contents.collection is not None:
        return contents.collection
    if contents.state is None:
        url = destination.url
        what = f"{url} was not written by cloudimg: it has no journal"
        if not contents.has_objects:
            what = f"there is nothing at {url}, neither a copy nor other objects: check the URL"
        raise ArgumentError(what, url=url)
    return contents.state


def is_being_cleared(destination: Destination) -> OccupiedError:
    """The error for a destination whose contents were deleted in part."""
    return OccupiedError(
        f"{destination.url} holds no image: a migration with overwrite=True was interrupted while"
        " it deleted the previous contents. Run it again with overwrite=True",
        url=destination.url,
    )
