"""`WriteInput`: what a migration writes, whether it is read from files or computed by Dask."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cloudimg.__about__ import __version__
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import locate
from cloudimg.discovery.table import FileTable
from cloudimg.errors import ArgumentError, FormatError
from cloudimg.errors.notes import Note, NoteSums
from cloudimg.migration.metadata.facts import ImageFacts, facts_of_array, facts_of_image
from cloudimg.migration.metadata.tags import file_tags
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.run.dask_input import DaskInput, refuse_mask
from cloudimg.migration.run.inputs import ImageInput, Input
from cloudimg.opening.coordinates import coordinates
from cloudimg.opening.header import remarks_of
from cloudimg.opening.open_files import Opened, list_sources, open_sources
from cloudimg.opening.options import PIXEL_OPTIONS, OpenArguments, URLs, as_texts
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.source import Source, make_token
from cloudimg.storage import Location, engine, map_ahead, redact, unsigned

_LAST_DIMS = ("t", "c", "z", "y", "x")
_MOST_CHANNELS = 64
"""Channels in files of their own whose headers are read for their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteInput:
    """The pixels that a migration writes, with their metadata and the identity of their source."""

    pixels: Input | DaskInput
    """Where the pixels come from."""
    axes_mapping: AxesMapping
    dtype: np.dtype[Any]
    fill_value: Any
    boundaries: Sequence[npt.NDArray[np.int64]]
    """By dim of the plan, positions where cells can be cut without reading a segment twice."""
    facts: ImageFacts
    source: Mapping[str, Any]
    """Description of the source, as JSON, which is stored with the plan."""
    fingerprint: Callable[[], str]
    """Takes the fingerprint of the source as it is now; it changes when a file does."""
    files: Callable[[], FileTable] | None = None
    """Makes the table of the files, as they were when the source was opened."""
    files_now: Callable[[], FileTable] | None = None
    """Makes the table of the files as they are now."""
    location: Location | None = None
    """The store of the files; None if there are none."""
    list_keys: Callable[[], Iterator[str]] = lambda: iter(())
    """Iterates over the keys of the files."""
    n_files: int = 0
    stored_nbytes: int | None = None
    """Size of all files in bytes; None if unknown."""


def write_input_of_image(
    opened: Opened, urls: URLs, arguments: OpenArguments, *, name: str | None
) -> WriteInput:
    """The input for an image that consists of files."""
    source = opened.sources[0]
    location = source.reader.store.location
    axes_mapping = AxesMapping(source.dims, source.shape)
    fingerprint = fingerprint_of(opened)
    description = {
        "kind": "image",
        "urls": shown_urls(urls),
        # axes={} and axes=None are equal.
        "open": {name: to_plain(arguments.value(name)) for name in PIXEL_OPTIONS}
        | {"axes": to_plain(arguments.axes or None)},
        "is_list": not isinstance(urls, str) and isinstance(urls, Sequence),
        "has_own_reader": arguments.imread is not None,
        "dims": list(source.dims),
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "fingerprint": fingerprint,
        "files": {"n_files": opened.report.n_files, "n_excluded": opened.report.n_excluded},
    }
    ome_xml = _ome_xml(opened)
    channels, source_notes = _channels_of_files(opened)
    facts = facts_of_image(
        axes_mapping,
        coordinates(source.layout, opened.grid, opened.inspection.own_coords),
        {**opened.inspection.attrs, **channels},
        name=name,
        ome_xml=ome_xml,
        provenance={
            "source": description["urls"],
            "options": description["open"],
            "cloudimg": __version__,
        },
        source_notes=source_notes,
    )
    return WriteInput(
        pixels=ImageInput(
            replace(source, reader=source.reader.using(compares_facts=True)),
            axes_mapping,
            opened.inspection.expected,
            series_is_chosen=arguments.series is not None,
        ),
        axes_mapping=axes_mapping,
        dtype=source.dtype,
        fill_value=source.fill_value,
        boundaries=axes_mapping.boundaries(source.boundaries()),
        facts=facts,
        source=description,
        fingerprint=partial(_fingerprint_now, opened, urls, arguments, fingerprint),
        files=partial(_file_table, opened.grid, source.files.pages),
        files_now=partial(file_table_now, urls, arguments),
        location=location,
        list_keys=lambda: (
            location.key_of(opened.grid.keys(index)) for index in opened.grid.files()
        ),
        n_files=opened.n_files,
        stored_nbytes=_stored_nbytes(opened),
    )


