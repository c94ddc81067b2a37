"""Storage class, encryption, tags and access of what is stored, without losing the conditions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError
from cloudimg.storage import Store, split_url
from tests.support import seed
from tests.support.metering import Meter
from tests.support.servers import S3Account

pytestmark = pytest.mark.slow

KMS = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
PARAMETERS = {
    "StorageClass": "STANDARD_IA",
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": KMS,
    "Tagging": "project=lab&kind=copy",
    "ACL": "public-read",
}


@pytest.fixture
def client(moto: str, bucket: str) -> Iterator[Any]:
    client = S3Account(moto).client()
    client.create_bucket(Bucket=bucket)
    with contextlib.closing(client):
        yield client


def options_of(moto: str, **more: Any) -> dict[str, Any]:
    return {"key": "x", "secret": "y", "endpoint_url": moto, **more}


def keys_in(client: Any, bucket: str, prefix: str) -> list[str]:
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    return [each["Key"] for each in listed]


def test_every_object_of_a_copy(
    client: Any, moto: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(4):
        client.put_object(
            Bucket=bucket, Key=f"src/z{z}.tif", Body=seed.encode(seed.expected()[0, 0, z])
        )
    url = f"s3://{bucket}/copy.zarr"
    options = json.dumps(options_of(moto, s3_additional_kwargs=PARAMETERS))
    words = ["--source-options", json.dumps(options_of(moto)), "--target-options", options]
    words += ["--shards", "z=1", "--levels", "1"]
    assert main(["migrate", f"s3://{bucket}/src/z{{z}}.tif", url, *words]) == 0, capsys.readouterr()
    keys = keys_in(client, bucket, "copy.zarr/")
    assert any("/c/" in key for key in keys)
    for key in keys:
        head = client.head_object(Bucket=bucket, Key=key)
        assert head["StorageClass"] == "STANDARD_IA", key
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KMS), key
        tags = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"project": "lab", "kind": "copy"}, key
        grants = client.get_object_acl(Bucket=bucket, Key=key)["Grants"]
        assert any(grant["Permission"] == "READ" for grant in grants), key
    # By fsspec's name of the options, for reading as well.
    assert main(["verify", url, "--against-source", "--storage-options", options]) == 0
    assert main(["verify", url, "--storage-options", json.dumps(options_of(moto))]) == 0


@pytest.mark.parametrize("size", [10, 2**21], ids=["small", "large"])
def test_a_second_create_is_refused(client: Any, moto: str, bucket: str, size: int) -> None:
    store = Store(
        split_url(f"s3://{bucket}/x")[0], options_of(moto, s3_additional_kwargs=PARAMETERS)
    )
    key = f"{bucket}/copy/object"
    assert store.create(key, b"a" * size)
    assert not store.create(key, b"b" * size)
    assert bytes(store.get(key).data) == b"a" * size
    assert client.head_object(Bucket=bucket, Key="copy/object")["StorageClass"] == "STANDARD_IA"
    store.put(key, b"c" * size)
    assert client.head_object(Bucket=bucket, Key="copy/object")["StorageClass"] == "STANDARD_IA"
    store.delete([key])
    with pytest.raises(botocore.exceptions.ClientError):
        client.head_object(Bucket=bucket, Key="copy/object")


def test_reading_is_as_fast_as_without(meter: Meter, bucket: str) -> None:
    """Parameters of PUTs leave reading to the fast backend: the requests are the same."""
    meter.put(bucket, "z0.tif", seed.encode(seed.expected()[0, 0, 0]))
    agents = []
    for more in ({}, {"s3_additional_kwargs": PARAMETERS}):
        with meter.measure() as traffic:
            cloudimg.open(
                f"s3://{bucket}/z{{z}}.tif", storage_options={**meter.storage_options, **more}
            ).read()
        # In any order: the header is read while the end of the listing is checked.
        agents.append(sorted(request.kind for request in traffic.requests))
    assert agents[0] == agents[1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"StorageClas": "STANDARD_IA"}, "StorageClas, which no request .* mean StorageClass"),
        ({"IfNoneMatch": "*"}, "cannot have IfNoneMatch, which cloudimg sets itself"),
        ("STANDARD_IA", "must be a mapping"),
    ],
)
def test_what_would_be_ignored_is_refused(
    client: Any, moto: str, bucket: str, parameters: Any, message: str
) -> None:
    store = Store(
        split_url(f"s3://{bucket}/x")[0], options_of(moto, s3_additional_kwargs=parameters)
    )
    with pytest.raises(ArgumentError, match=message):
        store.put(f"{bucket}/object", b"")
