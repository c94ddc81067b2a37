"""`WriteInput`: what a migration writes, whether it is read from files or computed by Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from cloudimg.__about__ import __version__
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.listing import Tabled
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import TableChanges
from cloudimg.discovery.unmatched import Unmatched
from cloudimg.errors import ArgumentError
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.metadata.facts import ImageFacts, facts_of_image
from cloudimg.migration.metadata.originals import storable_key
from cloudimg.migration.metadata.source_xml import SourceXml, is_kept
from cloudimg.migration.metadata.stage_origins import awaiting_stage, with_stage_origins
from cloudimg.migration.metadata.tags import file_tags
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.plate import Plate, plate_of
from cloudimg.migration.plan.reduction import Reduction, nodata_of, reduction_of
from cloudimg.migration.run.channels_of_files import channels_of_files
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.inputs import ImageInput, Input
from cloudimg.migration.run.source_files import (
    arrangement_of,
    file_table,
    fingerprint_of,
    n_pixel_objects,
    recorded_options,
    shown_urls,
    stored_nbytes,
)
from cloudimg.migration.run.source_rows import SourceRows
from cloudimg.opening.attributes_of_part import origins_of_part, pixels_before
from cloudimg.opening.compare_members import expected_of_members
from cloudimg.opening.image_coordinates import image_coordinates
from cloudimg.opening.image_name import image_name
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.reading.agreement import ExpectedFacts
from cloudimg.reading.source import Source
from cloudimg.reading.source_boundaries import segment_boundaries
from cloudimg.reading.zarr_images.documents import is_document
from cloudimg.storage import Location, endpoint_of

HasFiles = Callable[[tuple[str, ...]], npt.NDArray[np.bool_] | None]


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
    source_boundaries: Sequence[npt.NDArray[np.int64]]
    """By dim of the source, positions where it can be cut without reading a segment twice."""
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
    n_objects: int = 0
    """Number of objects with pixels, where they are others than the files."""
    source_xml: Callable[[], Sequence[SourceXml]] = tuple
    """Supposes which OME-XML the files have: that of the first one, in different forms."""
    has_files: HasFiles = lambda _: None
    """By index along some axes, whether there is any file; None if that is not known."""

    @property
    def boundaries(self) -> list[npt.NDArray[np.int64]]:
        """The same by dim of the plan."""
        return self.axes_mapping.boundaries(self.source_boundaries)

    def plate(self) -> Plate | str | None:
        """The plate that the image is, or why it is none; see `plate_of`."""
        mapping = AxesMapping(self.source["dims"], self.source["shape"], is_plate=True)
        lead = dict(zip(mapping.lead_dims, mapping.lead_shape, strict=True))
        return plate_of(lead, lambda d: self.facts.coordinates(d) or range(lead[d]), self.has_files)

    def mapped(self, *, is_plate: bool) -> Self:
        """The same with the axes of a plate, or those of a collection of images."""
        if is_plate is self.axes_mapping.is_plate:
            return self
        mapping = AxesMapping(self.source["dims"], self.source["shape"], is_plate=is_plate)
        pixels = cast(Any, self.pixels)  # any dataclass with a mapping
        return replace(self, axes_mapping=mapping, pixels=replace(pixels, axes_mapping=mapping))


def write_input_of_image(
    opened: Opened,
    urls: URLs,
    arguments: OpenArguments,
    *,
    name: str | None,
    calibration: Calibration | None = None,
) -> WriteInput:
    """The input for an image that consists of files."""
    source = opened.sources[0]
    location = source.reader.store.location
    _refuse_growth(source, arguments.purpose.grow)
    axes_mapping = AxesMapping(source.dims, source.shape)
    description = {
        "kind": "image",
        "urls": shown_urls(urls),
        "endpoint": endpoint_of(location, source.reader.store.options),
        "open": recorded_options(arguments),
        "is_list": not isinstance(urls, str) and isinstance(urls, Sequence),
        **({"is_table": True} if isinstance(urls, Tabled) and urls.url is None else {}),
        "has_own_reader": arguments.imread is not None,
        **({"is_zarr": True} if is_document(opened.inspection.headers[0].key) else {}),
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
    companion_key, companion_xml = opened.inspection.companion or (None, None)
    first = opened.inspection.headers[0].attrs
    labels = image_coordinates(opened, source, with_facts=False)
    known = _facts_of_places(opened, axes_mapping)
    located = image_coordinates(opened, source, facts=known)
    selection = opened.selection
    channels, source_notes = channels_of_files(opened)
    facts = facts_of_image(
        axes_mapping,
        {name: each.values for name, each in labels.items()},
        {**opened.inspection.attrs, **channels},
        origins={} if selection is None else origins_of_part(opened.inspection.attrs, selection),
        dtype=source.dtype,
        name=name or image_name(opened, urls, arguments),
        provenance={
            "source": description["urls"],
            "options": description["open"],
            "cloudimg": __version__,
        },
        ome_xml=companion_xml,
        companion=None if companion_key is None else storable_key(location, companion_key),
        source_notes=source_notes,
        calibration=calibration,
    )
    before = {} if selection is None else pixels_before(selection)
    facts = with_stage_origins(facts, axes_mapping, located, before=before, flip=arguments.flip)
    if known is None and "stage_position" in first:
        facts = awaiting_stage(facts, located, before)
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
        source_boundaries=segment_boundaries(source),
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
        n_objects=n_pixel_objects(opened),
        source_xml=partial(_supposed_xml, opened),
        has_files=partial(_has_files, opened),
    )


def _refuse_growth(source: Source, grow: str | None) -> None:
    """Refuse a copy that grows of files whose places may change when others come.

    Raises
    ------
    ArgumentError
    """
    what = ""
    if source.files.pages is not None:
        what = "planes of a multi-file dataset"
    elif source.layout.canvas is not None:
        what = "files that lie where positions say"
    if grow is not None and what:
        raise ArgumentError(
            f"grow={grow!r}: a copy of {what} cannot grow, because their places may change when"
            " files come. Leave out grow="
        )


def _has_files(opened: Opened, dims: tuple[str, ...]) -> npt.NDArray[np.bool_] | None:
    """By index along axes of the names of files, whether there is any file."""
    axes = {axis.name: axis.field for axis in opened.sources[0].layout.axes if axis.is_stacked}
    fields = [field for dim in dims if (field := axes.get(dim)) is not None]
    present = opened.grid.present
    if present is None or len(fields) < len(dims):
        return None
    others = tuple(i for i in range(present.ndim) if i not in fields)
    found = np.asarray(present.any(axis=others))
    return found.transpose(np.argsort(np.argsort(fields)))


def _facts_of_places(opened: Opened, axes_mapping: AxesMapping) -> FactColumns | None:
    """What says where the images lie; None if that is not known before all headers are read.

    It is what is known of all files, if it has positions, or of some: that of an image is the place
    of its first file, and when fields are placed by the stage, the first of each field is read.
    """
    images = AxesMapping(axes_mapping.source_dims, axes_mapping.source_shape, is_plate=True)
    is_placed = opened.sources[0].layout.canvas is not None
    facts, some = opened.inspection.facts, opened.inspection.facts_of_some
    if some is None or (facts is not None and {"stage_x", "stage_z"} & set(facts.names)):
        return facts
    return some if is_placed or images.n_images == 1 else None


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


def _supposed_xml(opened: Opened) -> list[SourceXml]:
    """The OME-XML of the files, as if each had a text as long as that of the first one."""
    first = opened.inspection.headers[0]
    headers = opened.sources[0].reader.headers
    # An image that another process has opened comes without its header.
    tags = file_tags(headers.cached(first.key) or headers.open(first.key))
    text = None if tags is None else tags.ome_xml
    if text is None:
        return []
    kept = takewhile(lambda i: is_kept(i, len(text)), range(opened.n_files))
    return [SourceXml(b"%d" % i, ((i, first.key),)) for i in kept]
