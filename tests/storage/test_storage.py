"""Reading from stores by obstore and by fsspec: options, AWS credentials, faults, secrets."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import boto3
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import cloudimg
from cloudimg.errors import (
    AccessDeniedError,
    ArgumentError,
    ChangedError,
    CorruptFileError,
    NotFoundError,
)
from cloudimg.storage import Store, redact, split_url
from cloudimg.storage.connections import shared_backends
from tests.conftest import Place, WebServer
from tests.support import seed
from tests.support.metering import Meter

PIXELS = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
TILED = seed.encode(PIXELS, tile=(16, 16), compression="zlib")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process: settings are read once per process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


@pytest.fixture(params=["fast path", "fsspec"])
def backend(
    request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]
) -> Iterator[str]:
    """Both backends of a store, if it has two."""
    from cloudimg.storage.connections import forget_connections

    if request.param == "fsspec":
        set_variable("CLOUDIMG_BACKEND", "fsspec")
    forget_connections()
    yield request.param
    forget_connections()


def test_ranges_suffixes_listing_and_versions(place: Place, backend: str) -> None:
    data = bytes(range(256)) * 40
    for name in ("a_1.bin", "a_2.bin", "b_1.bin", "a_sub/c.bin"):
        place.put(name, data)
    location, key = split_url(f"{place.url}/a_1.bin")
    store = Store(location, place.storage_options)
    assert bytes(store.get(key).data) == data
    part = store.get(key, 1000, 1500)
    start = part.start_bytes
    assert bytes(part.data)[1000 - start : 1500 - start] == data[1000:1500]
    last = store.get(key, len(data) - 10, len(data) + 100)
    assert bytes(last.data)[-10:] == data[-10:]
    assert last.stop_bytes == len(data)
    assert len(store.get(key, len(data) + 5, len(data) + 9).data) == 0
    assert store.info(key).size_bytes == len(data)
    folder = key.rpartition("/")[0]
    found = [e for batch in store.list_objects(folder, f"{folder}/a_", 1) for e in batch]
    names = {entry.key.removeprefix(folder + "/") for entry in found}
    assert {"a_1.bin", "a_2.bin"} <= names <= {"a_1.bin", "a_2.bin", "a_sub/c.bin"}
    deep = [e for batch in store.list_objects(folder, f"{folder}/", None) for e in batch]
    assert {entry.key.removeprefix(folder + "/") for entry in deep} == {
        "a_1.bin",
        "a_2.bin",
        "b_1.bin",
        "a_sub/c.bin",
    }
    if place.name != "http":  # a page of links has no sizes
        assert all(entry.size_bytes == len(data) for entry in found)
    with pytest.raises(NotFoundError, match="a_9"):
        store.get(f"{folder}/a_9.bin", 0, 10)


def test_both_backends_read_the_same_pixels(place: Place, backend: str) -> None:
    for t in range(3):
        place.put(f"sub_{t}/tiled.tif", seed.encode(PIXELS + t, tile=(16, 16), compression="zlib"))
    image = cloudimg.open(f"{place.url}/sub_{{t}}/tiled.tif", storage_options=place.storage_options)
    expected = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    np.testing.assert_array_equal(image.read(), expected)
    np.testing.assert_array_equal(image.read({"y": slice(20, 40)}), expected[:, 20:40])


ODD_NAMES = [
    "a b_1.tif",
    "a+b_1.tif",
    "a#b_1.tif",
    "a%20b_1.tif",
    "a&b=c_1.tif",
    "ä日本_1.tif",
    "(a)_1.tif",
    "a@b,c;d_1.tif",
    "a'b_1.tif",
    "x~_1.tif",
    "a:b_1.tif",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(place: Place, backend: str, name: str) -> None:
    if place.name == "gs":
        pytest.skip("the emulator decodes names twice")
    place.put(name, TILED)
    if place.name == "http":
        from urllib.parse import quote

        name = quote(name)
    pattern = name.replace("_1.tif", "_{z}.tif")
    image = cloudimg.open(f"{place.url}/{pattern}", storage_options=place.storage_options)
    np.testing.assert_array_equal(image.read()[0], PIXELS)
    single = cloudimg.open(f"{place.url}/{name}", storage_options=place.storage_options)
    np.testing.assert_array_equal(single.read(), PIXELS)


def test_names_with_characters_of_the_pattern_language(tmp_path: Path) -> None:
    for name in ("a[1]_{x}_3.tif", "a[1]_{x}_4.tif"):
        (tmp_path / name).write_bytes(TILED)
    image = cloudimg.open(tmp_path / "a[[]1]_{{x}}_{z}.tif")
    assert list(image.coords["z"]) == [3, 4]


def test_keys_that_obstore_cannot_hold_are_read_by_s3fs(meter: Meter, bucket: str) -> None:
    for key in ("a//z_1.tif", "a//z_2.tif"):
        meter.put(bucket, key, TILED)
    image = cloudimg.open(f"s3://{bucket}/a//z_{{z}}.tif", storage_options=meter.storage_options)
    assert image.shape == (2, 64, 96)
    np.testing.assert_array_equal(image.read()[1], PIXELS)


def test_a_listing_with_an_impossible_key_in_it(meter: Meter, bucket: str) -> None:
    """obstore refuses the whole listing; s3fs lists it."""
    for key in ("a/z_1.tif", "a/z_2/x//y", "a/z_3.tif"):
        meter.put(bucket, key, TILED)
    image = cloudimg.open(f"s3://{bucket}/a/z_{{z}}.tif", storage_options=meter.storage_options)
    assert list(image.coords["z"]) == [1, 3]


@pytest.mark.slow
def test_listing_by_the_stem_never_the_rest_of_the_folder(meter: Meter, bucket: str) -> None:
    meter.fill(bucket, [f"exp/aaa_{i:05d}.tif" for i in range(5000)], TILED)
    meter.fill(bucket, [f"exp/scan_{i}.tif" for i in range(10)], TILED)
    meter.fill(bucket, [f"exp/zzz_{i:05d}.tif" for i in range(5000)], TILED)
    for environment in ({}, {"CLOUDIMG_BACKEND": "fsspec"}):
        code = (
            "import cloudimg, json, sys\n"
            f"image = cloudimg.open('s3://{bucket}/exp/scan_{{z}}.tif',"
            f" storage_options={meter.storage_options!r})\n"
            "assert image.shape == (10, 64, 96), image\n"
        )
        with meter.measure() as traffic:
            answer = run(code, **environment)
        assert answer.returncode == 0, answer.stderr
        # The listing, and the request for its end that begins with the last key.
        assert traffic.lists == 2


def test_zip_and_cache_chains(meter: Meter, bucket: str, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for z in range(5):
            file.writestr(f"inner/z_{z}.tif", seed.encode(PIXELS + z))
    meter.put(bucket, "a.zip", archive.read_bytes())
    expected = np.stack([PIXELS + z for z in range(5)])
    for url, options in (
        (f"zip://inner/z_{{z}}.tif::{archive}", None),
        (f"zip://inner/z_{{z}}.tif::s3://{bucket}/a.zip", {"s3": meter.storage_options}),
    ):
        image = cloudimg.open(url, storage_options=options)
        assert image.shape == (5, 64, 96)
        np.testing.assert_array_equal(image.read(), expected)
    for z in range(5):
        meter.put(bucket, f"z_{z}.tif", seed.encode(PIXELS + z))
    cached = cloudimg.open(
        f"simplecache::s3://{bucket}/z_{{z}}.tif",
        storage_options={
            "s3": meter.storage_options,
            "simplecache": {"cache_storage": str(tmp_path / "cache")},
        },
    )
    np.testing.assert_array_equal(cached.read(), expected)
    with meter.measure() as traffic:
        np.testing.assert_array_equal(cached.read(), expected)
    assert not traffic.gets


def test_a_web_server_that_ignores_ranges(tmp_path: Path) -> None:
    """Python's own http.server responds with 200 and the whole file: the pixels are still right."""
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            pass

    big = np.random.default_rng(0).integers(0, 2**16, (400, 300), np.uint16)
    (tmp_path / "file.tif").write_bytes(seed.encode(big, tile=(64, 64)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            image = cloudimg.open(f"http://127.0.0.1:{server.server_port}/file.tif")
            np.testing.assert_array_equal(image.read((slice(9, 99), 7)), big[9:99, 7])
            np.testing.assert_array_equal(image.read(), big)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["code", "access", "jwt", "Policy", ""])
def test_no_value_of_a_query_is_stored_or_shown(
    httpd: WebServer, bucket: str, tmp_path: Path, name: str
) -> None:
    (httpd.root / bucket).mkdir()
    for z in range(2):
        (httpd.root / bucket / f"z{z}.tif").write_bytes(TILED)
    query = f"{name}=very-secret" if name else "very-secret"
    urls = [f"{httpd.endpoint}/{bucket}/z{z}.tif?{query}" for z in range(2)]
    image = cloudimg.open(urls)
    result = cloudimg.migrate(urls, tmp_path / "copy.zarr")
    shown = [repr(image), str(image.to_dask().dask), str(image.attrs), repr(result)]
    with pytest.raises(NotFoundError) as caught:
        cloudimg.open([*urls, urls[0].replace("z0", "none")]).read()
    shown.append("".join(traceback.format_exception(caught.value)))
    assert not any("very-secret" in text for text in shown)
    stored = [path.read_bytes() for path in (tmp_path / "copy.zarr").rglob("*") if path.is_file()]
    assert stored
    assert not any(b"very-secret" in data for data in stored)
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True, source=urls).is_verified


