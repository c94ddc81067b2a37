"""Copies that were moved between stores, as ``aws s3 sync``, ``cp`` and others do it.

The versions that a migration recorded are those of the place where it ran. Checksums stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.layout import END_MARK
from tests.conftest import PLACES
from tests.support import copies
from tests.support.servers import S3Account

pytestmark = pytest.mark.slow

ARGUMENTS: dict[str, Any] = {"chunks": 32, "levels": 3, "shards": {"z": 1, "y": 64, "x": 64}}
Where = tuple[str, dict[str, Any]]
WAYS = ["s3-moto to s3-moto", "s3-moto to local", "local to s3-moto", "local to local",
         "gs to local"]  # fmt: skip
if "s3-real" in PLACES:
    WAYS += ["s3-real to s3-real", "local to s3-real"]


@pytest.fixture(params=WAYS)
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Where, Where]]:
    """A source, its copy where it was made, and where it was moved to."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for z in range(2):
        pixels = rng.integers(1, 2**16, (96, 160), np.uint16)
        tifffile.imwrite(tmp_path / f"in/a_{z}.tif", pixels, photometric="minisblack")
    source = f"{tmp_path}/in/a_{{z}}.tif"
    kinds = request.param.split(" to ")
    remote = next((kind for kind in kinds if kind != "local"), None)
    if remote is None:
        first, second = ((f"{tmp_path}/{name}.zarr", dict[str, Any]()) for name in ("a", "b"))
        yield from made(source, first, second)
        return
    with PLACES[remote](request) as place:
        where = [
            (f"{tmp_path}/{name}.zarr", {})
            if kind == "local"
            else (f"{place.url}/{name}.zarr", place.storage_options)
            for kind, name in zip(kinds, "ab", strict=True)
        ]
        yield from made(source, *where)


def made(source: str, first: Where, second: Where) -> Iterator[tuple[str, Where, Where]]:
    cloudimg.migrate(source, first[0], target_options=first[1], **ARGUMENTS)
    for key, data in copies.objects(*first).items():
        put(f"{second[0]}/{key}", data, second[1])
    yield source, first, second


def put(url: str, data: bytes, options: dict[str, Any]) -> None:
    """Store an object, in S3 by a multipart upload, whose ETag is not an MD5."""
    if url.startswith("s3://"):
        client = S3Account(
            options["client_kwargs"]["endpoint_url"], options["key"], options["secret"]
        ).client()
        bucket, _, key = url.removeprefix("s3://").partition("/")
        where = {"Bucket": bucket, "Key": key}
        upload = client.create_multipart_upload(**where)["UploadId"]
        part = client.upload_part(**where, PartNumber=1, UploadId=upload, Body=data)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
        client.close()
        return
    fs, path = fsspec.core.url_to_fs(url, **options)
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, data)


def etags(where: Where) -> dict[str, str | None]:
    return {entry.key: entry.etag for entry in open_destination(*where).list("0")}


def test_a_copy_that_was_moved(moved: tuple[str, Where, Where]) -> None:
    """It is verified, whole for `migrate`, and mended; its source is that of the first place."""
    source, first, (url, options) = moved
    before, after = etags(first), etags((url, options))
    assert before.keys() == after.keys()
    assert all(before[key] != after[key] for key in before)
    whole = copies.objects(url, options)
    proof = cloudimg.verify(url, storage_options=options)
    assert proof, str(proof)
    again = cloudimg.migrate(source, url, target_options=options, **ARGUMENTS)
    assert (again.n_objects, again.n_done_before) == (0, again.n_cells)
    assert cloudimg.repair(url, storage_options=options).n_found == 0
    put(f"{url}/0/c/0/0/1", b"x" * len(whole["0/c/0/0/1"]), options)
    put(f"{url}/zarr.json", b"{}", options)
    done = cloudimg.repair(url, storage_options=options)
    assert done, str(done)
    now = copies.objects(url, options)
    assert copies.image_of(now) == copies.image_of(whole)
    assert now[END_MARK] == whole[END_MARK]
    assert cloudimg.verify(url, storage_options=options)
    assert cloudimg.migrate(source, url, target_options=options, **ARGUMENTS).n_objects == 0
