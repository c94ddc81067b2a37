"""What reading takes from its process: threads, descriptors, connections, and time at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path

import boto3
import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ArgumentError
from cloudimg.storage.pool import ThreadPool
from tests.conftest import WebServer
from tests.support import seed
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
def test_descriptors_are_left_for_the_program(moto: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=moto, aws_access_key_id="k", aws_secret_access_key="s")
    client.create_bucket(Bucket=bucket)
    pixels = np.full((64, 64), 7, np.uint8)
    data = seed.encode(pixels)
    for z in range(600):
        client.put_object(Bucket=bucket, Key=f"d_{z}.tif", Body=data)
    result = run(
        READ_WITH_FEW_DESCRIPTORS,
        f"s3://{bucket}/d_{{z}}.tif",
        AWS_ENDPOINT_URL=moto,
        AWS_ACCESS_KEY_ID="k",
        AWS_SECRET_ACCESS_KEY="s",
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == 600 * int(pixels.sum())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_renewed_keys_do_not_add_up(moto: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=moto, aws_access_key_id="k", aws_secret_access_key="s")
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
        self.has_unanswered_request = threading.Event()
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
            self.has_unanswered_request.set()
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
@pytest.mark.parametrize("what", ["open", "compute"])
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
        env={**os.environ, "CLOUDIMG_TIMEOUT_S": "60", "CLOUDIMG_ATTEMPTS": "6"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            is_ready = process.stdout.readline()
            silent.is_silent.set()
            process.stdin.write("\n")
            process.stdin.flush()
            assert silent.has_unanswered_request.wait(60)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert is_ready == "ready\n"
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


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


def test_credentials_of_the_environment_that_no_request_can_carry() -> None:
    code = "import cloudimg; cloudimg.open('s3://bucket/a.tif')"
    result = run(
        code, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="SECRET\n", AWS_REGION="eu-west-1"
    )
    assert "ArgumentError: the AWS secret access key ends with white space" in result.stderr
    assert "SECRET" not in result.stderr
