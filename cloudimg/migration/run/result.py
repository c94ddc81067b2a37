"""`Migration`: what a migration returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dask.utils import format_bytes

from cloudimg.errors import counted
from cloudimg.errors.file_report import FileReport
from cloudimg.errors.notes import Note
from cloudimg.migration.metadata.edits import Edit, lines_of
from cloudimg.tiff import FURTHER_IMAGES


@dataclass(frozen=True, slots=True)
class PartOfCells:
    """The part of a migration that one of several processes does."""

    name: str
    """The part as it was given, such as ``3/8``."""
    n_cells_of_all: int
    """Number of cells of all parts together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Result of a migration. `str` gives a short report."""

    url: str
    """URL of the copy, without credentials."""
    n_cells: int
    """Number of cells (units of work) of the whole migration."""
    n_done_before: int
    """Number of cells that earlier runs had already finished."""
    n_objects: int
    """Number of shards (in Zarr 2, chunks) that this run stored."""
    n_bytes: int
    """Size of these objects as stored, in bytes."""
    seconds: float
    """Duration of this run, in seconds."""
    notes: tuple[str, ...] = ()
    """What the source contains that the copy does not, and what was noticed about the source's
    files: a `cloudimg.Note` for each kind."""
    report: FileReport | None = None
    """Source files that were missing or bad, whose pixels are the fill value. If the copy was
    complete before, it has only a few of them; `verify` lists them."""
    only_metadata: bool = False
    """Whether all cells were finished before, and this run only wrote the metadata."""
    edits: tuple[Edit, ...] = ()
    """What others edited or added, as far as it was noticed, and was kept: the first thousand.
    `verify` finds all of it."""
    n_edits: int = 0
    """Number of these edits."""
    images: tuple[Migration, ...] = ()
    """Of a collection (``series="all"``): the result for each image. The other fields are their
    sums, and `report` is that of the image with most of these files."""
    part: PartOfCells | None = None
    """Of a call with ``part=``: which part it was. `n_cells` and `n_done_before` count its cells,
    and notes are left to the migration that finishes the copy. None if the copy is complete."""

    @property
    def is_unchanged(self) -> bool:
        """Whether the copy was complete before, so that this run stored nothing."""
        return self.part is None and self.n_done_before == self.n_cells and not self.only_metadata

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON; notes about files once more, with their parts."""
        own = asdict(replace(self, images=(), report=None))
        return {
            "is_unchanged": self.is_unchanged,
            **own,
            "notes": list(map(str, self.notes)),
            "source_notes": [note.to_json() for note in self.notes if isinstance(note, Note)],
            "report": None if self.report is None else self.report.to_json(),
            "images": [each.to_json() for each in self.images],
        }

    def __str__(self) -> str:
        if self.part is not None:
            summary = self._line_of_part(self.part)
        elif self.only_metadata:
            summary = (
                f"{self.url} is complete: all cells were finished before, this run wrote the"
                " metadata"
            )
        elif self.is_unchanged:
            summary = f"{self.url} is complete: nothing left to do"
        else:
            images = f"{len(self.images)} images, " if self.images else ""
            summary = f"{self.url}: {images}{counted(self.n_cells, 'cell')}{self._stored()}"
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([summary, *lines_of(self.edits, self.n_edits), *notes])

    def _stored(self) -> str:
        before = f" ({self.n_done_before} finished before)" if self.n_done_before else ""
        return (
            f"{before}, stored {counted(self.n_objects, 'object')} ({format_bytes(self.n_bytes)})"
            f" in {self.seconds:.1f} s"
        )

    def _line_of_part(self, part: PartOfCells) -> str:
        if not self.n_cells:
            done = ", nothing to do"
        elif self.n_done_before == self.n_cells:
            done = ", all finished before"
        else:
            done = self._stored()
        return (
            f"{self.url}: part {part.name}, {self.n_cells} of"
            f" {counted(part.n_cells_of_all, 'cell')}{done}."
            " Finish with the same call without part="
        )


def after(first: Migration, second: Migration) -> Migration:
    """The result of a call that finished a copy, or found it finished, and let it grow then."""
    return replace(
        second,
        n_done_before=min(first.n_done_before, second.n_done_before),
        n_objects=first.n_objects + second.n_objects,
        n_bytes=first.n_bytes + second.n_bytes,
        only_metadata=first.only_metadata and second.only_metadata,
    )


def sums(results: Iterable[Any], *names: str) -> dict[str, Any]:
    """Sums of some fields of the results for the images of a collection, by name."""
    images = list(results)
    return {name: sum(getattr(each, name) for each in images) for name in names}


def longest_report(reports: Iterable[FileReport | None]) -> FileReport | None:
    """The report with most missing and bad files: images of the same files share them."""
    found = [each for each in reports if each is not None]
    return max(found, key=lambda report: report.total, default=None)


def notes_of_images(notes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Notes of all images of a collection, given those of each by its folder.

    Those of all images, and those about files, come once. Those about further images of a file are
    left out, since the collection has these images.
    """
    found: dict[str, None] = {}
    for folder, of_image in notes.items():
        for note in of_image:
            is_of_all = all(note in each for each in notes.values())
            if isinstance(note, Note):
                if note.kind not in FURTHER_IMAGES:
                    found.setdefault(note)
            else:
                found.setdefault(note if is_of_all else f"image {folder}: {note}")
    return tuple(found)
