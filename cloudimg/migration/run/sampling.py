"""A few chunks of an image, read and encoded, to tell how many bytes a copy would store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cloudimg.errors import CloudimgError
from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.encode.shards import encode_chunks, encode_shard
from cloudimg.migration.plan.plan import Cell, Plan, fill_scalar
from cloudimg.migration.run.write_input import WriteInput

_PLACES = 8
_MOST_BYTES = 2**26
"""Pixels of the sample in bytes, at most, of more than one chunk."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Chunks of level 0 that were encoded."""

    n_chunks: int = 0
    n_bytes: int = 0
    """Bytes of their pixels."""
    n_encoded: int = 0
    """Bytes of them as the copy would store them."""
    problem: str = ""
    """Why a chunk could not be read; empty if all could."""

    @property
    def share(self) -> float | None:
        """Stored bytes of each byte of pixels; None if nothing was read."""
        return self.n_encoded / self.n_bytes if self.n_bytes else None


def sampled(plan: Plan, write_input: WriteInput) -> Sample:
    """Read and encode chunks of level 0 at up to eight places, spread over the images.

    A chunk that cannot be read, because a file is bad or in an archive, is left out.

    Parameters
    ----------
    plan : Plan
    write_input : WriteInput
        Mapped as the plan's image.
    """
    dtype, fill = np.dtype(plan.dtype), fill_scalar(plan)
    codec = codec_from_spec(plan.codec, dtype)
    block = _block(plan, write_input.axes_mapping.n_samples)
    n_chunks = n_bytes = n_encoded = 0
    problem = ""
    for cell in _blocks(plan, block):
        try:
            pixels = write_input.pixels.read(cell)[0]
        except CloudimgError as exc:
            problem = problem or exc.message
            continue
        pixels = pixels.view(dtype) if pixels.dtype.kind == "b" else pixels
        n_chunks += math.prod(_grid(pixels.shape, plan.chunk))
        n_bytes += pixels.nbytes
        if plan.zarr_format == 2:  # empty chunks are objects, too
            chunks = encode_chunks(pixels, plan.chunk, codec, fill)
            n_encoded += sum(len(data) for _, data, _ in chunks)
        else:  # a chunk of a shard has an entry in its index, also one that is not stored
            n_encoded += len(encode_shard(pixels, block, plan.chunk, codec, fill).data)
        if n_bytes >= _MOST_BYTES:
            break
    return Sample(n_chunks, n_bytes, n_encoded, problem)


def _block(plan: Plan, n_samples: int) -> tuple[int, ...]:
    """Shape of the chunks that are read together: the samples of a pixel cannot be apart."""
    return tuple(
        math.lcm(n, n_samples) if dim == "c" else n
        for dim, n in zip(plan.dims, plan.chunk, strict=True)
    )


def _grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-n // m) for n, m in zip(shape, block, strict=True))


def _blocks(plan: Plan, block: tuple[int, ...]) -> Iterator[Cell]:
    """Blocks at the same places each time, as cells."""
    shape, n_lead = plan.levels[0].shape, len(plan.lead_shape)
    for at in _positions((*plan.lead_shape, *_grid(shape, block))):
        lead = tuple(slice(i, i + 1) for i in at[:n_lead])
        image = int(np.ravel_multi_index(at[:n_lead], plan.lead_shape)) if n_lead else 0
        region = tuple(
            slice(i * n, min((i + 1) * n, length))
            for i, n, length in zip(at[n_lead:], block, shape, strict=True)
        )
        yield Cell(0, 0, lead, range(image, image + 1), at[n_lead:], region)


def _positions(grid: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Up to eight different positions in a grid; all of a small one.

    Multiples of powers of a root of x ** (n + 1) = x + 1 spread evenly along each axis and across
    axes (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).
    """
    if math.prod(grid) <= _PLACES:
        yield from np.ndindex(*grid)
        return
    root = 1.0
    for _ in range(64):
        root = (1 + root) ** (1 / (len(grid) + 1))
    steps = [root ** -(axis + 1) for axis in range(len(grid))]
    found: dict[tuple[int, ...], None] = {}
    number = 0
    while len(found) < _PLACES and number < 64 * _PLACES:
        at = tuple(int((0.5 + number * a) % 1 * n) for a, n in zip(steps, grid, strict=True))
        found.setdefault(at)
        number += 1
    yield from found
