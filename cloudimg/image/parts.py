"""Parts of an image: a file, a resolution level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloudimg.opening.open_files import Opened
from cloudimg.pattern import Label
from cloudimg.reading.source import Source


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


def file_at(opened: Opened, index: tuple[int, ...]) -> File:
    """The file at an index of the grid."""
    grid, location = opened.grid, opened.sources[0].reader.store.location
    return File(
        location.display(location.key_of(grid.keys(index))),
        dict(zip(grid.fields, index, strict=True)),
        grid.labels_at(index),
        grid.size_of(index),
    )


def level_info(source: Source, base: Source) -> LevelInfo:
    """Describe a level; `base` is level 0."""
    file_axes = {a.file_axis: a.name for a in source.layout.axes if a.file_axis is not None}
    names = [file_axes[i] for i in sorted(file_axes)]
    return LevelInfo(
        source.shape,
        dict(zip(names, source.segment, strict=True)),
        tuple(b / s for b, s in zip(base.shape, source.shape, strict=True)),
    )
