"""Open a multi-file dataset: an image whose planes are pages of several files.

The planes become a grid whose "files" are pages, which is then read like the grid of a pattern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.build_grid import short_etag
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.names import NameColumn, files_digest, name_digests
from cloudimg.discovery.url_list import look_up_keys
from cloudimg.errors import ArgumentError, MismatchError, MissingFilesError
from cloudimg.errors.file_report import FileReport
from cloudimg.opening.compare_members import MembersFacts, without_differing
from cloudimg.opening.dataset_description import (
    DatasetDescription,
    DatasetNotes,
    describe_dataset,
)
from cloudimg.opening.dataset_remarks import missing_planes, on_files, surplus
from cloudimg.opening.dataset_report import MissingMembers, missing_members
from cloudimg.opening.header import Header, remarks_of
from cloudimg.opening.header_columns import HeaderColumns
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.opening.identify import (
    find_by_uuid,
    has_identities,
    is_another,
    on_shared_uuids,
)
from cloudimg.opening.inspect_headers import rename_axes
from cloudimg.opening.options import OpenArguments
from cloudimg.opening.place_by_stage import refuse_fields_within
from cloudimg.opening.plane_facts import add_first_page, add_silent_steps, facts_of_planes
from cloudimg.opening.validate_members import accept_problems, validate_members
from cloudimg.reading.file_facts import OF_ONE_FILE
from cloudimg.reading.file_task import levels_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.identities import Identities
from cloudimg.reading.layout import arrange
from cloudimg.reading.reader import Reader
from cloudimg.storage import Entry, engine
from cloudimg.tiff import describe_ome, metadata_remarks, remarks_on
from cloudimg.tiff.multifile import PlaneTable


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A multi-file dataset, ready to be read."""

    grid: FileGrid
    inspection: HeaderInspection
    pages: npt.NDArray[np.int64]
    """Number of the page in its file by index in the grid."""
    n_files: int
    """Number of files that exist."""
    identities: Identities | None
    """UUIDs of the files, if each has one."""
    report: FileReport
    """Files that are missing, or were found to be bad."""


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
    notes = DatasetNotes()
    is_filled = arguments.missing == "fill"
    description = describe_dataset(reader, key, opened, notes, fill=is_filled)
    if description is None:
        return None
    planes = _renamed(description.planes, arguments.axes or {})
    folder = key.rpartition("/")[0]
    keys = [f"{folder}/{name}" if folder else name for name in planes.files]
    _refuse_exclusion(reader, keys, arguments)
    named = list(look_up_keys(reader.store, keys))
    members = reader.using(ignore_siblings=True, member=planes.offsets_are)
    own = key, opened.parsed.uuid if opened is not None else ""
    url = reader.store.location.display(key)
    for all_files in (False, True):
        entries, shared = find_by_uuid(members, planes, named, own, all_files=all_files)
        urls = [reader.store.location.display(key) for key in keys]
        missing = missing_members(planes, urls, entries)
        present = _present(planes, entries, url, missing, fill=is_filled)
        grid = _grid(reader, planes, keys, entries, present)
        # Where all headers have been read, nothing is left to be checked.
        identities = None if all_files else _identities(planes, own[1])
        inspection = inspect_planes(members, grid, description, planes, arguments, notes)
        first = inspection.headers[0]
        is_right = not is_another(members.headers.cached(first.key), grid.first(), identities)
        if is_right and arguments.validate == "all":
            facts = None if description.ome_xml else inspection.facts
            is_right, bad, uuids = validate_members(
                members,
                grid,
                planes,
                first,
                notes,
                identities,
                facts,
                MembersFacts(first, grid.first(), inspection.layouts[0], arguments),
            )
            if is_right:
                notes.add(on_shared_uuids(planes, uuids), url)
                inspection = accept_problems(inspection, missing, bad, arguments)
        if is_right:
            break
    notes.add(tuple(remarks_on(planes.images, reader.headers.context.series)), url)
    notes.add((*shared, *on_files(planes, keys, entries, present)), url)
    n_files = sum(entry is not None for entry in entries)
    add_silent_steps(inspection.facts, grid.shape)
    inspection = without_differing(replace(inspection, notes=notes.notes()))
    report = missing.report(inspection.errors, is_complete=arguments.validate == "all")
    return OpenDataset(grid, inspection, planes.page_of, n_files, identities, report)


def _refuse_exclusion(reader: Reader, keys: Sequence[str], arguments: OpenArguments) -> None:
    """Refuse to leave files out of a dataset, which itself says what its files are.

    Raises
    ------
    ArgumentError
    """
    exclusion = Exclusion(arguments.exclude)
    for key in keys if exclusion else ():
        if exclusion.excludes(key):
            raise ArgumentError(
                f"exclude= leaves out {reader.store.location.display(key)}, but the multi-file"
                " dataset itself says which files it has: pass a list of the others instead"
            )


