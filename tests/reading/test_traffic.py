"""What reading costs: requests, bytes and round trips, counted by a store that meters them."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import cloudimg
from tests.support import seed
from tests.support.counting import counted
from tests.support.metering import Meter, Traffic

KIB = 1024


@pytest.fixture(scope="module")
def big() -> npt.NDArray[np.uint16]:
    """8192 x 8192: smooth enough to compress, noisy enough to weigh something."""
    rng = np.random.default_rng(1)
    x = np.arange(8192, dtype=np.float32)
    smooth = 2000 + 500 * np.sin(x / 300) * np.cos(x[:, np.newaxis] / 200)
    return (smooth + rng.integers(0, 64, (8192, 8192), np.uint8)).astype(np.uint16)


def report(what: str, traffic: Traffic) -> None:
    """The figures, for `pytest -rP`."""
    print(
        f"{what}: {len(traffic.requests)} requests ({traffic.lists} listings), "
        f"{traffic.round_trips} in sequence, {traffic.max_concurrent} at once, "
        f"{traffic.bytes_sent} bytes"
    )


def tiled(pixels: npt.NDArray[Any], tile: int, **options: Any) -> bytes:
    return seed.encode(pixels, tile=(tile, tile), compression="zlib", **options)


def directory_moved_to_the_end(data: bytes) -> bytes:
    """The same classic TIFF with its only directory, and the arrays it points to, at the end."""
    size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    moved = bytearray(data)
    moved += b"\0" * (len(moved) % 2)
    at = len(moved)
    entries = bytearray(data[first : first + 2 + 12 * count + 4])
    arrays = bytearray()
    arrays_at = at + len(entries)
    for i in range(count):
        entry = entries[2 + 12 * i : 14 + 12 * i]
        kind = int.from_bytes(entry[2:4], "little")
        n_bytes = size[kind] * int.from_bytes(entry[4:8], "little")
        if n_bytes > 4:
            old = int.from_bytes(entry[8:12], "little")
            entries[2 + 12 * i + 8 : 14 + 12 * i] = (arrays_at + len(arrays)).to_bytes(4, "little")
            arrays += data[old : old + n_bytes]
            moved[old : old + n_bytes] = b"\xff" * n_bytes
    moved[4:8] = at.to_bytes(4, "little")
    moved[first : first + 2 + 12 * count + 4] = b"\xff" * (2 + 12 * count + 4)
    return bytes(moved + entries + arrays)


@pytest.mark.slow
def test_the_moved_directory_is_a_valid_file(big: npt.NDArray[np.uint16]) -> None:
    data = directory_moved_to_the_end(tiled(big[:1024, :1024], 256))
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), big[:1024, :1024])


@pytest.mark.slow
@pytest.mark.parametrize(("at_end", "most_requests"), [(False, 3), (True, 4)])
def test_a_window_of_a_large_tiled_file(
    meter: Meter, bucket: str, big: npt.NDArray[np.uint16], at_end: bool, most_requests: int
) -> None:
    data = tiled(big, 256)
    if at_end:
        data = directory_moved_to_the_end(data)
    meter.put(bucket, "big.tif", data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        counts = np.reshape(tiff.pages.first.databytecounts, (32, 32))
    meter.latency(30)
    with meter.measure() as traffic:
        image = cloudimg.open(f"s3://{bucket}/big.tif", storage_options=meter.storage_options)
        window = image.read({"y": slice(2048, 2560), "x": slice(4096, 4608)})
    np.testing.assert_array_equal(window, big[2048:2560, 4096:4608])
    needed = int(counts[8:10, 16:18].sum())
    report(f"a window of {needed} bytes of tiles", traffic)
    assert len(traffic.requests) <= most_requests
    assert traffic.round_trips <= 3
    assert traffic.bytes_sent <= 1.25 * needed + 64 * KIB
    assert not traffic.heads
    assert not traffic.lists


@pytest.mark.parametrize("how", ["index", "stack"])
def test_opening_360_files_is_the_listing_and_the_headers_that_decide(
    meter: Meter, bucket: str, how: str
) -> None:
    """With {x} and {y} the last file along each may be smaller, so its header is read too.

    A store may end a listing with an error document in an answer with status 200, so the end is
    asked for once more, beginning with the last key, while the first header is read.
    """
    for c, t, z, y, x in np.ndindex(2, 2, 10, 3, 3):
        # The same 100 KB everywhere: what is counted does not depend on the pixels.
        meter.put(bucket, f"mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif", BLANK)
    meter.put(bucket, "another/thing.tif", BLANK)
    meter.latency(200)
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/{seed.PATTERN}", storage_options=meter.storage_options, place=how
        )
        assert image.shape[-2:] == ((3 * 220, 3 * 220) if how == "index" else (220, 220))
        assert image.n_files == 360
        image.to_dask()
    report("opening 360 files", traffic)
    assert traffic.lists == 2  # the second asks for the end again
    assert traffic.round_trips == 2  # the listing, then headers
    assert traffic.gets == (3 if how == "index" else 1)
    assert len(traffic.requests) == traffic.lists + traffic.gets
    # Headers, not pixels.
    assert all(r.range is not None and r.range[1] <= 32 * KIB for r in traffic.requests if r.key)


BLANK = seed.encode(np.zeros((220, 220), np.uint16))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_chunk_of_many_files_is_one_request_each_all_at_once(
    meter: Meter, bucket: str, scheduler: str
) -> None:
    n = 64
    for z in range(n):
        meter.put(bucket, f"z{z}.tif", seed.encode(np.full((64, 64), z, np.uint16)))
    array = cloudimg.imread(
        f"s3://{bucket}/z{{z}}.tif", storage_options=meter.storage_options, chunks=-1
    )
    assert array.npartitions == 1
    meter.latency(200)
    with meter.measure() as traffic, dask.config.set(scheduler=scheduler):
        pixels = array.compute()
    assert (pixels == np.arange(n)[:, None, None]).all()
    report(f"a chunk of {n} files", traffic)
    # The first file, smaller than a header's request, came whole when the image was opened.
    assert {r.key for r in traffic.requests} == {f"z{z}.tif" for z in range(1, n)}
    assert traffic.gets == len(traffic.requests) == n - 1
    assert traffic.max_concurrent == n - 1
    assert traffic.round_trips == 1


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["zlib", None])
def test_a_full_read_moves_little_more_than_the_file(
    meter: Meter, bucket: str, big: npt.NDArray[np.uint16], compression: str | None
) -> None:
    pixels = big[:1024, :1024]
    for size in (256, 1024):
        data = seed.encode(pixels[:size, :size], tile=(128, 128), compression=compression)
        meter.put(bucket, "file.tif", data)
        with meter.measure() as traffic:
            image = cloudimg.open(f"s3://{bucket}/file.tif", storage_options=meter.storage_options)
            got = image.to_dask(chunks=-1).compute()
        np.testing.assert_array_equal(got, pixels[:size, :size])
        report(f"all of a tiled file of {len(data)} bytes", traffic)
        assert traffic.bytes_sent <= 1.02 * len(data)


@pytest.mark.slow
def test_chunks_of_a_large_file_share_its_header(
    meter: Meter, bucket: str, big: npt.NDArray[np.uint16]
) -> None:
    data = tiled(big[:4096, :4096], 512)
    meter.put(bucket, "file.tif", data)
    with meter.measure() as traffic:
        image = cloudimg.open(f"s3://{bucket}/file.tif", storage_options=meter.storage_options)
        got = image.to_dask(chunks=1024).compute()
    np.testing.assert_array_equal(got, big[:4096, :4096])
    assert traffic.bytes_sent <= 1.02 * len(data)
    assert sum(r.range is not None and r.range[0] == 0 for r in traffic.requests) == 1


def test_rows_of_an_uncompressed_plane_are_fetched_not_the_plane(meter: Meter, bucket: str) -> None:
    plane = np.arange(2048 * 4096, dtype=np.uint32).astype(np.uint16).reshape(2048, 4096)
    meter.put(bucket, "file.tif", seed.encode(plane))
    image = cloudimg.open(f"s3://{bucket}/file.tif", storage_options=meter.storage_options)
    with meter.measure() as traffic:
        got = image.read((slice(1000, 1200), slice(None)))
    np.testing.assert_array_equal(got, plane[1000:1200])
    assert len(traffic.requests) == 1
    assert traffic.bytes_sent == 200 * 4096 * 2


@pytest.mark.slow
@pytest.mark.parametrize("tile", [None, (240, 512)])
def test_all_of_a_large_file_is_read_by_many_requests_at_once(
    meter: Meter, bucket: str, tile: tuple[int, int] | None
) -> None:
    """34 MB: a connection is too slow for them. What one request can bring is not cut."""
    plane = np.arange(4250 * 4000, dtype=np.uint32).astype(np.uint16).reshape(4250, 4000)
    data = seed.encode(plane, tile=tile)
    meter.put(bucket, "file.tif", data)
    image = cloudimg.open(f"s3://{bucket}/file.tif", storage_options=meter.storage_options)
    meter.latency(300)
    with meter.measure() as traffic:
        np.testing.assert_array_equal(image.read(), plane)
    report(f"all of a file of {len(data)} bytes", traffic)
    assert 32 <= len(traffic.requests) <= 40
    assert traffic.max_concurrent == len(traffic.requests)
    assert traffic.round_trips == 1
    assert traffic.bytes_sent <= len(data)
    with meter.measure() as traffic:
        np.testing.assert_array_equal(
            image.read((slice(1200, 2160), slice(None))), plane[1200:2160]
        )
    assert len(traffic.requests) == 1


def test_one_plane_of_a_stack(meter: Meter, bucket: str) -> None:
    stack = np.random.default_rng(2).integers(0, 2**16, (50, 200, 300), np.uint16)
    meter.put(bucket, "stack.tif", seed.encode(stack))
    image = cloudimg.open(
        f"s3://{bucket}/stack.tif", storage_options=meter.storage_options, axes={"page": "z"}
    )
    assert image.dims == ("z", "y", "x")
    with meter.measure() as traffic:
        np.testing.assert_array_equal(image.read({"z": 30}), stack[30])
    assert len(traffic.requests) == 1
    assert traffic.bytes_sent == 200 * 300 * 2


@pytest.mark.slow
def test_a_million_blocks_make_a_small_graph_in_few_steps(meter: Meter, bucket: str) -> None:
    data = seed.encode(np.zeros((8, 10), np.uint8))
    meter.fill(
        bucket,
        [
            f"p{a:02d}/s{b:02d}_t{t:02d}_z{z:02d}.tif"
            for a in range(10)
            for b in range(10)
            for t in range(10)
            for z in range(100)
        ],
        data,
    )
    image = cloudimg.open(
        f"s3://{bucket}/p{{a:02d}}/s{{b:02d}}_t{{t:02d}}_z{{z:02d}}.tif",
        storage_options=meter.storage_options,
    )
    assert image.n_files == 100_000
    image.to_dask(chunks=(1, 1, 1, 1, 8, 10))  # imports are not what is counted
    with counted() as cost:
        array = image.to_dask(chunks=(1, 1, 1, 1, 4, 2))
    assert array.npartitions == 1_000_000
    pickled = pickle.dumps(array.dask)
    print(f"a million blocks: {cost.steps} steps, {len(pickled)} bytes pickled")
    # A step for each file would be twice as many, and a list of the blocks 8 MB.
    assert cost.steps < 50_000
    assert cost.peak_bytes < 500_000
    assert len(pickled) < 100_000
    # The pattern gives the keys: none of them is listed.
    assert pickled.count(b".tif") < 10


@pytest.mark.slow
def test_a_million_files_along_one_axis_travel_small(meter: Meter, bucket: str) -> None:
    """Dask's own chunk lengths are as many as the blocks; the source is not."""
    data = seed.encode(np.zeros((8, 8), np.uint8))
    meter.fill(bucket, [f"t{t}.tif" for t in range(100_000)], data)
    image = cloudimg.open(f"s3://{bucket}/t{{t}}.tif", storage_options=meter.storage_options)
    assert image.shape == (100_000, 8, 8)
    array = image.to_dask(chunks=(1000, 8, 8))
    assert len(pickle.dumps(array.dask)) < 100_000


