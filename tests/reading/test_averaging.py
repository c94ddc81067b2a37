"""Means of pixels that lie over each other, compared with exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudimg.reading import averaging
from cloudimg.reading.averaging import Layer, average

INTEGERS = ["bool", "uint8", "int8", ">u2", "int32", "uint64", "int64"]


@settings(max_examples=50)
@given(
    data=st.data(),
    dtype=st.sampled_from([*map(np.dtype, INTEGERS), np.dtype("float32"), np.dtype("complex64")]),
    band_bytes=st.sampled_from([1, 500, 2**25]),
)
def test_random_layers(data: st.DataObject, dtype: np.dtype, band_bytes: int) -> None:
    """With the extremes of 64 bits, and in bands of any height."""
    out = np.ones((2, 7, 5), dtype)
    values: dict[tuple[int, ...], list[object]] = {}
    layers = []
    for seed in range(data.draw(st.integers(0, 5))):
        top, left = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 4))
        rows = slice(top, data.draw(st.integers(top + 1, 7)))
        columns = slice(left, data.draw(st.integers(left + 1, 5)))
        t = data.draw(st.integers(0, 1))
        shape = (rows.stop - top, columns.stop - left)
        rng = np.random.default_rng(seed)
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            ends = np.array([info.min, info.max, info.max - 1, 0], dtype)
            pixels = rng.choice(ends, shape)
        else:
            pixels = rng.integers(0, 2, shape).astype(dtype)
        layers.append(Layer((t, rows, columns), pixels))
        for (row, column), value in np.ndenumerate(pixels):
            values.setdefault((t, top + row, left + column), []).append(value.item())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaging, "_BAND_BYTES", band_bytes)
        average(out, layers, 1)
    for index, found in np.ndenumerate(out):
        if index not in values:
            assert found == np.ones(1, dtype)[0]
        elif dtype.kind in "iub":
            mean = Fraction(sum(values[index]), len(values[index]))  # type: ignore[call-overload]
            assert int(found) == floor(mean + Fraction(1, 2))
        else:
            assert found == np.mean(values[index]).astype(dtype)
