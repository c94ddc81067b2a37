"""Verify a collection of copies: each of them, their list, and the metadata that leads to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cloudimg.errors import ArgumentError, CorruptFileError, counted
from cloudimg.migration.journal.collection import Collection, read_collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import load
from cloudimg.migration.journal.layout import (
    CLEARING,
    COLLECTION,
    COLLECTION_COPY,
    LEASES,
    ROOT_METADATA,
    journal_kind,
)
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.edits import Edit
from cloudimg.migration.progress import AdvanceCallback, of_image
from cloudimg.migration.run.collection_contents import documents_of, own_leftovers
from cloudimg.migration.run.contents import compare_documents
from cloudimg.migration.run.result import longest_report, notes_of_images, sums
from cloudimg.migration.verify.result import Problem, Verification

_MOST_PROBLEMS = 1000
VerifyImage = Callable[[Destination, State, AdvanceCallback | None], Verification]
"""Verifies the copy of one image."""


def verify_collection(
    destination: Destination,
    collection: Collection,
    verify_image: VerifyImage,
    progress: AdvanceCallback | None,
) -> Verification:
    """Verify all images of a collection, and what leads readers to them.

    Parameters
    ----------
    destination : Destination
    collection : Collection
    verify_image : callable
        Verifies the copy of one image.
    progress : callable, optional
        Called after each cell.

    Raises
    ------
    StorageError
        If the store fails. Problems of the copies are part of the result.
    """
    started = time.monotonic()
    own = check_own(destination, collection)
    done: dict[str, Verification] = {}
    problems, told = [*own.problems, *own.unread], set[str]()
    n_images = len(collection.images)
    copies = zip(collection.paths, collection.copies(destination), strict=True)
    for number, (path, copy) in enumerate(copies):
        if path in own.states:
            show = None if progress is None else of_image(progress, number, n_images, told, ())
            done[path] = verify_image(copy, own.states[path], show)
            problems += done[path].problems
    images = list(done.values())
    n_more = sum(each.n_problems - len(each.problems) for each in images)
    of_images = [each.below(path) for path, one in done.items() for each in one.edits]
    return Verification(
        **sums(images, "n_cells", "n_objects", "n_bytes", "n_compared"),
        url=destination.url,
        n_problems=len(problems) + n_more,
        problems=tuple(problems[:_MOST_PROBLEMS]),
        seconds=time.monotonic() - started,
        notes=notes_of_images({path: each.notes for path, each in done.items()}),
        report=longest_report(each.report for each in images),
        filled=tuple(dict.fromkeys(file for each in images for file in each.filled)),
        edits=(*own.edits, *of_images),
        n_edits=len(own.edits) + sums(images, "n_edits")["n_edits"],
    )


@dataclass(slots=True)
class OwnFindings:
    """What is found at the destination of a collection, apart from the copies in it."""

    destination: Destination
    problems: list[Problem] = field(default_factory=list)
    unread: list[Problem] = field(default_factory=list)
    """Images whose journal cannot be read."""
    edits: list[Edit] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    """The migrations that wrote the images, by folder; only those that can be read."""
    lost_lists: tuple[str, ...] = ()
    """Keys of the copies of the list of images that are missing or damaged."""
    documents: dict[str, bytes] | None = None
    """The metadata as it was written; None if an image is another one or is not finished."""
    foreign: list[str] = field(default_factory=list)
    """Keys of objects that do not belong to the collection, where readers may take them for it."""

    def add(self, key: str, what: str) -> None:
        """Add a problem of an object."""
        self.problems.append(Problem(self.destination.display(key), what))

    def add_foreign(self, key: str, what: str) -> None:
        """Add an object that does not belong there."""
        self.add(key, what)
        self.foreign.append(key)


def check_own(destination: Destination, collection: Collection) -> OwnFindings:
    """Check what belongs to a collection and to none of its copies.

    Raises
    ------
    StorageError
    """
    found = OwnFindings(destination)
    _, found.lost_lists = read_collection(destination)
    for key in found.lost_lists:
        found.add(key, "a copy of the list of images is missing or damaged")
    if all([*_load_images(collection, found)]):
        documents = documents_of(destination, found.states)
        found.documents = None if documents is None else dict(documents)
    if found.documents is not None:
        for difference in compare_documents(destination, found.documents):
            if isinstance(difference, Edit):
                found.edits.append(difference)
            else:
                found.add(difference.key, difference.what)
    _sort_listing(collection, found)
    root = Path(destination.root)
    for path in destination.links():
        if path.relative_to(root).parts[0] not in collection.paths:
            what = "is a symbolic link: what readers find there is not of the collection"
            found.problems.append(Problem(str(path), what))
    for path in own_leftovers(destination, collection):
        what = "left over from a write that was killed: running the migration again deletes it"
        found.problems.append(Problem(str(path), what))
    return found


def _load_images(collection: Collection, found: OwnFindings) -> Iterator[bool]:
    """Read the journal of each image; whether it is a finished copy of what the list says."""
    for image, copy in zip(collection.images, collection.copies(found.destination), strict=True):
        try:
            state = load(copy)
        except (ArgumentError, CorruptFileError) as exc:
            found.unread.append(Problem(copy.url, exc.message))
            yield False
            continue
        found.states[str(image.series)] = state
        series = state.source.get("open", {}).get("series")
        is_right = (series, state.plan.zarr_format) == (image.series, collection.zarr_format)
        if not is_right:
            what = (
                f"is a copy of image {series} in Zarr {state.plan.zarr_format}, and the collection"
                f" has image {image.series} in Zarr {collection.zarr_format} there"
            )
            found.problems.append(Problem(copy.url, what))
        yield is_right


def _sort_listing(collection: Collection, found: OwnFindings) -> None:
    """Find what others added, and what does not belong to the collection."""
    added: dict[tuple[str, bool], int] = {}
    known = {COLLECTION, COLLECTION_COPY, CLEARING, *(found.documents or ())}
    for entry in found.destination.list():
        key, (first, _, rest) = entry.key, entry.key.partition("/")
        if key in known or key.startswith(f"{LEASES}/") or (rest and first in collection.paths):
            continue
        if journal_kind(key) is not None:
            found.add_foreign(key, "does not belong to the journal")
        elif found.documents is None and (first == "OME" or key in ROOT_METADATA):
            continue  # what belongs there is not known
        elif _is_metadata(key, collection.zarr_format):
            what = "does not belong to the collection: readers may take it for its own"
            found.add_foreign(key, what)
        else:
            group = (first, bool(rest))
            added[group] = added.get(group, 0) + 1
    for (key, is_folder), n in added.items():
        found.edits.append(Edit("added", key, counted(n, "object") if is_folder else ""))


def _is_metadata(key: str, zarr_format: int) -> bool:
    """Whether readers may take an object for metadata of the collection or its group OME.

    Consolidated metadata of Zarr 2 is what others may add.
    """
    name = key.removeprefix("OME/")
    return name in ROOT_METADATA and not (name == ".zmetadata" and zarr_format == 2)
