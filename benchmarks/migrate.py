"""How fast cloudimg copies an archive to OME-Zarr, beside what people use instead.

One run starts the metering S3 server of the tests (a process of its own, everything in memory, a
fixed latency before each answer), puts 360 uncompressed TIFF files of 512 x 512 uint16 there
(2 times x 2 channels x 10 planes x 3 x 3 tiles), and has each contender write them to Zarr, with
three levels, in a fresh interpreter; imports are not timed. Level 0 of every result is compared
with the truth.

  cloudimg   cloudimg.migrate
  dask       dask.array.to_zarr of one delayed read a file (s3fs, tifffile), level 0 alone
  tensorstore  tensorstore.open of a sharded array of Zarr v3, one write a plane of 3 x 3 tiles that
               obstore and tifffile read; level 0 alone
  ngff-zarr  ngff_zarr.to_multiscales and to_ngff_zarr of the array that cloudimg.imread gives, to a
             local folder: it writes to no other place, so that the upload is spared to it

  bioformats2raw  the command, where it is on the PATH, from a local folder to a local folder: it
             reads no S3

``python benchmarks/migrate.py [--latency-ms 30] [--runs 3]`` needs ngff-zarr, s3fs, tensorstore,
tifffile. Processor seconds are of the process; the stored bytes are of the result, all levels.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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


def by_tensorstore(endpoint: str, out: str) -> None:
    import obstore
    import tensorstore
    from obstore.store import S3Store

    client: Any = {"allow_http": True}
    keys: Any = {"access_key_id": "x", "secret_access_key": "y"}
    source = S3Store(BUCKET, endpoint=endpoint, client_options=client, **keys)
    inner = {"chunk_shape": [1, 1, 1, *TILE]}
    codecs = [{"name": "bytes"}, {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 1}}]
    sharding = {"name": "sharding_indexed", "configuration": {**inner, "codecs": codecs}}
    shape = [2, 2, 10, 3 * TILE[0], 3 * TILE[1]]
    shard = [1, 1, 10, 3 * TILE[0], 3 * TILE[1]]
    grid = {"name": "regular", "configuration": {"chunk_shape": shard}}
    place = {
        "driver": "s3",
        "bucket": BUCKET,
        "path": out.removeprefix(f"s3://{BUCKET}/") + "/0/",
        "endpoint": endpoint,
        "aws_region": "us-east-1",
        "aws_credentials": {"type": "environment"},
    }
    metadata = {"shape": shape, "data_type": "uint16", "chunk_grid": grid, "codecs": [sharding]}
    spec = {"driver": "zarr3", "kvstore": place, "metadata": metadata}
    target = tensorstore.open(spec, create=True).result()

    def file(place: tuple[int, ...]) -> Any:
        t, c, z, y, x = place
        key = f"src/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
        return tifffile.imread(io.BytesIO(obstore.get(source, key).bytes()))

    with ThreadPoolExecutor(64) as pool:
        for t, c in np.ndindex(2, 2):
            stack = np.empty(shape[2:], np.uint16)
            places = [(t, c, *inner) for inner in np.ndindex(10, 3, 3)]
            for (_, _, z, y, x), tile in zip(places, pool.map(file, places), strict=True):
                stack[z, y * TILE[0] :, x * TILE[1] :][: TILE[0], : TILE[1]] = tile
            target[t, c].write(stack).result()


def by_bioformats2raw(endpoint: str, out: str) -> None:
    """From local files, with a pattern file: what is fetched and sent is spared to it."""
    folder = Path(local_folder(out)).with_suffix(".source")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data, _ in objects.small_files():
        (folder / name).write_bytes(data)
    pattern = "mydata_ch<0-1>_<0-1>t_<0-2>x_<0-2>y_<0-9>z.tif"
    (folder / "all.pattern").write_text(str(folder / pattern))
    command = ["bioformats2raw", str(folder / "all.pattern"), local_folder(out)]
    subprocess.run([*command, "--resolutions", str(LEVELS)], check=True)


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
    "tensorstore": ("obstore.store", "tensorstore", "tifffile"),
    "ngff-zarr": ("ngff_zarr", "cloudimg", "zarr.storage", "botocore.session"),
    "bioformats2raw": (),
}
"""Imported before the clock starts, as in the benchmark of reading."""
CONTENDERS = {
    "cloudimg": by_cloudimg,
    "dask": by_dask,
    "tensorstore": by_tensorstore,
    "ngff-zarr": by_ngff_zarr,
    "bioformats2raw": by_bioformats2raw,
}
PRESENT = [name for name in CONTENDERS if name != "bioformats2raw" or shutil.which(name)]


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
    try:
        root = zarr.open_group(store, mode="r")
        name = "0" if "0" in root else next(n for n in root if "scale0" in n)
        found: Any = root[name]
    except (FileNotFoundError, KeyError):  # no group was written around the array
        found = zarr.open_array(store, path="0", mode="r")
    while isinstance(found, zarr.Group):
        found = found[next(iter(found.array_keys()))]
    if not np.array_equal(np.squeeze(found[...]), truth):
        raise SystemExit(f"{out} has wrong pixels")


def stored_bytes(endpoint: str, out: str) -> int:
    """Of all objects of a result."""
    folder = Path(local_folder(out))
    if folder.exists():
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    import s3fs

    return int(s3fs.S3FileSystem(**options(endpoint)).du(out))


def run(name: str, meter: Meter, out: str) -> tuple[dict[str, float], Any]:
    """Seconds of the work alone, in a fresh interpreter, and the traffic."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from benchmarks import migrate\n"
        "migrate.import_all(sys.argv[2])\n"
        "begin, cpu = time.perf_counter(), time.process_time()\n"
        "migrate.CONTENDERS[sys.argv[2]](sys.argv[3], sys.argv[4])\n"
        "print(time.perf_counter() - begin, time.process_time() - cpu)\n"
    )
    root = str(Path(__file__).resolve().parents[1])
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    with meter.measure() as traffic:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, root, name, meter.endpoint, out],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | keys | {"AWS_EC2_METADATA_DISABLED": "true"},
        )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    seconds, cpu_s = map(float, done.stdout.split()[-2:])
    return {"seconds": seconds, "cpu_s": cpu_s}, traffic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=PRESENT)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    given = parser.parse_args()
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in given.only}
    with Meter.start(latency_ms=0) as meter:
        truth, source = fill(meter)
        for number in range(given.runs):
            for name in given.only:
                out = f"s3://{BUCKET}/{name}-{number}.zarr"
                meter.latency(given.latency_ms)
                found, traffic = run(name, meter, out)
                meter.latency(0)
                read = sum(r.bytes_sent for r in traffic.requests if r.key.startswith("src/"))
                found |= {"puts": traffic.puts, "gets": traffic.gets, "source": read / source}
                found["stored_mb"] = stored_bytes(meter.endpoint, out) / 1e6
                figures[name].append(found)
                print(name, json.dumps(found), flush=True)
                if number == 0:
                    check(meter.endpoint, out, truth)
                shutil.rmtree(local_folder(out), ignore_errors=True)
    middles = {
        name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for name, runs in figures.items()
    }
    ours = middles.get("cloudimg", {})
    for name, middle in middles.items():
        seconds = [each["seconds"] for each in figures[name]]
        times = middle["seconds"] / ours.get("seconds", float("nan"))
        print(
            f"{name:14} {middle['seconds']:7.2f} s ({min(seconds):.2f}..{max(seconds):.2f})"
            f" {times:6.1f} x cloudimg {middle['cpu_s']:7.2f} s CPU"
            f" {middle['stored_mb']:7.1f} MB stored"
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    print(time.strftime("%Y-%m-%d"))
    main()
