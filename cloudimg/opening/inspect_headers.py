"""Determine axes, shape and type of an image from the headers of its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from cloudimg.discovery.fact_columns import FactColumns, facts_in
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError, CloudimgError
from cloudimg.errors.notes import Note, NoteSums
from cloudimg.opening.bad_headers import (
    bad_files,
    open_first,
    refuse_not_bad,
    report_on_files,
    spare_headers,
)
from cloudimg.opening.compare_facts import compare_facts
from cloudimg.opening.compare_headers import compare_headers, fit_extents, neighbour_mismatches
from cloudimg.opening.header import STAGE_ATTRS, Header, Index
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.overlap import refuse_overlap
from cloudimg.opening.read_headers import (
    HeaderOrError,
    key_at,
    other_headers,
    start_edge_headers,
)
from cloudimg.reading.agreement import ExpectedFacts, differing_facts, without_coordinates
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Layout, arrange
from cloudimg.reading.reader import Reader

_NO_ATTRS: Mapping[str, Any] = {}
_MAX_VERSIONS = 16
"""Most files whose version is pickled with the image; more would make it large."""


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
    headers: tuple[Header, ...]
    """Headers that were read, that of the first file first."""
    notes: tuple[Note, ...]
    """What was noticed in all headers that were read, one note per kind."""
    bad: tuple[CloudimgError, ...] = ()
    """Errors of the bad files among them."""
    expected: ExpectedFacts | None = None
    """What the first file says of the whole image; None if it is the only one."""
    facts: FactColumns | None = None
    """What was read of each file, by position in C order of the grid, if it was to be kept."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the headers that were read say of the whole image."""
        attrs = self.headers[0].attrs
        if self.expected is None:
            return attrs
        return self.expected.attributes(attrs, self.layouts[0], differing_facts(self.notes))

    @property
    def own_coords(self) -> dict[str, Sequence[Any]]:
        """Coordinates in each file, by dim of the image."""
        renamed_dims = dict(zip(self.headers[0].dims, self.file_dims, strict=True))
        own = {renamed_dims[dim]: values for dim, values in self.coords.items()}
        return without_coordinates(own, differing_facts(self.notes))


def inspect_headers(
    reader: Reader,
    grid: FileGrid,
    opened: OpenFile | None,
    arguments: OpenArguments,
    *,
    n_excluded: int = 0,
) -> HeaderInspection:
    """Read the headers that determine the image.

    Parameters
    ----------
    reader : Reader
    grid : FileGrid
    opened : OpenFile, optional
        The first file, if its header has been read already.
    arguments : OpenArguments
    n_excluded : int
        Number of files that the user left out, for the report.

    Raises
    ------
    StorageError, FormatError, MismatchError, ArgumentError, GridError, ClusterError
    """
    validate_all = arguments.validate == "all"
    bad: list[CloudimgError] = []
    first_index = grid.first()
    edges_needed = arguments.mosaic and not validate_all
    started = start_edge_headers(reader, grid, first_index) if edges_needed else {}
    collect = validate_all or arguments.tolerates_bad
    if opened is None:
        first_index, opened, bad = open_first(reader, grid, tolerates_bad=collect)
    if opened.decoder is not None:
        # The format of the first file is that of all; a worker may not have registered it.
        reader = reader.using(decoder=opened.decoder)
    first = Header.of(reader, key_at(reader, grid, first_index), opened)
    file_dims = rename_axes(first.dims, arguments.axes or {})
    layouts = tuple(
        arrange(
            grid.fields,
            grid.shape,
            file_dims,
            shape,
            mosaic=arguments.mosaic,
            dims=arguments.dims,
        )
        for shape in first.shapes
    )
    sums = NoteSums()
    sums.add(first.remarks, first.url)
    facts = _facts_of_first(first, grid.position(first_index)) if validate_all else None
    read = other_headers(reader, grid, layouts[0], first_index, started, arguments, sums, facts)
    headers, errors = compare_headers(
        _reduced(read, layouts[0], sums), first, layouts[0], first_index, collect=collect
    )
    if not validate_all:  # otherwise all headers have been read
        spare = spare_headers(reader, grid, layouts[0], headers, errors)
        spares = _reduced(spare, layouts[0], sums)
        found, further = compare_headers(spares, first, layouts[0], first_index, collect=True)
        headers |= found
        errors += [*bad, *further]
    layouts = tuple(fit_extents(layout, level, headers) for level, layout in enumerate(layouts))
    if validate_all:
        errors.extend(neighbour_mismatches(headers, layouts, first))
    _refuse_bad(grid, errors, arguments, n_excluded)
    refuse_overlap(layouts[0], headers, first_index)
    expected = compare_facts(
        headers, layouts[0], first_index, sums, arguments, n_files=grid.n_files
    )
    return HeaderInspection(
        reader=reader.using(versions=_versions(headers.values())),
        coords=opened.parsed.coords,
        segments=tuple(level.segment for level in opened.parsed.levels),
        pixel_bytes=tuple(level.pixel_bytes for level in opened.parsed.levels),
        file_dims=file_dims,
        layouts=layouts,
        headers=tuple(_without_attributes(headers.values(), first)),
        notes=sums.notes(),
        expected=expected,
        bad=tuple(errors),
        facts=facts,
    )


