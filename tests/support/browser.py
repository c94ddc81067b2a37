"""Headless Chromium, driven by its DevTools protocol, and a web server that pages may read from.

The protocol: https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import mimetypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.support.servers import FileHandler

WIDTH, HEIGHT = 640, 480
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--force-color-profile=srgb",
    f"--window-size={WIDTH},{HEIGHT}",
    "--no-first-run",
    "--remote-debugging-port=0",
]


def chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """A page of the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT,
            deviceScaleFactor=1, mobile=False)  # fmt: skip

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; empty where it failed, as all do while another page comes."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv())
            if answer.get("id") == number:
                return answer.get("result", {})

    def go(self, url: str) -> None:
        self._call("Page.navigate", url="about:blank")  # else only what follows # changes
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a script; None where it fails, as while a page loads."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer.get("result", {}).get("value")

    def screenshot(self) -> npt.NDArray[np.uint8]:
        """RGB of what the page shows; black while another page comes."""
        answer = self._call("Page.captureScreenshot", format="png")
        if "data" not in answer:
            return np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture = base64.b64decode(answer["data"])
        with Image.open(io.BytesIO(picture)) as image:
            return np.asarray(image.convert("RGB"))


@contextmanager
def chromium() -> Iterator[Page]:
    from websocket import create_connection  # type: ignore[import-untyped]

    path = chromium_path()
    assert path is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile, "DevToolsActivePort"))
            address = f"ws://127.0.0.1:{port}/devtools/page/{_first_page(port)}"
            socket = create_connection(address, suppress_origin=True, timeout=60)
            try:
                yield Page(socket)
            finally:
                socket.close()
        finally:
            process.terminate()
            process.wait(30)


def _port(file: Path) -> int:
    """The port that Chromium writes into its profile when it is ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start in 60 s")


def _first_page(port: int) -> str:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/json") as answer:
        pages = [each for each in json.load(answer) if each["type"] == "page"]
    found: str = pages[0]["id"]
    return found


class OpenFileHandler(FileHandler):
    """Files that pages of other servers may read (CORS), with the types that browsers insist on."""

    def __init__(self, prefix: str, *arguments: Any) -> None:
        self.prefix = prefix
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802
        self.path = self.path.removeprefix(self.prefix)
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815

    def do_OPTIONS(self) -> None:  # noqa: N802
        self.answer(HTTPStatus.NO_CONTENT, b"")

    def answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str] = {}) -> None:  # noqa: B006
        kind, _ = mimetypes.guess_type(self.path.partition("?")[0])
        allowed = {f"Access-Control-Allow-{each}": "*" for each in ("Origin", "Headers", "Methods")}
        allowed["Access-Control-Expose-Headers"] = "*"
        super().answer(status, body, headers | allowed | ({"Content-Type": kind} if kind else {}))


@contextmanager
def open_files(root: Path, prefix: str = "") -> Iterator[str]:
    """A server of the files in a folder.

    Parameters
    ----------
    root : Path
    prefix : str
        Path at which the server has them.
    """
    handler = partial(OpenFileHandler, prefix, root.resolve())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{prefix}"
        finally:
            server.shutdown()
            thread.join()
