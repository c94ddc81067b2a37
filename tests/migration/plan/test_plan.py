"""Plans: every object belongs to one cell, little is read twice, and the result is deterministic.

Plans are grids, so most properties are checked along one axis at a time, at sizes of real images.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudimg.api.migrations import dry_run, migrate
from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.check_plan import check_plan
from cloudimg.migration.plan.choose_cells import LEAST_BYTES, MOST_BYTES, Amplification
from cloudimg.migration.plan.make_plan import amplification, make_plan
from cloudimg.migration.plan.objects import objects_of
from cloudimg.migration.plan.plan import Output, Plan, fill_scalar
from cloudimg.migration.plan.request import WriteRequest
from tests.support.counting import counted

MANY = settings(max_examples=150, deadline=None)
LENGTHS = {
    "t": st.integers(1, 300),
    "c": st.integers(1, 5),
    "z": st.integers(1, 1500),
    "y": st.integers(1, 30_000),
    "x": st.integers(1, 30_000),
}
SMALL = {dim: st.integers(1, 3 if dim in "tc" else 30) for dim in "tczyx"}
DTYPES = st.sampled_from(["u1", "<u2", ">u2", "<i4", "f8", "c16", "bool"])


def plan_of(
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: Any = "u2",
    boundaries: Any = None,
    **requested: Any,
) -> Plan:
    return make_plan(
        tuple(dims),
        shape,
        dtype,
        request=WriteRequest(**requested),
        codec={"name": "none"},
        boundaries=boundaries,
    )


def every(length: int, step: int) -> np.ndarray:
    """Boundaries at the multiples of a step."""
    return np.append(np.arange(0, length, step), length)


@st.composite
def images(draw: st.DrawFn, lengths: dict[str, Any] = LENGTHS) -> tuple[tuple[str, ...], Any]:
    lead = draw(st.sets(st.sampled_from("tcz")))
    dims = tuple(dim for dim in "tczyx" if dim in lead or dim in "yx")
    return dims, tuple(draw(lengths[dim]) for dim in dims)


@st.composite
def requests(draw: st.DrawFn, dims: tuple[str, ...], longest: int) -> dict[str, Any]:
    """Valid chunks, shards and factors, each sometimes left out."""
    requested: dict[str, Any] = {"zarr_format": draw(st.sampled_from([3, 2]))}
    if draw(st.booleans()):
        requested["chunks"] = {
            dim: draw(st.integers(1, longest if dim in "yx" else 2)) for dim in dims
        }
        if requested["zarr_format"] == 3 and draw(st.booleans()):
            of_chunks = st.integers(1, 4)
            requested["shards"] = {
                dim: n * draw(of_chunks) for dim, n in requested["chunks"].items()
            }
    if draw(st.booleans()):
        requested["factors"] = {dim: draw(st.integers(1, 3)) for dim in dims} | {"y": 2}
    return requested


def along(plan: Plan, stage: int, axis: int) -> Iterator[tuple[slice, tuple[Output, ...]]]:
    """What the cells of a stage along an axis read and write, at the end of all other axes."""
    grid = plan.stages[stage].grid
    index = [n - 1 for n in grid]
    for place in range(grid[axis]):
        index[axis] = place
        cell = plan.cell(stage, int(np.ravel_multi_index(index, grid)))
        assert cell.index == tuple(index)
        yield cell.region[axis], plan.outputs(cell)


def assert_tiles(parts: Sequence[slice], length: int) -> None:
    assert parts[0].start == 0
    assert parts[-1].stop == length
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert all(part.start < part.stop for part in parts)


def check(plan: Plan) -> None:
    """Check everything that must hold for any plan."""
    written = [
        number for stage in plan.stages for number in range(stage.first_level, stage.last_level + 1)
    ]
    assert written == list(range(len(plan.levels)))
    assert [s.input_level for s in plan.stages] == [
        None, *(s.last_level for s in plan.stages[:-1])
    ]  # fmt: skip
    for below, level in pairwise(plan.levels):
        expected = [-(-n // f) for n, f in zip(below.shape, level.factors, strict=True)]
        assert list(level.shape) == expected
    for level in plan.levels:
        assert all(n % m == 0 for n, m in zip(level.shard, plan.chunk, strict=True))
    for number, stage in enumerate(plan.stages):
        for axis in range(len(plan.dims)):
            check_axis(plan, number, axis)
        assert plan.n_cells(number) == math.prod(stage.grid)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def check_axis(plan: Plan, number: int, axis: int) -> None:
    stage, chunk = plan.stages[number], plan.chunk[axis]
    cells = list(along(plan, number, axis))
    assert_tiles([read for read, _ in cells], plan.input_shape(number)[axis])
    for place, level in enumerate(range(stage.first_level, stage.last_level + 1)):
        parts = [outputs[place].region[axis] for _, outputs in cells]
        assert all(outputs[place].level == level for _, outputs in cells)
        assert_tiles(parts, plan.levels[level].shape[axis])
        lowest = (stage.input_level or 0) + 1
        total = math.prod(plan.levels[k].factors[axis] for k in range(lowest, level + 1))
        shard = plan.levels[level].shard[axis]
        for (read, outputs), part in zip(cells, parts, strict=True):
            assert part.start * total == read.start  # the same pixels, at multiples of the factor
            assert part.stop == -(-read.stop // total)
            assert part.start == outputs[place].shard_index[axis] * shard
            assert part.start % chunk == 0
            assert part.stop - part.start <= shard


# Properties of every plan


@MANY
@given(image=images(), dtype=DTYPES, data=st.data())
def test_cells_tile_every_level(image: Any, dtype: str, data: st.DataObject) -> None:
    dims, shape = image
    plan = plan_of(dims, shape, dtype, **data.draw(requests(dims, 100)))
    check(plan)


@MANY
@given(image=images(), data=st.data())
def test_cells_are_of_32_to_64_mib_where_the_image_is_large_enough(
    image: Any, data: st.DataObject
) -> None:
    dims, shape = image
    boundaries = [every(n, data.draw(st.integers(1, n))) for n in shape]
    plan = plan_of(dims, shape, "u2", boundaries, zarr_format=data.draw(st.sampled_from([3, 2])))
    for number, stage in enumerate(plan.stages):
        of = plan.input_shape(number)
        size = 2 * math.prod(min(n, m) for n, m in zip(stage.cell, of, strict=True))
        assert min(LEAST_BYTES, 2 * math.prod(of)) <= size <= MOST_BYTES


@pytest.mark.slow
@MANY
@given(image=images(SMALL), data=st.data())
def test_every_object_and_pixel_belongs_to_one_cell(image: Any, data: st.DataObject) -> None:
    dims, shape = image
    requested = data.draw(requests(dims, 8)) | {"chunks": dict.fromkeys(dims, 3)}
    if requested["zarr_format"] == 3:
        requested["shards"] = {dim: 3 * data.draw(st.sampled_from([1, 2, 4, 9])) for dim in dims}
    lead_shape = data.draw(st.sampled_from([(2, 1, 1), (1, 3, 16), (5, 7, 1), (2, 2, 9)]))
    lead = {"lead_dims": ("plate", "well", "f"), "lead_shape": lead_shape}
    plan = make_plan(
        dims, shape, "u2", request=WriteRequest(**requested), codec={"name": "none"}, **lead
    )
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    source = {"dims": [*lead["lead_dims"], *dims], "shape": [*lead_shape, *shape], "dtype": "<u2"}
    if "c" in dims:  # other images follow from the source where none of its axes is for them
        check_plan(plan, source)
    keys: Counter[str] = Counter()
    covered = [np.zeros((plan.n_images, *level.shape), int) for level in plan.levels]
    for number in range(len(plan.stages)):
        for k in range(plan.n_cells(number)):
            cell = plan.cell(number, k)
            for output in plan.outputs(cell):
                of_cell = slice(cell.images.start, cell.images.stop)
                covered[output.level][(of_cell, *output.region)] += 1
                stored = [key for image in cell.images for key in keys_of(plan, image, output)]
                assert [key for key, _, _ in objects_of(plan, cell, output)] == stored
                keys.update(stored)
            assert {plan.cell_number(number, each, cell.index) for each in cell.images} == {k}
            of_lead = np.arange(plan.n_images).reshape(lead_shape)[cell.lead]
            assert of_lead.ravel().tolist() == list(cell.images)
    assert all((each == 1).all() for each in covered)
    assert set(keys.values()) == {1}
    expected = {
        plan.shard_key(image, level, index)
        for level in range(len(plan.levels))
        for image in range(plan.n_images)
        for index in np.ndindex(*grid_of(plan, level))
    }
    assert set(keys) == expected
    assert sum(plan.n_objects(level) for level in range(len(plan.levels))) == len(expected)


def grid_of(plan: Plan, level: int) -> list[int]:
    stored = plan.levels[level].shard if plan.zarr_format == 3 else plan.chunk
    return [-(-n // m) for n, m in zip(plan.levels[level].shape, stored, strict=True)]


def keys_of(plan: Plan, image: int, output: Output) -> Iterator[str]:
    """Keys of what a cell stores at a level: in Zarr 2 each chunk of its region."""
    if plan.zarr_format == 3:
        yield plan.shard_key(image, output.level, output.shard_index)
        return
    spans = [
        range(part.start // n, -(-part.stop // n))
        for part, n in zip(output.region, plan.chunk, strict=True)
    ]
    for index in product(*spans):
        yield plan.shard_key(image, output.level, index)


# What is read twice


@st.composite
def boundaries_of(draw: st.DrawFn, length: int) -> np.ndarray:
    inside = draw(st.sets(st.integers(1, max(1, length - 1)), max_size=12))
    return np.array(sorted({0, length, *(n for n in inside if n < length)}))


@MANY
@given(data=st.data())
def test_amplification_equals_counting(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 60)))
    boundaries = [data.draw(boundaries_of(n)) for n in shape]
    requested = {"chunks": 3, "shards": {dim: 3 * data.draw(st.integers(1, 7)) for dim in "yx"}}
    plan = plan_of("yx", shape, "u1", boundaries, **requested)
    read = 0
    for number in range(plan.n_cells(0)):
        region = plan.cell(0, number).region
        covering = [
            sum(b - a for a, b in pairwise(c.tolist()) if a < part.stop and part.start < b)
            for c, part in zip(boundaries, region, strict=True)
        ]
        read += math.prod(covering)
    assert amplification(plan, boundaries) == pytest.approx(read / math.prod(shape))


@MANY
@given(
    shape=st.tuples(st.integers(1, 200), st.integers(3000, 30_000), st.integers(3000, 30_000)),
    data=st.data(),
)
def test_no_other_cell_of_powers_of_two_is_better(
    shape: tuple[int, int, int], data: st.DataObject
) -> None:
    boundaries = [every(n, data.draw(st.sampled_from([1, 3, 8, 256, 1000, n]))) for n in shape]
    plan = plan_of("zyx", shape, "u2", boundaries, chunks={"z": 1, "y": 256, "x": 256})
    top = len(plan.levels) - 1
    totals = np.cumprod([level.factors for level in plan.levels], axis=0)

    def last_filled(cell: Sequence[int]) -> int:
        whole = np.array([n >= m for n, m in zip(cell, shape, strict=True)])
        fits = (whole | (cell % (totals * plan.chunk) == 0)).all(axis=1)
        return top if fits.all() else int(np.argmin(fits)) - 1

    def cost(cell: Sequence[int]) -> float:
        last = last_filled(cell)
        back = 0.0 if last == top else math.prod(plan.levels[last].shape) / math.prod(shape)
        return Amplification(boundaries, shape).of(cell) + back

    assert plan.stages[0].last_level == last_filled(plan.stages[0].cell)
    chosen = cost(plan.stages[0].cell)
    for powers in product(range(8), range(7), range(7)):
        cell = [n << k for n, k in zip(plan.chunk, powers, strict=True)]
        size = 2 * math.prod(min(n, m) for n, m in zip(cell, shape, strict=True))
        if LEAST_BYTES <= size <= MOST_BYTES:
            assert chosen <= cost(cell) + 2e-4


def test_boundaries_must_span_the_image() -> None:
    with pytest.raises(ArgumentError, match="length 100 must run from 0 to 100"):
        plan_of("yx", (100, 100), boundaries=[every(100, 10), every(90, 10)])


# Choices


def test_of_a_large_plane_most_levels_come_from_one_read() -> None:
    plan = plan_of("yx", (40_000, 40_000))
    assert plan.chunk == (256, 256)
    assert len(plan.levels) == 9
    assert plan.levels[-1].shape == (157, 157)
    assert plan.stages[0].last_level >= 4
    assert [level.shard for level in plan.levels[:3]] == [(4096, 8192), (2048, 4096), (1024, 2048)]


def test_of_a_volume_three_levels_come_from_one_read() -> None:
    plan = plan_of("zyx", (1024, 1024, 1024))
    assert plan.chunk == (64, 64, 64)
    assert [level.shape for level in plan.levels] == [(1024,) * 3, (512,) * 3, (256,) * 3]
    assert len(plan.stages) == 1


def test_planes_of_a_time_series_are_read_once() -> None:
    shape = (100, 2, 30, 2160, 2560)
    boundaries = [every(100, 1), every(2, 1), every(30, 1), every(2160, 2160), every(2560, 2560)]
    plan = plan_of("tczyx", shape, "u2", boundaries)
    assert amplification(plan, boundaries) == 1.0
    assert plan.stages[0].cell == (1, 1, 4, 2304, 2560)
    assert len(plan.stages) == 1
    assert plan.levels[1].shape == (100, 2, 30, 1080, 1280)  # too thin to be halved along z


def test_small_images_are_one_cell() -> None:
    """The seed's scheme: c, t, z and tiles of 128 along y and x."""
    shape = (3, 2, 17, 384, 384)
    boundaries = [every(3, 1), every(2, 1), every(17, 1), every(384, 128), every(384, 128)]
    plan = plan_of("tczyx", shape, "u2", boundaries)
    assert plan.total_cells == 1
    assert amplification(plan, boundaries) == 1.0
    assert [level.shape[-2:] for level in plan.levels] == [(384, 384), (192, 192)]


