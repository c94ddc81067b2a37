"""Georeferenced images as xarray: what rioxarray and GDAL read from the same files."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import xarray
from rasterio.transform import Affine

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError, CloudimgWarning, MismatchError

rioxarray = pytest.importorskip("rioxarray")
Array = npt.NDArray[Any]
UTM = Affine(10, 0, 600000, 0, -10, 5300000)
HEIGHT, WIDTH = 20, 30
WHOLE = np.random.default_rng(0).integers(0, 100, (HEIGHT, WIDTH)).astype(np.uint16)
FLOATS = np.where(WHOLE % 3, WHOLE, np.nan).astype(np.float32)
BANDS = np.random.default_rng(1).integers(0, 99, (4, HEIGHT, WIDTH)).astype(np.uint16)

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of rioxarray's own code
    pytest.mark.filterwarnings("ignore:Scales differ|Offsets differ"),  # rioxarray's words
]


def write(
    path: Path,
    pixels: Array = WHOLE,
    transform: Affine | None = UTM,
    crs: str | None = "EPSG:32633",
    *,
    scales: tuple[float, ...] | None = None,
    offsets: tuple[float, ...] | None = None,
    names: tuple[str, ...] | None = None,
    units: tuple[str, ...] | None = None,
    tags: dict[str, str] | None = None,
    driver: str = "GTiff",
    **options: Any,
) -> Path:
    """A GeoTIFF that GDAL writes."""
    bands = pixels.reshape(-1, *pixels.shape[-2:])
    n_bands, height, width = bands.shape
    with rasterio.open(
        path, "w", driver=driver, count=n_bands, height=height, width=width, dtype=pixels.dtype,
        crs=crs, transform=transform, **options,
    ) as file:  # fmt: skip
        file.write(bands)
        values = (("scales", scales), ("offsets", offsets), ("descriptions", names))
        for name, value in (*values, ("units", units)):
            if value is not None:
                setattr(file, name, value)
        file.update_tags(**(tags or {}))
    return path


def check_equal(ours: xarray.DataArray, theirs: xarray.DataArray) -> None:
    """Check values bit for bit, and everything about places, nodata, scale and offset."""
    if "s" in ours.dims:
        ours, theirs = ours.transpose("s", "y", "x"), theirs.rename(band="s")
    else:
        theirs = theirs.squeeze("band", drop=True)
    assert ours.dims == theirs.dims
    assert ours.dtype == theirs.dtype
    assert ours.values.tobytes() == theirs.values.tobytes()
    for dim in ("x", "y"):
        assert ours[dim].values.tobytes() == theirs[dim].values.tobytes()
    assert ours.rio.crs == theirs.rio.crs
    assert ours.rio.transform() == theirs.rio.transform()
    for found, expected in (
        (ours.rio.nodata, theirs.rio.nodata),
        (ours.rio.encoded_nodata, theirs.rio.encoded_nodata),
    ):
        np.testing.assert_equal(found, expected)
    for name, plain in (("scale_factor", 1.0), ("add_offset", 0.0), ("_FillValue", None)):
        np.testing.assert_equal(ours.attrs.get(name, plain), theirs.attrs.get(name, plain))
        np.testing.assert_equal(ours.encoding.get(name, plain), theirs.encoding.get(name, plain))


FILES: dict[str, Callable[[Path], Path]] = {
    "nodata": lambda p: write(p, nodata=0),
    "nodata that no pixel can have": lambda p: write(p, tags={}, nodata=65535),
    "tags that locate centres": lambda p: write(p, tags={"AREA_OR_POINT": "Point"}),
    "degrees": lambda p: write(
        p, transform=Affine(1 / 3600, 0, 10.123456789, 0, -1 / 3600, 50.98765), crs="EPSG:4326"
    ),
    "rows that go northwards": lambda p: write(p, transform=Affine(10, 0, 600000, 0, 10, 5300000)),
    "feet": lambda p: write(p, crs="EPSG:2263"),
    "a height system": lambda p: write(p, crs="EPSG:32633+5773"),
    "no reference system": lambda p: write(p, crs=None),
    "LAEA without a code": lambda p: write(p, crs="+proj=laea +lat_0=50 +lon_0=10 +datum=WGS84"),
    "sinusoidal without a code": lambda p: write(p, crs="+proj=sinu +R=6371007.181 +units=m"),
    "Albers without a code": lambda p: write(
        p, crs="+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +datum=NAD83 +units=m"
    ),
    "NaN": lambda p: write(p, FLOATS, nodata=np.nan),
    "-9999 and scale": lambda p: write(
        p, np.nan_to_num(FLOATS, nan=-9999), nodata=-9999, scales=(0.1,), offsets=(3,)
    ),
    "the least float": lambda p: write(
        p,
        np.nan_to_num(FLOATS, nan=np.finfo(np.float32).min),
        nodata=float(np.finfo(np.float32).min),
    ),
    "a decimal fraction": lambda p: write(p, np.nan_to_num(FLOATS, nan=0.1), nodata=0.1),
    "32 bits": lambda p: write(p, WHOLE.astype(np.int32), nodata=5, scales=(2.0,)),
    "negative integers": lambda p: write(
        p, WHOLE.astype(np.int16) - 50, nodata=-50, scales=(1e-4,), offsets=(-0.1,)
    ),
    "a scale for each band": lambda p: write(
        p, BANDS, nodata=7, scales=(1, 0.1, 0.2, 0.3), offsets=(0, 1, 2, 3)
    ),
    "a scale for each band, in planes": lambda p: write(
        p, BANDS, nodata=7, scales=(1, 0.1, 0.2, 0.3), interleave="band"
    ),
    "opacity": lambda p: write(
        p,
        np.where(np.arange(4)[:, None, None] == 3, BANDS > 50, BANDS).astype(np.uint8),
        photometric="RGB",
        alpha="unassociated",
    ),
    "one scale for all bands": lambda p: write(
        p, BANDS[:3].astype(np.uint8), nodata=7, scales=(0.1,) * 3, names=("a", "b", "c")
    ),
}


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("kind", FILES)
def test_one_file(tmp_path: Path, kind: str, mask: bool) -> None:
    path = FILES[kind](tmp_path / "map.tif")
    ours = cloudimg.open(path).to_xarray(mask=mask)
    check_equal(ours, rioxarray.open_rasterio(path, mask_and_scale=mask))
    lazy = cloudimg.open(path).to_xarray(chunks=7, mask=mask)
    np.testing.assert_array_equal(lazy.compute(), ours)
    opened = xarray.open_dataset(path, engine="cloudimg", mask_and_scale=mask).image
    np.testing.assert_array_equal(opened[3:9:2, 4:].values, ours[3:9:2, 4:])
    if "s" in opened.dims:
        np.testing.assert_array_equal(opened[3, :, [2, 0]].values, ours[3, :, [2, 0]])
    assert opened.dtype == ours.dtype
    assert opened.rio.crs == ours.rio.crs


def test_levels_and_parts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (700, 650), np.uint8)
    write(tmp_path / "plain.tif", pixels, nodata=3)
    path = tmp_path / "map.tif"
    rasterio.shutil.copy(tmp_path / "plain.tif", path, driver="COG", blocksize=128)
    image = cloudimg.open(path)
    for level in range(1, len(image.levels)):
        ours = image.to_xarray(level=level)
        theirs = rioxarray.open_rasterio(path, overview_level=level - 1).squeeze("band")
        for dim in ("x", "y"):
            np.testing.assert_allclose(ours[dim], theirs[dim], rtol=1e-15)
        np.testing.assert_allclose(ours.rio.transform(), theirs.rio.transform(), rtol=1e-15)
        np.testing.assert_allclose(ours.rio.bounds(), theirs.rio.bounds(), rtol=1e-15)
    part = image.isel(x=slice(3, 200), y=slice(10, 300)).to_xarray()
    theirs = rioxarray.open_rasterio(path).squeeze("band").isel(x=slice(3, 200), y=slice(10, 300))
    np.testing.assert_array_equal(part, theirs)
    np.testing.assert_array_equal(part.x, theirs.x)
    assert part.rio.transform() == theirs.rio.transform(recalc=True)
    assert part.spatial_ref.GeoTransform.startswith("600030.0 10.0 0.0 5299900.0")


def test_bands_that_are_selected(tmp_path: Path) -> None:
    options: dict[str, Any] = {"names": ("a", "b", "c", "d"), "units": ("m", "K", "m", "m")}
    path = write(tmp_path / "map.tif", BANDS, nodata=7, scales=(1, 0.1, 0.2, 0.3), **options)
    theirs = rioxarray.open_rasterio(path, mask_and_scale=True)
    for chosen in ([1, 3], [2], 2, slice(1, 3)):
        part = cloudimg.open(path).isel(s=chosen)
        ours = part.to_xarray(mask=True)
        expected = theirs.isel(band=chosen).values
        np.testing.assert_array_equal(
            ours, np.moveaxis(expected, 0, -1) if "s" in ours.dims else expected
        )
    assert cloudimg.open(path).isel(s=1).to_xarray().attrs["units"] == "K"
    assert cloudimg.open(path).isel(s=1).to_xarray().attrs["long_name"] == "b"


def test_parts_of_aligned_scenes(tmp_path: Path) -> None:
    for t, columns in enumerate((3, 0, 5)):
        write(
            tmp_path / f"{t}.tif", WHOLE + t, UTM @ Affine.translation(columns, 2 * t), nodata=999
        )
    image = cloudimg.open(f"{tmp_path}/{{t}}.tif", align="outer")
    whole = image.to_xarray()
    for part in (
        {"t": 1, "x": slice(4, 20), "y": slice(3, None, 2)},
        {"t": [0, 2], "x": [1, 2, 30]},
    ):
        found = image.isel(part).to_xarray()
        np.testing.assert_array_equal(found, whole.isel(part))
        np.testing.assert_array_equal(found.x, whole.isel(part).x)
        np.testing.assert_array_equal(found.y, whole.isel(part).y)
    kept = image.isel(t=[0, 2], y=slice(2, 9)).to_xarray()
    assert kept.rio.transform() == UTM @ Affine.translation(0, 2)


def test_what_the_reports_say(corpus: Path) -> None:
    """Two dates with scale and offset: x, y, reference system, scale and offset."""
    folder = corpus / "reports" / "geo-frames"
    array = cloudimg.open(f"{folder}/LC08_{{t:%Y%m%d}}_B4.TIF").to_xarray()
    assert array.attrs["scale_factor"] == 2.75e-05
    assert array.attrs["add_offset"] == -0.2
    assert array.attrs["_FillValue"] == 0
    assert array.attrs["long_name"] == "red"
    assert array.rio.crs == "EPSG:32633"
    np.testing.assert_array_equal(array.x, 500005 + 10 * np.arange(640))
    np.testing.assert_array_equal(array.y, 4599995 - 10 * np.arange(512))
    assert array.x.attrs == {
        "axis": "X", "standard_name": "projection_x_coordinate", "units": "m"
    }  # fmt: skip
    values = cloudimg.open(f"{folder}/LC08_{{t:%Y%m%d}}_B4.TIF").to_xarray(mask=True)
    for date, plane in zip(("20200908", "20200924"), values, strict=True):
        theirs = rioxarray.open_rasterio(folder / f"LC08_{date}_B4.TIF", mask_and_scale=True)
        assert plane.values.tobytes() == theirs[0].values.tobytes()


@pytest.mark.slow
def test_real_files_lie_where_gdal_says(corpus: Path) -> None:
    n_files = 0
    for path in sorted((corpus / "files").rglob("*.tif")):
        try:
            image = cloudimg.open(path)
            theirs = rioxarray.open_rasterio(path)
        except (CloudimgError, rasterio.errors.RasterioError, ValueError):
            continue  # one of the two does not read it
        if "transform" not in image.attrs.get("geo", {}) or isinstance(theirs, list):
            continue
        with warnings.catch_warnings(action="ignore", category=CloudimgWarning):
            ours = image.to_xarray()
        n_files += 1
        assert ours.rio.crs == theirs.rio.crs, path
        np.testing.assert_allclose(ours.rio.transform(), theirs.rio.transform(), rtol=1e-12)
        if "standard_name" in ours.x.attrs:  # not rotated
            np.testing.assert_array_equal(ours.x, theirs.x, str(path))
            np.testing.assert_array_equal(ours.y, theirs.y, str(path))
    assert n_files > 50


# ------------------------------------------------------------------------------- vegetation index

DATES = [f"2024{month:02d}15" for month in range(1, 13)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiles, twelve dates and four bands, each a COG of 256 x 256 pixels with nodata."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(1)
    for tile in range(2):
        transform = Affine(10, 0, 600000 + 2560 * tile, 0, -10, 5300000)
        for date in DATES:
            for band in ("02", "03", "04", "08"):
                pixels = rng.integers(1500, 4000, (256, 256)).astype(np.uint16)
                pixels[rng.random(pixels.shape) < 0.2] = 0
                write(
                    root / f"T{tile}_{date}_B{band}.tif", pixels, transform, driver="COG", nodata=0,
                    scales=(1e-4,), offsets=(-0.1,), names=(f"B{band}",), blocksize=128,
                )  # fmt: skip
    return root


def with_cloudimg(root: Path) -> xarray.DataArray:
    image = cloudimg.open(f"{root}/T{{x}}_{{t:%Y%m%d}}_B{{band}}.tif")
    array = image.to_xarray(mask=True)
    red, nir = array.sel(band=4), array.sel(band=8)
    return (nir - red) / (nir + red)


def with_rioxarray(root: Path) -> xarray.DataArray:
    def band(name: str) -> xarray.DataArray:
        files = [[f"{root}/T{x}_{t}_B{name}.tif" for t in DATES] for x in range(2)]
        options = {"engine": "rasterio", "combine": "nested", "concat_dim": ["x", "t"]}
        return xarray.open_mfdataset(files, chunks={}, **options).band_data.squeeze("band")

    red, nir = band("04"), band("08")
    return (nir - red) / (nir + red)


@pytest.mark.slow
def test_a_vegetation_index_is_that_of_rioxarray(archive: Path) -> None:
    ours, theirs = with_cloudimg(archive), with_rioxarray(archive)
    assert ours.dims == ("t", "y", "x")
    assert ours.dtype == theirs.dtype == np.float32
    theirs = theirs.transpose("t", "y", "x")
    assert ours.values.tobytes() == theirs.values.tobytes()
    np.testing.assert_array_equal(ours.x, theirs.x)
    np.testing.assert_array_equal(ours.y, theirs.y)
    assert ours.rio.crs == theirs.rio.crs == "EPSG:32633"
    assert ours.rio.transform() == theirs.rio.transform()
    lengths = [
        len(inspect.getsource(each).splitlines()) for each in (with_cloudimg, with_rioxarray)
    ]
    assert lengths[0] <= lengths[1]
    # What people do with it next.
    box = {"type": "Polygon", "coordinates": [
        [(602000, 5299900), (603500, 5299500), (602500, 5298500), (602000, 5299900)]
    ]}  # fmt: skip
    mine, other = ours[0].compute(), theirs[0].compute()
    for step in (
        lambda array: array.rio.write_crs("EPSG:32633").rio.clip([box]),
        lambda array: array.rio.reproject("EPSG:4326"),
    ):
        done, expected = (step(each).drop_vars("spatial_ref") for each in (mine, other))
        np.testing.assert_array_equal(done, expected)
        np.testing.assert_array_equal(done.x, expected.x)
    assert mine.rio.write_crs("EPSG:32634").rio.crs == "EPSG:32634"


def test_scenes_that_are_aligned_have_nodata_between_them(tmp_path: Path) -> None:
    for t, columns in enumerate((0, 5)):
        moved = UTM @ Affine.translation(columns, 0)
        write(tmp_path / f"{t}.tif", WHOLE + 1, moved, nodata=2000, scales=(0.5,))
    values = cloudimg.open(f"{tmp_path}/{{t}}.tif", align="outer").to_xarray(mask=True)
    parts = [
        rioxarray.open_rasterio(tmp_path / f"{t}.tif", mask_and_scale=True)[0] for t in range(2)
    ]
    expected = xarray.concat(parts, "t", join="outer")
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(values.x, expected.x)
    assert np.isnan(values).sum() == 2 * 5 * HEIGHT


# --------------------------------------------------------------------------------------- bad input


def test_a_transform_that_rotates(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", transform=UTM @ Affine.rotation(30))
    with pytest.warns(CloudimgWarning, match=r"rotates the image.*rio\.reproject"):
        array = cloudimg.open(path).to_xarray()
    assert "standard_name" not in array.x.attrs
    theirs = rioxarray.open_rasterio(path)
    np.testing.assert_allclose(array.rio.transform(), theirs.rio.transform(), rtol=1e-12)
    assert array.rio.crs == theirs.rio.crs


def test_a_reference_system_without_a_transform(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", transform=None)
    with pytest.warns(CloudimgWarning, match=r"no affine transform.*rio\.write_transform"):
        array = cloudimg.open(path).to_xarray()
    assert array.rio.crs == "EPSG:32633"
    assert "GeoTransform" not in array.spatial_ref.attrs
    placed = array.rio.write_transform(UTM)
    assert placed.rio.transform() == UTM


def test_files_of_several_scales(tmp_path: Path) -> None:
    """The scale of the first file is never applied to another one."""
    write(tmp_path / "0.tif", scales=(2.0,))
    write(tmp_path / "1.tif", scales=(3.0,))
    write(tmp_path / "2.tif", scales=(2.0,))
    image = cloudimg.open(f"{tmp_path}/{{band}}.tif")  # reads the first and the last header
    with pytest.raises(MismatchError, match=r"1\.tif.*3\.0 and 0\.0.*mask=True"):
        image.to_xarray(mask=True).compute()
    np.testing.assert_array_equal(image.sel(band=[0, 2]).to_xarray(mask=True)[1], WHOLE * 2)
    known = cloudimg.open(f"{tmp_path}/{{band}}.tif", validate="all")
    assert "scale" not in known.attrs
    assert "facts-differ-scale" in {note.kind for note in known.notes}
    with pytest.raises(ArgumentError, match=r"mask=True needs one scale.*Image\.sel"):
        known.to_xarray(mask=True)
    np.testing.assert_array_equal(known.to_xarray()[1], WHOLE)


def test_nodata_that_may_differ(tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"{t}.tif", nodata=t == 1)
    image = cloudimg.open(f"{tmp_path}/{{t}}.tif", allow_differences="nodata")
    with pytest.raises(ArgumentError, match="mask=True needs one nodata value"):
        image.to_xarray(mask=True)


def test_complex_pixels_are_not_masked(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", WHOLE.astype(np.complex64))
    with pytest.raises(ArgumentError, match="complex64"):
        cloudimg.open(path).to_xarray(mask=True)


# ------------------------------------------------------------------------------- what is stored


@pytest.mark.parametrize("mask", [False, True])
def test_zarr_keeps_all_of_it(tmp_path: Path, mask: bool) -> None:
    path = write(tmp_path / "map.tif", nodata=0, scales=(0.5,), offsets=(1.0,))
    array = cloudimg.open(path).to_xarray(mask=mask)
    array.to_zarr(tmp_path / "map.zarr", consolidated=False)
    stored = xarray.open_zarr(tmp_path / "map.zarr", decode_coords="all", consolidated=False)[
        array.name
    ]
    theirs = rioxarray.open_rasterio(path, mask_and_scale=True)[0]
    np.testing.assert_array_equal(stored, theirs)
    assert stored.rio.crs == "EPSG:32633"
    assert stored.rio.transform() == UTM


@pytest.mark.slow
def test_the_code_of_the_reference_system_needs_no_other_package(tmp_path: Path) -> None:
    write(tmp_path / "map.tif")
    write(tmp_path / "own.tif", crs="+proj=laea +lat_0=50 +lon_0=10 +datum=WGS84")
    code = f"""
import sys, warnings
sys.modules["rasterio"] = None
import cloudimg
array = cloudimg.open({str(tmp_path / "map.tif")!r}).to_xarray()
print(array.spatial_ref.attrs["spatial_ref"])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    array = cloudimg.open({str(tmp_path / "own.tif")!r}).to_xarray()
print([str(each.message) for each in caught], float(array.x[0]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("EPSG:32633\n")
    assert "pip install rasterio" in done.stdout
    assert done.stdout.endswith("600005.0\n")
