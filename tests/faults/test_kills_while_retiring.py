"""A retirement, and the way back, killed at each of their calls to the store.

By default a tenth of the calls, chosen by seed; all of them with ``CLOUDIMG_TEST_KILLS``.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tifffile

import cloudimg
from cloudimg.settings import settings
from tests.support import copies, killing
from tests.support.killing_proxy import KillingProxy, killing_proxy
from tests.support.servers import S3Account, real_s3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:the store of gs"),
]

N_FILES = 3
TTL_S = "1"
"""A run that follows an interrupted one waits as long for requests that are on their way."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Originals and a copy of them in one store."""

    url: str
    copy: str
    options: Mapping[str, Any] = field(repr=False)
    copy_options: Mapping[str, Any] = field(repr=False)
    proxy: KillingProxy | None = None

    def objects(self) -> dict[str, bytes]:
        """What is there, without the copy."""
        found = copies.objects(self.url, dict(self.options))
        return {key: data for key, data in found.items() if ".zarr/" not in key}

    def next_kill(self, draw: random.Random) -> int:
        """Number of calls after which the next kill comes; there are few beside a local copy."""
        share = min(killing.SHARE, 3) if self.url.startswith("gs://") else killing.SHARE
        return draw.randint(1, 2 * share - 1)

    def migrate(self) -> None:
        """Copy the originals; in Google Cloud anew, where files that came back changed versions."""
        if self.url.startswith("gs://"):
            shutil.rmtree(self.copy, ignore_errors=True)
        cloudimg.migrate(
            f"{self.url}/exp/a_{{z}}.tif",
            self.copy,
            source_options=self.options,
            target_options=self.copy_options,
        )


def act(
    archive: tuple[Any, ...], how: dict[str, Any], kill_at: int = 0, with_text: str = ""
) -> None:
    """The call that is killed; runs in a process of its own."""
    url, copy, options, copy_options = archive
    os.environ["CLOUDIMG_LEASE_TTL_S"] = TTL_S
    settings.cache_clear()
    if kill_at:
        killing.kill_at(with_text or url, kill_at)
    done = cloudimg.retire(
        copy,
        storage_options=copy_options,
        source_options=options,
        confirm=lambda _: True,
        **how,
    )
    assert done, str(done)


@pytest.fixture(scope="module")
def processes() -> Any:
    return killing.processes_with(
        "cloudimg.api.retirements", "tests.faults.test_kills_while_retiring"
    )


@pytest.fixture(autouse=True)
def _short_lease(set_variable: Callable[[str, str], None]) -> None:
    set_variable("CLOUDIMG_LEASE_TTL_S", TTL_S)


def original(z: int) -> bytes:
    file = io.BytesIO()
    plane = np.random.default_rng(z).integers(1, 255, (32, 32), np.uint8)
    tifffile.imwrite(file, plane, photometric="minisblack")
    return file.getvalue()


@contextmanager
def proxied(upstream: str, options: Callable[[str], dict[str, Any]]) -> Iterator[Any]:
    with killing_proxy(upstream) as proxy:
        yield proxy, options(proxy.endpoint)


def s3_archive(account: S3Account) -> Iterator[Archive]:
    client = account.client()
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    for z in range(N_FILES):
        client.put_object(Bucket=bucket, Key=f"exp/a_{z}.tif", Body=original(z))

    def options(endpoint: str) -> dict[str, Any]:
        return S3Account(endpoint, account.key, account.secret, account.region).storage_options

    with proxied(account.endpoint, options) as (proxy, given):
        url = f"s3://{bucket}"
        yield Archive(url, f"{url}/copy.ome.zarr", given, given, proxy)
    client.close()


def gs_archive(endpoint: str, folder: Path) -> Iterator[Archive]:
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    made = requests.post(f"{endpoint}/storage/v1/b", json={"name": bucket}, timeout=9)
    made.raise_for_status()
    for z in range(N_FILES):
        requests.post(
            f"{endpoint}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": f"exp/a_{z}.tif"},
            data=original(z),
            headers={"Content-Type": "image/tiff"},
            timeout=9,
        ).raise_for_status()
    with proxied(endpoint, lambda at: {"endpoint_url": at, "token": "anon"}) as (proxy, given):
        # The emulator does not fence, so the copy is elsewhere.
        yield Archive(f"gs://{bucket}", f"{folder}/copy.ome.zarr", given, {}, proxy)


def local_archive(folder: Path) -> Iterator[Archive]:
    (folder / "exp").mkdir()
    for z in range(N_FILES):
        (folder / "exp" / f"a_{z}.tif").write_bytes(original(z))
    yield Archive(str(folder), f"{folder}/copy.ome.zarr", {}, {})


