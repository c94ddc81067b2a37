"""From what the headers said to the sources that travel to workers and read themselves."""

from __future__ import annotations

import uuid
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.formats import Format
from cloudimg.grid import FileGrid
from cloudimg.image import Files, Source, make_token, pack
from cloudimg.reader import Reader
from cloudimg.survey import Survey


def make_sources(
    reader: Reader,
    grid: FileGrid,
    found: Survey,
    fill_value: Any,
    pages: npt.NDArray[np.int64] | None = None,
) -> tuple[Source, ...]:
    """One source per level, the full one first.

    `pages` tells which page of its file is meant, where the files are members of a set.

    Raises
    ------
    ArgumentError
        If `fill_value` cannot be held by the pixels' type.
    """
    first = found.headers[0]
    chosen = reader.headers.selection
    fill = _checked_fill(fill_value, first.dtype)
    files = Files(
        grid.keys,
        None if grid.present is None else pack(grid.present),
        grid.shape,
        _size_bound(grid, found),
        pages,
    )
    return tuple(
        Source(
            reader=reader,
            files=files,
            layout=layout,
            level=number,
            file_dims=first.dims,
            segment=segment,
            dtype=first.dtype,
            fill_value=fill,
            first_url=first.url,
            token=make_token(
                _version(grid, found),
                reader.store.__dask_tokenize__(),
                (chosen.series, chosen.alone, chosen.palette, _reader_token(chosen.reader)),
                grid.digest,
                layout,
                number,
                repr(fill),
            ),
        )
        for number, (segment, layout) in enumerate(zip(found.segments, found.layouts, strict=True))
    )


def _reader_token(reader: Any) -> str:
    """What tells the reader of files that are no TIFFs from another one."""
    if reader is None or isinstance(reader, Format):
        return reader.name if reader is not None else ""
    from dask.base import tokenize

    return str(tokenize(reader))


def _checked_fill(fill_value: Any, dtype: np.dtype[Any]) -> int | float | complex | bool:
    """The fill value as the pixels hold it: exact for integers, rounded for floats."""
    try:
        if not isinstance(fill_value, int | float | complex | np.number | np.bool_):
            raise TypeError
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not fit is found below
            filled = np.asarray(fill_value).astype(dtype, casting="unsafe")
        if dtype.kind in "iub" and filled.item() != fill_value:
            raise OverflowError
        if dtype.kind == "f" and isinstance(fill_value, complex):
            raise TypeError
        if dtype.kind in "fc" and np.isinf(filled) and np.isfinite(fill_value):
            raise OverflowError
    except (OverflowError, ValueError, TypeError):
        raise ArgumentError(f"fill_value={fill_value!r} does not fit {dtype}") from None
    return filled.item()  # type: ignore[no-any-return]


def _version(grid: FileGrid, found: Survey) -> tuple[Any, ...]:
    """What tells this state of the files from a later one."""
    seen = tuple((h.key, h.etag, h.size_bytes) for h in found.headers)
    if grid.has_versions or (len(seen) == grid.n_files and all(etag for _, etag, _ in seen)):
        return seen
    # Where the store names no versions, equal names must not claim equal pixels.
    return (uuid.uuid4().hex,)


def _size_bound(grid: FileGrid, found: Survey) -> int | None:
    known = grid.sizes[grid.sizes >= 0]
    if known.size == grid.n_files:
        return int(known.max())
    # Without a listing the first file is the best guess; a larger one only takes more room.
    return 2 * found.headers[0].size_bytes
