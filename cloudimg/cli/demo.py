"""`cloudimg demo`: a tour on an S3 server inside this process.

The tour is a list of steps, each a title and a few lines of Python. The lines of a step are both
run and printed, everything else is printed as comments: the output is a script that runs while the
server does.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.cli.session import Session
from cloudimg.errors import ArgumentError, CloudimgError
from cloudimg.image.picture import as_bytes, blend, stretch
from cloudimg.image.png import refuse_unwritable


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the tour."""

    title: str
    code: str
    """Runs with the names that earlier steps defined, ENDPOINT and OUT replaced by values."""


STEPS = (
    Step(
        "A microscope writes 360 small TIFF files: 2 times x 2 channels x 10 planes x 3 x 3 tiles.",
        """\
import fsspec
from cloudimg.cli import sample

storage_options = {"key": "demo", "secret": "demo", "endpoint_url": ENDPOINT}
pattern = "s3://demo/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
cells = sample.acquire()
s3 = fsspec.filesystem("s3", **storage_options)
s3.makedirs("demo", exist_ok=True)
s3.pipe(sample.write_tiles(cells, pattern))
print(s3.ls("demo", detail=False)[0])
""",
    ),
    Step(
        "What is there? One listing and a few headers are enough.",
        """\
import cloudimg

print(cloudimg.open(pattern, storage_options=storage_options))
""",
    ),
    Step(
        "The same as one lazy Dask array, with the axes time, channel, z, y, x.",
        """\
a = cloudimg.imread(pattern, storage_options=storage_options)
print(a)
""",
    ),
    Step(
        "The maximum projection along z of both times and channels.",
        """\
projection = a.max(axis=2).compute()
assert (projection == cells.max(axis=2)).all()  # every pixel is as the microscope recorded it
print(projection.shape, projection.dtype)
""",
    ),
    Step(
        "A copy as sharded OME-Zarr. After an interruption, the same call continues.",
        """\
copy = "s3://demo/mydata.ome.zarr"
print(
    cloudimg.migrate(
        pattern, copy, source_options=storage_options, target_options=storage_options
    )
)
""",
    ),
    Step(
        "Verification: everything is read again, checked, and compared with the files.",
        """\
verification = cloudimg.verify(
    copy,
    against_source=True,
    storage_options=storage_options,
    source_options=storage_options,
)
print(verification)
assert verification
""",
    ),
    Step(
        "The copy as any program that reads Zarr sees it.",
        """\
import zarr

store = zarr.storage.FsspecStore.from_url(copy, storage_options=storage_options, read_only=True)
group = zarr.open_group(store, mode="r")
levels = [level["path"] for level in group.attrs["ome"]["multiscales"][0]["datasets"]]
print({level: group[level].shape for level in levels})
copied = group["0"][...].max(axis=2)
assert (copied == projection).all()
""",
    ),
    Step(
        "A picture of the copy: nuclei magenta, cytoskeleton green, the two times side by side.",
        """\
from pathlib import Path

import imagecodecs
from cloudimg.cli.demo import paint

Path(OUT).write_bytes(imagecodecs.png_encode(paint(copied)))
""",
    ),
)


def run(session: Session, *, out: str, port: int, keep: bool) -> Iterator[str]:
    """Run all steps, yield them as parts of a script, stop the server.

    Parameters
    ----------
    session : Session
        Gets what happened as JSON.
    out : str
        The PNG to write.
    port : int
        Port of the server; 0 is a free one.
    keep : bool
        Leave the server running until Ctrl-C.

    Raises
    ------
    CloudimgError
    """
    refuse_unwritable(out)
    with _own_settings(), _serve_s3(port) as server:
        yield f"# An S3 server listens at {server.endpoint}, inside this process.\n\n"
        start = time.monotonic()
        steps: list[dict[str, Any]] = []
        session.result({"endpoint": server.endpoint, "out": out, "steps": steps})
        yield from _walk(STEPS, {"ENDPOINT": server.endpoint, "OUT": out}, server, steps)
        yield f"# Done in {time.monotonic() - start:.1f} s: look at {out}"
        if keep:
            yield "# The server runs until you press Ctrl-C; this script works against it."
            while True:
                time.sleep(3600)


_MAGENTA_AND_GREEN = ((1.0, 0.1, 0.8), (0.1, 1.0, 0.6))


def paint(projection: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Paint a projection: two channels in magenta and green, times side by side.

    Parameters
    ----------
    projection : ndarray
        Time, channel, y, x.

    Returns
    -------
    ndarray
        y, x, RGB.
    """
    low, high = np.percentile(projection, (1, 99.7), axis=(0, 2, 3), keepdims=True)
    times = blend(stretch(projection, low, high), _MAGENTA_AND_GREEN)
    gap = np.zeros((times.shape[1], 16, 3))
    row = [part for each in times for part in (gap, each)][1:]
    return as_bytes(np.concatenate(row, 1))


def _walk(
    steps: Sequence[Step], texts: Mapping[str, str], server: _Server, told: list[dict[str, Any]]
) -> Iterator[str]:
    names: dict[str, Any] = {}
    for number, step in enumerate(steps, 1):
        code = step.code
        for name, text in texts.items():
            code = code.replace(name, repr(text))
        yield f"# {number}. {step.title}\n{code.rstrip()}"
        start, n_before, printed = time.monotonic(), server.n_requests, io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, f"<step {number}>", "exec"), names)
        except OSError as error:
            if isinstance(error, CloudimgError):
                raise
            raise CloudimgError(f"step {number} of the demo failed: {error}") from error
        finally:
            for line in printed.getvalue().splitlines():
                yield f"#   {line}"
        took, n_requests = time.monotonic() - start, server.n_requests - n_before
        lines = printed.getvalue().splitlines()
        told.append(
            {"title": step.title, "seconds": took, "requests": n_requests, "printed": lines}
        )
        yield f"#   {took:.2f} s" + (f", {n_requests} requests" if n_requests else "") + "\n\n"


# ------------------------------------------------------------------------------------------ server


class _Server(logging.Handler):
    """An S3 server; counts its requests as the handler of its log."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.n_requests = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.n_requests += 1


@contextlib.contextmanager
def _serve_s3(port: int) -> Iterator[_Server]:
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise CloudimgError(
            f'the demo needs an S3 server ({error}): pip install "cloudimg-dask[demo]"'
        ) from error
    _check_free(port)
    moto = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    moto.start()
    server = _Server("http://{}:{}".format(*moto.get_host_and_port()))
    log = logging.getLogger("werkzeug")
    level, propagates = log.level, log.propagate
    log.addHandler(server)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):  # moto's objects outlive its server
            request = urllib.request.Request(f"{server.endpoint}/moto-api/reset", method="POST")
            urllib.request.urlopen(request, timeout=5).close()
        moto.stop()
        log.removeHandler(server)
        log.setLevel(level)
        log.propagate = propagates


def _check_free(port: int) -> None:
    # moto waits without end for a server that cannot start.
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ArgumentError(f"cannot listen on port {port}: {error.strerror}") from error


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Hide the user's keys, profiles, endpoints and proxies from the code in the block."""
    own = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    touched = {*own, *(name for name in os.environ if name.startswith("AWS_"))}
    before = {name: os.environ.pop(name) for name in touched if name in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
        os.environ.update(before)