@MANY
@given(
    lead_shape=st.lists(st.integers(1, 500), min_size=1, max_size=3).map(tuple),
    side=st.integers(1, 6000),
)
def test_cells_of_small_images_have_several(lead_shape: tuple[int, ...], side: int) -> None:
    lead = {"lead_dims": ("a", "b", "d")[: len(lead_shape)], "lead_shape": lead_shape}
    request = WriteRequest()
    plan = make_plan("yx", (side, side), "u2", request=request, codec={}, **lead)
    n_images, n_bytes = math.prod(lead_shape), 2 * side**2
    n, n_cells = plan.n_images_of_cells(0), plan.n_cells(0)
    if n == 1:
        assert n_cells == n_images * math.prod(plan.stages[0].grid)
        assert all(len(stage) == 5 for stage in plan.to_json()["stages"])  # as older versions do
    else:
        assert n * n_bytes <= LEAST_BYTES
        assert n <= 64
        assert 16 <= n_cells <= n_images
        numbers = [*range(min(9, n_cells)), *range(max(0, n_cells - 9), n_cells)]
        cells = [plan.cell(0, number) for number in numbers]
        assert (cells[0].images.start, cells[-1].images.stop) == (0, n_images)
        assert all(
            a.images.stop == b.images.start for a, b in pairwise(cells) if b.number == a.number + 1
        )
    if len(lead_shape) == 1 and n_images >= 32 and 2 * n_bytes <= LEAST_BYTES:
        assert n > 1


