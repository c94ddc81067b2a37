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

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.names import NameColumn
from cloudimg.errors import (
    CorruptFileError,
    FormatError,
    LimitError,
    MismatchError,
    MissingFilesError,
    NotFoundError,
)
from cloudimg.opening.inspect_headers import Header, HeaderInspection, renamed
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.layout import arrange
from cloudimg.reading.reader import Reader
from cloudimg.settings import settings
from cloudimg.storage import Entry, engine, map_ahead
from cloudimg.tiff import describe_ome
from cloudimg.tiff.limits import check_description, check_ome
from cloudimg.tiff.membership import NDTIFF_INDEX
from cloudimg.tiff.multifile import PlaneTable, mmstack_planes, ndtiff_planes, ome_planes

COMPANION_ENDS = (".companion.ome", ".ome.xml", ".ome")
"""Names of files that hold the OME-XML of others (OME-TIFF specification)."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A set of files, ready to be read."""

    grid: FileGrid
    inspection: HeaderInspection
    pages: npt.NDArray[np.int64]
    """Which page of its file each index of the grid is."""
    n_files: int


@dataclass(frozen=True, slots=True)
class _Description:
    planes: PlaneTable
    ome_xml: str


def is_companion(name: str) -> bool:
    """Whether a file is one that only tells of others."""
    return name.lower().endswith(COMPANION_ENDS) or name.rpartition("/")[2] == NDTIFF_INDEX


def open_dataset(
    reader: Reader,
    key: str,
    opened: OpenFile | None,
    arguments: OpenArguments,
) -> OpenDataset | None:
    """The image that a file is a part of.

    Parameters
    ----------
    reader : Reader
    key : str
        Of the file.
    opened : OpenFile, optional
        Its header; None for a companion file.
    arguments : OpenArguments

    Returns
    -------
    OpenDataset or None
        None where no other file is named after all, so that the file is the whole image.

    Raises
    ------
    StorageError, FormatError, MissingFilesError, MismatchError, ArgumentError
    """
    description = _follow(reader, key, opened)
    if description is None:
        return None
    planes = _renamed(description.planes, arguments.axes or {})
    folder = key.rpartition("/")[0]
    entries = _look_up(reader, [f"{folder}/{name}" if folder else name for name in planes.files])
    present = _present(reader, planes, entries, fill=arguments.missing == "fill")
    grid = _grid(reader, planes, entries, present)
    members = reader.using(ignore_siblings=True, member=planes.offsets_are)
    inspection = _inspect(members, grid, description, planes, arguments)
    if arguments.validate == "all":
        _validate(members, grid, planes, inspection.headers[0])
    n_files = sum(entry is not None for entry in entries)
    return OpenDataset(grid, inspection, planes.page_of, n_files)


def _follow(reader: Reader, key: str, opened: OpenFile | None) -> _Description | None:
    """What is told of the set, wherever it stands."""
    folder, _, name = key.rpartition("/")
    series = reader.headers.context.series
    membership = opened.parsed.membership if opened is not None else None
    if opened is not None and membership is None:
        return None
    if membership is not None and membership.planes is not None:
        return _Description(membership.planes, membership.ome_xml)
    if membership is not None and membership.described_by.endswith("*"):
        return _stack(reader, folder, name, membership.described_by[:-1], membership.part)
    teller = membership.described_by if membership is not None else name
    beside = f"{folder}/{teller}" if folder else teller
    try:
        if teller.lower().endswith((".tif", ".tiff")):
            return _master(reader, beside)
        blob = reader.store.get(beside, 0, settings().max_header_bytes)
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


def _told(data: bytes, name: str, url: str, series: int) -> _Description | None:
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


def _parse_told(data: bytes, name: str, url: str, series: int) -> _Description | None:
    if name == NDTIFF_INDEX:
        return _Description(ndtiff_planes(data), "")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CorruptFileError(f"{url} is no OME-XML: it is not UTF-8", url=url) from None
    check_description(text, url, settings().limits)
    check_ome(text, url)
    planes = ome_planes(text, "", series)
    return _Description(planes, text) if planes is not None else None


def _master(reader: Reader, key: str) -> _Description | None:
    """What a TIFF says that another one names as the holder of its metadata."""
    membership = engine().fetch(partial(reader.headers.open, key)).result().parsed.membership
    if membership is None or membership.planes is None:
        return None
    return _Description(membership.planes, membership.ome_xml)


def _stack(reader: Reader, folder: str, name: str, stem: str, part: Any) -> _Description | None:
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
        membership = future.result().parsed.membership
        if membership is not None and membership.part is not None:
            parts[key.rpartition("/")[2]] = membership.part
    return _Description(mmstack_planes(parts), "") if len(parts) > 1 else None


def _renamed(planes: PlaneTable, axes: Mapping[str, str]) -> PlaneTable:
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
    reader: Reader, planes: PlaneTable, entries: Sequence[Entry | None], *, fill: bool
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
    planes: PlaneTable,
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


def _validate(reader: Reader, grid: FileGrid, planes: PlaneTable, first: Header) -> None:
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

    def read(key: str) -> OpenFile | FormatError:
        try:
            return reader.headers.open(key)
        except FormatError as exc:
            return exc

    # Headers that wait to be taken need memory too.
    n_ahead = 4 * settings().max_requests
    yield from map_ahead(lambda key: engine().fetch(partial(read, key)), keys, n_ahead=n_ahead)


def _inspect(
    reader: Reader,
    grid: FileGrid,
    description: _Description,
    planes: PlaneTable,
    arguments: OpenArguments,
) -> HeaderInspection:
    """The header of the first plane decides for all; each is checked when it is read."""
    index = grid.first()
    key = reader.store.location.key_of(grid.keys(index))
    opened = engine().fetch(partial(reader.headers.open, key)).result()
    levels = reader.levels_of(opened, int(planes.page_of[index]))
    file_dims = opened.parsed.dims[1:]
    shapes = tuple(level.shape[1:] for level in levels)
    # All axes at once: two of them must not get one name.
    all_dims = renamed((*description.planes.dims, *file_dims), arguments.axes or {})
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
