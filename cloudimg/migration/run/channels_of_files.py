"""Names and colours of channels that are stored in files of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from cloudimg.errors import FormatError
from cloudimg.errors.notes import Note, NoteSums
from cloudimg.opening.header import remarks_of
from cloudimg.opening.opened import Opened
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.source import Source
from cloudimg.storage import engine, map_ahead

_MOST_CHANNELS = 64
"""Channels in files of their own whose headers are read for their names."""


def channels_of_files(opened: Opened) -> tuple[dict[str, Any], tuple[Note, ...]]:
    """Names and colours of channels that are stored in files of their own, each with its name.

    Reads a header for each channel, but only if the first file names its own channel. Returns all
    notes about files that were read so far, too.
    """
    notes = opened.inspection.notes
    try:
        found = _headers_of_channels(opened)
    except FormatError:
        return {}, notes  # the cell that reads the file reports that it is corrupt
    files = tuple(found.values())
    joined = {
        key: [value for file in files for value in file.parsed.attrs.get(key, ())]
        for key in ("channel_names", "channel_colors")
    }
    source = opened.sources[0]
    n_channels = source.shape[source.dims.index("c")] if "c" in source.dims else 1
    if not files or len(joined["channel_names"]) != n_channels:
        joined = {}
    attrs = {key: values for key, values in joined.items() if 0 < len(values) == n_channels}
    headers = opened.inspection.headers
    known = {file.url for index, file in found.items() if headers.place_of(index) is not None}
    return attrs, _with_remarks(notes, files, known)


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


def _headers_of_channels(opened: Opened) -> dict[tuple[int, ...], OpenFile]:
    """The header of one file of each channel, by its index.

    None if channels are not files or have no names.
    """
    source, header = opened.sources[0], opened.inspection.headers[0]
    axis = next((axis for axis in source.layout.axes if axis.name == "c"), None)
    if axis is None or axis.field is None or not header.attrs.get("channel_names"):
        return {}
    indices = _one_file_per_channel(opened, axis.field)
    return dict(zip(indices, _headers_of_files(source, indices), strict=True))


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