def test_the_fields_of_whole_wells_are_in_one_cell() -> None:
    lead = {"lead_dims": ("well", "f"), "lead_shape": (384, 9)}
    plan = make_plan("yx", (64, 64), "u2", request=WriteRequest(), codec={}, **lead)
    assert plan.stages[0].images == (7, 9)
    assert [len(plan.cell(0, number).images) for number in range(plan.n_cells(0))] == [
        *(54 * [63]), 54
    ]  # fmt: skip
    assert len(plan.levels) == 1


@pytest.mark.parametrize(
    "images",
    [
        [], [63], [7, 9, 1], [7, 8], [7, 1], [501, 9], [1, 10], [-7, 9], [0, 9], [1, 1], [7, 9.0],
        "79", [500, 9],
    ],
)  # fmt: skip
def test_other_images_of_cells_than_can_be_made_are_refused(images: Any) -> None:
    lead = {"lead_dims": ("well", "f"), "lead_shape": (500, 9)}
    plan = make_plan("yx", (64, 64), "u2", request=WriteRequest(), codec={"a": 1}, **lead)
    source = {"dims": ["well", "f", "y", "x"], "shape": [500, 9, 64, 64], "dtype": "<u2"}
    stored = plan.to_json()
    check_plan(Plan.from_json(stored), source)
    assert stored["stages"][0][5] == [7, 9]
    stored["stages"][0][5] = images
    with pytest.raises(ValueError, match=r"stages\[0\]\.images"):
        check_plan(Plan.from_json(stored), source)


