"""Servers and places that the tests share.

A test that takes `place` runs once on each kind of store; one that takes `meter` counts requests.
Servers start when a test first needs them and live until the session ends.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, urlencode

# The tests see no configuration of the user's, whose keys and endpoints would reach real stores.
# Libraries read these when they are imported, hence before any of those below.
for name in list(os.environ):
    if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "GCSFS_", "FSSPEC_", "STORAGE_EMULATOR_")):
        del os.environ[name]
os.environ["AWS_CONFIG_FILE"] = os.devnull
os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = os.environ["NO_GCE_CHECK"] = "true"
os.environ["FSSPEC_CONFIG_DIR"] = os.devnull
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it asks emulators for gRPC, 60 s long
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
# Else each of the hundreds of processes that the tests start would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# ruff: noqa: E402, what follows must come before the imports
import botocore.client
import botocore.loaders
import fsspec
import pytest
import requests
from hypothesis import settings as hypothesis_settings

from cloudimg.settings import settings
from tests.support import shares
from tests.support.metering import Meter
from tests.support.servers import (
    AzureAccount,
    S3Account,
    azurite,
    azurite_program,
    gcs_emulator,
    http_server,
    moto_server,
    real_s3,
)

# A shell's background jobs ignore Ctrl-C, and so would the commands that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]

# Each session of botocore reads its descriptions of services anew, 25,000 objects for S3 alone.
# There are hundreds of sessions here; shared, the descriptions are read once and never collected.
_load_file = functools.cache(botocore.loaders.JSONFileLoader().load_file)
botocore.loaders.JSONFileLoader.load_file = lambda self, path: _load_file(path)

# How long an example takes says more about the machine than about the code.
hypothesis_settings.register_profile("cloudimg", deadline=None)
hypothesis_settings.load_profile("cloudimg")


_MORE_S = 60
"""How much longer than its limit a test may take until its process is ended."""
_TERMINAL = pytest.StashKey[TextIO]()
"""The standard error before tests are captured."""


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # files are given to processes in the order below
    config.stash[_TERMINAL] = os.fdopen(os.dup(2), "w", encoding="utf-8")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(FailuresAtOnce(config.stash[_TERMINAL]))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_TERMINAL].close()


def pytest_report_header() -> str:
    share = "all cases" if shares.SEED == "all" else f"a tenth of the cases, by seed {shares.SEED}"
    return f"long tests: {share} (CLOUDIMG_TEST_LONG)"


@pytest.hookimpl(trylast=True)  # after marks have deselected others
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose cases of long tests, and let files without slow tests come last.

    All processes then end at about the same time.
    """
    left_out = set() if _names_cases(config) else set(_left_out(items))
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _names_cases(config: pytest.Config) -> bool:
    return any("::" in each for each in config.args) or bool(config.option.keyword)


def _left_out(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield nine of ten cases of each long test."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        is_chosen = item.get_closest_marker("long") and item.get_closest_marker("slow")
        if is_chosen:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for several in cases.values():
        chosen = set(shares.share_of(several, name_of=lambda item: item.nodeid))
        yield from (item for item in several if item not in chosen)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """End a process that hangs where no exception reaches it, and show where."""
    marker = item.get_closest_marker("timeout")
    limit_s = float(marker.args[0] if marker else item.config.getini("timeout"))
    terminal = item.config.stash[_TERMINAL]
    faulthandler.dump_traceback_later(limit_s + _MORE_S, exit=True, file=terminal)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class FailuresAtOnce:
    """Shows a failure when it happens, not only at the end, which a run may not reach."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            text = f"\n{report.nodeid} failed:\n{report.longreprtext}"
            print(text, file=self._terminal, flush=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to put files, empty at the start of each test."""

    name: str
    url: str
    """What the URLs of its files begin with; no slash at the end."""
    storage_options: dict[str, Any] = field(repr=False)
    """What fsspec needs to read there. Not shown: the keys may be real."""
    store: Callable[[str, bytes], object]
    delete: Callable[[str], object]

    def put(self, key: str, data: bytes) -> str:
        """Put an object there behind the back of fsspec, and give its URL."""
        self.store(key, data)
        return f"{self.url}/{key}"


@dataclass(frozen=True, slots=True)
class WebServer:
    endpoint: str
    root: Path
    """The folder that it serves."""


# Servers


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of a moto server."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs() -> Iterator[str]:
    """The endpoint of a GCS emulator."""
    with gcs_emulator() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureAccount]:
    """An account of Azurite."""
    if azurite_program() is None:
        pytest.skip(
            "no Azurite: run `npm install --prefix .azurite azurite`, or name its azurite-blob by"
            " CLOUDIMG_TEST_AZURITE"
        )
    pytest.importorskip("adlfs", reason="no adlfs: install the extra azure")
    with azurite(tmp_path_factory.mktemp("azurite") / "log") as account:
        yield account