def _stored_nbytes(opened: Opened) -> int | None:
    """Size of all files in bytes; None if it is not known of every file."""
    sizes = opened.grid.sizes
    if (sizes >= 0).sum() == opened.n_files:
        return int(sizes[sizes >= 0].sum())
    return opened.inspection.headers[0].size_bytes if opened.n_files == 1 else None


def _file_table(grid: FileGrid, pages: npt.NDArray[np.int64] | None) -> FileTable:
    return FileTable.of(grid, _shown_name, pages)


def file_table_now(urls: URLs, arguments: OpenArguments) -> FileTable:
    """Return the table of the files that opening a source would use now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    if isinstance(urls, str | os.PathLike):
        listed = list_sources(urls, arguments)
        if listed.fields:
            return _file_table(listed, None)
    opened = open_sources(urls, arguments)
    return _file_table(opened.grid, opened.sources[0].files.pages)


def _shown_name(name: str) -> str:
    """The URL of a file without credentials or signature."""
    return redact(unsigned(name))


def _fingerprint_now(opened: Opened, urls: URLs, arguments: OpenArguments, before: str) -> str:
    """The fingerprint of an image's files as they are now; `before` is that from opening it."""
    # If listings include versions and are equal, the files are equal: none needs to be opened.
    if opened.grid.fields and opened.grid.has_versions:
        now = list_sources(urls, arguments)
        if now.has_versions and now.digest == opened.grid.digest:
            return before
    return fingerprint_of(open_sources(urls, arguments))


def fingerprint_of(opened: Opened) -> str:
    """Digest of the names, sizes and versions of all files, and of how they form the image.

    Unlike the token of a source, it is never random: if a store has no versions, it depends on
    sizes alone.
    """
    header = opened.inspection.headers[0]
    source = opened.sources[0]
    context = source.reader.headers.context
    first = unsigned(source.reader.store.location.pattern_text(header.key))
    return make_token(
        (first, header.etag, header.size_bytes, header.dtype.str),
        (context.series, context.ignore_siblings, context.palette),
        opened.grid.digest,
        source.layout,
        repr(source.fill_value),
    )


def write_input_of_array(
    array: Any,
    *,
    dims: Sequence[str] | None,
    name: str | None,
    identity: str | None,
) -> WriteInput:
    """The input for a Dask array, an `xarray.DataArray` or a NumPy array.

    Parameters
    ----------
    array : dask.array.Array, xarray.DataArray or ndarray
    dims : sequence of str, optional
        Names of the axes; by default those of the DataArray, or the last of t, c, z, y, x.
    name : str, optional
        Name of the image.
    identity : str, optional
        Names the content of an array whose name in Dask differs in each run.

    Raises
    ------
    ArgumentError
    """
    is_xarray = hasattr(array, "dims") and hasattr(array, "coords") and hasattr(array, "data")
    if is_xarray and dims is None:
        dims = tuple(str(dim) for dim in array.dims)
    data = _as_dask_array(array.data if is_xarray else array)
    names = _checked_dims(dims, data.shape)
    _refuse_unwritable(data)
    axes_mapping = AxesMapping(names, data.shape)
    description = {
        "kind": "array",
        "dims": list(names),
        "shape": list(data.shape),
        "dtype": data.dtype.str,
        "fingerprint": make_token(identity if identity is not None else data.name, names),
        "identity": identity,
    }
    facts = facts_of_array(
        axes_mapping,
        name=name,
        provenance={"source": "array", "cloudimg": __version__},
        xarray=array if is_xarray else None,
        dims=names,
    )
    boundaries = [np.cumsum((0, *lengths)).astype(np.int64) for lengths in data.chunks]
    return WriteInput(
        pixels=DaskInput(data, axes_mapping),
        axes_mapping=axes_mapping,
        dtype=data.dtype,
        fill_value=0,
        boundaries=axes_mapping.boundaries(boundaries),
        facts=facts,
        source=description,
        fingerprint=lambda: str(description["fingerprint"]),
    )


def _as_dask_array(data: Any) -> Any:
    """A Dask or NumPy array as a Dask array.

    Raises
    ------
    ArgumentError
        If it is something else, is masked, or has pixels of a type that cannot be written.
    """
    import dask.array as da
    from dask.array.utils import meta_from_array

    is_lazy = isinstance(data, da.Array)
    refuse_mask(cast(Any, meta_from_array)(data) if is_lazy else data)
    if not is_lazy:
        if not isinstance(data, np.ndarray | np.generic):
            raise ArgumentError(
                f"expected an Image, a dask.array, an xarray.DataArray or a NumPy array, not"
                f" {type(data).__name__}"
            )
        data = np.asarray(data)
    if data.dtype.kind not in "biufc" or data.dtype.char in "gG":
        raise ArgumentError(
            f"cannot write an array of dtype {data.dtype}: convert it to integers, floats or"
            " booleans of up to 64 bits, or to complex numbers"
        )
    return data if is_lazy else cast(Any, da).from_array(data, chunks="auto")


