"""Replace the documents of a copy that has grown, while others read it.

All objects of all levels are there before. Then each document is replaced by one request, on the
condition that it is still the one that was read, so readers find the old or the new one. Programs
open the levels from the finest on. The documents of arrays are therefore replaced from the coarsest
level on: whoever opens the copy meanwhile finds the coarser levels at least as long as the finer
ones, and whatever index the finest one has is there at all levels. Those of groups come last, which
name the coordinates of what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from cloudimg.errors import NotFoundError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.stored_objects import (
    StoredObject,
    create_object,
)
from cloudimg.migration.metadata.edits import (
    Edit,
    Edits,
    compare_document,
    is_of_another,
    parsed,
)
from cloudimg.migration.metadata.mended import renewed_document
from cloudimg.migration.metadata.zarr_nodes import as_document
from cloudimg.migration.plan.plan import Plan
from cloudimg.storage import engine, map_ahead

_AHEAD = 64
_MOST_ATTEMPTS = 16
_CONSOLIDATED_2 = ".zmetadata"
Document = tuple[str, bytes]


def replaced_documents(
    destination: Destination,
    plan: Plan,
    documents: Iterable[Document],
    before: Mapping[str, bytes],
    edits: Edits,
    *,
    only_these: bool,
    fences: bool,
) -> Iterator[StoredObject]:
    """Store the documents of a copy that has grown, with what others edited in those before.

    Parameters
    ----------
    destination : Destination
        Guarded by a lease.
    plan : Plan
    documents : iterable of tuple
        Key and bytes of each.
    before : mapping
        Documents by key, as they were written before the copy grew.
    edits : Edits
        What is kept is added to it.
    only_these : bool
        Whether nobody can have edited the other documents.
    fences : bool

    Yields
    ------
    StoredObject
        What the key of each has now.

    Raises
    ------
    LeaseError, StorageError
    """
    store = partial(_replace, destination, before, edits, only_these=only_these, fences=fences)
    for batch in _in_order(plan, documents):
        yield from map_ahead(
            lambda document: engine().fetch(partial(store, document)), batch, n_ahead=_AHEAD
        )
    if plan.zarr_format == 2:
        destination.delete([_CONSOLIDATED_2])  # it has the arrays as they were before


def _in_order(plan: Plan, documents: Iterable[Document]) -> list[Sequence[Document]]:
    """Documents that may be replaced at the same time: those of a level, the coarsest one first."""
    images = range(plan.n_images)
    level_of = {
        plan.array_path(image, level): level
        for image in images
        for level in range(len(plan.levels))
    }
    batches: dict[int, list[Document]] = {}
    for key, data in documents:
        # Groups come after all arrays.
        batches.setdefault(level_of.get(key.rpartition("/")[0], -1), []).append((key, data))
    return [batches[level] for level in sorted(batches, reverse=True)]


def _replace(
    destination: Destination,
    before: Mapping[str, bytes],
    edits: Edits,
    document: Document,
    *,
    only_these: bool,
    fences: bool,
) -> StoredObject:
    key, new = document
    for _ in range(_MOST_ATTEMPTS):
        data = new
        try:
            found, etag = destination.get_with_etag(key)
        except NotFoundError:
            break
        if (key in before or not only_these) and not is_of_another(new, found):
            data = renewed_document(key, before.get(key), _without_consolidated(key, found), new)
        if data == found or destination.replace(key, data, etag):
            for each in compare_document(key, new, data):
                if isinstance(each, Edit):
                    edits.add(each)
            return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())
        # Somebody edited it meanwhile, and that is kept, too.
    return create_object(destination, key, new, fences=fences)


def _without_consolidated(key: str, found: bytes) -> bytes:
    """A document without consolidated metadata, which has the arrays as they were before."""
    content = parsed(found)
    if content is None or content.pop("consolidated_metadata", None) is None:
        return found
    return as_document(content)
