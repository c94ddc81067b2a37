"""Answers that end before the file does: the transfer is to blame, and is made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import CorruptFileError, ServerError
from tests.support import seed
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # all of them together

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 60, 70), np.uint8)
LARGE = np.random.default_rng(1).integers(0, 255, (800, 700), np.uint8)
KINDS = ("short", "short-whole", "short-range")

kinds = pytest.mark.parametrize("kind", KINDS)
schemes = pytest.mark.parametrize("compression", ["zlib", None])


@pytest.fixture(params=["obstore", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "obstore" else "fsspec")
    set_variable("CLOUDIMG_ATTEMPTS", "3")
    return str(request.param)


def stored(meter: Meter, bucket: str, compression: str | None) -> str:
    for z, plane in enumerate(PIXELS):
        meter.put(bucket, f"z{z}.tif", seed.encode(plane, compression=compression))
    return f"s3://{bucket}/z{{z}}.tif"


def short(kind: str, key: str, **how_often: Any) -> dict[str, Any]:
    return {"match": f"^GET .*{key}$", "kind": kind, **how_often}


@pytest.mark.long
@kinds
@schemes
@pytest.mark.parametrize("n_chunks", ["one", "each"])
def test_short_answers_are_asked_for_again(
    meter: Meter, bucket: str, kind: str, compression: str | None, n_chunks: str
) -> None:
    url = stored(meter, bucket, compression)
    meter.faults([short(kind, f"z{z}.tif", times=1) for z in range(5)])
    image = cloudimg.open(url, storage_options=meter.storage_options)
    chunks = -1 if n_chunks == "one" else (1, 60, 70)
    np.testing.assert_array_equal(image.to_dask(chunks=chunks).compute(), PIXELS)


@pytest.mark.long
@kinds
@schemes
def test_short_answers_are_never_blamed_on_the_file(
    meter: Meter, bucket: str, kind: str, compression: str | None
) -> None:
    url = stored(meter, bucket, compression)
    image = cloudimg.open(url, storage_options=meter.storage_options, bad="fill", validate="first")
    meter.faults([short(kind, "z3.tif")])
    with pytest.raises(ServerError, match=r"z3\.tif.*3 attempts"):
        image.read()
    meter.faults([short(kind, "z0.tif")])
    with pytest.raises(ServerError, match=r"z0\.tif.*3 attempts"):
        cloudimg.open(url, storage_options=meter.storage_options)


@kinds
def test_short_ranges_of_a_large_file(meter: Meter, bucket: str, kind: str) -> None:
    meter.put(bucket, "large.tif", seed.encode(LARGE, compression=None))
    image = cloudimg.open(f"s3://{bucket}/large.tif", storage_options=meter.storage_options)
    meter.faults([short(kind, "large.tif", times=1)])
    np.testing.assert_array_equal(image.read((slice(500, 700),)), LARGE[500:700])
    meter.faults([short(kind, "large.tif")])
    with pytest.raises(ServerError, match=r"large\.tif.*3 attempts"):
        image.read((slice(700, 800),))


@schemes
def test_a_file_that_ends_too_early_is_still_to_blame(
    meter: Meter, bucket: str, compression: str | None
) -> None:
    url = stored(meter, bucket, compression)
    data = seed.encode(PIXELS[3], compression=compression)
    meter.put(bucket, "z3.tif", data[: len(data) // 2])
    with meter.measure() as traffic, pytest.raises(CorruptFileError, match=r"z3\.tif") as caught:
        cloudimg.open(url, storage_options=meter.storage_options).read()
    assert caught.value.bad_file is not None
    # It is read once, and then only its size is asked for.
    assert sum(r.key == "z3.tif" and r.method == "GET" for r in traffic.requests) == 1
    assert traffic.heads == 1


@pytest.mark.long
@kinds
@schemes
@pytest.mark.parametrize("times", [1, 2])
def test_migrating_asks_again(
    meter: Meter, bucket: str, tmp_path: Path, kind: str, compression: str | None, times: int
) -> None:
    url = stored(meter, bucket, compression)
    meter.faults([short(kind, f"z{z}.tif", times=times) for z in range(5)])
    copy = tmp_path / "copy.zarr"
    done = cloudimg.migrate(url, copy, source_options=meter.storage_options)
    assert done.notes == ()
    pixels = np.squeeze(np.asarray(zarr.open_array(copy / "0", mode="r")[...]))
    np.testing.assert_array_equal(pixels, PIXELS)
    meter.faults([short(kind, f"z{z}.tif", times=times) for z in range(1, 5)])
    proof = cloudimg.verify(copy, against_source=True, source_options=meter.storage_options)
    assert proof
    assert proof.notes == ()


@pytest.mark.long
@kinds
@schemes
def test_migrating_never_fills_for_short_answers(
    meter: Meter, bucket: str, tmp_path: Path, kind: str, compression: str | None
) -> None:
    url = stored(meter, bucket, compression)
    meter.faults([short(kind, "z3.tif")])
    copy = tmp_path / "copy.zarr"
    with pytest.raises(ServerError, match=r"z3\.tif.*3 attempts"):
        cloudimg.migrate(url, copy, bad="fill", source_options=meter.storage_options)
    assert not (copy / "zarr.json").exists()
