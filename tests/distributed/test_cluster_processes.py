"""A cluster of processes with mutual TLS: same results when processes die, no access for others."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
import tifffile
from distributed import Client, as_completed, futures_of
from distributed import client as client_module
from distributed.security import Security

import cloudimg
from cloudimg.cli.main import main
from cloudimg.cluster.tls import JobTls
from cloudimg.distributed.run import run_on_cluster
from cloudimg.errors import AccessDeniedError, ClusterError, MismatchError
from cloudimg.migration.journal.sealing import unsealed
from cloudimg.migration.run import stages
from cloudimg.migration.run.local_executor import run_locally
from cloudimg.opening.headers_on_cluster import FILES_PER_BLOCK, FileNames, read_block
from tests.support import clusters, copies, seed
from tests.support.clusters import Cluster, TlsFiles, local_client
from tests.support.metering import Meter
from tests.support.servers import S3Account
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.slow  # all of them together

SHAPE = {"chunks": 32, "shards": {"t": 1, "c": 1, "z": 2, "y": 32, "x": 96}, "levels": 4}
"""Small cells, so that there are many, and a second stage."""
WORDS = ["--chunks", "32", "--shards", "t=1,c=1,z=2,y=32,x=96", "--levels", "4"]
SECRET = "this-must-not-be-seen"
BUCKET = "cluster-of-processes"
CELLS = int(os.environ.get("CLOUDIMG_TEST_CELLS", "4000"))
ENDLESS = {"distributed.comm.timeouts.connect": "10h", "distributed.comm.timeouts.tcp": "10h"}
"""Configuration of Dask for tests that fail if anything waits for these time-outs."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The files of the seed on a moto server, and the copy that was made without a cluster."""

    options: dict[str, Any]
    endpoint: str
    source: str
    pixels: seed.Array
    expected: dict[str, bytes]

    def copy(self, name: str, **arguments: Any) -> Any:
        return cloudimg.migrate(
            self.source,
            self.url(name),
            source_options=self.options,
            target_options=self.options,
            **SHAPE,
            **arguments,
        )

    def url(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}.zarr"

    def check(self, name: str) -> None:
        """The migration equals the undisturbed one, and there are no other objects."""
        found = copies.objects(self.url(name), self.options)
        assert copies.image_of(found) == self.expected
        stored: list[str] = []
        for key, data in found.items():
            if key.startswith(".cloudimg/cells/"):
                record: Any = unsealed(data)
                stored += [each[0] for level in record["levels"] for each in level["objects"]]
        assert len(stored) == len(set(stored))
        assert set(stored) == {key for key in self.expected if "/c/" in key}
        journal = {key.split("/")[1] for key in found if key.startswith(".cloudimg/")}
        plans = {"plan.json", "plan-copy.json"}
        assert journal <= {*plans, "done.json", "cells", "files", "lease", "originals"}


@pytest.fixture(scope="module")
def archive(moto: str) -> Archive:
    account = S3Account(moto, secret=SECRET)
    store = account.client(max_pool_connections=8)
    store.create_bucket(Bucket=BUCKET)
    with ThreadPoolExecutor(8) as threads:
        pixels = seed.write(
            lambda key, data: threads.submit(
                store.put_object, Bucket=BUCKET, Key=f"src/{key}", Body=data
            )
        )
    store.close()
    source = f"s3://{BUCKET}/src/{seed.PATTERN}"
    made = Archive(account.storage_options, moto, source, pixels, {})
    made.copy("local")
    made.expected.update(
        copies.image_of(copies.objects(made.url("local"), account.storage_options))
    )
    assert len(made.expected) > 50
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), 4) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    """A client of a cluster with all of its workers."""
    cluster.replace_lost()
    with cluster.client() as client:
        yield client


def test_a_cluster_reads_the_same_pixels(client: Any, archive: Archive) -> None:
    array = cloudimg.imread(
        archive.source, storage_options=archive.options, chunks={"z": 2, "t": 1, "c": 1}
    )
    assert array.npartitions == 20
    np.testing.assert_array_equal(client.compute(array).result(HANG_S), archive.pixels)
    assert len(client.scheduler_info(n_workers=-1)["workers"]) == 4


