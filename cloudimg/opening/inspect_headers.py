"""Determine axes, shape and type of an image from the headers of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError, CloudimgError, MismatchError, counted
from cloudimg.opening.compare_headers import compare_headers, fit_extents, neighbour_mismatches
from cloudimg.opening.header import Header
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.overlap import refuse_overlap
from cloudimg.opening.read_headers import key_at, other_headers, start_edge_headers
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import Layout, arrange
from cloudimg.reading.reader import Reader
from cloudimg.storage import engine

_SHOWN = 10
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
    file_dims: tuple[str, ...]
    """Axes of the files, renamed by the user's `axes`."""
    layouts: tuple[Layout, ...]
    """Layouts by level."""
    headers: tuple[Header, ...]
    """Headers that were read, that of the first file first."""

    @property
    def own_coords(self) -> dict[str, Sequence[Any]]:
        """Coordinates in the first file, by dim of the image."""
        renamed_dims = dict(zip(self.headers[0].dims, self.file_dims, strict=True))
        return {renamed_dims[dim]: values for dim, values in self.coords.items()}


def inspect_headers(
    reader: Reader, grid: FileGrid, opened: OpenFile | None, arguments: OpenArguments
) -> HeaderInspection:
    """Read the headers that determine the image.

    Parameters
    ----------
    reader : Reader
    grid : FileGrid
    opened : OpenFile, optional
        The first file, if its header has been read already.
    arguments : OpenArguments

    Raises
    ------
    StorageError, FormatError, MismatchError, ArgumentError, GridError, ClusterError
    """
    validate_all = arguments.validate == "all"
    first_index = grid.first()
    key = key_at(reader, grid, first_index)
    edges_needed = arguments.mosaic and not validate_all
    started = start_edge_headers(reader, grid, first_index) if edges_needed else {}
    if opened is None:
        # In a fetching thread, so that Ctrl-C interrupts this one.
        open_first = partial(reader.headers.open, key, size_bytes=grid.size_of(first_index))
        opened = engine().fetch(open_first).result()
    if opened.decoder is not None:
        # The format of the first file is that of all; a worker may not have registered it.
        reader = reader.using(decoder=opened.decoder)
    first = Header.of(reader, key, opened)
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
    others = other_headers(reader, grid, layouts[0], started, arguments)
    headers, errors = compare_headers(others, first, layouts[0], first_index, collect=validate_all)
    layouts = tuple(fit_extents(layout, level, headers) for level, layout in enumerate(layouts))
    if validate_all:
        errors.extend(neighbour_mismatches(headers, layouts, first))
    if errors:
        raise _mismatch(errors, grid.n_files)
    refuse_overlap(layouts[0], headers, first_index)
    with_versions = islice(headers.values(), _MAX_VERSIONS)
    versions = {header.key: header.etag for header in with_versions if header.etag is not None}
    return HeaderInspection(
        reader=reader.using(versions=versions),
        coords=opened.parsed.coords,
        segments=tuple(level.segment for level in opened.parsed.levels),
        file_dims=file_dims,
        layouts=layouts,
        headers=tuple(headers.values()),
    )


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


def _mismatch(errors: Sequence[CloudimgError], n_files: int) -> MismatchError:
    shown = "; ".join(error.message for error in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    files = counted(
        len(errors), f"of {n_files} files does not fit", f"of {n_files} files do not fit"
    )
    return MismatchError(f"{files} the grid: {shown}{more}")
