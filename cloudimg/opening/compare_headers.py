"""Compare the headers of a grid with the first one, and fit the layout to their lengths.

Headers of one kind are compared once. What depends on the index of a file, too, is compared once
for all indices at which the same is expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, FormatError, MismatchError, NotFoundError, counted
from cloudimg.opening.header import BadHeader, Header, HeaderKind, Index
from cloudimg.opening.header_columns import HeaderColumns
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
    headers: HeaderColumns,
    layout: Layout,
    *,
    collect: bool,
) -> list[BadHeader]:
    """Compare headers with the first one, and add those that fit it to `headers`.

    Parameters
    ----------
    others : iterable of tuple
        Headers, or the errors that reading them raised, by index.
    headers : HeaderColumns
    layout : Layout
        The layout at level 0.
    collect : bool
        Return all errors instead of raising the first one.

    Returns
    -------
    list of BadHeader
        One for each other header.

    Raises
    ------
    FormatError, MismatchError, NotFoundError
    """
    first = headers.first
    fitting: dict[HeaderKind, HeaderKind] = {}
    errors: list[BadHeader] = []
    for index, header in others:
        error: CloudimgError | None
        if isinstance(header, Header):
            kind = header.summary.kind
            known = fitting.get(kind)
            if known is None:
                header = _with_omitted_axes(header, first, layout)
                error = _difference_from_first(header, first, layout, advise=not collect)
                if error is None:
                    known = fitting[kind] = header.summary.kind
            if known is not None:
                headers.add(index, header, known)
                continue
        else:
            error = header
        assert error is not None
        if not collect:
            raise error
        errors.append((index, error))
    return errors


def fit_extents(layout: Layout, level: int, headers: HeaderColumns) -> Layout:
    """Return the layout with the lengths that headers have along concatenated axes."""
    extents: dict[str, list[int]] = {}
    for axis in layout.axes:
        if axis.field is None or axis.file_axis is None:
            continue
        found: dict[int, Counter[int]] = {}
        for position, kind, n_files in _counted(headers, axis.field):
            length = headers.kinds[kind].shapes[level][axis.file_axis]
            found.setdefault(position, Counter())[length] += n_files
        # The file that comes first along the axis stands for all whose headers were not read.
        lengths = [next(iter(found[min(found)]))] * axis.count
        for position, counts in found.items():
            lengths[position] = counts.most_common(1)[0][0]
        extents[axis.name] = lengths
    return with_extents(layout, extents)


def _counted(headers: HeaderColumns, field: int) -> Iterator[tuple[int, int, int]]:
    """Yield index along an axis, number of a kind and of its files, in the order of the headers.

    The same index and kind may come several times.
    """
    n_kinds = len(headers.kinds)
    for _, indices, kinds in headers.blocks():
        pairs, firsts, counts = np.unique(
            indices[field] * n_kinds + kinds, return_index=True, return_counts=True
        )
        for i in np.argsort(firsts):
            position, kind = divmod(int(pairs[i]), n_kinds)
            yield position, kind, int(counts[i])


def neighbour_mismatches(headers: HeaderColumns, layouts: Sequence[Layout]) -> Iterator[BadHeader]:
    """Yield each file whose lengths differ from those of its neighbours."""
    for place in _unlike_neighbours(headers, layouts):
        index = headers.index_at(place)
        error = _difference_at(index, headers[place], layouts, headers.first)
        if error is not None:
            yield index, error


def _unlike_neighbours(headers: HeaderColumns, layouts: Sequence[Layout]) -> Iterator[int]:
    """Yield the places of the headers for which `_difference_at` may find something."""
    if layouts[0].canvas is not None:  # each file has lengths of its own
        yield from range(len(headers))
        return
    fits: dict[int, bool] = {}
    """By a number for what is expected of a file, and its kind."""
    joined = list(_expected_lengths(layouts))
    for start, indices, kinds in headers.blocks():
        cases, n_cases = kinds, len(headers.kinds)
        for field, numbers in joined:
            cases = cases + n_cases * numbers[indices[field]]
            n_cases *= int(numbers.max()) + 1
        distinct, firsts, which = np.unique(cases, return_index=True, return_inverse=True)
        for case, at in zip(distinct.tolist(), (start + firsts).tolist(), strict=True):
            if case not in fits:
                index = headers.index_at(at)
                fits[case] = not _difference_at(index, headers[at], layouts, headers.first)
        differs = np.array([not fits[case] for case in distinct.tolist()])
        yield from (start + np.flatnonzero(differs[which])).tolist()


def _expected_lengths(layouts: Sequence[Layout]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the axes of the grid along which files are joined, and numbers by index along these.

    Files at indices with the same numbers are expected to have the same lengths at all levels.
    """
    for axes in zip(*(layout.axes for layout in layouts), strict=True):
        if axes[0].field is not None and axes[0].file_axis is not None:
            numbers: dict[tuple[int, ...], int] = {}
            lengths = zip(*(axis.extents for axis in axes), strict=True)
            of_index = [numbers.setdefault(each, len(numbers)) for each in lengths]
            yield axes[0].field, np.array(of_index, np.int64)


def _difference_at(
    index: Index, header: Header, layouts: Sequence[Layout], first: Header
) -> MismatchError | None:
    """Return the error for a file whose lengths differ from those that are expected there."""
    for level, layout in enumerate(layouts):
        error = _difference(header, level, layout.file_shape(index), first, advise=False)
        if error is not None:
            return error
    return None


def _with_omitted_axes(header: Header, first: Header, layout: Layout) -> Header:
    """Return the header with axes of length 1 that a file omits, if files are joined along them."""
    omitted = omitted_axes(header.dims, first.dims)
    joined = {a.file_axis for a in layout.axes if a.field is not None and not a.is_stacked}
    if not omitted or not set(omitted) <= joined:
        return header
    shapes = tuple(insert_ones(shape, omitted) for shape in header.shapes)
    return header.with_kind(dims=first.dims, shapes=shapes)


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
