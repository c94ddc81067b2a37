"""Open a multi-file dataset: an image whose planes are pages of several files.

The planes become a grid whose "files" are pages, which is then read like the grid of a pattern.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.listing import look_up_keys
from cloudimg.discovery.names import NameColumn
from cloudimg.errors import FormatError, MismatchError, MissingFilesError, counted
from cloudimg.opening.dataset_description import (
    DatasetDescription,
    describe_dataset,
    read_headers,
)
from cloudimg.opening.header import Header
from cloudimg.opening.inspect_headers import HeaderInspection, rename_axes
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import arrange
from cloudimg.reading.reader import Reader
from cloudimg.storage import Entry, engine
from cloudimg.tiff import describe_ome
from cloudimg.tiff.multifile import PlaneTable

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A multi-file dataset, ready to be read."""

    grid: FileGrid
    inspection: HeaderInspection
    pages: npt.NDArray[np.int64]
    """Number of the page in its file by index in the grid."""
    n_files: int
    """Number of files that exist."""


def open_dataset(
    reader: Reader,
    key: str,
    opened: OpenFile | None,
    arguments: OpenArguments,
) -> OpenDataset | None:
    """Open the multi-file dataset that a file belongs to.

    Parameters
    ----------
    reader : Reader
    key : str
        Key of the file.
    opened : OpenFile, optional
        The open file; None for a companion file.
    arguments : OpenArguments

    Returns
    -------
    OpenDataset or None
        None if the file turns out to be the whole image.

    Raises
    ------
    StorageError, FormatError, MissingFilesError, MismatchError, ArgumentError
    """
    description = describe_dataset(reader, key, opened)
    if description is None:
        return None
    planes = _renamed(description.planes, arguments.axes or {})
    folder = key.rpartition("/")[0]
    keys = [f"{folder}/{name}" if folder else name for name in planes.files]
    entries = list(look_up_keys(reader.store, keys))
    present = _present(planes, entries, fill=arguments.missing == "fill")
    grid = _grid(reader, planes, entries, present)
    members = reader.using(ignore_siblings=True, member=planes.offsets_are)
    inspection = _inspect(members, grid, description, planes, arguments)
    if arguments.validate == "all":
        _validate(members, grid, planes, inspection.headers[0])
    n_files = sum(entry is not None for entry in entries)
    return OpenDataset(grid, inspection, planes.page_of, n_files)


def _renamed(planes: PlaneTable, axes: Mapping[str, str]) -> PlaneTable:
    """Return the planes with a user's names of axes."""
    coords = {axes.get(dim, dim): values for dim, values in planes.coords.items()}
    return replace(planes, dims=tuple(axes.get(d, d) for d in planes.dims), coords=coords)


def _present(
    planes: PlaneTable, entries: Sequence[Entry | None], *, fill: bool
) -> npt.NDArray[np.bool_]:
    """Return which planes exist.

    Raises
    ------
    MissingFilesError
        If planes are missing and `fill` is False, or all are missing.
    """
    exists = np.array([entry is not None for entry in entries] + [False])
    present: npt.NDArray[np.bool_] = exists[planes.file_of]
    n_missing = int(present.size - present.sum())
    if n_missing and (not fill or not present.any()):
        absent = [n for n, entry in zip(planes.files, entries, strict=True) if entry is None]
        shown = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
        where = (
            f"{counted(len(absent), 'file is', 'files are')} missing: {shown}"
            if absent
            else "no file is named for them"
        )
        planes_of = f"of {present.size} planes of the multi-file dataset"
        raise MissingFilesError(
            f"{counted(n_missing, f'{planes_of} is', f'{planes_of} are')} missing: {where};"
            ' pass missing="fill" to read them as a constant, or a list, [url], to read this file'
            " alone"
        )
    return present


def _grid(
    reader: Reader,
    planes: PlaneTable,
    entries: Sequence[Entry | None],
    present: npt.NDArray[np.bool_],
) -> FileGrid:
    """Return the grid of planes, where each index has the name of the file with the plane."""
    names = NameColumn()
    digest = hashlib.sha256(planes.file_of.tobytes() + planes.page_of.tobytes())
    location = reader.store.location
    for entry, name in zip(entries, planes.files, strict=True):
        names.append(location.pattern_text(entry.key if entry is not None else name))
        digest.update(f"{name}\0{entry}\n".encode("utf-8", "surrogatepass"))
    return FileGrid(
        fields=planes.dims,
        labels=tuple(
            planes.coords.get(dim, tuple(range(length)))
            for dim, length in zip(planes.dims, planes.shape, strict=True)
        ),
        keys=Keys(None, (), names, planes.file_of),
        present=None if present.all() else present,
        sizes=np.full(math.prod(planes.shape), -1, np.int64),
        digest=digest.hexdigest(),
        has_versions=all(entry is None or entry.etag is not None for entry in entries),
        n_files=int(present.sum()),
    )