def test_a_cluster_writes_the_same_bytes(client: Any, archive: Archive) -> None:
    done = archive.copy("cluster", client=client)
    assert done.n_objects == len([key for key in archive.expected if "/c/" in key])
    archive.check("cluster")
    proof = cloudimg.verify(
        archive.url("cluster"),
        against_source=True,
        client=client,
        storage_options=archive.options,
        source_options=archive.options,
    )
    assert proof, str(proof)
    assert proof.n_compared > 20


def test_the_command_line(
    client: Any, cluster: Cluster, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = json.dumps({"key": "x", "secret": SECRET})
    work = ["--scheduler", cluster.address, *cluster.files.options]
    store = ["--endpoint-url", archive.endpoint, "--storage-options", keys]
    source = ["--endpoint-url", archive.endpoint, "--source-options", keys]
    url = archive.url("command")
    assert main(["migrate", archive.source, url, *WORDS, *work, *source]) == 0
    assert f"{url}: " in capsys.readouterr().out
    archive.check("command")
    assert main(["verify", url, "--against-source", *work, *store]) == 0
    out = capsys.readouterr().out
    assert f"{url} is verified: " in out
    assert "no problems" in out
    # The cluster did it: a certificate that it does not know is refused.
    foreign = TlsFiles.write(JobTls.make().client, cluster.folder / "foreign-command")
    work[2:] = foreign.options
    assert main(["verify", url, *work, *store]) == 12
    shown = capsys.readouterr()
    assert f"no scheduler answers at {cluster.address}" in shown.err
    assert SECRET not in shown.out + shown.err


def test_workers_are_killed_while_reading(client: Any, cluster: Cluster, archive: Archive) -> None:
    """A machine is lost, and a process that its nanny replaces, with the blocks that they had."""
    array = cloudimg.imread(
        archive.source, storage_options=archive.options, chunks={"z": 1, "t": 1, "c": 1}
    ).map_blocks(clusters.slowly, 0.2, dtype=np.uint16)
    assert array.npartitions == 40
    kept = client.persist(array)
    futures = futures_of(kept)
    for n_done, _ in enumerate(as_completed(futures, loop=client.loop), 1):
        if n_done == 12:
            break
    kill_two(client, cluster)
    assert any(future.status == "pending" for future in futures)
    np.testing.assert_array_equal(client.compute(kept).result(HANG_S), archive.pixels)


def test_workers_are_killed_while_migrating(
    client: Any, cluster: Cluster, archive: Archive
) -> None:
    left: list[int] = []

    def kill(advance: Any) -> None:
        if advance.n_done >= 5 and not left:
            left.append(advance.n_cells - advance.n_done)
            kill_two(client, cluster)

    archive.copy("killed", client=client, progress=kill)
    assert left[0] > 10
    archive.check("killed")
    options = archive.options
    assert cloudimg.verify(
        archive.url("killed"), against_source=True, storage_options=options, source_options=options
    )


def kill_two(client: Any, cluster: Cluster) -> None:
    """A whole machine, and of another the worker alone, whose nanny starts the next one."""
    pids = set(client.run(os.getpid).values())
    cluster.workers[0].kill()
    (pid,) = pids & {process.pid for process in cluster.workers[1].processes()}
    os.kill(pid, signal.SIGKILL)


# ----------------------------------------------------------------------------- who gets in


@pytest.mark.timeout(200)
def test_others_are_refused(client: Any, cluster: Cluster) -> None:
    """Nobody waits for Dask's own time-out, which is hours here."""
    foreign = JobTls.make().client
    # They trust the scheduler, whose certificate is no secret: it is the one that refuses them.
    files = TlsFiles.write(foreign, cluster.folder / "foreign-worker", trusting=cluster.tls)
    foreign_worker = cluster.add_worker(files=files, death_timeout_s=3)
    make: Any = Security
    trusting = {"tls_ca_file": cluster.tls.authority, "require_encryption": True}
    shown = {"tls_client_cert": foreign.certificate, "tls_client_key": foreign.key}
    for address, security in [
        (cluster.address.replace("tls://", "tcp://"), None),
        (cluster.address, make(**trusting)),
        (cluster.address, make(**trusting, **shown)),
        (cluster.address, foreign.security()),
    ]:
        # A TypeError for none: Dask's client does not even try.
        with dask.config.set(ENDLESS), pytest.raises((OSError, TypeError)):
            Client(address, security=security, timeout=2, set_as_default=False)
    wait_until(lambda: foreign_worker.process.poll() is not None, "the foreign worker's end")
    assert "Registered to" not in foreign_worker.text()
    assert "CERTIFICATE_VERIFY_FAILED" in cluster.scheduler.text()
    assert len(client.scheduler_info(n_workers=-1)["workers"]) == 4
    assert client.submit(clusters.no_work, 7, pure=False).result(HANG_S)[0] == 7


def test_no_port_answers_without_the_certificate(client: Any, cluster: Cluster) -> None:
    """Every listening port refuses clients that verify nothing themselves."""
    ports = {
        listening.laddr.port
        for member in (cluster.scheduler, *cluster.workers)
        for process in member.processes()
        for listening in process.net_connections("tcp")
        if listening.status == psutil.CONN_LISTEN
    }
    foreign = TlsFiles.write(JobTls.make().client, cluster.folder / "foreign")
    with ThreadPoolExecutor(32) as threads:
        to_us = {port: threads.submit(speaks_tls, port, cluster.files) for port in ports}
        to_others = [
            threads.submit(speaks_tls, port, files) for port in ports for files in (None, foreign)
        ]
        plain = {port: threads.submit(plain_answer, port) for port in ports}
    ours = {port for port, answer in to_us.items() if answer.result()}
    assert int(cluster.address.rpartition(":")[2]) in ours
    assert len(ours) == 1 + 2 * 4  # the scheduler, and each worker and its nanny
    assert not any(answer.result() for answer in to_others)
    for port, answer in plain.items():
        # The others are servers of pages without a page.
        assert answer.result() == b"" if port in ours else b" 404 " in answer.result()


def speaks_tls(port: int, files: TlsFiles | None) -> bool:
    """Whether the server at a port sends anything to a client with these files, or without any."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=3) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return bool(secure.recv(1))  # Dask's servers speak first
    except OSError:
        return False


def plain_answer(port: int) -> bytes:
    """Answer of a port to a browser."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as plain:
        plain.sendall(b"GET /info/main/workers.html HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return plain.recv(100)
        except ConnectionError:
            return b""


def test_only_the_user_can_read_the_certificate_files(cluster: Cluster) -> None:
    for path in (cluster.files.authority, cluster.files.certificate, cluster.files.key):
        assert path.stat().st_mode & 0o777 == 0o600


# ------------------------------------------------------------------- the scheduler is gone


@pytest.mark.timeout(200)
def test_the_scheduler_is_killed(client: Any, archive: Archive, tmp_path: Path) -> None:
    """The errors come without waiting for time-outs, which are hours here, save the client's."""
    with Cluster(tmp_path, 2) as doomed, dask.config.set(ENDLESS):
        killed: list[int] = []

        def kill(advance: Any) -> None:
            if advance.n_done >= 5 and not killed:
                doomed.scheduler.kill()
                killed.append(advance.n_done)

        with doomed.client(timeout_s=2) as own:
            with pytest.raises(ClusterError, match="a migration resumes where it stopped"):
                archive.copy("doomed", client=own, progress=kill)
            assert killed
            # Whether or not the client has given up on the scheduler.
            for _ in range(2):
                with pytest.raises(ClusterError):
                    archive.copy("doomed", client=own)
        wait_until(lambda: not any(w.processes() for w in doomed.workers), "the workers' end")
    again = archive.copy("doomed", client=client)
    assert 5 <= again.n_done_before < again.n_cells
    archive.check("doomed")


# --------------------------------------------------------------------- what crosses the wire


PICKLED = """
import hashlib, pickle, sys, uuid
from cloudimg.distributed.parcel import Parcel
from tests.support.clusters import some_job
uuid.uuid4 = lambda: uuid.UUID(int=0)  # each opening has a name of its own
job = some_job(*sys.argv[1:])
first = Parcel(job).to_bytes()
assert Parcel(job).to_bytes() == first
sent = pickle.dumps(Parcel(job), protocol=5)
assert sent == pickle.dumps(Parcel(job), protocol=5)
assert first in sent and len(sent) < len(first) + 2000  # with what workers unpickle it by
print(len(first), hashlib.sha256(first).hexdigest())
"""


def test_jobs_are_small_and_pickle_alike(meter: Meter, bucket: str) -> None:
    """Ten thousand files take no more than a hundred, and no order of a set shows."""
    plane = seed.encode(np.zeros((16, 24), np.uint16))
    children = []
    for count in (100, 10_000):
        names = [f"{count}/t{t}_z{z}.tif" for t in range(count // 10) for z in range(10)]
        meter.fill(bucket, names, plane)
        url = f"s3://{bucket}/{count}/t{{t}}_z{{z}}.tif"
        children += [
            subprocess.Popen(
                [sys.executable, "-c", PICKLED, url, meter.endpoint],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                cwd=clusters.REPOSITORY,
            )
            for hash_seed in ("1", "2")
        ]
    few, few_again, many, many_again = (child.communicate(timeout=HANG_S)[0] for child in children)
    assert few == few_again != ""
    assert many == many_again != ""
    assert int(many.split()[0]) < int(few.split()[0]) + 100 < 4000


@pytest.mark.parametrize(
    ("spread", "limit"),
    [pytest.param(300, 10_000, id="a camera"), pytest.param(20_000, 100_000, id="all values")],
)
def test_results_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: int, limit: int
) -> None:
    """Whatever the pixels are: the histograms are the most of it."""
    noise = np.random.default_rng(1).normal(30_000, spread, (1024, 1024))
    tifffile.imwrite(tmp_path / "a.tif", noise.clip(0, 65_535).astype(np.uint16))
    sizes: list[int] = []

    def weighing(*arguments: Any, report: Any, **options: Any) -> None:
        def weigh(record: Any) -> None:
            sizes.append(len(pickle.dumps(record, protocol=5)))
            report(record)

        run_locally(*arguments, report=weigh, **options)

    monkeypatch.setattr(stages, "run_locally", weighing)
    cloudimg.migrate(str(tmp_path / "a.tif"), str(tmp_path / "a.zarr"))
    assert sizes
    assert max(sizes) < limit


class _Weighed(Exception):  # noqa: N818, nothing is wrong
    """In place of sending a graph."""


def test_the_graph_of_many_chunks_is_small(
    client: Any, meter: Meter, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = seed.encode(np.zeros((16, 24), np.uint16))
    meter.fill(bucket, [f"z{z}.tif" for z in range(10_000)], plane)
    array = cloudimg.imread(
        f"s3://{bucket}/z{{z}}.tif", storage_options=meter.storage_options, chunks={"z": 1}
    )
    assert array.npartitions == 10_000
    sizes: list[int] = []
    serialize = client_module.serialize

    def weigh(*arguments: Any, **options: Any) -> Any:
        _, frames = serialize(*arguments, **options)
        sizes.append(sum(memoryview(frame).nbytes for frame in frames))
        raise _Weighed

    monkeypatch.setattr(client_module, "serialize", weigh)
    with pytest.raises(_Weighed):
        client.compute(array)
    assert sizes[0] < 300_000


def test_no_secret_is_shown(client: Any, cluster: Cluster, archive: Archive) -> None:
    """Names of tasks, what the scheduler remembers, logs: of what went well and what did not."""
    kept: list[str] = []

    def look(advance: Any) -> None:
        if advance.n_done == 5:
            kept.append(client.run_on_scheduler(clusters.remembered))

    archive.copy("shown", client=client, progress=look)
    assert "cloudimg-migrate-shown-" in kept[0]
    array = cloudimg.imread(archive.source, storage_options=archive.options)
    client.compute(array.sum()).result(HANG_S)
    with pytest.raises(ClusterError, match="cannot unpickle"):
        run(client, clusters.Unreadable(SECRET), 3, lambda result: None)
    kept.append(client.run_on_scheduler(clusters.remembered))
    kept += [member.text() for member in cluster.members]
    assert "cannot unpickle" in "".join(kept[2:])  # the failure was logged
    for text in kept:
        assert SECRET not in text


# ------------------------------------------------------------------------------ many cells


def run(client: Any, work: Any, n_cells: int, report: Any) -> None:
    memory = {"max_bytes": 2**30, "piece_bytes": 2**20}
    run_on_cluster(client, work, range(n_cells), step="test", report=report, **memory)


def test_a_scheduler_does_not_grow_with_the_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By less than a kilobyte each, and it is asked once for many of them.

    With short logs, so that they are full when half of the cells are done: more of them would not
    make the logs longer.
    """
    settings = {
        "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "50",
        "DASK_DISTRIBUTED__DIAGNOSTICS__COMPUTATIONS__MAX_HISTORY": "5",
    }
    seen: list[int] = []
    rss: list[int] = []
    asked: Counter[str] = Counter()
    with (
        Cluster(tmp_path, 2, n_threads=16, settings=settings) as cluster,
        cluster.client() as client,
    ):
        scheduler = psutil.Process(cluster.scheduler.process.pid)

        def report(result: tuple[int, str]) -> None:
            seen.append(result[0])
            if len(seen) in (CELLS // 2, CELLS):
                rss.append(scheduler.memory_info().rss)

        for name in ("submit", "map", "gather", "run", "cancel"):
            monkeypatch.setattr(client, name, counting(getattr(client, name), asked))
        before = client.run_on_scheduler(clusters.count_transitions)
        run(client, clusters.no_work, CELLS, report)
        n_transitions = client.run_on_scheduler(clusters.count_transitions) - before
        assert client.run_on_scheduler(clusters.count_groups) <= 2
    assert sorted(seen) == list(range(CELLS))
    growth = (rss[1] - rss[0]) / (CELLS - CELLS // 2)
    print(f"a cell: {growth:.0f} bytes, {n_transitions / CELLS:.2f} transitions")
    print(f"calls of the client for {CELLS} cells: {dict(asked)}")
    assert growth < 1000
    assert n_transitions < 8 * CELLS
    assert asked.total() < CELLS / 8


def counting(call: Callable[..., Any], counts: Counter[str]) -> Callable[..., Any]:
    """The same, counted by its name."""

    def counted(*arguments: Any, **options: Any) -> Any:
        counts[call.__name__] += 1
        return call(*arguments, **options)

    return counted


def test_workers_that_come_later_get_work(tmp_path: Path) -> None:
    """The number of pending pieces follows the number of workers."""
    waiting: list[int] = []
    with Cluster(tmp_path / "cluster", 1) as cluster, cluster.client() as client:

        def look(result: Any) -> None:
            if not waiting:
                cluster.workers += [cluster.add_worker(), cluster.add_worker()]
                client.wait_for_workers(3, HANG_S)
            waiting.append(client.run_on_scheduler(clusters.count_tasks))

        run(client, clusters.short_work, 120, look)
    assert len(waiting) == 120
    assert max(waiting) > 4 * 2 + 1  # what one worker of two threads is given, and the job


def test_a_cluster_without_workers(
    tmp_path: Path, archive: Archive, set_variable: Callable[[str, str], None]
) -> None:
    """The wait for workers ends, at the beginning and later."""
    set_variable("CLOUDIMG_WORKER_TIMEOUT_S", "3")
    lazy = cloudimg.imread(archive.source, storage_options=archive.options)
    with Cluster(tmp_path / "cluster", 0) as cluster, cluster.client() as client:
        with pytest.raises(ClusterError, match=r"had no workers for 3 s.*WORKER_TIMEOUT"):
            archive.copy("no-workers", client=client)
        cluster.workers.append(cluster.add_worker())
        client.wait_for_workers(1, HANG_S)
        lost: list[int] = []

        def lose(advance: Any) -> None:
            if advance.n_done >= 2 and not lost:
                lost.append(advance.n_done)
                for worker in cluster.workers:
                    worker.kill()

        with pytest.raises(
            ClusterError, match=r"lost all of its workers.*no workers for 3 s.*a migration resumes"
        ):
            archive.copy("no-workers", client=client, progress=lose)
        slow = lazy.map_blocks(clusters.slowly, 0.5, dtype=np.uint16)
        cluster.workers[:] = [cluster.add_worker()]
        client.wait_for_workers(1, HANG_S)
        killer = threading.Timer(1, cluster.workers[0].kill)
        killer.start()
        options = {"dims": ("t", "c", "z", "y", "x"), "storage_options": archive.options}
        with pytest.raises(ClusterError, match="no workers for 3 s"):
            cloudimg.to_zarr(slow, archive.url("array-lost"), client=client, **options, **SHAPE)
        killer.join()
    assert archive.copy("no-workers").n_done_before >= 2
    archive.check("no-workers")


def test_a_cluster_that_is_busy(
    tmp_path: Path, archive: Archive, set_variable: Callable[[str, str], None]
) -> None:
    """With other work: it has workers, so the wait does not end."""
    set_variable("CLOUDIMG_WORKER_TIMEOUT_S", "2")
    with Cluster(tmp_path / "cluster", 1) as cluster, cluster.client() as client:
        others = client.map(clusters.slowly, range(4), [4.0] * 4, pure=False)
        archive.copy("busy", client=client)
        assert all(other.done() for other in others[:2])
    archive.check("busy")


def test_a_cluster_that_grows_with_its_work(archive: Archive) -> None:
    """An adaptive cluster has no worker until there are tasks."""
    with local_client(0, 2) as client:
        client.cluster.adapt(minimum=0, maximum=2, interval="100ms")
        archive.copy("grown", client=client)
    archive.check("grown")


def test_headers_are_read_by_the_workers(client: Any, meter: Meter, bucket: str) -> None:
    """Of an archive with holes, tiles of several widths and files that do not fit."""
    pixels = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    widths = (50, 20, 30, 50)
    for t in range(140):
        for x, width in enumerate(widths):
            if (t, x) != (3, 1):
                meter.put(bucket, f"src/a_{t}t_{x}x.tif", seed.encode(pixels[:, :width]))
    url = f"s3://{bucket}/src/a_{{t}}t_{{x}}x.tif"
    options = {"storage_options": meter.storage_options, "validate": "all", "missing": "fill"}
    local = cloudimg.open(url, **options)
    lazy = cloudimg.imread(url, client=client, **options)
    assert lazy.shape == local.shape == (140, 40, sum(widths))
    np.testing.assert_array_equal(client.compute(lazy).result(HANG_S), local.read())

    meter.put(bucket, "src/a_7t_2x.tif", seed.encode(pixels[:, :31]))
    meter.put(bucket, "src/a_9t_0x.tif", b"II*\0" + bytes(40))
    with pytest.raises(MismatchError) as here:
        cloudimg.open(url, **options)
    with pytest.raises(MismatchError) as there:
        cloudimg.open(url, client=client, **options)
    assert str(there.value) == str(here.value)
    assert "2 of 559 files" in str(there.value)

    meter.faults([{"match": r"^GET .*a_5t_0x", "status": 403}])
    with meter.measure() as traffic, pytest.raises(AccessDeniedError, match="a_5t_0x"):
        cloudimg.open(url, client=client, **options)
    meter.faults([])
    assert (
        len([r for r in traffic.requests if "a_5t_0x" in r.key]) <= 2
    )  # the block is not repeated


def test_many_headers_are_few_bytes(client: Any, meter: Meter, bucket: str) -> None:
    """Several blocks of files, of which a few differ from the rest or are not there."""
    n_files = 3 * FILES_PER_BLOCK
    plane = seed.expected()[0, 0, 0]
    meter.fill(bucket, [f"src/img_{t:04d}.tif" for t in range(n_files)], seed.encode(plane))
    url = f"s3://{bucket}/src/img_{{t:04d}}.tif"
    options = {"storage_options": meter.storage_options, "missing": "fill"}
    meter.delete(bucket, "src/img_0600.tif")
    counts: list[tuple[str, int]] = []
    with meter.measure() as traffic:
        image = cloudimg.open(
            url,
            validate="all",
            client=client,
            progress=lambda what, count: counts.append((what, count)),
            **options,
        )
    assert image.n_files == n_files - 1
    assert counts[-1] == ("headers read", n_files - 1)
    assert n_files <= traffic.gets <= n_files + 10
    source = image._opened.sources[0]
    files = FileNames.of(image._opened.grid)
    assert [name[-12:] for name in files.names(1)][::511] == ["img_0512.tif", "img_1024.tif"]
    block = read_block(source.reader, files, 0, 1)
    assert len(pickle.dumps(block)) < 12 * FILES_PER_BLOCK
    for t in (700, 1400):
        meter.put(bucket, f"src/img_{t:04d}.tif", seed.encode(plane[:-1]))
    with pytest.raises(MismatchError, match=r"2 of 1535 files.*img_0700\.tif.*img_1400\.tif"):
        cloudimg.open(url, validate="all", client=client, **options)


def test_a_reader_of_the_users_own(client: Any, archive: Archive, tmp_path: Path) -> None:
    """Made in a notebook, it is in no module that a worker could import."""
    for z in range(4):
        np.save(tmp_path / f"a_{z}.npy", np.full((16, 16), z, np.uint8))
    image = cloudimg.open(
        f"{tmp_path}/a_{{z}}.npy", imread=lambda file, url: np.load(file) + np.uint8(1)
    )
    image.to_zarr(tmp_path / "copy.zarr", client=client)
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=image, client=client)
