"""What reading takes from its process: threads, descriptors, connections, and time at the end."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ArgumentError
from cloudimg.storage.pool import ThreadPool
from tests.conftest import WebServer
from tests.support import seed
from tests.support.metering import Meter
from tests.support.servers import S3Account
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of POSIX processes")


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


# Threads


def test_threads_end_when_there_is_nothing_to_do() -> None:
    pool = ThreadPool(16, "pool-that-idles", idle_s=0.05)
    together = threading.Barrier(16)
    futures = [pool.submit(lambda: together.wait(30)) for _ in range(16)]
    assert sorted(future.result(30) for future in futures) == list(range(16))
    wait_until(lambda: not any(t.name == "pool-that-idles" for t in threading.enumerate()), "ended")
    assert pool.submit(lambda: "again").result(30) == "again"


def test_no_more_threads_than_allowed_and_every_result() -> None:
    pool = ThreadPool(3, "pool-of-three", idle_s=0.001)
    most = 0

    def count(n: int) -> int:
        nonlocal most
        most = max(most, sum(t.name == "pool-of-three" for t in threading.enumerate()))
        return n

    def submit(first: int) -> None:
        futures = [pool.submit(lambda n=n: count(n)) for n in range(first, first + 200)]  # type: ignore[misc]
        results[first] = [future.result(60) for future in futures]

    results: dict[int, list[int]] = {}
    callers = [threading.Thread(target=submit, args=(first,)) for first in range(0, 1000, 200)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == {first: list(range(first, first + 200)) for first in range(0, 1000, 200)}
    assert 1 <= most <= 3


LIST = """
import json, sys
from cloudimg.storage import Store, split_url
from cloudimg.storage.splitting import Delimiter, Outline
location, folder = split_url(sys.argv[1])
store = Store(location, json.loads(sys.argv[2]))
outline = Outline(f"{folder}/a_", (Delimiter(".tif"),), False)
print(sum(map(len, store.list_objects(folder, f"{folder}/", 1, outline=outline))))
"""


@pytest.mark.slow
def test_the_main_thread_lists_in_ranges_with_one_request_at_a_time(
    meter: Meter, bucket: str
) -> None:
    """The listing is awaited by other threads than those that it waits for."""
    n = 6500
    meter.fill(bucket, [f"exp/a_{z:04d}.tif" for z in range(n)], b"x")
    options = json.dumps(meter.storage_options)
    answer = run(LIST, f"s3://{bucket}/exp", options, CLOUDIMG_MAX_REQUESTS="1")
    assert answer.stdout.strip() == str(n), answer.stderr


def test_failures_belong_to_whoever_waits() -> None:
    pool = ThreadPool(1, "pool-that-fails")

    def fail() -> None:
        raise SystemExit("reason")

    with pytest.raises(SystemExit, match="reason"):
        pool.submit(fail).result(30)
    assert pool.submit(lambda: 1).result(30) == 1


def test_interrupted_work_does_not_return() -> None:
    pool = ThreadPool(1, "pool-that-stops")
    never = threading.Event()
    futures = [pool.submit(never.wait) for _ in range(3)]
    pool.interrupt()
    assert not wait(futures, 30).not_done
    assert all("interrupted" in str(future.exception()) for future in futures)
    with pytest.raises(cloudimg.CloudimgError, match="interrupted"):
        pool.submit(lambda: 1)
    never.set()


def test_the_end_waits_for_what_was_interrupted() -> None:
    pool = ThreadPool(1, "pool-that-ends")
    begun, ended = threading.Event(), threading.Event()

    def request() -> None:
        begun.set()
        pause.wait(0.3)
        ended.set()

    pause = threading.Event()
    future = pool.submit(request)
    assert begun.wait(30)
    pool.interrupt()
    assert future.exception(30) is not None
    pool.drain(30)
    assert ended.is_set()


def test_a_failure_keeps_nothing_alive() -> None:
    class Data:
        pass

    pool = ThreadPool(1, "pool-that-forgets")
    kept: list[weakref.ref[Data]] = []

    def fail() -> None:
        data = Data()
        kept.append(weakref.ref(data))
        raise ValueError

    gc.collect()
    gc.disable()  # what is in a cycle stays
    try:
        with suppress(ValueError):
            pool.submit(fail).result(30)
        assert pool.submit(lambda: 1).result(30) == 1
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("most", [1, 3])
def test_threads_that_step_aside_are_replaced(most: int) -> None:
    pool = ThreadPool(most, "pool-of-nested-work", idle_s=0.01)

    def nested(depth: int) -> int:
        if depth == 0:
            return 1
        with pool.stepping_aside():
            return sum(future.result(30) for future in submit(depth - 1))

    def submit(depth: int) -> list[Future[int]]:
        return [pool.submit(partial(nested, depth)) for _ in range(3)]

    assert [future.result(30) for future in submit(3)] == [27] * 3
    with pool.stepping_aside():  # of a thread of others
        assert [future.result(30) for future in submit(0)] == [1] * 3
    wait_until(
        lambda: not any(t.name == "pool-of-nested-work" for t in threading.enumerate()), "ended"
    )
    together = threading.Barrier(most + 1)
    futures = [pool.submit(lambda: together.wait(1)) for _ in range(most + 1)]
    assert all(isinstance(future.exception(30), threading.BrokenBarrierError) for future in futures)


READ_INSIDE_READERS = """
import sys
import numpy as np, cloudimg
def read(file, url):
    return np.asarray(cloudimg.imread(url.replace("pointer", "pixels")))
