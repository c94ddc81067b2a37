"""Choose the files whose headers must be read at open, and read them.

The first header stands for all files. Where files are concatenated, the last file along each such
axis may be shorter, so its header is read too. ``validate="all"`` reads every header, in this
process or on the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice, tee

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.facts_of_attributes import facts_in
from cloudimg.discovery.grid import FileGrid
from cloudimg.distributed.run import Client
from cloudimg.errors import FormatError, NotFoundError, StorageError
from cloudimg.errors.notes import NoteSums
from cloudimg.opening.header import Header, HeaderSummary, Index
from cloudimg.opening.headers_on_cluster import FILES_PER_BLOCK, read_on_cluster
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.place_by_stage import KnownPlaces, files_without_places
from cloudimg.reading.check_listed import check_listed
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Axis, Layout
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import engine, map_ahead

HeaderOrError = Header | FormatError | NotFoundError
Started = Mapping[Index, Future[HeaderOrError]]
"""Headers that are being read, by index."""


def key_at(reader: Reader, grid: FileGrid, index: Index) -> str:
    """Return the key of the file at an index."""
    return reader.store.location.key_of(grid.keys(index))


def start_edge_headers(reader: Reader, grid: FileGrid, first_index: Index) -> Started:
    """Start reading the headers at the edges of a mosaic before the first header is known.

    Every page has y and x, so fields of these names are concatenated whatever the first header
    contains; this saves a round trip.
    """
    edges = (
        grid.last_along(i, grid.shape[i] - 1)
        for i, name in enumerate(grid.fields)
        if name in ("y", "x") and grid.shape[i] > 1
    )
    return {
        edge: engine().fetch(partial(read_header, reader, grid, edge))
        for edge in edges
        if edge is not None and edge != first_index
    }


def other_headers(
    reader: Reader,
    grid: FileGrid,
    layout: Layout,
    first_index: Index,
    started: Started,
    arguments: OpenArguments,
    sums: NoteSums,
    facts: FactColumns | None,
    *,
    is_on_earth: bool,
    known: Sequence[KnownPlaces] = (),
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Yield the headers besides the first one that are needed: at edges, or of all files.

    Parameters
    ----------
    reader : Reader
    grid : FileGrid
    layout : Layout
    first_index : tuple of int
        Index of the first file, whose header is known.
    started : mapping
        Headers that are being read already, by index.
    arguments : OpenArguments
    sums : NoteSums
        The workers of a cluster sum up the remarks of the headers that they read; their notes are
        added here. Other headers have their remarks.
    facts : FactColumns, optional
        What the headers say of each file is added to it.
    is_on_earth : bool
        Whether the first file says where it lies on Earth. The last file along each axis then tells
        whether scenes that are stacked are of one place.
    known : sequence of KnownPlaces
        Positions of the stage that are known without headers.

    Raises
    ------
    StorageError, ClusterError
    """
    validate_all, client = arguments.validate == "all", arguments.client

    def report(n_read: int) -> None:
        if arguments.progress is not None:
            arguments.progress("headers read", n_read)

    if validate_all and (expected := getattr(arguments.progress, "expected", None)) is not None:
        expected("headers read", grid.n_files)
    if validate_all and client is not None and grid.n_files > FILES_PER_BLOCK:
        return _headers_by_workers(client, reader, grid, first_index, report, sums, facts)
    if validate_all:
        files = grid.files()
    elif arguments.place == "stage":
        files = files_without_places(grid, known)
    else:
        ends = (
            end
            for axis in layout.axes
            for end in _ends(grid, axis, first_index, of_stacks=is_on_earth)
        )
        files = iter(dict.fromkeys(ends))
    wanted = (index for index in files if index != first_index)
    return _headers_at(reader, grid, wanted, started, report, facts)


def _ends(grid: FileGrid, axis: Axis, first_index: Index, *, of_stacks: bool) -> Iterator[Index]:
    """Yield the files whose lengths along an axis must be known besides the first file's."""
    if axis.field is None or axis.count == 1 or (axis.is_stacked and not of_stacks):
        return
    last = grid.last_along(axis.field, axis.count - 1)
    if last is not None:
        yield last
    if first_index[axis.field] == axis.count - 1:
        # Because of missing files the first file is at the edge, so another one before the edge
        # must stand for the rest.
        before = (grid.last_along(axis.field, i) for i in range(axis.count - 1))
        yield from islice((index for index in before if index is not None), 1)


def _headers_at(
    reader: Reader,
    grid: FileGrid,
    wanted: Iterator[Index],
    started: Started,
    report: Callable[[int], None],
    facts: FactColumns | None,
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Yield headers, many read at a time."""

    def start(index: Index) -> Future[HeaderOrError]:
        return started.get(index) or engine().fetch(partial(read_header, reader, grid, index))

    # The bound limits the memory of headers that wait to be yielded.
    indices, ahead = tee(wanted)
    headers = map_ahead(start, ahead, n_ahead=4 * settings().max_requests)
    for n_read, (index, header) in enumerate(zip(indices, headers, strict=True), 2):
        report(n_read)
        if facts is not None and isinstance(header, Header):
            facts.add(grid.position(index), facts_in(header.attrs), header.planes)
        yield index, header


def open_at(reader: Reader, grid: FileGrid, index: Index) -> OpenFile:
    """Read the header of the file at an index, which a table may list in another version.

    Raises
    ------
    StorageError, FormatError
    """
    opened = reader.headers.open(key_at(reader, grid, index), size_bytes=grid.size_of(index))
    if reader.headers.context.is_tabled:
        position, etags = grid.position(index), grid.etags
        etag = 0 if etags is None else int(etags[position])
        check_listed(opened, int(grid.sizes[position]), etag)
    return opened


def read_header(reader: Reader, grid: FileGrid, index: Index) -> HeaderOrError:
    """Read the header of the file at an index; an error of the file is returned."""
    key = key_at(reader, grid, index)
    try:
        return Header.of(reader, key, open_at(reader, grid, index))
    except FormatError as exc:
        return exc
    except NotFoundError as exc:
        if exc.bad_file is None:
            raise
        return exc


def _headers_by_workers(
    client: Client,
    reader: Reader,
    grid: FileGrid,
    first_index: Index,
    report: Callable[[int], None],
    sums: NoteSums,
    facts: FactColumns | None,
) -> Iterator[tuple[Index, HeaderOrError]]:
    """Yield all headers but the first one, read by the workers of a cluster."""
    for index, summary, size in read_on_cluster(
        client, reader, grid, first_index, report=report, sums=sums, facts=facts
    ):
        if index == first_index:
            continue
        if isinstance(summary, NotFoundError) and summary.bad_file is not None:
            yield index, summary
        elif isinstance(summary, StorageError):
            raise summary
        elif isinstance(summary, HeaderSummary):
            key = key_at(reader, grid, index)
            url = reader.store.location.display(key)
            yield index, Header(key=key, url=url, summary=summary, etag=None, size_bytes=size)
        else:
            yield index, summary
