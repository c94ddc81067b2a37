"""Properties of `cloudimg.reading.chunks`."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.reading.chunks import MAX_CHUNKS, auto_chunks
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
