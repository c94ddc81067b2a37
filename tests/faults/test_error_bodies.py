"""Answers with status 200 whose body is an error, to requests that store or delete."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import AccessDeniedError, StorageError
from tests.support import faulty_store, seed
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 60, 70), np.uint8)
BODIES = {"error": faulty_store.ERROR, "HTML": faulty_store.HTML, "nothing": ""}
KINDS = {"plan": "plan", "record": "/cells/", "shard": "/c/0", "root": r"zarr\.json$"}
CASES = [*((kind, "error") for kind in KINDS), ("shard", "HTML"), ("shard", "nothing")]


@pytest.fixture(params=["obstore", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "obstore" else "fsspec")
    set_variable("CLOUDIMG_ATTEMPTS", "3")
    return str(request.param)


@pytest.fixture
def target(meter: Meter) -> Iterator[str]:
    """A bucket for copies."""
    name = f"target-{uuid.uuid4().hex[:12]}"
    meter.create(name)
    yield name
    meter.drop(name)


def migrate(meter: Meter, bucket: str, target: str, **options: Any) -> str:
    for z, plane in enumerate(PIXELS):
        meter.put(bucket, f"z{z}.tif", seed.encode(plane))
    url = f"s3://{target}/copy"
    both = {"source_options": meter.storage_options, "target_options": meter.storage_options}
    cloudimg.migrate(f"s3://{bucket}/z{{z}}.tif", url, **both, **options)
    return url


def pixels(meter: Meter, url: str) -> np.ndarray[Any, Any]:
    array = zarr.open_array(f"{url}/0", mode="r", storage_options=meter.storage_options)
    return np.squeeze(np.asarray(array[...]))


@pytest.mark.long
@pytest.mark.parametrize(("kind", "body"), CASES)
@pytest.mark.parametrize("arrives", [True, False])
def test_puts_that_are_answered_with_an_error(
    meter: Meter, bucket: str, target: str, kind: str, body: str, arrives: bool
) -> None:
    rule = faulty_store.error_body(
        "PUT", f"{target}/.*{KINDS[kind]}", body=BODIES[body], apply=arrives
    )
    meter.faults([rule | {"times": 1}])
    url = migrate(meter, bucket, target)
    np.testing.assert_array_equal(pixels(meter, url), PIXELS)
    assert cloudimg.verify(url, storage_options=meter.storage_options)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "body"), CASES)
def test_puts_that_never_arrive(
    meter: Meter, bucket: str, target: str, kind: str, body: str
) -> None:
    rule = faulty_store.error_body("PUT", f"{target}/.*{KINDS[kind]}", body=BODIES[body])
    meter.faults([rule])
    with pytest.raises(StorageError):
        migrate(meter, bucket, target)


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
def test_deletes_of_which_some_are_refused(
    meter: Meter,
    bucket: str,
    target: str,
    code: str,
    backend: str,
    set_variable: Callable[[str, str], None],
) -> None:
    if backend == "fsspec":
        pytest.skip("it deletes objects one by one")
    set_variable("CLOUDIMG_LEASE_TTL_S", "5")
    url = migrate(meter, bucket, target)
    rule = faulty_store.undeleted(target, code)
    meter.faults([rule])
    with pytest.raises(StorageError, match=f"cannot delete|failed to delete.*{code}") as caught:
        migrate(meter, bucket, target, overwrite=True)
    assert isinstance(caught.value, AccessDeniedError) == (code == "AccessDenied")
    if code == "AccessDenied":
        assert f"s3://{target}/" in str(caught.value)
        assert "still there" in str(caught.value)
    meter.faults([rule | {"times": 1}] if code == "InternalError" else [])
    # The requests of the first attempt may be under way for all that is known.
    assert migrate(meter, bucket, target, overwrite=True, yes=True) == url
    np.testing.assert_array_equal(pixels(meter, url), PIXELS)