@pytest.fixture(scope="session")
def httpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A web server over a folder of its own."""
    root = tmp_path_factory.mktemp("httpd")
    with http_server(root) as endpoint:
        yield WebServer(endpoint, root)


@pytest.fixture(scope="session")
def meter_server() -> Iterator[Meter]:
    with Meter.start() as meter:
        yield meter


@pytest.fixture
def bucket() -> str:
    """A name that no other test uses, so that no cache of a listing is ever stale."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def meter(meter_server: Meter, bucket: str) -> Iterator[Meter]:
    """The metering server with an empty `bucket`, no latency, no faults and an empty log."""
    meter_server.latency(0)
    meter_server.link(None)
    meter_server.faults([])
    meter_server.create(bucket)
    meter_server.reset()
    yield meter_server
    meter_server.faults([])
    meter_server.release()
    meter_server.drop(bucket)


# Places


@contextmanager
def s3_place(name: str, account: S3Account, bucket: str) -> Iterator[Place]:
    client = account.client()
    client.create_bucket(Bucket=bucket)
    try:
        yield Place(
            name,
            f"s3://{bucket}/dir",
            account.storage_options,
            lambda key, data: client.put_object(Bucket=bucket, Key=f"dir/{key}", Body=data),
            lambda key: client.delete_object(Bucket=bucket, Key=f"dir/{key}"),
        )
    finally:
        empty_bucket(client, bucket)
        client.delete_bucket(Bucket=bucket)
        client.close()


