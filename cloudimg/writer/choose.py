"""From what the user asked, and the shape of the image, to a `Plan`. Pure, the same everywhere.

Cells are chosen so that as little as possible is read twice: neither segments of the source, which
cells may cut, nor levels that a later stage must read back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.writer.plan import Plan, PlannedLevel, Shape, Stage, fill_as_json
from cloudimg.writer.request import Request, by_dim, factors_of, method_of

Cuts = npt.NDArray[np.int64]

LEAST_BYTES = 32 * 2**20
MOST_BYTES = 64 * 2**20
"""Decoded size of a cell at its input: one PUT, whose loss costs seconds, and few objects."""
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


@dataclass(frozen=True, slots=True)
class _Image:
    """What cells are chosen for."""

    dims: tuple[str, ...]
    shapes: tuple[Shape, ...]
    """By level."""
    factors: tuple[Shape, ...]
    """By level, from the level below."""
    chunk: Shape
    grain: Shape
    """Cells begin at multiples of it."""
    itemsize: int


def make_plan(
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    request: Request,
    codec: Mapping[str, Any],
    lead_dims: Sequence[str] = (),
    lead_shape: Sequence[int] = (),
    fill_value: Any = 0,
    cuts: Sequence[Cuts] | None = None,
    grain: Sequence[int] | None = None,
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
        raise ArgumentError(f"an image of shape {shape} has no pixels")
    cuts = [np.arange(2) * 0 for _ in dims] if cuts is None else list(cuts)
    free = [len(c) == 2 and not c.any() for c in cuts]
    amplified = Amplification([None if f else c for f, c in zip(free, cuts, strict=True)], shape)
    grain = tuple(grain) if grain is not None else (1,) * len(dims)
    asked = by_dim(request.shards, dims, "shards")
    best: tuple[float, _Image, Shape] | None = None
    for chunk in _chunks(request, dims, shape):
        shapes, factors = _levels(request, dims, shape, chunk)
        image = _Image(dims, shapes, factors, chunk, grain, dtype.itemsize)
        cell = _choose_cell(image, 0, 0, amplified, _checked_shards(image, asked))
        found = amplified.of(cell)
        if best is None or found < best[0] - 1e-9:
            best = (found, image, cell)
        if found <= _TOLERATED:
            break
    if best is None:
        raise ArgumentError("no chunks to choose from")
    _, image, cell = best
    stages, shards = _stages(image, cell)
    return Plan(
        request.zarr_format,
        dims,
        tuple(lead_dims),
        tuple(map(int, lead_shape)),
        dtype.str,
        fill_as_json(fill_value, dtype),
        image.chunk,
        tuple(
            PlannedLevel(*each) for each in zip(image.shapes, shards, image.factors, strict=True)
        ),
        stages,
        dict(codec),
        method_of(request),
    )


class Amplification:
    """How often each pixel of the source is read, on average, if cells have a given extent."""

    def __init__(self, cuts: Sequence[Cuts | None], shape: Shape) -> None:
        self._cuts = cuts
        self._shape = shape
        self._known: dict[tuple[int, int], float] = {}

    def of(self, cell: Sequence[int]) -> float:
        """For cells of an extent by dim."""
        return math.prod(self._along(i, n) for i, n in enumerate(cell))

    def _along(self, i: int, extent: int) -> float:
        cuts, length = self._cuts[i], self._shape[i]
        if cuts is None or extent >= length:
            return 1.0
        if (i, extent) not in self._known:
            starts = np.arange(0, length, extent)
            stops = np.minimum(starts + extent, length)
            first = cuts[np.searchsorted(cuts, starts, "right") - 1]
            last = cuts[np.searchsorted(cuts, stops, "left")]
            self._known[i, extent] = float((last - first).sum()) / length
        return self._known[i, extent]


def amplification(plan: Plan, cuts: Sequence[Cuts]) -> float:
    """How many times the source is read by the cells of a plan: 1.0 where nothing is read twice."""
    return Amplification(cuts, plan.levels[0].shape).of(plan.stages[0].cell)


# ------------------------------------------------------------------------------------------ chunks


def _chunks(request: Request, dims: tuple[str, ...], shape: Shape) -> list[Shape]:
    """Inner chunks to choose from, the best first."""
    length = dict(zip(dims, shape, strict=True))
    asked = by_dim(request.chunks, dims, "chunks")
    defaults = list(_CHUNKS[request.zarr_format])
    if length.get("z", 1) < _VOLUME:
        defaults = defaults[-1:]
    found = []
    for default in defaults:
        wanted = {**default, **asked}
        chunk = tuple(min(wanted.get(dim, 1), length[dim]) for dim in dims)
        if chunk not in found:
            found.append(chunk)
    return found


# ------------------------------------------------------------------------------------------ levels


def _levels(
    request: Request, dims: tuple[str, ...], shape: Shape, chunk: Shape
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
            raise ArgumentError(
                f"levels={n_levels}: level {len(shapes)} would be as large as the one below it,"
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


# ------------------------------------------------------------------------------------------- cells


def _checked_shards(image: _Image, asked: Mapping[str, int]) -> dict[int, int]:
    """What the user wants of cells, by position of the dim."""
    found: dict[int, int] = {}
    for i, dim in enumerate(image.dims):
        if dim not in asked:
            continue
        extent, chunk, length = asked[dim], image.chunk[i], image.shapes[0][i]
        if extent % chunk and extent < length:
            raise ArgumentError(
                f"shards: {extent} along {dim} is no multiple of the chunk, {chunk}: take"
                f" {-(-extent // chunk) * chunk}"
            )
        if extent >= length:
            extent = -(-length // chunk) * chunk
        elif extent % image.grain[i]:
            raise ArgumentError(
                f"shards: {extent} along {dim} must be a multiple of {image.grain[i]}, the samples"
                " of a pixel"
            )
        found[i] = extent
    size = math.prod(found.get(i, n) for i, n in enumerate(image.chunk)) * image.itemsize
    if size > _LARGEST_SHARD_BYTES:
        raise ArgumentError(
            f"shards of {size} bytes are too large to be stored at once: at most"
            f" {_LARGEST_SHARD_BYTES}"
        )
    return found


def _choose_cell(
    image: _Image, level: int, first: int, amplified: Amplification, fixed: Mapping[int, int]
) -> Shape:
    """The extent of cells at an input level with the least to be read twice.

    `first` is the first level that they write. Ties: the larger, then the squarer in the plane.
    """
    shape = image.shapes[level]
    choices = [
        [fixed[i]] if i in fixed else _extents(image, i, level, first) for i in range(len(shape))
    ]
    cells = _of_good_size(choices, shape, image.itemsize)
    plane = [i for i, dim in enumerate(image.dims) if dim in ("y", "x")]

    def badness(cell: Shape) -> tuple[Any, ...]:
        last = _last_level(image, level, first, cell)
        size = math.prod(shape)
        reread = 0.0 if last == len(image.shapes) - 1 else math.prod(image.shapes[last]) / size
        used = [min(n, m) for n, m in zip(cell, shape, strict=True)]
        skew = abs(math.log(used[plane[0]] / used[plane[1]]))
        return round(amplified.of(cell) + reread, 4), -math.prod(used), round(skew, 6), cell

    return min(cells, key=badness)


def _extents(image: _Image, i: int, level: int, first: int) -> list[int]:
    """Extents along a dim at an input level: whole chunks at the first level that is written."""
    length, chunk = image.shapes[level][i], image.chunk[i]
    unit = math.lcm(chunk * (image.factors[first][i] if first > level else 1), image.grain[i])
    found = [unit * 2**k for k in range(max(1, length).bit_length()) if unit * 2**k < length]
    return [*found, -(-length // chunk) * chunk]


def _of_good_size(choices: Sequence[Sequence[int]], shape: Shape, itemsize: int) -> list[Shape]:
    """Cells of 32 to 64 MiB; where there is none, those that come nearest."""
    used = [np.minimum(each, n) for each, n in zip(choices, shape, strict=True)]
    sizes = np.array(float(itemsize))
    for each in used:
        sizes = np.multiply.outer(sizes, each.astype(float))
    good = (sizes >= LEAST_BYTES) & (sizes <= MOST_BYTES)
    if not good.any():
        small = sizes <= MOST_BYTES
        good = sizes == (sizes[small].max() if small.any() else sizes.min())
    return [tuple(int(choices[i][k]) for i, k in enumerate(place)) for place in np.argwhere(good)]


def _last_level(image: _Image, level: int, first: int, cell: Shape) -> int:
    """The last level that cells of an extent can write in one pass; less than `first` if none."""
    total = [1] * len(cell)
    last = first - 1
    for number in range(level, len(image.shapes)):
        if number > level:
            total = [t * f for t, f in zip(total, image.factors[number], strict=True)]
        if number < first:
            continue
        if not all(
            extent >= length or (extent % t == 0 and extent // t % chunk == 0)
            for extent, length, t, chunk in zip(
                cell, image.shapes[level], total, image.chunk, strict=True
            )
        ):
            break
        last = number
    return last


def _stages(image: _Image, cell: Shape) -> tuple[tuple[Stage, ...], list[Shape]]:
    """All passes, and the shards of each level."""
    stages: list[Stage] = []
    shards: list[Shape] = []
    source: int | None = None
    while True:
        level, first = (0, 0) if source is None else (source, source + 1)
        shape = image.shapes[level]
        last = _last_level(image, level, first, cell)
        grid = tuple(-(-n // m) for n, m in zip(shape, cell, strict=True))
        stages.append(Stage(source, first, last, cell, grid))
        total = [1] * len(cell)
        for number in range(level, last + 1):
            if number > level:
                total = [t * f for t, f in zip(total, image.factors[number], strict=True)]
            if number >= first:
                shards.append(_shard(image, number, cell, grid, total))
        if last == len(image.shapes) - 1:
            return tuple(stages), shards
        source = last
        stored = [
            np.append(np.arange(0, n, m), n)
            for n, m in zip(image.shapes[last], shards[last], strict=True)
        ]
        read = Amplification(stored, image.shapes[last])
        cell = _choose_cell(image, last, last + 1, read, {})


def _shard(image: _Image, level: int, cell: Shape, grid: Shape, total: Sequence[int]) -> Shape:
    """What a cell stores at a level: along an axis with one cell all of it, in whole chunks."""
    return tuple(
        extent // t if n > 1 else -(-length // chunk) * chunk
        for extent, n, t, length, chunk in zip(
            cell, grid, total, image.shapes[level], image.chunk, strict=True
        )
    )
