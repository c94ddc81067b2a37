"""Images spread over several files that one of them, or a file beside them, tells of.

The planes become a grid whose "files" are pages: from there on everything is as with a pattern.
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

from cloudimg.errors import (
    CorruptFileError,
    FormatError,
    LimitError,
    MismatchError,
    MissingFilesError,
    NotFoundError,
)
from cloudimg.grid import FileGrid, Keys, NameColumn
from cloudimg.headers import OpenFile
from cloudimg.layout import arrange
from cloudimg.reader import Reader
from cloudimg.storage import Entry, engine
from cloudimg.survey import Header, Survey, renamed
from cloudimg.tiff import describe_ome, max_header_bytes
from cloudimg.tiff.guard import check_description, check_ome
from cloudimg.tiff.sets import PlaneSet, mmstack_set, ndtiff_set, ome_set
from cloudimg.tiff.spread import NDTIFF_INDEX

COMPANION_ENDS = (".companion.ome", ".ome.xml", ".ome")
"""Names of files that hold the OME-XML of others (OME-TIFF specification)."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class OpenSet:
    """A set of files, ready to be read."""

    reader: Reader
    grid: FileGrid
    found: Survey
    pages: npt.NDArray[np.int64]
    """Which page of its file each index of the grid is."""
    n_files: int


@dataclass(frozen=True, slots=True)
class _Told:
    planes: PlaneSet
    ome_xml: str


def is_companion(name: str) -> bool:
    """Whether a file is one that only tells of others."""
    return name.lower().endswith(COMPANION_ENDS) or name.rpartition("/")[2] == NDTIFF_INDEX


def open_set(
    reader: Reader,
    key: str,
    opened: OpenFile | None,
    *,
    axes: Mapping[str, str],
    dims: Sequence[str] | None,
    fill: bool,
    validate_all: bool,
) -> OpenSet | None:
    """The image that a file is a part of.

    Parameters
    ----------
    reader : Reader
    key : str
        Of the file.
    opened : OpenFile, optional
        Its header; None for a companion file.
    axes, dims
        See `cloudimg.open`.
    fill : bool
        Whether files may be missing.
    validate_all : bool
        Whether the header of every file is read now.

    Returns
    -------
    OpenSet or None
        None where nothing is told of other files after all, so that the file is all there is.

    Raises
    ------
    StorageError, FormatError, MissingFilesError, MismatchError, ArgumentError
    """
    told = _follow(reader, key, opened)
    if told is None:
        return None
    planes = _renamed(told.planes, axes)
    folder = key.rpartition("/")[0]
    entries = _look_up(reader, [f"{folder}/{name}" if folder else name for name in planes.files])
    present = _present(reader, planes, entries, fill=fill)
    grid = _grid(reader, planes, entries, present)
    chosen = replace(reader.headers.selection, alone=True, member=planes.offsets_are)
    members = Reader(reader.store, chosen)
    found = _survey(members, grid, told, planes, axes=axes, dims=dims)
    if validate_all:
        _validate(members, grid, planes, found.headers[0])
    return OpenSet(members, grid, found, planes.page_of, sum(e is not None for e in entries))


def _follow(reader: Reader, key: str, opened: OpenFile | None) -> _Told | None:
    """What is told of the set, wherever it stands."""
    folder, _, name = key.rpartition("/")
    series = reader.headers.selection.series
    spread = opened.parsed.spread if opened is not None else None
    if opened is not None and spread is None:
        return None
    if spread is not None and spread.planes is not None:
        return _Told(spread.planes, spread.ome_xml)
    if spread is not None and spread.told_by.endswith("*"):
        return _stack(reader, folder, name, spread.told_by[:-1], spread.part)
    teller = spread.told_by if spread is not None else name
    beside = f"{folder}/{teller}" if folder else teller
    try:
        if teller.lower().endswith((".tif", ".tiff")):
            return _master(reader, beside)
        blob = reader.store.get(beside, 0, max_header_bytes())
    except NotFoundError:
        if opened is None:
            raise
        return None  # its own pages are all that is left of the image
    url = reader.store.location.display(beside)
    if blob.size_bytes is not None and blob.size_bytes > len(blob.data):
        raise LimitError(
            f"{url} has {blob.size_bytes} bytes; set CLOUDIMG_MAX_HEADER_BYTES higher if it can be"
            " trusted",
            url=url,
        )
    return _told(bytes(blob.data), teller, url, series)


