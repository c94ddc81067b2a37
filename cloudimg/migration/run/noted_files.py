"""What a cell notices about the files that it opens."""

from __future__ import annotations

from collections.abc import Collection

from cloudimg.errors import MismatchError
from cloudimg.errors.notes import Note, NoteSums, Remark
from cloudimg.migration.plan.plan import Cell
from cloudimg.migration.run.inputs import ImageInput, Input
from cloudimg.opening.further_images import further_images_in, has_further_images
from cloudimg.reading.agreement import differing_files
from cloudimg.reading.file_facts import facts_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HEAD_BYTES
from cloudimg.reading.transit import BY_RANGES
from cloudimg.tiff import FileImage


class NotedFiles:
    """The remarks about files that a cell opens.

    A file that several cells open is counted by the cell with its first pixel. A file that has
    several pages of a multi-file dataset is counted with the first of them. Thus each file is
    counted once, whichever cells finish first and however often one is done again. Of attributes,
    cells read only those that are compared between files, and only from bytes that were fetched
    anyway; remarks on reading attributes are left out.

    Parameters
    ----------
    source : Input, optional
        What the cells of stage 0 read.
    cell : Cell
    """

    def __init__(self, source: Input | None, cell: Cell) -> None:
        is_of_files = isinstance(source, ImageInput) and cell.stage == 0
        self.input = source if is_of_files and isinstance(source, ImageInput) else None
        """What the cell reads; None if it does not read files."""
        self._region: tuple[slice, ...] = ()
        if self.input is not None:
            self._region = self.input.axes_mapping.to_source(cell.lead, cell.region)
        self._remarks: dict[tuple[int, ...], tuple[str, tuple[Remark, ...]]] = {}
        self._differing: dict[tuple[int, ...], MismatchError] = {}
        self._further: dict[tuple[int, ...], tuple[str, tuple[FileImage, ...]]] = {}

    def has_first_pixel(self, index: tuple[int, ...]) -> bool:
        """Whether the first pixel of the file at an index of the grid lies in the cell."""
        assert self.input is not None
        region = self.input.source.region_of(index)
        return all(a.start <= b.start < a.stop for a, b in zip(self._region, region, strict=True))

    def _has_all_of(self, index: tuple[int, ...]) -> bool:
        """Whether all pixels of the file at an index of the grid lie in the cell."""
        assert self.input is not None
        region = self.input.source.region_of(index)
        return all(
            a.start <= b.start and b.stop <= a.stop
            for a, b in zip(self._region, region, strict=True)
        )

    def is_first_page(self, index: tuple[int, ...]) -> bool:
        """Whether the file at an index of the grid has no page at an earlier index."""
        assert self.input is not None
        return self.input.source.files.is_first_page(index)

    def on_open(self, index: tuple[int, ...], opened: OpenFile) -> None:
        """Keep the remarks about a file. Called from many threads."""
        if self.input is None or not self.input.source.files.is_first_page(index):
            return
        images = opened.parsed.images
        if not self.input.series_is_chosen and has_further_images(images):
            self._further[index] = opened.url, images
        remarks = (
            *opened.parsed.remarks,
            *self._compare(self.input, index, opened),
            *self._unchecked(self.input, index, opened),
        )
        if not remarks:
            return
        if self.has_first_pixel(index):
            self._remarks[index] = opened.url, remarks

    def add(self, index: tuple[int, ...], url: str, remark: Remark) -> None:
        """Add a remark about a file whose first pixel lies in the cell."""
        self._remarks[index] = url, (*self._remarks.get(index, ("", ()))[1], remark)

    def _unchecked(
        self, source: ImageInput, index: tuple[int, ...], opened: OpenFile
    ) -> tuple[Remark, ...]:
        """The remark on bytes of a file that are not checked in transit, if there are any."""
        if not source.source.reader.headers.transit.is_on:
            return ()
        is_split = opened.size_bytes > HEAD_BYTES and not self._has_all_of(index)
        remark = BY_RANGES if opened.arrival.is_checked and is_split else opened.arrival.remark
        return () if remark is None else (remark,)

    def _compare(
        self, source: ImageInput, index: tuple[int, ...], opened: OpenFile
    ) -> tuple[Remark, ...]:
        """Compare what a file says of the whole image with what the first one says."""
        if source.expected is None:
            return ()
        found = facts_of(opened.parsed.attrs, opened.parsed.coords)
        try:
            return source.expected.compare(found, index, opened.url, source.source.layout)
        except MismatchError as exc:
            self._differing[index] = exc
            return ()

    def refuse(self, bad: Collection[tuple[int, ...]] = ()) -> None:
        """Refuse files that differ from the first one, or from which no image was chosen.

        Parameters
        ----------
        bad : collection of tuple
            Indices of files whose pixels are not used.

        Raises
        ------
        MismatchError
            Files say something else of the whole image than the first one.
        ArgumentError
            Files that opening did not read have several images, and none was chosen.
        """
        errors = [error for index, error in sorted(self._differing.items()) if index not in bad]
        if errors:
            raise differing_files(errors)
        found = [file for index, file in sorted(self._further.items()) if index not in bad]
        if found:
            raise further_images_in(found)

    def notes(self, bad: Collection[tuple[int, ...]] = ()) -> tuple[Note, ...]:
        """One note per kind; the same whichever file was opened first.

        Parameters
        ----------
        bad : collection of tuple
            Indices of files whose pixels are not used.
        """
        sums = NoteSums()
        for index, (url, remarks) in sorted(self._remarks.items()):
            if index not in bad:
                sums.add(remarks, url)
        return sums.notes()
