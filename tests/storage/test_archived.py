"""Files in Glacier and Deep Archive: counted from the listing, named in errors, asked for once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArchivedError
from tests.conftest import empty_bucket
from tests.support import faulty_store, seed
from tests.support.metering import Meter
from tests.support.servers import S3Account

pytestmark = pytest.mark.slow  # moto answers slowly

PIXELS = np.arange(96, dtype=np.uint16).reshape(8, 12)


@pytest.fixture(params=["default", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "default" else "fsspec")
    return str(request.param)


@pytest.fixture
def account(moto: str, bucket: str) -> Iterator[S3Account]:
    account = S3Account(moto)
    client = account.client()
    client.create_bucket(Bucket=bucket)
    yield account
    empty_bucket(client, bucket)
    client.delete_bucket(Bucket=bucket)


def put(account: S3Account, bucket: str, *classes: str) -> str:
    """Files of these storage classes, and one beside them that does not count; their pattern."""
    client = account.client()
    names = [f"z{z}.tif" for z in range(len(classes))] + ["z_notes.txt"]
    for name, kind in zip(names, (*classes, "GLACIER"), strict=True):
        client.put_object(Bucket=bucket, Key=name, Body=seed.encode(PIXELS), StorageClass=kind)
    return f"s3://{bucket}/z{{z}}.tif"


def test_archived_files_are_counted_before_anything_is_read(
    account: S3Account, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = put(account, bucket, "STANDARD", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE", "GLACIER")
    options = {"storage_options": account.storage_options}
    image = cloudimg.open(url, **options)
    (note,) = (note for note in image.notes if note.kind == "archived")
    assert note.n_files == 3
    assert "DEEP_ARCHIVE: 1, GLACIER: 2" in note
    np.testing.assert_array_equal(image.read({"z": 2}), PIXELS)  # Instant Retrieval
    estimate = cloudimg.dry_run(url, **options)
    assert any("3 files" in text and "archive" in text for text in estimate.notes)
    with pytest.raises(ArchivedError, match=r"z\d.tif is in an archive.*restore it first"):
        image.read()
    with pytest.raises(ArchivedError, match="restore it first"):
        cloudimg.migrate(url, tmp_path / "copy.zarr", source_options=account.storage_options)


def test_the_command_line_shows_the_number(
    account: S3Account,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in zip(
        ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
        (account.endpoint, account.key, account.secret, account.region),
        strict=True,
    ):
        monkeypatch.setenv(name, value)
    url = put(account, bucket, "STANDARD", "GLACIER", "GLACIER")
    for command in (["info", url], ["migrate", url, "copy.zarr", "--dry-run"]):
        assert main(command) == 0
        printed = capsys.readouterr()
        assert "2 files" in printed.out + printed.err
        assert "in an archive (GLACIER: 2)" in printed.out + printed.err


def test_an_archived_first_file_is_an_error_that_counts_all(
    account: S3Account, bucket: str
) -> None:
    url = put(account, bucket, "DEEP_ARCHIVE", "STANDARD", "DEEP_ARCHIVE")
    with pytest.raises(ArchivedError) as caught:
        cloudimg.open(url, storage_options=account.storage_options)
    assert "2 of 3 files are in an archive (DEEP_ARCHIVE: 2)" in str(caught.value)
    assert "InvalidObjectState" in str(caught.value)
    assert not isinstance(caught.value, PermissionError)


def test_a_restored_file_is_read(account: S3Account, bucket: str) -> None:
    url = put(account, bucket, "GLACIER")
    account.client().restore_object(Bucket=bucket, Key="z0.tif", RestoreRequest={"Days": 1})
    image = cloudimg.open(url, storage_options=account.storage_options)
    np.testing.assert_array_equal(image.read()[0], PIXELS)


def test_a_refusal_is_not_asked_for_again(meter: Meter, bucket: str) -> None:
    """Intelligent-Tiering archives files without a word in the listing."""
    meter.put(bucket, "z0.tif", seed.encode(PIXELS))
    meter.faults([faulty_store.refused("GET", "z0.tif", 403, "InvalidObjectState")])
    with meter.measure() as traffic, pytest.raises(ArchivedError, match="restore it first"):
        cloudimg.open(f"s3://{bucket}/z0.tif", storage_options=meter.storage_options)
    assert traffic.gets == 1
