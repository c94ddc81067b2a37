"""From a grid of files to a described image: the headers that must be read at open, and no others.

The first header speaks for all files. Where files are concatenated, the last file along each such
axis may be shorter, so its header is read too. ``validate="all"`` reads every header, here or
on the workers of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    FormatError,
    GridError,
    MismatchError,
    StorageError,
)
from cloudimg.grid import FileGrid
from cloudimg.header_blocks import FILES_PER_BLOCK, Said, read_on_cluster
from cloudimg.headers import OpenFile
from cloudimg.layout import Axis, Layout, arrange, with_extents
from cloudimg.on_cluster import Client
from cloudimg.reader import Expected, Reader, lacking_axes, mismatch_message, with_ones
from cloudimg.storage import engine

_SHOWN = 10
_REMEMBERED = 16
"""Files whose version travels with the image; more would make it large."""
_OVERLAP = 0.98
"""Tiles whose stage positions are closer than this fraction of their width overlap."""

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Survey:
    """What the headers said."""

    coords: Mapping[str, Sequence[Any]]
    """What the first file says of positions along its axes, by the names that it has for them."""
    segments: tuple[tuple[int, ...], ...]
    """By level: shape of a segment (tile, strip, page), in the files' axes."""
    file_dims: tuple[str, ...]
    """Axes of the files, renamed as the user asked."""
    layouts: tuple[Layout, ...]
    """By level."""
    headers: tuple[Header, ...]
    """Of the files whose headers were read, the first one first."""


def survey(
    reader: Reader,
    grid: FileGrid,
    opened: OpenFile | None,
    *,
    axes: Mapping[str, str],
    dims: Sequence[str] | None,
    mosaic: bool,
    validate_all: bool,
    progress: Callable[[str, int], None] | None = None,
    client: Client | None = None,
) -> Survey:
    """Read the headers that decide the shape of the image, of which one may be `opened` already.

    Raises
    ------
    StorageError, FormatError, MismatchError, ArgumentError, GridError
    """
    start = grid.first()
    key = _key(reader, grid, start)
    ahead = _edges_ahead(reader, grid, start) if mosaic and not validate_all else {}
    # Waited for in a fetching thread, so that Ctrl-C reaches this one.
    first_header = partial(reader.headers.open, key, size_bytes=grid.size_of(start))
    opened = opened or engine().fetch(first_header).result()
    first = _header(reader, key, opened)
    file_dims = renamed(first.dims, axes)
    layouts = tuple(
        arrange(grid.fields, grid.shape, file_dims, shape, mosaic=mosaic, dims=dims)
        for shape in first.shapes
    )
    headers = {start: first}
    odd: list[CloudimgError] = []

    def report(n_read: int) -> None:
        if progress is not None:
            progress("headers read", n_read)

    if validate_all and client is not None and grid.n_files > FILES_PER_BLOCK:
        more = _headers_by_workers(client, reader, grid, start, report)
    else:
        wanted = _wanted(grid, layouts[0], start, validate_all=validate_all)
        more = _more_headers(reader, grid, wanted, ahead, report)
    for index, header in more:
        if isinstance(header, Header):
            header = _aligned(header, first, layouts[0])
        wrong = header if isinstance(header, CloudimgError) else _differs(header, first, layouts[0])
        if wrong is not None and not validate_all:
            raise wrong
        if wrong is not None:
            odd.append(wrong)
        elif isinstance(header, Header):
            headers[index] = header
    layouts = tuple(_fitted(layout, level, headers) for level, layout in enumerate(layouts))
    if validate_all:
        odd.extend(_misfits(headers, layouts, first))
    if odd:
        shown = "; ".join(error.message for error in odd[:_SHOWN])
        raise MismatchError(f"{len(odd)} of {grid.n_files} files do not fit the grid: {shown}")
    _refuse_overlap(layouts[0], headers, start)
    reader.headers.versions = {
        header.key: header.etag
        for header in list(headers.values())[:_REMEMBERED]
        if header.etag is not None
    }
    segments = tuple(level.segment for level in opened.parsed.levels)
    return Survey(opened.parsed.coords, segments, file_dims, layouts, tuple(headers.values()))


def _key(reader: Reader, grid: FileGrid, index: Index) -> str:
    return reader.store.location.key_of(grid.keys(index))


def _header(reader: Reader, key: str, opened: OpenFile) -> Header:
    levels = opened.parsed.levels
    return Header(
        key,
        reader.store.location.display(key),
        opened.parsed.dims,
        tuple(level.shape for level in levels),
        levels[0].dtype,
        opened.etag,
        opened.size_bytes,
        opened.parsed.attrs,
    )


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
        return _header(reader, key, reader.headers.open(key, size_bytes=grid.size_of(index)))
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
    step = 4 * engine().limits.max_requests  # what waits for its turn takes memory too
    for i in range(0, len(wanted), step):
        futures = [
            (
                index,
                ahead.get(index) or engine().fetch(partial(_read_header, reader, grid, index)),
            )
            for index in wanted[i : i + step]
        ]
        for n_read, (index, future) in enumerate(futures, i + 2):
            report(n_read)
            yield index, future.result()


def _headers_by_workers(
    client: Client, reader: Reader, grid: FileGrid, start: Index, report: Callable[[int], None]
) -> Iterator[tuple[Index, Header | CloudimgError]]:
    """All further headers, by the workers of a cluster."""
    for index, said, size in read_on_cluster(client, reader, grid, report=report):
        if index == start:
            continue
        if isinstance(said, StorageError):
            raise said
        if not isinstance(said, Said):
            yield index, said
            continue
        key = _key(reader, grid, index)
        url = reader.store.location.display(key)
        yield index, Header(key, url, said.dims, said.shapes, said.dtype, None, size, said.attrs)


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


def _differs(header: Header, first: Header, layout: Layout) -> MismatchError | None:
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
    found = (header.dims, header.shapes[level], header.dtype)
    if found == (expected.dims, expected.shape, expected.dtype):
        return None
    return MismatchError(mismatch_message(header.url, found, expected), url=header.url)


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
