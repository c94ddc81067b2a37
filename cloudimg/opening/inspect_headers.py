"""From a grid of files to a described image: the headers that must be read at open, and no others.

The first header speaks for all files. Where files are concatenated, the last file along each such
axis may be shorter, so its header is read too. ``validate="all"`` reads every header, here or
on the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Self

import numpy as np

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    FormatError,
    GridError,
    MismatchError,
    StorageError,
)
from cloudimg.opening.headers_on_cluster import FILES_PER_BLOCK, HeaderSummary, read_on_cluster
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.comparison import Comparison, Expected, FileShape, lacking_axes, with_ones
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Axis, Layout, arrange, with_extents
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import engine, map_ahead

_SHOWN = 10
_REMEMBERED = 16
"""Files whose version travels with the image; more would make it large."""
_OVERLAP = 0.98
"""Tiles whose stage positions are closer than this fraction of their width overlap."""

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is kept of a header: little, because there may be a million."""

    key: str
    url: str
    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """By level."""
    dtype: np.dtype[Any]
    etag: str | None
    size_bytes: int
    attrs: Mapping[str, Any]

    @classmethod
    def of(cls, reader: Reader, key: str, opened: OpenFile) -> Self:
        """What is kept of the header of a file."""
        levels = opened.parsed.levels
        return cls(
            key=key,
            url=reader.store.location.display(key),
            dims=opened.parsed.dims,
            shapes=tuple(level.shape for level in levels),
            dtype=levels[0].dtype,
            etag=opened.etag,
            size_bytes=opened.size_bytes,
            attrs=opened.parsed.attrs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInspection:
    """What the headers say about an image."""

    reader: Reader
    """Knows the versions of the files whose headers were read, and the format of the first."""
    coords: Mapping[str, Sequence[Any]]
    """Coordinates that the first file gives along its own axes, by its names for them."""
    segments: tuple[tuple[int, ...], ...]
    """By level: shape of a segment (tile, strip, page), in the files' axes."""
    file_dims: tuple[str, ...]
    """Axes of the files, renamed as the user asked."""
    layouts: tuple[Layout, ...]
    """By level."""
    headers: tuple[Header, ...]
    """Of the files whose headers were read, the first one first."""

    @property
    def own_coords(self) -> dict[str, Sequence[Any]]:
        """Coordinates that the first file gives, by dim of the image."""
        renamed_dims = dict(zip(self.headers[0].dims, self.file_dims, strict=True))
        return {renamed_dims[dim]: values for dim, values in self.coords.items()}


def inspect_headers(
    reader: Reader, grid: FileGrid, opened: OpenFile | None, arguments: OpenArguments
) -> HeaderInspection:
    """Read the headers that decide the shape of the image, of which one may be `opened` already.

    Raises
    ------
    StorageError, FormatError, MismatchError, ArgumentError, GridError
    """
    validate_all = arguments.validate == "all"
    start = grid.first()
    key = _key(reader, grid, start)
    ahead = _edges_ahead(reader, grid, start) if arguments.mosaic and not validate_all else {}
    # In a fetching thread, so that Ctrl-C reaches this one.
    first_header = partial(reader.headers.open, key, size_bytes=grid.size_of(start))
    opened = opened or engine().fetch(first_header).result()
    if opened.decoder is not None:
        # The first file decides the format; other processes may not have registered it.
        reader = reader.using(decoder=opened.decoder)
    first = Header.of(reader, key, opened)
    file_dims = renamed(first.dims, arguments.axes or {})
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
    more = _headers_to_compare(reader, grid, layouts[0], start, ahead, arguments)
    headers, misfits = _compared(more, first, layouts[0], start, keep_going=validate_all)
    layouts = tuple(_fitted(layout, level, headers) for level, layout in enumerate(layouts))
    if validate_all:
        misfits.extend(_misfits(headers, layouts, first))
    if misfits:
        shown = "; ".join(error.message for error in misfits[:_SHOWN])
        raise MismatchError(f"{len(misfits)} of {grid.n_files} files do not fit the grid: {shown}")
    _refuse_overlap(layouts[0], headers, start)
    remembered = islice(headers.values(), _REMEMBERED)
    versions = {each.key: each.etag for each in remembered if each.etag is not None}
    return HeaderInspection(
        reader=reader.using(versions=versions),
        coords=opened.parsed.coords,
        segments=tuple(level.segment for level in opened.parsed.levels),
        file_dims=file_dims,
        layouts=layouts,
        headers=tuple(headers.values()),
    )


def _headers_to_compare(
    reader: Reader,
    grid: FileGrid,
    layout: Layout,
    start: Index,
    ahead: Mapping[Index, Future[Header | CloudimgError]],
    arguments: OpenArguments,
) -> Iterator[tuple[Index, Header | CloudimgError]]:
    """The headers besides the first one that decide: those at edges, or all of them."""
    validate_all, client = arguments.validate == "all", arguments.client

    def report(n_read: int) -> None:
        if arguments.progress is not None:
            arguments.progress("headers read", n_read)

    if validate_all and client is not None and grid.n_files > FILES_PER_BLOCK:
        return _headers_by_workers(client, reader, grid, start, report)
    wanted = _wanted(grid, layout, start, validate_all=validate_all)
    return _more_headers(reader, grid, wanted, ahead, report)


def _compared(
    more: Iterable[tuple[Index, Header | CloudimgError]],
    first: Header,
    layout: Layout,
    start: Index,
    *,
    keep_going: bool,
) -> tuple[dict[Index, Header], list[CloudimgError]]:
    """Headers by index that fit the first one, and errors for those that do not.

    Raises
    ------
    CloudimgError
        The first error, unless `keep_going`.
    """
    headers, misfits = {start: first}, []
    for index, header in more:
        error: CloudimgError | None
        if isinstance(header, CloudimgError):
            error = header
        else:
            header = _aligned(header, first, layout)
            error = _misfit_of_first(header, first, layout)
            headers[index] = header
        if error is not None and not keep_going:
            raise error
        if error is not None:
            misfits.append(error)
            headers.pop(index, None)
    return headers, misfits


def _key(reader: Reader, grid: FileGrid, index: Index) -> str:
    return reader.store.location.key_of(grid.keys(index))


def renamed(dims: Sequence[str], axes: Mapping[str, str]) -> tuple[str, ...]:
    """Axes of files by the names that the user gave them.

    Raises
    ------
    ArgumentError
        For axes that there are not, and for two of one name.
    """
    unknown = set(axes) - set(dims)
    if unknown:
        raise ArgumentError(f"axes= renames {sorted(unknown)}, but the files have {tuple(dims)}")
    renamed = tuple(axes.get(name, name) for name in dims)
    if len(set(renamed)) < len(renamed):
        raise ArgumentError(f"axes={dict(axes)} gives two axes of the files one name: {renamed}")
    return renamed


def _edges_ahead(
    reader: Reader, grid: FileGrid, start: Index
) -> dict[Index, Future[Header | CloudimgError]]:
    """Begin reading the headers at the edges of a mosaic, without waiting for the first one.

    Every page has y and x, so fields of these names are concatenated whatever the first header
    says; this saves the round trip in between.
    """
    edges = (
        grid.last_along(i, grid.shape[i] - 1)
        for i, name in enumerate(grid.fields)
        if name in ("y", "x") and grid.shape[i] > 1
    )
    return {
        edge: engine().fetch(partial(_read_header, reader, grid, edge))
        for edge in edges
        if edge is not None and edge != start
    }


def _read_header(reader: Reader, grid: FileGrid, index: Index) -> Header | CloudimgError:
    key = _key(reader, grid, index)
    try:
        return Header.of(reader, key, reader.headers.open(key, size_bytes=grid.size_of(index)))
    except FormatError as exc:
        return exc


def _wanted(grid: FileGrid, layout: Layout, start: Index, *, validate_all: bool) -> list[Index]:
    """Files whose headers must be read besides the first one."""
    if validate_all:
        return [index for index in grid.files() if index != start]
    ends = [end for axis in layout.axes for end in _ends(grid, axis, start)]
    return [end for end in dict.fromkeys(ends) if end != start]


def _more_headers(
    reader: Reader,
    grid: FileGrid,
    wanted: Sequence[Index],
    ahead: Mapping[Index, Future[Header | CloudimgError]],
    report: Callable[[int], None],
) -> Iterator[tuple[Index, Header | CloudimgError]]:
    """The further headers that are needed, many read at a time; a bad one as its error."""

    def start(index: Index) -> Future[Header | CloudimgError]:
        return ahead.get(index) or engine().fetch(partial(_read_header, reader, grid, index))

    # Headers that wait to be taken need memory too.
    found = map_ahead(start, wanted, n_ahead=4 * settings().max_requests)
    for n_read, (index, header) in enumerate(zip(wanted, found, strict=True), 2):
        report(n_read)
        yield index, header


def _headers_by_workers(
    client: Any, reader: Reader, grid: FileGrid, start: Index, report: Callable[[int], None]
) -> Iterator[tuple[Index, Header | CloudimgError]]:
    """All further headers, by the workers of a cluster."""
    for index, summary, size in read_on_cluster(client, reader, grid, report=report):
        if index == start:
            continue
        if isinstance(summary, StorageError):
            raise summary
        if not isinstance(summary, HeaderSummary):
            yield index, summary
            continue
        key = _key(reader, grid, index)
        yield (
            index,
            Header(
                key=key,
                url=reader.store.location.display(key),
                dims=summary.dims,
                shapes=summary.shapes,
                dtype=summary.dtype,
                etag=None,
                size_bytes=size,
                attrs=summary.attrs,
            ),
        )


def _aligned(header: Header, first: Header, layout: Layout) -> Header:
    """The header with axes of length 1 where a file left out one that files are joined along."""
    lacking = lacking_axes(header.dims, first.dims)
    joined = {a.file_axis for a in layout.axes if a.field is not None and not a.is_stacked}
    if not lacking or not set(lacking) <= joined:
        return header
    shapes = tuple(with_ones(shape, lacking) for shape in header.shapes)
    return replace(header, dims=first.dims, shapes=shapes)


def _ends(grid: FileGrid, axis: Axis, start: Index) -> Iterator[Index]:
    """Files whose lengths along an axis must be known: one at its end, and one before the end."""
    if axis.field is None or axis.is_stacked or axis.count == 1:
        return
    last = grid.last_along(axis.field, axis.count - 1)
    if last is not None:
        yield last
    if start[axis.field] == axis.count - 1:
        # Holes can make the first file one of the edge, which does not speak for the others.
        before = (grid.last_along(axis.field, i) for i in range(axis.count - 1))
        yield from islice((index for index in before if index is not None), 1)


def _misfit_of_first(header: Header, first: Header, layout: Layout) -> MismatchError | None:
    """The error for a file that differs from the first other than along concatenated axes."""
    shape = list(first.shapes[0])
    if len(header.shapes[0]) == len(shape):
        for axis in layout.axes:
            if axis.field is not None and axis.file_axis is not None:
                shape[axis.file_axis] = header.shapes[0][axis.file_axis]
    if len(header.shapes) != len(first.shapes):
        return MismatchError(
            f"{header.url} has {len(header.shapes)} levels, {first.url} has {len(first.shapes)}",
            url=header.url,
        )
    return _misfit(header, 0, tuple(shape), first)


def _misfit(
    header: Header, level: int, shape: tuple[int, ...], first: Header
) -> MismatchError | None:
    expected = Expected(first.dims, shape, first.dtype, first.url)
    comparison = Comparison(FileShape(header.dims, header.shapes[level], header.dtype), expected)
    return None if comparison.fits else comparison.error(header.url)


def _fitted(layout: Layout, level: int, headers: Mapping[Index, Header]) -> Layout:
    """The layout with the lengths that the headers gave along concatenated axes."""
    found: dict[str, list[int]] = {}
    for axis in layout.axes:
        field = axis.field
        if field is None or axis.file_axis is None:
            continue
        # The file that comes first along the axis speaks for all whose headers were not read.
        speaker = min(headers, key=lambda index: index[field])
        lengths = [headers[speaker].shapes[level][axis.file_axis]] * axis.count
        for index, header in headers.items():
            lengths[index[field]] = header.shapes[level][axis.file_axis]
        found[axis.name] = lengths
    return with_extents(layout, found)


def _misfits(
    headers: Mapping[Index, Header], layouts: Sequence[Layout], first: Header
) -> Iterator[CloudimgError]:
    """Files that fit the first one but not their neighbours."""
    for index, header in headers.items():
        for level, layout in enumerate(layouts):
            wrong = _misfit(header, level, layout.file_shape(index), first)
            if wrong is not None:
                yield wrong
                break


def _refuse_overlap(layout: Layout, headers: Mapping[Index, Header], start: Index) -> None:
    """Refuse a mosaic whose own headers say that its tiles overlap."""
    first = headers[start].attrs
    here, pixel = first.get("stage_position"), first.get("pixel_size")
    if here is None or pixel is None:
        return
    for axis in layout.axes:
        name, field = axis.name, axis.field
        if name not in ("x", "y") or field is None or axis.is_stacked or name not in pixel:
            continue
        if first["stage_position_unit"].get(name) != first["pixel_size_unit"].get(name):
            continue  # not comparable, so nothing is known
        for index, header in headers.items():
            there = header.attrs.get("stage_position")
            steps = index[field] - start[field]
            if there is None or steps < 1:
                continue
            apart = abs(there[name] - here[name]) / pixel[name]
            width = sum(axis.extents[start[field] : index[field]])
            if 0 < apart < _OVERLAP * width:
                raise GridError(
                    f"the stage positions in the headers put tiles along {name} about"
                    f" {apart / steps:.0f} pixels apart, but each is {width / steps:.0f} pixels"
                    " long: they overlap, and a mosaic would show parts twice. Pass mosaic=False"
                    " to stack them, or name the field otherwise, for example {pos}"
                )
