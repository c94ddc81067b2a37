"""The private names of dependencies that cloudimg uses: each still does what cloudimg expects.

A release that renames one, or changes what it takes or returns, fails the test with that name.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import logging
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec.asyn
import fsspec.core
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.pattern import regex_parser
from cloudimg.storage import azure_private, fsspec_private, gcsfs_private, s3fs_private
from cloudimg.tiff.tifffile_private import (
    first_known_offsets,
    known_chain,
    known_pages,
    open_alone,
)
from tests.conftest import WebServer
from tests.support.flavours import scanimage_file

PACKAGE = Path(cloudimg.__file__).parent
Request = pytest.FixtureRequest
Check = Callable[[Request], None]

OTHER_FILE = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="4"
 SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID
 FileName="this.ome.tif">urn:uuid:1</UUID></TiffData><TiffData IFD="0" FirstZ="1" PlaneCount="1">
<UUID FileName="other.ome.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>"""


def accepts(method: Any, *arguments: Any, **named: Any) -> None:
    """Check that a coroutine method can be called in the way in which cloudimg calls it."""
    assert inspect.iscoroutinefunction(method)
    inspect.signature(method).bind(object(), *arguments, **named)


def is_named_by(method: Any, *names: str) -> None:
    """Check that arguments have names of their own, not only a place in ``**kwargs``."""
    assert set(names) <= set(inspect.signature(method).parameters)


def run(fs: Any, request: Any) -> Any:
    return fsspec.asyn.sync(fs.loop, lambda: request)


def tifffile_multifile(_: Request) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((4, 8), np.uint8), description=OTHER_FILE, metadata=None)
    file.seek(0)
    with open_alone(file, name="this.ome.tif", is_ome=None) as tiff:
        assert tiff.is_ome
        assert [series.shape for series in tiff.series] == [(4, 8)]
        assert all(page is not None for page in tiff.series[0])
    file.seek(0)
    with tifffile.TiffFile(file, name="this.ome.tif") as tiff:  # why the argument is needed
        assert tiff.series[0].shape == (2, 4, 8)


def tifffile_chain(_: Request) -> None:
    """``_offsets``, ``_indexed`` and ``_nextpageoffset`` tell how far the chain was followed."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for plane in np.zeros((3, 4, 8), np.uint8):
            writer.write(plane, contiguous=False, metadata=None)
    file.seek(0)
    with open_alone(file) as tiff:
        assert known_chain(tiff) is None
        assert len(first_known_offsets(tiff)) == 1
        assert len(tiff.pages) == 3
        chain = known_chain(tiff)
        assert chain is not None
        assert list(chain.offsets) == [page.offset for page in tiff.pages]
        assert chain.last_link_bytes == tiff.pages.next_page_offset


def tifffile_computed_pages(_: Request) -> None:
    """``_cached`` and ``_loaded`` are of pages that are computed, where one may be missing."""
    file = io.BytesIO(scanimage_file(np.arange(6 * 32, dtype=np.uint16).reshape(6, 4, 8)))
    with tifffile.TiffFile(file) as tiff:
        assert tiff.pages._cached
        assert set(tiff.pages._loaded) == set(range(len(tiff.pages._offsets)))
    file.seek(0)
    with open_alone(file) as tiff:
        assert len(tiff.pages) == 6
        assert tiff.series[0].shape == (6, 4, 8)


def tifffile_pages(_: Request) -> None:
    """``_pages`` of an image are those that were read; the public iterator reads all of a stack."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 4, 8), np.uint8), imagej=True)
    file.seek(0)
    with open_alone(file) as tiff:
        (image,) = tiff.series
        assert len(image) == 3
        assert list(known_pages(image)) == [tiff.pages.first]


def re_parser(_: Request) -> None:
    assert regex_parser.width(r"ab{2,3}(?:c|de)", 0) == (4, 6)
    branches = regex_parser.parse("(?:a+|bc)", 0)
    ((_, value),) = branches
    assert [part.getwidth() for part in regex_parser.parts(value)][1] == (2, 2)
    with pytest.raises(re.error):
        regex_parser.parse("(", 0)


def re_constants(_: Request) -> None:
    def first(regex: str) -> tuple[Any, Any]:
        ((operator, value),) = regex_parser.parse(regex, 0)
        return operator, value

    for regex in ("a{2,5}", "a{2,5}?"):
        operator, (low, high, part) = first(regex)
        assert operator in regex_parser.REPEATS
        assert (low, high) == (2, 5)
        assert [each.getwidth() for each in regex_parser.parts(part)] == [(1, 1)]
    for regex in ("a{2,5}+", "(?>a)", "(?=a)", "(?!a)"):
        assert first(regex)[0] in regex_parser.FINAL


def fsspec_strip_protocol(_: Request) -> None:
    for protocol, url, path in (
        ("memory", "memory://folder/x.tif", "/folder/x.tif"),
        ("file", "file:///folder/x.tif", "/folder/x.tif"),
        ("s3", "s3://bucket/a/x.tif", "bucket/a/x.tif"),
    ):
        assert fsspec_private.strip_protocol(fsspec.get_filesystem_class(protocol), url) == path


