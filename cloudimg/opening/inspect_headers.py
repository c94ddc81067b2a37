"""Determine axes, shape and type of an image from the headers of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.facts_of_attributes import facts_in
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError, MismatchError, NotFoundError
from cloudimg.errors.notes import NoteSums
from cloudimg.opening.bad_headers import (
    bad_files,
    open_first,
    refuse_not_bad,
    report_on_files,
    spare_headers,
)
from cloudimg.opening.compare_facts import compare_facts, expected_facts
from cloudimg.opening.compare_headers import compare_headers, fit_extents, neighbour_mismatches
from cloudimg.opening.header import BadHeader, Header, Index
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.opening.index_files.index_facts import IndexFacts
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.overlap import refuse_overlap
from cloudimg.opening.place_on_earth import lie_elsewhere
from cloudimg.opening.placing import Placing
from cloudimg.opening.read_headers import (
    HeaderOrError,
    Started,
    key_at,
    other_headers,
    start_edge_headers,
)
from cloudimg.reading.agreement import differing_files
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Layout
from cloudimg.reading.reader import Reader


def inspect_headers(
    reader: Reader,
    grid: FileGrid,
    opened: OpenFile | None,
    arguments: OpenArguments,
    *,
    n_excluded: int = 0,
    by_transforms: bool = False,
    index: IndexFacts | None = None,
    table: FactColumns | None = None,
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
    by_transforms : bool
        Whether to place tiles by their transforms instead of their indices.
    index : IndexFacts, optional
        What index files say, by which fields are placed.
    table : FactColumns, optional
        What the table of the files says of them, which counts more.

    Raises
    ------
    StorageError, FormatError, MismatchError, ArgumentError, GridError, ClusterError
    """
    placing = Placing.of(grid, arguments, by_transforms=by_transforms, index=index, table=table)
    if placing.by_transforms:
        arguments = replace(arguments, validate="all")
    validate_all = arguments.validate == "all"
    started = _start_edges(reader, grid, arguments)
    reader, first_index, opened, bad = _open_first(reader, grid, opened, arguments)
    first = Header.of(reader, key_at(reader, grid, first_index), opened)
    file_dims = rename_axes(first.dims, arguments.axes or {})
    layouts = tuple(placing.arrange(grid, first, file_dims))
    sums = NoteSums()
    sums.add(first.remarks, first.url)
    facts = _facts_of_first(first, grid.position(first_index))
    read = other_headers(
        reader,
        grid,
        layouts[0],
        first_index,
        started,
        arguments,
        sums,
        facts,
        is_on_earth=_is_on_earth(first),
        known=placing.known,
    )
    headers = HeaderColumns(
        first, first_index, reader.store.location, grid, keeps_stage=_is_mosaic(layouts[0])
    )
    errors = _compared(reader, grid, read, headers, layouts[0], arguments, sums)
    if not validate_all:
        errors += bad
    layouts = tuple(fit_extents(layout, level, headers) for level, layout in enumerate(layouts))
    if layouts[0].canvas is not None:
        _refuse_bad(grid, errors, arguments, n_excluded)
        layouts, remarks = placing.place(layouts, grid, reader, headers, facts)
        sums.add(remarks, first.url)
    if validate_all or layouts[0].canvas is not None:
        errors.extend(neighbour_mismatches(headers, layouts))
    _refuse_bad(grid, errors, arguments, n_excluded)
    refuse_overlap(layouts[0], headers)
    expected = expected_facts(headers, layouts[0], arguments, n_files=grid.n_files)
    if expected is not None:
        if not placing.by_transforms and lie_elsewhere(expected, headers, layouts[0]):
            known = opened if first_index == grid.first() else None
            return inspect_headers(
                reader, grid, known, arguments, n_excluded=n_excluded, by_transforms=True
            )
        errors += _listed_odd(compare_facts(expected, headers, layouts[0], sums), errors, arguments)
    of_all, of_some = _of_all_or_some(facts, grid, arguments)
    levels = opened.parsed.levels[: len(layouts)]
    return HeaderInspection(
        reader=reader.using(versions=headers.etags()),
        coords=opened.parsed.coords,
        segments=tuple(level.segment for level in levels),
        pixel_bytes=tuple(level.pixel_bytes for level in levels),
        file_dims=file_dims,
        layouts=layouts,
        headers=headers,
        notes=sums.notes(),
        expected=expected,
        bad=tuple(errors),
        facts=of_all,
        facts_of_some=of_some,
    )


