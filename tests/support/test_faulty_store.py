"""The rules of the store that misbehaves, each as a client without retries sees it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.support import faulty_store
from tests.support.metering import Meter
from tests.support.servers import S3Account
from tests.support.waiting import wait_until

DATA = bytes(range(256)) * 4
MD5 = f'"{hashlib.md5(DATA).hexdigest()}"'


@pytest.fixture
def s3(meter: Meter) -> Iterator[Any]:
    client = S3Account(meter.endpoint).client(
        retries={"total_max_attempts": 1},
        read_timeout=0.5,
        request_checksum_calculation="when_required",
    )
    with contextlib.closing(client):
        yield client


def body(s3: Any, bucket: str, key: str) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def status_of(caught: pytest.ExceptionInfo[ClientError]) -> int:
    return int(caught.value.response["ResponseMetadata"]["HTTPStatusCode"])


def test_the_nth_time(meter: Meter, bucket: str, s3: Any) -> None:
    meter.put(bucket, "a/b.tif", DATA)
    meter.faults([faulty_store.refused("GET|PUT", r"a/.*\.tif$", nth=2)])
    assert body(s3, bucket, "a/b.tif") == DATA
    with pytest.raises(ClientError) as caught:
        body(s3, bucket, "a/b.tif")
    assert status_of(caught) == 403
    assert body(s3, bucket, "a/b.tif") == DATA


@pytest.mark.parametrize("arrives", [True, False])
def test_error_bodies(meter: Meter, bucket: str, arrives: bool) -> None:
    meter.faults([faulty_store.error_body("PUT", "a$", apply=arrives)])
    answer = requests.put(f"{meter.endpoint}/{bucket}/a", data=DATA, timeout=5)
    assert (answer.status_code, answer.text) == (200, faulty_store.ERROR)
    meter.faults([])
    answer = requests.get(f"{meter.endpoint}/{bucket}/a", timeout=5)
    assert answer.status_code == (200 if arrives else 404)
    meter.faults([faulty_store.html("GET", "a$")])
    assert requests.get(f"{meter.endpoint}/{bucket}/a", timeout=5).text == faulty_store.HTML


def test_a_held_put_arrives_when_it_is_released(meter: Meter, bucket: str, s3: Any) -> None:
    meter.faults([faulty_store.held("PUT", "a$")])
    with pytest.raises(ReadTimeoutError):
        s3.put_object(Bucket=bucket, Key="a", Body=b"late")
    assert meter.held() == [f"PUT /{bucket}/a"]
    with pytest.raises(ClientError):
        body(s3, bucket, "a")
    meter.release()
    assert meter.held() == []
    assert body(s3, bucket, "a") == b"late"


def test_a_held_put_is_answered_when_it_is_released(meter: Meter, bucket: str, s3: Any) -> None:
    meter.faults([faulty_store.held("PUT", "a$")])
    answers: list[int] = []

    def put() -> None:
        url = f"{meter.endpoint}/{bucket}/a"
        headers = {"If-None-Match": "*"}
        answers.append(requests.put(url, data=b"x", headers=headers, timeout=30).status_code)

    thread = threading.Thread(target=put)
    thread.start()
    wait_until(lambda: bool(meter.held()), "the PUT did not come")
    meter.put(bucket, "a", b"another")
    meter.release()
    thread.join()
    assert answers == [412]
    assert body(s3, bucket, "a") == b"another"


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("how", [faulty_store.lost, faulty_store.stalled])
def test_lost_puts(meter: Meter, bucket: str, s3: Any, arrives: bool, how: Any) -> None:
    meter.faults([how("PUT", "a$", arrives=arrives)])
    with pytest.raises((ConnectionClosedError, ReadTimeoutError)):
        s3.put_object(Bucket=bucket, Key="a", Body=DATA)
    with contextlib.nullcontext() if arrives else pytest.raises(ClientError):
        assert body(s3, bucket, "a") == DATA


def test_flipped_bodies(meter: Meter, bucket: str, s3: Any) -> None:
    meter.put(bucket, "a", DATA)
    meter.faults([faulty_store.flipped("GET", "a$", at=3, nth=1)])
    wrong = body(s3, bucket, "a")
    assert [i for i in range(len(DATA)) if wrong[i] != DATA[i]] == [3]
    assert body(s3, bucket, "a") == DATA
    meter.faults([faulty_store.flipped("PUT", "b$")])
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(Bucket=bucket, Key="b", Body=DATA, ChecksumAlgorithm="CRC32")
    meter.faults([faulty_store.flipped("PUT", "b$", unchecked=True)])
    answer = s3.put_object(Bucket=bucket, Key="b", Body=DATA, ChecksumAlgorithm="CRC32")
    meter.faults([])
    stored = body(s3, bucket, "b")
    assert stored != DATA
    assert answer["ETag"] == f'"{hashlib.md5(stored).hexdigest()}"'


def test_conditions(meter: Meter, bucket: str, s3: Any) -> None:
    first = s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*")
    assert status_of(caught) == 412
    for etag in (first, first.strip('"')):
        s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfMatch=etag)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfMatch='"other"')
    assert status_of(caught) == 412
    meter.faults([faulty_store.unconditional()])
    s3.put_object(Bucket=bucket, Key="a", Body=b"3", IfMatch='"other"')
    s3.put_object(Bucket=bucket, Key="a", Body=b"4", IfNoneMatch="*")
    assert body(s3, bucket, "a") == b"4"
    meter.faults([faulty_store.no_conditions()])
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="b", Body=b"1", IfNoneMatch="*")
    assert status_of(caught) == 501
    s3.put_object(Bucket=bucket, Key="b", Body=b"1")


def test_etags_that_are_no_md5s(meter: Meter, bucket: str, s3: Any) -> None:
    meter.put(bucket, "a", DATA)
    assert s3.head_object(Bucket=bucket, Key="a")["ETag"] == MD5
    meter.faults([faulty_store.kms()])
    etag = s3.head_object(Bucket=bucket, Key="a")["ETag"]
    assert etag != MD5
    assert len(etag) == len(MD5)
    (listed,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert listed["ETag"] == etag == s3.get_object(Bucket=bucket, Key="a")["ETag"]
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfMatch=etag)["ETag"]
    assert s3.head_object(Bucket=bucket, Key="a")["ETag"] == etag
    # Kinds of stores go together with one another and with what goes wrong once.
    meter.faults([faulty_store.parts(), faulty_store.unconditional()])
    s3.put_object(Bucket=bucket, Key="a", Body=b"3", IfMatch='"other"')
    assert s3.head_object(Bucket=bucket, Key="a")["ETag"].endswith('-3"')
    (listed,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert listed["ETag"].endswith('-3"')


def test_checksums_and_throttling(meter: Meter, bucket: str, s3: Any) -> None:
    meter.faults([faulty_store.no_checksums()])
    s3.put_object(Bucket=bucket, Key="a", Body=DATA)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=DATA, ChecksumAlgorithm="SHA256")
    assert status_of(caught) == 400
    meter.faults([faulty_store.wants_checksums()])
    s3.put_object(Bucket=bucket, Key="a", Body=DATA, ChecksumAlgorithm="SHA256")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=DATA)
    assert status_of(caught) == 400
    meter.faults([faulty_store.throttled("PUT", "", times=2)])
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            s3.put_object(Bucket=bucket, Key="a", Body=DATA)
    s3.put_object(Bucket=bucket, Key="a", Body=DATA)