def _told(data: bytes, name: str, url: str, series: int) -> _Told | None:
    """What a file beside the members says.

    Raises
    ------
    FormatError
        With the URL of that file.
    """
    try:
        return _parse_told(data, name, url, series)
    except FormatError as exc:
        if url in exc.message:
            raise
        raise type(exc)(f"{url}: {exc.message}", url=url) from None


def _parse_told(data: bytes, name: str, url: str, series: int) -> _Told | None:
    if name == NDTIFF_INDEX:
        return _Told(ndtiff_set(data), "")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CorruptFileError(f"{url} is no OME-XML: it is not UTF-8", url=url) from None
    check_description(text, url)
    check_ome(text, url)
    planes = ome_set(text, "", series)
    return _Told(planes, text) if planes is not None else None


def _master(reader: Reader, key: str) -> _Told | None:
    """What a TIFF says that another one names as the holder of its metadata."""
    spread = engine().fetch(partial(reader.headers.open, key)).result().parsed.spread
    if spread is None or spread.planes is None:
        return None
    return _Told(spread.planes, spread.ome_xml)


def _stack(reader: Reader, folder: str, name: str, stem: str, part: Any) -> _Told | None:
    """A stack of Micro-Manager, each of whose files has an index of its own planes."""
    prefix = f"{folder}/{stem}" if folder else stem
    listed = [
        entry.key
        for batch in reader.store.list_objects(folder, prefix, 1)
        for entry in batch
        if entry.key.lower().endswith((".tif", ".tiff"))
    ]
    others = [key for key in listed if key.rpartition("/")[2] != name]
    under_way = [engine().fetch(partial(reader.headers.open, key)) for key in others]
    parts = {name: part}
    for key, future in zip(others, under_way, strict=True):
        spread = future.result().parsed.spread
        if spread is not None and spread.part is not None:
            parts[key.rpartition("/")[2]] = spread.part
    return _Told(mmstack_set(parts), "") if len(parts) > 1 else None


def _renamed(planes: PlaneSet, axes: Mapping[str, str]) -> PlaneSet:
    coords = {axes.get(dim, dim): values for dim, values in planes.coords.items()}
    return replace(planes, dims=tuple(axes.get(d, d) for d in planes.dims), coords=coords)


def _look_up(reader: Reader, keys: Sequence[str]) -> list[Entry | None]:
    """What the store knows of each file; None for those that do not exist."""

    def info(key: str) -> Entry | None:
        try:
            return reader.store.info(key)
        except NotFoundError:
            return None

    under_way = [engine().fetch(partial(info, key)) for key in keys]
    return [future.result() for future in under_way]


def _present(
    reader: Reader, planes: PlaneSet, entries: Sequence[Entry | None], *, fill: bool
) -> npt.NDArray[np.bool_]:
    """Which planes there are."""
    exists = np.array([entry is not None for entry in entries] + [False])
    present: npt.NDArray[np.bool_] = exists[planes.file_of]
    n_missing = int(present.size - present.sum())
    if n_missing and (not fill or not present.any()):
        absent = [n for n, entry in zip(planes.files, entries, strict=True) if entry is None]
        shown = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
        where = (
            f"{len(absent)} files are missing: {shown}" if absent else "no file is named for them"
        )
        raise MissingFilesError(
            f"{n_missing} of {present.size} planes of the set are not there: {where}; pass"
            ' missing="fill" to read them as a constant, or [url] alone in a list to read just the'
            " one file"
        )
    return present


def _grid(
    reader: Reader,
    planes: PlaneSet,
    entries: Sequence[Entry | None],
    present: npt.NDArray[np.bool_],
) -> FileGrid:
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


