"""Make a `Plan` from a request and the shape of the image. Pure; the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.choose_cells import (
    Amplification,
    Boundaries,
    Pyramid,
    choose_cell,
    make_stages,
    pack,
)
from cloudimg.migration.plan.growing_axis import growing_axis
from cloudimg.migration.plan.plan import Plan, fill_as_json
from cloudimg.migration.plan.plate import Plate
from cloudimg.migration.plan.request import WriteRequest, by_dim, factors_of
from cloudimg.migration.plan.stage import PlannedLevel, Shape

_LARGEST_SHARD_BYTES = 4 * 2**30
_COARSER = math.sqrt(2)
"""From which ratio on a distance of pixels counts as greater: halving would not bring it nearer."""
_LEAST_DEPTH = 64
"""Number of planes along z from which on chunks may be cubes."""
_CHUNKS = {
    3: ({"z": 64, "y": 64, "x": 64}, {"z": 16, "y": 128, "x": 128}, {"y": 256, "x": 256}),
    # Without shards each chunk is an object: larger chunks keep the number of objects low.
    2: ({"z": 128, "y": 128, "x": 128}, {"z": 32, "y": 256, "x": 256}, {"y": 1024, "x": 1024}),
}
"""Default chunks by Zarr format, the preferred one first."""
_TOLERATED = 1.1
"""Amplification up to which a preferred chunk is taken: a tenth of the source is read twice."""


def make_plan(
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    request: WriteRequest,
    codec: Mapping[str, Any],
    lead_dims: Sequence[str] = (),
    lead_shape: Sequence[int] = (),
    plate: Plate | None = None,
    fill_value: Any = 0,
    method: str = "mean",
    nodata: Any = None,
    spacing: Mapping[str, float] | None = None,
    boundaries: Sequence[Boundaries | None] | None = None,
    alignment: Sequence[int] | None = None,
) -> Plan:
    """Plan the writing of an image.

    Parameters
    ----------
    dims, shape : sequences
        Axes of one image, in the order of OME-Zarr.
    dtype : dtype
    request : WriteRequest
        What the user requested.
    codec : mapping
        See `codecs.Codec.spec`.
    lead_dims, lead_shape : sequences
        Axes of the source along which each index is a separate image.
    plate : Plate, optional
        The plate whose fields the images are.
    fill_value : number
    method : str
        How levels are downsampled if the request does not say it.
    nodata : number, optional
        See `Plan.nodata`.
    spacing : mapping, optional
        Distance between pixels by axis of space, in one unit, where it is known.
    boundaries : sequence of ndarray, optional
        Per dim, the positions at which the source can be split without reading a segment twice,
        increasing from 0 to the dim's length. By default anywhere.
    alignment : sequence of int, optional
        By dim, the number of which the bounds of cells must be multiples.

    Raises
    ------
    ArgumentError
        If chunks, shards, factors or levels are impossible for this image.
    """
    dims, shape, dtype = tuple(dims), tuple(map(int, shape)), np.dtype(dtype).newbyteorder("<")
    lead_shape = tuple(map(int, lead_shape))
    if not all(n > 0 for n in (*shape, *lead_shape)):
        raise ArgumentError(f"an image of shape {(*lead_shape, *shape)} has no pixels")
    alignment = tuple(alignment) if alignment is not None else (1,) * len(dims)
    boundaries = [None] * len(dims) if boundaries is None else boundaries
    if request.grow is not None:
        # Planned for one index, so that nothing depends on how many there are.
        axis = growing_axis(request, dims, lead_dims)
        n_grown, shape = shape[axis], (*shape[:axis], 1, *shape[axis + 1 :])
        boundaries = [*boundaries[:axis], None, *boundaries[axis + 1 :]]
    source = Amplification(boundaries, shape)
    candidates = []
    for chunk in _chunks(request, dims, shape):
        shapes, factors = _levels(request, dims, shape, chunk, spacing or {})
        pyramid = Pyramid(
            dims=dims,
            shapes=shapes,
            factors=factors,
            chunk=chunk,
            alignment=alignment,
            itemsize=dtype.itemsize,
        )
        cell = choose_cell(pyramid, 0, 0, source, _checked_shards(pyramid, request))
        candidates.append((round(source.of(cell), 6), pyramid, cell))
        if candidates[-1][0] <= _TOLERATED:
            break
    _, pyramid, cell = min(candidates, key=lambda candidate: candidate[0])
    stages, shards = make_stages(pyramid, cell)
    plan = Plan(
        zarr_format=request.zarr_format,
        dims=dims,
        lead_dims=tuple(lead_dims),
        lead_shape=lead_shape,
        dtype=dtype.str,
        fill_value=fill_as_json(fill_value, dtype),
        chunk=pyramid.chunk,
        levels=tuple(
            PlannedLevel(*each)
            for each in zip(pyramid.shapes, shards, pyramid.factors, strict=True)
        ),
        stages=stages,
        codec=dict(codec),
        method=request.downsampling or method,
        nodata=None if nodata is None else fill_as_json(nodata, dtype),
        plate=plate,
        grow=request.grow,
    )
    if request.grow is not None:
        return plan.grown(n_grown)
    return replace(plan, stages=pack(stages, lead_shape, math.prod(shape) * dtype.itemsize))


def amplification(plan: Plan, boundaries: Sequence[Boundaries]) -> float:
    """Average number of times that a plan reads each pixel: 1.0 if nothing is read twice."""
    return Amplification(boundaries, plan.levels[0].shape).of(plan.stages[0].cell)


# ------------------------------------------------------------------------------------------ chunks


def _chunks(request: WriteRequest, dims: tuple[str, ...], shape: Shape) -> list[Shape]:
    """Chunks to choose from, the preferred one first."""
    length = dict(zip(dims, shape, strict=True))
    requested = by_dim(request.chunks, dims, "chunks")
    shards = by_dim(request.shards, dims, "shards")
    defaults = list(_CHUNKS[request.zarr_format])
    if length.get("z", 1) < _LEAST_DEPTH or {"z", "y", "x"} & set(requested):
        defaults = defaults[-1:]  # planes: cubes are chosen only if none of z, y, x is requested
    chunks = []
    for default in defaults:
        fitting = {dim: min(default.get(dim, 1), shards.get(dim, n)) for dim, n in length.items()}
        lengths = {**fitting, **requested}
        chunk = tuple(min(lengths[dim], length[dim]) for dim in dims)
        if chunk not in chunks:
            chunks.append(chunk)
    dividing = [chunk for chunk in chunks if _divides(chunk, dims, length, shards)]
    return dividing or chunks


def _divides(
    chunk: Shape, dims: tuple[str, ...], length: Mapping[str, int], shards: Mapping[str, int]
) -> bool:
    """Whether requested shards are whole chunks, or span their axis."""
    return all(
        shards.get(dim, n) % n == 0 or shards[dim] >= length[dim]
        for dim, n in zip(dims, chunk, strict=True)
    )


# ------------------------------------------------------------------------------------------ levels


def _levels(
    request: WriteRequest,
    dims: tuple[str, ...],
    shape: Shape,
    chunk: Shape,
    spacing: Mapping[str, float],
) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Shapes and factors of the levels."""
    shapes, factors = [shape], [(1,) * len(dims)]
    requested = factors_of(request, dims)
    n_levels = request.levels
    if isinstance(requested, list) and n_levels is None:
        n_levels = len(requested) + 1
    while n_levels is None or len(shapes) < n_levels:
        below = shapes[-1]
        if n_levels is None and _is_small(dims, below, chunk):
            break
        step = requested[len(shapes) - 1] if isinstance(requested, list) else requested
        if step is None:
            step = _default_factors(dims, below, spacing)
            spacing = {
                dim: spacing[dim] * factor
                for dim, factor in zip(dims, step, strict=True)
                if dim in spacing
            }
        above = tuple(-(-n // f) for n, f in zip(below, step, strict=True))
        if above == below:
            if n_levels is None:
                break
            what = f"levels={n_levels}" if request.levels else f"step {len(shapes)} of factors="
            raise ArgumentError(
                f"{what}: level {len(shapes)} would be as large as the level below it,"
                f" {dict(zip(dims, below, strict=True))}; request {len(shapes)} levels"
            )
        shapes.append(above)
        factors.append(step)
    return tuple(shapes), tuple(factors)


def _is_small(dims: tuple[str, ...], shape: Shape, chunk: Shape) -> bool:
    """Whether a level needs no further level above it: it fits a screen, or one chunk."""
    plane = [i for i, dim in enumerate(dims) if dim in ("y", "x")]
    return all(shape[i] <= max(256, chunk[i]) for i in plane)


def _default_factors(dims: tuple[str, ...], shape: Shape, spacing: Mapping[str, float]) -> Shape:
    """Two along y and x, and along z unless it is much shorter, which keeps the proportions.

    Of these, only those whose pixels are not coarser than the finest, which makes them cubes.
    """
    length = dict(zip(dims, shape, strict=True))
    longest = max(n for dim, n in length.items() if dim in ("y", "x"))
    halved = [
        dim
        for dim, n in length.items()
        if n > 1 and (dim in ("y", "x") or (dim == "z" and 2 * n >= longest))
    ]
    if all(dim in spacing for dim in halved):
        finest = min((spacing[dim] for dim in halved), default=0.0)
        halved = [dim for dim in halved if spacing[dim] < _COARSER * finest]
    return tuple(2 if dim in halved else 1 for dim in dims)


# ------------------------------------------------------------------------------------------ shards


def _checked_shards(pyramid: Pyramid, request: WriteRequest) -> dict[int, int]:
    """Requested lengths of shards, by position of the dim.

    Raises
    ------
    ArgumentError
        If they are not whole chunks, split the samples of a pixel, or are too large.
    """
    requested = by_dim(request.shards, pyramid.dims, "shards")
    chunks = by_dim(request.chunks, pyramid.dims, "chunks")
    extents: dict[int, int] = {}
    for i, dim in enumerate(pyramid.dims):
        if dim not in requested:
            continue
        extent, chunk, length = requested[dim], pyramid.chunk[i], pyramid.shapes[0][i]
        # The plan's chunk is clipped to the image; shards must fit the chunk that was requested.
        unit = chunks.get(dim, chunk)
        if extent % unit and (dim in chunks or extent < length):
            raise ArgumentError(
                f"shards=: {extent} along {dim} is not a multiple of the chunk, {unit}: use"
                f" {-(-extent // unit) * unit}"
            )
        if extent >= length:
            extent = -(-length // chunk) * chunk
        elif extent % pyramid.alignment[i]:
            unit = math.lcm(unit, pyramid.alignment[i])
            raise ArgumentError(
                f"shards=: {extent} along {dim} must be a multiple of {pyramid.alignment[i]}, the"
                f" number of samples of a pixel: use {-(-extent // unit) * unit}"
            )
        extents[i] = extent
    _refuse_large(pyramid, extents)
    return extents


def _refuse_large(pyramid: Pyramid, extents: Mapping[int, int]) -> None:
    """Refuse objects that are too large to be encoded in memory and stored by one request."""
    least = tuple(extents.get(i, n) for i, n in enumerate(pyramid.chunk))
    size = math.prod(least) * pyramid.itemsize
    if size > _LARGEST_SHARD_BYTES:
        what = "shards" if extents else "chunks"
        raise ArgumentError(
            f"{what} of {least} are {size} bytes, but at most {_LARGEST_SHARD_BYTES} can be stored"
            f" at once: make them smaller, or leave out {what}= for a suitable default"
        )
