"""Levels are made by what the header says: classes keep their values, nodata has no part in means.

Pixels are read back by zarr-python, files are written by tifffile and GDAL.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cloudimg
from cloudimg.cli.main import main
from cloudimg.migration.encode.downsample import downsample
from tests.support.older import begun_by_an_older_version

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
PARTS: dict[str, Any] = {"chunks": 32, "shards": 64, "levels": 3}
CLASSES = np.random.default_rng(0).choice([1, 3, 200], (150, 130)).astype(np.uint8)
NODATA_TAG = 42113


def levels_of(copy: Path) -> list[Array]:
    group = zarr.open_group(copy, mode="r")
    return [np.asarray(group[str(level)][...]) for level in range(3)]


def copied(path: Path, **options: Any) -> tuple[Path, cloudimg.Migration]:
    """A copy of a file, which is verified."""
    out = path.with_suffix(".zarr")
    done = cloudimg.migrate(path, out, **PARTS, **options)
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert not proof.edits
    return out, done


def method_of(copy: Path) -> str:
    attributes = json.loads((copy / "zarr.json").read_bytes())["attributes"]
    found: str = attributes["ome"]["multiscales"][0]["type"]
    return found


def written(path: Path, pixels: Array, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


def by_gdal(path: Path, pixels: Array, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no place on Earth
        with rasterio.open(
            path, "w", driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], count=1,
            dtype=pixels.dtype, **options,
        ) as file:  # fmt: skip
            file.write(pixels, 1)
    return path


# Classes and labels


def palette_file(path: Path, pixels: Array) -> Path:
    colormap = np.random.default_rng(1).integers(0, 2**16, (3, 256), np.uint16)
    return written(path, pixels, photometric="palette", colormap=colormap)


def ome_labels(path: Path, pixels: Array) -> Path:
    return written(
        path, pixels.astype("u4"), ome=True, metadata={"Name": "Cell_labels", "axes": "YX"}
    )


def ome_mask_channel(path: Path, pixels: Array) -> Path:
    metadata = {"axes": "CYX", "Channel": {"Name": ["nuclei mask"]}}
    return written(path, pixels[None].astype("u2"), ome=True, metadata=metadata)


def thematic(path: Path, pixels: Array) -> Path:
    text = '<GDALMetadata><Item name="LAYER_TYPE" sample="0">thematic</Item></GDALMetadata>'
    return written(path, pixels, extratags=[(42112, "s", 0, text, True)])


def attribute_table(path: Path, pixels: Array) -> Path:
    text = '<GDALMetadata><GDALRasterAttributeTable tableType="thematic"/></GDALMetadata>'
    return written(path, pixels, extratags=[(42112, "s", 0, text, True)])


@pytest.mark.parametrize(
    "write", [palette_file, ome_labels, ome_mask_channel, thematic, attribute_table]
)
def test_what_the_header_calls_classes_is_not_averaged(tmp_path: Path, write: Any) -> None:
    copy, done = copied(write(tmp_path / "classes.tif", CLASSES))
    assert method_of(copy) == "mode"
    found = levels_of(copy)
    for level in found:
        assert set(np.unique(level)) <= {1, 3, 200}
    assert len(np.unique(found[2])) == 3
    assert not any("labels" in note for note in done.notes)


def test_an_argument_wins_over_the_header(tmp_path: Path) -> None:
    path = palette_file(tmp_path / "classes.tif", CLASSES)
    copy, _ = copied(path, downsampling="mean")
    assert method_of(copy) == "mean"
    assert set(np.unique(levels_of(copy)[1])) - {1, 3, 200}


@pytest.mark.parametrize(
    ("name", "dtype"), [("Masking study", "u2"), ("Glass", "u2"), ("labels", "f4")]
)
def test_other_names_and_types_are_averaged(tmp_path: Path, name: str, dtype: str) -> None:
    path = written(
        tmp_path / "a.tif", CLASSES.astype(dtype), ome=True, metadata={"Name": name, "axes": "YX"}
    )
    assert method_of(copied(path)[0]) == "mean"


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8"])
def test_integers_that_may_be_labels_are_averaged_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    path = written(tmp_path / "a.tif", CLASSES.astype(dtype))
    copy, done = copied(path)
    assert method_of(copy) == "mean"
    (note,) = done.notes
    assert f"integers of {8 * np.dtype(dtype).itemsize} bits" in note
    assert 'downsampling="mode"' in note
    assert note in cloudimg.verify(copy).notes
    assert note in cloudimg.dry_run(path, **PARTS).notes
    for more in ([], ["--dry-run"]):
        assert main(["migrate", str(path), str(tmp_path / "b.zarr"), "--levels", "3", *more]) == 0
        assert "--downsampling mode" in capsys.readouterr().out


@pytest.mark.parametrize("given_", [{"downsampling": "mean"}, {"levels": 1}])
def test_nothing_is_said_where_nothing_was_chosen(tmp_path: Path, given_: Any) -> None:
    path = written(tmp_path / "a.tif", CLASSES.astype("u4"))
    assert not cloudimg.migrate(path, tmp_path / "a.zarr", **given_).notes
    assert not cloudimg.migrate(
        written(tmp_path / "b.tif", CLASSES.astype("u2")), tmp_path / "b.zarr", levels=2
    ).notes


@settings(max_examples=60)
@given(
    pixels=hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)),
    n_steps=st.integers(1, 3),
)
def test_levels_of_labels_have_no_values_of_their_own(pixels: Array, n_steps: int) -> None:
    level = pixels
    for _ in range(n_steps):
        level = downsample(level, (2,) * pixels.ndim, "mode")
    assert set(np.unique(level)) <= set(np.unique(pixels))


def test_signed_samples_of_lab_are_not_averaged(tmp_path: Path) -> None:
    """The mean of -1 and 1 in two's complement would be -128: another colour."""
    lab = np.random.default_rng(2).choice(np.uint8([255, 1]), (64, 64, 3))
    copy, _ = copied(written(tmp_path / "a.tif", lab, photometric="cielab"))
    assert method_of(copy) == "nearest"
    assert set(np.unique(levels_of(copy)[1])) <= {1, 255}


