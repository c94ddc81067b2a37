"""`HeaderInspection`: what headers say of an image, and what index files and tables add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.listing import TableRows
from cloudimg.discovery.merged_facts import merge_facts
from cloudimg.errors import CloudimgError
from cloudimg.errors.notes import Note
from cloudimg.opening.header import BadHeader
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.index_files.index_facts import IndexFacts
from cloudimg.reading.agreement import ExpectedFacts, differing_facts, without_coordinates
from cloudimg.reading.layout import Layout
from cloudimg.reading.reader import Reader

_LABEL = "_label"
"""What the name of the coordinate with labels ends with, see `coordinates.label_name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInspection:
    """Axes, shape and type of an image, as determined from headers."""

    reader: Reader
    """Reader that knows the format of the first file and the versions of files already read."""
    coords: Mapping[str, Sequence[Any]]
    """Coordinates in the first file, by axis of the file."""
    segments: tuple[tuple[int, ...], ...]
    """Shape of a segment (tile, strip, page) by level, in the axes of the files."""
    pixel_bytes: tuple[int | None, ...]
    """Stored size of a pixel by level, see `AnyLevel.pixel_bytes`."""
    file_dims: tuple[str, ...]
    """Axes of the files, renamed by the user's `axes`."""
    layouts: tuple[Layout, ...]
    """Layouts by level."""
    headers: HeaderColumns
    """Headers that were read, that of the first file first."""
    notes: tuple[Note, ...]
    """What was noticed in all headers that were read, one note per kind."""
    bad: tuple[BadHeader, ...] = ()
    """The bad files among those whose headers were to be read."""
    expected: ExpectedFacts | None = None
    """What the first file says of the whole image; None if it is the only one."""
    facts: FactColumns | None = None
    """What was read of each file, by position in C order of the grid, if it was to be kept."""
    facts_of_some: FactColumns | None = None
    """The same of the files whose headers were read, where these are not all."""
    attrs_of_part: Mapping[str, Any] | None = None
    """What they say of the part that was selected; None if all of the image was."""
    index: IndexFacts | None = None
    """What the index files of the instrument say, which is also among `facts`."""
    table: FactColumns | None = None
    """What the table of the files says, which is also among `facts`."""
    companion: tuple[str, str] | None = None
    """Key and OME-XML of the file that describes the files and has no pixels itself, if any."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the headers that were read say of the whole image, and index files besides."""
        if self.attrs_of_part is not None:
            return self.attrs_of_part
        attrs = self.headers.first.attrs
        differing = differing_facts(self.notes)
        if self.expected is not None:
            attrs = self.expected.attributes(attrs, self.layouts[0], differing)
        return attrs if self.index is None else self.index.filling(attrs, differing)

    @property
    def errors(self) -> tuple[CloudimgError, ...]:
        """Errors of the bad files among those whose headers were to be read."""
        return tuple(error for _, error in self.bad)

    def with_index(
        self, index: IndexFacts | None, url_of: Callable[[int], str]
    ) -> HeaderInspection:
        """With what index files say, where headers do not say it.

        Parameters
        ----------
        index : IndexFacts, optional
        url_of : callable
            Returns the URL of a file by its position in C order of the grid.
        """
        if index is None:
            return self
        first, facts = self.headers.first, index.facts
        notes = (*index.notes, *index.differences(first.attrs, first.url))
        if self.facts is not None:
            names = ("its header", f"the index file {index.name}")
            facts, differing = merge_facts(self.facts, facts, names=names, url_of=url_of)
            notes += differing
        return replace(self, index=index, facts=facts, notes=(*self.notes, *notes))

    def with_table(self, table: TableRows, url_of: Callable[[int], str]) -> HeaderInspection:
        """With what the table of the files says of them, where headers do not say it.

        The headers of a table that has only some of them are no longer used: pixels are read by
        the headers that the files have now.

        Parameters
        ----------
        table : TableRows
        url_of : callable
            Returns the URL of a file by its position in C order of the grid.
        """
        notes: tuple[Note, ...] = ()
        facts = table.facts
        if self.facts is not None and facts is not None:
            names = ("its header", "the table")
            facts, notes = merge_facts(self.facts, facts, names=names, url_of=url_of)
        return replace(
            self,
            reader=self.reader if table.has_segments else self.reader.using(stored={}),
            facts=self.facts if facts is None else facts,
            table=table.facts,
            notes=(*self.notes, *notes),
        )

    @property
    def own_coords(self) -> dict[str, Sequence[Any]]:
        """Coordinates in each file, by dim of the image; of a copy also labels along a dim."""
        names = dict(zip(self.headers.first.dims, self.file_dims, strict=True))
        names |= {f"{dim}{_LABEL}": f"{new}{_LABEL}" for dim, new in names.items()}
        own = {names[name]: values for name, values in self.coords.items()}
        return without_coordinates(own, differing_facts(self.notes))
