"""What a copy holds beside its pixels: its metadata as it is now, and the objects of others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial

from cloudimg.errors import NotFoundError, counted
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import journal_kind
from cloudimg.migration.journal.stored_objects import StoredObject, create_object
from cloudimg.migration.metadata.edits import (
    Difference,
    Edit,
    Edits,
    Flaw,
    compare_consolidated,
    compare_document,
    is_of_another,
)
from cloudimg.migration.plan.overview import is_of_overview
from cloudimg.migration.plan.places import Place, group_of_others, place_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import Data, engine, map_ahead

_READ_AHEAD = 16
_MOST_GROUPS = 1000
"""Groups of others that are named; objects of further ones are only counted."""


def compare_documents(
    destination: Destination, documents: Mapping[str, bytes]
) -> Iterator[Difference]:
    """Compare the metadata of a copy with what was written.

    Parameters
    ----------
    destination : Destination
    documents : mapping
        All documents of the copy by key, as they were written.
    """

    def start(key: str) -> Future[tuple[str, bytes | None]]:
        return engine().fetch(partial(_get, destination, key))

    for key, found in map_ahead(start, documents, n_ahead=_READ_AHEAD):
        if found is None:
            yield Flaw(key, "missing")
            continue
        differences = compare_document(key, documents[key], found)
        yield from differences
        if differences and isinstance(differences[0], Edit) and key.endswith("zarr.json"):
            yield from compare_consolidated(key, found, documents)


def _get(destination: Destination, key: str) -> tuple[str, bytes | None]:
    try:
        return key, destination.get(key)
    except NotFoundError:
        return key, None


def store_document(
    destination: Destination,
    document: tuple[str, bytes],
    edits: Edits,
    *,
    fences: bool,
    is_first: bool,
) -> StoredObject:
    """Store a document of a copy, unless it is there already, perhaps edited.

    An edited one is kept: it has the same structure, and names no other source. All others are
    replaced, as those of migrations that were here before.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    document : tuple
        Key and bytes.
    edits : Edits
        What is kept is added to it.
    fences : bool
        Whether the store refuses to create an object that exists.
    is_first : bool
        Whether no run before can have stored it.

    Returns
    -------
    StoredObject
        What the key has now.
    """
    key, data = document

    def is_edited(found: Data) -> bool:
        differences = compare_document(key, data, bytes(found))
        kept = [each for each in differences if isinstance(each, Edit)]
        if len(kept) < len(differences) or is_of_another(data, bytes(found)):
            return False
        for each in kept:
            edits.add(each)
        return True

    if not (fences or is_first):
        found = _get(destination, key)[1]
        if found is not None and found != data and is_edited(found):
            return StoredObject(key, len(found), hashlib.sha256(found).hexdigest())
    return create_object(destination, key, data, fences=fences, is_equal=is_edited)


def replaced_objects(
    destination: Destination,
    is_listed: Callable[[StoredObject], bool],
    objects: Iterable[StoredObject],
) -> Iterator[StoredObject]:
    """Objects that are missing, or have other bytes than were stored.

    Parameters
    ----------
    destination : Destination
    is_listed : callable
        Whether an object was listed as it was stored. All others are read, since versions differ
        also where a copy was moved, or an object restored.
    objects : iterable of StoredObject
    """

    def start(stored: StoredObject) -> Future[tuple[StoredObject, bool]]:
        if not is_listed(stored):
            return engine().fetch(partial(_is_as_stored, destination, stored))
        known: Future[tuple[StoredObject, bool]] = Future()
        known.set_result((stored, True))
        return known

    for stored, is_same in map_ahead(start, objects, n_ahead=_READ_AHEAD):
        if not is_same:
            yield stored


def _is_as_stored(destination: Destination, stored: StoredObject) -> tuple[StoredObject, bool]:
    try:
        data = destination.get(stored.key, most_bytes=stored.size_bytes)
    except NotFoundError:
        return stored, False
    return stored, hashlib.sha256(data).hexdigest() == stored.sha256


class Listed:
    """The objects that a listing of a copy has beside the journal, sorted by whose they are."""

    def __init__(self, plan: Plan, documents: Mapping[str, bytes]) -> None:
        self._plan = plan
        self._documents = documents
        self.n_pixels = 0
        """Number of objects where only shards, chunks and the table of originals belong."""
        self._consolidated: list[str] = []
        self._nodes: list[str] = []
        self._added: dict[tuple[str, bool], int] = {}
        self._n_more = 0

    def add(self, key: str) -> None:
        """Add an object."""
        if key in self._documents or is_of_overview(self._plan, key):
            return
        place = place_of(self._plan, key)
        if place in (Place.CHUNKS, Place.ORIGINALS):
            self.n_pixels += 1
        elif place is Place.NODE:
            self._nodes.append(key)
        elif place is Place.CONSOLIDATED:
            self._consolidated.append(key)
        else:
            group = group_of_others(self._plan, key)
            if group in self._added or len(self._added) < _MOST_GROUPS:
                self._added[group] = self._added.get(group, 0) + 1
            else:
                self._n_more += 1

    def differences(self, destination: Destination) -> Iterator[Difference]:
        """What others added, and objects that readers may take for the copy's metadata."""
        for key in self._nodes:
            yield Flaw(key, "does not belong to the image: readers may take it for its metadata")
        for key in self._consolidated:
            found = _get(destination, key)[1]
            flaws = [] if found is None else compare_consolidated(key, found, self._documents)
            yield from flaws or [Edit("added", key, "consolidated metadata")]
        for (key, is_folder), n in self._added.items():
            yield Edit("added", key, counted(n, "object") if is_folder else "")
        if self._n_more:
            yield Edit("added", "other folders", counted(self._n_more, "object"))


def keys_beyond(destination: Destination, plan: Plan, known: set[str]) -> Iterator[str]:
    """Keys of objects among a copy's pixels and originals that it did not store."""
    for entry in destination.list():
        if journal_kind(entry.key) is not None or entry.key in known:
            continue
        if place_of(plan, entry.key) in (Place.CHUNKS, Place.ORIGINALS):
            yield entry.key
