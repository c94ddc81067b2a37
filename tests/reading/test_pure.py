"""Properties of the pure parts: ranges, the grid of files, the layout of axes, chunk choice."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.discovery.grid import FileGrid, GridBuilder
from cloudimg.discovery.names import NameColumn
from cloudimg.errors import DuplicateIndexError
from cloudimg.pattern import compile_pattern
from cloudimg.reading.chunks import MAX_CHUNKS, auto_chunks
from cloudimg.reading.coalescing import coalesce
from cloudimg.reading.layout import arrange, axis_boundaries, with_extents
from cloudimg.tiff.geometry import find_geometry

# Ranges

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


# The grid


@dataclass(frozen=True)
class Named:
    key: str
    size_bytes: int | None
    etag: str | None = "e"


def build(pattern: str, keys: list[str]) -> FileGrid:
    builder = GridBuilder(compile_pattern(pattern))
    builder.add([Named(key, len(key)) for key in keys])
    return builder.build()


@given(
    places=st.sets(
        st.tuples(st.integers(0, 2000), st.sampled_from("ABC"), st.integers(0, 12)), min_size=1
    ),
    seed=st.integers(0, 2**16),
    padded=st.booleans(),
    wild=st.booleans(),
)
def test_grid_finds_every_file_again(
    places: set[tuple[int, str, int]], seed: int, padded: bool, wild: bool
) -> None:
    def name(z: int, well: str, t: int) -> str:
        guid = f"-{z * 7919 % 1000:x}" if wild else ""
        return (
            f"exp/{well}/t{t}_z{z:04d}{guid}.tif" if padded else f"exp/{well}/t{t}_z{z}{guid}.tif"
        )

    keys = [name(*place) for place in places]
    random.Random(seed).shuffle(keys)
    field = "{z:04d}" if padded else "{z}"
    grid = build(f"exp/{{well:s}}/t{{t}}_z{field}{'-*' if wild else ''}.tif", keys)
    assert grid.fields == ("well", "t", "z")
    assert grid.n_files == len(places)
    assert grid.labels[0] == tuple(sorted({p[1] for p in places}))
    assert grid.labels[1] == tuple(sorted({p[2] for p in places}))
    assert grid.labels[2] == tuple(sorted({p[0] for p in places}))
    found = set()
    for index in grid.files():
        well, t, z = (labels[i] for labels, i in zip(grid.labels, index, strict=True))
        assert grid.keys(index) == name(z, well, t)  # type: ignore[arg-type]
        assert grid.size_of(index) == len(grid.keys(index))
        assert grid.is_present(index)
        found.add((z, well, t))
    assert found == places
    holes = set(grid.missing())
    assert len(holes) == grid.n_missing == math.prod(grid.shape) - len(places)
    assert not any(grid.is_present(hole) for hole in holes)
    # Names are kept only where the pattern cannot make them.
    assert (grid.keys.names is not None) == wild
    for axis in range(3):
        last = grid.last_along(axis, grid.shape[axis] - 1)
        assert last is not None
        assert grid.is_present(last)
        assert last[axis] == grid.shape[axis] - 1


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30))
def test_grid_refuses_duplicates(numbers: list[int]) -> None:
    keys = [f"a{i}_z{z}.tif" for i, z in enumerate(numbers)]
    if len(set(numbers)) == len(numbers):
        assert build("a*_z{z}.tif", keys).n_files == len(numbers)
    else:
        with pytest.raises(DuplicateIndexError, match=r"a\d+_z(\d+)\.tif and a\d+_z\1\.tif"):
            build("a*_z{z}.tif", keys)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_name_column(names: list[str]) -> None:
    names = names * 300
    column = NameColumn()
    for name in names:
        column.append(name)
    assert len(column) == len(names)
    assert list(column) == names


def test_the_digest_sees_every_change() -> None:
    def digest(*files: Named) -> str:
        builder = GridBuilder(compile_pattern("z{z}"))
        builder.add(files)
        return builder.build().digest

    base = digest(Named("z1", 5, "a"), Named("z2", 5, "a"))
    assert digest(Named("z1", 5, "a"), Named("z2", 5, "a")) == base
    assert digest(Named("z1", 5, "a"), Named("z2", 6, "a")) != base
    assert digest(Named("z1", 5, "a"), Named("z2", 5, "b")) != base
    assert digest(Named("z1", 5, "a"), Named("z3", 5, "a")) != base


# The layout


@st.composite
def layouts(draw: Any) -> Any:
    names = ["t", "c", "z", "y", "x", "well"]
    fields = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    others = [n for n in ["page", "t", "c", "z"] if draw(st.booleans())]
    file_dims = [*others, "y", "x"]
    lengths = [draw(st.integers(1, 3)) for _ in fields]
    file_shape = [draw(st.integers(1, 4)) for _ in file_dims]
    layout = arrange(fields, lengths, file_dims, file_shape, mosaic=True, dims=None)
    extents = {
        axis.name: [draw(st.integers(1, 4)) for _ in axis.extents]
        for axis in layout.axes
        if axis.field is not None and not axis.is_stacked
    }
    return with_extents(layout, extents)


@given(layout=layouts(), data=st.data())
def test_assignments_cover_a_region_exactly_once(layout: Any, data: st.DataObject) -> None:
    """Every pixel of the region comes from one place in one file, and from the right one."""
    region = []
    for length in layout.shape:
        start = data.draw(st.integers(0, length - 1))
        stop = data.draw(st.integers(start + 1, length))
        region.append(slice(start, stop, data.draw(st.integers(1, 3))))
    truth = np.arange(math.prod(layout.shape)).reshape(layout.shape)
    out = np.full([len(range(s.start, s.stop, s.step)) for s in region], -1)
    for assignment in layout.assignments(tuple(region)):
        # The whole file, cut out of the truth and brought into the axes of the file.
        whole = []
        for axis in layout.axes:
            if axis.field is None:
                whole.append(slice(None))
            else:
                i = assignment.index[axis.field]
                begin = sum(axis.extents[:i])
                whole.append(i if axis.is_stacked else slice(begin, begin + axis.extents[i]))
        file = truth[tuple(whole)].transpose(assignment.transpose)
        assert file.shape == layout.file_shape(assignment.index)
        target = out[assignment.place].transpose(assignment.transpose)
        assert (target == -1).all()
        target[...] = file[assignment.file_region]
    np.testing.assert_array_equal(out, truth[tuple(region)])


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    plane=st.tuples(*[st.integers(1, 4)] * 5),
)
def test_geometry_numbers_pages_as_reshaping_does(
    shape: list[int], plane: tuple[int, int, int, int, int]
) -> None:
    full = (*shape, *(n for n in plane if n > 1))
    geometry = find_geometry(full, plane)
    assert geometry is not None
    assert geometry.n_pages == math.prod(shape)
    stack = np.arange(math.prod(full)).reshape(-1, *plane)
    image = stack.reshape(full)
    region = tuple(slice(0, n, 1) for n in full)
    for number, place in geometry.pages(region):
        index: list[Any] = [slice(None)] * len(full)
        for axis, i in zip(geometry.page_axes, place, strict=True):
            index[axis] = i
        np.testing.assert_array_equal(image[tuple(index)].ravel(), stack[number].ravel())


def test_geometry_refuses_what_it_cannot_express() -> None:
    assert find_geometry((6, 10), (1, 1, 3, 10, 1)) is None
    assert find_geometry((2, 30), (1, 1, 3, 10, 1)) is None


# Chunks


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