# Pixels without data


def terrain(dtype: str, nodata: float) -> Array:
    heights = np.random.default_rng(3).integers(100, 120, (150, 130)).astype(dtype)
    heights[:50] = nodata
    heights[::7, ::5] = nodata
    return heights


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("f4", -9999), ("f4", -3.4028234663852886e38), ("f8", 1e30), ("i2", -32768), ("u1", 0),
     ("u1", 255), ("u2", 110), ("f4", math.nan)],
)  # fmt: skip
def test_nodata_has_no_part_in_means(tmp_path: Path, dtype: str, nodata: float) -> None:
    pixels = terrain(dtype, nodata)
    copy, _ = copied(by_gdal(tmp_path / "dem.tif", pixels, nodata=nodata))
    value = np.dtype(dtype).type(nodata)
    for level in levels_of(copy):
        is_gap = np.isnan(level) if math.isnan(nodata) else level == value
        valid = level[~is_gap]
        assert is_gap.any()
        assert 100 <= valid.min() <= valid.max() <= 119
        # What is a gap at level 0 everywhere is one at every level, and nothing else is.
        assert is_gap[: len(level) // 3].all()
        if level.shape != pixels.shape:
            assert not is_gap[len(level) // 2 :].any()
    array = zarr.open_array(copy / "0", mode="r")
    np.testing.assert_equal(array.fill_value, value)
    omero = json.loads((copy / "zarr.json").read_bytes())["attributes"]["ome"]["omero"]
    window = omero["channels"][0]["window"]
    assert 0 <= window["min"] <= window["start"] < window["end"] <= window["max"] <= 255
    if dtype != "u1":
        assert 99 <= window["start"] < window["end"] <= 120


@pytest.mark.parametrize("nodata", [-9999, 300])
def test_nodata_that_no_pixel_can_have_is_ignored(tmp_path: Path, nodata: int) -> None:
    tag = (NODATA_TAG, "s", 0, str(nodata), True)
    copy, _ = copied(written(tmp_path / "a.tif", CLASSES, extratags=[tag]))
    assert zarr.open_array(copy / "0", mode="r").fill_value == 0


def test_where_nodata_values_may_differ_that_of_the_first_file_counts(tmp_path: Path) -> None:
    for number, nodata in enumerate((-9999, -9999, -1)):
        by_gdal(tmp_path / f"a_z{number}.tif", terrain("f4", nodata), nodata=nodata)
    copy, done = copied(tmp_path / "a_z{z}.tif", allow_differences=["nodata"])
    for level in levels_of(copy):
        assert level[:2][level[:2] != -9999].min() >= 100
    assert zarr.open_array(copy / "0", mode="r").fill_value == -9999
    assert any("nodata value other than in the first file" in note for note in done.notes)


def test_missing_files_are_nodata(tmp_path: Path) -> None:
    for x, y in ((0, 0), (1, 0), (0, 1)):
        by_gdal(tmp_path / f"a_{x}_{y}.tif", terrain("f4", -9999)[50:, :64], nodata=-9999)
    url = str(tmp_path / "a_{x}_{y}.tif")
    hole = np.s_[100:, 64:]
    assert (cloudimg.imread(url, missing="fill")[hole].compute() == -9999).all()
    assert (cloudimg.imread(url, missing="fill", fill_value=7)[hole].compute() == 7).all()
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(url, copy, missing="fill", **PARTS)
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    for level in levels_of(copy):
        valid = level[level != -9999]
        assert 100 <= valid.min() <= valid.max() <= 119


def test_a_data_array_states_nodata(tmp_path: Path) -> None:
    pixels = terrain("f4", -9999)
    for number, place in enumerate(("attrs", "encoding")):
        array = xarray.DataArray(pixels, dims=("y", "x"))
        getattr(array, place)["_FillValue"] = np.float32(-9999)
        copy = tmp_path / f"{number}.zarr"
        cloudimg.to_zarr(array, copy, **PARTS)
        assert cloudimg.verify(copy)
        top = levels_of(copy)[2]
        assert top[top != -9999].min() >= 100
        assert zarr.open_array(copy / "0", mode="r").fill_value == -9999


@pytest.mark.parametrize("dtype", ["|u1", "<i2", "<i8", "<u8", "<f2", "<f4", "<f8"])
@settings(max_examples=30)
@given(data=st.data())
def test_means_lie_between_the_pixels_with_data(dtype: str, data: st.DataObject) -> None:
    found = np.dtype(dtype)
    elements = None
    if found.kind == "f":
        # Within bounds nothing is drawn in vain: of 16 bits, many are infinite.
        least, most = (float(bound) for bound in (np.finfo(found).min, np.finfo(found).max))
        elements = st.floats(least, most, width=8 * found.itemsize) | st.just(np.nan)
    shapes = hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)
    pixels = data.draw(hnp.arrays(found, shapes, elements=elements))
    nodata = data.draw(st.sampled_from([*pixels.ravel()[:4], found.type(7)]))
    has_data = (pixels != nodata) & (pixels == pixels)
    level = pixels
    for _ in range(3):
        level = downsample(level, (2,) * pixels.ndim, "mean", nodata)
        kept = level[(level != nodata) & (level == level)]
        assert bool(len(kept)) == bool(has_data.any())
        if len(kept):
            assert pixels[has_data].min() <= kept.min() <= kept.max() <= pixels[has_data].max()


# Plans of older versions


@pytest.mark.parametrize("kind", ["palette", "nodata"])
def test_a_migration_goes_on_by_the_plan_that_it_began_with(tmp_path: Path, kind: str) -> None:
    path, copy = tmp_path / "a.tif", tmp_path / "copy.zarr"
    pixels = CLASSES if kind == "palette" else terrain("f4", -9999)
    if kind == "palette":
        palette_file(path, pixels)
    else:
        by_gdal(path, pixels, nodata=-9999)
    begun_by_an_older_version(path, copy, fill_value=0, **PARTS)
    cloudimg.migrate(path, copy, **PARTS)
    found = levels_of(copy)
    np.testing.assert_array_equal(found[0], pixels)
    for below, level in itertools.pairwise(found):
        np.testing.assert_array_equal(level, downsample(below, (2, 2), "mean"))
    assert method_of(copy) == "mean"
    assert zarr.open_array(copy / "0", mode="r").fill_value == 0
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    assert not proof.edits
    assert cloudimg.migrate(path, copy, **PARTS).n_done_before > 0
