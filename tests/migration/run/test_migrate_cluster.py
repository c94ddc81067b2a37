"""Copies made by a real cluster of processes: the same bytes, whichever process dies."""

from __future__ import annotations

import os
import pickle
import signal
import socket
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client

import cloudimg
from cloudimg.cli import clients
from cloudimg.cli.main import main
from cloudimg.errors import BadFilesError
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.lease_view import LeaseView
from cloudimg.migration.run.cell import Job
from tests.support import copies, seed
from tests.support.clusters import local_client
from tests.support.counting import Clock
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together

SHAPE = {"chunks": 32, "shards": {"t": 1, "c": 1, "z": 5, "y": 32, "x": 96}, "levels": 4}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(2, 2) as client:
        yield client


@pytest.fixture
def archive(meter: Meter, bucket: str) -> str:
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data))
    return f"s3://{bucket}/src/{seed.PATTERN}"


def copy(meter: Meter, source: str, url: str, **arguments: Any) -> Any:
    options = meter.storage_options
    return cloudimg.migrate(
        source,
        url,
        source_options=options,
        target_options=options,
        **SHAPE,
        **arguments,
    )


def test_a_cluster_writes_the_same_bytes(
    client: Client, meter: Meter, bucket: str, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = meter.storage_options
    copy(meter, archive, f"s3://{bucket}/local.zarr")
    expected = copies.image_of(copies.objects(f"s3://{bucket}/local.zarr", options))
    done = copy(meter, archive, f"s3://{bucket}/cluster.zarr", client=client)
    assert done.n_objects == len([key for key in expected if "/c/" in key])
    assert copies.image_of(copies.objects(f"s3://{bucket}/cluster.zarr", options)) == expected
    proof = cloudimg.verify(
        f"s3://{bucket}/cluster.zarr",
        against_source=True,
        client=client,
        storage_options=options,
        source_options=options,
    )
    assert proof, str(proof)
    address = client.scheduler.address
    store = ["--endpoint-url", meter.endpoint, "--source-options", '{"key": "x", "secret": "y"}']
    words = ["--chunks", "32", "--shards", "t=1,c=1,z=5,y=32,x=96", "--levels", "4"]
    url = f"s3://{bucket}/command.zarr"
    assert main(["migrate", archive, url, "--scheduler", address, *words, *store]) == 0
    assert f"{url}: " in capsys.readouterr().out
    assert copies.image_of(copies.objects(url, options)) == expected


def test_a_worker_that_is_killed(client: Client, meter: Meter, bucket: str, archive: str) -> None:
    options = meter.storage_options
    copy(meter, archive, f"s3://{bucket}/local.zarr")
    expected = copies.image_of(copies.objects(f"s3://{bucket}/local.zarr", options))
    pids = list(client.run(os.getpid).values())
    killed: list[int] = []

    def kill(advance: Any) -> None:
        if advance.n_done >= 3 and not killed:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    meter.latency(5)
    url = f"s3://{bucket}/cluster.zarr"
    copy(meter, archive, url, client=client, progress=kill)
    assert killed
    meter.latency(0)
    assert copies.image_of(copies.objects(url, options)) == expected
    assert cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )


def test_an_error_on_a_worker_is_raised(client: Client, meter: Meter, bucket: str) -> None:
    image = seed.expected()
    for z in range(3):
        data = seed.encode(image[0, 0, z], compression="zlib")
        meter.put(bucket, f"src/a_{z}.tif", data if z < 2 else data[:400] + b"\xff" * 200)
    options = meter.storage_options
    with pytest.raises(BadFilesError, match=r"1 truncated.*a_2\.tif"):
        cloudimg.migrate(
            f"s3://{bucket}/src/a_{{z}}.tif",
            f"s3://{bucket}/copy.zarr",
            source_options=options,
            target_options=options,
            client=client,
        )


def test_arrays_of_dask_are_computed_there(client: Client, meter: Meter, bucket: str) -> None:
    pixels = np.arange(3 * 90 * 110, dtype=np.uint16).reshape(3, 90, 110)
    array = da.from_array(pixels, chunks=(2, 37, 55)) + 1
    url, options = f"s3://{bucket}/copy.zarr", meter.storage_options
    cloudimg.to_zarr(
        array, url, dims="zyx", chunks=32, shards=64, levels=2, client=client,
        storage_options=options,
    )  # fmt: skip
    assert cloudimg.verify(url, against_source=array, storage_options=options)


def test_what_travels_is_small(meter: Meter, bucket: str, archive: str) -> None:
    write_input = cloudimg.open(archive, storage_options=meter.storage_options).write_input(None)
    from cloudimg.migration.encode.codecs import make_codec
    from cloudimg.migration.plan.request import WriteRequest
    from cloudimg.migration.run.planning import plan_for

    plan = plan_for(write_input, WriteRequest(), make_codec(None, write_input.dtype, 3).spec)
    destination = open_destination(f"s3://{bucket}/copy.zarr", meter.storage_options)
    job = Job(plan, write_input.pixels, destination, LeaseView(destination, 1, "owner", 60))  # type: ignore[arg-type]
    assert len(pickle.dumps(job)) < 10_000


def test_a_scheduler_that_is_not_there(
    meter: Meter,
    bucket: str,
    archive: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ["--endpoint-url", meter.endpoint, "--source-options", '{"key": "x", "secret": "y"}']
    words = ["migrate", archive, f"s3://{bucket}/copy.zarr", "--scheduler", "nonsense://x", *store]
    assert main(words) == 12
    assert "no scheduler answers at nonsense://x" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # does not answer
        words[4] = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        # Dask itself, which would try for a minute, is not asked.
        monkeypatch.setattr("distributed.Client", None)
        clock = Clock()
        monkeypatch.setattr(clients, "time", clock)
        assert main(words) == 12
    assert 1 <= sum(clock.sleeps_s) < 10  # a scheduler may be about to start
    assert len(clock.sleeps_s) <= 20
    assert f"no scheduler answers at {words[4]}" in capsys.readouterr().err