def test_images_that_are_several_cells_are_not_joined() -> None:
    lead = {"lead_dims": ("well", "f"), "lead_shape": (500, 9)}
    request = WriteRequest(chunks=16, shards=32)
    plan = make_plan("yx", (64, 64), "u2", request=request, codec={"a": 1}, **lead)
    source = {"dims": ["well", "f", "y", "x"], "shape": [500, 9, 64, 64], "dtype": "<u2"}
    stored = plan.to_json()
    stored["stages"][0].append([7, 9])
    with pytest.raises(ValueError, match=r"stages\[0\]\.images are not of cells with a whole"):
        check_plan(Plan.from_json(stored), source)


@pytest.mark.parametrize(
    ("depth_of_segments", "zarr_format", "chunk"),
    [
        ("any", 3, (64, 64, 64)),
        ("plane", 3, (16, 128, 128)),
        ("large plane", 3, (1, 256, 256)),
        ("any", 2, (128, 128, 128)),
        ("plane", 2, (32, 256, 256)),
        ("large plane", 2, (1, 1024, 1024)),
    ],
)
def test_chunks_are_cubes_where_that_reads_little_twice(
    depth_of_segments: str, zarr_format: int, chunk: tuple[int, ...]
) -> None:
    n = 2500 if depth_of_segments == "large plane" else 1024
    boundaries = None if depth_of_segments == "any" else [every(200, 1), every(n, n), every(n, n)]
    assert plan_of("zyx", (200, n, n), "u2", boundaries, zarr_format=zarr_format).chunk == chunk


