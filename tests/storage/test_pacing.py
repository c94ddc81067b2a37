"""Stores that allow few requests a second, and links that carry few bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, ServerError
from cloudimg.storage import Store, split_url
from cloudimg.storage.base import Blob
from cloudimg.storage.bytes_at_once import BytesAtOnce
from cloudimg.storage.resuming import ResumedGet
from tests.support import seed
from tests.support.faulty_store import held, rule, throttled
from tests.support.metering import Meter, Traffic
from tests.support.waiting import wait_until

N_FILES = 360


def plane(z: int) -> npt.NDArray[np.uint16]:
    return np.full((32, 32), z, np.uint16)


def fill(meter: Meter, bucket: str) -> str:
    """Put small files into a bucket; their pattern."""
    for z in range(N_FILES):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(plane(z)))
    meter.latency(30)
    return f"s3://{bucket}/in/a_{{z}}z.tif"


@pytest.fixture
def pattern(meter: Meter, bucket: str) -> str:
    return fill(meter, bucket)


def read_all(pattern: str, meter: Meter) -> Traffic:
    with meter.measure() as traffic:
        image = cloudimg.open(pattern, storage_options=meter.storage_options)
        found = image.read()
    np.testing.assert_array_equal(found, np.stack([plane(z) for z in range(N_FILES)]))
    return traffic


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per_second", "burst"), [(100, 1), (100, 100), (20, 1), (20, 20), (20, 200)]
)
def test_few_requests_a_second(meter: Meter, bucket: str, per_second: int, burst: int) -> None:
    def are_few(attempt: int) -> bool:
        """Whether few requests are refused of a process that knows nothing of the store yet."""
        name = f"{bucket}-{attempt}"
        meter.create(name)
        pattern = fill(meter, name)
        meter.faults([throttled("GET", name, per_second=per_second, burst=burst)])
        started = time.monotonic()
        traffic = read_all(pattern, meter)
        took_s = time.monotonic() - started
        meter.drop(name)
        refused = [request for request in traffic.requests if request.status == 503]
        assert refused
        # A burst that is larger ends when most files are under way: what is refused then is not
        # asked for because of the limit. Of what is asked for after eight refusals, few may be.
        told = sorted(request.t_end for request in refused)[7]
        later = [request for request in refused if request.t_start > told]
        n_all, n_refused = len(traffic.requests), len(refused)
        print(f"{per_second}/s, burst {burst}: {n_all} requests, {len(later)} refused later,")
        print(f"{took_s:.1f} s")
        if burst <= per_second:
            return n_all <= 1.5 * N_FILES
        return len(later) <= 0.25 * N_FILES and n_refused - len(later) <= N_FILES - burst + 8

    # When an answer comes is up to the machine, too, so one of three attempts may be disturbed.
    assert are_few(0) or (are_few(1) and are_few(2))


@pytest.mark.slow
def test_a_thin_link(meter: Meter, bucket: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (40, 256, 256), np.uint16)
    for z, page in enumerate(pixels):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(page))
    pattern = f"s3://{bucket}/in/a_{{z}}z.tif"
    meter.link(400_000)
    with meter.measure() as traffic:
        image = cloudimg.open(pattern, storage_options=meter.storage_options)
        found = image.read()
    np.testing.assert_array_equal(found, pixels)
    sent = sum(request.bytes_sent for request in traffic.requests)
    assert sent <= 1.1 * pixels.nbytes
    assert all(request.status in (200, 206) for request in traffic.requests)


@pytest.mark.slow
def test_less_is_requested_at_once_of_a_thin_link(
    meter: Meter, bucket: str, set_variable: Callable[[str, str], None]
) -> None:
    set_variable("CLOUDIMG_TIMEOUT_S", "4")  # so that 1.6 s are long
    pixels = np.random.default_rng(0).integers(0, 2**16, (140, 128, 128), np.uint16)
    for z, page in enumerate(pixels):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(page))
    meter.link(400_000)
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/in/a_{{z}}z.tif", storage_options=meter.storage_options
        )
        found = image.read()
    np.testing.assert_array_equal(found, pixels)
    assert sum(request.bytes_sent for request in traffic.requests) <= 1.1 * pixels.nbytes
    last = sorted(traffic.requests, key=lambda request: request.t_start)[-40:]
    assert Traffic(last).max_concurrent <= 30 < traffic.max_concurrent


@pytest.mark.slow
def test_requests_that_time_out_because_they_are_too_many_are_made_one_after_another(
    meter: Meter, bucket: str, set_variable: Callable[[str, str], None]
) -> None:
    set_variable("CLOUDIMG_TIMEOUT_S", "1")
    pixels = np.random.default_rng(0).integers(0, 2**16, (64, 256, 256), np.uint16)
    for z, page in enumerate(pixels):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(page))
    meter.link(1_000_000)  # which gives each of 64 answers a piece of 16 KiB in 1.05 s
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/in/a_{{z}}z.tif", storage_options=meter.storage_options
        )
        np.testing.assert_array_equal(image.read(), pixels)
    assert any(request.status == 0 for request in traffic.requests)
    assert traffic.bytes_sent <= 1.5 * pixels.nbytes


def test_what_came_before_an_answer_broke_off_is_not_requested_again(
    meter: Meter, bucket: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (4, 1024, 1024), np.uint16)
    for z, page in enumerate(pixels):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(page))
    options = meter.storage_options
    image = cloudimg.open(f"s3://{bucket}/in/a_{{z}}z.tif", storage_options=options)
    meter.faults([rule("GET", f"{bucket}/in", kind="truncate", times=1)])
    image.read({"z": 0})  # from then on, answers may break off
    meter.faults([rule("GET", f"{bucket}/in", kind="truncate", times=6)])
    with meter.measure() as traffic:
        np.testing.assert_array_equal(image.read(), pixels)
    meter.faults([])
    assert sum(request.bytes_sent for request in traffic.requests) <= 1.1 * pixels.nbytes
    assert len(traffic.requests) == 4 + 6


def test_a_file_that_changed_after_an_answer_broke_off_is_read_from_its_beginning(
    meter: Meter, bucket: str
) -> None:
    old, new = (np.full((1024, 1024), value, np.uint16) for value in (1, 2))
    key = f"{bucket}/a.tif"
    meter.put(bucket, "a.tif", seed.encode(old))
    store = Store(split_url(f"s3://{key}")[0], meter.storage_options)
    meter.faults([rule("GET", key, kind="truncate", times=1)])
    store.get(key)  # from then on, answers may break off
    meter.faults([rule("GET", key, kind="truncate", times=1), held("GET", key, times=1)])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.get, key)
        wait_until(lambda: bool(meter.held()), "the second request")
        meter.put(bucket, "a.tif", seed.encode(new))
        meter.release()
        assert bytes(reading.result().data) == seed.encode(new)
    meter.faults([])


def test_what_came_in_many_parts_is_not_counted_at_each_of_them() -> None:
    counted, n_parts = [0], 4000

    class Parts(deque[tuple[int, float, float]]):
        def __iter__(self) -> Iterator[tuple[int, float, float]]:
            counted[0] += len(self)
            return super().__iter__()

    bytes_at_once = BytesAtOnce(8.0)
    bytes_at_once._came = Parts()
    for i in range(n_parts):
        bytes_at_once.come(2**16, 100 + i / n_parts, 101 + i / n_parts, 50)
    assert 0.95 * n_parts * 2**16 <= bytes_at_once.most <= n_parts * 2**16
    assert counted[0] <= 100 * n_parts


def test_a_limit_of_each_connection_is_none_of_the_link() -> None:
    """Fewer requests at once take as long there, and bring less."""
    bytes_at_once, now, n_at_once, took_s, size = BytesAtOnce(8.0), 100.0, 64, 16.0, 2**20
    for _ in range(6):
        for _ in range(n_at_once):
            bytes_at_once.begin(size)
        for _ in range(n_at_once):
            bytes_at_once.come(size, now, now + took_s, now)
            bytes_at_once.end(size, now, now + took_s)
        now, n_at_once = now + took_s, int(bytes_at_once.most // size)
        assert n_at_once >= 32
    # A request without an answer is one: then the latest bytes count.
    bytes_at_once.fail()
    bytes_at_once.come(size, now, now + took_s, now)
    assert bytes_at_once.most <= size


def test_versions_that_take_turns_are_no_progress() -> None:
    """As of servers behind one name that state other ETags for the same file."""

    class Servers:
        n_requests = 0

        def get(self, _key: str, start: int, _stop: int) -> Blob:
            self.n_requests += 1
            failure = ServerError("the answer broke off")
            failure.came = Blob(b"12345", start, 10, f'"{self.n_requests % 2}"')
            raise failure

    servers, resumed, have_come_further = Servers(), ResumedGet("b/a.tif", 0, 10), []
    for _ in range(6):
        with pytest.raises(ServerError) as caught:
            resumed.get(servers)  # type: ignore[arg-type]
        have_come_further.append(caught.value.came is not None)
    assert have_come_further == [True, *[False] * 5]


@pytest.mark.parametrize("how", ["option", "setting", "command"])
def test_no_more_is_asked_than_the_user_allows(
    meter: Meter,
    bucket: str,
    how: str,
    set_variable: Callable[[str, str], None],
    tmp_path: Path,
) -> None:
    n, bytes_per_s, per_s = 30, 100_000, 20
    pixels = np.random.default_rng(0).integers(0, 2**16, (n, 64, 64), np.uint16)
    for z, page in enumerate(pixels):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(page))
    source, rate = f"s3://{bucket}/in/a_{{z}}z.tif", f"{bytes_per_s // 1000}kB/s,{per_s}/s"
    options = dict(meter.storage_options)
    with meter.measure() as traffic:
        if how == "command":
            out = tmp_path / "out.zarr"
            words = ["migrate", source, str(out), "--source-options", json.dumps(options)]
            assert main([*words, "--max-rate", rate]) == 0
        else:
            if how == "option":
                options["max_rate"] = rate
            else:
                set_variable("CLOUDIMG_MAX_RATE", rate)
            image = cloudimg.open(source, storage_options=options)
            np.testing.assert_array_equal(image.read(), pixels)
    begun = sorted(request.t_start for request in traffic.requests)
    took_s = begun[-1] - begun[0]
    # A load on this machine makes the requests fewer a second, never more.
    assert len(begun) - 1 <= 1.05 * per_s * took_s + 2
    assert traffic.bytes_sent <= 1.05 * bytes_per_s * took_s + 2 * 2**15


def test_a_program_ends_while_requests_wait_for_their_turn() -> None:
    """However long that takes at the rate that a user allows."""
    script = (
        "import time\n"
        "from cloudimg.settings import MaxRate\n"
        "from cloudimg.storage.pacing import Pace\n"
        "from cloudimg.storage.threads import engine\n"
        "pace = Pace(8, MaxRate(requests_per_s=0.01))\n"
        "def ask():\n"
        "    with pace.turn():\n"
        "        pass\n"
        "engine().fetch(ask).result()\n"
        "engine().fetch(ask)\n"
        "time.sleep(0.2)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_a_rate_that_is_none_is_refused(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArgumentError, match=r"max_rate='20' must be \"20MB/s\""):
        cloudimg.open(f"s3://{bucket}/a.tif", storage_options={"max_rate": "20"})
    with pytest.raises(SystemExit):
        main(["info", f"s3://{bucket}/a.tif", "--max-rate", "fast"])
    assert "--max-rate: must be" in capsys.readouterr().err
    words = ["info", f"s3://{bucket}/a.tif", "--max-rate", "9/s"]
    assert main([*words, "--storage-options", '{"max_rate": "9/s"}']) == 2
    assert "--max-rate and --storage-options both set max_rate" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_share_a_store(meter: Meter, pattern: str, bucket: str) -> None:
    n = 4
    meter.faults([throttled("GET", bucket, per_second=200, burst=100)])
    script = (
        "import sys, cloudimg\n"
        "image = cloudimg.open(sys.argv[1], storage_options=eval(sys.argv[2]))\n"
        "assert (image.read()[:, 0, 0] == range(360)).all()\n"
    )
    words = [sys.executable, "-c", script, pattern, repr(dict(meter.storage_options))]
    with meter.measure() as traffic:
        processes = [subprocess.Popen(words) for _ in range(n)]
        assert [process.wait() for process in processes] == [0] * n
    meter.faults([])
    assert len(traffic.requests) <= 1.5 * n * N_FILES


@pytest.mark.slow
def test_a_lease_is_renewed_while_requests_wait_for_their_turn(
    meter: Meter, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 80
    for z in range(n):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(plane(z)))
    meter.faults([throttled("GET|PUT", bucket, per_second=20, burst=20)])
    script = (
        "import sys, cloudimg\n"
        "source, out, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])\n"
        "cloudimg.migrate(source, out, source_options=options, target_options=options,"
        " chunks=(1, 32, 32), shards=(1, 32, 32), levels=1)\n"
    )
    out = f"s3://{bucket}/out.zarr"
    monkeypatch.setenv("CLOUDIMG_LEASE_TTL_S", "2")
    done = subprocess.run(
        [sys.executable, "-c", script, f"s3://{bucket}/in/a_{{z}}z.tif", out,
         repr(dict(meter.storage_options))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    meter.faults([])
    options = meter.storage_options
    assert cloudimg.verify(
        out, against_source=True, storage_options=options, source_options=options
    )


@pytest.mark.slow
def test_a_store_that_refuses_everything(
    meter: Meter, pattern: str, bucket: str, set_variable: Callable[[str, str], None]
) -> None:
    image = cloudimg.open(pattern, storage_options=meter.storage_options)
    set_variable("CLOUDIMG_TIMEOUT_S", "5")  # so long it is asked
    meter.faults([throttled("GET", bucket)])
    with meter.measure() as traffic, pytest.raises(ServerError, match=r"503.*gave up"):
        image.read()
    assert len(traffic.requests) <= 3 * N_FILES


def test_a_store_that_refuses_everything_is_asked_at_the_users_rate(
    meter: Meter, bucket: str, set_variable: Callable[[str, str], None]
) -> None:
    """Also by those who still wait for their turn when it is clear that waiting is of no use."""
    n, per_s = 60, 40
    for z in range(n):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(plane(z)))
    options = meter.storage_options | {"max_rate": f"{per_s}/s"}
    image = cloudimg.open(f"s3://{bucket}/in/a_{{z}}z.tif", storage_options=options)
    set_variable("CLOUDIMG_TIMEOUT_S", "1")  # so long it is asked
    meter.faults([throttled("GET", bucket)])
    with meter.measure() as traffic, pytest.raises(ServerError, match=r"503.*gave up"):
        image.read()
    begun = sorted(request.t_start for request in traffic.requests)
    assert len(begun) - 1 <= 1.05 * per_s * (begun[-1] - begun[0]) + 2


def test_a_willing_store_is_asked_by_more_and_more_at_once(meter: Meter, pattern: str) -> None:
    traffic = read_all(pattern, meter)
    assert len(traffic.requests) <= N_FILES + 5
    assert traffic.max_concurrent > 64