@pytest.mark.slow
def test_automatic_chunks_stay_few(meter: Meter, bucket: str) -> None:
    data = seed.encode(np.zeros((8, 8), np.uint8))
    meter.fill(bucket, [f"t{t}_z{z}.tif" for t in range(300) for z in range(300)], data)
    array = cloudimg.imread(
        f"s3://{bucket}/t{{t}}_z{{z}}.tif", storage_options=meter.storage_options
    )
    assert array.npartitions == 1
    with dask.config.set({"array.chunk-size": "100B"}):
        array = cloudimg.imread(
            f"s3://{bucket}/t{{t}}_z{{z}}.tif", storage_options=meter.storage_options
        )
    assert 10_000 < array.npartitions <= 100_000


MEMORY_SCRIPT = """
import resource, sys, threading
import numpy as np
import cloudimg, json
url, options = sys.argv[1], json.loads(sys.argv[2])
image = cloudimg.open(url, storage_options=options)
# Decoders, threads, connections and Dask's imports are not what is measured.
image.to_dask(chunks=-1)[:16].sum().compute(scheduler="synchronous")
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, peak, done = resident(), [0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], resident())
thread = threading.Thread(target=watch); thread.start()
# A sum, because `compute` of the array itself ends with a copy of it that Dask makes.
total = image.to_dask(chunks=-1).sum().compute(scheduler="synchronous")
done.set(); thread.join()
print(json.dumps({"peak": peak[0] - before, "sum": int(total)}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("many_files", [False, True])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory of Linux")
def test_peak_memory_of_one_chunk(
    meter: Meter, bucket: str, big: npt.NDArray[np.uint16], many_files: bool
) -> None:
    """At most the compressed bytes and 1.2 times the decoded chunk."""
    import json

    if many_files:
        stored = 0
        for y in range(4):
            for x in range(4):
                part = big[y * 2048 : (y + 1) * 2048, x * 2048 : (x + 1) * 2048]
                data = tiled(part, 512)
                stored += len(data)
                meter.put(bucket, f"{x}x_{y}y.tif", data)
        url = f"s3://{bucket}/{{x}}x_{{y}}y.tif"
    else:
        data = tiled(big, 512)
        stored = len(data)
        meter.put(bucket, "big.tif", data)
        url = f"s3://{bucket}/big.tif"
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, url, json.dumps(meter.storage_options)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
    )
    measured = json.loads(answer.stdout)
    assert measured["sum"] == int(big.sum(dtype=np.uint64))
    bound = stored + 1.2 * big.nbytes
    print(f"peak {measured['peak']} bytes, {measured['peak'] / bound:.2f} of the bound")
    assert measured["peak"] <= bound
