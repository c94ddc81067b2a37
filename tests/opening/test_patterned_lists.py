"""`pattern=` gives axes to a list of URLs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ArgumentError, DuplicateIndexError, GridError
from tests.conftest import PLACES, Place
from tests.support import seed
from tests.support.servers import http_server

SHAPE = (2, 3)


def value(t: int, z: int) -> int:
    return 10 * t + z


def put(place: Place, folder: str = "") -> list[str]:
    urls = []
    for t in range(3):
        for z in range(2):
            name = f"{folder}day{t}/z{z:02d}.tif"
            place.put(name, seed.encode(np.full(SHAPE, value(t, z), np.uint8)))
            urls.append(f"{place.url}/{name}")
    random.Random(5).shuffle(urls)
    return urls


@pytest.fixture
def local(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES["local"](request) as place:
        yield place


def expected() -> list[list[int]]:
    return [[value(t, z) for z in range(2)] for t in range(3)]


def test_a_list_has_the_axes_of_its_pattern(place: Place) -> None:
    urls = put(place)
    image = cloudimg.open(
        urls, pattern="day{t}/z{z:02d}.tif", storage_options=place.storage_options
    )
    assert image.dims == ("t", "z", "y", "x")
    assert image.read()[..., 0, 0].tolist() == expected()
    whole = cloudimg.open(
        urls, pattern=f"{place.url}/day{{t}}/z{{z}}.tif", storage_options=place.storage_options
    )
    assert whole.read()[..., 0, 0].tolist() == expected()
    assert list(image.coords["t"]) == [0, 1, 2]


def test_missing_files_of_a_list_are_holes(local: Place) -> None:
    urls = put(local)
    local.delete("day1/z00.tif")
    pattern = "day{t}/z{z}.tif"
    image = cloudimg.open(urls, pattern=pattern, missing="fill", fill_value=7)
    assert image.shape[:2] == (3, 2)
    assert image.missing == ({"t": 1, "z": 0},)
    pixels = image.read()[..., 0, 0].tolist()
    assert pixels[1][0] == 7
    assert pixels[2] == expected()[2]


def test_signatures_stay_on_the_urls(tmp_path: Path) -> None:
    for z in range(2):
        (tmp_path / f"z{z}.tif").write_bytes(seed.encode(np.full(SHAPE, z, np.uint8)))
    with http_server(tmp_path) as endpoint:
        urls = [f"{endpoint}/z{z}.tif?X-Amz-Signature=SECRET{z}" for z in (1, 0)]
        image = cloudimg.open(urls, pattern="z{z}.tif")
        assert image.read()[:, 0, 0].tolist() == [0, 1]
        assert "SECRET" not in repr(image)


def test_a_copy_of_such_a_list_verifies(local: Place, tmp_path: Path) -> None:
    urls = put(local)
    out = tmp_path / "copy.ome.zarr"
    cloudimg.migrate(urls, out, pattern="day{t}/z{z}.tif")
    assert cloudimg.verify(out, against_source=True)
    assert cloudimg.migrate(urls, out, pattern="day{t}/z{z}.tif").n_objects == 0
    with pytest.raises(ArgumentError, match="axes were"):
        cloudimg.migrate(urls, out)


def test_urls_that_do_not_match_are_named(local: Place) -> None:
    urls = put(local)
    with pytest.raises(GridError, match=r"2 URLs of the 6 in the list do not match.*day2"):
        cloudimg.open(urls, pattern="day{t:[01]}/z{z}.tif")
    with pytest.raises(DuplicateIndexError, match="two files at z=0"):
        cloudimg.open(urls, pattern="z{z}.tif")
    with pytest.raises(GridError, match="names no axes"):
        cloudimg.open(urls, pattern="*.tif")
    with pytest.raises(ArgumentError, match="for a list of URLs"):
        cloudimg.open(f"{local.url}/day{{t}}/z{{z}}.tif", pattern="z{z}.tif")
    with pytest.raises(ArgumentError, match="must be a pattern"):
        cloudimg.open(urls, pattern=3)  # type: ignore[arg-type]