@pytest.fixture(params=["local", "moto", "gs", "ceph"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    if request.param == "local":
        made = local_archive(tmp_path)
    elif request.param == "gs":
        made = gs_archive(request.getfixturevalue("gcs"), tmp_path)
    else:
        account = real_s3()
        if request.param == "moto":
            account = S3Account(request.getfixturevalue("moto"))
        if account is None:
            pytest.skip("no real S3 server is named by the environment")
        made = s3_archive(account)
    for each in made:
        each.migrate()
        yield each


def run(processes: Any, archive: Archive, how: dict[str, Any], at: int, *, arrives: bool) -> int:
    """Act in a process that is killed at its n-th call; return its exit code."""
    given = (archive.url, archive.copy, dict(archive.options), dict(archive.copy_options))
    kills_itself = at if archive.proxy is None else 0
    work = processes.Process(target=act, args=(given, how, kills_itself))
    if archive.proxy is not None:
        archive.proxy.process = work
        archive.proxy.reset(at, arrives=arrives)
    work.start()
    work.join()
    if archive.proxy is not None:
        archive.proxy.reset()
    return int(work.exitcode)


def check_whole(archive: Archive) -> None:
    """Every original is at one of the two places, or at both, with its bytes."""
    found = archive.objects()
    for z in range(N_FILES):
        there = [found[key] for key in (f"exp/a_{z}.tif", f"old/a_{z}.tif") if key in found]
        assert there, z
        assert set(there) == {original(z)}, z


@pytest.mark.parametrize("way", ["there", "back"])
def test_moving(processes: Any, archive: Archive, way: str) -> None:
    """A killed run is continued, or followed by the opposite one."""
    move = {"move_to": f"{archive.url}/old", "execute": True}
    undo = {"undo": True}
    before = archive.objects()
    after = {key.replace("exp/", "old/"): data for key, data in before.items()}
    at = n_killed = 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        draw = random.Random(at)
        at += archive.next_kill(draw)
        if at > 1 and archive.url.startswith("gs://"):
            archive.migrate()
        if way == "back":
            follow(archive, move)
        first = undo if way == "back" else move
        code = run(processes, archive, first, at, arrives=draw.random() < 0.5)
        assert code in (0, -signal.SIGKILL), at
        n_killed += code != 0
        check_whole(archive)
        # The list tells which files it is about: without it, nothing is done, or all is undone.
        if _is_listed(archive) and draw.random() < 0.5:
            follow(archive, move)
            assert archive.objects() == after, at
        if _is_listed(archive):
            follow(archive, undo)
        assert archive.objects() == before, at
    assert n_killed >= 3


def _is_listed(archive: Archive) -> bool:
    names = copies.names(archive.copy, dict(archive.copy_options))
    return ".cloudimg/retired/manifest.json" in names


def follow(archive: Archive, how: dict[str, Any]) -> None:
    given = (archive.url, archive.copy, dict(archive.options), dict(archive.copy_options))
    act(given, how)


def test_tagging(processes: Any, archive: Archive) -> None:
    """A killed run is continued, and undone."""
    if archive.proxy is None:
        pytest.skip("local files have no tags")
    tag = {"tag": {"retired": "yes"}, "execute": True}
    before = archive.objects()
    at = n_killed = 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        draw = random.Random(at)
        at += archive.next_kill(draw)
        if at > 1 and archive.url.startswith("gs://"):
            archive.migrate()
        code = run(processes, archive, tag, at, arrives=draw.random() < 0.5)
        assert code in (0, -signal.SIGKILL), at
        n_killed += code != 0
        if draw.random() < 0.5:
            follow(archive, tag)
        if _is_listed(archive):
            follow(archive, {"undo": True})
        assert archive.objects() == before, at
    assert n_killed >= 3


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("way", ["there", "back"])
def test_local_files_that_were_just_being_deleted(
    processes: Any, tmp_path: Path, number: int, way: str
) -> None:
    """Before a file loses its name, and when it has lost it and still exists under another."""
    (archive,) = local_archive(tmp_path)
    archive.migrate()
    move, undo = {"move_to": f"{archive.url}/old", "execute": True}, {"undo": True}
    before = archive.objects()
    if way == "back":
        follow(archive, move)
    after = archive.objects() if way == "back" else {}
    given = (archive.url, archive.copy, {}, {})
    code = killing.exit_code(
        processes, act, given, undo if way == "back" else move, number, "-deleted"
    )
    assert code == -signal.SIGKILL
    check_whole(archive)
    if way == "back":
        follow(archive, move)
        assert archive.objects() == after
    follow(archive, move if way == "there" else undo)
    if way == "there":
        follow(archive, undo)
    assert archive.objects() == before
