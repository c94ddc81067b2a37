"""Properties of `cloudimg.tiff.geometry`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.tiff.geometry import find_geometry


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