def test_http_query_is_part_of_the_url(httpd: WebServer, bucket: str) -> None:
    (httpd.root / bucket).mkdir()
    (httpd.root / bucket / "file.tif").write_bytes(TILED)
    image = cloudimg.open(f"{httpd.endpoint}/{bucket}/file.tif?token=very-secret&v=1")
    np.testing.assert_array_equal(image.read(), PIXELS)
    assert "very-secret" not in repr(image)
    assert "very-secret" not in str(image.to_dask().dask)


# Credentials, endpoint and region, as in the AWS tools


@pytest.fixture
def public_file(meter: Meter, bucket: str) -> str:
    meter.put(bucket, "file.tif", TILED)
    return f"s3://{bucket}/file.tif"


READ = "import cloudimg; print(cloudimg.open({url!r}, storage_options={options!r}).read().sum())"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fast path", "fsspec"])
@pytest.mark.parametrize("source", ["environment", "profile", "default profile", "options"])
def test_configuration_is_found_as_aws_tools_find_it(
    meter: Meter, public_file: str, tmp_path: Path, source: str, way: str
) -> None:
    environment = {"CLOUDIMG_BACKEND": "fsspec" if way == "fsspec" else ""}
    options: dict[str, Any] = {}
    config = configparser.ConfigParser()
    if source == "environment":
        environment |= {
            "AWS_ACCESS_KEY_ID": "AKIDTEST",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_ENDPOINT_URL": meter.endpoint,
            "AWS_DEFAULT_REGION": "eu-west-3",
        }
    elif source in ("profile", "default profile"):
        name = "default" if source == "default profile" else "profile lab"
        config[name] = {
            "aws_access_key_id": "AKIDTEST",
            "aws_secret_access_key": "s",
            "endpoint_url": meter.endpoint,
            "region": "eu-west-3",
        }
        with (tmp_path / "config").open("w") as file:
            config.write(file)
        environment["AWS_CONFIG_FILE"] = str(tmp_path / "config")
        if source == "profile":
            options = {"profile": "lab"}
    else:
        options = {
            "key": "AKIDTEST",
            "secret": "s",
            "client_kwargs": {"endpoint_url": meter.endpoint, "region_name": "eu-west-3"},
        }
        # Values of the environment must not leak into explicit options.
        environment |= {"AWS_SESSION_TOKEN": "stale", "AWS_SKIP_SIGNATURE": "true"}
    answer = run(READ.format(url=public_file, options=options), **environment)
    assert answer.stdout.strip() == str(PIXELS.sum()), answer.stderr


