"""Copies that would be wrong or would destroy their source are refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client

import cloudimg
from cloudimg.errors import ArgumentError
from tests.conftest import WebServer
from tests.support import seed
from tests.support.clusters import local_client

SHAPE = (4, 60, 60)


def lying(dtype: str, give: Any) -> da.Array:
    """An array that declares `dtype`, and whose blocks `give` makes."""
    pixels = np.arange(np.prod(SHAPE), dtype=dtype).reshape(SHAPE)
    return da.from_array(pixels, chunks=(1, 60, 60)).map_blocks(give, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "give"),
    [
        ("i8", lambda block: block / 2),
        ("u2", lambda block: block.astype("f8")),
        ("u2", lambda block: block[:, :30]),
    ],
    ids=["other kind", "other size", "other shape"],
)
def test_blocks_that_differ_from_what_the_array_declares(
    tmp_path: Path, dtype: str, give: Any
) -> None:
    with pytest.raises(ArgumentError, match="the Dask array declares a block of"):
        cloudimg.to_zarr(lying(dtype, give), tmp_path / "copy.zarr")


def test_masks_are_not_lost(tmp_path: Path) -> None:
    pixels = np.ma.masked_less(np.arange(3600).reshape(60, 60), 100)
    for array in (pixels, da.from_array(pixels, chunks=30)):
        with pytest.raises(ArgumentError, match="masked"):
            cloudimg.to_zarr(array, tmp_path / "copy.zarr")
    assert not (tmp_path / "copy.zarr" / "zarr.json").exists()


@pytest.mark.parametrize("is_relative", [False, True])
def test_an_array_read_from_the_destination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "copy.zarr" if is_relative else str(tmp_path / "copy.zarr")
    pixels = np.arange(3600, dtype="u2").reshape(60, 60)
    cloudimg.to_zarr(pixels, url)
    with pytest.raises(ArgumentError, match="computed from objects in"):
        cloudimg.to_zarr(da.from_zarr(url, component="0") + 1, url, overwrite=True)
    assert np.array_equal(zarr.open_group(url, mode="r")["0"][...], pixels)
    other = np.arange(3600, 7200, dtype="u2").reshape(60, 60)
    cloudimg.to_zarr(da.from_array(other, chunks=30), url, overwrite=True)
    assert np.array_equal(zarr.open_group(url, mode="r")["0"][...], other)


def test_files_in_the_destination_that_an_array_is_made_of(tmp_path: Path) -> None:
    for z in range(3):
        (tmp_path / f"a_{z}.tif").write_bytes(seed.encode(np.full((32, 32), z, "u2")))
    array = cloudimg.imread(str(tmp_path / "a_{z}.tif"))
    with pytest.raises(ArgumentError, match="computed from objects in"):
        cloudimg.to_zarr(array * 2, tmp_path, dims="zyx", overwrite=True)
    assert len(list(tmp_path.glob("*.tif"))) == 3


def test_links_are_not_written_through(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "copy.zarr"
    outside.mkdir()
    inside.mkdir()
    (outside / "zarr.json").write_text("precious")
    (inside / "0").symlink_to(outside)
    pixels = np.arange(3600, dtype="u2").reshape(60, 60)
    with pytest.raises(ArgumentError, match="did not write"):
        cloudimg.to_zarr(pixels, inside)
    cloudimg.to_zarr(pixels, inside, overwrite=True)
    assert (outside / "zarr.json").read_text() == "precious"
    assert sorted(path.name for path in outside.iterdir()) == ["zarr.json"]
    assert np.array_equal(zarr.open_group(str(inside), mode="r")["0"][...], pixels)


def test_a_password_in_the_url_is_not_stored(tmp_path: Path, httpd: WebServer) -> None:
    (httpd.root / "a.tif").write_bytes(seed.encode(np.zeros((32, 32), "u2")))
    address = httpd.endpoint.replace("://", "://somebody:TopSecret@")
    cloudimg.migrate(f"{address}/a.tif", tmp_path / "copy.zarr")
    stored = [path for path in (tmp_path / "copy.zarr").rglob("*") if path.is_file()]
    assert any(path.parent.parent.name == "cells" for path in stored)
    assert not [path for path in stored if b"TopSecret" in path.read_bytes()]


def test_numbers_of_numpy(tmp_path: Path) -> None:
    pixels = np.arange(90_000, dtype="u2").reshape(300, 300)
    cloudimg.to_zarr(
        pixels,
        tmp_path / "copy.zarr",
        chunks={"y": np.int64(64), "x": np.int16(64)},
        levels=np.int64(2),
        factors={"y": np.int64(2), "x": np.uint8(2)},
        max_mem=np.int64(10**9),
    )
    group = zarr.open_group(str(tmp_path / "copy.zarr"), mode="r")
    assert group["0"].chunks == (64, 64)
    json.loads((tmp_path / "copy.zarr" / ".cloudimg" / "plan.json").read_bytes())
    with pytest.raises(ArgumentError, match="chunks"):
        cloudimg.to_zarr(pixels, tmp_path / "other.zarr", chunks=np.array([64, 64]))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(1, 2) as client:
        yield client


def slow_second(file: Any, url: str) -> Any:
    """The first frame at once, the second one after seconds."""
    if url.endswith("_1.slow"):
        time.sleep(4)
    return np.full((64, 64), 7, "u2")


class _EnoughError(Exception):
    """Raised to stop a migration."""


@pytest.mark.slow
def test_cells_of_a_stopped_migration_do_not_end_up_in_the_next_copy(
    client: Client, tmp_path: Path
) -> None:
    for t in range(2):
        (tmp_path / f"a_{t}.slow").write_bytes(b"anything")
    old = cloudimg.open(str(tmp_path / "a_{t}.slow"), imread=slow_second)
    shape = {"chunks": (1, 64, 64), "shards": (1, 64, 64), "levels": 1}
    url = tmp_path / "copy.zarr"

    def stop(advance: Any) -> None:
        raise _EnoughError

    with pytest.raises(_EnoughError):
        cloudimg.to_zarr(old, url, client=client, progress=stop, **shape)
    new = np.arange(2 * 64 * 64, dtype="u2").reshape(2, 64, 64)
    cloudimg.to_zarr(new, url, overwrite=True, **shape)
    threading.Event().wait(5)
    assert np.array_equal(zarr.open_group(str(url), mode="r")["0"][...], new)
    assert cloudimg.verify(url, against_source=new)
