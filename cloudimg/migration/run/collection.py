"""`write_collection`: all images of a source, each as a copy of its own, and what leads to them.

1. Inspect the destination; refuse to overwrite what was not to be overwritten. Unless a collection
   is continued, open an image of each shape and type and check all arguments, before anything is
   stored.
2. Acquire the lease of the destination, and store the list of images.
3. Write the images one after the other, as `write` does: each into a folder of its own, with its
   own plan, lease and end mark.
4. Write the metadata of the destination, its root last.

A process that is killed at any point leaves a destination that the same call continues.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cloudimg.errors import (
    ArgumentError,
    BadFilesError,
    CloudimgError,
    DamagedCopyError,
    NotFoundError,
)
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.clearing import leftovers
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import (
    DestinationContents,
    inspect_destination,
    is_being_cleared,
    load,
)
from cloudimg.migration.journal.layout import COLLECTION, COLLECTION_COPY
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.resuming import refuse_foreign
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.stored_objects import restore_object
from cloudimg.migration.metadata.documents import collection_documents
from cloudimg.migration.metadata.edits import Edit, Edits
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import AdvanceCallback, notify_of, of_image
from cloudimg.migration.run.committed import committed_cells
from cloudimg.migration.run.contents import store_document
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.overlap import refuse_overlap, refuse_to_delete_source
from cloudimg.migration.run.planning import check_memory, clear_for, plan_for_request
from cloudimg.migration.run.result import Migration, longest_report, notes_of_images, sums
from cloudimg.migration.run.write import write
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.storage.moving import remove
from cloudimg.tiff import FileImage, remarks_on

_LONGEST = 255
OpenImage = Callable[[int, EarlierSource | None], WriteInput]
"""Opens the image with a number."""


def images_to_copy(images: Sequence[FileImage]) -> tuple[FileImage, ...]:
    """The images that a collection consists of: all that have pixels.

    Texts of files have any length, and what a journal holds is limited.
    """
    return tuple(
        replace(image, name=image.name[:_LONGEST], dtype=image.dtype[:_LONGEST])
        for image in images
        if image.role != "empty"
    )


def write_collection(
    images: Sequence[FileImage],
    open_image: OpenImage,
    destination: Destination,
    request: WriteRequest,
    options: RunOptions,
) -> Migration:
    """Write all images of a source to a destination, or continue an unfinished collection.

    Parameters
    ----------
    images : sequence of FileImage
        The images of the source.
    open_image : callable
        Opens the image with a number.
    destination : Destination
    request : WriteRequest
        The arguments that decide which bytes are written, for each image.
    options : RunOptions

    Raises
    ------
    ArgumentError
        If the destination holds something else, or a collection of other images, or an image was
        written with other arguments.
    BadFilesError
        If an image has bad files, once all other cells of all images are done.
    LeaseError
        If another migration is writing to the destination, or to an image in it.
    CloudimgError
        If reading or writing fails; finished cells stay finished.
    """
    work = _Writing(
        Collection(request.zarr_format, images_to_copy(images)),
        open_image,
        destination,
        request,
        options,
    )
    return work.run()


@dataclass(frozen=True, slots=True)
class _Writing:
    """A collection that is being written."""

    collection: Collection
    open_image: OpenImage
    destination: Destination
    request: WriteRequest
    options: RunOptions

    def run(self) -> Migration:
        """Take all steps."""
        started = time.monotonic()
        destination, options = self.destination, self.options
        contents = inspect_destination(destination, overwrite=options.overwrite, is_first_look=True)
        continues = self._continues(contents)
        if not continues:
            self._check_images(is_overwriting=contents.has_objects)
        notify = partial(notify_of, options.progress)
        with acquire(destination, notify=notify, is_unheld=contents.is_empty) as lease:
            guarded = lease.guarded()
            contents = inspect_destination(guarded, overwrite=options.overwrite)  # sole writer now
            continues = self._continues(contents)
            if not continues and contents.has_objects:
                clear_for(contents, guarded, options, lease)
            content = seal(self.collection.to_json())
            for key in (COLLECTION, COLLECTION_COPY):
                restore_object(guarded, key, content, fences=lease.fences)
            for path in own_leftovers(guarded, self.collection):
                remove(path)
            was_done = continues and self._is_done()
            done = list(self._write_images(lease))
            edits: list[Edit] = []
            if not (was_done and all(each.is_unchanged for each in done)):
                edits = self._write_metadata(guarded, fences=lease.fences, is_first=not continues)
        return self._result(done, edits, time.monotonic() - started)

    def _continues(self, contents: DestinationContents) -> bool:
        """Whether the collection that is there is continued; otherwise a new one is begun.

        Raises
        ------
        ArgumentError
            If neither may be done.
        """
        found, url = contents.collection, self.destination.url
        is_done = found is not None and self._is_done()
        overwrite = self.options.overwrite
        if found == self.collection and not (overwrite and is_done):
            if is_done or self.options.resume:
                return True
            raise ArgumentError(
                f"{url} holds an unfinished migration: pass resume=True to continue it, or"
                " overwrite=True to start over",
                url=url,
            )
        if overwrite or not contents.has_objects:
            return False
        if contents.is_clearing:
            raise is_being_cleared(self.destination)
        if found is None and contents.state is None:
            refuse_foreign(contents, self.destination)
        what = "a copy of one image" if found is None else "a collection of other images"
        n_images = len(self.collection.images)
        raise ArgumentError(
            f'{url} holds {what}, and series="all" writes the {n_images} images of the source:'
            " choose another destination, or pass overwrite=True to delete what is there",
            url=url,
        )

    def _is_done(self) -> bool:
        """Whether the last document of the collection is there."""
        try:
            self.destination.info("zarr.json" if self.collection.zarr_format == 3 else ".zgroup")
        except NotFoundError:
            return False
        return True

    def _check_images(self, *, is_overwriting: bool) -> None:
        """Open an image of each shape and type, lest it be refused after others were written.

        Raises
        ------
        CloudimgError
        """
        # Files with hundreds of images have alike ones, and each opening reads what is said of all.
        unlike = {(i.role, i.shape, i.dtype): i for i in reversed(self.collection.images)}
        for image in reversed(unlike.values()):
            write_input = _opened(self.open_image, image)
            check_memory(plan_for_request(write_input, self.request), self.options)
            refuse_overlap(write_input, self.destination)
            if is_overwriting:
                refuse_to_delete_source(write_input, self.destination)

    def _write_images(self, lease: Lease) -> Iterator[Migration]:
        """Write the images one after the other; of one with bad files, first all others.

        Raises
        ------
        BadFilesError
            The one with most of them.
        """
        failures: list[BadFilesError] = []
        told: set[str] = set()
        copies = self.collection.copies(self.destination)
        for number, (image, copy) in enumerate(zip(self.collection.images, copies, strict=True)):
            lease.check(in_store=True)
            options = replace(
                self.options,
                keeps_finished=True,
                progress=self._progress(number, told),
            )
            try:
                yield write(partial(self.open_image, image.series), copy, self.request, options)
            except BadFilesError as exc:
                failures.append(exc)
        if failures:
            raise max(failures, key=lambda failure: failure.report.total)

    def _progress(self, number: int, told: set[str]) -> AdvanceCallback | None:
        if self.options.progress is None:
            return None
        images = self.collection.images
        # All images are copied, so remarks on the other ones would mislead.
        further = tuple(remark.text for remark in remarks_on(images, images[number].series))
        return of_image(self.options.progress, number, len(images), told, further)

    def _write_metadata(
        self, destination: Destination, *, fences: bool, is_first: bool
    ) -> list[Edit]:
        """Write the metadata that leads to the images; returns what others edited in it."""
        edits = Edits()
        copies = zip(self.collection.paths, self.collection.copies(destination), strict=True)
        documents = documents_of(destination, {path: load(copy) for path, copy in copies})
        if documents is None:
            raise DamagedCopyError(
                f"an image of {destination.url} was changed after it was finished: verify lists all"
                " problems, and cloudimg.repair mends what can be mended",
                url=destination.url,
            )
        for document in documents:
            store_document(destination, document, edits, fences=fences, is_first=is_first)
        return edits.first

    def _result(
        self, done: Sequence[Migration], edits: Sequence[Edit], seconds: float
    ) -> Migration:
        by_path = dict(zip(self.collection.paths, done, strict=True))
        of_images = [each.below(path) for path, one in by_path.items() for each in one.edits]
        n_edits = len(edits) + sum(each.n_edits for each in done)
        return Migration(
            **sums(done, "n_cells", "n_done_before", "n_objects", "n_bytes"),
            url=self.destination.url,
            seconds=seconds,
            notes=notes_of_images({path: each.notes for path, each in by_path.items()}),
            report=longest_report(each.report for each in done),
            edits=(*edits, *of_images),
            n_edits=n_edits,
            images=tuple(done),
        )


def _opened(open_image: OpenImage, image: FileImage) -> WriteInput:
    """Open an image of a collection that is not there yet.

    Raises
    ------
    CloudimgError
        It says which image cannot be copied.
    """
    try:
        return open_image(image.series, None)
    except CloudimgError as exc:
        exc.message += (
            f'. This is image {image.series}, and series="all" copies all of them: pass series=N'
            " to copy one that can be read"
        )
        exc.args = (exc.message,)
        raise


def documents_of(
    destination: Destination, states: Mapping[str, State]
) -> list[tuple[str, bytes]] | None:
    """The metadata of a collection, given the journals of its images by folder.

    None if an image is not finished, or commit records of the first one are lost.
    """
    found = []
    for path, state in states.items():
        if state.end_mark is None:
            return None
        found.append((path, state.plan, state.facts.with_notes(state.end_mark.notes)))
    path, first = next(iter(states.items()))
    committed = committed_cells(destination.below(path), first)
    if committed is None:
        return None
    return collection_documents(found, committed.contrast.histograms())


def own_leftovers(destination: Destination, collection: Collection) -> list[Path]:
    """What killed processes left in a local folder, except in the folders of images."""
    root = Path(destination.root)
    return [
        path
        for path in leftovers(destination)
        if path.relative_to(root).parts[0] not in collection.paths
    ]
