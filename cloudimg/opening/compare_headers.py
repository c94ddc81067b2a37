"""Compare the headers of a grid with the first one, and fit the layout to their lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from cloudimg.errors import CloudimgError, FormatError, MismatchError, NotFoundError, counted
from cloudimg.opening.header import Header, Index
from cloudimg.reading.comparison import (
    Comparison,
    Expected,
    FileShape,
    insert_ones,
    omitted_axes,
)
from cloudimg.reading.layout import Layout, with_extents


def compare_headers(
    others: Iterable[tuple[Index, Header | FormatError | NotFoundError]],
    first: Header,
    layout: Layout,
    first_index: Index,
    *,
    collect: bool,
) -> tuple[dict[Index, Header], list[CloudimgError]]:
    """Compare headers with the first one.

    Parameters
    ----------
    others : iterable of tuple
        Headers, or the errors that reading them raised, by index.
    first : Header
    layout : Layout
        The layout at level 0.
    first_index : tuple of int
    collect : bool
        Return all errors instead of raising the first one.

    Returns
    -------
    headers : dict
        Headers that fit the first one, by index, the first one first.
    errors : list of CloudimgError
        One error for each other header.

    Raises
    ------
    FormatError, MismatchError, NotFoundError
    """
    headers: dict[Index, Header] = {first_index: first}
    errors: list[CloudimgError] = []
    for index, header in others:
        error: CloudimgError | None
        if isinstance(header, Header):
            header = _with_omitted_axes(header, first, layout)
            error = _difference_from_first(header, first, layout, advise=not collect)
            if error is None:
                headers[index] = header
                continue
        else:
            error = header
        if not collect:
            raise error
        errors.append(error)
    return headers, errors


def fit_extents(layout: Layout, level: int, headers: Mapping[Index, Header]) -> Layout:
    """Return the layout with the lengths that headers have along concatenated axes."""
    extents: dict[str, list[int]] = {}
    for axis in layout.axes:
        field = axis.field
        if field is None or axis.file_axis is None:
            continue
        # The file that comes first along the axis stands for all whose headers were not read.
        first = min(headers, key=lambda index: index[field])
        lengths = [headers[first].shapes[level][axis.file_axis]] * axis.count
        found: dict[int, Counter[int]] = {}
        for index, header in headers.items():
            found.setdefault(index[field], Counter())[header.shapes[level][axis.file_axis]] += 1
        for position, counts in found.items():
            lengths[position] = counts.most_common(1)[0][0]
        extents[axis.name] = lengths
    return with_extents(layout, extents)


def neighbour_mismatches(
    headers: Mapping[Index, Header], layouts: Sequence[Layout], first: Header
) -> Iterator[MismatchError]:
    """Yield an error for each file whose lengths differ from those of its neighbours."""
    for index, header in headers.items():
        for level, layout in enumerate(layouts):
            shape = layout.file_shape(index)
            error = _difference(header, level, shape, first, advise=False)
            if error is not None:
                yield error
                break


def _with_omitted_axes(header: Header, first: Header, layout: Layout) -> Header:
    """Return the header with axes of length 1 that a file omits, if files are joined along them."""
    omitted = omitted_axes(header.dims, first.dims)
    joined = {a.file_axis for a in layout.axes if a.field is not None and not a.is_stacked}
    if not omitted or not set(omitted) <= joined:
        return header
    shapes = tuple(insert_ones(shape, omitted) for shape in header.shapes)
    return replace(header, dims=first.dims, shapes=shapes)


def _difference_from_first(
    header: Header, first: Header, layout: Layout, *, advise: bool
) -> MismatchError | None:
    """Return the error for a file that differs from the first other than along joined axes."""
    shape = list(first.shapes[0])
    if len(header.shapes[0]) == len(shape):
        for axis in layout.own_lengths:
            shape[axis] = header.shapes[0][axis]
    if len(header.shapes) != len(first.shapes):
        return MismatchError(
            f"{header.url} has {counted(len(header.shapes), 'level')}, {first.url} has"
            f" {len(first.shapes)}",
            url=header.url,
        )
    return _difference(header, 0, tuple(shape), first, advise=advise)


def _difference(
    header: Header, level: int, shape: tuple[int, ...], first: Header, *, advise: bool
) -> MismatchError | None:
    expected = Expected(first.dims, shape, first.dtype, first.url)
    comparison = Comparison(FileShape(header.dims, header.shapes[level], header.dtype), expected)
    return None if comparison.fits else comparison.error(header.url, advise=advise)