def _validate(reader: Reader, grid: FileGrid, planes: PlaneSet, first: Header) -> None:
    """Read every header, and report every file whose pages are not what the set says."""
    numbers = planes.file_of if grid.present is None else np.where(grid.present, planes.file_of, -1)
    odd = []
    found, firsts = np.unique(numbers.ravel(), return_index=True)
    places = zip(*np.unravel_index(firsts[found >= 0], numbers.shape), strict=True)
    keys = [
        reader.store.location.key_of(grid.keys(tuple(int(i) for i in place))) for place in places
    ]
    for number, opened in zip(found[found >= 0], _headers(reader, keys), strict=True):
        where = numbers == number
        if isinstance(opened, FormatError):
            odd.append(opened.message)
            continue
        try:
            for page in planes.page_of[where].tolist():
                levels = reader.levels_of(opened, page)
                shapes = tuple(level.shape[1:] for level in levels)
                if (shapes, levels[0].dtype) != (first.shapes, first.dtype):
                    odd.append(f"page {page} of {opened.url} has shapes {shapes}")
        except FormatError as exc:
            odd.append(exc.message)
    if odd:
        shown = "; ".join(odd[:_SHOWN])
        raise MismatchError(f"{len(odd)} pages or files do not fit the set: {shown}")


def _headers(reader: Reader, keys: Sequence[str]) -> Iterator[OpenFile | FormatError]:
    """Headers of files in their order, many read at a time; a bad one as its error."""
    step = 4 * engine().limits.max_requests  # what waits for its turn takes memory too
    for i in range(0, len(keys), step):
        under_way = [
            engine().fetch(partial(reader.headers.open, key)) for key in keys[i : i + step]
        ]
        for future in under_way:
            try:
                yield future.result()
            except FormatError as exc:
                yield exc


def _survey(
    reader: Reader,
    grid: FileGrid,
    told: _Told,
    planes: PlaneSet,
    *,
    axes: Mapping[str, str],
    dims: Sequence[str] | None,
) -> Survey:
    """The first plane speaks for all; each is checked when it is read."""
    index = grid.first()
    key = reader.store.location.key_of(grid.keys(index))
    opened = engine().fetch(partial(reader.headers.open, key)).result()
    levels = reader.levels_of(opened, int(planes.page_of[index]))
    file_dims = opened.parsed.dims[1:]
    shapes = tuple(level.shape[1:] for level in levels)
    # All axes at once: two of them must not get one name.
    names = renamed((*told.planes.dims, *file_dims), axes)[len(grid.fields) :]
    layouts = tuple(
        arrange(grid.fields, grid.shape, names, shape, mosaic=True, dims=dims) for shape in shapes
    )
    if opened.etag is not None:
        reader.headers.versions = {key: opened.etag}
    url = reader.store.location.display(key)
    _check_told(planes, shapes[0], levels[0].dtype, url)
    attrs = dict(opened.parsed.attrs)
    coords: dict[str, Sequence[Any]] = {}
    if told.ome_xml:
        image_dims = (*grid.fields, *file_dims)
        shape = (*grid.shape, *shapes[0])
        series = reader.headers.selection.series
        more, coords = describe_ome(told.ome_xml, planes.name, image_dims, shape, series)
        attrs |= more
    header = Header(
        key, url, file_dims, shapes, levels[0].dtype, opened.etag, opened.size_bytes, attrs
    )
    coords = {dim: values for dim, values in coords.items() if dim in file_dims}
    segments = tuple(level.segment[1:] for level in levels)
    return Survey(coords, segments, names, layouts, (header,))


def _check_told(planes: PlaneSet, shape: tuple[int, ...], dtype: np.dtype[Any], url: str) -> None:
    """That pixels which an index places by their offset are what it says that they are."""
    if planes.offsets_are != "pixels":
        return
    right_type = planes.dtype is None or np.dtype(planes.dtype) == dtype
    right_shape = planes.plane_shape is None or planes.plane_shape == shape
    if not (right_type and right_shape):
        raise MismatchError(
            f"{url} has planes of shape {shape} and type {dtype}, the index of its set says"
            f" {planes.plane_shape} and {planes.dtype}",
            url=url,
        )
