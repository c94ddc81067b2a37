"""Workers with little memory: what they hold at once, how chunks suit them, and what users read."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, ChunkCostWarning, CloudimgWarning
from cloudimg.settings import settings
from tests.support import seed
from tests.support.clusters import local_client
from tests.support.metering import Meter
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow  # all of them together: each has a cluster of its own

LIMIT = 400 * 10**6
PATTERN = "exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
N_TIMES = 6
SIDE = 13248
"""A plane of 351 MB."""


def plane(side: int) -> npt.NDArray[np.uint16]:
    """Pixels whose rows and columns differ."""
    y, x = np.ogrid[:side, :side]
    return ((y * 31 + x * 17) % 4001).astype(np.uint16)


def fill(meter: Meter, bucket: str) -> tuple[int, float]:
    """Put 512 KB files of an acquisition there; return their size and mean."""
    pixels = plane(512)
    data = seed.encode(pixels)
    names = [
        PATTERN.format(c=c, t=t, x=x, y=y, z=z)
        for t in range(N_TIMES)
        for c in range(2)
        for z in range(10)
        for y in range(3)
        for x in range(3)
    ]
    meter.fill(bucket, names, data)
    return len(names) * len(data), float(pixels.mean())


def archive(meter: Meter, bucket: str, **arguments: Any) -> Any:
    """The lazy array of the acquisition."""
    url = f"s3://{bucket}/{PATTERN}"
    return cloudimg.imread(url, storage_options=meter.storage_options, **arguments)


def memory() -> tuple[int, int]:
    """Process id and largest resident memory in bytes; runs on workers."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return os.getpid(), int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def compute_mean(client: Any, array: Any, expected: float) -> None:
    """Compute the mean; the workers stay the same and below 85 % of their memory."""
    before = {pid for pid, _ in client.run(memory).values()}
    assert float(array.mean().compute()) == pytest.approx(expected)
    after: Mapping[str, tuple[int, int]] = client.run(memory)
    assert {pid for pid, _ in after.values()} == before
    assert max(peak for _, peak in after.values()) <= 0.85 * LIMIT


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_mean_of_an_archive_on_small_workers(meter: Meter, bucket: str, n_threads: int) -> None:
    n_bytes, mean = fill(meter, bucket)
    with local_client(3, n_threads, memory_limit=str(LIMIT)) as client:
        meter.latency(20)
        with meter.measure() as traffic:
            array = cloudimg.imread(
                f"s3://{bucket}/{PATTERN}", storage_options=meter.storage_options
            )
            assert array.npartitions >= 2 * 3 * n_threads
            compute_mean(client, array, mean)
        meter.latency(0)
    assert n_bytes <= traffic.bytes_sent <= 1.01 * n_bytes


def test_what_is_computed_in_float64_on_small_workers(meter: Meter, bucket: str) -> None:
    """The standard deviation takes several times the memory of a chunk of 16-bit integers."""
    fill(meter, bucket)
    with local_client(2, 1, memory_limit=str(LIMIT)) as client:
        before = {pid for pid, _ in client.run(memory).values()}
        deviation = archive(meter, bucket).std().compute()
        assert float(deviation) == pytest.approx(float(plane(512).std()))
        assert {pid for pid, _ in client.run(memory).values()} == before


@pytest.mark.parametrize(
    "options",
    [{}, {"rowsperstrip": 64}, {"tile": (512, 512)}, {"tile": (512, 512), "compression": "zlib"}],
    ids=["one strip", "strips", "tiles", "deflate"],
)
def test_one_large_file_on_small_workers(
    meter: Meter, bucket: str, options: Mapping[str, Any]
) -> None:
    pixels = plane(SIDE)
    mean = float(pixels.mean())
    encoded = io.BytesIO()
    tifffile.imwrite(encoded, pixels, **options)
    del pixels
    data = encoded.getvalue()
    meter.put(bucket, "large.tif", data)
    size = len(data)
    del data, encoded
    url = f"s3://{bucket}/large.tif"
    with local_client(3, 2, memory_limit=str(LIMIT)) as client, meter.measure() as traffic:
        array = cloudimg.imread(url, storage_options=meter.storage_options)
        assert array.npartitions >= 2 * 3 * 2
        compute_mean(client, array, mean)
    assert traffic.bytes_sent <= 1.02 * size


def test_large_workers_get_the_usual_chunks_and_requests(meter: Meter, bucket: str) -> None:
    fill(meter, bucket)
    options = meter.storage_options
    usual = cloudimg.open(f"s3://{bucket}/{PATTERN}", storage_options=options)
    chunks = usual.chunks
    counts = []
    with local_client(1, 1, memory_limit="4GB"):
        assert usual.chunks == chunks
        meter.latency(100)
        for given in (chunks, "auto"):
            array = cloudimg.imread(
                f"s3://{bucket}/{PATTERN}", storage_options=options, chunks=given
            )
            with meter.measure() as traffic:
                array[0].mean().compute()
            counts.append((traffic.gets, traffic.bytes_sent))
            assert traffic.max_concurrent >= 32
        meter.latency(0)
    assert counts[0] == counts[1]


