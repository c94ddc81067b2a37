"""An HTTP server in front of another one that kills a process at its n-th request.

Requests go through unchanged, so that signatures stay valid. The request at which the process is
killed is either never carried out, or carried out when nobody waits for its answer any more.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_OF_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class KillingProxy:
    """Counts requests to a server, and kills a process at one of them."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = ""
        self.n_requests = 0
        self._lock = threading.Lock()
        self._at = 0
        self._arrives = False
        self.process: Any = None

    def reset(self, at: int = 0, *, arrives: bool = False) -> None:
        """Count from 0, and kill `process` at a request if `at` is above 0."""
        with self._lock:
            self.n_requests, self._at, self._arrives = 0, at, arrives

    def enter(self) -> bool | None:
        """Count a request; whether it is carried out although the process is killed, else None."""
        with self._lock:
            self.n_requests += 1
            return self._arrives if self.n_requests == self._at else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: KillingProxy

    def _answer(self) -> None:
        body = self._body()
        arrives = self.proxy.enter()
        if arrives is not None:
            self.proxy.process.kill()
            self.close_connection = True
            if not arrives:
                return
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        headers = {n: v for n, v in self.headers.items() if n.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OF_CONNECTION:
                self.send_header(name, value)
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, http.client.HTTPException):
            self.close_connection = True  # of a process that was killed

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests' output is for the tests."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 512

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that a killed process has left."""


@contextmanager
def killing_proxy(upstream: str) -> Iterator[KillingProxy]:
    proxy = KillingProxy(upstream)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
