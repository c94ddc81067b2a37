"""From what the user asked, and the shape of the image, to a `Plan`. Pure, the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.cells import (
    Amplification,
    Boundaries,
    Pyramid,
    choose_cell,
    make_stages,
)
from cloudimg.migration.plan.plan import Plan, PlannedLevel, Shape, fill_as_json
from cloudimg.migration.plan.request import WriteRequest, by_dim, factors_of, method_of

_LARGEST_SHARD_BYTES = 4 * 2**30
_VOLUME = 64
"""Planes along z from which on chunks are cubes."""
_CHUNKS = {
    3: ({"z": 64, "y": 64, "x": 64}, {"z": 16, "y": 128, "x": 128}, {"y": 256, "x": 256}),
    # Without shards a chunk is an object: larger, so that there are fewer.
    2: ({"z": 128, "y": 128, "x": 128}, {"z": 32, "y": 256, "x": 256}, {"y": 1024, "x": 1024}),
}
_TOLERATED = 1.1
"""Cubes may cost a tenth of the source read twice, not more."""


def make_plan(
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    request: WriteRequest,
    codec: Mapping[str, Any],
    lead_dims: Sequence[str] = (),
    lead_shape: Sequence[int] = (),
    fill_value: Any = 0,
    boundaries: Sequence[Boundaries] | None = None,
    alignment: Sequence[int] | None = None,
) -> Plan:
    """Plan the writing of an image.

    Parameters
    ----------
    dims, shape : sequences
        Axes of one image, in the order of OME-Zarr.
    dtype : dtype
    request : Request
        What the user asked for.
    codec : mapping
        See `codecs.Codec.spec`.
    lead_dims, lead_shape : sequences
        Axes along which there are images of their own.
    fill_value : number
    cuts : sequence of ndarray, optional
        Per dim, increasing from 0 to its length: where the source can be cut without reading a
        segment twice. Anywhere without it.
    grain : sequence of int, optional
        Per dim, a number of which cells must begin at multiples.

    Raises
    ------
    ArgumentError
        For chunks, shards, factors or levels that cannot be.
    """
    dims, shape, dtype = tuple(dims), tuple(map(int, shape)), np.dtype(dtype).newbyteorder("<")
    if not all(n > 0 for n in (*shape, *lead_shape)):
        raise ArgumentError(f"an image of shape {(*lead_shape, *shape)} has no pixels")
    alignment = tuple(alignment) if alignment is not None else (1,) * len(dims)
    amplified = Amplification([None] * len(dims) if boundaries is None else boundaries, shape)
    candidates = []
    for chunk in _chunks(request, dims, shape):
        shapes, factors = _levels(request, dims, shape, chunk)
        pyramid = Pyramid(dims, shapes, factors, chunk, alignment, dtype.itemsize)
        cell = choose_cell(pyramid, 0, 0, amplified, _checked_shards(pyramid, request))
        candidates.append((round(amplified.of(cell), 6), pyramid, cell))
        if candidates[-1][0] <= _TOLERATED:
            break
    _, pyramid, cell = min(candidates, key=lambda candidate: candidate[0])
    stages, shards = make_stages(pyramid, cell)
    return Plan(
        request.zarr_format,
        dims,
        tuple(lead_dims),
        tuple(map(int, lead_shape)),
        dtype.str,
        fill_as_json(fill_value, dtype),
        pyramid.chunk,
        tuple(
            PlannedLevel(*each)
            for each in zip(pyramid.shapes, shards, pyramid.factors, strict=True)
        ),
        stages,
        dict(codec),
        method_of(request),
    )


def amplification(plan: Plan, boundaries: Sequence[Boundaries]) -> float:
    """How many times the source is read by the cells of a plan: 1.0 where nothing is read twice."""
    return Amplification(boundaries, plan.levels[0].shape).of(plan.stages[0].cell)


# ------------------------------------------------------------------------------------------ chunks


def _chunks(request: WriteRequest, dims: tuple[str, ...], shape: Shape) -> list[Shape]:
    """Inner chunks to choose from, the best first."""
    length = dict(zip(dims, shape, strict=True))
    asked = by_dim(request.chunks, dims, "chunks")
    shards = by_dim(request.shards, dims, "shards")
    defaults = list(_CHUNKS[request.zarr_format])
    if length.get("z", 1) < _VOLUME or {"z", "y", "x"} & set(asked):
        defaults = defaults[-1:]  # planes; cubes only where the user leaves all three to us
    found = []
    for default in defaults:
        within = {dim: min(default.get(dim, 1), shards.get(dim, n)) for dim, n in length.items()}
        wanted = {**within, **asked}
        chunk = tuple(min(wanted[dim], length[dim]) for dim in dims)
        if chunk not in found:
            found.append(chunk)
    whole = [chunk for chunk in found if _divides(chunk, dims, length, shards)]
    return whole or found


def _divides(
    chunk: Shape, dims: tuple[str, ...], length: Mapping[str, int], shards: Mapping[str, int]
) -> bool:
    """Whether shards are whole chunks, or all of an axis."""
    return all(
        shards.get(dim, n) % n == 0 or shards[dim] >= length[dim]
        for dim, n in zip(dims, chunk, strict=True)
    )


# ------------------------------------------------------------------------------------------ levels


def _levels(
    request: WriteRequest, dims: tuple[str, ...], shape: Shape, chunk: Shape
) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Shapes and factors by level."""
    shapes, factors = [shape], [(1,) * len(dims)]
    asked = factors_of(request, dims)
    n_levels = request.levels
    if isinstance(asked, list) and n_levels is None:
        n_levels = len(asked) + 1
    while n_levels is None or len(shapes) < n_levels:
        if n_levels is None and _is_small(dims, shapes[-1], chunk):
            break
        step = asked[len(shapes) - 1] if isinstance(asked, list) else asked
        chosen = _default_factors(dims, shapes[-1]) if step is None else step
        below = shapes[-1]
        above = tuple(-(-n // f) for n, f in zip(below, chosen, strict=True))
        if above == below:
            if n_levels is None:
                break
            what = f"levels={n_levels}" if request.levels else f"factors: step {len(shapes)}"
            raise ArgumentError(
                f"{what}: level {len(shapes)} would be as large as the one below it,"
                f" {dict(zip(dims, below, strict=True))}; ask for {len(shapes)} levels"
            )
        shapes.append(above)
        factors.append(chosen)
    return tuple(shapes), tuple(factors)


def _is_small(dims: tuple[str, ...], shape: Shape, chunk: Shape) -> bool:
    plane = [i for i, dim in enumerate(dims) if dim in ("y", "x")]
    return all(shape[i] <= max(256, chunk[i]) for i in plane)


def _default_factors(dims: tuple[str, ...], shape: Shape) -> Shape:
    """Two along y and x; along z where it is not much shorter, which keeps proportions."""
    longest = max(n for dim, n in zip(dims, shape, strict=True) if dim in ("y", "x"))
    return tuple(
        2 if n > 1 and (dim in ("y", "x") or (dim == "z" and 2 * n >= longest)) else 1
        for dim, n in zip(dims, shape, strict=True)
    )


# ------------------------------------------------------------------------------------------ shards


def _checked_shards(pyramid: Pyramid, request: WriteRequest) -> dict[int, int]:
    """What the user wants of shards, by position of the dim."""
    asked = by_dim(request.shards, pyramid.dims, "shards")
    chunks = by_dim(request.chunks, pyramid.dims, "chunks")
    found: dict[int, int] = {}
    for i, dim in enumerate(pyramid.dims):
        if dim not in asked:
            continue
        extent, chunk, length = asked[dim], pyramid.chunk[i], pyramid.shapes[0][i]
        # Chunks end at the image, but shards must fit what the user said, which may be longer.
        unit = chunks.get(dim, chunk)
        if extent % unit and (dim in chunks or extent < length):
            raise ArgumentError(
                f"shards: {extent} along {dim} is no multiple of the chunk, {unit}: take"
                f" {-(-extent // unit) * unit}"
            )
        if extent >= length:
            extent = -(-length // chunk) * chunk
        elif extent % pyramid.alignment[i]:
            unit = math.lcm(unit, pyramid.alignment[i])
            raise ArgumentError(
                f"shards: {extent} along {dim} must be a multiple of {pyramid.alignment[i]}, the"
                f" samples of a pixel: take {-(-extent // unit) * unit}"
            )
        found[i] = extent
    _refuse_large(pyramid, found)
    return found


def _refuse_large(pyramid: Pyramid, found: Mapping[int, int]) -> None:
    """Shards are made in memory and stored by one request."""
    least = tuple(found.get(i, n) for i, n in enumerate(pyramid.chunk))
    size = math.prod(least) * pyramid.itemsize
    if size > _LARGEST_SHARD_BYTES:
        what = "shards" if found else "chunks"
        raise ArgumentError(
            f"{what} of {least} are {size} bytes, and at most {_LARGEST_SHARD_BYTES} are stored at"
            f" once: make them smaller, or leave {what} out for a good choice"
        )
