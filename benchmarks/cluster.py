"""How work spreads over the workers of a Dask cluster, and what it costs the scheduler.

The cluster is one of processes on this machine: a scheduler, workers, mutual TLS.

``python benchmarks/cluster.py`` copies an archive of small files on 1 worker and on 4, with as many
threads each. The store is the metering S3 server of the tests with a latency so high that the work
waits for it and not for this machine's few processors, as one worker on a machine of its own waits
for its store. Prints cells a second, how many times the first, and the processor time of the
scheduler for each cell, apart from what it takes when idle. Each cluster makes one copy before,
which is not timed.

``python benchmarks/cluster.py --cells 100000`` sends cells of no work through a scheduler with two
workers, and prints the growth of its memory from the first tenth to the end, and its processor
time.

``python benchmarks/cluster.py --mean`` computes the mean of an archive on three workers of 4 GB
with the defaults and with those of a process without a cluster (chunks of 128 MiB, 512 requests),
twice in turn, and prints requests, processor time and memory of the workers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cloudimg
from cloudimg.distributed.run import run_on_cluster
from tests.support import clusters, seed
from tests.support.clusters import Cluster
from tests.support.metering import Meter

BUCKET = "benchmark"
PATTERN = f"s3://{BUCKET}/src/img_t{{t}}_z{{z}}.tif"
TILE = (64, 64)
PLANES = 2
"""Of a cell."""
_IDLE_S = 5


class SchedulerTime:
    """Processor seconds that a cluster's scheduler has spent on work since this was made.

    What it spends on heartbeats and the like is measured first, and left out.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.process = psutil.Process(cluster.scheduler.process.pid)
        before = self._now()
        time.sleep(_IDLE_S)
        self.idle_share = (self._now() - before) / _IDLE_S
        self._began = time.perf_counter()
        self._before = self._now()

    def _now(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def spent_s(self) -> float:
        idle_s = self.idle_share * (time.perf_counter() - self._began)
        return self._now() - self._before - idle_s


def fill(meter: Meter, n_cells: int) -> None:
    """Put files there, two for each cell."""
    plane = np.arange(TILE[0] * TILE[1], dtype=np.uint16).reshape(TILE)
    names = [f"src/img_t{t}_z{z}.tif" for t in range(n_cells) for z in range(PLANES)]
    meter.fill(BUCKET, names, seed.encode(plane))


def copy(meter: Meter, client: Any, name: str) -> Any:
    options = meter.storage_options
    return cloudimg.migrate(
        PATTERN,
        f"s3://{BUCKET}/{name}.zarr",
        source_options=options,
        target_options=options,
        chunks=TILE[0],
        shards={"t": 1, "z": PLANES, "y": TILE[0], "x": TILE[1]},
        levels=1,
        client=client,
    )


def compare(given: argparse.Namespace) -> None:
    """The same archive by few workers and by many."""
    columns = "workers", "threads each", "cells", "seconds", "cells/s", "x the first"
    print("|", " | ".join((*columns, "scheduler, ms a cell", "idle, % of a core")), "|")
    print("|", " | ".join(["--:"] * (len(columns) + 2)), "|")
    first = None
    for n_workers in given.workers:
        with Meter.start() as meter, tempfile.TemporaryDirectory() as folder:
            fill(meter, given.archive)
            with (
                Cluster(Path(folder), n_workers, n_threads=given.threads) as cluster,
                cluster.client() as client,
            ):
                copy(meter, client, "first")
                meter.latency(given.latency_ms)
                clock = SchedulerTime(cluster)
                began = time.perf_counter()
                done = copy(meter, client, "second")
                seconds = time.perf_counter() - began
                spent_ms = 1000 * clock.spent_s() / done.n_cells
        rate = done.n_cells / seconds
        first = rate if first is None else first
        print(
            f"| {n_workers} | {given.threads} | {done.n_cells} | {seconds:.1f} | {rate:.1f}"
            f" | {rate / first:.2f} | {spent_ms:.2f} | {100 * clock.idle_share:.1f} |",
            flush=True,
        )


def simulate(given: argparse.Namespace) -> None:
    """Cells that are nothing but messages."""
    n_cells, rss, n_done = given.cells, {}, 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(Path(folder), 2, n_threads=given.threads) as cluster,
        cluster.client() as client,
    ):
        clock = SchedulerTime(cluster)

        def report(result: tuple[int, str]) -> None:
            nonlocal n_done
            n_done += 1
            if n_done in (n_cells // 10, n_cells):
                rss[n_done] = clock.process.memory_info().rss

        began = time.perf_counter()
        run_on_cluster(
            client,
            clusters.no_work,
            range(n_cells),
            step="nothing",
            max_bytes=2**30,
            piece_bytes=2**20,
            report=report,
        )
        seconds, spent_s = time.perf_counter() - began, clock.spent_s()
    (few, less), (many, more) = rss.items()
    print(f"{n_cells} cells in {seconds:.0f} s, {1e6 * seconds / n_cells:.0f} us each")
    print(f"scheduler: {1e6 * spent_s / n_cells:.0f} us of processor a cell")
    print(f"scheduler: {less / 1e6:.1f} MB after {few} cells, {more / 1e6:.1f} MB at the end")
    print(f"scheduler: {(more - less) / (many - few):.0f} bytes a cell")


def used() -> tuple[float, int]:
    """Processor seconds and largest resident memory in bytes; runs on workers."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def mean(given: argparse.Namespace) -> None:
    """The same archive with the chunks and requests of small workers, and with the usual ones."""
    import dask
    import distributed  # noqa: F401  (its configuration)

    plane = np.random.default_rng(0).integers(0, 4000, (512, 512)).astype(np.uint16)
    keys = [f"mean/t{t}_z{z}.tif" for t in range(given.archive // 20) for z in range(20)]
    usual = {"CLOUDIMG_MAX_REQUESTS": "512", "CLOUDIMG_MAX_BYTES_IN_FLIGHT": "256MiB"}
    print("| settings | chunks | GETs | at once | seconds | processor s | peak MB |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    with Meter.start() as meter:
        meter.fill(BUCKET, keys, seed.encode(plane))
        meter.latency(30)
        image = cloudimg.open(
            f"s3://{BUCKET}/mean/t{{t}}_z{{z}}.tif", storage_options=meter.storage_options
        )
        without_cluster = image.chunks
        for name, environment in 2 * [("worker", {}), ("usual", usual)]:
            preload = {"distributed.nanny.pre-spawn-environ": environment}
            with (
                dask.config.set(preload),
                clusters.local_client(3, 2, memory_limit="4GB") as client,
            ):
                chunks = without_cluster if environment else "auto"
                array = image.to_dask(chunks)
                before = client.run(used)
                began = time.perf_counter()
                with meter.measure() as traffic:
                    array.mean().compute()
                seconds = time.perf_counter() - began
                after = client.run(used)
            spent = sum(after[worker][0] - before[worker][0] for worker in after)
            peak = max(rss for _, rss in after.values()) / 1e6
            print(
                f"| {name} | {array.npartitions} | {traffic.gets} | {traffic.max_concurrent}"
                f" | {seconds:.1f} | {spent:.1f} | {peak:.0f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, help="so many cells of no work, and nothing else")
    parser.add_argument("--mean", action="store_true", help="the mean of an archive, nothing else")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=4, help="of each worker")
    parser.add_argument("--archive", type=int, default=800, help="cells of the archive")
    parser.add_argument("--latency-ms", type=float, default=200)
    given = parser.parse_args()
    if given.mean:
        mean(given)
    elif given.cells is None:
        compare(given)
    else:
        simulate(given)


if __name__ == "__main__":
    print(time.strftime("%Y-%m-%d"))
    main()
