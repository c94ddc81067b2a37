"""Copies as sources of migrations that are killed, and of work on a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cloudimg
from tests.support.clusters import local_client
from tests.support.copies import image_of, objects
from tests.support.metering import Meter

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 4000, (6, 64, 64), dtype=np.uint16)


class KilledError(Exception):
    pass


def test_a_migration_of_a_copy_goes_on_where_it_was_stopped(meter: Meter, bucket: str) -> None:
    first, options = f"s3://{bucket}/first.zarr", meter.storage_options
    cells: dict[str, Any] = {"chunks": 32, "shards": {"t": 1}, "levels": 1}
    cloudimg.to_zarr(PIXELS, first, dims=("t", "y", "x"), storage_options=options, **cells)
    both = {"source_options": options, "target_options": options}
    seen: list[int] = []

    def stop(advance: Any) -> None:
        seen.append(getattr(advance, "n_done", 0) or 0)
        if seen[-1] >= 2:
            raise KilledError

    second = f"s3://{bucket}/second.zarr"
    with pytest.raises(KilledError):
        cloudimg.migrate(first, second, progress=stop, max_mem="1MB", **both, **cells)
    done = cloudimg.migrate(first, second, **both, **cells)
    assert 0 < done.n_done_before < done.n_cells == 6
    cloudimg.migrate(first, f"s3://{bucket}/third.zarr", **both, **cells)
    of_second, of_third = (
        {
            key: data
            for key, data in image_of(objects(f"s3://{bucket}/{name}.zarr", options)).items()
            if key.startswith("0/")
        }
        for name in ("second", "third")
    )
    assert of_second == of_third
    assert cloudimg.verify(second, against_source=True, storage_options=options)


def test_workers_read_copies(meter: Meter, bucket: str) -> None:
    url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
    cloudimg.to_zarr(PIXELS, url, dims=("t", "y", "x"), chunks=32, storage_options=options)
    with local_client(2, 2) as client:
        lazy = cloudimg.open(url, storage_options=options).to_dask({"t": 2})
        np.testing.assert_array_equal(lazy.compute(), PIXELS)
        there = cloudimg.open(url, storage_options=options, client=client)
        np.testing.assert_array_equal(there.read(), PIXELS)
        cloudimg.migrate(
            url, f"s3://{bucket}/second.zarr", client=client, chunks=16,
            source_options=options, target_options=options,
        )  # fmt: skip
    copy = cloudimg.open(f"s3://{bucket}/second.zarr", storage_options=options)
    np.testing.assert_array_equal(copy.read(), PIXELS)
