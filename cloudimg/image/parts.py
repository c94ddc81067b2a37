"""Parts of an image: a file, a resolution level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from cloudimg.discovery.listing import FILE_AXIS
from cloudimg.errors import ArgumentError, counted
from cloudimg.opening.opened import Opened
from cloudimg.pattern import Label
from cloudimg.reading.source import Source
from cloudimg.reading.zarr_images.documents import folder_of, is_document


@dataclass(frozen=True, slots=True)
class File:
    """One file of an image, or one page of a multi-file dataset."""

    url: str
    """URL without credentials."""
    index: Mapping[str, int]
    """Index in the grid, by axis."""
    labels: Mapping[str, Label]
    """Labels from the name of the file, by axis."""
    size_bytes: int | None
    """Size of the file, None where the store does not list it."""


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One resolution level of an image."""

    shape: tuple[int, ...]
    """Lengths of the axes, in the order of `Image.dims`."""
    segment: Mapping[str, int]
    """Shape of a stored segment (tile or strip), by axis of the files."""
    downsampling: tuple[float, ...]
    """Number of pixels of level 0 per pixel of this level, for each axis."""


def source_at(opened: Opened, level: int) -> Source:
    """The source of a level.

    Raises
    ------
    ArgumentError
        If the image does not have the level.
    """
    sources = opened.sources
    if not isinstance(level, int) or not -len(sources) <= level < len(sources):
        found = counted(len(sources), "level")
        raise ArgumentError(f"level={level!r}, but the image has {found}")
    return sources[level]


def by_dim(region: Mapping[str, int | slice], dims: tuple[str, ...]) -> tuple[int | slice, ...]:
    """A region by dim as one in the order of the dims.

    Raises
    ------
    ArgumentError
        If it names other dims.
    """
    unknown = set(region) - set(dims)
    if unknown:
        raise ArgumentError(f"region names dims {sorted(unknown)}, but the image has {dims}")
    return tuple(region.get(dim, slice(None)) for dim in dims)


def file_at(opened: Opened, index: tuple[int, ...]) -> File:
    """The file at an index of the grid."""
    grid, location = opened.grid, opened.sources[0].reader.store.location
    return File(
        location.display(location.key_of(grid.keys(index))),
        dict(zip(grid.fields, index, strict=True)),
        grid.labels_at(index),
        grid.size_of(index),
    )


def common_name(opened: Opened) -> str:
    """The URL of the first file, with a wildcard where the last one has another name.

    It is the same whoever named the files: a pattern, or a table. Files without axes of their own
    have no name in common.
    """
    grid = opened.grid
    location = opened.sources[0].reader.store.location
    keys = (grid.keys(index) for index in (grid.first(), grid.last()))
    first, last = (folder_of(key) if is_document(key) else key for key in keys)
    if first != last and grid.fields != (FILE_AXIS,):
        folder, _, name = first.rpartition("/")
        pairs = zip(name, last.rpartition("/")[2], strict=False)
        same = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        first = f"{folder}/{same}{{n}}.tif"
    return location.url(location.key_of(first))


def level_info(source: Source, base: Source) -> LevelInfo:
    """Describe a level; `base` is level 0."""
    file_axes = {a.file_axis: a.name for a in source.layout.axes if a.file_axis is not None}
    names = [file_axes[i] for i in sorted(file_axes)]
    lengths = {
        level.name: (level.length, full.length)
        for level, full in zip(source.layout.axes, base.layout.axes, strict=True)
    }
    return LevelInfo(
        source.shape,
        dict(zip(names, source.segment, strict=True)),
        tuple(lengths[dim][1] / lengths[dim][0] for dim in source.dims),
    )
