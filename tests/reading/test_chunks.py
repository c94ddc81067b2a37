"""Properties of `cloudimg.reading.chunks`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.distributed.capacity import Capacity
from cloudimg.reading.chunks import MAX_CHUNKS, auto_chunks, most_bytes, target_bytes
from cloudimg.reading.layout import arrange, axis_boundaries, with_extents


@given(
    extents=st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=5), min_size=2, max_size=2),
    segments=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    stack=st.integers(1, 500),
    target=st.integers(1, 10**6),
)
def test_automatic_chunks(
    extents: list[list[int]], segments: tuple[int, int], stack: int, target: int
) -> None:
    layout = arrange(
        ["z", "y", "x"],
        [stack, len(extents[0]), len(extents[1])],
        ["y", "x"],
        [extents[0][0], extents[1][0]],
        mosaic=True,
        dims=None,
    )
    layout = with_extents(layout, {"y": extents[0], "x": extents[1]})
    boundaries = [
        axis_boundaries(axis, segment)
        for axis, segment in zip(layout.axes, (1, *segments), strict=True)
    ]
    chunks = auto_chunks(boundaries, layout.dims, 2, target)
    assert tuple(sum(lengths) for lengths in chunks) == layout.shape
    for lengths, cut in zip(chunks, boundaries, strict=True):
        assert set(np.cumsum(lengths)) <= set(cut)
    # As near the target as whole segments allow.
    smallest = math.prod(int(np.diff(cut).max()) for cut in boundaries)
    largest = math.prod(max(lengths) for lengths in chunks)
    n_chunks = math.prod(len(lengths) for lengths in chunks)
    assert largest * 2 <= max(target, smallest * 2) or n_chunks > MAX_CHUNKS / 4
    assert n_chunks <= MAX_CHUNKS


MB = 10**6
MIB = 2**20


def workers(n: int, n_threads: int, memory_bytes: int | None) -> Capacity:
    return Capacity(n * n_threads, memory_bytes, n_threads, memory_bytes)


@pytest.mark.parametrize(
    ("image", "capacity", "most", "target"),
    [
        (10**12, None, 128 * MIB, 128 * MIB),
        (10**12, workers(3, 1, 400 * MB), 50 * MB, 200 * MB // 16),
        (10**12, workers(3, 2, 400 * MB), 25 * MB, 100 * MB // 16),
        (10**12, workers(3, 2, 4000 * MB), 128 * MIB, 1900 * MB // 16),
        (10**12, workers(3, 1, 4000 * MB), 128 * MIB, 128 * MIB),
        (351 * MB, workers(3, 2, 4000 * MB), 128 * MIB, 351 * MB // 18),
        (351 * MB, workers(3, 2, None), 128 * MIB, 351 * MB // 18),
        (10 * MB, workers(100, 4, 4000 * MB), 4000 * MB // 32, 4 * MIB),
        (10 * MB, workers(1, 200, 4000 * MB), 2500000, 19 * MB // 16),
    ],
)
def test_sizes_for_workers(image: int, capacity: Capacity | None, most: int, target: int) -> None:
    assert most_bytes(128 * MIB, capacity) == most
    assert target_bytes(image, most, capacity) == target
