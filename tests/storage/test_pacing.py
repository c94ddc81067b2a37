"""Stores that allow few requests a second, and links that carry few bytes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

import cloudimg
from cloudimg.errors import ServerError
from tests.support import seed
from tests.support.faulty_store import throttled
from tests.support.metering import Meter, Traffic

N_FILES = 360


def plane(z: int) -> npt.NDArray[np.uint16]:
    return np.full((32, 32), z, np.uint16)


@pytest.fixture
def pattern(meter: Meter, bucket: str) -> str:
    for z in range(N_FILES):
        meter.put(bucket, f"in/a_{z}z.tif", seed.encode(plane(z)))
    meter.latency(30)
    return f"s3://{bucket}/in/a_{{z}}z.tif"


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
def test_few_requests_a_second(
    meter: Meter, pattern: str, bucket: str, per_second: int, burst: int
) -> None:
    meter.faults([throttled("GET", bucket, per_second=per_second, burst=burst)])
    started = time.monotonic()
    traffic = read_all(pattern, meter)
    took_s = time.monotonic() - started
    print(f"{per_second}/s, burst {burst}: {len(traffic.requests)} requests, {took_s:.1f} s")
    refused = [request for request in traffic.requests if request.status == 503]
    assert refused
    if burst <= per_second:
        assert len(traffic.requests) <= 1.5 * N_FILES
        return
    # A burst that is larger ends when most files are under way: what is refused then is not asked
    # for because of the limit. Of what is asked for after eight refusals, few may be refused.
    told = sorted(request.t_end for request in refused)[7]
    later = [request for request in refused if request.t_start > told]
    assert len(later) <= 0.25 * N_FILES
    assert len(refused) - len(later) <= N_FILES - burst + 8


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


def test_a_willing_store_is_asked_by_more_and_more_at_once(meter: Meter, pattern: str) -> None:
    traffic = read_all(pattern, meter)
    assert len(traffic.requests) <= N_FILES + 5
    assert traffic.max_concurrent > 64
