"""Histograms: cells add up in any order, and a viewer can use the limits."""

from __future__ import annotations

import json
import math
import random
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudimg.migration.encode.histogram import Histogram, measure

INTEGERS = ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"]
FLOATS = ["<f2", "<f4", "<f8"]
ALL = [*INTEGERS, *FLOATS, "|b1", "<c8", "<c16"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=8)
PIXELS = hnp.arrays(st.sampled_from(ALL), SHAPES)


def only(pixels: Any) -> Histogram:
    (found,) = measure(np.asarray(pixels), None)
    return found


def text_of(histogram: Histogram) -> str:
    """Everything that a histogram contains, as text."""
    return json.dumps(histogram.to_json(), allow_nan=False, sort_keys=True)


def assert_usable(limits: tuple[float, float, float, float]) -> None:
    start, end, least, greatest = limits
    assert all(type(each) in (int, float) for each in limits)
    assert all(math.isfinite(each) for each in limits)
    assert start < end
    assert least <= start
    assert end <= greatest
    json.dumps(limits, allow_nan=False)


# Merging


@given(
    dtype=st.sampled_from(ALL),
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=5),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_cells_add_up_in_any_order(
    dtype: str, shapes: list[tuple[int, int]], seed: int, data: st.DataObject
) -> None:
    parts = [only(data.draw(hnp.arrays(dtype, shape))) for shape in shapes]
    whole = text_of(reduce(Histogram.merge, parts))
    random.Random(seed).shuffle(parts)
    assert text_of(reduce(Histogram.merge, parts)) == whole
    backwards = reduce(lambda right, left: left.merge(right), reversed(parts))  # the other way
    assert text_of(backwards) == whole


@pytest.mark.parametrize("dtype", FLOATS)
def test_signed_zeros_add_up_in_any_order(dtype: str) -> None:
    plus, minus = only(np.array([0.0], dtype)), only(np.array([-0.0], dtype))
    assert text_of(plus.merge(minus)) == text_of(minus.merge(plus))


@given(pixels=PIXELS, data=st.data())
def test_the_parts_of_an_image_are_the_image(pixels: np.ndarray, data: st.DataObject) -> None:
    flat = pixels.ravel()
    at = data.draw(st.integers(0, len(flat)))
    parts = only(flat[:at]).merge(only(flat[at:]))
    assert text_of(parts) == text_of(only(flat))
    assert parts.limits() == only(flat).limits()


@given(pixels=PIXELS)
def test_json(pixels: np.ndarray) -> None:
    found = only(pixels)
    again = Histogram.from_json(json.loads(text_of(found)))
    assert text_of(again) == text_of(found)
    assert again.limits() == found.limits()
    assert text_of(again.merge(found)) == text_of(found.merge(found))


def test_json_is_small() -> None:
    rng = np.random.default_rng(1)
    for pixels in (rng.normal(1000, 200, (2000, 2000)), rng.integers(0, 2**16, (900, 900), "u2")):
        assert len(text_of(only(pixels))) < 400_000
    camera = rng.poisson(100, (2000, 2000)).astype("u2")
    assert len(text_of(only(camera))) < 2000


# Limits


@given(pixels=PIXELS)
def test_limits_are_usable_whatever_the_pixels_are(pixels: np.ndarray) -> None:
    assert_usable(only(pixels).limits())


def constants() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for dtype in INTEGERS:
        ends = np.iinfo(dtype)
        found += [(dtype, value) for value in (0, 1, 100, ends.min, ends.max)]
    for dtype in FLOATS:
        ends = np.finfo(dtype)
        values = (0, -0.0, 1, -1, 0.3, -0.3, ends.tiny, -ends.tiny, ends.max, ends.min)
        found += [(dtype, float(value)) for value in values]
        found += [(dtype, value) for value in (math.nan, math.inf, -math.inf)]
    found += [("<c8", 1 + 1j), ("<c16", complex(math.nan, 1)), ("|b1", False), ("|b1", True)]
    return found


@pytest.mark.parametrize(("dtype", "value"), constants())
def test_limits_of_constant_images(dtype: str, value: Any) -> None:
    assert_usable(only(np.full((5, 7), value, dtype)).limits())