def _listed_odd(
    odd: Sequence[tuple[Index, MismatchError]],
    errors: Sequence[BadHeader],
    arguments: OpenArguments,
) -> Sequence[BadHeader]:
    """Refuse files that say something else than the first one, unless they are to be listed.

    One whose lengths are an error is listed for that alone: files are counted, not differences.
    """
    if odd and not arguments.purpose.lists_odd:
        raise differing_files([error for _, error in odd])
    listed = {index for index, _ in errors}
    return [each for each in odd if each[0] not in listed]


def _start_edges(reader: Reader, grid: FileGrid, arguments: OpenArguments) -> Started:
    """Start to read the headers that say how large a mosaic is, unless all will be read."""
    if arguments.place != "index" or arguments.validate == "all":
        return {}
    return start_edge_headers(reader, grid, grid.first())


def _open_first(
    reader: Reader, grid: FileGrid, opened: OpenFile | None, arguments: OpenArguments
) -> tuple[Reader, Index, OpenFile, list[BadHeader]]:
    """Open the first good file, unless it is open; returns the errors of bad ones before it."""
    first_index, bad = grid.first(), list[BadHeader]()
    if opened is None:
        tolerates_bad = arguments.validate == "all" or arguments.tolerates_bad
        first_index, opened, bad = open_first(
            reader,
            grid,
            tolerates_bad=tolerates_bad,
            tolerates_missing=arguments.fills_missing,
            tries_all=arguments.purpose.lists_odd,
        )
    if opened.decoder is not None:
        # The format of the first file is that of all; a worker may not have registered it.
        reader = reader.using(decoder=opened.decoder)
    return reader, first_index, opened, bad


def _of_all_or_some(
    facts: FactColumns, grid: FileGrid, arguments: OpenArguments
) -> tuple[FactColumns | None, FactColumns | None]:
    """Facts, first if they are those of all files, or else second."""
    is_of_all = arguments.validate == "all" or grid.n_files == 1
    return (facts, None) if is_of_all else (None, facts)


def _is_on_earth(first: Header) -> bool:
    return first.facts is not None and bool(first.facts.transform)


def _compared(
    reader: Reader,
    grid: FileGrid,
    read: Iterator[tuple[Index, HeaderOrError]],
    headers: HeaderColumns,
    layout: Layout,
    arguments: OpenArguments,
    sums: NoteSums,
) -> list[BadHeader]:
    """Compare headers with the first one, and read others in the place of those of bad files."""
    validate_all = arguments.validate == "all"
    missing: list[BadHeader] = []
    if arguments.fills_missing:
        read = _without_missing(read, missing)
    errors = compare_headers(
        _summed_up(read, sums),
        headers,
        layout,
        collect=validate_all or arguments.tolerates_bad,
    )
    errors += missing
    if validate_all:  # all headers have been read
        return errors
    spares = spare_headers(reader, grid, layout, headers, errors)
    return errors + compare_headers(_summed_up(spares, sums), headers, layout, collect=True)


def _without_missing(
    headers: Iterator[tuple[Index, HeaderOrError]], missing: list[BadHeader]
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Yield headers; the errors of files that turned out to be missing are added to a list."""
    for index, header in headers:
        if isinstance(header, NotFoundError):
            missing.append((index, header))
        else:
            yield index, header


def _summed_up(
    headers: Iterator[tuple[Index, HeaderOrError]], sums: NoteSums
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Yield headers, whose remarks become notes."""
    for index, header in headers:
        if isinstance(header, Header) and header.remarks:
            sums.add(header.remarks, header.url)
        yield index, header


def _is_mosaic(layout: Layout) -> bool:
    return any(
        axis.name in ("x", "y") and axis.field is not None and not axis.is_stacked
        for axis in layout.axes
    )


def _facts_of_first(first: Header, position: int) -> FactColumns:
    facts = FactColumns()
    facts.add(position, facts_in(first.attrs), first.planes)
    return facts


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
    grid: FileGrid, errors: list[BadHeader], arguments: OpenArguments, n_excluded: int
) -> None:
    """Refuse bad files, unless their pixels are to be filled, or they matter only when read."""
    validate_all = arguments.validate == "all"
    is_tolerated = arguments.bad == "fill" or (arguments.tolerates_bad and not validate_all)
    defers = arguments.purpose.defers_bad and not validate_all
    # Files that are missing are not filled because bad ones are.
    found = [
        error
        for _, error in errors
        if not (arguments.fills_missing and error.bad_file == "missing")
    ]
    is_refused = any(error.bad_file == "missing" for error in found) and not defers
    if found and (is_refused or not is_tolerated):
        report = report_on_files(grid, found, n_excluded=n_excluded, is_complete=validate_all)
        raise bad_files(found, grid.n_files, report)
    refuse_not_bad(found)
