"""Whether a call resumes the collection that a destination holds, replaces it, or is refused."""

from __future__ import annotations

from cloudimg.errors import NotFoundError, OccupiedError
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import DestinationContents, is_being_cleared
from cloudimg.migration.journal.resuming import refuse_foreign
from cloudimg.migration.run.options import RunOptions


def continues_collection(
    collection: Collection,
    contents: DestinationContents,
    destination: Destination,
    options: RunOptions,
) -> bool:
    """Whether the collection that is there is continued; otherwise a new one is begun.

    Raises
    ------
    OccupiedError
        If neither may be done.
    """
    found, url = contents.collection, destination.url
    is_done = found is not None and is_collection_done(destination, collection)
    if found == collection and not (options.overwrite and is_done):
        if is_done or options.resume:
            return True
        raise OccupiedError(
            f"{url} holds an unfinished migration: pass resume=True to continue it, or"
            " overwrite=True to start over",
            url=url,
        )
    if options.overwrite or not contents.has_objects:
        return False
    if contents.is_clearing:
        raise is_being_cleared(destination)
    if found is None and contents.state is None:
        refuse_foreign(contents, destination)
    what = "a copy of one image" if found is None else "a collection of other images"
    n_images = len(collection.images)
    raise OccupiedError(
        f'{url} holds {what}, and series="all" writes the {n_images} images of the source:'
        " choose another destination, or pass overwrite=True to delete what is there",
        url=url,
    )


def is_collection_done(destination: Destination, collection: Collection) -> bool:
    """Whether the last document of a collection is there.

    Raises
    ------
    StorageError
    """
    try:
        destination.info("zarr.json" if collection.zarr_format == 3 else ".zgroup")
    except NotFoundError:
        return False
    return True
