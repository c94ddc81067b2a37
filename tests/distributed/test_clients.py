"""Clients as people pass them: in tasks, asynchronous, of the wrong type, and what they send."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, CorruptFileError
from tests.support.clusters import local_client
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.slow  # all of them together

EXPECTED = np.arange(6 * 8 * 10, dtype="u2").reshape(6, 8, 10)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of one worker with one thread: whoever holds it keeps all others from it."""
    with local_client(1, 1, set_as_default=False) as client:
        yield client


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    for t, page in enumerate(EXPECTED):
        tifffile.imwrite(tmp_path / f"m_t{t}.tif", page)
    return f"{tmp_path}/m_t{{t}}.tif"


def migrate_in_task(pattern: str, url: str, *, by_function: bool) -> int:
    from distributed import get_client

    client = get_client()
    done = cloudimg.migrate(
        pattern, url, client=(lambda: client) if by_function else client, allow_unmatched=True
    )
    return done.n_cells


@pytest.mark.parametrize("by_function", [False, True])
def test_a_task_waits_for_other_tasks_outside_the_pool(
    client: Any, pattern: str, tmp_path: Path, by_function: bool
) -> None:
    copy = str(tmp_path / "copy.zarr")
    future = client.submit(migrate_in_task, pattern, copy, by_function=by_function)
    assert future.result(HANG_S) == 1
    assert cloudimg.verify(copy).is_verified


@pytest.mark.parametrize("by_function", [False, True])
def test_an_array_that_another_cluster_has(client: Any, tmp_path: Path, by_function: bool) -> None:
    """The error names both, and says what to pass."""
    array = da.from_array(EXPECTED, chunks=(2, 8, 10))
    copy, given = str(tmp_path / "copy.zarr"), (lambda: client) if by_function else client
    with local_client(1, set_as_default=False) as other:
        held = other.persist(array)
        places = rf"{re.escape(other.scheduler.address)}.*{re.escape(client.scheduler.address)}"
        with pytest.raises(ArgumentError, match=rf"memory of the cluster at {places}.*persist"):
            cloudimg.to_zarr(held + 1, copy, dims="tyx", client=given)
        cloudimg.to_zarr(held + 1, copy, dims="tyx", client=other)
    assert cloudimg.verify(copy, against_source=EXPECTED + 1).is_verified
    own = str(tmp_path / "own.zarr")
    cloudimg.to_zarr(client.persist(array) + 1, own, dims="tyx", client=given)
    assert cloudimg.verify(own, against_source=EXPECTED + 1).is_verified


def test_an_array_is_written_by_a_task(client: Any, pattern: str, tmp_path: Path) -> None:
    def write(url: str) -> None:
        from distributed import get_client

        array = cloudimg.imread(pattern) + 1
        cloudimg.to_zarr(array, url, dims="tyx", client=get_client())

    client.submit(write, str(tmp_path / "more.zarr")).result(HANG_S)
    more = cloudimg.verify(str(tmp_path / "more.zarr"), against_source=EXPECTED + 1)
    assert more.is_verified


def test_an_asynchronous_client(client: Any, pattern: str) -> None:
    from distributed import Client

    async def read() -> Any:
        make: Any = Client
        async with make(client.scheduler.address, asynchronous=True) as waiting:
            with pytest.raises(ArgumentError, match=r"is asynchronous.*to_thread"):
                cloudimg.open(pattern, client=waiting)
            image = await asyncio.to_thread(cloudimg.open, pattern, client=waiting)
            return await waiting.compute(image.to_dask(client=waiting))

    np.testing.assert_array_equal(asyncio.run(read()), EXPECTED)


def test_what_is_not_a_client(client: Any, pattern: str) -> None:
    image = cloudimg.open(pattern)
    for wrong in (client.scheduler.address, client.cluster):
        with pytest.raises(ArgumentError, match=f"client= is of type {type(wrong).__name__}"):
            cloudimg.open(pattern, client=wrong)
        with pytest.raises(ArgumentError, match=r"must be a distributed\.Client"):
            image.to_dask(client=wrong)


def test_an_argument_that_cannot_be_sent_is_named(client: Any, pattern: str) -> None:
    lock = threading.Lock()

    def read(file: Any, url: str) -> Any:
        with lock:
            return tifffile.imread(file)

    with pytest.raises(ArgumentError, match="imread= of open cannot be pickled"):
        cloudimg.open(pattern, imread=read, client=client)


class LockedError(Exception):
    """Has what cannot be pickled, as errors of libraries that hold a connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.lock = threading.Lock()


@pytest.mark.parametrize("is_direct", [False, True])
def test_an_error_arrives_whose_cause_cannot_be_pickled(
    client: Any, pattern: str, tmp_path: Path, is_direct: bool
) -> None:
    def read(file: Any, url: str) -> Any:
        if "t0" in url:
            return tifffile.imread(file)
        if is_direct:
            raise LockedError("the reason")
        try:
            raise LockedError("the reason")
        except LockedError as exc:
            raise ValueError("the second reason") from exc

    image = cloudimg.open(pattern, imread=read, client=client)
    with pytest.raises(CorruptFileError, match="reason") as caught:
        client.compute(image.to_dask()).result(HANG_S)
    assert "LockedError: the reason" in "".join(caught.value.__notes__)
    with pytest.raises(CorruptFileError):
        image.read()  # here the cause itself is kept