@pytest.mark.parametrize("dtype", ["<c8", "<c16"])
def test_complex_numbers_too_large_for_a_magnitude(dtype: str) -> None:
    largest = np.finfo(dtype).max
    pixels = np.full((2, 2), complex(largest, largest), dtype)
    assert_usable(only(pixels).limits())


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_do_not_count(dtype: str) -> None:
    pixels = np.arange(100, dtype=dtype)
    beside = np.concatenate((pixels, [math.nan, math.inf, -math.inf])).astype(dtype)
    assert text_of(only(beside)) == text_of(only(pixels))
    assert only(beside).limits()[2:] == (0, 99)


def test_limits_without_pixels() -> None:
    assert_usable(only(np.zeros((0, 4), "u2")).limits())
    nothing = only(np.full((3, 3), math.nan))
    assert_usable(nothing.limits())
    assert text_of(nothing.merge(only(np.arange(9.0)))) == text_of(only(np.arange(9.0)))


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "|i1", "<i2"])
def test_limits_of_small_integers_are_exact(dtype: str) -> None:
    rng = np.random.default_rng(2)
    pixels = np.sort(rng.integers(-50 if dtype[1] == "i" else 10, 100, 10_000).astype(dtype))
    pixels[:3], pixels[-3:] = pixels[3], 120  # fewer than a thousandth
    start, end, least, greatest = only(pixels).limits()
    assert (start, end) == (pixels[10], pixels[-11])
    assert (least, greatest) == (pixels[0], 120)


@pytest.mark.parametrize(
    ("low", "high"),
    [(1e6, 1e6 + 3000), (1000, 1003), (-1003, -1000), (-5, 5), (0, 1), (0.001, 0.002), (-1, 0)],
)
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4", "<i8"])
def test_nearly_all_pixels_lie_within_the_limits(dtype: str, low: float, high: float) -> None:
    """A thousandth at either end may be clipped, but not most of the image."""
    if dtype[1] == "i" and low != round(low):
        pytest.skip("there are no such integers")
    pixels = np.linspace(low, high, 20_001).astype(dtype)
    start, end, *_ = only(pixels).limits()
    within = ((pixels >= start) & (pixels <= end)).mean()
    assert within >= 0.99


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<u2", "<u4"])
def test_few_hot_pixels_do_not_spread_the_limits(dtype: str) -> None:
    pixels = np.random.default_rng(3).normal(1000, 100, (300, 300)).astype(dtype)
    pixels[5, :5] = 60_000
    start, end, least, greatest = only(pixels).limits()
    assert 500 < start < 800
    assert 1200 < end < 1600
    assert least <= 700
    assert greatest == 60_000


@pytest.mark.parametrize("dtype", ["<u4", "<i4", "<u8", "<i8", "<f4", "<f8"])
@pytest.mark.parametrize("value", [1, 200, 1000, 70_001, 2**24 + 1])
def test_limits_of_images_with_one_value_but_for_a_few(dtype: str, value: int) -> None:
    """Both limits are in the same bin, whose edges are fractions."""
    pixels = np.full(20_000, value, dtype)
    pixels[:2] = 0
    pixels[-2:] = 2 * value
    assert_usable(only(pixels).limits())
    if dtype[1] == "i":
        assert_usable(only(-pixels).limits())


def test_wide_values_have_limits_near_theirs() -> None:
    for values in ([0.0, 1e300], [-1e300, 1e300], [1e200, 1e300]):
        start, end, least, greatest = only(np.array(values, float)).limits()
        assert_usable((start, end, least, greatest))
        assert (least, greatest) == (values[0], values[1])


# Channels and samples


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_each_channel_has_its_own(axis: int) -> None:
    pixels = np.moveaxis(np.arange(3 * 20 * 30).reshape(3, 20, 30).astype("u2"), 0, axis)
    found = measure(pixels, axis)
    assert [text_of(each) for each in found] == [
        text_of(only(part)) for part in np.moveaxis(pixels, axis, 0)
    ]
    assert len(found) == 3


def test_large_images_are_sampled_regularly() -> None:
    pixels = np.random.default_rng(4).integers(0, 4000, (3, 1500, 2100), "u2")
    found = only(pixels)
    assert 2**16 <= found.counts.sum() <= 2**18
    assert text_of(only(pixels)) == text_of(found)
    start, end, *_ = found.limits()
    assert start < 20
    assert end > 3980


@pytest.mark.parametrize("shape", [(1, 1, 2**18 + 1), (2**19, 1), (2, 2, 2, 2, 2**16)])
def test_samples_of_odd_shapes(shape: tuple[int, ...]) -> None:
    found = only(np.ones(shape, "u1"))
    assert 2**16 <= found.counts.sum() <= 2**18
