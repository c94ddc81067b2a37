"""Web servers as people have them: signed URLs, odd names, and answers of unusual forms."""

from __future__ import annotations

import gzip
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import (
    FormatError,
    NotTiffError,
    StorageError,
    UnsupportedFormatError,
)
from tests.support import seed
from tests.support.metering import parse_range
from tests.support.servers import S3Account, real_s3

pytestmark = pytest.mark.slow  # a server for each

PIXELS = np.random.default_rng(0).integers(0, 2**16, (300, 400), np.uint16)
FILE = seed.encode(PIXELS, tile=(64, 64))
HUGE = 300 * 2**20
SECRET = "wJalrXUtnFEMI"


@dataclass
class Server:
    """What a web server has, how it answers, and what it was asked for."""

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """By what stands in the first line of a request, character for character."""
    how: frozenset[str] = frozenset()
    """``"chunks"``, ``"no length"``, ``"no size"``, ``"ignores ranges"``, ``"no HEAD"``,
    ``"breaks off"``; ``"huge"``: whole files claim to have `HUGE` bytes."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of each answer with bytes of a file."""
    moved: dict[str, str] = field(default_factory=dict)
    """Redirections."""
    asked: list[str] = field(default_factory=list)
    n_sent: int = 0
    """Bytes of bodies."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of_test: Server

    def do_GET(self) -> None:
        server = self.server_of_test
        server.asked.append(self.path)
        data = server.files.get(self.path)
        if self.path in server.moved:
            self._answer(302, b"", {"Location": server.moved[self.path]})
        elif data is None or (self.command == "HEAD" and "no HEAD" in server.how):
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", {})
        else:
            self._answer_part(data, server)

    do_HEAD = do_GET  # noqa: N815, the name that http.server calls

    def _answer_part(self, data: bytes, server: Server) -> None:
        headers = {"ETag": '"1"', **server.headers}
        requested = parse_range({**self.headers}.get("Range"))
        if requested is None or "ignores ranges" in server.how:
            self._answer(200, data, headers)
            return
        start, stop, _ = slice(*requested).indices(len(data))
        size = "*" if "no size" in server.how else len(data)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        n_lost = 100 * ("breaks off" in server.how)
        self._answer(206, data[start : stop - n_lost], headers)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        how = self.server_of_test.how
        in_chunks = "chunks" in how and status < 300 and self.command != "HEAD"
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if in_chunks:
            self.send_header("Transfer-Encoding", "chunked")
        elif "no length" in how and status < 300 and self.command != "HEAD":
            self.send_header("Connection", "close")
        else:
            is_huge = "huge" in how and status == 200
            self.send_header("Content-Length", str(HUGE if is_huge else len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for i in range(0, len(body), 2**16):
            piece = body[i : i + 2**16]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if in_chunks else piece)
            self.server_of_test.n_sent += len(piece)
        if in_chunks:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests' output is for the tests."""


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that hang up."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    handler = type("OfTest", (Handler,), {"server_of_test": server})
    with Quiet(("127.0.0.1", 0), handler) as http:
        server.endpoint = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(params=["default", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "default" else "fsspec")
    set_variable("CLOUDIMG_ATTEMPTS", "2")
    return str(request.param)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


# Signed URLs, and names


def test_a_signed_url_is_sent_as_it_was_signed(server: Server) -> None:
    """Character for character: a signature holds for one spelling of a URL."""
    path = "/lab%3Aa/x%28%2F1%29%2b+(y).tif"
    query = f"X-Amz-Credential=AK%2F2026%2Fs3&se=2026-01-01T00%3A00%3A00Z&n=%28%2f%29&sig={SECRET}"
    server.files[f"{path}?{query}"] = FILE
    image = cloudimg.open(f"{server.endpoint}{path}?{query}")
    np.testing.assert_array_equal(image.read(), PIXELS)
    assert set(server.asked) == {f"{path}?{query}"}
    with pytest.raises(StorageError) as caught:
        cloudimg.open(f"{server.endpoint}{path}?{query}0").read()
    assert SECRET not in f"{image!r} {image.to_dask().dask} {caught.value} {caught.value.cause}"


def test_a_signed_url_in_a_chain(server: Server, tmp_path: Path) -> None:
    path = f"/x%28%2F1%29.tif?sig=%2F{SECRET}"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.tif", FILE)
    server.files[path] = FILE
    server.files[path.replace("tif", "zip")] = (tmp_path / "x.zip").read_bytes()
    for chain in (
        f"simplecache::{server.endpoint}{path}",
        "zip://x.tif::" + server.endpoint + path.replace("tif", "zip"),
    ):
        np.testing.assert_array_equal(cloudimg.imread(chain), PIXELS)


def test_a_signed_url_that_a_server_redirects_to(server: Server) -> None:
    target = f"/real%2Fx.tif?Policy=%28a%3Ab%29&Signature={SECRET}~_"
    server.moved["/download/1"] = target
    server.files[target] = FILE
    np.testing.assert_array_equal(cloudimg.imread(f"{server.endpoint}/download/1"), PIXELS)


@pytest.mark.parametrize("name", ["100%_{}.tif", "a+b_{}.tif", "a b_{}.tif", "a#b_{}.tif"])
def test_names_that_urls_encode(server: Server, name: str) -> None:
    """Users write them plainly or encoded; links in the pages of servers are encoded."""
    links = "".join(f'<a href="{quote(name.format(z))}">{z}</a>' for z in range(2))
    server.files["/lab/"] = server.files["/lab"] = f"<html>{links}</html>".encode()
    server.headers["Content-Type"] = "text/html"
    for z in range(2):
        # A plus sign may stand in a path as it is.
        for path in {quote(name.format(z)), quote(name.format(z), safe="+")}:
            server.files[f"/lab/{path}"] = FILE
    for spelled in {name, quote(name, safe="{}")}:
        single = cloudimg.open(f"{server.endpoint}/lab/{spelled.format(1)}")
        np.testing.assert_array_equal(single.read(), PIXELS)
        image = cloudimg.open(f"{server.endpoint}/lab/{spelled.replace('{}', '{z}')}")
        np.testing.assert_array_equal(image.read({"z": 1}), PIXELS)
    assert {unquote(path) for path in server.asked} <= {unquote(path) for path in server.files}


def test_presigned_urls_of_a_store(moto: str, bucket: str) -> None:
    """Of a store that checks signatures, where there is one."""
    account = real_s3() or S3Account(moto)
    client = account.client(signature_version="s3v4")
    client.create_bucket(Bucket=bucket)
    keys = ["a b/(1):+x%2F#ä.tif", "plain.tif"]
    urls = []
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=FILE)
        request = {"Bucket": bucket, "Key": key}
        urls.append(client.generate_presigned_url("get_object", request))
    try:
        image = cloudimg.open(urls)
        np.testing.assert_array_equal(image.read(), [PIXELS, PIXELS])
        signature = re.findall("X-Amz-Signature=(\\w+)", urls[0])[0]
        assert signature not in f"{image!r} {list(image.files)} {image.to_dask().dask}"
    finally:
        for key in keys:
            client.delete_object(Bucket=bucket, Key=key)
        client.delete_bucket(Bucket=bucket)


