"""`verify` computes levels again by other code than that which writes them."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cloudimg
from cloudimg.migration.encode.downsample import downsample
from cloudimg.migration.verify.expected_level import expected_level

Array = np.ndarray[Any, Any]
INTEGERS = ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"]
FLOATS = ["<f2", "<f4", "<f8"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7)


def arrays(dtype: str) -> st.SearchStrategy[Array]:
    """Arrays with few different values, or with any, also at the ends of the range."""
    found = np.dtype(dtype)
    few = st.sampled_from([found.type(v) for v in (0, 1, 2, 3)])
    both = hnp.arrays(found, SHAPES) | hnp.arrays(found, SHAPES, elements=few)
    # NaN with a sign or content of their own would make each comparison depend on the processor.
    return both.map(lambda a: np.where(a == a, a, found.type(math.nan)) if found.kind == "f" else a)


def factors_for(data: st.DataObject, pixels: Array) -> tuple[int, ...]:
    return tuple(data.draw(st.integers(1, 4)) for _ in pixels.shape)


@pytest.mark.parametrize("method", ["mean", "mode", "nearest"])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "|b1"])
@settings(max_examples=20)
@given(data=st.data())
def test_both_codes_agree(dtype: str, method: str, data: st.DataObject) -> None:
    pixels = data.draw(arrays(dtype))
    factors = factors_for(data, pixels)
    found = downsample(pixels, factors, method)
    expected = expected_level(pixels, factors, method, None)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@settings(max_examples=20)
@given(data=st.data())
def test_both_codes_agree_on_nodata(dtype: str, data: st.DataObject) -> None:
    pixels = data.draw(arrays(dtype))
    choices = [pixels.dtype.type(2), *pixels.ravel()[:3]]
    if pixels.dtype.kind == "f":
        choices.append(pixels.dtype.type(math.nan))
    nodata = data.draw(st.sampled_from(choices))
    factors = factors_for(data, pixels)
    found = downsample(pixels, factors, "mean", nodata)
    assert found.tobytes() == expected_level(pixels, factors, "mean", nodata).tobytes()


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (4096, 4096), np.uint16)
    for method in ("mean", "mode"):
        tracemalloc.start()
        expected_level(pixels, (2, 2), method, None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * pixels.nbytes


def test_a_writer_that_computes_levels_wrongly_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksums are right, since they are of what it stored."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    options: Any = {"dims": ("y", "x"), "chunks": 16, "shards": 32, "levels": 3}
    cloudimg.to_zarr(pixels, tmp_path / "right.zarr", **options)
    assert cloudimg.verify(tmp_path / "right.zarr")

    def rounded_down(below: Array, factors: Any, method: str, nodata: Any = None) -> Array:
        right = downsample(below, factors, method, nodata)
        return np.where(right > 128, right - 1, right).astype(right.dtype)

    monkeypatch.setattr("cloudimg.migration.run.cell.downsample", rounded_down)
    cloudimg.to_zarr(pixels, tmp_path / "wrong.zarr", **options)
    proof = cloudimg.verify(tmp_path / "wrong.zarr")
    assert not proof
    assert "level 1 does not follow from the level below it" in str(proof)
    assert "level 2 does not follow from the level below it" in str(proof)
