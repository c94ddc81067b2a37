"""`WriteInput`: what a migration writes, whether it is read from files or computed by Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.__about__ import __version__
from cloudimg.discovery.table import FileTable
from cloudimg.migration.metadata.facts import ImageFacts, facts_of_image
from cloudimg.migration.metadata.tags import file_tags
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.run.channels_of_files import channels_of_files
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.inputs import ImageInput, Input
from cloudimg.migration.run.source_files import (
    file_table,
    file_table_now,
    fingerprint_now,
    fingerprint_of,
    shown_urls,
    stored_nbytes,
)
from cloudimg.opening.coordinates import coordinates
from cloudimg.opening.open_files import Opened
from cloudimg.opening.options import PIXEL_OPTIONS, OpenArguments, URLs
from cloudimg.storage import Location


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
    channels, source_notes = channels_of_files(opened)
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
        fingerprint=partial(fingerprint_now, opened, urls, arguments, fingerprint),
        files=partial(file_table, opened.grid, source.files.pages),
        files_now=partial(file_table_now, urls, arguments),
        location=location,
        list_keys=lambda: (
            location.key_of(opened.grid.keys(index)) for index in opened.grid.files()
        ),
        n_files=opened.n_files,
        stored_nbytes=stored_nbytes(opened),
    )


def _ome_xml(opened: Opened) -> str | None:
    """The OME-XML of the first file; None if it has none."""
    first = opened.inspection.headers[0]
    header = opened.sources[0].reader.headers.cached(first.key)
    tags = None if header is None else file_tags(header)
    text = None if tags is None else tags.description
    return text if text is not None and "<OME" in text[:2000] else None