def test_proportions_are_kept() -> None:
    plan = plan_of("zyx", (300, 2048, 1024))
    assert [level.factors for level in plan.levels] == [
        (1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2)
    ]  # fmt: skip


def test_samples_of_a_pixel_stay_together() -> None:
    plan = make_plan(
        "cyx", (600, 3000, 3000), "u1", request=WriteRequest(), codec={}, alignment=(3, 1, 1)
    )
    assert plan.stages[0].cell[0] % 3 == 0
    with pytest.raises(
        ArgumentError, match=r"multiple of 3, the number of samples of a pixel: use 6"
    ):
        make_plan(
            "cyx",
            (600, 3000, 3000),
            "u1",
            request=WriteRequest(shards={"c": 4}),
            codec={},
            alignment=(3, 1, 1),
        )


def test_cells_follow_segments_whose_length_is_not_a_power_of_two() -> None:
    boundaries = [every(1000, 10), every(1000, 1000), every(1000, 1000)]
    plan = plan_of("tyx", (1000, 1000, 1000), "u2", boundaries)
    assert amplification(plan, boundaries) == 1.0
    assert plan.stages[0].cell[0] % 10 == 0


def test_factors_of_three_fill_several_levels_from_one_read() -> None:
    plan = plan_of("yx", (30_000, 30_000), factors=3, levels=3)
    assert plan.stages[0].last_level == 2
    assert plan.levels[1].shape == (10_000, 10_000)


