"""Listings whose pages are wrong, although their status is 200: never taken for a short listing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import CloudimgError, NoMatchError, ServerError
from tests.support import seed
from tests.support.metering import Meter

N_FILES = 1500
FILE = seed.encode(np.full((8, 8), 7, np.uint8))
ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code>'
    "<Message>We encountered an internal error. Please try again.</Message></Error>"
)

pytestmark = pytest.mark.slow  # all of them together
HTML = '<!DOCTYPE html><html><head><meta charset="utf-8"></head><body><p>Sign in<br></body></html>'
WRONG_PAGES: dict[str, dict[str, Any]] = {
    "error document": {"kind": "body", "body": ERROR},
    "HTML": {"kind": "body", "body": HTML},
    "HTML that is XML": {"kind": "body", "body": "<html><body>Sign in</body></html>"},
    "nothing": {"kind": "body", "body": ""},
    "empty listing": {"kind": "empty"},
    "last page": {"kind": "ended"},
    "another bucket": {"kind": "other-bucket"},
    "half a document": {"kind": "half"},
}
PAGE_2 = f"many/{999:04d}.tif"
"""The last name of the first page: a page that begins there or later is the second one."""

wrong_pages = pytest.mark.parametrize("page", WRONG_PAGES)


@pytest.fixture(params=["obstore", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    """Each way to S3; with fewer attempts than usual, because they wait in between."""
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "obstore" else "fsspec")
    set_variable("CLOUDIMG_ATTEMPTS", "3")
    return str(request.param)


@pytest.fixture
def many(meter: Meter, bucket: str) -> str:
    """A pattern of 1,500 files: two pages."""
    meter.fill(bucket, [f"many/{i:04d}.tif" for i in range(N_FILES)], FILE)
    return f"s3://{bucket}/many/{{t}}.tif"


@pytest.fixture
def target(meter: Meter) -> Iterator[str]:
    """A bucket for copies."""
    name = f"target-{uuid.uuid4().hex[:12]}"
    meter.create(name)
    yield name
    meter.drop(name)


def listing_of(bucket: str, page: str, **how_often: Any) -> dict[str, Any]:
    """A rule by which listings of a bucket are answered with a wrong page."""
    return {"match": f"^GET /{bucket}/$", **WRONG_PAGES[page], **how_often}


@pytest.mark.long
@wrong_pages
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_page_that_is_wrong_once(
    meter: Meter, bucket: str, many: str, page: str, skip: int
) -> None:
    """The first page, the second one, or the answer to the question for the end."""
    meter.faults([listing_of(bucket, page, times=1, skip=skip)])
    image = cloudimg.open(many, storage_options=meter.storage_options)
    assert image.shape == (N_FILES, 8, 8)
    assert not image.missing


@pytest.mark.long
@wrong_pages
def test_a_second_page_that_is_always_wrong(
    meter: Meter, bucket: str, many: str, page: str
) -> None:
    meter.faults([listing_of(bucket, page, begins_at=PAGE_2)])
    if page == "last page":  # its keys are there, and the next ones where they are asked for
        image = cloudimg.open(many, storage_options=meter.storage_options)
        assert image.n_files == N_FILES
        return
    with pytest.raises(ServerError, match="3 attempts"):
        cloudimg.open(many, storage_options=meter.storage_options)


@pytest.mark.long
@wrong_pages
def test_pages_that_are_all_wrong(meter: Meter, bucket: str, many: str, page: str) -> None:
    meter.faults([listing_of(bucket, page)])
    if page == "last page":
        assert cloudimg.open(many, storage_options=meter.storage_options).n_files == N_FILES
        return
    with pytest.raises(NoMatchError if page == "empty listing" else ServerError):
        cloudimg.open(many, storage_options=meter.storage_options)


@pytest.mark.long
@wrong_pages
def test_a_glob_and_a_folder(meter: Meter, bucket: str, many: str, page: str) -> None:
    url = many.replace("{t}", "*")
    meter.faults([listing_of(bucket, page, times=1, skip=1)])
    assert cloudimg.open(url, storage_options=meter.storage_options).n_files == N_FILES
    meter.faults([listing_of(bucket, page, begins_at=PAGE_2, times=1)])
    shown = cloudimg.info(f"s3://{bucket}/many/", storage_options=meter.storage_options)
    assert shown["objects"] == N_FILES


def test_the_end_is_asked_for_once_beside_the_header(
    meter: Meter, bucket: str, many: str, backend: str
) -> None:
    cloudimg.open(many, storage_options=meter.storage_options)
    meter.latency(200)
    with meter.measure() as traffic:
        cloudimg.open(many, storage_options=meter.storage_options)
    meter.latency(0)
    assert (traffic.lists, traffic.gets, traffic.heads) == (3, 1, 0)
    assert traffic.round_trips == 3  # two pages and the header


@pytest.mark.parametrize("times", [1, None])
def test_files_deleted_while_they_are_listed(
    meter: Meter, bucket: str, many: str, times: int | None
) -> None:
    """A page without the last key is right where that key is gone."""
    image = cloudimg.open(many, storage_options=meter.storage_options)
    assert image.n_files == N_FILES
    # The end is asked for after the last key but one: the last one is gone by then.
    rule = listing_of(bucket, "empty listing", begins_at=f"many/{N_FILES - 1:04d}.tif", times=times)
    meter.faults([rule, {"match": "HEAD ", "status": 404}])
    image = cloudimg.open(many, storage_options=meter.storage_options)
    assert image.n_files == N_FILES


@pytest.mark.parametrize(
    ("page", "how_often"),
    [("error document", "once"), ("error document", "always"), ("empty listing", "once")],
)
def test_a_wrong_page_after_a_folder_that_was_skipped(
    meter: Meter, bucket: str, page: str, how_often: str
) -> None:
    """Files beside a folder of more than a page, whose names a pattern cannot match."""
    names = [f"many/{letter}{i}.tif" for letter in "az" for i in range(10)]
    meter.fill(bucket, names, FILE)
    meter.fill(bucket, [f"many/deep/{i:04d}" for i in range(2500)], b"x")
    rule = listing_of(bucket, page, begins_at="many/deep0")
    meter.faults([rule | ({"times": 1} if how_often == "once" else {})])
    url = f"s3://{bucket}/many/{{name:s}}.tif"
    if how_often == "once":
        assert cloudimg.open(url, storage_options=meter.storage_options).n_files == len(names)
        return
    with pytest.raises(ServerError, match="3 attempts"):
        cloudimg.open(url, storage_options=meter.storage_options)


@pytest.mark.long
@wrong_pages
@pytest.mark.parametrize("how_often", ["once", "always"])
def test_migrating_copies_all_files_or_none(
    meter: Meter, bucket: str, many: str, target: str, page: str, how_often: str
) -> None:
    rule = listing_of(bucket, page, begins_at=PAGE_2)
    meter.faults([rule | ({"times": 1} if how_often == "once" else {})])
    url = f"s3://{target}/copy.ome.zarr"
    options: dict[str, Any] = {
        "source_options": meter.storage_options,
        "target_options": meter.storage_options,
        "chunks": (100, 8, 8),
    }
    if how_often == "always" and page != "last page":
        with pytest.raises(ServerError, match="3 attempts"):
            cloudimg.migrate(many, url, **options)
        assert not [key for key in listed(meter, target) if "/lease/" not in key]
        return
    cloudimg.migrate(many, url, **options)
    array = zarr.open_array(f"{url}/0", mode="r", storage_options=meter.storage_options)
    pixels = np.squeeze(np.asarray(array[...]))
    assert pixels.shape == (N_FILES, 8, 8)
    assert (pixels == 7).all()


def test_verifying_compares_with_all_files(
    meter: Meter, bucket: str, many: str, target: str
) -> None:
    """A source of which only a part is listed is never what a copy agrees with."""
    url = f"s3://{target}/copy.ome.zarr"
    both: dict[str, Any] = {"source_options": meter.storage_options}
    cloudimg.migrate(many, url, target_options=meter.storage_options, chunks=(100, 8, 8), **both)
    both["storage_options"] = meter.storage_options
    for page in ("error document", "empty listing", "another bucket"):
        meter.faults([listing_of(bucket, page, begins_at=PAGE_2, times=1)])
        assert cloudimg.verify(url, against_source=True, **both), page
        meter.faults([listing_of(bucket, page, begins_at=PAGE_2)])
        with pytest.raises(ServerError, match="3 attempts"):
            cloudimg.verify(url, against_source=True, **both)


@pytest.mark.long
@wrong_pages
@pytest.mark.parametrize("how_often", ["once", "always"])
def test_objects_of_others_are_seen_at_a_destination(
    meter: Meter, bucket: str, target: str, page: str, how_often: str
) -> None:
    meter.put(bucket, "one.tif", FILE)
    theirs = {"copy/zarr.json": b"{}", "copy/0/zarr.json": b"theirs", "copy/0/c/0/0": b"pixels"}
    for key, data in theirs.items():
        meter.put(target, key, data)
    # Where every listing says that it is empty, only the names of metadata tell otherwise.
    meter.faults([listing_of(target, page, **({"times": 1} if how_often == "once" else {}))])
    with meter.measure() as traffic, pytest.raises(CloudimgError) as caught:
        cloudimg.migrate(
            f"s3://{bucket}/one.tif",
            f"s3://{target}/copy",
            source_options=meter.storage_options,
            target_options=meter.storage_options,
        )
    assert f"s3://{target}/copy" in str(caught.value)
    assert traffic.puts == traffic.count("delete") == 0
    meter.faults([])
    assert listed(meter, target) == theirs


@pytest.mark.long
@wrong_pages
@pytest.mark.parametrize("overwrite", [False, True])
def test_objects_without_metadata_are_seen_at_a_destination(
    meter: Meter, bucket: str, target: str, page: str, overwrite: bool
) -> None:
    """Where the first listing was wrong, the one with the lease shows them."""
    meter.put(bucket, "one.tif", FILE)
    theirs = {"copy/a": b"theirs", "copy/b/c": b"theirs too"}
    for key, data in theirs.items():
        meter.put(target, key, data)
    meter.faults([listing_of(target, page, times=1)])
    options: dict[str, Any] = {
        "source_options": meter.storage_options,
        "target_options": meter.storage_options,
        "overwrite": overwrite,
    }
    url = f"s3://{target}/copy"
    if overwrite:
        cloudimg.migrate(f"s3://{bucket}/one.tif", url, **options)
        assert cloudimg.verify(url, storage_options=meter.storage_options)
        assert not theirs.keys() & listed(meter, target).keys()
        return
    with pytest.raises(CloudimgError, match="objects that cloudimg did not write"):
        cloudimg.migrate(f"s3://{bucket}/one.tif", url, **options)
    found = listed(meter, target)
    assert {key: found[key] for key in theirs} == theirs
    assert all("/lease/" in key for key in found.keys() - theirs.keys())


@pytest.mark.long
@wrong_pages
def test_a_copy_whose_listing_breaks_off_is_not_written_again(
    meter: Meter, bucket: str, target: str, page: str
) -> None:
    """A finished copy stays finished, and verifying sees all of its objects."""
    meter.put(bucket, "one.tif", FILE)
    url = f"s3://{target}/copy"
    options: dict[str, Any] = {
        "source_options": meter.storage_options,
        "target_options": meter.storage_options,
    }
    cloudimg.migrate(f"s3://{bucket}/one.tif", url, **options)
    meter.faults([listing_of(target, page, times=1)])
    with meter.measure() as traffic:
        cloudimg.migrate(f"s3://{bucket}/one.tif", url, **options)
    assert all("/lease/" in r.key for r in traffic.requests if r.method in ("PUT", "DELETE"))
    meter.faults([listing_of(target, page, times=1)])
    assert not cloudimg.verify(url, storage_options=meter.storage_options).problems


def listed(meter: Meter, bucket: str) -> dict[str, bytes]:
    """What a bucket holds, read without cloudimg."""
    import s3fs

    fs = s3fs.S3FileSystem(**meter.storage_options, skip_instance_cache=True)
    return {key.partition("/")[2]: fs.cat_file(key) for key in fs.find(bucket)}