def test_signed_requests_are_accepted_and_wrong_keys_refused(place: Place, backend: str) -> None:
    if place.name != "s3-real":
        pytest.skip("only a real server checks signatures")
    url = place.put("file.tif", TILED)
    options = dict(place.storage_options)
    np.testing.assert_array_equal(cloudimg.open(url, storage_options=options).read(), PIXELS)
    for wrong in ({**options, "secret": "wrong-secret"}, {**options, "key": "unknown-key"}):
        with pytest.raises(AccessDeniedError, match="403") as caught:
            cloudimg.open(url, storage_options=wrong)
        assert "wrong-secret" not in str(caught.value)
        with pytest.raises(AccessDeniedError):
            cloudimg.open(url.replace("file", "file{z}"), storage_options=wrong)
    anonymous = {"anon": True, "client_kwargs": options["client_kwargs"]}
    with pytest.raises(AccessDeniedError):
        cloudimg.open(url, storage_options=anonymous)


@pytest.mark.slow
def test_no_credentials_means_unsigned_and_the_error_says_so(
    meter: Meter, public_file: str
) -> None:
    code = READ.format(url=public_file, options={"endpoint_url": meter.endpoint})
    assert run(code).stdout.strip() == str(PIXELS.sum())
    meter.faults([{"match": ".*", "kind": "status", "status": 403}])
    answer = run(code)
    assert "AccessDeniedError" in answer.stderr
    assert "no AWS credentials were found" in answer.stderr


def test_requester_pays_is_sent(meter: Meter, public_file: str, backend: str) -> None:
    options = {**meter.storage_options, "requester_pays": True}
    assert cloudimg.open(public_file, storage_options=options).shape == (64, 96)


