"""Real acquisitions, opened by pattern from every kind of store, against tifffile file by file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

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


@pytest.mark.slow
def test_cv8000_wells_fields_z_and_the_channel_that_is_named_twice(
    acquisitions: Path, place: Place, cv8000_digests: dict[str, str]
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
        for f, c, z in np.ndindex(4, 2, 4):
            name = (
                f"CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well}_T0001F{f + 1:03d}L01"
                f"A{c + 1:02d}Z{z + 1:02d}C{c + 1:02d}.tif"
            )
            assert digest(pixels[f, 0, c, z]) == cv8000_digests[name]


def digest(pixels: np.ndarray[Any, Any]) -> str:
    """Of the bits, the type and the shape."""
    data = hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=16)
    data.update(f"{pixels.dtype.str}{pixels.shape}".encode())
    return data.hexdigest()


@pytest.fixture(scope="module")
def cv8000_digests(acquisitions: Path) -> dict[str, str]:
    """What tifffile reads, file by file; 768 MB that are decoded once for all places."""
    return {
        path.name: digest(tifffile.imread(path)) for path in (acquisitions / "cv8000").iterdir()
    }


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
