"""Repair a collection of copies: each of them, then their list and what leads readers to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from cloudimg.errors import ArgumentError, CorruptFileError, DamagedCopyError
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.clearing import delete_all
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.stored_objects import restore_object
from cloudimg.migration.progress import AdvanceCallback, notify_of, of_image
from cloudimg.migration.repair.mend_rest import mend_documents
from cloudimg.migration.repair.options import RepairOptions, may_delete
from cloudimg.migration.repair.result import MOST, Repair
from cloudimg.migration.run.collection_contents import own_leftovers
from cloudimg.migration.run.result import sums
from cloudimg.migration.verify.collection import check_own
from cloudimg.migration.verify.result import Problem
from cloudimg.storage.moving import remove

RepairImage = Callable[[Destination, AdvanceCallback | None], Repair]
"""Repairs the copy of one image."""


def repair_collection(
    destination: Destination,
    collection: Collection,
    repair_image: RepairImage,
    options: RepairOptions,
) -> Repair:
    """Mend all images of a collection, and what leads readers to them.

    Parameters
    ----------
    destination : Destination
    collection : Collection
    repair_image : callable
        Repairs the copy of one image.
    options : RepairOptions

    Raises
    ------
    LeaseError
        If another process writes to the collection, or to an image in it.
    StorageError
        What was mended by then stays, and another repair continues.
    """
    if options.dry_run:
        return _repair(destination, collection, repair_image, options, None)
    with acquire(destination, notify=partial(notify_of, options.progress)) as lease:
        return _repair(destination, collection, repair_image, options, lease)


def _repair(
    destination: Destination,
    collection: Collection,
    repair_image: RepairImage,
    options: RepairOptions,
    lease: Lease | None,
) -> Repair:
    """Repair under a lease; without one, only find the problems."""
    started = time.monotonic()
    own = check_own(destination, collection)
    done: dict[str, Repair] = {}
    refused: list[Problem] = []
    told, n_images = set[str](), len(collection.images)
    copies = zip(collection.paths, collection.copies(destination), strict=True)
    for number, (path, copy) in enumerate(copies):
        tell = options.progress
        show = None if tell is None else of_image(tell, number, n_images, told, ())
        try:
            done[path] = repair_image(copy, show)
        except (ArgumentError, CorruptFileError, DamagedCopyError) as exc:
            # It is not finished, or both copies of its plan are lost.
            refused.append(Problem(copy.url, exc.message))
    after, mended, n_removed = own, list[str](), 0
    if lease is not None and (own.problems or own.documents is None):
        mended, n_removed = _mend_own(lease, collection, options)
        after = check_own(destination, collection)
    images = list(done.values())
    found, left = [*own.problems, *refused], [*after.problems, *refused]
    of_images = sums(
        images, "n_found", "n_mended", "n_removed", "n_problems", "n_orphaned", "n_edits"
    )
    of_edits = (each.below(path) for path, one in done.items() for each in one.edits)
    stored = [f"{path}/{each}" for path, one in done.items() for each in one.mended]
    return Repair(
        url=destination.url,
        is_dry_run=options.dry_run,
        n_found=len(found) + of_images["n_found"],
        found=(*found, *(problem for each in images for problem in each.found))[:MOST],
        n_mended=len(mended) + of_images["n_mended"],
        mended=(*stored, *mended)[:MOST],
        n_removed=n_removed + of_images["n_removed"],
        n_problems=len(left) + of_images["n_problems"],
        problems=(*left, *(problem for each in images for problem in each.problems))[:MOST],
        n_orphaned=len(after.foreign) + of_images["n_orphaned"],
        seconds=time.monotonic() - started,
        edits=(*after.edits, *of_edits)[:MOST],
        n_edits=len(after.edits) + of_images["n_edits"],
    )


def _mend_own(
    lease: Lease, collection: Collection, options: RepairOptions
) -> tuple[list[str], int]:
    """Mend what belongs to the collection alone.

    Returns
    -------
    tuple
        Keys of what was stored again, and number of objects that were deleted.
    """
    destination, fences = lease.guarded(), lease.fences
    own = check_own(destination, collection)  # again, with mended images
    for path in own_leftovers(destination, collection):
        remove(path)
    for key in own.lost_lists:
        restore_object(destination, key, seal(collection.to_json()), fences=fences)
    mended = list(own.lost_lists)
    if own.documents is not None:
        mended += mend_documents(destination, own.documents, fences=fences)
    if not own.foreign or not may_delete(destination, own.foreign, options):
        return mended, 0
    delete_all(destination, own.foreign)
    return mended, len(own.foreign)
