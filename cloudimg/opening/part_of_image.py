"""Select a part of an image that was opened, without asking the store for anything.

Along axes on which files are stacked or joined, the grid loses the files that are left out; what
is left of the pixels of the others is a `Window`. Files on a canvas all stay, since it is made of
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import FormatError
from cloudimg.errors.file_report import FileReport
from cloudimg.opening.attributes_of_part import attributes_of_part, attributes_of_whole, moved
from cloudimg.opening.bad_headers import report_on_files
from cloudimg.opening.choices import AxisLabels, Choice, check_axes
from cloudimg.opening.opened import Opened
from cloudimg.opening.selection import AxisPart, Selection
from cloudimg.opening.sources import first_pages, labels_of_missing
from cloudimg.reading.agreement import ExpectedFacts
from cloudimg.reading.layout import Axis, Layout
from cloudimg.reading.source import Source, make_token
from cloudimg.reading.source_files import pack
from cloudimg.reading.window import Positions, Window, as_array, as_positions, pixels_of_base
from cloudimg.storage import engine, map_ahead

_MOST_CHANNELS = 64
"""Channels in files of their own whose headers are read for their names."""


def choose(
    opened: Opened, given: Mapping[str, Any], *, by_label: bool, keyword: str
) -> dict[str, Choice]:
    """Return the positions that a user selects, by axis.

    Parameters
    ----------
    opened : Opened
    given : mapping
        Values by axis, see `cloudimg.opening.choices`.
    by_label : bool
        Whether values are labels, where there are any.
    keyword : str
        How the user passed them, for messages.

    Raises
    ------
    ArgumentError
    """
    source = opened.sources[0]
    check_axes(given, source.dims, keyword)
    lengths = dict(zip(source.dims, source.shape, strict=True))
    axes = {axis.name: axis for axis in source.layout.axes}
    chosen = {}
    for name, value in given.items():
        axis = axes[name]
        labels = None
        if axis.field is not None and axis.is_stacked:
            labels = opened.grid.labels[axis.field]
        names = partial(_channel_names, opened, axis) if name == "c" else None
        among = AxisLabels(name, lengths[name], labels, names, keyword)
        chosen[name] = among.choose(value, by_label=by_label)
    return chosen


def selection_of(opened: Opened, chosen: Mapping[str, Choice]) -> Selection:
    """Return what is selected if positions of an image are, which may be a part of another one."""
    source = opened.sources[0]
    before = {} if opened.selection is None else opened.selection.by_axis
    parts = dict(before)
    axes = {axis.name: (i, axis) for i, axis in enumerate(source.layout.axes)}
    for name, choice in chosen.items():
        number, axis = axes[name]
        was = before.get(name, AxisPart(axis=name))
        at = choice.positions
        if was.at:
            at = as_array(was.at)[at]
        among_files = choice.positions
        if source.window is not None:
            among_files = as_array(source.window.positions[number])[among_files]
        part = replace(was, drops=choice.drops, at=as_positions(at))
        is_whole = len(choice.positions) == _length(source, name) and not choice.drops
        is_whole &= choice.bounds in (None, (None, None))  # others may come beyond the bounds
        parts[name] = was if is_whole else _part_along(opened, axis, part, among_files, choice)
    return Selection.of({name: part for name, part in parts.items() if part.at})


def _length(source: Source, dim: str) -> int:
    return source.shape[source.dims.index(dim)]


def _part_along(
    opened: Opened,
    axis: Axis,
    part: AxisPart,
    among_files: npt.NDArray[np.int64],
    choice: Choice,
) -> AxisPart:
    """The part along one axis, of which positions among those of the present files are chosen."""
    if axis.field is None or opened.sources[0].layout.canvas is not None:
        return _part_of_files(opened, axis, part, among_files)
    field, labels = opened.grid.fields[axis.field], opened.grid.labels[axis.field]
    if axis.is_stacked:
        # A list of labels stays one: between its ends there are others.
        if choice.is_range and part.labels is None:
            ends = labels[int(among_files[0])], labels[int(among_files[-1])]
            is_first = part.bounds is None and choice.bounds is not None
            return replace(part, grid_axis=field, bounds=choice.bounds if is_first else ends)
        chosen = tuple(labels[i] for i in among_files.tolist())
        return replace(
            part,
            grid_axis=field,
            labels=chosen,
            bounds=None,
        )
    stops = np.cumsum(axis.extents)
    # Tiles between others stay: what lies beside them on Earth is compared.
    first, last = np.searchsorted(stops, among_files[[0, -1]], "right").tolist()
    if first > 0 or last + 1 < axis.count or part.grid_axis is not None:
        part = replace(part, grid_axis=field, labels=tuple(labels[first : last + 1]))
    start = int(stops[first]) - axis.extents[first]
    return replace(part, positions=as_positions(among_files - start))


def _part_of_files(
    opened: Opened, axis: Axis, part: AxisPart, positions: npt.NDArray[np.int64]
) -> AxisPart:
    """The part along an axis of which all files stay."""
    is_whole = len(positions) == axis.length
    part = replace(part, positions=None if is_whole else as_positions(positions))
    if axis.field is None or not axis.is_stacked:
        return part
    labels = opened.grid.labels[axis.field]
    # They tell this part from that of other files.
    return replace(part, labels=tuple(labels[i] for i in positions.tolist()))


def part_of(opened: Opened, selection: Selection, *, has_its_files: bool = False) -> Opened:
    """Return the selected part of what was opened.

    Parameters
    ----------
    opened : Opened
    selection : Selection
        All that is selected, with what `opened` has been selected by already.
    has_its_files : bool
        Whether only the files of the selection were opened.
    """
    if not selection.parts:
        return opened
    whole = opened.inspection.attrs if opened.whole_attrs is None else opened.whole_attrs
    if has_its_files:
        whole = attributes_of_whole(whole, selection)
    part = opened if has_its_files else _with_files_of(opened, selection)
    token = repr(selection)
    sources = tuple(
        replace(source, window=window, token=make_token(source.token, token))
        for source in part.sources
        for window in _windows(source.layout, part.sources[0].layout, selection)
    )
    base, file_dims = sources[0].layout, opened.inspection.headers[0].dims
    of_part = attributes_of_part(whole, base, file_dims, selection)
    return replace(
        part,
        sources=sources,
        inspection=replace(part.inspection, attrs_of_part=of_part),
        selection=selection,
        whole_attrs=whole,
    )


def _windows(layout: Layout, base: Layout, selection: Selection) -> Iterator[Window | None]:
    """Yield the window of a level, None if it has all pixels; nothing if the part is not on it."""
    parts = selection.by_axis
    positions: list[Positions] = []
    for axis, full in zip(layout.axes, base.axes, strict=True):
        chosen = parts[axis.name].positions if axis.name in parts else None
        if chosen is None:
            positions.append((range(axis.length),))
        elif axis.length == full.length:
            positions.append(chosen)
        else:
            scaled = _scaled(chosen, pixels_of_base(axis.length, full.length), axis.length)
            if scaled is None:
                return
            positions.append((scaled,))
    dropped = tuple(
        i for i, axis in enumerate(layout.axes) if axis.name in parts and parts[axis.name].drops
    )
    has_all = not dropped and positions == [(range(axis.length),) for axis in layout.axes]
    yield None if has_all else Window(tuple(positions), dropped)


def _scaled(chosen: Positions, factor: float, length: int) -> range | None:
    """The pixels of a smaller level that show what is chosen; None if that is not one range."""
    if len(chosen) != 1 or (len(chosen[0]) > 1 and chosen[0].step > 1):
        return None
    start = min(length - 1, math.floor(chosen[0].start / factor))
    return range(start, max(start + 1, min(length, math.ceil(chosen[0].stop / factor))))


def _with_files_of(opened: Opened, selection: Selection) -> Opened:
    """Return what was opened with the files that are kept."""
    kept = selection.kept(opened.grid)
    if not kept:
        return opened
    grid, places = selection.narrowed(opened.grid), opened.grid.places(kept)
    layouts = tuple(_with_indices(source.layout, kept) for source in opened.sources)
    files = opened.sources[0].files
    pages = None if files.pages is None else files.pages.ravel()[places].reshape(grid.shape)
    identities = files.identities
    if identities is not None:
        rows = identities.rows.ravel()[places].reshape(grid.shape)
        identities = replace(identities, rows=rows)
    files = replace(
        files,
        keys=grid.keys,
        present=None if grid.present is None else pack(grid.present),
        grid_shape=grid.shape,
        pages=pages,
        first_pages=None if pages is None else pack(first_pages(grid)),
        identities=identities,
        labels=labels_of_missing(grid),
        listed=None if files.listed is None else files.listed.taken(places),
    )
    inspection = opened.inspection
    n_files = grid.n_files if pages is None else _n_named(grid.keys.rows, grid.present)
    return replace(
        opened,
        sources=tuple(
            replace(
                source,
                files=files,
                layout=layout,
                expected=_expected_among(source.expected, source.layout, kept),
            )
            for source, layout in zip(opened.sources, layouts, strict=True)
        ),
        grid=grid,
        n_files=n_files,
        inspection=replace(
            inspection,
            layouts=layouts,
            headers=inspection.headers.of_first(),
            facts=None if inspection.facts is None else inspection.facts.taken(places),
            facts_of_some=(
                None if inspection.facts_of_some is None else inspection.facts_of_some.taken(places)
            ),
            table=None if inspection.table is None else inspection.table.taken(places),
            index=None if inspection.index is None else inspection.index.narrowed(grid, places),
        ),
        report=_report(opened, grid, n_files, is_dataset=pages is not None),
    )


def _expected_among(
    expected: ExpectedFacts | None, layout: Layout, kept: Mapping[int, npt.NDArray[np.int64]]
) -> ExpectedFacts | None:
    """What the first file says, as if it were among the files that are kept.

    If it is not, its place on Earth becomes that of the first tile that is; along other axes it has
    an index of its own.
    """
    if expected is None:
        return None
    index = list(expected.first_index)
    columns = rows = 0
    for axis in layout.axes:
        if axis.field is None or axis.field not in kept:
            continue
        indices, first = kept[axis.field], index[axis.field]
        index[axis.field] = int(np.searchsorted(indices, first)) if first in indices else -1
        own = None if axis.file_axis is None else expected.file_dims[axis.file_axis]
        if index[axis.field] < 0 and own in ("x", "y"):
            index[axis.field] = 0
            offset = sum(axis.extents[: indices[0]]) - sum(axis.extents[:first])
            columns, rows = (offset, rows) if own == "x" else (columns, offset)
    facts = expected.facts
    if facts.transform:
        facts = replace(facts, transform=moved(facts.transform, (columns, rows), (1, 1)))
    return replace(expected, facts=facts, first_index=tuple(index))


def _report(opened: Opened, grid: FileGrid, n_files: int, *, is_dataset: bool) -> FileReport:
    """The report on the files that are kept; of a dataset it names planes that are missing."""
    errors = opened.inspection.errors
    if errors:
        location = opened.sources[0].reader.store.location
        urls = {location.display(location.key_of(grid.keys(index))) for index in grid.files()}
        errors = tuple(error for error in errors if error.url in urls)
    report = report_on_files(grid, errors, is_complete=opened.report.is_complete)
    return replace(report, n_files=n_files) if is_dataset and not report else report


def _n_named(rows: npt.NDArray[np.int32] | None, present: npt.NDArray[np.bool_] | None) -> int:
    """Number of files that have planes of a dataset."""
    assert rows is not None
    named = rows.ravel() if present is None else rows[present]
    return int(np.unique(named[named >= 0]).size)


def _with_indices(layout: Layout, kept: Mapping[int, npt.NDArray[np.int64]]) -> Layout:
    """The layout of the files at some indices along some axes of the grid."""
    axes = []
    for axis in layout.axes:
        if axis.field is not None and axis.field in kept:
            indices = kept[axis.field].tolist()
            extents = tuple(axis.extents[i] for i in indices) if axis.extents else ()
            axis = replace(axis, count=len(indices), extents=extents)
        axes.append(axis)
    return replace(layout, axes=tuple(axes))


def _channel_names(opened: Opened, axis: Axis) -> Sequence[str]:
    """Names of the channels; empty if they are not known."""
    n_channels = _length(opened.sources[0], "c")
    names: Sequence[str] = opened.inspection.attrs.get("channel_names", ())
    if len(names) == n_channels or axis.field is None:
        return names if len(names) == n_channels else ()
    return _names_of_files(opened, axis.field)


def _names_of_files(opened: Opened, field: int) -> Sequence[str]:
    """Names of channels that are stored in files of their own: a header is read for each."""
    grid, reader = opened.grid, opened.sources[0].reader
    if grid.shape[field] > _MOST_CHANNELS or opened.sources[0].files.pages is not None:
        return ()
    indices = [grid.last_along(field, i) for i in range(grid.shape[field])]
    keys = [reader.store.location.key_of(grid.keys(index)) for index in indices if index]
    try:
        files = list(
            map_ahead(
                lambda key: engine().fetch(partial(reader.headers.open, key)),
                keys,
                n_ahead=_MOST_CHANNELS,
            )
        )
    except FormatError:
        return ()
    names = [name for file in files for name in file.parsed.attrs.get("channel_names", ())]
    return names if len(names) == grid.shape[field] else ()
