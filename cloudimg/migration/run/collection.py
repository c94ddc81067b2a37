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
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from cloudimg.errors import (
    BadFilesError,
    ChangedError,
    CloudimgError,
    DamagedCopyError,
)
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.inspecting import (
    DestinationContents,
    inspect_destination,
    load,
)
from cloudimg.migration.journal.layout import COLLECTION, COLLECTION_COPY
from cloudimg.migration.journal.part_guard import PartGuard
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.stored_objects import create_object, restore_object
from cloudimg.migration.metadata.edits import Edit, Edits
from cloudimg.migration.plan.part import Part
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import AdvanceCallback, notify_of, of_image
from cloudimg.migration.run.collection_contents import documents_of, own_leftovers
from cloudimg.migration.run.collection_resuming import continues_collection, is_collection_done
from cloudimg.migration.run.contents import store_document
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.overlap import refuse_overlap, refuse_to_delete_source
from cloudimg.migration.run.parts import write_part
from cloudimg.migration.run.planning import check_memory, clear_for, plan_for_request
from cloudimg.migration.run.result import (
    Migration,
    PartOfCells,
    longest_report,
    notes_of_images,
    sums,
)
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
    return work.run() if options.part is None else work.run_part(options.part)


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
            was_done = continues and is_collection_done(guarded, self.collection)
            done = list(self._write_images(partial(lease.check, in_store=True), self._write))
            edits: list[Edit] = []
            is_whole = was_done and all(each.is_unchanged for each in done)
            if not is_whole:
                edits = self._write_metadata(guarded, fences=lease.fences, is_first=not continues)
        result = self._result(done, edits, time.monotonic() - started)
        return replace(result, only_metadata=not is_whole and result.is_unchanged)

    def run_part(self, part: Part) -> Migration:
        """Do the share of a part of the cells of each image; see `write_part`."""
        started = time.monotonic()
        destination = self.destination
        guard = PartGuard(destination, partial(notify_of, self.options.progress))
        if not self._continues(inspect_destination(destination)):
            self._check_images(is_overwriting=False)
            guard.require_fence()
            content = seal(self.collection.to_json())
            with suppress(ChangedError):  # another process has created a list
                for key in (COLLECTION, COLLECTION_COPY):
                    create_object(guard.guarded(), key, content, fences=True)
            self._continues(inspect_destination(destination))

        def write_share(number: int, options: RunOptions) -> Migration:
            image = self.collection.images[number]
            copy = self.collection.copies(destination)[number]
            open_image, shifted = partial(self.open_image, image.series), part.shifted(number)
            return write_part(open_image, copy, self.request, options, shifted, guard)

        done = list(self._write_images(guard.check, write_share))
        result = self._result(done, (), time.monotonic() - started)
        unfinished = [each for each in done if each.part is not None]
        if not unfinished:
            return result
        n_cells = sum(each.part.n_cells_of_all for each in unfinished if each.part is not None)
        of_part = sums(unfinished, "n_cells", "n_done_before")
        return replace(result, **of_part, part=PartOfCells(str(part), n_cells))

    def _write(self, number: int, options: RunOptions) -> Migration:
        """Write the image with a position in the list."""
        image = self.collection.images[number]
        copy = self.collection.copies(self.destination)[number]
        return write(partial(self.open_image, image.series), copy, self.request, options)

    def _continues(self, contents: DestinationContents) -> bool:
        """Whether the collection that is there is continued; see `continues_collection`."""
        return continues_collection(self.collection, contents, self.destination, self.options)

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

    def _write_images(
        self, check: Callable[[], None], write_one: Callable[[int, RunOptions], Migration]
    ) -> Iterator[Migration]:
        """Write the images one after the other; of one with bad files, first all others.

        Parameters
        ----------
        check : callable
            Called before each image; raises if this process may not write.
        write_one : callable
            Writes the image with a position in the list.

        Raises
        ------
        BadFilesError
            The one with most of them.
        """
        failures: list[BadFilesError] = []
        told: set[str] = set()
        for number in range(len(self.collection.images)):
            check()
            options = replace(
                self.options,
                keeps_finished=True,
                progress=self._progress(number, told),
            )
            try:
                yield write_one(number, options)
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
