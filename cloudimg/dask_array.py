"""A `Source` as a Dask array: a layer of slices over one picklable object.

The graph names no file: each task holds a tuple of slices, the source travels once, and slicing
done later by the user is pushed into those slices before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from cloudimg.chunking import auto_chunks
from cloudimg.errors import ArgumentError
from cloudimg.image import Source, make_token

Chunks = Any
"""What Dask takes for chunks, or a mapping from dims."""


def choose_chunks(source: Source, chunks: Chunks) -> tuple[tuple[int, ...], ...]:
    """Chunk lengths per dim for what the user asked for.

    Raises
    ------
    ArgumentError
        For dims that do not exist and chunks that make no sense.
    """
    import dask.config
    from dask.array.core import normalize_chunks
    from dask.utils import parse_bytes

    target = dask.config.get("array.chunk-size")
    itemsize = source.dtype.itemsize
    auto = auto_chunks(source.cuts(), source.dims, itemsize, parse_bytes(target))
    if isinstance(chunks, str) and chunks == "auto":
        return auto
    if isinstance(chunks, Mapping):
        unknown = set(chunks) - set(source.dims)
        if unknown:
            raise ArgumentError(
                f"chunks name dims {sorted(unknown)}, but the image has {source.dims}"
            )
        wanted: Any = tuple(chunks.get(dim, "auto") for dim in source.dims)
    elif isinstance(chunks, tuple | list):
        wanted = tuple(chunks)
    elif isinstance(chunks, bool) or not isinstance(chunks, int | str):
        raise ArgumentError(f'chunks={chunks!r} must be a number, a tuple, a mapping or "auto"')
    else:
        wanted = (chunks,) * len(source.dims)
    if len(wanted) != len(source.dims):
        raise ArgumentError(f"{len(wanted)} chunks for the {len(source.dims)} dims {source.dims}")
    filled = tuple(
        a if isinstance(w, str) and w == "auto" else n if w in (-1, None) else w
        for w, a, n in zip(wanted, auto, source.shape, strict=True)
    )
    try:
        done = cast(Any, normalize_chunks)(filled, source.shape, dtype=source.dtype)
    except (ValueError, TypeError, ZeroDivisionError) as exc:
        raise ArgumentError(f"chunks={chunks!r} do not fit shape {source.shape}: {exc}") from None
    if any(n <= 0 for lengths in done for n in lengths):
        raise ArgumentError(f"chunks={chunks!r}: lengths must be positive")
    return tuple(tuple(int(n) for n in lengths) for lengths in done)


def to_dask(source: Source, chunks: Chunks) -> Any:
    """The source as a `dask.array.Array`."""
    import dask.array as da

    chosen = choose_chunks(source, chunks)
    return cast(Any, da.from_array)(
        source,
        chunks=chosen,
        # The chunks are part of the name: equal keys must mean equal blocks.
        name=f"cloudimg-{make_token(source.token, chosen)}",
        meta=np.empty((0,) * len(source.shape), source.dtype),
        inline_array=False,
        # With fancy=False Dask (2026.8) does not push slices down: `_optimize_slices` skips its
        # getter for exactly the indices that are not fancy. Sources take fancy ones as well.
        fancy=True,
    )
