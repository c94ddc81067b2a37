"""The seed's scheme: shape, order, mosaic, values; and that a slice reads only its files."""

from __future__ import annotations

import re

import numpy as np

import cloudimg
from tests.conftest import Place
from tests.support import seed
from tests.support.metering import Meter


def test_shape_order_mosaic_and_values(place: Place) -> None:
    image = seed.write(place.put)
    array = cloudimg.imread(f"{place.url}/{seed.PATTERN}", storage_options=place.storage_options)
    assert array.shape == (2, 2, 10, 48, 72)
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array.compute(), image)
    np.testing.assert_array_equal(array[0, 1, 4].compute(), image[0, 1, 4])
    np.testing.assert_array_equal(array[0, :, 4].max(axis=0).compute(), image[0, :, 4].max(axis=0))
    np.testing.assert_array_equal(
        array[1, 0, ::-3, 5:40:7, -60::11].compute(), image[1, 0, ::-3, 5:40:7, -60::11]
    )


def test_a_slice_reads_only_its_files(meter: Meter, bucket: str) -> None:
    image = seed.write(lambda key, data: meter.put(bucket, key, data))
    array = cloudimg.imread(f"s3://{bucket}/{seed.PATTERN}", storage_options=meter.storage_options)
    with meter.measure() as traffic:
        plane = array[0, 1, 4].compute()
    np.testing.assert_array_equal(plane, image[0, 1, 4])
    read = {request.key for request in traffic.requests}
    assert read == {f"mydata_ch1_0t_{x}x_{y}y_4z.tif" for x in range(3) for y in range(3)}
    assert len(traffic.requests) == 9


def test_a_slice_within_one_chunk_of_ten_planes_fetches_one(meter: Meter, bucket: str) -> None:
    seed.write(lambda key, data: meter.put(bucket, key, data))
    array = cloudimg.imread(
        f"s3://{bucket}/{seed.PATTERN}",
        storage_options=meter.storage_options,
        chunks={"t": 1, "c": 1, "z": 10},
    )
    assert array.chunksize == (1, 1, 10, 48, 72)
    with meter.measure() as traffic:
        array[0, 0, 4].compute()
    assert {re.findall(r"_(\d+)z", str(r.key))[0] for r in traffic.requests} == {"4"}


def test_edge_tiles_may_be_smaller(place: Place) -> None:
    image = np.arange(50 * 70, dtype=np.uint16).reshape(50, 70)
    for y in range(2):
        for x in range(3):
            part = image[y * 30 : (y + 1) * 30, x * 30 : (x + 1) * 30]
            place.put(f"tile_{x}x_{y}y.tif", seed.encode(part))
    found = cloudimg.open(
        f"{place.url}/tile_{{x}}x_{{y}}y.tif", storage_options=place.storage_options
    )
    assert found.shape == (50, 70)
    np.testing.assert_array_equal(found.read(), image)
    np.testing.assert_array_equal(found.to_dask(chunks=17).compute(), image)
    assert list(np.unique(found.coords["x_label"])) == [0, 1, 2]
    assert list(np.bincount(found.coords["x_label"])) == [30, 30, 10]
