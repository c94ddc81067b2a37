"""A URL that is the name of an object is that object, even if it looks like a pattern."""

from __future__ import annotations

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ArgumentError, NoMatchError, NotFoundError, PatternError
from tests.conftest import Place
from tests.support import seed
from tests.support.metering import Meter

PLANE = np.arange(6, dtype=np.uint8).reshape(2, 3)
NAMES = ("x_[GUID].tif", "run[1]/a.tif", "y_{z}.tif", "{1}.tif", "b{.tif", "a[]b.tif", "[c].tif")


def put(place: Place, *names: str) -> None:
    for i, name in enumerate(names):
        place.put(name, seed.encode(PLANE + i))


def read(place: Place, name: str) -> list[int]:
    image = cloudimg.open(f"{place.url}/{name}", storage_options=place.storage_options)
    first = image.read()[..., 0, 0]
    return [int(value) for value in first.ravel()]


def test_names_that_look_like_patterns(place: Place) -> None:
    if place.name == "http":
        pytest.skip("a URL has no such characters")
    put(place, *NAMES)
    for i, name in enumerate(NAMES):
        assert read(place, name) == [i], name


def test_folders_with_brackets(place: Place) -> None:
    if place.name == "http":
        pytest.skip("a URL has no such characters")
    put(place, "run[12]/z_1.tif", "run[12]/z_2.tif", "run1/z_1.tif", "run2/z_7.tif")
    assert read(place, "run[12]/z_{z}.tif") == [0, 1]
    assert read(place, "run[12]/*.tif") == [0, 1]
    # Without such a folder the brackets are a set of characters.
    assert read(place, "run[13]/z_{z}.tif") == [2]
    with pytest.raises(NoMatchError):
        read(place, "run[34]/z_{z}.tif")
    with pytest.raises(PatternError):
        read(place, "{2}.tif")


def test_a_pattern_without_brackets_takes_no_request_more(meter: Meter, bucket: str) -> None:
    for z in range(3):
        meter.put(bucket, f"z_{z}.tif", seed.encode(PLANE))
    for pattern in ("z_{z}.tif", "z_{z:[0-9]+}.tif", "z_*.tif"):
        with meter.measure() as traffic:
            cloudimg.open(f"s3://{bucket}/{pattern}", storage_options=meter.storage_options)
        # The listing, its end and the first header.
        assert (traffic.lists, traffic.gets, traffic.heads) == (2, 1, 0), pattern


def test_a_folder_is_named_as_such(place: Place) -> None:
    put(place, "sub/a.tif")
    # A web server answers with a page, which could be that of any name without a slash.
    for name in ("sub/",) if place.name == "http" else ("sub", "sub/"):
        with pytest.raises(NotFoundError, match=r"is a folder; cloudimg\.info"):
            read(place, name)
    with pytest.raises(NotFoundError, match=r"no such|not found"):
        read(place, "su")


@pytest.mark.parametrize("end", ["", "/"])
def test_a_bucket_is_named_as_a_folder(meter: Meter, bucket: str, end: str) -> None:
    with meter.measure() as traffic, pytest.raises(NotFoundError, match=r"is a folder; cloudimg"):
        cloudimg.open(f"s3://{bucket}{end}", storage_options=meter.storage_options)
    assert traffic.requests == []


@pytest.mark.parametrize("url", ["s3:/lab/x.tif", "gs:/lab/x_{z}.tif", "https:/host/x.tif"])
def test_one_slash_after_the_protocol_is_a_mistake(url: str) -> None:
    with pytest.raises(ArgumentError, match=f"write {url.split(':')[0]}://"):
        cloudimg.open(url)