def test_a_bucket_of_another_region(tmp_path: Path) -> None:
    """S3 responds with 301 and names the region; the request is repeated, signed for it."""
    import http.server
    import threading

    regions = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            signed = self.headers.get("Authorization", "")
            regions.append(signed.split("/")[2] if signed else "unsigned")
            right = "/ap-south-2/s3/" in signed
            body = TILED if right else b"<Error><Code>PermanentRedirect</Code></Error>"
            self.send_response(200 if right else 301)
            if right and self.headers.get("Range"):
                first, last = self.headers["Range"].removeprefix("bytes=").split("-")
                body = TILED[int(first) : int(last) + 1]
                self.send_header(
                    "Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(TILED)}"
                )
            self.send_header("x-amz-bucket-region", "ap-south-2")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def send_response(self, code: int, message: str | None = None) -> None:
            super().send_response(206 if code == 200 and self.headers.get("Range") else code)

        def log_message(self, *args: Any) -> None:
            pass

        do_GET = do_HEAD = answer  # noqa: N815

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            options = {
                "key": "k",
                "secret": "s",
                "client_kwargs": {
                    "endpoint_url": f"http://127.0.0.1:{server.server_port}",
                    "region_name": "us-east-1",
                },
            }
            image = cloudimg.open("s3://elsewhere/file.tif", storage_options=options)
            np.testing.assert_array_equal(image.read(), PIXELS)
        finally:
            server.shutdown()
            thread.join()
    assert "us-east-1" in regions
    assert regions[-1] == "ap-south-2"


# Faults


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429},
        {"kind": "reset"},
        {"kind": "truncate"},
    ],
    ids=str,
)
def test_temporary_faults_are_retried(
    meter: Meter, bucket: str, backend: str, fault: dict[str, Any]
) -> None:
    big = np.random.default_rng(0).integers(0, 2**16, (512, 512), np.uint16)
    for z in range(8):
        meter.put(bucket, f"z{z}.tif", seed.encode(big + np.uint16(z), tile=(64, 64)))
    meter.faults([{"match": ".*", "times": 4, **fault}])
    image = cloudimg.open(f"s3://{bucket}/z{{z}}.tif", storage_options=meter.storage_options)
    meter.faults([{"match": ".*", "times": 4, **fault}])
    pixels = image.to_dask(chunks=(3, 256, 256)).compute()
    for z in range(8):
        np.testing.assert_array_equal(pixels[z], big + np.uint16(z))


@pytest.mark.slow
def test_a_stalled_response_is_requested_again(meter: Meter, public_file: str) -> None:
    meter.faults([{"match": "GET", "kind": "stall", "times": 2}])
    code = READ.format(url=public_file, options=meter.storage_options)
    for way in ("", "fsspec"):
        answer = run(code, CLOUDIMG_TIMEOUT_S="1", CLOUDIMG_BACKEND=way)
        assert answer.stdout.strip() == str(PIXELS.sum()), answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{"kind": "status", "status": 503}, {"kind": "reset"}], ids=str)
def test_lasting_faults_are_raised_with_the_url(
    meter: Meter, public_file: str, kind: dict[str, Any]
) -> None:
    meter.faults([{"match": "GET", **kind}])
    code = READ.format(url=public_file, options=meter.storage_options)
    for way in ("", "fsspec"):
        with meter.measure() as traffic:
            answer = run(code, CLOUDIMG_ATTEMPTS="3", CLOUDIMG_BACKEND=way)
        assert "ServerError" in answer.stderr
        assert public_file in answer.stderr
        assert "after 3 attempts" in answer.stderr
        assert "bytes 0-32768" in answer.stderr
        # aiohttp itself retries once on a connection that it had used before.
        assert traffic.gets == 3 if not way else 3 <= traffic.gets <= 6


def test_access_denied_is_not_missing(meter: Meter, bucket: str, backend: str) -> None:
    for z in range(3):
        meter.put(bucket, f"z{z}.tif", TILED)
    pattern = f"s3://{bucket}/z{{z}}.tif"
    image = cloudimg.open(pattern, storage_options=meter.storage_options, missing="fill")
    meter.faults([{"match": r"z1\.tif", "kind": "status", "status": 403}])
    with pytest.raises(AccessDeniedError, match=r"z1\.tif"):
        image.read()
    meter.faults([{"match": r"z1\.tif", "kind": "status", "status": 404}])
    with pytest.raises(NotFoundError, match=r"z1\.tif"):
        image.read()
    meter.faults([{"match": r"GET /[^/]*/?$", "kind": "status", "status": 403}])
    with pytest.raises(AccessDeniedError):
        cloudimg.open(pattern, storage_options=meter.storage_options, missing="fill")


