"""What chunks cost is said before it is paid, and is what a store counts."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import cloudimg
from cloudimg.errors import ChunkCostWarning
from cloudimg.reading.header_cache import HEADER_CACHE
from tests.support import seed
from tests.support.metering import Meter

READ = re.compile(r"each byte is read ([\d.]+) times if all chunks are read\. Pass chunks=(.*) to ")
FILES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "strips": ((512, 512), {"compression": "zlib", "rowsperstrip": 32}),
    "rows": ((512, 512), {}),
    "tiles": ((512, 512), {"compression": "zlib", "tile": (128, 128)}),
    "plain tiles": ((300, 500), {"tile": (64, 64)}),
    "one strip": ((512, 512), {"compression": "zlib", "rowsperstrip": 512}),
    "pages": ((3, 200, 200), {}),
    "colours": ((256, 256, 3), {"compression": "zlib", "rowsperstrip": 32, "photometric": "rgb"}),
    "wide rows": ((40, 50_000), {}),
}


Shelf = dict[str, cloudimg.Image]


def fill(meter: Meter, bucket: str, kind: str, n_files: int = 2) -> cloudimg.Image:
    """Files of noise, which compression does not make smaller."""
    shape, options = FILES[kind]
    rng = np.random.default_rng(0)
    for z in range(n_files):
        pixels = rng.integers(0, 2**16, shape, np.uint16)
        meter.put(bucket, f"cells_z{z}.tif", seed.encode(pixels, **options))
    return cloudimg.open(f"s3://{bucket}/cells_z{{z}}.tif", storage_options=meter.storage_options)


def warned(image: cloudimg.Image, chunks: Any) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        array = image.to_dask(chunks=chunks)
    assert all(each.category is ChunkCostWarning for each in caught)
    assert all(each.filename == __file__ for each in caught)
    return array, [str(each.message) for each in caught]


def times_moved(meter: Meter, image: cloudimg.Image, array: Any) -> float:
    """Bytes moved over bytes stored, without what other readings have left in this process."""
    HEADER_CACHE.forget()
    with meter.measure() as traffic, dask.config.set(scheduler="threads", num_workers=2):
        array.max().compute()
    assert image.stored_nbytes
    return traffic.bytes_sent / image.stored_nbytes


@pytest.mark.parametrize(
    ("kind", "y", "x", "times"),
    [
        ("strips", 256, 256, 2.0),
        ("strips", 64, 64, 8.0),
        ("strips", 48, -1, 1.3),
        ("rows", 64, 64, 7.9),
        ("rows", 256, -1, 2.0),  # half of a small file: each half fetches all of it
        ("tiles", 64, 64, 4.0),
        ("tiles", 200, 200, 2.3),
        ("plain tiles", 96, 64, 1.4),
        ("one strip", 128, 512, 4.0),
        ("pages", 50, 50, 3.9),
        ("colours", 16, 256, 2.0),
    ],
)
def test_the_price_is_said_and_is_what_the_store_counts(
    meter: Meter, bucket: str, kind: str, y: int, x: int, times: float
) -> None:
    image = fill(meter, bucket, kind)
    others = {dim: 1 for dim in image.dims if dim in ("page", "z")}
    array, texts = warned(image, {**others, "y": y, "x": x})
    (text,) = texts
    found = READ.search(text)
    assert found, text
    assert float(found[1]) == pytest.approx(times, rel=0.05)
    assert times_moved(meter, image, array) == pytest.approx(times, rel=0.15)
    advised, texts = warned(image, eval(found[2]))
    assert not texts
    assert times_moved(meter, image, advised) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("kind", FILES)
def test_default_chunks_cost_nothing_more(meter: Meter, bucket: str, kind: str) -> None:
    image = fill(meter, bucket, kind)
    for size in ("16 KiB", "100 KB", "1 MiB", "128 MiB"):
        with dask.config.set({"array.chunk-size": size}):
            assert not warned(image, "auto")[1]
            assert not warned(image, image.chunks)[1]
            assert not warned(image, {})[1]


@pytest.mark.parametrize(
    ("kind", "chunks"),
    [
        ("strips", (1, 32, -1)),
        ("rows", (1, 10, -1)),
        ("tiles", (2, 128, 256)),
        ("wide rows", (1, 40, 1_000)),  # rows are so long that each is fetched alone
        ("pages", (1, 1, -1, -1)),
        ("pages", (1, 1, 20, -1)),
    ],
)
def test_chunks_of_whole_segments_are_not_warned_of(
    meter: Meter, bucket: str, kind: str, chunks: Sequence[int]
) -> None:
    image = fill(meter, bucket, kind)
    array, texts = warned(image, tuple(chunks))
    assert not texts
    assert times_moved(meter, image, array) < 1.25


@given(kind=st.sampled_from(sorted(FILES)), y=st.integers(1, 600), x=st.integers(1, 600))
@hypothesis_settings(max_examples=60)
def test_advised_chunks_are_never_warned_of(shelf: Shelf, kind: str, y: int, x: int) -> None:
    image = shelf[kind]
    if kind == "wide rows":
        x *= 50
    _, texts = warned(image, {"y": y, "x": x})
    for text in texts:
        found = READ.search(text)
        assert found, text
        assert float(found[1]) > 1.1
        assert not warned(image, eval(found[2]))[1]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """An image of each kind, without a store, where chunks of one pixel do not wait."""
    folder, images = tmp_path_factory.mktemp("shelf"), {}
    for kind, (shape, options) in FILES.items():
        path = folder / f"{kind}.tif"
        path.write_bytes(seed.encode(np.ones(shape, np.uint16), **options))
        images[kind] = cloudimg.open(path)
    return images


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_small_chunks_on_few_threads_are_said_in_round_trips(
    meter: Meter, bucket: str, n_threads: int
) -> None:
    data = seed.encode(np.zeros((128, 160), np.uint16))
    n_files = 120 * n_threads
    for z in range(n_files):
        meter.put(bucket, f"z{z}.tif", data)
    image: Any = cloudimg.open(f"s3://{bucket}/z{{z}}.tif", storage_options=meter.storage_options)
    meter.latency(15)
    with dask.config.set(scheduler="threads", num_workers=n_threads):
        array, texts = warned(image, {"z": 1})
        (text,) = texts
        assert f"{n_files} chunks of (1, 128, 160), 40 KiB each" in text
        assert "about 120 round trips" in text
        assert 'chunks="auto" for about 1,' in text
        with meter.measure() as traffic:
            array.max().compute()
        assert 110 <= traffic.round_trips <= 130
        HEADER_CACHE.forget()
        with meter.measure() as traffic:
            image.to_dask().max().compute()
        assert traffic.round_trips < 12
        assert not warned(image, {"z": 2})[1]  # half as many
    with dask.config.set(num_workers=64):
        assert not warned(image, {"z": 1})[1]


def test_local_files_do_not_wait(tmp_path: Path) -> None:
    data = seed.encode(np.zeros((128, 160), np.uint16))
    for z in range(300):
        (tmp_path / f"z{z}.tif").write_bytes(data)
    assert not warned(cloudimg.open(tmp_path / "z{z}.tif"), {"z": 1})[1]


@pytest.mark.slow
def test_it_is_silenced_by_its_class_and_said_once_by_imread(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    path.write_bytes(seed.encode(np.ones((256, 256), np.uint16)))
    code = f"import warnings, cloudimg\n{{silence}}\ncloudimg.imread({str(path)!r}, chunks=64)\n"
    silence = "warnings.simplefilter('ignore', cloudimg.errors.ChunkCostWarning)"
    for line, expected in (("", 1), (silence, 0)):
        answer = subprocess.run(
            [sys.executable, "-c", code.format(silence=line)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stderr.count("ChunkCostWarning: chunks of (64, 64) cut") == expected
        assert not expected or answer.stderr.startswith("<string>:3:")