def empty_bucket(client: botocore.client.BaseClient, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": listed["Key"]} for listed in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})


def moto_place(request: pytest.FixtureRequest) -> AbstractContextManager[Place]:
    account = S3Account(request.getfixturevalue("moto"))
    return s3_place("s3-moto", account, request.getfixturevalue("bucket"))


def real_place(request: pytest.FixtureRequest) -> AbstractContextManager[Place]:
    account = real_s3()
    assert account is not None
    return s3_place("s3-real", account, request.getfixturevalue("bucket"))


@contextmanager
def meter_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    meter: Meter = request.getfixturevalue("meter")
    bucket = request.getfixturevalue("bucket")
    yield Place(
        "s3-meter",
        f"s3://{bucket}/dir",
        meter.storage_options,
        lambda key, data: meter.put(bucket, f"dir/{key}", data),
        lambda key: meter.delete(bucket, f"dir/{key}"),
    )


@contextmanager
def gcs_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    endpoint, bucket = request.getfixturevalue("gcs"), request.getfixturevalue("bucket")
    with requests.Session() as session:

        def call(method: str, path: str, data: bytes, kind: str = "application/json") -> None:
            url = f"{endpoint}/{path}"
            session.request(
                method, url, data=data, headers={"Content-Type": kind}
            ).raise_for_status()

        def store(key: str, data: bytes) -> None:
            query = urlencode({"uploadType": "media", "name": f"dir/{key}"})
            call("POST", f"upload/storage/v1/b/{bucket}/o?{query}", data, "image/tiff")

        def delete(key: str) -> None:
            call("DELETE", f"storage/v1/b/{bucket}/o/{quote(f'dir/{key}', safe='')}", b"")

        call("POST", "storage/v1/b", json.dumps({"name": bucket}).encode())
        options = {"endpoint_url": endpoint, "token": "anon"}
        yield Place("gs", f"gs://{bucket}/dir", options, store, delete)


@contextmanager
def az_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    account: AzureAccount = request.getfixturevalue("azure")
    container = request.getfixturevalue("bucket")
    with account.client(container) as client:
        client.create_container()
        yield Place(
            "az",
            f"az://{container}/dir",
            {"connection_string": account.connection_string},
            lambda key, data: client.upload_blob(f"dir/{key}", data, overwrite=True),
            lambda key: client.delete_blob(f"dir/{key}"),
        )
        client.delete_container()


@contextmanager
def folder_place(name: str, folder: Path, url: str) -> Iterator[Place]:
    def store(key: str, data: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    folder.mkdir(parents=True)
    yield Place(name, url, {}, store, lambda key: (folder / key).unlink())
    shutil.rmtree(folder)


def http_place(request: pytest.FixtureRequest) -> AbstractContextManager[Place]:
    server: WebServer = request.getfixturevalue("httpd")
    path = f"{request.getfixturevalue('bucket')}/dir"
    return folder_place("http", server.root / path, f"{server.endpoint}/{path}")


def local_place(request: pytest.FixtureRequest) -> AbstractContextManager[Place]:
    folder = request.getfixturevalue("tmp_path") / "dir"
    return folder_place("local", folder, f"file://{folder}")


@contextmanager
def memory_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    files = fsspec.filesystem("memory")
    folder = f"/{request.getfixturevalue('bucket')}"
    files.makedirs(f"{folder}/dir")
    yield Place(
        "memory",
        f"memory:/{folder}/dir",
        {},
        lambda key, data: files.pipe_file(f"{folder}/dir/{key}", data),
        lambda key: files.rm_file(f"{folder}/dir/{key}"),
    )
    files.rm(folder, recursive=True)


PLACES: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[Place]]] = {
    "s3-moto": moto_place,
    "s3-real": real_place,
    "s3-meter": meter_place,
    "gs": gcs_place,
    "az": az_place,
    "http": http_place,
    "memory": memory_place,
    "local": local_place,
}
if real_s3() is None:
    del PLACES["s3-real"]


QUICK_PLACES = {"s3-meter", "http", "memory", "local"}
"""Servers that answer in milliseconds; on all others, tests are left to the slow part."""


@pytest.fixture(
    params=[
        name if name in QUICK_PLACES else pytest.param(name, marks=pytest.mark.slow)
        for name in PLACES
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The test runs once on every kind of store."""
    with PLACES[request.param](request) as place:
        yield place


# Real files


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real TIFFs, which are not part of the repository."""
    beside = REPOSITORY.parent / "shared" / "corpus"
    folder = Path(os.environ.get("CLOUDIMG_CORPUS", beside))
    if not folder.is_dir():
        pytest.skip(f"no corpus of real files at {folder}; CLOUDIMG_CORPUS names another folder")
    return folder


@pytest.fixture(scope="session")
def acquisitions(corpus: Path) -> Path:
    """Real multi-file acquisitions."""
    folder = corpus / "acquisitions"
    if not folder.is_dir():
        pytest.skip(f"no acquisitions at {folder}")
    return folder


@pytest.fixture
def set_variable() -> Iterator[Callable[[str, str], None]]:
    """Sets a variable of the environment from which a process reads its settings once."""
    with pytest.MonkeyPatch.context() as patch:

        def set_it(name: str, value: str) -> None:
            patch.setenv(name, value)
            settings.cache_clear()

        yield set_it
    settings.cache_clear()
