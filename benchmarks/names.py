"""What a million names cost: requests, seconds, processor time, memory.

``python benchmarks/names.py --files 1000000`` fills the metering S3 server of the tests with names
of ``mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif`` (one small TIFF, copied), and finds out in fresh
interpreters, in turns, what images they are: cloudimg with its full listing and with
``listing="probe"``, obstore's listing alone, and s3fs's glob where asked for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import objects
from child import peak_mb
from read import BUCKET

from tests.support.metering import Meter

PATTERN = f"s3://{BUCKET}/exp/{objects.NAME}"


def options(endpoint: str) -> dict[str, Any]:
    return {"key": "x", "secret": "y", "client_kwargs": {"endpoint_url": endpoint}}


def by_cloudimg(endpoint: str) -> int:
    import cloudimg

    shape = cloudimg.open(PATTERN, storage_options=options(endpoint)).shape
    return _count(shape)


def by_probe(endpoint: str) -> int:
    import cloudimg

    store = options(endpoint)
    return _count(cloudimg.open(PATTERN, listing="probe", storage_options=store).shape)


def _count(shape: tuple[int, ...]) -> int:
    """Files of an image of 64 x 64 pixels a file."""
    total = 1
    for extent in shape:
        total *= extent
    return total // 64**2


def by_obstore(endpoint: str) -> int:
    import obstore
    from obstore.store import S3Store

    client = {"allow_http": True}
    keys: dict[str, Any] = {"access_key_id": "x", "secret_access_key": "y"}
    store = S3Store(BUCKET, endpoint=endpoint, client_options=client, **keys)
    return sum(map(len, obstore.list(store, "exp")))


def by_s3fs(endpoint: str) -> int:
    import s3fs

    return len(s3fs.S3FileSystem(**options(endpoint)).glob(f"{BUCKET}/exp/mydata_ch*.tif"))


CONTENDERS = {"cloudimg": by_cloudimg, "probe": by_probe, "obstore": by_obstore, "s3fs": by_s3fs}
MODULES = {
    "cloudimg": ("cloudimg.opening.open_files", "obstore", "botocore.session", "tifffile"),
    "probe": ("cloudimg.opening.open_files", "obstore", "botocore.session", "tifffile", "s3fs"),
    "obstore": ("obstore.store",),
    "s3fs": ("s3fs",),
}
"""Imported before the clock starts."""


def run(name: str, endpoint: str) -> dict[str, Any]:
    """Count the files in this process."""
    for module in MODULES[name]:
        importlib.import_module(module)
    before_mb = peak_mb()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    found = CONTENDERS[name](endpoint)
    took = {"seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s}
    memory = (peak_mb() or 0) - (before_mb or 0)
    return {"files": found, **took, "more_mb": memory}


def names(n_files: int) -> list[str]:
    n_t = max(1, n_files // 20_000)
    places = product(range(2), range(n_t), range(10), range(10), range(100))
    return [f"exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif" for c, t, x, y, z in places]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--files", metavar="N", type=int, default=10**6)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=list(CONTENDERS), default=["cloudimg", "probe", "obstore"]
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run(*given.child)))
        return
    _, tiff, _ = next(iter(objects.tiny_files()))
    keys = names(given.files)
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in given.only}
    with Meter.start() as meter:
        meter.fill(BUCKET, keys, tiff)
        meter.latency(given.latency_ms)
        for _ in range(given.runs):
            for name in given.only:
                with meter.measure() as traffic:
                    child = subprocess.run(
                        [sys.executable, __file__, "--child", name, meter.endpoint],
                        stdout=subprocess.PIPE,
                        text=True,
                        check=True,
                    )
                found = json.loads(child.stdout)
                if found["files"] != len(keys):
                    sys.exit(f"{name} found {found['files']} of {len(keys)} files")
                found |= {"requests": len(traffic.requests), "trips": traffic.round_trips}
                figures[name].append(found)
    for name, runs in figures.items():
        middle = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        print(
            f"{name:10} {middle['seconds']:7.2f} s {middle['cpu_s']:7.2f} s CPU"
            f" {middle['more_mb']:7.0f} MB more {middle['requests']:7.0f} requests"
            f" {middle['trips']:6.0f} trips"
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
