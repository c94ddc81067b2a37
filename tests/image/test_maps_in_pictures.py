"""Pictures of georeferenced images: nodata is not contrast, and bands are colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image as Pillow
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

import cloudimg
from cloudimg.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
Array = npt.NDArray[Any]
UTM = Affine(10, 0, 600000, 0, -10, 5300000)
SIZE = 40


def write(path: Path, bands: Array, names: tuple[str, ...] = (), **options: Any) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=SIZE, width=SIZE, dtype=bands.dtype,
        **{"crs": "EPSG:32633", "transform": UTM, **options},
    ) as file:  # fmt: skip
        file.write(bands)
        if names:
            file.descriptions = names


def picture(url: str | Path, folder: Path, **options: Any) -> Array:
    cloudimg.preview(str(url), str(folder / "picture.png"), **options)
    return np.asarray(Pillow.open(folder / "picture.png"))


def scene(n_bands: int, dtype: Any = np.uint16, base: int = 1000) -> Array:
    """Bands of which each is bright in columns of its own."""
    bands = np.full((n_bands, SIZE, SIZE), base, dtype)
    width = SIZE // n_bands
    for i in range(n_bands):
        bands[i, :, i * width : (i + 1) * width] = 3 * base
    return bands


def bright_columns(shown: Array, n_bands: int) -> list[tuple[int, ...]]:
    """Which samples are bright in the columns of each band."""
    width = SIZE // n_bands
    return [tuple(int(v > 200) for v in shown[5, i * width + width // 2]) for i in range(n_bands)]


RED, GREEN, BLUE, NONE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)


@pytest.mark.parametrize("fill", [-9999.0, np.nan, 65535.0])
def test_nodata_is_left_out_of_the_contrast(tmp_path: Path, fill: float) -> None:
    values = np.linspace(100, 200, SIZE * SIZE, dtype=np.float32).reshape(1, SIZE, SIZE)
    write(tmp_path / "plain.tif", values)
    expected = picture(tmp_path / "plain.tif", tmp_path)
    gaps = values.copy()
    gaps[:, 10:30, 10:30] = fill
    write(tmp_path / "gaps.tif", gaps, nodata=fill)
    shown = picture(tmp_path / "gaps.tif", tmp_path)
    is_gap = np.isnan(gaps[0]) if np.isnan(fill) else gaps[0] == fill
    assert (shown[is_gap] == 0).all()
    np.testing.assert_allclose(shown[~is_gap].astype(int), expected[~is_gap], atol=1)


def test_nodata_beside_pixels_does_not_darken_them(tmp_path: Path) -> None:
    """Downscaled, a pixel at the edge has the mean of what is there."""
    values = np.full((1, SIZE, SIZE), 500, np.uint16)
    values[:, :, :5] = 200
    values[:, :, 21:] = 0
    write(tmp_path / "map.tif", values, nodata=0)
    shown = picture(tmp_path / "map.tif", tmp_path, size=10)  # 4 pixels in one
    assert (shown[:, 5] == shown[:, 4]).all()
    assert (shown[:, 6:] == 0).all()


def test_black_pixels_of_a_colour_are_not_nodata(tmp_path: Path) -> None:
    bands = np.zeros((3, SIZE, SIZE), np.uint8)
    bands[0] = 200
    bands[:, :, 20:] = 0
    bands[1, 0, 0] = 7
    write(tmp_path / "map.tif", bands, nodata=0, photometric="RGB")
    shown = picture(tmp_path / "map.tif", tmp_path)
    assert tuple(shown[5, 5]) == (200, 0, 0)
    assert tuple(shown[5, 30]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("n_bands", "names", "colours"),
    [
        (5, (), [NONE, BLUE, GREEN, RED, NONE]),
        (4, (), [NONE, BLUE, GREEN, RED]),
        (4, ("blue", "green", "red", "nir"), [BLUE, GREEN, RED, NONE]),
        (5, ("B02", "B03", "B04", "B08", "B05"), [BLUE, GREEN, RED, NONE, NONE]),
        (5, ("Red Edge", "NIR", "B3 Green", "B1 Blue", "B4, red"), [NONE, NONE, GREEN, BLUE, RED]),
        (4, ("SR_B4", "SR_B3", "SR_B2", "SR_B1"), [RED, GREEN, BLUE, NONE]),
    ],
    ids=str,
)
@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_bands_of_one_file(
    tmp_path: Path, n_bands: int, names: tuple[str, ...], colours: list[Any], interleave: str
) -> None:
    path = tmp_path / "map.tif"
    options = {"photometric": "MINISBLACK", "alpha": "unspecified"}
    write(path, scene(n_bands), names, interleave=interleave, **options)
    assert bright_columns(picture(path, tmp_path), n_bands) == colours
    write(path, scene(n_bands), names, crs=None, transform=None, **options)
    assert bright_columns(picture(path, tmp_path), n_bands) != colours  # not a map


def test_opacity_is_not_a_band(tmp_path: Path) -> None:
    bands = scene(4)
    bands[3] = 2**16 - 1
    write(tmp_path / "map.tif", bands, photometric="MINISBLACK", alpha="unspecified")
    with rasterio.open(tmp_path / "map.tif", "r+") as file:
        file.colorinterp = (*[ColorInterp.gray] * 3, ColorInterp.alpha)
    assert cloudimg.open(tmp_path / "map.tif").attrs["samples"][3] == "alpha: unassociated"
    shown = picture(tmp_path / "map.tif", tmp_path)
    assert len({tuple(shown[5, x]) for x in (5, SIZE // 4 + 5, SIZE // 2 + 5)}) == 3
    write(tmp_path / "map.tif", bands[:3], photometric="MINISBLACK", alpha="unspecified")
    without = picture(tmp_path / "map.tif", tmp_path)
    np.testing.assert_array_equal(shown, without)


def test_names_go_before_colours_of_the_header(tmp_path: Path) -> None:
    """GDAL calls the first three of four bands of 8 bits red, green and blue."""
    names = ("B02", "B03", "B04", "B08")
    write(tmp_path / "map.tif", scene(4, np.uint8, 80), names, photometric="RGB")
    assert cloudimg.open(tmp_path / "map.tif").attrs["color_space"] == "rgb"
    shown = bright_columns(picture(tmp_path / "map.tif", tmp_path), 4)
    assert shown == [BLUE, GREEN, RED, NONE]


@pytest.mark.parametrize("field", ["B{band}", "{band:[^.]+}", "B{c}"])
def test_bands_of_several_files(tmp_path: Path, field: str) -> None:
    """In any order, with others between them, which are not read."""
    bands = scene(5)
    for pixels, name in zip(bands, ("B02", "B03", "B04", "B08", "B11"), strict=True):
        write(tmp_path / f"{name}.tif", pixels[np.newaxis])
    assert bright_columns(picture(f"{tmp_path}/{field}.tif", tmp_path), 5) == [
        BLUE, GREEN, RED, NONE, NONE,
    ]  # fmt: skip
    shown = picture(f"{tmp_path}/{field}.tif", tmp_path, index={"c" if "c" in field else "band": 0})
    assert shown.ndim == 2


def test_the_command_says_which_bands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "map.tif", scene(5), photometric="MINISBLACK")
    assert main(["preview", f"{tmp_path}/map.tif", f"{tmp_path}/map.png"]) == 0
    assert "s=3,2,1 (RGB)" in capsys.readouterr().out
