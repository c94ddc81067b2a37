"""`AxesMapping`: a region of the source and the same region of the images have the same pixels.

The reference transposes the whole image once and slices regions from the result.
"""

from __future__ import annotations

import math
import pickle
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.errors import ArgumentError
from cloudimg.migration.plan.axes_mapping import AxesMapping

FURTHER = ("well", "pos", "angle")


@st.composite
def sources(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Axes in any order, with up to three that OME-Zarr does not define."""
    others = draw(st.sets(st.sampled_from(("t", "c", "s", "z", *FURTHER)), max_size=5))
    dims = tuple(draw(st.permutations(sorted(others | {"y", "x"}))))
    return dims, tuple(draw(st.integers(1, 4)) for _ in dims)


def image_of(shape: tuple[int, ...], dtype: str = "<i4") -> np.ndarray:
    """Pixels that all have different values."""
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)


def reference(dims: tuple[str, ...], pixels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Dims of the images, and all images stacked along a first axis, computed from the rules."""
    length = dict(zip(dims, pixels.shape, strict=True))
    further = [dim for dim in dims if dim not in ("t", "c", "s", "z", "y", "x")]
    colors = [dim for dim in ("c", "s") if dim in dims]
    if len(further) == 1 and not colors:
        lead, middle, name = [], further, further[0]
    else:
        lead, middle, name = further, colors, "c"
    order = [
        *lead, *(["t"] if "t" in dims else []), *middle, *(["z"] if "z" in dims else []), "y", "x"
    ]  # fmt: skip
    moved = pixels.transpose([dims.index(dim) for dim in order])
    of_images = ["t"] * ("t" in dims) + [name] * bool(middle) + ["z"] * ("z" in dims) + ["y", "x"]
    shape = [math.prod(length[d] for d in middle) if d == name else length[d] for d in of_images]
    return tuple(of_images), moved.reshape([-1, *shape])


def draw_region(data: st.DataObject, shape: Any, alignment: Any) -> tuple[slice, ...]:
    """A region that is not empty and is a multiple of the alignment."""
    region = []
    for length, unit in zip(shape, alignment, strict=True):
        start = data.draw(st.integers(0, length // unit - 1))
        stop = data.draw(st.integers(start + 1, length // unit))
        region.append(slice(start * unit, stop * unit))
    return tuple(region)


def draw_regions(data: st.DataObject, axes: AxesMapping) -> tuple[tuple[slice, ...], ...]:
    """A region of the lead dims, and one of the images."""
    lead = draw_region(data, axes.lead_shape, [1] * len(axes.lead_shape))
    return lead, draw_region(data, axes.shape, axes.alignment)


@given(source=sources())
def test_axes_follow_the_rules(source: Any) -> None:
    dims, shape = source
    axes = AxesMapping(dims, shape)
    expected, images = reference(dims, image_of(shape))
    assert axes.dims == expected
    assert (axes.n_images, *axes.shape) == images.shape
    assert axes.n_images * math.prod(axes.shape) == math.prod(shape)
    assert 2 <= len(axes.dims) <= 5
    assert all(n % unit == 0 for n, unit in zip(axes.shape, axes.alignment, strict=True))
    again = pickle.loads(pickle.dumps(axes))
    assert (again.dims, again.shape, again.lead_dims) == (axes.dims, axes.shape, axes.lead_dims)


@given(source=sources(), data=st.data())
def test_regions_of_images_have_the_pixels_of_the_source(source: Any, data: st.DataObject) -> None:
    dims, shape = source
    axes, pixels = AxesMapping(dims, shape), image_of(shape)
    _, images = reference(dims, pixels)
    lead, region = draw_regions(data, axes)
    found = axes.from_source_pixels(pixels[axes.to_source(lead, region)])
    numbers = np.arange(axes.n_images).reshape(axes.lead_shape)[lead].ravel()
    np.testing.assert_array_equal(found, images[numbers][(slice(None), *region)])
    assert found.flags.c_contiguous
    assert found.dtype == pixels.dtype


@given(source=sources(), data=st.data())
def test_regions_of_the_source_have_the_pixels_of_the_images(
    source: Any, data: st.DataObject
) -> None:
    dims, shape = source
    axes, pixels = AxesMapping(dims, shape), image_of(shape)
    _, images = reference(dims, pixels)
    # The samples of a pixel are never split.
    alignment = [n if dim == "s" else 1 for dim, n in zip(dims, shape, strict=True)]
    region = draw_region(data, shape, alignment)
    chosen, inside = axes.to_plan(region)
    stacked = np.stack([images[image][inside] for image in chosen])
    assert stacked.size == pixels[region].size
    np.testing.assert_array_equal(axes.to_source_pixels(stacked, region), pixels[region])


@given(source=sources(), data=st.data())
def test_regions_map_to_the_source_and_back(source: Any, data: st.DataObject) -> None:
    dims, shape = source
    axes = AxesMapping(dims, shape)
    lead, region = draw_regions(data, axes)
    images, inside = axes.to_plan(axes.to_source(lead, region))
    assert images == np.arange(axes.n_images).reshape(axes.lead_shape)[lead].ravel().tolist()
    assert [(s.start, s.stop) for s in inside] == [(s.start, s.stop) for s in region]


@given(source=sources(), data=st.data())
def test_boundaries_of_the_source_become_boundaries_of_the_images(
    source: Any, data: st.DataObject
) -> None:
    dims, shape = source
    axes = AxesMapping(dims, shape)
    # The samples of a pixel are in the same segment, except in planar files.
    boundaries = [
        np.array([0, n])
        if dim == "s"
        else np.array(sorted({0, n} | data.draw(st.sets(st.integers(0, n)))))
        for dim, n in zip(dims, shape, strict=True)
    ]
    for dim, length, unit, found in zip(
        axes.dims, axes.shape, axes.alignment, axes.boundaries(boundaries), strict=True
    ):
        assert found.dtype == np.int64
        assert (found[0], found[-1]) == (0, length)
        assert (np.diff(found) > 0).all()
        expected = boundaries[dims.index(dim)] * unit if dim in dims else np.array([0, length])
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dims", "found", "lead"),
    [
        ("yx", "yx", ""),
        ("xy", "yx", ""),
        ("ctzyx", "tczyx", ""),
        ("yxs", "cyx", ""),
        ("cyxs", "cyx", ""),
        (("angle", "y", "x"), ("angle", "y", "x"), ""),
        (("t", "angle", "z", "y", "x"), ("t", "angle", "z", "y", "x"), ""),
        (("angle", "c", "y", "x"), "cyx", ("angle",)),
        (("angle", "y", "x", "s"), "cyx", ("angle",)),
        (("pos", "well", "z", "y", "x"), "zyx", ("pos", "well")),
    ],
)
def test_examples(dims: Any, found: Any, lead: Any) -> None:
    axes = AxesMapping(dims, range(2, 2 + len(dims)))
    assert (axes.dims, axes.lead_dims) == (tuple(found), tuple(lead))


def test_samples_are_the_fastest_of_the_channels() -> None:
    axes = AxesMapping("cyxs", (2, 1, 1, 3))
    assert axes.shape == (6, 1, 1)
    pixels = np.array([10, 11, 12, 20, 21, 22]).reshape(2, 1, 1, 3)
    assert axes.from_source_pixels(pixels).ravel().tolist() == [10, 11, 12, 20, 21, 22]


@pytest.mark.parametrize("dims", [*list(permutations("yxs")), ("c", "y", "x", "s")])
@pytest.mark.parametrize("part", [slice(0, 1), slice(1, 3), slice(2, 3), slice(0, 2)])
def test_regions_that_split_pixels_are_refused(dims: tuple[str, ...], part: slice) -> None:
    axes = AxesMapping(dims, [3 if dim == "s" else 2 for dim in dims])
    with pytest.raises(
        ArgumentError, match=f"channels {part.start}-{part.stop} split pixels of 3 samples"
    ):
        axes.to_source((), (part, slice(0, 2), slice(0, 2)))


@pytest.mark.parametrize("dtype", [">u2", ">f8", "<u2", ">c16", "|u1", "bool"])
def test_pixels_are_little_endian(dtype: str) -> None:
    pixels = image_of((3, 2, 4), dtype)
    found = AxesMapping("cyx", pixels.shape).from_source_pixels(pixels)
    assert found.dtype == np.dtype(dtype).newbyteorder("<")
    np.testing.assert_array_equal(found, pixels[np.newaxis])


def test_nothing_is_copied_where_nothing_moves() -> None:
    pixels = image_of((3, 2, 4))
    assert np.shares_memory(AxesMapping("zyx", pixels.shape).from_source_pixels(pixels), pixels)


@pytest.mark.parametrize("dims", ["y", "tx", "", "czs"])
def test_an_image_needs_y_and_x(dims: str) -> None:
    with pytest.raises(ArgumentError, match="needs the axes y and x"):
        AxesMapping(dims, (2,) * len(dims))