def fsspec_rm_file(request: Request) -> None:
    for protocol in ("s3", "gs"):
        accepts(fsspec.get_filesystem_class(protocol)._rm_file, "bucket/x")
    fs, bucket = s3(request)
    fs.pipe_file(f"{bucket}/x", b"1")
    run(fs, fsspec_private.rm_file(fs, f"{bucket}/x"))
    assert not fs.exists(f"{bucket}/x")


def s3fs_call_s3(request: Request) -> None:
    fs, bucket = s3(request)
    accepts(type(fs)._call_s3, "get_object", Bucket="b", Key="k", Range="bytes=0-")

    async def write_and_read() -> tuple[Any, bytes]:
        place = {"Bucket": bucket, "Key": "x"}
        await s3fs_private.call_s3(fs, "put_object", **place, Body=b"12345")
        answer = await s3fs_private.call_s3(fs, "get_object", **place, Range="bytes=1-3")
        async with answer["Body"] as body:
            return answer, await body.read()

    answer, data = run(fs, write_and_read())
    assert data == b"234"
    assert answer["ContentRange"] == "bytes 1-3/5"
    assert answer["ETag"]
    with pytest.raises(OSError, match=r"x"):  # translated, as botocore's own are not OSErrors
        run(fs, s3fs_private.call_s3(fs, "get_object", Bucket=bucket, Key="none"))


def gcsfs_call(request: Request) -> None:
    fs, bucket = gs(request)
    accepts(type(fs)._call, "POST", "http://x", headers={}, data=b"", json_out=True, name="x")
    is_named_by(type(fs)._call, "json_out")
    is_named_by(type(fs)._request, "headers", "data", "json")
    url = f"{fs.base.removesuffix('/storage/v1/')}/upload/storage/v1/b/{bucket}/o"
    answer = run(
        fs,
        gcsfs_private.call(
            fs, "POST", url, uploadType="media", name="x", data=io.BytesIO(b"123"), json_out=True
        ),
    )
    assert answer["name"] == "x"
    headers, data = run(fs, gcsfs_private.call(fs, "GET", fs.url(f"{bucket}/x"), headers={}))
    assert data == b"123"
    assert headers["Content-Length"] == "3"


def gcsfs_pipe_file(request: Request) -> None:
    fs, bucket = gs(request)
    accepts(type(fs)._pipe_file, "bucket/x", b"1", mode="create")
    is_named_by(type(fs)._pipe_file, "mode")
    for create in (False, True):
        run(fs, gcsfs_private.pipe_file(fs, f"{bucket}/{create}", b"123", create=create))
        assert fs.cat_file(f"{bucket}/{create}") == b"123"


def gcsfs_is_zonal_bucket(request: Request) -> None:
    extended = pytest.importorskip("gcsfs.extended_gcsfs", reason="gcsfs without Rapid Storage")
    accepts(extended.ExtendedGcsFileSystem._is_zonal_bucket, "bucket")
    fs, bucket = gs(request)
    assert run(fs, gcsfs_private.is_zonal(fs, bucket)) is False


def gcsfs_request(request: Request) -> None:
    """It makes six attempts where it is not replaced by the function that it decorates."""
    fs, _ = gs(request)
    assert inspect.iscoroutinefunction(type(fs)._request.__wrapped__)
    gcsfs_private.turn_off_retries(fs)
    assert fs._request.__func__ is type(fs)._request.__wrapped__


def threading_register_atexit(_: Request) -> None:
    """``_register_atexit`` calls before Python waits for threads, which `atexit` does not."""
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
from cloudimg.storage.threading_private import run_before_threads_are_joined
end = threading.Event()
ThreadPoolExecutor(1).submit(end.wait)
run_before_threads_are_joined(end.set)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def azure_config(_: Request) -> None:
    """``_config`` has the policy by which a client repeats requests."""
    pytest.importorskip("azure.storage.blob", reason="azure-storage-blob is not installed")
    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import BlobServiceClient

    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse_once() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse_once, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/account"
        with BlobServiceClient(url) as client:
            azure_private.turn_off_retries(client)
            with pytest.raises(HttpResponseError):
                client.get_blob_client("container", "blob").get_blob_properties(timeout=5)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def kubernetes_preload_content(request: Request) -> None:
    from cloudimg.cluster.kubernetes_private import call_raw

    server: WebServer = request.getfixturevalue("httpd")
    path = server.root / "api/v1/namespaces/mine/pods/one"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'{"kind": "Pod", "secret": "word"}')
    caplog: pytest.LogCaptureFixture = request.getfixturevalue("caplog")
    caplog.set_level(logging.DEBUG)
    with kubernetes_client(server.endpoint) as read:
        answer = call_raw(read, {"name": "one", "namespace": "mine"}, (5, 5))
    assert answer == path.read_bytes()
    assert "word" not in caplog.text