def test_user_chunks_and_shards() -> None:
    plan = plan_of("zyx", (40, 1000, 1200), chunks=(4, 100, 100), shards={"z": 8, "y": 400})
    assert plan.chunk == (4, 100, 100)
    assert plan.levels[0].shard[:2] == (8, 400)
    check(plan)
    numbers = plan_of("zyx", (40, 5000, 5000), chunks=128, shards=512)
    assert numbers.chunk == (1, 128, 128)
    assert numbers.levels[0].shard[1:] == (512, 512)
    smaller = plan_of("zyx", (100, 5000, 5000), shards={"z": 32, "y": 96})
    assert smaller.levels[0].shard[:2] == (32, 96)
    check(smaller)


def test_one_level_and_factors_level_by_level() -> None:
    assert len(plan_of("yx", (9000, 9000), levels=1).levels) == 1
    plan = plan_of("tyx", (10, 900, 900), factors=[{"y": 3, "x": 3}, {"t": 2}])
    assert [level.shape for level in plan.levels] == [(10, 900, 900), (10, 300, 300), (5, 300, 300)]


def test_the_plan_of_a_million_cells_is_made_in_few_steps() -> None:
    shape = (1_000_000, 4, 3000, 2000)
    boundaries = [every(10**6, 1), every(4, 1), every(3000, 7), every(2000, 2000)]
    with counted() as cost:
        plan = plan_of("tcyx", shape, "u2", boundaries)
        cell = plan.cell(0, plan.n_cells(0) - 1)
    assert plan.total_cells >= 10**6
    assert cell.region[0].stop == 1_000_000
    assert cost.steps < 20_000
    assert cost.peak_bytes < 4 * boundaries[0].nbytes
    assert len(json.dumps(plan.to_json())) < 5000


def test_the_plan_of_five_long_axes_is_made_in_few_steps() -> None:
    shape = (1_000_000, 4, 1000, 100_000, 100_000)
    boundaries = [every(10**6, 1), every(4, 1), every(1000, 1), every(10**5, 7), every(10**5, 512)]
    boundaries[0] = np.delete(boundaries[0], 5)  # not regular
    with counted() as cost:
        check_axis(plan_of("tczyx", shape, "u2", boundaries), 0, 2)
    assert cost.steps < 50_000
    assert cost.peak_bytes < 10 * boundaries[0].nbytes


# What is stored with the plan


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("u1", 7),
        ("<i8", -(2**63)),
        ("<u8", 2**64 - 1),
        ("bool", True),
        ("f2", 0.5),
        ("<f4", float("nan")),
        ("f8", float("-inf")),
        ("f8", -0.0),
        ("c8", complex(1.5, float("inf"))),
        ("c16", 0),
    ],
)
def test_fill_values_survive_json(dtype: str, fill: Any) -> None:
    plan = make_plan("yx", (3, 3), dtype, request=WriteRequest(), codec={}, fill_value=fill)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert again == plan
    expected = np.array(fill, dtype)[()]
    found = fill_scalar(again)
    assert type(found) is type(expected)
    assert found.tobytes() == expected.tobytes()


def test_dtypes_are_little_endian_and_paths_are_those_of_ome_zarr() -> None:
    alone = plan_of("yx", (600, 600), ">u2")
    assert alone.dtype == "<u2"
    assert alone.image_path(0) == ""
    assert alone.array_path(0, 1) == "1"
    assert alone.shard_key(0, 1, (0, 2)) == "1/c/0/2"
    many = make_plan(
        "yx",
        (600, 600),
        "u2",
        request=WriteRequest(zarr_format=2),
        codec={},
        lead_dims=("well",),
        lead_shape=(4,),
    )
    assert many.n_images == 4
    assert many.image_path(3) == "3"
    assert many.shard_key(3, 1, (0, 2)) == "3/1/0/2"
    assert many.cell(0, 3).images == range(3, 4)


def test_requests_survive_json() -> None:
    request = WriteRequest(chunks=(1, 64, 64), factors=[{"y": 2}, {"x": 2}], codec={"name": "zstd"})
    again = WriteRequest.from_json(json.loads(json.dumps(request.to_json())))
    assert again.to_json() == request.to_json()


