"""Turn a `Source` into a Dask array: a layer of slices over one picklable object.

The graph contains no file names: each task holds a tuple of slices, the source is pickled once, and
Dask pushes later slicing by the user into those slices before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cloudimg.distributed.capacity import Capacity, capacity_of_dask
from cloudimg.distributed.run import require_client
from cloudimg.errors import ArgumentError
from cloudimg.reading.chunks import auto_chunks, most_bytes, target_bytes
from cloudimg.reading.cost_warning import warn_of_cost
from cloudimg.reading.source import Source, make_token
from cloudimg.reading.source_boundaries import file_boundaries, row_boundaries

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client

Length = int | str | None | Sequence[int]
"""Chunks along one dim: a length, a size such as "64 MiB", -1 or None for the whole dim, "auto", or
the length of each chunk."""
Chunks = int | str | Sequence[Length] | Mapping[str, Length]
"""Chunks of an image: one value for all dims, one for each, or values by dim."""


def choose_chunks(
    source: Source, chunks: Chunks, capacity: Capacity | None
) -> tuple[tuple[int, ...], ...]:
    """Return the chunk lengths per dim for the `chunks` of a user.

    Parameters
    ----------
    source : Source
    chunks : "auto", int, tuple or mapping
    capacity : Capacity or None
        Of the cluster for which "auto" chooses, if there is one.

    Raises
    ------
    ArgumentError
        For dims that do not exist and chunks that do not fit the shape.
    """
    auto = _auto_chunks(source, capacity)
    if isinstance(chunks, str) and chunks == "auto":
        return auto  # `dask.array` is not imported here because its import is slow
    filled = tuple(
        a if isinstance(w, str) and w == "auto" else n if w in (-1, None) else w
        for w, a, n in zip(_by_dim(chunks, source.dims), auto, source.shape, strict=True)
    )
    return _normalized(filled, chunks, source)


def _auto_chunks(source: Source, capacity: Capacity | None) -> tuple[tuple[int, ...], ...]:
    """Return the default chunks; the docstring of `Image.to_dask` has the rule."""
    import dask.config
    from dask.utils import parse_bytes

    itemsize = source.dtype.itemsize
    largest = most_bytes(parse_bytes(dask.config.get("array.chunk-size")), capacity)
    target = target_bytes(math.prod(source.shape) * itemsize, largest, capacity)
    # Two parts of a small file would both fetch all of it.
    boundaries = None if capacity is None else file_boundaries(source, largest)
    if boundaries is None:
        boundaries = row_boundaries(source, target)
    return auto_chunks(boundaries, source.dims, itemsize, target)


def _by_dim(chunks: Chunks, dims: tuple[str, ...]) -> Sequence[Length]:
    """Return the requested chunks along each dim."""
    if isinstance(chunks, Mapping):
        unknown = set(chunks) - set(dims)
        if unknown:
            raise ArgumentError(f"chunks= names dims {sorted(unknown)}, but the image has {dims}")
        return tuple(chunks.get(dim, "auto") for dim in dims)
    if isinstance(chunks, tuple | list):
        if len(chunks) != len(dims):
            raise ArgumentError(f"chunks= has {len(chunks)} items for {len(dims)} dims {dims}")
        return tuple(chunks)
    if isinstance(chunks, bool) or not isinstance(chunks, int | str):
        raise ArgumentError(f'chunks={chunks!r} must be a number, a tuple, a mapping or "auto"')
    return (chunks,) * len(dims)


def _normalized(
    filled: Sequence[Length], chunks: Chunks, source: Source
) -> tuple[tuple[int, ...], ...]:
    from dask.array.core import normalize_chunks

    try:
        normalized = cast(Any, normalize_chunks)(filled, source.shape, dtype=source.dtype)
    except (ValueError, TypeError, ZeroDivisionError) as exc:
        raise ArgumentError(f"chunks={chunks!r} does not fit shape {source.shape}: {exc}") from exc
    if any(n <= 0 for lengths in normalized for n in lengths):
        raise ArgumentError(f"chunks={chunks!r}: lengths must be positive")
    return tuple(tuple(int(n) for n in lengths) for lengths in normalized)


def to_dask(
    source: Source,
    chunks: Chunks,
    *,
    step: str,
    name: str | bool | None = None,
    client: Client | None = None,
) -> da.Array:
    """Return the source as a `dask.array.Array`.

    Parameters
    ----------
    source : Source
    chunks : "auto", int, tuple or mapping
    step : str
        What the tasks do, see `cloudimg.storage.step_of`.
    name : str or bool, optional
        As in `dask.array.from_array`.
    client : distributed.Client, optional
        For whose workers "auto" chooses; by default those of the client that Dask uses, if any.

    Warns
    -----
    ChunkCostWarning
    """
    import dask.array as da

    if name == "" or not isinstance(name, str | bool | None):
        raise ArgumentError(f"name={name!r} must be a text, True, False or None")
    if client is not None:
        require_client(client)
    capacity = capacity_of_dask(client)
    chosen = choose_chunks(source, chunks, capacity)
    warn_of_cost(source, chosen, choose_chunks(source, "auto", capacity), capacity)
    if name in (None, True):
        # The chunks are part of the name because equal keys must mean equal blocks.
        name = f"cloudimg-{step}-{make_token(source.token, chosen)}"
    array: da.Array = cast(Any, da.from_array)(
        source,
        chunks=chosen,
        name=name,
        meta=np.empty((0,) * len(source.shape), source.dtype),
        inline_array=False,
        # With fancy=False Dask (2026.8) does not push slices down: `_optimize_slices` skips its
        # getter for exactly the indices that are not fancy. A Source supports fancy ones as well.
        fancy=True,
    )
    return array