def _renamed(planes: PlaneTable, axes: Mapping[str, str]) -> PlaneTable:
    """Return the planes with a user's names of axes."""
    coords = {axes.get(dim, dim): values for dim, values in planes.coords.items()}
    return replace(planes, dims=tuple(axes.get(d, d) for d in planes.dims), coords=coords)


def _present(
    planes: PlaneTable,
    entries: Sequence[Entry | None],
    url: str,
    missing: MissingMembers,
    *,
    fill: bool,
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
        error = MissingFilesError(
            f"{missing_planes(planes, entries, present, url)};"
            ' pass missing="fill" to read them as a constant, or a list, [url], to read this file'
            " alone",
            url=url,
        )
        error.report = missing.report(is_complete=False)
        raise error
    return present


def _grid(
    reader: Reader,
    planes: PlaneTable,
    keys: Sequence[str],
    entries: Sequence[Entry | None],
    present: npt.NDArray[np.bool_],
) -> FileGrid:
    """Return the grid of planes, where each index has the name of the file with the plane."""
    names = NameColumn()
    location = reader.store.location
    for entry, key in zip(entries, keys, strict=True):
        names.append(location.pattern_text(entry.key if entry is not None else key))
    digests = np.frombuffer(name_digests(names), np.uint64)
    every = np.array([short_etag(entry.etag if entry else None) for entry in entries], np.uint64)
    etags = np.where(present, every[planes.file_of], 0).astype(np.uint64).ravel()
    sizes = np.full(math.prod(planes.shape), -1, np.int64)
    columns = (np.where(present, column, 0) for column in (digests[planes.file_of], planes.page_of))
    name_column, pages = (column.ravel() for column in columns)
    return FileGrid(
        fields=planes.dims,
        labels=tuple(
            planes.coords.get(dim, tuple(range(length)))
            for dim, length in zip(planes.dims, planes.shape, strict=True)
        ),
        keys=Keys(None, (), names, planes.file_of),
        present=None if present.all() else present,
        sizes=sizes,
        etags=etags,
        digest=files_digest((name_column, sizes, etags, pages)),
        has_versions=all(entry is None or entry.etag is not None for entry in entries),
        n_files=int(present.sum()),
    )


def _identities(planes: PlaneTable, shared: str) -> Identities | None:
    return Identities.of(planes.uuids, planes.file_of, shared) if has_identities(planes) else None


def inspect_planes(
    reader: Reader,
    grid: FileGrid,
    description: DatasetDescription,
    planes: PlaneTable,
    arguments: OpenArguments,
    notes: DatasetNotes,
) -> HeaderInspection:
    """Determine the image from the header of the first plane; others are checked when read."""
    index = grid.first()
    key = reader.store.location.key_of(grid.keys(index))
    opened = engine().fetch(partial(reader.headers.open, key)).result()
    notes.add((*remarks_of(opened), *surplus(planes, index, opened)), opened.url)
    levels = levels_of(opened, int(planes.page_of[index]))
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
    refuse_fields_within(grid.fields, url, arguments)
    _check_described(planes, shapes[0], levels[0].dtype, url)
    attrs = dict(opened.parsed.attrs)
    if len(planes.files) > 1:  # times and positions of one file are not those of the others
        attrs = {name: value for name, value in attrs.items() if name not in OF_ONE_FILE}
    more: dict[str, Any] = {}
    coords: dict[str, Sequence[Any]] = {}
    if description.ome_xml:
        image_dims, shape = (*grid.fields, *file_dims), (*grid.shape, *shapes[0])
        series = reader.headers.context.series
        more, coords, of_planes = describe_ome(
            description.ome_xml, planes.name, image_dims, shape, series
        )
        notes.add(metadata_remarks(more), url)
        facts = facts_of_planes(planes, of_planes, more)
    else:
        facts = FactColumns()
        if arguments.keeps_facts or len(planes.files) == 1:
            add_first_page(facts, planes, int(planes.file_of[index]), opened)
    attrs |= more
    if planes.images:
        attrs["n_series"] = len(planes.images)
    header = Header.of(reader, key, opened).with_kind(
        dims=file_dims, shapes=shapes, dtype=levels[0].dtype, images=planes.images
    )
    header = replace(header, attrs=attrs)
    return HeaderInspection(
        reader=reader.using(versions={key: opened.etag} if opened.etag is not None else {}),
        coords={dim: values for dim, values in coords.items() if dim in file_dims},
        segments=tuple(level.segment[1:] for level in levels),
        pixel_bytes=tuple(map(attrgetter("pixel_bytes"), levels)),
        file_dims=names,
        layouts=layouts,
        headers=HeaderColumns(header, index, reader.store.location),
        notes=notes.notes(),
        facts=facts,
        companion=description.companion,
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
