"""How fast cloudimg copies an archive to OME-Zarr, beside what people use instead.

One run starts the metering S3 server of the tests (a process of its own, everything in memory, a
fixed latency before each answer), puts 360 uncompressed TIFF files of 512 x 512 uint16 there
(2 times x 2 channels x 10 planes x 3 x 3 tiles), and has each contender write them to Zarr, with
three levels, in a fresh interpreter; imports are not timed. Level 0 of every result is compared
with the truth.

  cloudimg   cloudimg.migrate
  dask       dask.array.to_zarr of one delayed read a file (s3fs, tifffile), level 0 alone
  ngff-zarr  ngff_zarr.to_multiscales and to_ngff_zarr of the array that cloudimg.imread gives, to a
             local folder: it writes to no other place, so that the upload is spared to it

``python benchmarks/migrate.py [--latency-ms 30] [--runs 3]`` needs ngff-zarr, s3fs, tifffile.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import objects
from tests.support.metering import Meter

BUCKET = "benchmark"
TILE = (512, 512)
PATTERN = f"s3://{BUCKET}/src/{objects.NAME}"
LEVELS = 3


def options(endpoint: str) -> dict[str, Any]:
    return {"key": "x", "secret": "y", "client_kwargs": {"endpoint_url": endpoint}}


def by_cloudimg(endpoint: str, out: str) -> None:
    import cloudimg

    store = options(endpoint)
    cloudimg.migrate(
        PATTERN,
        out,
        source_options=store,
        target_options=store,
        levels=LEVELS,
    )


def by_dask(endpoint: str, out: str) -> None:
    import io

    import dask
    import dask.array as da
    import s3fs
    import zarr

    store = options(endpoint)
    fs = s3fs.S3FileSystem(**store)

    @dask.delayed
    def read(path: str) -> Any:
        return tifffile.imread(io.BytesIO(fs.cat_file(path)))

    def tile(t: int, c: int, z: int, y: int, x: int) -> Any:
        name = f"{BUCKET}/src/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
        return da.from_delayed(read(name), TILE, np.uint16)

    array = da.stack(
        [
            da.stack(
                [
                    da.stack(
                        [
                            da.block([[tile(t, c, z, y, x) for x in range(3)] for y in range(3)])
                            for z in range(10)
                        ]
                    )
                    for c in range(2)
                ]
            )
            for t in range(2)
        ]
    )
    target = zarr.storage.FsspecStore.from_url(out, storage_options=store)
    da.to_zarr(array, target, component="0")


def by_ngff_zarr(endpoint: str, out: str) -> None:
    import ngff_zarr

    import cloudimg

    store = options(endpoint)
    array = cloudimg.imread(PATTERN, storage_options=store)
    image = ngff_zarr.to_ngff_image(array, dims=("t", "c", "z", "y", "x"))
    multiscales = ngff_zarr.to_multiscales(
        image,
        [{"z": 1, "y": 2, "x": 2}, {"z": 1, "y": 4, "x": 4}],
        chunks={"t": 1, "c": 1, "z": 1, "y": 512, "x": 512},
    )
    ngff_zarr.to_ngff_zarr(local_folder(out), multiscales, version="0.5")


def local_folder(out: str) -> str:
    """Where a contender that cannot write to S3 writes."""
    return str(Path(tempfile.gettempdir()) / "cloudimg-benchmark" / out.rpartition("/")[2])


MODULES = {
    "cloudimg": (
        "cloudimg.migration.run.write",
        "pyarrow.json",
        "pyarrow.parquet",
        "botocore.session",
    ),
    "dask": ("dask.array", "s3fs", "tifffile", "zarr.storage"),
    "ngff-zarr": ("ngff_zarr", "cloudimg", "zarr.storage", "botocore.session"),
}
"""Imported before the clock starts, as in the benchmark of reading."""
CONTENDERS = {"cloudimg": by_cloudimg, "dask": by_dask, "ngff-zarr": by_ngff_zarr}


def fill(meter: Meter) -> tuple[Any, int]:
    """Put the files there; the whole image, and their size."""
    image = np.empty((2, 2, 10, 3 * TILE[0], 3 * TILE[1]), np.uint16)
    size = 0
    for name, data, _ in objects.small_files():
        meter.put(BUCKET, f"src/{name}", data)
        c, t, x, y, z = map(int, re.findall(r"\d+", name))
        image[t, c, z, y * TILE[0] :, x * TILE[1] :][: TILE[0], : TILE[1]] = tifffile.imread(
            io.BytesIO(data)
        )
        size += len(data)
    return image, size


def import_all(name: str) -> None:
    """Import what a contender needs."""
    for module in (*MODULES[name], "imagecodecs", "obstore"):
        importlib.import_module(module)


def check(endpoint: str, out: str, truth: Any) -> None:
    """Compare level 0 of a result with the truth."""
    import zarr

    is_local = Path(local_folder(out)).exists()
    target = local_folder(out) if is_local else None
    store = target or zarr.storage.FsspecStore.from_url(out, storage_options=options(endpoint))
    group = zarr.open_group(store, mode="r")
    name = "0" if "0" in group else next(n for n in group if "scale0" in n)
    found: Any = group[name]
    while isinstance(found, zarr.Group):
        found = found[next(iter(found.array_keys()))]
    if not np.array_equal(found[...], truth):
        raise SystemExit(f"{out} has wrong pixels")


def run(name: str, meter: Meter, out: str) -> tuple[float, Any]:
    """Seconds of the work alone, in a fresh interpreter, and the traffic."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from benchmarks import migrate\n"
        "migrate.import_all(sys.argv[2])\n"
        "begin = time.perf_counter()\n"
        "migrate.CONTENDERS[sys.argv[2]](sys.argv[3], sys.argv[4])\n"
        "print(time.perf_counter() - begin)\n"
    )
    root = str(Path(__file__).resolve().parents[1])
    with meter.measure() as traffic:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, root, name, meter.endpoint, out],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1]), traffic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    given = parser.parse_args()
    with Meter.start(latency_ms=0) as meter:
        truth, source = fill(meter)
        times: dict[str, list[float]] = {name: [] for name in given.only}
        for number in range(given.runs):
            for name in given.only:
                out = f"s3://{BUCKET}/{name}-{number}.zarr"
                meter.latency(given.latency_ms)
                seconds, traffic = run(name, meter, out)
                meter.latency(0)
                times[name].append(seconds)
                read = sum(r.bytes_sent for r in traffic.requests if r.key.startswith("src/"))
                facts = {"s": round(seconds, 2), "puts": traffic.puts, "gets": traffic.gets}
                print(name, json.dumps({**facts, "source": round(read / source, 3)}), flush=True)
                if number == 0:
                    check(meter.endpoint, out, truth)
                shutil.rmtree(local_folder(out), ignore_errors=True)
        ours = statistics.median(times["cloudimg"]) if "cloudimg" in times else float("nan")
        for name, found in times.items():
            middle = statistics.median(found)
            print(
                f"{name:10} {middle:7.2f} s ({min(found):.2f}..{max(found):.2f})"
                f" {middle / ours:6.1f} x cloudimg"
            )


if __name__ == "__main__":
    print(time.strftime("%Y-%m-%d"))
    main()
