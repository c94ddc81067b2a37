"""Make the sources of an image, one per level, from its grid and headers."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import ArgumentError
from cloudimg.formats import Format
from cloudimg.opening.header_inspection import HeaderInspection
from cloudimg.pattern import Label
from cloudimg.reading.identities import Identities
from cloudimg.reading.source import Source, make_token
from cloudimg.reading.source_files import ListedVersions, SourceFiles, pack


def make_sources(
    grid: FileGrid,
    inspection: HeaderInspection,
    fill_value: Any,
    pages: npt.NDArray[np.int64] | None = None,
    identities: Identities | None = None,
    *,
    fills_bad: bool = False,
    is_tabled: bool = False,
) -> tuple[Source, ...]:
    """Return one source for each level, level 0 first.

    Parameters
    ----------
    grid : FileGrid
    inspection : HeaderInspection
    fill_value : number, optional
        None: that of the Zarr, the nodata value of the first file, or else 0.
    pages : ndarray, optional
        Number of the page in its file by index in the grid, in a multi-file dataset.
    identities : Identities, optional
        UUIDs of the files of a multi-file dataset.
    fills_bad : bool
        Whether the pixels of bad files are the fill value, too.
    is_tabled : bool
        Whether a table lists the files, whose versions they must have.

    Raises
    ------
    ArgumentError
        If the dtype cannot represent `fill_value`.
    """
    first, reader = inspection.headers[0], inspection.reader
    context = reader.headers.context
    if fill_value is None:
        # What a Zarr does not store is no pixel without data.
        stated = first.attrs.get("fill_value", first.attrs.get("nodata"))
        fill = _nodata_as_fill(stated, first.dtype)
    else:
        fill = _checked_fill(fill_value, first.dtype)
    expected = inspection.expected
    if expected is not None and not (expected.facts.transform or expected.facts.scaling):
        expected = None  # comparing would cost time
    if expected is not None:
        reader = reader.using(compares_facts=True)
    files = SourceFiles(
        grid.keys,
        None if grid.present is None else pack(grid.present),
        grid.shape,
        _size_bound(grid, inspection),
        pages,
        None if pages is None else pack(first_pages(grid)),
        identities,
        labels_of_missing(grid),
        ListedVersions(grid.sizes, grid.etags) if is_tabled else None,
    )
    version = _version(grid, inspection)
    reading_options = (
        context.series,
        context.ignore_siblings,
        context.palette,
        _decoder_token(context.decoder),
    )
    return tuple(
        Source(
            reader=reader,
            files=files,
            layout=layout,
            level=number,
            file_dims=first.dims,
            segment=segment,
            pixel_bytes=inspection.pixel_bytes[number],
            dtype=first.dtype,
            fill_value=fill,
            fills_bad=fills_bad,
            first_url=first.url,
            expected=expected if number == 0 else None,
            token=make_token(
                version,
                reader.store.__dask_tokenize__(),
                reading_options,
                grid.digest,
                layout,
                number,
                repr(fill),
                fills_bad,
            ),
        )
        for number, (segment, layout) in enumerate(
            zip(inspection.segments, inspection.layouts, strict=True)
        )
    )


def labels_of_missing(grid: FileGrid) -> dict[str, Sequence[Label]]:
    """Labels by axis, if the names of missing files are not known."""
    rows = grid.keys.rows
    if grid.present is None or rows is None or (rows >= 0).all():
        return {}
    return dict(zip(grid.fields, grid.labels, strict=True))


def first_pages(grid: FileGrid) -> npt.NDArray[np.bool_]:
    """Return where in the grid of a multi-file dataset each file has its first page.

    So has each plane for which no file is named.
    """
    assert grid.keys.rows is not None
    rows = grid.keys.rows.ravel()
    is_first = rows < 0
    named = np.flatnonzero(rows >= 0)
    is_first[named[np.unique(rows[named], return_index=True)[1]]] = True
    return is_first


def _decoder_token(decoder: Any) -> str:
    """Return a text that identifies a decoder of files that are not TIFFs."""
    if decoder is None or isinstance(decoder, Format):
        return decoder.name if decoder is not None else ""
    from dask.base import tokenize

    return str(tokenize(decoder))


def _checked_fill(fill_value: Any, dtype: np.dtype[Any]) -> int | float | complex | bool:
    """Return the fill value as the dtype represents it: exact for integers, rounded for floats."""
    try:
        if not isinstance(fill_value, int | float | complex | np.number | np.bool_):
            raise TypeError
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that do not fit are refused below
            filled = np.asarray(fill_value).astype(dtype, casting="unsafe")
        if dtype.kind in "iub" and filled.item() != fill_value:
            raise OverflowError
        if dtype.kind == "f" and isinstance(fill_value, complex):
            raise TypeError
        if dtype.kind in "fc" and np.isinf(filled) and np.isfinite(fill_value):
            raise OverflowError
    except (OverflowError, ValueError, TypeError) as exc:
        raise ArgumentError(f"fill_value={fill_value!r} does not fit {dtype}") from exc
    return filled.item()  # type: ignore[no-any-return]


def _nodata_as_fill(nodata: Any, dtype: np.dtype[Any]) -> int | float | complex | bool:
    """Return nodata, or else 0."""
    try:
        return _checked_fill(0 if nodata is None else nodata, dtype)
    except ArgumentError:
        return _checked_fill(0, dtype)  # no pixel can have such a value


def _version(grid: FileGrid, inspection: HeaderInspection) -> tuple[Any, ...]:
    """Return a value that changes when a file does."""
    headers = inspection.headers
    has_all = len(headers) == grid.n_files and headers.have_versions
    if grid.has_versions or has_all:
        return headers.versions
    # The store gives no versions, so files of equal names may have changed: use a new value.
    return (uuid.uuid4().hex,)


def _size_bound(grid: FileGrid, inspection: HeaderInspection) -> int | None:
    """Return an upper bound of the size of a file in bytes."""
    known = grid.sizes[grid.sizes >= 0]
    if known.size == grid.n_files:
        return int(known.max())
    # Without a listing the first file is the best guess; a larger file only takes more memory.
    return 2 * inspection.headers[0].size_bytes