def _checked_dims(dims: Sequence[str] | None, shape: Sequence[int]) -> tuple[str, ...]:
    if dims is None:
        if len(shape) > len(_LAST_DIMS):
            raise ArgumentError(
                f"an array of {len(shape)} axes needs names for them, such as dims=(..., 'y', 'x')"
            )
        return _LAST_DIMS[len(_LAST_DIMS) - len(shape) :]
    names = tuple(dims)  # "zyx" too
    if len(names) != len(shape) or len(set(names)) != len(names):
        raise ArgumentError(f"dims={names} must name each of {len(shape)} axes once")
    return names


def _refuse_unwritable(data: Any) -> None:
    if any(n != n for n in data.shape):  # NaN
        raise ArgumentError(
            "the array's shape is unknown until it is computed: call compute_chunk_sizes() on it"
            " first"
        )
    if 0 in data.shape:
        raise ArgumentError(f"an array of shape {data.shape} has no pixels")


def shown_urls(urls: URLs) -> list[str]:
    """URLs without secrets, to be stored; the image can be opened from them again."""
    location, texts = locate(as_texts(urls))
    return [redact(f"{location.before}{text}{location.after}") for text in texts]


def _channels_of_files(opened: Opened) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """Names and colours of channels that are stored in files of their own, each with its name.

    Reads a header for each channel, but only if the first file names its own channel. Returns all
    notes about files that were read so far, too.
    """
    notes = opened.inspection.notes
    try:
        files = _headers_of_channels(opened)
    except FormatError:
        return {}, notes  # the cell that reads the file reports that it is corrupt
    joined = {
        key: [value for file in files for value in file.parsed.attrs.get(key, ())]
        for key in ("channel_names", "channel_colors")
    }
    source = opened.sources[0]
    n_channels = source.shape[source.dims.index("c")] if files else 0
    if len(joined["channel_names"]) != n_channels:
        joined = {}
    attrs = {key: values for key, values in joined.items() if 0 < len(values) == n_channels}
    return attrs, _with_remarks(notes, files, {each.url for each in opened.inspection.headers})


def _with_remarks(
    notes: Sequence[Note], files: Sequence[OpenFile], known: Collection[str]
) -> tuple[Note, ...]:
    """Notes, with what was noticed about further files, except those with known URLs."""
    sums = NoteSums()
    sums.add_notes(notes)
    for file in files:
        if file.url not in known:
            sums.add(remarks_of(file), file.url)
    return sums.notes()


def _headers_of_channels(opened: Opened) -> list[OpenFile]:
    """The header of one file of each channel; none if channels are not files or have no names."""
    source, header = opened.sources[0], opened.inspection.headers[0]
    axis = next((axis for axis in source.layout.axes if axis.name == "c"), None)
    if axis is None or axis.field is None or not header.attrs.get("channel_names"):
        return []
    return _headers_of_files(source, _one_file_per_channel(opened, axis.field))


def _headers_of_files(source: Source, indices: Sequence[tuple[int, ...]]) -> list[OpenFile]:
    """Read the headers of some files with their attributes."""
    reader = source.reader
    keys = [reader.store.location.key_of(source.files.keys(index)) for index in indices]
    opened_files = map_ahead(
        lambda key: engine().fetch(partial(reader.headers.open, key)), keys, n_ahead=len(keys)
    )
    return list(opened_files)


def _one_file_per_channel(opened: Opened, field: int) -> list[tuple[int, ...]]:
    """Indices of the first file of each channel; none if one is missing or there are too many."""
    files = opened.sources[0].files
    if files.pages is not None or opened.grid.shape[field] > _MOST_CHANNELS:
        return []
    first = tuple(opened.grid.first())
    indices = [
        (*first[:field], channel, *first[field + 1 :])
        for channel in range(opened.grid.shape[field])
    ]
    return indices if all(map(files.is_present, indices)) else []


def _ome_xml(opened: Opened) -> str | None:
    """The OME-XML of the first file; None if it has none."""
    first = opened.inspection.headers[0]
    header = opened.sources[0].reader.headers.cached(first.key)
    tags = None if header is None else file_tags(header)
    text = None if tags is None else tags.description
    return text if text is not None and "<OME" in text[:2000] else None
