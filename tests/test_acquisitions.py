"""Real acquisitions, opened by pattern from every kind of store, against tifffile file by file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.conftest import Place

PATTERNS = {
    "cv8000": "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well:s}_T{t:04d}F{f:03d}L01A{c:02d}"
    "Z{z:02d}C{c:02d}.tif",
    "illum": "AS_09047_050428030001_O{row}f{field}d2.TIF",
    "drosophila": "DrosophilaEmbryo_GFPHistone_{t}.tif",
}


def upload(folder: Path, place: Place) -> None:
    for path in folder.iterdir():
        place.put(path.name, path.read_bytes())


def test_cv8000_wells_fields_z_and_the_channel_that_is_named_twice(
    acquisitions: Path, place: Place
) -> None:
    folder = acquisitions / "cv8000"
    upload(folder, place)
    image = cloudimg.open(
        f"{place.url}/{PATTERNS['cv8000']}", storage_options=place.storage_options
    )
    assert image.dims == ("well", "f", "t", "c", "z", "y", "x")
    assert image.shape == (3, 4, 1, 2, 4, 2000, 2000)
    assert list(image.coords["well"]) == ["D08", "E03", "F08"]
    assert list(image.coords["f"]) == [1, 2, 3, 4]
    array = image.to_dask()
    for w, well in enumerate(image.coords["well"]):
        pixels = array[w].compute()
        for f in range(4):
            for c in range(2):
                for z in range(4):
                    name = (
                        f"CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well}_T0001F{f + 1:03d}L01"
                        f"A{c + 1:02d}Z{z + 1:02d}C{c + 1:02d}.tif"
                    )
                    expected = tifffile.imread(folder / name)
                    np.testing.assert_array_equal(pixels[f, 0, c, z], expected)


@pytest.mark.parametrize("name", ["illum", "drosophila"])
def test_equal_to_tifffile_file_by_file(acquisitions: Path, place: Place, name: str) -> None:
    folder = acquisitions / name
    upload(folder, place)
    url = f"{place.url}/{PATTERNS[name]}"
    array = cloudimg.imread(url, storage_options=place.storage_options)
    files = sorted(folder.iterdir())
    expected = np.stack([tifffile.imread(path) for path in files])
    if name == "illum":
        expected = expected.reshape(24, 3, *expected.shape[1:])
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array.compute(), expected)
    image = cloudimg.open(url, storage_options=place.storage_options)
    assert (
        image.dims
        == {"illum": ("row", "field", "y", "x"), "drosophila": ("t", "y", "x", "s")}[name]
    )
    assert image.n_files == len(files)
    assert image.n_missing == 0
    np.testing.assert_array_equal(image.read(), expected)