image = cloudimg.open(sys.argv[1], imread=read, validate="all")
print(int(image.to_dask().sum().compute(scheduler="threads")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_requests", ["1", "4"])
def test_readers_that_read_with_cloudimg(tmp_path: Path, n_requests: str) -> None:
    """However few threads there are, and each of them is in such a reader."""
    for z in range(12):
        (tmp_path / f"pointer_{z}.tif").write_bytes(b"x")
        (tmp_path / f"pixels_{z}.tif").write_bytes(seed.encode(np.full((8, 8), z, np.uint16)))
    result = run(
        READ_INSIDE_READERS,
        str(tmp_path / "pointer_{z}.tif"),
        CLOUDIMG_MAX_REQUESTS=n_requests,
        CLOUDIMG_DECODE_THREADS="1",
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == 64 * sum(range(12))


READ_WITHIN_LIMITS = """
import sys
import cloudimg
print(int(cloudimg.imread(sys.argv[1], chunks=(2, -1, -1)).sum().compute(scheduler="threads")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_bytes", ["1", "70KB", "200KB"])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_requests_that_are_larger_than_all_that_may_be_in_flight(
    tmp_path: Path, n_bytes: str, tile: tuple[int, int] | None
) -> None:
    """Each of them is made alone."""
    for z in range(6):
        pixels = np.full((256, 256), z, np.uint16)
        (tmp_path / f"{z}.tif").write_bytes(seed.encode(pixels, tile=tile))
    for n_requests in ("1", "64"):
        limits = {"CLOUDIMG_MAX_BYTES_IN_FLIGHT": n_bytes, "CLOUDIMG_MAX_REQUESTS": n_requests}
        result = run(READ_WITHIN_LIMITS, str(tmp_path / "{z}.tif"), **limits)
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) == 256 * 256 * sum(range(6))


READERS_INSIDE_READERS = """
import sys
import numpy as np, cloudimg
def inner(file, url):
    return np.asarray(cloudimg.imread(url.replace("middle", "pixels")))
def outer(file, url):
    several = url.replace("outer_", "middle").replace(".tif", "_{k}.tif")
    return np.asarray(cloudimg.imread(several, imread=inner))
image = cloudimg.open(sys.argv[1], imread=outer)
print(int(image.to_dask().sum().compute(scheduler="threads")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", ["1", "2"])
def test_readers_that_read_with_readers(tmp_path: Path, n_threads: str) -> None:
    """All threads for readers wait for files that others of them have to read."""
    for z in range(6):
        (tmp_path / f"outer_{z}.tif").write_bytes(b"x")
        for k in range(3):
            (tmp_path / f"middle{z}_{k}.tif").write_bytes(b"x")
            pixels = np.full((8, 8), z + k, np.uint16)
            (tmp_path / f"pixels{z}_{k}.tif").write_bytes(seed.encode(pixels))
    result = run(
        READERS_INSIDE_READERS,
        str(tmp_path / "outer_{z}.tif"),
        CLOUDIMG_MAX_REQUESTS=n_threads,
        CLOUDIMG_DECODE_THREADS=n_threads,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == 64 * sum(z + k for z in range(6) for k in range(3))


READ_WITH_FEW_THREADS = """
import resource, sys, threading
import numpy as np, dask
import cloudimg
first = cloudimg.imread(sys.argv[1])
threading.stack_size(256 * 2**20)  # so that the limit allows about four threads
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1400 * 2**20,) * 2)
refused = threading.Event()
start = threading.Thread.start
def counted(thread):
    try:
        start(thread)
    except RuntimeError:
        refused.set()
        raise
threading.Thread.start = counted
print(int(first.sum().compute(scheduler="synchronous")), refused.is_set())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_system_that_starts_few_threads(httpd: WebServer) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    for z in range(40):
        (httpd.root / f"few_{z}.tif").write_bytes(seed.encode(pixels + z))
    result = run(READ_WITH_FEW_THREADS, f"{httpd.endpoint}/few_{{z}}.tif")
    assert result.returncode == 0, result.stderr
    expected = 40 * int(pixels.sum()) + int(pixels.size) * sum(range(40))
    assert result.stdout.split() == [str(expected), "True"]


# Descriptors and connections

READ_WITH_FEW_DESCRIPTORS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import cloudimg
total = int(cloudimg.imread(sys.argv[1]).sum().compute())
held = [open(os.devnull) for _ in range(100)]
print(total)
"""


@pytest.mark.slow
def test_descriptors_are_left_for_the_program(meter: Meter, bucket: str) -> None:
    pixels = np.full((64, 64), 7, np.uint8)
    meter.fill(bucket, [f"d_{z:04d}.tif" for z in range(1500)], seed.encode(pixels))
    result = run(
        READ_WITH_FEW_DESCRIPTORS,
        f"s3://{bucket}/d_{{z}}.tif",
        AWS_ENDPOINT_URL=meter.endpoint,
        AWS_ACCESS_KEY_ID="k",
        AWS_SECRET_ACCESS_KEY="s",
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == 1500 * int(pixels.sum())


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_renewed_keys_do_not_add_up(moto: str, bucket: str) -> None:
    client = S3Account(moto).client()
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="a.tif", Body=seed.encode(np.zeros((8, 8), np.uint8)))

    def open_with(n: int) -> int:
        options = {"key": f"renewed{n}", "secret": "s", "endpoint_url": moto}
        cloudimg.imread(f"s3://{bucket}/a.tif", storage_options=options).compute()
        return len(list(Path("/proc/self/fd").iterdir()))

    n_early = max(open_with(n) for n in range(12))
    n_late = max(open_with(n) for n in range(12, 48))
    assert n_late <= n_early + 8


# The end of a program

HANGING = """
import sys
import dask.array, cloudimg
if sys.argv[2] == "compute":
    image = cloudimg.imread(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "open":
    cloudimg.open(sys.argv[1])
elif sys.argv[2] == "list":
    cloudimg.info("s3://bucket/folder/")
else:
    image.sum().compute(scheduler="threads", num_workers=4)
"""


class Silent:
    """A proxy of a web server that answers no more once `is_silent` is set."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("http://").split(":")
        self._upstream = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._kept: list[socket.socket] = []
        self.is_silent = threading.Event()
        self.unanswered = threading.Semaphore(0)
        """Released once for each request without an answer."""
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # when the server is closed
            while True:
                connection, _ = self._server.accept()
                self._kept.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        request = connection.recv(65536)
        if self.is_silent.is_set():
            self.unanswered.release()
            return
        with socket.create_connection(self._upstream) as upstream:
            upstream.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while data := upstream.recv(65536):
                connection.sendall(data)
        connection.close()

    def close(self) -> None:
        for each in (self._server, *self._kept):
            each.close()


@pytest.fixture
def silent(httpd: WebServer) -> Iterator[Silent]:
    proxy = Silent(httpd.endpoint)
    yield proxy
    proxy.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["open", "list", "compute"])
def test_ctrl_c_ends_a_script_while_a_store_hangs(
    silent: Silent, httpd: WebServer, what: str
) -> None:
    for z in range(8):
        data = seed.encode(np.zeros((512, 512), np.uint16))
        (httpd.root / f"hang_{z}.tif").write_bytes(data)
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, f"{silent.endpoint}/hang_{{z}}.tif", what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Without the interruption, the attempts would take six minutes.
        env={
            **os.environ,
            "CLOUDIMG_TIMEOUT_S": "60",
            "CLOUDIMG_ATTEMPTS": "6",
            "AWS_ENDPOINT_URL": silent.endpoint,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
        },
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            is_ready = process.stdout.readline()
            silent.is_silent.set()
            process.stdin.write("\n")
            process.stdin.flush()
            # Of two of Dask's threads: Python itself waits for ever for a thread whose start a
            # Ctrl-C interrupts, unless its executor has another.
            for _ in range({"open": 1, "list": 1, "compute": 2}[what]):
                assert silent.unanswered.acquire(timeout=60)
            time.sleep(3)  # until Dask has started all of its threads
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert is_ready == "ready\n"
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


ABANDONED = """
import sys
from cloudimg.storage import Store, engine, split_url
location, key = split_url(sys.argv[1])
engine().fetch(lambda: Store(location).get(key))
sys.stdin.readline()
"""


@pytest.mark.slow
def test_nothing_is_tried_again_when_a_script_has_ended(silent: Silent) -> None:
    silent.is_silent.set()
    with subprocess.Popen(
        [sys.executable, "-c", ABANDONED, f"{silent.endpoint}/a.tif"],
        stdin=subprocess.PIPE,
        env={**os.environ, "CLOUDIMG_TIMEOUT_S": "3", "CLOUDIMG_ATTEMPTS": "6"},
    ) as process:
        try:
            assert silent.unanswered.acquire(timeout=60)
            process.communicate(b"\n", timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert not silent.unanswered.acquire(blocking=False)


# Credentials


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"key": "a", "secret": "SECRET\n"}, "secret access key"),
        ({"key": "SECRET\r", "secret": "b"}, "access key id"),
        ({"key": "a", "secret": "b", "token": "SECRET\x00"}, "token"),
        ({"key": "SECRET\N{LATIN SMALL LETTER E WITH ACUTE}", "secret": "b"}, "access key id"),
    ],
)
def test_credentials_that_no_request_can_carry(options: dict[str, str], name: str) -> None:
    with pytest.raises(ArgumentError, match=name) as caught:
        cloudimg.open("s3://bucket/a.tif", storage_options=options)
    assert "SECRET" not in str(caught.value)


@pytest.mark.slow
def test_credentials_of_the_environment_that_no_request_can_carry() -> None:
    code = "import cloudimg; cloudimg.open('s3://bucket/a.tif')"
    result = run(
        code, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="SECRET\n", AWS_REGION="eu-west-1"
    )
    assert "ArgumentError: the AWS secret access key ends with white space" in result.stderr
    assert "SECRET" not in result.stderr
