"""Properties of `cloudimg.reading.coalescing`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.reading.coalescing import coalesce

RANGES = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 300)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=40,
)


@given(
    ranges=RANGES,
    max_gap=st.integers(0, 500),
    free_gap=st.integers(0, 50),
    waste=st.floats(0, 2),
    max_span=st.integers(1, 4000),
)
def test_coalesced_spans(
    ranges: list[tuple[int, int]], max_gap: int, free_gap: int, waste: float, max_span: int
) -> None:
    starts = np.array([r[0] for r in ranges], np.int64)
    stops = np.array([r[1] for r in ranges], np.int64)
    spans = coalesce(
        starts,
        stops,
        max_gap_bytes=max_gap,
        free_gap_bytes=free_gap,
        max_waste=waste,
        max_span_bytes=max_span,
    )
    wanted = [i for i, (a, b) in enumerate(ranges) if b > a]
    # Every wanted range lies wholly in exactly one span, and spans do not overlap.
    assert sorted(i for span in spans for i in span.members) == wanted
    for span in spans:
        for i in span.members:
            assert span.start_bytes <= ranges[i][0]
            assert ranges[i][1] <= span.stop_bytes
        # Nothing is fetched at the ends that nobody wants.
        assert span.start_bytes == min(ranges[i][0] for i in span.members)
        assert span.stop_bytes == max(ranges[i][1] for i in span.members)
    for left, right in pairwise(spans):
        assert left.stop_bytes <= right.start_bytes
    # The bytes that nobody wants stay within what was allowed.
    covered = np.zeros(6000, bool)
    for a, b in ranges:
        covered[a:b] = True
    counted = 0
    for span in spans:
        inside = covered[span.start_bytes : span.stop_bytes]
        edges = np.flatnonzero(np.diff(np.concatenate(([1], inside.astype(int), [1]))))
        for first, last in edges.reshape(-1, 2):
            gap = int(last - first)
            assert gap <= max(max_gap, free_gap)
            counted += gap if gap > free_gap else 0
    assert counted <= waste * sum(b - a for a, b in ranges)
    # A span larger than allowed holds ranges that overlap, or one that is itself larger.
    for span in spans:
        if span.stop_bytes - span.start_bytes > max_span:
            ordered = sorted(ranges[i] for i in span.members)
            reach = np.maximum.accumulate([b for _, b in ordered])
            assert all(a < r for (a, _), r in zip(ordered[1:], reach, strict=False)) or any(
                b - span.start_bytes <= max_span for _, b in ordered
            )


def test_coalescing_joins_neighbours_and_keeps_rows_of_tiles_apart() -> None:
    rows = [(r * 100_000 + t * 1000, r * 100_000 + t * 1000 + 1000) for r in (0, 1) for t in (0, 1)]
    spans = coalesce(
        np.array([a for a, _ in rows]),
        np.array([b for _, b in rows]),
        max_gap_bytes=2**20,
        free_gap_bytes=512,
        max_waste=0.2,
        max_span_bytes=2**23,
    )
    assert [(s.start_bytes, s.stop_bytes) for s in spans] == [(0, 2000), (100_000, 102_000)]
