"""Pages of Google Cloud Storage that are wrong, although their status is 200."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ServerError
from tests.support import seed

pytestmark = pytest.mark.slow  # all of them together

NAMES = [f"many/{i:04d}.tif" for i in range(1500)]
WRONG_PAGES = {
    "HTML": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "nothing": b"",
    "other JSON": b'{"error": {"code": 500, "message": "Backend Error"}}',
    "empty listing": b'{"kind": "storage#objects"}',
}


class Gcs(ThreadingHTTPServer):
    """A bucket with many equal files, which pages like the JSON API."""

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.data = data
        self.wrong: bytes | None = None
        """Answered instead of pages after the first one."""
        self.n_wrong = 0
        """How often, before the right ones."""


class Answer(BaseHTTPRequestHandler):
    server: Gcs

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/o"):
            self.send(200, self.page(query))
        elif "alt" in query or "/download/" in url.path:
            self.send(200, self.server.data)
        else:
            self.send(200, json.dumps(item(url.path.rpartition("/o/")[2], self.server)).encode())

    def page(self, query: dict[str, str]) -> bytes:
        start = query.get("pageToken") or query.get("startOffset", "")
        server = self.server
        if start >= NAMES[999] and server.wrong is not None and server.n_wrong:
            server.n_wrong -= 1
            return server.wrong
        names = [n for n in NAMES if n >= start and n.startswith(query.get("prefix", ""))]
        page: dict[str, Any] = {"kind": "storage#objects"}
        page["items"] = [item(name, server) for name in names[:1000]]
        if len(names) > 1000:
            page["nextPageToken"] = names[1000]
        return json.dumps(page).encode()

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Goog-Generation", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def item(name: str, server: Gcs) -> dict[str, Any]:
    name = name.replace("%2F", "/")
    size = str(len(server.data))
    return {"kind": "storage#object", "name": name, "size": size, "generation": "1"}


@pytest.fixture
def gcs(set_variable: Callable[[str, str], None]) -> Iterator[Gcs]:
    set_variable("CLOUDIMG_ATTEMPTS", "3")
    with Gcs(seed.encode(np.full((8, 8), 7, np.uint8))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("page", WRONG_PAGES)
@pytest.mark.parametrize("how_often", ["once", "always"])
def test_a_second_page_that_is_wrong(gcs: Gcs, page: str, how_often: str) -> None:
    gcs.wrong, gcs.n_wrong = WRONG_PAGES[page], 1 if how_often == "once" else 10**6
    options = {"endpoint_url": f"http://127.0.0.1:{gcs.server_port}", "token": "anon"}
    if how_often == "always":
        with pytest.raises(ServerError, match="3 attempts"):
            cloudimg.open("gs://bucket/many/{t}.tif", storage_options=options)
        return
    image = cloudimg.open("gs://bucket/many/{t}.tif", storage_options=options)
    assert image.shape == (1500, 8, 8)
