"""`WriteInput`: what a migration writes, whether it is read from files or computed by Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.__about__ import __version__
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.listing import Tabled
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import TableChanges
from cloudimg.discovery.unmatched import Unmatched
from cloudimg.migration.metadata.facts import ImageFacts, facts_of_image
from cloudimg.migration.metadata.tags import file_tags
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.reduction import Reduction, nodata_of, reduction_of
from cloudimg.migration.run.channels_of_files import channels_of_files
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.inputs import ImageInput, Input
from cloudimg.migration.run.source_files import (
    arrangement_of,
    file_table,
    fingerprint_of,
    recorded_options,
    shown_urls,
    stored_nbytes,
)
from cloudimg.migration.run.source_rows import SourceRows
from cloudimg.opening.attributes_of_part import origins_of_part
from cloudimg.opening.compare_members import expected_of_members
from cloudimg.opening.image_coordinates import image_coordinates
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.reading.agreement import ExpectedFacts
from cloudimg.storage import Location, endpoint_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteInput:
    """The pixels that a migration writes, with their metadata and the identity of their source."""

    pixels: Input | DaskInput
    """Where the pixels come from."""
    axes_mapping: AxesMapping
    dtype: np.dtype[Any]
    fill_value: Any
    nodata: int | float | None
    """See `Plan.nodata`."""
    reduction: Reduction
    """What the headers say of how levels are made."""
    boundaries: Sequence[npt.NDArray[np.int64]]
    """By dim of the plan, positions where cells can be cut without reading a segment twice."""
    facts: ImageFacts
    source: Mapping[str, Any]
    """Description of the source, as JSON, which is stored with the plan."""
    files: Callable[[], FileTable] | None = None
    """Makes the table of the files, as they were when the source was opened."""
    rows: SourceRows | None = None
    """The files by row of their table; None if there are none."""
    unmatched: Unmatched | None = None
    """What was listed but does not match the pattern; None where nothing was listed."""
    changes: TableChanges | None = None
    """How the files differ from those of an earlier migration, to which the source keeps."""
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
    description = {
        "kind": "image",
        "urls": shown_urls(urls),
        "endpoint": endpoint_of(location, source.reader.store.options),
        "open": recorded_options(arguments),
        "is_list": not isinstance(urls, str) and isinstance(urls, Sequence),
        **({"is_table": True} if isinstance(urls, Tabled) and urls.url is None else {}),
        "has_own_reader": arguments.imread is not None,
        "dims": list(source.dims),
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "fingerprint": fingerprint_of(opened),
        "arrangement": arrangement_of(opened),
        "files": {
            "n_files": opened.report.n_files,
            "n_excluded": opened.report.n_excluded,
            **_counts_beside(opened.unmatched),
        },
    }
    ome_xml = _ome_xml(opened)
    first = opened.inspection.headers[0].attrs
    labels = image_coordinates(opened, source, with_facts=False)
    selection = opened.selection
    channels, source_notes = channels_of_files(opened)
    facts = facts_of_image(
        axes_mapping,
        {name: each.values for name, each in labels.items()},
        {**opened.inspection.attrs, **channels},
        origins={} if selection is None else origins_of_part(opened.inspection.attrs, selection),
        dtype=source.dtype,
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
            replace(source, reader=source.reader.using(compares_facts=True, checks_transit=True)),
            axes_mapping,
            _expected(opened, arguments),
            series_is_chosen=arguments.series is not None,
        ),
        axes_mapping=axes_mapping,
        dtype=source.dtype,
        fill_value=source.fill_value,
        # Where the files may differ in it, no attribute says it: it is the first one's, like
        # `fill_value`.
        nodata=nodata_of(first.get("nodata"), source.dtype),
        reduction=reduction_of(
            opened.inspection.attrs, facts.channel_names, source.dtype, axes_mapping.n_samples
        ),
        boundaries=axes_mapping.boundaries(source.boundaries()),
        facts=facts,
        source=description,
        files=partial(file_table, opened.grid, source.files.pages, _facts_beside_cells(opened)),
        rows=SourceRows(opened, urls, arguments),
        unmatched=opened.unmatched,
        changes=opened.changes,
        location=location,
        list_keys=lambda: (
            location.key_of(opened.grid.keys(index)) for index in opened.grid.files()
        ),
        n_files=opened.n_files,
        stored_nbytes=stored_nbytes(opened),
    )


def _counts_beside(unmatched: Unmatched | None) -> dict[str, Any]:
    """What was listed, so that `verify` can tell whether image files were added since."""
    if unmatched is None:
        return {}
    return {"n_unmatched_images": unmatched.n_images, "lists_folder": not unmatched.is_narrow}


def _expected(opened: Opened, arguments: OpenArguments) -> ExpectedFacts | None:
    """What the first file says, with which cells compare the others."""
    if opened.sources[0].files.pages is None or opened.n_files == 1:
        return opened.inspection.expected
    first, index = opened.inspection.headers[0], opened.grid.first()
    return expected_of_members(first, index, arguments.allowed_differences)


def _facts_beside_cells(opened: Opened) -> FactColumns | None:
    """What the metadata of a multi-file dataset say of each plane, or others than files of each.

    What headers say of other files is in the table of originals, which their cells make. Positions
    of a table or index files may have placed fields: to open the files again takes the same ones.
    """
    inspection = opened.inspection
    if opened.sources[0].files.pages is not None:
        return inspection.facts
    if inspection.table is not None:
        return inspection.table
    return None if inspection.index is None else inspection.index.facts


def _ome_xml(opened: Opened) -> str | None:
    """The OME-XML that describes the image; None if there is none.

    That of one of several files describes this file, with its time and position, and that of files
    of which a part was selected describes more; the table of originals has all of them.
    """
    is_dataset = opened.sources[0].files.pages is not None
    if opened.n_files > 1 and not is_dataset:
        return None
    if opened.selection is not None and (is_dataset or opened.selection.cuts_files):
        return None
    first = opened.inspection.headers[0]
    headers = opened.sources[0].reader.headers
    # An image that another process has opened comes without its header.
    tags = file_tags(headers.cached(first.key) or headers.open(first.key))
    text = None if tags is None else tags.description
    return text if text is not None and "<OME" in text[:2000] else None