def kubernetes_request_timeout(_: Request) -> None:
    from urllib3.exceptions import HTTPError

    from cloudimg.cluster.kubernetes_private import call_raw

    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with kubernetes_client(endpoint) as read, pytest.raises(HTTPError, match=r"[Tt]imed? ?out"):
            call_raw(read, {"name": "one", "namespace": "mine"}, (5, 0.05))


# Filesystems and clients


def s3(request: Request) -> tuple[Any, str]:
    """An S3 filesystem and an empty bucket in it."""
    endpoint, bucket = request.getfixturevalue("moto"), request.getfixturevalue("bucket")
    fs = fsspec.filesystem(
        "s3", key="k", secret="s", endpoint_url=endpoint, skip_instance_cache=True
    )
    fs.mkdir(bucket)
    return fs, bucket


def gs(request: Request) -> tuple[Any, str]:
    """A GCS filesystem and an empty bucket in it."""
    endpoint, bucket = request.getfixturevalue("gcs"), request.getfixturevalue("bucket")
    fs = fsspec.filesystem("gs", endpoint_url=endpoint, token="anon", skip_instance_cache=True)
    run(fs, gcsfs_private.call(fs, "POST", "b", json={"name": bucket}, json_out=True))
    return fs, bucket


class kubernetes_client:  # noqa: N801
    """The method that reads a pod, of a client of a server."""

    def __init__(self, endpoint: str) -> None:
        client = pytest.importorskip("kubernetes.client", reason="kubernetes is not installed")
        self._client = client.ApiClient(client.Configuration(host=endpoint))
        self._api = client.CoreV1Api(self._client)

    def __enter__(self) -> Any:
        return self._api.read_namespaced_pod

    def __exit__(self, *_: object) -> None:
        self._client.rest_client.pool_manager.clear()
        self._client.close()


CHECKS: dict[str, Check] = {
    "azure._config": azure_config,
    "fsspec._rm_file": fsspec_rm_file,
    "fsspec._strip_protocol": fsspec_strip_protocol,
    "gcsfs._call": gcsfs_call,
    "gcsfs._is_zonal_bucket": gcsfs_is_zonal_bucket,
    "gcsfs._pipe_file": gcsfs_pipe_file,
    "gcsfs._request": gcsfs_request,
    "kubernetes._preload_content": kubernetes_preload_content,
    "kubernetes._request_timeout": kubernetes_request_timeout,
    "re._constants": re_constants,
    "re._parser": re_parser,
    "s3fs._call_s3": s3fs_call_s3,
    "threading._register_atexit": threading_register_atexit,
    "tifffile._cached": tifffile_computed_pages,
    "tifffile._indexed": tifffile_chain,
    "tifffile._loaded": tifffile_computed_pages,
    "tifffile._multifile": tifffile_multifile,
    "tifffile._nextpageoffset": tifffile_chain,
    "tifffile._offsets": tifffile_chain,
    "tifffile._pages": tifffile_pages,
}


@pytest.mark.parametrize("name", CHECKS)
def test_private_name(name: str, request: Request) -> None:
    CHECKS[name](request)


# Where they stand

MODULES = {
    "cluster/kubernetes_private.py": "kubernetes",
    "pattern/regex_parser.py": "re",
    "storage/azure_private.py": "azure",
    "storage/fsspec_private.py": "fsspec",
    "storage/gcsfs_private.py": "gcsfs",
    "storage/s3fs_private.py": "s3fs",
    "storage/threading_private.py": "threading",
    "tiff/tifffile_private.py": "tifffile",
}
"""The only module that uses private names of each dependency."""


def private_names(tree: ast.Module) -> Iterator[str]:
    """Private names in a module that neither it nor Python itself defines."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        names: list[str | None] = []
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os")):
                pass
            case ast.Attribute(attr=name) | ast.keyword(arg=name):
                names = [name]
            case ast.ImportFrom(module=module) if not (module or "").startswith("cloudimg"):
                names = [*(module or "").split("."), *(each.name for each in node.names)]
            case ast.Import():
                names = [part for each in node.names for part in each.name.split(".")]
        for name in names:
            if name and re.match("_[a-z]", name) and name not in own | {"_replace", "_asdict"}:
                yield name


def test_private_names_stand_in_one_module_for_each_dependency() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = set(private_names(ast.parse(path.read_text(encoding="utf-8"))))
        if names:
            found[path.relative_to(PACKAGE).as_posix()] = names
    tested = {
        module: {name.partition(".")[2] for name in CHECKS if name.startswith(f"{dependency}.")}
        for module, dependency in MODULES.items()
    }
    assert found == tested


@pytest.mark.parametrize("module", MODULES)
def test_documentation_says_which_private_names_are_used(module: str) -> None:
    text = (PACKAGE / module).read_text(encoding="utf-8")
    imported = importlib.import_module(f"cloudimg.{module.removesuffix('.py').replace('/', '.')}")
    assert "Seen" in text
    for name in CHECKS:
        dependency, _, private = name.partition(".")
        if MODULES[module] == dependency:
            docs = [imported.__doc__, *(f.__doc__ for f in vars(imported).values() if callable(f))]
            assert any(re.search(rf"\b{private}\b", text or "") for text in docs), name