# Answers


@pytest.mark.long
@pytest.mark.parametrize(
    "how",
    [
        {"chunks"},
        {"no size"},
        {"no length"},
        {"chunks", "no size"},
        {"ignores ranges"},
        {"ignores ranges", "chunks"},
    ],
    ids=lambda how: ", ".join(sorted(how)),
)
def test_answers_of_unusual_forms(server: Server, how: set[str]) -> None:
    server.files["/x.tif"] = server.files["/lab/x.tif"] = FILE
    server.how = frozenset(how)
    options = {"storage_options": S3Account(server.endpoint).storage_options}
    for image in (
        cloudimg.open(f"{server.endpoint}/x.tif"),
        cloudimg.open("s3://lab/x.tif", **options),
    ):
        np.testing.assert_array_equal(image.read({"y": slice(70, 90)}), PIXELS[70:90])
        np.testing.assert_array_equal(image.read(), PIXELS)


def test_a_server_that_tells_no_size(server: Server) -> None:
    server.files["/x.tif"] = FILE
    server.how = frozenset({"chunks", "no size", "no HEAD"})
    np.testing.assert_array_equal(cloudimg.imread(f"{server.endpoint}/x.tif"), PIXELS)


def test_a_server_that_ignores_ranges_is_read_as_far_as_the_range(server: Server) -> None:
    large = np.zeros((4000, 4000), np.uint16)
    large[:100] = 7
    server.files["/x.tif"] = server.files["/lab/x.tif"] = seed.encode(large, tile=(256, 256))
    server.how = frozenset({"ignores ranges"})
    image = cloudimg.open(f"{server.endpoint}/x.tif")
    before = server.n_sent
    np.testing.assert_array_equal(image.read((slice(0, 10), slice(0, 10))), large[:10, :10])
    assert server.n_sent - before < len(server.files["/x.tif"]) // 2
    server.how |= {"huge"}
    options = {"storage_options": S3Account(server.endpoint).storage_options}
    for url, more in ((f"{server.endpoint}/x.tif", {}), ("s3://lab/x.tif", options)):
        with pytest.raises(StorageError, match=rf"does not serve byte ranges.*\({HUGE} bytes\)"):
            cloudimg.open(url, **more)


def test_an_answer_that_breaks_off_is_not_the_end_of_a_file(server: Server) -> None:
    """Where a connection ends an answer, only the range that it states tells that it is short."""
    server.files["/x.tif"] = FILE
    server.how = frozenset({"no length", "breaks off"})
    with pytest.raises(StorageError, match="broke off"):
        cloudimg.open(f"{server.endpoint}/x.tif")


@pytest.mark.parametrize("how", [set(), {"ignores ranges"}], ids=["ranges", "no ranges"])
def test_compressed_answers_are_named(server: Server, how: set[str]) -> None:
    """A range of a compressed object is not a range of the TIFF."""
    server.files["/x.tif"] = server.files["/lab/x.tif"] = gzip.compress(FILE)
    server.headers["Content-Encoding"] = "gzip"
    server.how = frozenset(how)
    options = {"storage_options": S3Account(server.endpoint).storage_options}
    for url, more in ((f"{server.endpoint}/x.tif", {}), ("s3://lab/x.tif", options)):
        with pytest.raises(NotTiffError, match="compressed by gzip") as caught:
            cloudimg.open(url, **more)
        assert "Content-Encoding" in str(caught.value)


def test_objects_that_google_decompresses_are_named(server: Server) -> None:
    """Google Cloud Storage undoes the compression, and then ignores ranges:
    https://cloud.google.com/storage/docs/transcoding"""
    server.files["/lab/x%2Etif"] = FILE  # as obstore asks
    server.files["/download/storage/v1/b/lab/o/x.tif?alt=media"] = FILE
    server.headers["X-Goog-Stored-Content-Encoding"] = "gzip"
    server.how = frozenset({"ignores ranges"})
    options = {"endpoint_url": server.endpoint, "token": "anon"}
    with pytest.raises(UnsupportedFormatError, match="Content-Encoding: gzip") as caught:
        cloudimg.open("gs://lab/x.tif", storage_options=options)
    assert isinstance(caught.value, FormatError)