# Invalid requests


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"chunks": 0}, "chunks=0"),
        ({"chunks": (1, -4, 4)}, "chunks=-4"),
        ({"chunks": {"y": 2.5}}, "2.5"),
        ({"chunks": "64"}, "'64'"),
        ({"chunks": (64, 64)}, r"chunks= has 2 numbers for the 3 dims \('z', 'y', 'x'\)"),
        ({"chunks": {"q": 4}}, r"\['q'\], but the image has \('z', 'y', 'x'\)"),
        ({"shards": {"q": 4}}, r"\['q'\]"),
        ({"shards": True}, "True"),
        (
            {"chunks": 100, "shards": 250},
            "250 along y is not a multiple of the chunk, 100: use 300",
        ),
        ({"chunks": 100, "shards": 1250}, "1250 along y .* use 1300"),
        ({"shards": {"x": 300}}, "300 along x .* 256: use 512"),
        ({"chunks": {"z": 1}, "shards": {"z": 50, "y": 2**15, "x": 2**15}}, "stored at once"),
        ({"shards": 512, "zarr_format": 2}, "Zarr 2 has no shards"),
        ({"factors": {"y": 0}}, r"factors\['y'\]=0"),
        ({"factors": -2}, "factors=-2"),
        ({"factors": {"w": 2}}, r"\['w'\]"),
        (
            {"factors": [{"y": 2}, {"z": 1}]},
            "step 2 of factors=: level 2 would be as large.*request 2 levels",
        ),
        ({"factors": [{"y": 2}], "levels": 4}, "levels=4"),
        ({"levels": 0}, "levels=0"),
        ({"levels": 2.0}, "levels=2.0"),
        ({"levels": 40}, "request 18 levels"),
        ({"zarr_format": 4}, "must be 3 or 2"),
        ({"downsampling": "cubic"}, "mean, nearest, mode"),
    ],
)
def test_impossible_arguments_are_refused(requested: dict[str, Any], message: str) -> None:
    shape = (50, 100_000, 100_000) if "stored" in message or "18" in message else (50, 1200, 1200)
    with pytest.raises(ArgumentError, match=message):
        plan_of("zyx", shape, **requested)


def test_images_without_pixels_are_refused() -> None:
    with pytest.raises(ArgumentError, match="no pixels"):
        plan_of("yx", (0, 5))


# Estimates


def archive(folder: Path) -> str:
    """A time series of planes without empty regions."""
    rng = np.random.default_rng(4)
    for t in range(3):
        tifffile.imwrite(folder / f"a_{t}.tif", rng.integers(1, 99, (700, 900), "u2"))
    return str(folder / "a_{t}.tif")


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_the_estimate_is_what_is_written(tmp_path: Path, zarr_format: int) -> None:
    source, copy = archive(tmp_path), tmp_path / "copy"
    requested: dict[str, Any] = {"zarr_format": zarr_format, "chunks": 128}
    if zarr_format == 3:
        requested["shards"] = {"t": 1, "y": 256, "x": 256}
    expected = dry_run(source, **requested)
    migrate(source, str(copy), **requested)
    files = [path for path in copy.rglob("*") if path.is_file()]
    arrays = [path for path in files if path.relative_to(copy).parts[0].isdigit()]
    objects = [path for path in arrays if not path.name.startswith((".z", "zarr.json"))]
    assert len(objects) == expected.objects
    assert len(files) == expected.objects + expected.metadata_objects + expected.journal_objects
    assert expected.bytes_to_write >= 3 * 700 * 900 * 2
    text = "\n".join(expected.lines())
    assert f"{expected.objects} {'shards' if zarr_format == 3 else 'chunks'}" in text
    assert json.loads(json.dumps(expected.to_json()))["cells"] == expected.cells


def test_prices_and_memory(tmp_path: Path) -> None:
    source = archive(tmp_path)
    free = dry_run(source, prices={"put": 0, "get": 0, "list": 0})
    assert free.dollars == 0
    dear = dry_run(source, prices={"put": 1000, "get": 0, "list": 0})
    assert dear.dollars == dear.put_requests
    with pytest.raises(ArgumentError, match="head"):
        dry_run(source, prices={"head": 1})
    with pytest.raises(ArgumentError, match="max_mem"):
        dry_run(source, max_mem="1MB")
    assert dry_run(source, max_mem="100MB").cells_in_flight >= 1