def _validate(reader: Reader, grid: FileGrid, planes: PlaneTable, first: Header) -> None:
    """Read every header and compare every page with the first one.

    Raises
    ------
    MismatchError
        If any file or page does not fit.
    """
    numbers = planes.file_of if grid.present is None else np.where(grid.present, planes.file_of, -1)
    present, firsts = np.unique(numbers.ravel(), return_index=True)
    present, firsts = present[present >= 0], firsts[present >= 0]
    indices = zip(*np.unravel_index(firsts, numbers.shape), strict=True)
    names = (grid.keys(tuple(int(i) for i in index)) for index in indices)
    keys = [reader.store.location.key_of(name) for name in names]
    problems: list[str] = []
    for number, opened in zip(present, read_headers(reader, keys), strict=True):
        pages = planes.page_of[numbers == number].tolist()
        problems += _page_problems(reader, opened, pages, first)
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise MismatchError(
            f"{counted(len(problems), 'page or file does', 'pages or files do')} not fit the"
            f" multi-file dataset: {shown}{more}"
        )


def _page_problems(
    reader: Reader, opened: OpenFile | FormatError, pages: Sequence[int], first: Header
) -> Iterator[str]:
    """Yield what is wrong with a file or with some of its pages."""
    if isinstance(opened, FormatError):
        yield opened.message
        return
    try:
        for page in pages:
            levels = reader.levels_of(opened, page)
            shapes = tuple(level.shape[1:] for level in levels)
            if (shapes, levels[0].dtype) != (first.shapes, first.dtype):
                yield f"page {page} of {opened.url} has shapes {shapes}"
    except FormatError as exc:
        yield exc.message


def _inspect(
    reader: Reader,
    grid: FileGrid,
    description: DatasetDescription,
    planes: PlaneTable,
    arguments: OpenArguments,
) -> HeaderInspection:
    """Determine the image from the header of the first plane; others are checked when read."""
    index = grid.first()
    key = reader.store.location.key_of(grid.keys(index))
    opened = engine().fetch(partial(reader.headers.open, key)).result()
    levels = reader.levels_of(opened, int(planes.page_of[index]))
    file_dims = opened.parsed.dims[1:]
    shapes = tuple(level.shape[1:] for level in levels)
    # All axes at once, so that two of them cannot get one name.
    all_dims = rename_axes((*description.planes.dims, *file_dims), arguments.axes or {})
    names = all_dims[len(grid.fields) :]
    layouts = tuple(
        arrange(grid.fields, grid.shape, names, shape, mosaic=True, dims=arguments.dims)
        for shape in shapes
    )
    url = reader.store.location.display(key)
    _check_described(planes, shapes[0], levels[0].dtype, url)
    attrs = dict(opened.parsed.attrs)
    coords: dict[str, Sequence[Any]] = {}
    if description.ome_xml:
        image_dims = (*grid.fields, *file_dims)
        shape = (*grid.shape, *shapes[0])
        series = reader.headers.context.series
        more, coords = describe_ome(description.ome_xml, planes.name, image_dims, shape, series)
        attrs |= more
    header = replace(
        Header.of(reader, key, opened),
        dims=file_dims,
        shapes=shapes,
        dtype=levels[0].dtype,
        attrs=attrs,
    )
    return HeaderInspection(
        reader=reader.using(versions={key: opened.etag} if opened.etag is not None else {}),
        coords={dim: values for dim, values in coords.items() if dim in file_dims},
        segments=tuple(level.segment[1:] for level in levels),
        file_dims=names,
        layouts=layouts,
        headers=(header,),
    )


def _check_described(
    planes: PlaneTable, shape: tuple[int, ...], dtype: np.dtype[Any], url: str
) -> None:
    """Check the pixels that an index places by their offset against the index.

    Raises
    ------
    MismatchError
    """
    if planes.offsets_are != "pixels":
        return
    same_type = planes.dtype is None or np.dtype(planes.dtype) == dtype
    same_shape = planes.plane_shape is None or planes.plane_shape == shape
    if not (same_type and same_shape):
        raise MismatchError(
            f"{url} has planes of shape {shape} and type {dtype}, but the index of its dataset has"
            f" {planes.plane_shape} and {planes.dtype}",
            url=url,
        )