def test_chunks_for_a_client_that_dask_does_not_use(meter: Meter, bucket: str) -> None:
    fill(meter, bucket)
    usual = archive(meter, bucket)
    image = cloudimg.open(f"s3://{bucket}/{PATTERN}", storage_options=meter.storage_options)
    with local_client(2, 2, set_as_default=False, memory_limit=str(LIMIT)) as client:
        assert image.to_dask().chunks == usual.chunks
        smaller = image.to_dask(client=client)
        largest = np.prod([max(lengths) for lengths in smaller.chunks]) * 2
        assert LIMIT // 128 <= largest <= (LIMIT - 200_000_000) // 2 // 16
        assert image.to_dask(client=client).name == smaller.name != usual.name
    assert image.to_dask().chunks == usual.chunks == image.chunks


def test_bytes_in_flight_are_a_tenth_of_the_memory(meter: Meter, bucket: str) -> None:
    data = seed.encode(plane(1448))  # 4.2 MB
    meter.fill(bucket, [f"flight/z{z}.tif" for z in range(40)], data)
    url = f"s3://{bucket}/flight/z{{z}}.tif"
    meter.latency(100)
    with local_client(1, 2, memory_limit=str(LIMIT)):
        array = cloudimg.imread(url, storage_options=meter.storage_options, chunks=(5, -1, -1))
        with meter.measure() as traffic:
            assert int(array.max().compute()) == 4000
    meter.latency(0)
    assert traffic.bytes_sent == 40 * len(data)
    assert 2 <= traffic.max_concurrent <= LIMIT // 10 // len(data)


def test_the_settings_of_a_worker_are_its_own() -> None:
    def chosen() -> tuple[int, int, int]:
        here = settings()
        return here.max_requests, here.max_bytes_in_flight, here.decode_threads

    with local_client(1, 3, memory_limit=str(LIMIT)) as client:
        assert client.submit(chosen).result(HANG_S) == (64, LIMIT // 10, 3)
    with local_client(1, 1, memory_limit="8GB") as client:
        assert client.submit(chosen).result(HANG_S) == (64, 256 * 2**20, 1)


def read_as_image(file: Any, url: str) -> npt.NDArray[Any]:
    """A user's reader that reads another image with cloudimg."""
    other = url.replace("outer", "inner").replace(".raw", ".tif")
    return np.asarray(cloudimg.open(other).read())


def test_a_reader_that_reads_larger_images_than_are_allowed_at_once(tmp_path: Path) -> None:
    """Each file alone exceeds the pixels and the bytes that a worker may have under way."""
    pixels = plane(5500)  # 60 MB
    for z in range(4):
        (tmp_path / f"outer{z}.raw").write_bytes(b"raw")
        tifffile.imwrite(tmp_path / f"inner{z}.tif", pixels)
    with local_client(1, 2, memory_limit="1GB"):
        array = cloudimg.imread(
            f"{tmp_path}/outer{{z}}.raw", imread=read_as_image, chunks=(1, -1, -1)
        )
        np.testing.assert_allclose(array.mean().compute(), pixels.mean())


def test_threads_of_a_worker_end_when_they_are_idle(meter: Meter, bucket: str) -> None:
    fill(meter, bucket)

    def own_threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("cloudimg")]

    with local_client(1, 2, memory_limit=str(LIMIT)) as client:
        array = archive(meter, bucket)
        array[0].mean().compute()
        wait_until(lambda: client.run(own_threads).popitem()[1] == [], "idle threads to end")


def test_chunks_that_are_too_large_are_named_before_a_read(meter: Meter, bucket: str) -> None:
    fill(meter, bucket)
    whole = {"t": 1, "c": 2, "z": -1, "y": -1, "x": -1}  # 94 MB
    earlier = archive(meter, bucket, chunks=whole)
    with local_client(1, 2, memory_limit=str(LIMIT)):
        said = (
            "a chunk of 94 MB for each thread, and what is computed from it, may be too much for a"
            " worker with 400 MB of memory"
            " and 2 threads"
        )
        with pytest.warns(ChunkCostWarning, match=said) as found:
            archive(meter, bucket, chunks=whole)
        assert "chunks= of up to 25 MB" in str(found[0].message)
        assert found[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error", ChunkCostWarning)
            archive(meter, bucket)
        # Of an array that was made before there was a cluster, the worker tells the client.
        with pytest.warns(CloudimgWarning, match=said):
            earlier[0].max().compute()


def test_a_migration_names_workers_that_are_too_small(meter: Meter, bucket: str) -> None:
    fill(meter, bucket)
    options = meter.storage_options
    copy = f"s3://{bucket}/copy.zarr"
    given: dict[str, Any] = {"source_options": options, "target_options": options}
    given["allow_unmatched"] = True
    url = f"s3://{bucket}/{PATTERN}".replace("{t}", "0")
    large = {"c": 2, "z": 10, "y": 1536, "x": 1536}  # 94 MB
    with local_client(2, 1, memory_limit=str(LIMIT)) as client:
        before = {pid for pid, _ in client.run(memory).values()}
        with (
            meter.measure() as traffic,
            pytest.raises(ArgumentError, match="too little memory on the cluster") as caught,
        ):
            cloudimg.migrate(url, copy, client=client, shards=large, chunks=512, **given)
        assert "the smallest worker has 381.47 MiB" in str(caught.value)
        assert "use smaller shards (shards=)" in str(caught.value)
        assert traffic.puts == 0
        cloudimg.migrate(url, copy, client=client, **given)
        assert {pid for pid, _ in client.run(memory).values()} == before
    assert cloudimg.verify(copy, storage_options=options)
