"""``xarray.open_dataset(..., engine="cloudimg")`` and ``open_datatree``, as xarray finds them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray

import cloudimg
from cloudimg.errors import ArgumentError
from tests.conftest import Place
from tests.support import seed
from tests.support.metering import Meter

PIXELS = np.random.default_rng(5).integers(0, 2**16, (3, 2, 20, 30), np.uint16)
"""t, c, y and x: files by t that hold c."""


def encoded(t: int) -> bytes:
    metadata = {"axes": "CYX", "unit": "um", "finterval": 2.0}
    return seed.encode(PIXELS[t], imagej=True, metadata=metadata, resolution=(2, 2))


def put_all(folder: Path) -> str:
    for t in range(3):
        (folder / f"t{t}.tif").write_bytes(encoded(t))
    return str(folder / "t{t}.tif")


def test_a_dataset_in_any_store(place: Place) -> None:
    if place.name == "http":
        pytest.skip("a pattern cannot be listed there")
    for t in range(3):
        place.put(f"t{t}.tif", encoded(t))
    dataset = xarray.open_dataset(
        f"{place.url}/t{{t}}.tif",
        engine="cloudimg",
        backend_kwargs={"storage_options": place.storage_options},
    )
    np.testing.assert_array_equal(dataset.image, PIXELS)
    np.testing.assert_allclose(dataset.x, np.arange(30) * 0.5)
    assert dataset.x.attrs["units"] == "µm"


def test_pixels_are_read_where_they_are_used(meter: Meter, bucket: str) -> None:
    for t in range(3):
        meter.put(bucket, f"t{t}.tif", encoded(t))
    dataset = xarray.open_dataset(
        f"s3://{bucket}/t{{t}}.tif", engine="cloudimg", storage_options=meter.storage_options
    )
    assert dataset.image.chunks is None
    with meter.measure() as traffic:
        part = dataset.image.sel(t=4.0).isel(c=0)
        assert part.shape == (20, 30)
    assert not traffic.requests
    with meter.measure() as traffic:
        np.testing.assert_array_equal(part, PIXELS[2, 0])
    assert {request.key for request in traffic.requests} == {"t2.tif"}


@pytest.mark.parametrize(
    "index",
    [
        {"t": 1, "c": [0, 1], "y": slice(2, 14, 3), "x": 5},
        {"t": [2, 0], "y": [3, 1, 1], "x": [0, 29]},
        {"t": xarray.DataArray([0, 2], dims="p"), "x": xarray.DataArray([7, 3], dims="p")},
        {"y": slice(None, None, -2), "x": np.arange(30) % 7 == 0},
        {"t": slice(1, 1)},
    ],
)
def test_indexing_is_that_of_an_array_in_memory(tmp_path: Path, index: dict[str, Any]) -> None:
    dataset = xarray.open_dataset(put_all(tmp_path), engine="cloudimg", cache=False)
    expected = xarray.DataArray(PIXELS, dims=("t", "c", "y", "x")).isel(index)
    found = dataset.image.isel(index)
    assert found.dims == expected.dims
    np.testing.assert_array_equal(found, expected)
    arrived = pickle.loads(pickle.dumps(dataset.image.isel(index)))
    np.testing.assert_array_equal(arrived, expected)


def test_chunks_are_those_of_dask(tmp_path: Path) -> None:
    url = put_all(tmp_path)
    whole = xarray.open_dataset(url, engine="cloudimg", chunks={})
    assert whole.image.chunks == cloudimg.open(url).chunks
    np.testing.assert_array_equal(whole.image, PIXELS)
    assert xarray.open_dataset(url, engine="cloudimg", chunks="auto").image.chunks is not None


def test_the_arguments_of_open(tmp_path: Path) -> None:
    url = put_all(tmp_path)
    part = xarray.open_dataset(
        url, engine="cloudimg", select={"t": [0, 2], "c": 1}, drop_variables="t_label"
    )
    np.testing.assert_array_equal(part.image, PIXELS[::2, 1])
    assert "t_label" not in part.coords
    with pytest.raises(ArgumentError, match="no argument chunk_size="):
        xarray.open_dataset(url, engine="cloudimg", chunk_size=3)
    with pytest.raises(ArgumentError, match="level=1, but the image has 1 level"):
        xarray.open_dataset(url, engine="cloudimg", level=1)


def test_only_patterns_are_guessed(tmp_path: Path) -> None:
    np.testing.assert_array_equal(xarray.open_dataset(put_all(tmp_path)).image, PIXELS)
    for name in (tmp_path / "t0.tif", tmp_path / "a.nc", "https://example.org/{x}/data"):
        engines = xarray.backends.list_engines()
        assert not engines["cloudimg"].guess_can_open(name)
    assert not engines["cloudimg"].guess_can_open(b"II*\0")


def test_nodata_becomes_nan_on_request(tmp_path: Path) -> None:
    pixels = np.array([[1, 2], [65535, 4]], np.uint16)
    extra = [(42113, "s", 0, "65535", True)]  # GDAL_NODATA
    (tmp_path / "n.tif").write_bytes(seed.encode(pixels, extratags=extra, metadata=None))
    plain = xarray.open_dataset(tmp_path / "n.tif", engine="cloudimg")
    assert plain.image.dtype == np.uint16
    masked = xarray.open_dataset(tmp_path / "n.tif", engine="cloudimg", mask_and_scale=True)
    np.testing.assert_array_equal(masked.image, [[1, 2], [np.nan, 4]])


def test_levels_as_a_tree(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (100, 130), np.uint8)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(pixels, subifds=1, tile=(32, 32))
        file.write(pixels[::2, ::2], subfiletype=1, tile=(32, 32))
    for chunks in (None, {}):
        tree = xarray.open_datatree(tmp_path / "slide.tif", engine="cloudimg", chunks=chunks)
        assert (tree["level0"].image.chunks is None) == (chunks is None)
        np.testing.assert_array_equal(tree["level0"].image, pixels)
        np.testing.assert_array_equal(tree["level1"].image, pixels[::2, ::2])
    groups = xarray.open_groups(tmp_path / "slide.tif", engine="cloudimg")
    assert set(groups) == {"/level0", "/level1"}


def test_secrets_in_urls_stay_out_of_the_dataset(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a.tif", encoded(0))
    url = f"{meter.endpoint}/{bucket}/a.tif?X-Amz-Signature=secretsecret"
    dataset = xarray.open_dataset(url, engine="cloudimg")
    assert "secretsecret" not in str(dataset.encoding) + repr(dataset) + str(dataset.image.encoding)
    np.testing.assert_array_equal(dataset.image, PIXELS[0])


@pytest.mark.slow
def test_guessing_an_engine_imports_nothing_else() -> None:
    """xarray loads all engines to guess one."""
    code = (
        "import sys, xarray; xarray.backends.list_engines()['cloudimg'];"
        "print(*(name for name in sys.modules if name.startswith('cloudimg')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) == {"cloudimg", "cloudimg.__about__", "cloudimg.interop",
                      "cloudimg.interop.xarray_backend"}  # fmt: skip