def test_a_bucket_that_does_not_exist(moto: str, backend: str) -> None:
    options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": moto}}
    for url in ("s3://no-such-bucket-here/z{z}.tif", "s3://no-such-bucket-here/z.tif"):
        with pytest.raises(NotFoundError, match="no-such-bucket-here"):
            cloudimg.open(url, storage_options=options)


def test_a_file_replaced_between_header_and_tiles(place: Place, backend: str) -> None:
    big = np.random.default_rng(0).integers(0, 2**16, (512, 512), np.uint16)
    url = place.put("file.tif", seed.encode(big, tile=(64, 64)))
    image = cloudimg.open(url, storage_options=place.storage_options)
    place.put("file.tif", seed.encode(big[::-1].copy(), tile=(64, 64)))
    if place.name in ("memory",) or (place.name == "local" and backend == "fsspec"):
        pytest.skip("fsspec reports no version of what it read there")
    if place.name == "gs":
        pytest.skip("the emulator sends neither ETag nor generation with the bytes")
    with pytest.raises(ChangedError, match=r"file\.tif was replaced"):
        image.read()
    np.testing.assert_array_equal(
        cloudimg.open(url, storage_options=place.storage_options).read(), big[::-1]
    )


def test_a_file_cut_short_after_the_header(meter: Meter, bucket: str) -> None:
    data = seed.encode(np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8))
    meter.put(bucket, "cut.tif", data[:100_000])
    with pytest.raises(CorruptFileError, match=r"cut\.tif ends too early"):
        cloudimg.open(f"s3://{bucket}/cut.tif", storage_options=meter.storage_options)


# Secrets


@pytest.mark.slow
def test_secrets_appear_nowhere(meter: Meter, bucket: str) -> None:
    secret = "TOP-SECRET-VALUE"
    options = {**meter.storage_options, "key": "KEY-" + secret, "secret": secret, "token": secret}
    for z in range(2):
        meter.put(bucket, f"z{z}.tif", TILED)
    image = cloudimg.open(f"s3://{bucket}/z{{z}}.tif", storage_options=options)
    array = image.to_dask()
    source = array.dask[f"original-{array.name}"]
    shown = [repr(image), repr(array), array.name, repr(image.attrs), str(list(image.files))]
    shown += [
        repr(source),
        repr(vars(array.dask)["layers"]),
        json.dumps(list(map(str, array.dask))),
    ]
    for text in shown:
        assert secret not in text
    for status in (403, 404, 500):
        meter.faults([{"match": ".*", "kind": "status", "status": status}])
        answer = run(
            "import cloudimg, traceback, logging\n"
            "logging.basicConfig(level=logging.INFO)\n"
            f"try: cloudimg.open('s3://{bucket}/z{{z}}.tif', storage_options={options!r})\n"
            "except cloudimg.CloudimgError as exc: traceback.print_exception(exc)\n",
            CLOUDIMG_ATTEMPTS="1",
        )
        assert "Error" in answer.stderr
        assert secret not in answer.stderr.replace(repr(options), "")


def test_secrets_in_a_url(httpd: WebServer) -> None:
    host = httpd.endpoint.removeprefix("http://")
    with pytest.raises(cloudimg.CloudimgError) as caught:
        cloudimg.open(f"http://user:hunter2@{host}/nothing_{{z}}.tif")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(cloudimg.CloudimgError) as caught:
        cloudimg.open(f"http://{host}/none.tif?X-Amz-Signature=abc123&x=1")
    assert "abc123" not in str(caught.value)


def test_urls_without_a_path() -> None:
    for url in ("", "s3://", "s3:///key", "nonsense://a/b"):
        with pytest.raises(ArgumentError):
            cloudimg.open(url)
    with pytest.raises(ArgumentError, match="must be written out"):
        cloudimg.open("s3://{bucket}/a.tif")
    with pytest.raises(ArgumentError, match="one store"):
        cloudimg.open(["s3://a/1.tif", "gs://b/2.tif"])


def test_derived_filesystems_are_read_like_their_bases() -> None:
    """gcsfs creates a derived class where it supports Rapid Storage, which is the default."""
    from gcsfs.extended_gcsfs import ExtendedGcsFileSystem

    from cloudimg.storage.fsspec_reading import _read_gcs, range_reader

    assert range_reader(ExtendedGcsFileSystem) is _read_gcs
    assert range_reader(fsspec.get_filesystem_class("memory")) is None


