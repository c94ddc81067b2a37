"""The other servers that the tests run against, each in a process of its own on loopback.

Nothing here knows pytest. Every function is a context manager that gives the endpoint of a fresh
server and stops it at the end. The child picks its port and only then says that it is ready, so
there is no port to race for and nothing to poll.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import logging
import os
import socketserver
import sys
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


def main() -> None:
    kinds: dict[str, Callable[..., str]] = {"http": run_http, "moto": run_moto, "gcs": run_gcs}
    parser = argparse.ArgumentParser(description="A server for the tests, until stdin closes.")
    parser.add_argument("kind", choices=sorted(kinds))
    parser.add_argument("root", nargs="*", help="of http: the folder to serve")
    given = parser.parse_args()
    endpoint = kinds[given.kind](*given.root)
    print(json.dumps({"endpoint": endpoint}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
