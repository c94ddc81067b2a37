"""Levels equal a block-by-block computation in plain Python, however the image is divided."""

from __future__ import annotations

import itertools
import math
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudimg.migration.encode.downsample import downsample

INTEGERS = ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"]
FLOATS = ["<f2", "<f4", "<f8"]
ALL = [*INTEGERS, *FLOATS, "|b1", "<c8", "<c16"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6)


def factors_for(data: st.DataObject, pixels: np.ndarray) -> tuple[int, ...]:
    return tuple(data.draw(st.integers(1, 4)) for _ in pixels.shape)


def naive(pixels: np.ndarray, factors: Any, of_block: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Reduce block by block."""
    shape = [math.ceil(n / f) for n, f in zip(pixels.shape, factors, strict=True)]
    out = np.empty(shape, pixels.dtype)
    for at in np.ndindex(*shape):
        block = tuple(slice(i * f, (i + 1) * f) for i, f in zip(at, factors, strict=True))
        out[at] = of_block(pixels[block])
    return out


def half_up(block: np.ndarray) -> int:
    values = [int(v) for v in block.ravel()]
    return math.floor(Fraction(sum(values), len(values)) + Fraction(1, 2))


def most_frequent(block: np.ndarray) -> Any:
    counts = Counter(block.ravel().tolist())
    return min(counts, key=lambda value: (-counts[value], value))


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal bit by bit, since any worker may write a level."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes(), f"{found!r} is not {expected!r}"


# mean


@given(pixels=hnp.arrays(st.sampled_from(INTEGERS), SHAPES), data=st.data())
def test_means_of_integers_are_rounded_half_up(pixels: np.ndarray, data: st.DataObject) -> None:
    factors = factors_for(data, pixels)
    assert_same(downsample(pixels, factors, "mean"), naive(pixels, factors, half_up))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("factors", [(2, 2), (3, 3), (1, 5), (4, 4), (7, 1)])
def test_means_at_the_ends_of_the_range(dtype: str, factors: tuple[int, int]) -> None:
    ends = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    near = [ends.min, ends.min + 1, ends.max - 1, ends.max]
    pixels = rng.choice(np.array(near, dtype), (15, 15))
    for each in (pixels, np.full((15, 15), ends.max, dtype), np.full((15, 15), ends.min, dtype)):
        assert_same(downsample(each, factors, "mean"), naive(each, factors, half_up))


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<i2", "<u8", "<i8"])
def test_means_of_large_blocks_do_not_overflow(dtype: str) -> None:
    for value in (np.iinfo(dtype).max, np.iinfo(dtype).min):
        pixels = np.full((200, 200), value, dtype)
        assert_same(downsample(pixels, (200, 200), "mean"), np.full((1, 1), value, dtype))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([2, 3], 3), ([-2, -3], -2), ([0, 1], 1), ([0, -1], 0), ([1, 1, 2], 1), ([-1, -1, -2], -1)],
)
def test_halves(values: list[int], expected: int) -> None:
    for dtype in ("|i1", "<i2", "<i4", "<i8"):
        found = downsample(np.array(values, dtype), (len(values),), "mean")
        assert found.tolist() == [expected]


@given(pixels=hnp.arrays("?", SHAPES), data=st.data())
def test_means_of_bool_are_majorities(pixels: np.ndarray, data: st.DataObject) -> None:
    factors = factors_for(data, pixels)
    expected = naive(pixels, factors, lambda block: 2 * block.sum() >= block.size)
    assert_same(downsample(pixels, factors, "mean"), expected)


@given(
    pixels=st.sampled_from(FLOATS).flatmap(
        lambda kind: hnp.arrays(
            kind, SHAPES, elements=hnp.from_dtype(np.dtype(kind), min_value=-999, max_value=999)
        )
    ),
    data=st.data(),
)
def test_means_of_floats(pixels: np.ndarray, data: st.DataObject) -> None:
    factors = factors_for(data, pixels)

    def mean(block: np.ndarray) -> float:
        exact = sum(Fraction(float(v)) for v in block.ravel()) / block.size
        return float(exact)

    found = downsample(pixels, factors, "mean")
    expected = naive(pixels, factors, mean)
    assert found.dtype == pixels.dtype
    one_apart = np.spacing(np.abs(expected))  # sums in double precision may round differently
    assert (np.abs(found.astype("f8") - expected.astype("f8")) <= one_apart + 1e-12).all()


@given(
    pixels=st.sampled_from(FLOATS).flatmap(lambda kind: hnp.arrays(kind, SHAPES)), data=st.data()
)
def test_nan_and_infinity_spread_without_warnings(pixels: np.ndarray, data: st.DataObject) -> None:
    factors = factors_for(data, pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = downsample(pixels, factors, "mean")

    def kind_of(block: np.ndarray) -> float:
        """NaN if it must be NaN, an infinity if there is only one of the two, else 0."""
        has = {math.inf: (block == np.inf).any(), -math.inf: (block == -np.inf).any()}
        if np.isnan(block).any() or all(has.values()):
            return math.nan
        return next((sign for sign, there in has.items() if there), 0.0)

    expected = naive(pixels, factors, kind_of)
    assert (np.isnan(found) >= np.isnan(expected)).all()
    certain = np.isinf(expected)
    np.testing.assert_array_equal(found[certain], expected[certain])


def test_means_of_complex_numbers_are_those_of_their_parts() -> None:
    rng = np.random.default_rng(5)
    pixels = (rng.integers(-9, 9, (7, 5)) + 1j * rng.integers(-9, 9, (7, 5))).astype("<c8")
    found = downsample(pixels, (2, 2), "mean")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found.real, downsample(pixels.real.copy(), (2, 2), "mean"))
    np.testing.assert_array_equal(found.imag, downsample(pixels.imag.copy(), (2, 2), "mean"))


# nearest and mode


@given(pixels=hnp.arrays(st.sampled_from(ALL), SHAPES), data=st.data())
def test_nearest_is_the_lower_one_in_the_middle(pixels: np.ndarray, data: st.DataObject) -> None:
    factors = factors_for(data, pixels)

    def middle(block: np.ndarray) -> Any:
        at = zip(block.shape, factors, strict=True)
        return block[tuple(min((f - 1) // 2, n - 1) for n, f in at)]

    assert_same(downsample(pixels, factors, "nearest"), naive(pixels, factors, middle))


@given(
    pixels=hnp.arrays(
        st.sampled_from([*INTEGERS, *FLOATS, "|b1"]), SHAPES, elements=st.integers(0, 1)
    )
    | hnp.arrays(st.sampled_from([*INTEGERS, *FLOATS]), SHAPES, elements=st.integers(0, 5)),
    data=st.data(),
)
def test_mode_is_the_most_frequent_the_least_of_several(
    pixels: np.ndarray, data: st.DataObject
) -> None:
    factors = factors_for(data, pixels)
    assert_same(downsample(pixels, factors, "mode"), naive(pixels, factors, most_frequent))


@pytest.mark.parametrize("dtype", ["<u4", "<u8", "<i8"])
def test_labels_stay_exact(dtype: str) -> None:
    labels = np.array([0, 2**31, np.iinfo(dtype).max, np.iinfo(dtype).max - 1], dtype)
    pixels = np.random.default_rng(2).choice(labels, (9, 11, 13))
    expected = naive(pixels, (2, 2, 2), most_frequent)
    assert_same(downsample(pixels, (2, 2, 2), "mode"), expected)


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "<u4", "<f4"])
@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (4, 4)])
def test_mode_of_objects_with_borders(dtype: str, factors: tuple[int, int]) -> None:
    """Most blocks hold one value, some do not."""
    objects = np.random.default_rng(4).integers(0, 2 if dtype == "|b1" else 9, (6, 5))
    pixels = np.kron(objects, np.ones((7, 7), int)).astype(dtype)
    assert_same(downsample(pixels, factors, "mode"), naive(pixels, factors, most_frequent))


# Whatever the method


@given(
    pixels=hnp.arrays(st.sampled_from(ALL), SHAPES),
    method=st.sampled_from(["mean", "nearest", "mode"]),
    data=st.data(),
)
def test_the_division_into_cells_does_not_matter(
    pixels: np.ndarray, method: str, data: st.DataObject
) -> None:
    factors = factors_for(data, pixels)
    whole = downsample(pixels, factors, method)
    in_cells = np.empty_like(whole)
    cells = [data.draw(st.integers(1, 3)) for _ in factors]
    starts = [range(0, n, k) for n, k in zip(whole.shape, cells, strict=True)]
    for start in itertools.product(*starts):
        into = tuple(slice(i, i + k) for i, k in zip(start, cells, strict=True))
        source = tuple(
            slice(i * f, (i + k) * f) for i, k, f in zip(start, cells, factors, strict=True)
        )
        in_cells[into] = downsample(pixels[source], factors, method)
    assert_same(in_cells, whole)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("zeros", [[0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0, 0.0, 0.0]])
def test_signed_zeros_do_not_depend_on_their_neighbours(dtype: str, zeros: list[float]) -> None:
    """There is a shortcut if all blocks are uniform, which must give the same result."""
    block = np.array(zeros, dtype)
    alone = downsample(block, block.shape, "mode")
    beside = downsample(np.append(block, np.arange(len(block), dtype=dtype)), block.shape, "mode")
    assert alone.tobytes() == beside[:1].tobytes()


@pytest.mark.parametrize("method", ["mean", "mode"])
@pytest.mark.parametrize("dtype", [*FLOATS, "<c8", "<c16"])
def test_bits_of_nan_do_not_depend_on_the_division(dtype: str, method: str) -> None:
    """The sign of a sum of two NaN depends on the processor, so it must be cleared."""
    real = f"<f{np.dtype(dtype).itemsize // (1 + dtype.startswith('<c'))}"
    values = np.array([np.nan, -np.nan, 1, np.inf, -np.inf], real)
    pixels = np.random.default_rng(0).choice(values, (64, 148)).view(dtype)
    whole = downsample(pixels, (2, 2), method)
    rows = [downsample(pixels[i : i + 2], (2, 2), method) for i in range(0, 64, 2)]
    columns = [downsample(pixels[:, i : i + 2], (2, 2), method) for i in range(0, len(pixels.T), 2)]
    assert_same(np.concatenate(rows), whole)
    assert_same(np.concatenate(columns, axis=1), whole)


@pytest.mark.parametrize("method", ["mean", "nearest", "mode"])
@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ((3, 1501, 1999), (1, 2, 2)),
        ((1, 1, 5_000_001), (1, 1, 2)),
        ((130, 201, 203), (2, 2, 2)),
        ((2_000_001, 3), (3, 1)),
    ],
)
def test_large_arrays_are_worked_on_in_slabs(
    shape: tuple[int, ...], factors: tuple[int, ...], method: str
) -> None:
    """Parts computed alone equal those of the whole array, which takes little memory."""
    pixels = np.random.default_rng(3).integers(0, 4, shape, "u2")
    tracemalloc.start()
    found = downsample(pixels, factors, method)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - found.nbytes < 80 * 2**20
    rng = np.random.default_rng(4)
    for _ in range(20):
        start = [int(rng.integers(0, n)) for n in found.shape]
        into = tuple(slice(i, i + 3) for i in start)
        part = tuple(slice(i * f, (i + 3) * f) for i, f in zip(start, factors, strict=True))
        assert_same(np.ascontiguousarray(found[into]), downsample(pixels[part], factors, method))


@pytest.mark.parametrize("method", ["mean", "nearest", "mode"])
@pytest.mark.parametrize("dtype", ALL)
def test_factors_beyond_the_image_and_of_one(dtype: str, method: str) -> None:
    pixels = np.ones((3, 4), dtype)
    assert_same(downsample(pixels, (1, 1), method), pixels)
    assert_same(downsample(pixels, (100, 9), method), np.ones((1, 1), dtype))


@pytest.mark.parametrize("method", ["mean", "nearest", "mode"])
def test_views_and_read_only_pixels(method: str) -> None:
    pixels = np.random.default_rng(6).integers(0, 5, (9, 8, 7), "u2")
    pixels.flags.writeable = False
    view = pixels[::-1].transpose(2, 0, 1)
    before = pixels.copy()
    expected = downsample(np.ascontiguousarray(view), (2, 3, 2), method)
    assert_same(np.ascontiguousarray(downsample(view, (2, 3, 2), method)), expected)
    np.testing.assert_array_equal(pixels, before)