def test_memory_and_boto_are_real(moto: str) -> None:
    """The premise of the fixtures: boto sees what fsspec wrote."""
    options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": moto}}
    fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
    fs.mkdir("premise")
    fs.pipe_file("premise/x", b"1")
    client = boto3.client(
        "s3",
        endpoint_url=moto,
        aws_access_key_id="k",
        aws_secret_access_key="s",
        region_name="us-east-1",
    )
    assert client.get_object(Bucket="premise", Key="x")["Body"].read() == b"1"
    client.close()


class Hosted(MemoryFileSystem):
    """Like ftp: the URL begins with a host, which becomes an argument and is not part of paths."""

    protocol = "hosted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def __init__(self, host: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.host = host

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        inside = path.removeprefix("hosted://")
        return "/" + inside.partition("/")[2] if inside != path else "/" + path.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": path.removeprefix("hosted://").partition("/")[0]}

    def cat_file(self, path: str, **kwargs: Any) -> bytes:
        assert self.host == "me:pw@there"
        return bytes(super().cat_file(path, **kwargs))


def test_filesystems_with_a_host_in_the_url() -> None:
    fsspec.register_implementation("hosted", Hosted, clobber=True)
    files = Hosted("me:pw@there")
    for z in range(3):
        files.pipe_file(f"/dir/z_{z}.tif", seed.encode(PIXELS + z))
    image = cloudimg.open("hosted://me:pw@there/dir/z_{z}.tif")
    np.testing.assert_array_equal(image.read(), np.stack([PIXELS + z for z in range(3)]))
    assert "pw" not in repr(image)
    np.testing.assert_array_equal(
        cloudimg.open("hosted://me:pw@there/dir/z_1.tif").read(), PIXELS + 1
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:p@SECRET@h/x", "http://***@h/x"),
        (
            "not found: https://h/a?sig=SECRET (404); near: b",
            "not found: https://h/a?sig=*** (404); near: b",
        ),
        ("s3://bucket/key?x=1", "s3://bucket/key?x=1"),
        ("https://h/a?code=SECRET&v=1&z={z}", "https://h/a?code=***&v=1&z={z}"),
        ("https://h/a.tif?SECRET", "https://h/a.tif?***"),
        ("at 'https://h/a?access=SECRET', byte 1?", "at 'https://h/a?access=***', byte 1?"),
        ("https://h/a?file=x_{z}.tif&jwt=SECRET#f", "https://h/a?file=x_{z}.tif&jwt=***#f"),
        ("simplecache::https://h/a?n={c}&k{c}=SECRET", "simplecache::https://h/a?n={c}&k{c}=***"),
        ("https://h/O'Brien/my a.tif?jwt=SECRET", "https://h/O'Brien/my a.tif?jwt=***"),
        ("https://h/a?file=b;jwt=SECRET&n=1", "https://h/a?file=b;jwt=***&n=1"),
        ("https://h/a?n=1#jwt=SECRET", "https://h/a?n=1#jwt=***"),
        ("https://h/a#access_token=SECRET", "https://h/a#access_token=***"),
        ("https://h/a?path=/b%3Fjwt%3DSECRET&n=1", "https://h/a?path=***&n=1"),
        (
            "https://h/to/https%3A%2F%2Fg%2Fb%3Fsig%3DSECRET",
            "https://h/to/https%3A%2F%2Fg%2Fb%3Fsig%3D***",
        ),
        ("https://h/a?z=0012&t=SECRETthatislong0123", "https://h/a?z=0012&t=***"),
        ('{"a": "HTTPS://h/a?jwt=SECRET", "b": 1}', '{"a": "HTTPS://h/a?jwt=***", "b": 1}'),
        (
            "(https://h/a?jwt=SECRET): no; (https://g/b?jwt=SECRET).",
            "(https://h/a?jwt=***): no; (https://g/b?jwt=***).",
        ),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redact(text) == redact(expected) == expected


def test_a_marker_of_the_folder_hides_nothing(meter: Meter, bucket: str, backend: str) -> None:
    """The AWS console creates markers; a listing of several pages must continue after one."""
    meter.fill(bucket, [f"exp/{z}.tif" for z in range(2500)], TILED)
    meter.put(bucket, "exp/", b"")
    for pattern in ("exp/{z}.tif", "exp/{name:s}.tif", "exp/*.tif"):
        image = cloudimg.open(f"s3://{bucket}/{pattern}", storage_options=meter.storage_options)
        assert image.n_files == 2500


FORK = """
import os, sys, cloudimg
url, options = sys.argv[1], {options!r}
image = cloudimg.open(url, storage_options=options)
assert image.read().sum() == {total}
child = os.fork()
if child == 0:
    code = 1
    try:
        assert image.read().sum() == {total}
        assert cloudimg.open(url, storage_options=options).read().sum() == {total}
        code = 0
    finally:
        os._exit(code)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["", "fsspec"])
def test_reading_after_a_fork(meter: Meter, bucket: str, way: str) -> None:
    """Threads and connections of the parent are not in the child."""
    big = np.arange(400 * 400, dtype=np.uint16).reshape(400, 400)
    meter.put(bucket, "file.tif", seed.encode(big, tile=(64, 64)))
    code = FORK.format(options=meter.storage_options, total=int(big.sum()))
    answer = subprocess.run(
        [sys.executable, "-c", code, f"s3://{bucket}/file.tif"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "CLOUDIMG_BACKEND": way},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
def test_a_replaced_file_stays_refused_here_and_elsewhere(meter: Meter, bucket: str) -> None:
    import pickle

    big = np.random.default_rng(0).integers(0, 2**16, (512, 512), np.uint16)
    meter.put(bucket, "file.tif", seed.encode(big, tile=(64, 64)))
    url = f"s3://{bucket}/file.tif"
    image = cloudimg.open(url, storage_options=meter.storage_options)
    meter.put(bucket, "file.tif", seed.encode(big[::-1].copy(), tile=(64, 64)))
    for _ in range(3):
        with pytest.raises(ChangedError):
            image.read()
    code = (
        "import pickle, sys, cloudimg\n"
        "try: pickle.load(sys.stdin.buffer).read()\n"
        "except cloudimg.CloudimgError as exc: print(type(exc).__name__)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(image), capture_output=True, check=True
    )
    assert answer.stdout.strip() == b"ChangedError"


def test_a_file_of_another_size_is_another_file(tmp_path: Path) -> None:
    """Even if a server sends neither ETag nor modification time."""
    import http.server
    import threading

    content = [seed.encode(np.zeros((400, 400), np.uint16), tile=(64, 64))]

    class Bare(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = content[0]
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            part = data[int(first) : int(last) + 1]
            self.send_response_only(206)
            end = int(first) + len(part) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bare) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            image = cloudimg.open(f"http://127.0.0.1:{server.server_port}/file.tif")
            content[0] = seed.encode(np.ones((500, 500), np.uint16), tile=(64, 64))
            with pytest.raises(ChangedError):
                image.read()
        finally:
            server.shutdown()
            thread.join()


def test_signed_urls_in_a_list(httpd: WebServer, bucket: str) -> None:
    (httpd.root / bucket).mkdir()
    urls = []
    for z in range(3):
        (httpd.root / bucket / f"z{z}.tif").write_bytes(TILED)
        urls.append(f"{httpd.endpoint}/{bucket}/z{z}.tif?X-Amz-Signature=SECRETSIG{z}")
    image = cloudimg.open(urls)
    assert image.shape == (3, 64, 96)
    shown = [repr(image), str(image.coords), str(list(image.files)), repr(image._opened.sources)]
    assert all("SECRETSIG" not in text for text in shown)
    location = split_url("http://me:hunter2@host/x")[0]
    assert "hunter2" not in repr(location)


def test_credentials_that_appear_later_are_used(
    meter: Meter, public_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    store = Store(split_url(public_file)[0])
    shared_backends(store.location, store.options, store.identity)
    monkeypatch.setenv("AWS_ENDPOINT_URL", meter.endpoint)
    np.testing.assert_array_equal(cloudimg.open(public_file).read(), PIXELS)


def test_another_backend_makes_new_connections(
    meter: Meter, public_file: str, set_variable: Callable[[str, str], None]
) -> None:
    location = split_url(public_file)[0]

    def connected() -> list[str]:
        backends = shared_backends(location, meter.storage_options, "digest")
        assert shared_backends(location, meter.storage_options, "digest") is backends
        return [type(each).__name__ for each in backends]

    assert connected() == ["S3Backend", "_LateFsspec"]
    set_variable("CLOUDIMG_BACKEND", "fsspec")
    assert connected() == ["_LateFsspec"]
    set_variable("CLOUDIMG_BACKEND", "")
    assert connected() == ["S3Backend", "_LateFsspec"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"profile": "no-such-profile"}, "no-such-profile"),
        ({"endpoint_url": "127.0.0.1:9000"}, "is not a URL"),
        ({"client_kwargs": "x"}, "cannot connect"),
        ({"annon": True}, "annon"),
    ],
    ids=str,
)
def test_wrong_options_are_reported(options: dict[str, Any], word: str) -> None:
    with pytest.raises(cloudimg.CloudimgError) as caught:
        cloudimg.open("s3://bucket/file.tif", storage_options=options)
    assert "s3://bucket" in str(caught.value)
    assert word in str(caught.value)


def test_local_oddities(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling_z7.tif").symlink_to("nowhere")
    (tmp_path / "z1.tif").write_bytes(TILED)
    (tmp_path / "z2.tif").symlink_to("z1.tif")
    os.mkfifo(tmp_path / "z3.tif")
    assert list(cloudimg.open(tmp_path / "z{z}.tif").coords["z"]) == [1, 2]
    assert cloudimg.open(f"{tmp_path}/**/z*.tif").n_files == 2
    with pytest.raises(NotFoundError, match="pipe"):
        cloudimg.open(tmp_path / "z3.tif")
    with pytest.raises(cloudimg.CloudimgError):
        cloudimg.open("a\0b.tif")


def test_markers_that_look_like_files(meter: Meter, bucket: str, backend: str) -> None:
    """obstore lists a marker `1.tif/` as `1.tif`."""
    for key in ("q/1.tif", "q/1.tif/", "q/2.tif", "r/1.tif", "r/3.tif/", "r/3.tif/meta.txt"):
        meter.put(bucket, key, b"" if key.endswith("/") else TILED)
    for folder, found in (("q", [1, 2]), ("r", [1])):
        image = cloudimg.open(
            f"s3://{bucket}/{folder}/{{t}}.tif", storage_options=meter.storage_options
        )
        assert list(image.coords["t"]) == found
        assert image.read().shape == (len(found), 64, 96)


def test_an_empty_file_among_others_is_an_error(place: Place, backend: str) -> None:
    if place.name == "gs":
        pytest.skip("the emulator rejects empty objects")
    for z in range(3):
        place.put(f"z{z}.tif", TILED if z != 1 else b"")
    image = cloudimg.open(f"{place.url}/z{{z}}.tif", storage_options=place.storage_options)
    assert image.n_files == 3
    with pytest.raises(cloudimg.CloudimgError, match=r"z1\.tif is empty"):
        image.read()


@pytest.mark.slow
def test_fsspec_configuration_is_respected(meter: Meter, public_file: str) -> None:
    settings = {
        "FSSPEC_S3_ENDPOINT_URL": meter.endpoint,
        "FSSPEC_S3_KEY": "k",
        "FSSPEC_S3_SECRET": "s",
    }
    answer = run(READ.format(url=public_file, options={}), **settings)
    assert answer.stdout.strip() == str(PIXELS.sum()), answer.stderr


ENDPOINTS = [
    (way, endpoint)
    for way in ("environment", "profile", "services", "ignored")
    for endpoint in ("http://h:9000", "https://b.vpce.amazonaws.com")
]


@pytest.mark.slow
@pytest.mark.parametrize("style", ["auto", "path", "virtual"])
@pytest.mark.parametrize("region", ["us-west-2", "cn-north-1", "us-gov-west-1", None])
@pytest.mark.parametrize(("way", "endpoint"), [("nowhere", None), *ENDPOINTS])
def test_addresses_are_those_of_botocore(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    style: str,
    endpoint: str | None,
    region: str | None,
    way: str,
) -> None:
    """The same host, path and region as botocore's own request."""
    from urllib.parse import urlsplit

    import botocore.awsrequest
    import botocore.session

    from cloudimg.storage.s3_options import translate

    lines = ["[default]", f"region = {region}" if region else ""]
    lines += [f"s3 =\n  addressing_style = {style}"] if style != "auto" else []
    if endpoint and way == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    elif endpoint and way == "profile":
        lines.append(f"endpoint_url = {endpoint}")
    elif endpoint and way == "services":
        lines += ["services = mine", "[services mine]", f"s3 =\n  endpoint_url = {endpoint}"]
    elif endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        lines.append("ignore_configured_endpoint_urls = true")
    (tmp_path / "config").write_text("\n".join(lines))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    found = translate({"key": "k", "secret": "s"}, "a-bucket")
    assert found is not None

    class Empty:
        def stream(self) -> Iterator[bytes]:
            return iter(())

    sent: list[Any] = []
    client = botocore.session.Session().create_client(
        "s3", aws_access_key_id="k", aws_secret_access_key="s"
    )

    def catch(request: Any, **_: Any) -> Any:
        sent.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, Empty())

    client.meta.events.register("before-send.s3", catch)
    client.head_object(Bucket="a-bucket", Key="key")
    theirs = urlsplit(sent[0].url)
    ours = urlsplit(found.endpoint + ("/key" if found.virtual_hosted else "/a-bucket/key"))
    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)
    assert f"/{found.region}/s3/" in str(sent[0].headers["Authorization"])