def _reduced(
    headers: Iterator[tuple[Index, HeaderOrError]], layout: Layout, sums: NoteSums
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Reduce headers to what is compared, equal parts in common; their remarks become notes.

    There may be a million, each with attributes of its own.
    """
    is_mosaic = any(
        axis.name in ("x", "y") and axis.field is not None and not axis.is_stacked
        for axis in layout.axes
    )
    kept = STAGE_ATTRS if is_mosaic else ()
    parts: dict[Any, Any] = {}
    for index, header in headers:
        if isinstance(header, Header):
            if header.remarks:
                sums.add(header.remarks, header.url)
            attrs = {name: header.attrs[name] for name in kept if name in header.attrs}
            header = replace(
                header,
                attrs=attrs or _NO_ATTRS,
                remarks=(),
                dims=parts.setdefault(header.dims, header.dims),
                shapes=parts.setdefault(header.shapes, header.shapes),
                images=parts.setdefault(header.images, header.images),
                facts=parts.setdefault(header.facts, header.facts),
            )
        yield index, header


def _facts_of_first(first: Header, position: int) -> FactColumns:
    facts = FactColumns()
    facts.add(position, facts_in(first.attrs))
    return facts


def _versions(headers: Iterable[Header]) -> dict[str, str]:
    """ETags of the first files, by key."""
    return {h.key: h.etag for h in islice(headers, _MAX_VERSIONS) if h.etag is not None}


def _without_attributes(headers: Iterable[Header], first: Header) -> Iterator[Header]:
    """Drop the attributes of all headers but the first one, once tiles have been compared."""
    for header in headers:
        keeps = header is first or not header.attrs
        yield header if keeps else replace(header, attrs=_NO_ATTRS)


def rename_axes(dims: Sequence[str], axes: Mapping[str, str]) -> tuple[str, ...]:
    """Rename axes of files with a user's `axes`.

    Raises
    ------
    ArgumentError
        If the files do not have an axis, or two axes would have one name.
    """
    unknown = set(axes) - set(dims)
    if unknown:
        raise ArgumentError(f"axes= renames {sorted(unknown)}, but the files have {tuple(dims)}")
    renamed = tuple(axes.get(name, name) for name in dims)
    if len(set(renamed)) < len(renamed):
        raise ArgumentError(f"axes={dict(axes)} gives two axes of the files one name: {renamed}")
    return renamed


def _refuse_bad(
    grid: FileGrid, errors: list[CloudimgError], arguments: OpenArguments, n_excluded: int
) -> None:
    """Refuse bad files, unless their pixels are to be filled, or they matter only when read."""
    validate_all = arguments.validate == "all"
    is_tolerated = arguments.bad == "fill" or (arguments.tolerates_bad and not validate_all)
    defers = arguments.purpose.defers_bad and not validate_all
    # Files that are missing are not filled because bad ones are.
    is_refused = any(error.bad_file == "missing" for error in errors) and not defers
    if errors and (is_refused or not is_tolerated):
        report = report_on_files(grid, errors, n_excluded=n_excluded, is_complete=validate_all)
        raise bad_files(errors, grid.n_files, report)
    refuse_not_bad(errors)
