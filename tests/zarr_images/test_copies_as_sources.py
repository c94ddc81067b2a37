"""Copies of cloudimg's as sources: nothing is lost on the way, on any store."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

import cloudimg
from cloudimg.errors import AccessDeniedError, ArgumentError, ChangedError, CloudimgError
from tests.conftest import Place
from tests.support.copies import image_of, objects
from tests.support.metering import Meter

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 4000, (3, 2, 2, 64, 80), dtype=np.uint16)
WITH_FACTS = {
    "axes": "TCZYX",
    "PhysicalSizeX": 0.5,
    "PhysicalSizeY": 0.5,
    "PhysicalSizeZ": 2,
    "TimeIncrement": 1.5,
    "Channel": {"Name": ["DAPI", "GFP"], "Color": [65535, 16711935]},
    "Plane": {
        **{f"Position{dim}": [at] * 12 for dim, at in (("X", 100.0), ("Y", -7.5), ("Z", 3.0))},
        **{f"Position{dim}Unit": ["µm"] * 12 for dim in "XYZ"},
    },
}


def written(folder: Path) -> str:
    tifffile.imwrite(folder / "a.ome.tif", PIXELS, metadata=WITH_FACTS)
    return str(folder / "a.ome.tif")


def document(folder: Path, zarr_format: int) -> dict[str, Any]:
    """Attributes of the group of an image."""
    if zarr_format == 2:
        return dict(json.loads((folder / ".zattrs").read_text()))
    return dict(json.loads((folder / "zarr.json").read_text())["attributes"])


@pytest.mark.parametrize("zarr_format", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_a_round_trip_keeps_pixels_facts_and_bytes(zarr_format: Any, tmp_path: Path) -> None:
    tiff = written(tmp_path)
    options: dict[str, Any] = {"zarr_format": zarr_format, "chunks": 32, "levels": 2}
    first, second = tmp_path / "first.zarr", tmp_path / "second.zarr"
    cloudimg.migrate(tiff, first, **options)
    image, source = cloudimg.open(first), cloudimg.open(tiff)
    np.testing.assert_array_equal(image.read(), PIXELS)
    assert (image.dims, image.dtype) == (source.dims, source.dtype)
    same = ("name", "pixel_size", "pixel_size_unit", "time_step_s", "channel_names")
    same += ("channel_colors", "color_space", "stage_position", "stage_position_unit")
    for name in same:
        assert image.attrs[name] == source.attrs[name], name  # type: ignore[literal-required]
    assert image.coords["c"].tolist() == ["DAPI", "GFP"]
    assert len(image.levels) == 2
    small = np.asarray(zarr.open_array(str(first / "1"), mode="r"))
    np.testing.assert_array_equal(image.read(level=1), small)
    cloudimg.migrate(first, second, **options)
    attributes = [document(each, zarr_format) for each in (first, second)]
    ome = [each if zarr_format == 2 else each["ome"] for each in attributes]
    for name in ("multiscales", "omero"):
        assert ome[0][name] == ome[1][name]
    lists = [
        {
            str(path.relative_to(each)): path.read_bytes()
            for level in ("0", "1")
            for path in (each / level).rglob("*")
            if path.is_file()
        }
        for each in (first, second)
    ]
    assert lists[0] == lists[1]  # the arrays' metadata and all their shards
    assert cloudimg.verify(second, against_source=True)
    # Other chunks, another version, a part of it, other levels and another codec.
    other = 5 - zarr_format
    changed: dict[str, Any] = {"zarr_format": other, "chunks": 48, "levels": 3, "codec": "zstd"}
    cloudimg.migrate(first, tmp_path / "part.zarr", select={"c": "GFP", "t": "1:3"}, **changed)
    part = cloudimg.open(tmp_path / "part.zarr")
    np.testing.assert_array_equal(part.read(), PIXELS[1:, 1])
    assert part.attrs["channel_names"] == ["GFP"]
    assert part.attrs["compression"] == "zstd"
    assert cloudimg.verify(tmp_path / "part.zarr", against_source=True)


def test_labels_nodata_and_colours_survive(tmp_path: Path) -> None:
    """What OME-Zarr cannot represent is in cloudimg's attributes of a copy."""
    rgb = RNG.integers(0, 255, (2, 40, 50, 3), dtype=np.uint8)
    for t, pixels in zip(("20240102T0304", "20240102T0504"), rgb, strict=True):
        tifffile.imwrite(tmp_path / f"{t}.tif", pixels, photometric="rgb")
    source = str(tmp_path / "{t:%Y%m%dT%H%M}.tif")
    cloudimg.migrate(source, tmp_path / "first.zarr")
    cloudimg.migrate(tmp_path / "first.zarr", tmp_path / "second.zarr")
    for name in ("first.zarr", "second.zarr"):
        image = cloudimg.open(tmp_path / name)
        assert image.dims == ("t", "c", "y", "x")
        np.testing.assert_array_equal(image.coords["t"], cloudimg.open(source).coords["t"])
        assert image.attrs["channel_names"] == ["red", "green", "blue"]
    first, second = (document(tmp_path / f"{name}.zarr", 3)["ome"] for name in ("first", "second"))
    assert first == second
    depths = np.full((30, 40), -9999, np.float32)
    depths[:20] = 7
    tags = [(42113, "s", 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "depths.tif", depths, extratags=tags)
    cloudimg.migrate(tmp_path / "depths.tif", tmp_path / "depths.zarr")
    image = cloudimg.open(tmp_path / "depths.zarr")
    assert image.attrs["nodata"] == -9999
    masked = image.to_xarray(mask=True)
    assert bool(np.isnan(masked[20:]).all())
    assert float(masked[:20].mean()) == 7


def test_labels_of_tiles_survive(tmp_path: Path) -> None:
    for y, x in np.ndindex(2, 3):
        tifffile.imwrite(tmp_path / f"a_{y}_{x + 4}.tif", np.full((4, 5), 10 * y + x, np.uint8))
    cloudimg.migrate(str(tmp_path / "a_{y}_{x}.tif"), tmp_path / "first.zarr")
    cloudimg.migrate(tmp_path / "first.zarr", tmp_path / "second.zarr", select={"x": "3:12"})
    image = cloudimg.open(tmp_path / "second.zarr")
    assert image.coords["x_label"].tolist() == [4] * 2 + [5] * 5 + [6] * 2
    assert image.coords["y_label"].tolist() == [0] * 4 + [1] * 4
    assert "x: 9" in repr(image)
    assert "x: 4" in repr(image.isel(x=slice(1, 5)))
    renamed = cloudimg.open(tmp_path / "first.zarr", axes={"y": "v"})
    assert renamed.coords["v_label"].tolist() == [0] * 4 + [1] * 4


def test_xarray_opens_copies(tmp_path: Path) -> None:
    cloudimg.migrate(written(tmp_path), tmp_path / "copy.zarr", levels=2)
    tree = xr.open_datatree(tmp_path / "copy.zarr", engine="cloudimg", chunks={})
    assert list(tree.children) == ["level0", "level1"]
    level = tree["level1"]["image"]
    assert level.sizes == {"t": 3, "c": 2, "z": 2, "y": 32, "x": 40}
    assert float(level.x[0]) == 0.25
    assert level.x.attrs["units"] == "µm"
    dataset = xr.open_dataset(tmp_path / "copy.zarr", engine="cloudimg")
    np.testing.assert_array_equal(dataset["image"].sel(c="GFP").isel(t=1), PIXELS[1, 1])
    array = xr.open_dataarray(tmp_path / "copy.zarr", engine="cloudimg", level=1)
    assert array.shape == (3, 2, 2, 32, 40)


def test_copies_open_on_any_store(place: Place, tmp_path: Path) -> None:
    for zarr_format in (3, 2):
        local = tmp_path / f"copy{zarr_format}.zarr"
        cloudimg.migrate(written(tmp_path), local, zarr_format=zarr_format, chunks=48, levels=2)
        for path in local.rglob("*"):
            if path.is_file():
                place.put(f"{local.name}/{path.relative_to(local)}", path.read_bytes())
        url = f"{place.url}/{local.name}"
        image = cloudimg.open(url, storage_options=place.storage_options)
        np.testing.assert_array_equal(image.read(), PIXELS)
        part = image.read({"t": 2, "y": slice(40, 60), "x": 7})
        np.testing.assert_array_equal(part, PIXELS[2, :, :, 40:60, 7])
        again = pickle.loads(pickle.dumps(image))
        np.testing.assert_array_equal(again.to_dask(level=1).compute(), image.read(level=1))
        facts = cloudimg.info(f"{url}/", storage_options=place.storage_options)
        assert facts["shape"] == list(PIXELS.shape)
        with pytest.raises(CloudimgError):
            cloudimg.open(f"{place.url}/no.zarr", storage_options=place.storage_options)


def test_windows_of_shards_are_read_by_range(meter: Meter, bucket: str, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 2**16, (512, 512), dtype=np.uint16)
    url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
    cloudimg.to_zarr(
        pixels, url, dims=("y", "x"), chunks=64, shards=512, levels=1, codec="none",
        storage_options=options,
    )  # fmt: skip
    image = cloudimg.open(url, storage_options=options)
    image.read((slice(0, 1), slice(0, 1)))
    with meter.measure() as window:
        part = image.read((slice(70, 100), slice(3, 9)))
    np.testing.assert_array_equal(part, pixels[70:100, 3:9])
    assert window.gets == len(window.requests) == 2  # the index of the shard, and one chunk
    assert window.bytes_sent < 3 * 64 * 64 * 2
    with meter.measure() as whole:
        np.testing.assert_array_equal(image.read(), pixels)
    assert len(whole.requests) == 1
    assert image.chunks == ((512,), (512,))
    with meter.measure() as lazy:
        np.testing.assert_array_equal(image.to_dask().compute(), pixels)
    assert len(lazy.requests) == 1
    with meter.measure() as opening:
        cloudimg.open(url, storage_options=options)
    assert len(opening.requests) <= 4


def test_a_source_that_changes_is_noticed(place_of_copies: Path) -> None:
    folder = place_of_copies
    cloudimg.migrate(folder / "first.zarr", folder / "second.zarr")
    # The same source is nothing to do; another one of the same name is refused.
    assert cloudimg.migrate(folder / "first.zarr", folder / "second.zarr").n_objects == 0
    cloudimg.to_zarr(PIXELS[0, 0] + 1, folder / "first.zarr", overwrite=True, yes=True)
    with pytest.raises((ArgumentError, ChangedError)):
        cloudimg.migrate(folder / "first.zarr", folder / "second.zarr")
    assert not cloudimg.verify(folder / "second.zarr", against_source=True)
    assert cloudimg.verify(folder / "second.zarr")


@pytest.fixture
def place_of_copies(tmp_path: Path) -> Path:
    cloudimg.to_zarr(PIXELS[0, 0], tmp_path / "first.zarr")
    return tmp_path


def test_a_copy_of_a_copy_cannot_retire_it(place_of_copies: Path) -> None:
    folder = place_of_copies
    cloudimg.migrate(folder / "first.zarr", folder / "second.zarr")
    with pytest.raises(ArgumentError, match="Zarr"):
        cloudimg.retire(folder / "second.zarr", move_to=folder / "elsewhere")
    assert image_of(objects(str(folder / "first.zarr"), {}))


def test_a_copy_is_never_written_into_its_source(place_of_copies: Path) -> None:
    source = place_of_copies / "first.zarr"
    before = objects(str(source), {})
    (place_of_copies / "link").symlink_to(source)
    for inside in (
        source,
        source / "0",
        source / "new",
        place_of_copies,
        place_of_copies / "link/0",
    ):
        with pytest.raises(ArgumentError, match="lies inside"):
            cloudimg.migrate(source, inside, overwrite=True, yes=True)
    assert objects(str(source), {}).items() >= before.items()  # perhaps with leases


def test_stores_that_deny_what_does_not_exist(meter: Meter, bucket: str) -> None:
    """As S3 does to those who may not list the bucket."""
    options = meter.storage_options
    url = f"s3://{bucket}/old.zarr"
    cloudimg.to_zarr(PIXELS[0, 0], url, zarr_format=2, levels=1, storage_options=options)
    meter.faults([{"match": r"GET .*(zarr\.json|old\.zarr/\.zarray)$", "status": 403}])
    image = cloudimg.open(url, storage_options=options)
    np.testing.assert_array_equal(image.read(), PIXELS[0, 0])
    meter.faults([{"match": "GET .*", "status": 403}])
    with pytest.raises(AccessDeniedError):
        cloudimg.open(url, storage_options=options)
