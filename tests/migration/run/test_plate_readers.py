"""Plates, collections and overviews open at their root in programs of today, where installed."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg

ome_zarr_io = pytest.importorskip("ome_zarr.io")
ome_zarr_reader = pytest.importorskip("ome_zarr.reader")
napari_ome_zarr = pytest.importorskip("napari_ome_zarr")
ngio = pytest.importorskip("ngio")

SIDE = 30, 32


def opened(path: Path) -> Any:
    """Pixels that ome-zarr-py shows at a root, after napari's reader has shown as many."""
    (layer, *_) = napari_ome_zarr.napari_get_reader(str(path))(str(path))
    (node,) = ome_zarr_reader.Reader(ome_zarr_io.parse_url(path))()
    assert layer[0][0].shape == node.data[0].shape
    return np.asarray(node.data[0])


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_plate_and_its_overview(tmp_path: Path, zarr_format: Any) -> None:
    images = {}
    for number, (well, field) in enumerate(product(("A01", "B02"), (1, 2))):
        images[well, field] = np.full(SIDE, 10 + number, np.uint8)
        tifffile.imwrite(tmp_path / f"{well}_{field}.tif", images[well, field])
    copy = tmp_path / "copy.zarr"
    pattern = f"{tmp_path}/{{well:s}}_{{field}}.tif"
    cloudimg.migrate(pattern, copy, zarr_format=zarr_format, overview=True)

    plate, overview = opened(copy), opened(copy / "overview")
    empty = np.zeros(SIDE, np.uint8)
    # The first field of each well, and all fields.
    np.testing.assert_array_equal(
        plate, np.block([[images["A01", 1], empty], [empty, images["B02", 1]]])
    )
    fields = [np.hstack([images[well, 1], images[well, 2]]) for well in ("A01", "B02")]
    np.testing.assert_array_equal(
        overview, np.block([[fields[0], 0 * fields[0]], [0 * fields[1], fields[1]]])
    )

    read = ngio.open_ome_zarr_plate(copy)
    assert (read.rows, read.columns) == (["A", "B"], ["01", "02"])
    assert sorted(read.wells_paths()) == ["A/01", "B/02"]
    for (well, field), pixels in images.items():
        image = read.get_image(row=well[0], column=well[1:], image_path=str(field - 1))
        np.testing.assert_array_equal(image.get_image().get_as_numpy(), pixels)


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_collection(tmp_path: Path, zarr_format: Any) -> None:
    for number, (pos, kind) in enumerate(product("12", "ab")):
        tifffile.imwrite(tmp_path / f"{pos}_{kind}.tif", np.full(SIDE, 10 + number, np.uint8))
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/{{pos}}_{{kind:s}}.tif", copy, zarr_format=zarr_format)
    assert (opened(copy) == 10).all()
    layers = napari_ome_zarr.napari_get_reader(str(copy))(str(copy))
    assert [int(np.asarray(layer[0][0]).max()) for layer in layers] == [10, 11, 12, 13]
    assert (ngio.open_ome_zarr_container(copy).get_image().get_as_numpy() == 10).all()
