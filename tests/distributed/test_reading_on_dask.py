"""A real cluster of processes: the source is sent once, results and errors come back unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client

import cloudimg
from cloudimg.errors import AccessDeniedError, MismatchError
from tests.support import seed
from tests.support.clusters import local_client
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2, 2) as client:
        yield client


def test_computing_on_processes(client: Client, meter: Meter, bucket: str) -> None:
    image = seed.write(lambda key, data: meter.put(bucket, key, data))
    array = cloudimg.imread(
        f"s3://{bucket}/{seed.PATTERN}",
        storage_options=meter.storage_options,
        chunks={"z": 5, "t": 1, "c": 1},
    )
    assert array.npartitions == 8
    np.testing.assert_array_equal(array.compute(), image)
    assert int(array.sum().compute()) == int(image.sum())


class Counting:
    """Counts, in each process, how often it is unpickled."""

    def __reduce__(self) -> Any:
        return _unpickled, ()


def _unpickled() -> Counting:
    import builtins

    builtins.cloudimg_unpickled = getattr(builtins, "cloudimg_unpickled", 0) + 1  # type: ignore[attr-defined]
    return Counting()


def test_the_source_is_sent_once_per_worker_not_per_task(
    client: Client, meter: Meter, bucket: str
) -> None:
    """Counted by an option in the source that counts how often it is unpickled."""
    seed.write(lambda key, data: meter.put(bucket, key, data))
    array = cloudimg.imread(
        f"s3://{bucket}/{seed.PATTERN}",
        storage_options=meter.storage_options,
        chunks=(1, 1, 1, 48, 72),
    )
    source = array.dask[f"original-{array.name}"]
    source.reader.store.options["listings_expiry_time"] = Counting()

    def count() -> int:
        import builtins

        return int(getattr(builtins, "cloudimg_unpickled", 0))

    before = client.run(count)
    assert array.npartitions == 40
    array.sum().compute()
    after = client.run(count)
    on_workers = {worker: after[worker] - before[worker] for worker in after}
    # Once for the task that holds it, and once more where it is passed on to the other worker.
    assert sum(on_workers.values()) <= 2 * len(on_workers)
    assert sum(on_workers.values()) >= 1


def test_errors_of_workers_come_back_unchanged(client: Client, meter: Meter, bucket: str) -> None:
    plane = np.zeros((16, 24), np.uint16)
    for z in range(4):
        meter.put(bucket, f"z{z}.tif", seed.encode(plane if z != 2 else plane[:-1]))
    options = meter.storage_options
    array = cloudimg.imread(f"s3://{bucket}/z{{z}}.tif", storage_options=options, chunks=1)
    with pytest.raises(MismatchError, match=r"z2\.tif.*\(15, 24\) instead of \(16, 24\)"):
        array.sum().compute()
    # Other files: the cluster may still hold the blocks of these.
    for z in range(2):
        meter.put(bucket, f"denied{z}.tif", seed.encode(plane))
    array = cloudimg.imread(f"s3://{bucket}/denied{{z}}.tif", storage_options=options, chunks=1)
    meter.faults([{"match": r"denied1\.tif", "kind": "status", "status": 403}])
    with pytest.raises(AccessDeniedError, match=r"denied1\.tif"):
        array.sum().compute()


def test_a_worker_reads_a_header_once(client: Client, meter: Meter, bucket: str) -> None:
    """However many of its threads begin with chunks of the same file at the same time."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (1024, 1024), np.uint16)
    meter.put(bucket, "large.tif", seed.encode(pixels, tile=(128, 128)))
    array = cloudimg.imread(
        f"s3://{bucket}/large.tif", storage_options=meter.storage_options, chunks=128
    )
    meter.latency(50)
    with meter.measure() as traffic:
        assert int(array.sum().compute()) == int(pixels.sum(dtype=np.uint64))
    headers = [r for r in traffic.requests if r.range is not None and r.range[0] == 0]
    assert len(headers) == 2


def test_the_processes_scheduler(meter: Meter, bucket: str) -> None:
    image = seed.write(lambda key, data: meter.put(bucket, key, data))
    array = cloudimg.imread(
        f"s3://{bucket}/{seed.PATTERN}", storage_options=meter.storage_options, chunks={"t": 1}
    )
    with dask.config.set(scheduler="processes", num_workers=2):
        np.testing.assert_array_equal(array.compute(), image)
