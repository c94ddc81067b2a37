"""`pattern=` gives axes to a list of URLs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import (
    ArgumentError,
    BadFilesError,
    DuplicateIndexError,
    GridError,
    NotFoundError,
)
from tests.conftest import PLACES, Place
from tests.support import bad, seed
from tests.support.metering import Meter
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


CELLS: dict[str, Any] = {
    "chunks": {"y": 8, "x": 8},
    "shards": {"t": 1, "z": 1, "y": 16, "x": 24},
    "levels": 1,
}
"""One file a cell."""
LIST: dict[str, Any] = {"pattern": "t{t}_z{z}.tif"}


@pytest.fixture
def lacking(tmp_path: Path) -> list[str]:
    """A list of eight files, one of which does not exist and one is empty."""
    bad.write_good(tmp_path / "in", (2, 4))
    bad.spoil(tmp_path / "in", "missing", 1, 1)
    bad.spoil(tmp_path / "in", "empty", 0, 2)
    return [f"{tmp_path}/in/t{t}_z{z}.tif" for t, z in np.ndindex(2, 4)]


def kinds(error: BadFilesError) -> dict[str, int]:
    return {each.kind: each.n_files for each in error.report.kinds}


def test_opening_a_list_does_not_look_files_up(meter: Meter, bucket: str) -> None:
    urls = [f"s3://{bucket}/t{t}_z{z}.tif" for t, z in np.ndindex(2, 4)]
    for t, z in np.ndindex(2, 4):
        meter.put(bucket, f"t{t}_z{z}.tif", seed.encode(bad.pixels_of(t, z)))
    options = meter.storage_options
    with meter.measure() as whole:
        cloudimg.open(urls, storage_options=options, **LIST)
    meter.delete(bucket, "t1_z1.tif")
    with meter.measure() as lacking:
        image = cloudimg.open(urls, storage_options=options, **LIST)
    assert [each.kind for each in lacking.requests] == [each.kind for each in whole.requests]
    with pytest.raises(NotFoundError, match=r"t1_z1\.tif"):
        image.read()
    with pytest.raises(BadFilesError, match=r"t1_z1\.tif") as caught:
        cloudimg.open(urls, storage_options=options, validate="all", **LIST)
    assert kinds(caught.value) == {"missing": 1}


@pytest.mark.parametrize("policy", ["raise", "fill"])
def test_missing_files_of_a_list_are_in_the_report(lacking: list[str], policy: Any) -> None:
    with pytest.raises(BadFilesError) as caught:
        cloudimg.open(lacking, validate="all", bad=policy, **LIST)
    assert kinds(caught.value) == {"missing": 1, "empty": 1}
    (missing,) = caught.value.report.kinds[0].files
    assert missing.url == lacking[5]
    image = cloudimg.open(lacking, validate="all", missing="fill", bad="fill", **LIST)
    assert {each.kind: each.n_files for each in image.report.kinds} == {"missing": 1, "empty": 1}
    with pytest.raises(NotFoundError, match=r"t1_z1\.tif"):
        cloudimg.open(lacking, bad="fill", **LIST).read({"t": 1})


def test_a_list_whose_first_file_is_missing(lacking: list[str], tmp_path: Path) -> None:
    Path(lacking[0]).unlink()
    with pytest.raises(NotFoundError, match=r"t0_z0\.tif"):
        cloudimg.open(lacking, **LIST)
    with pytest.raises(BadFilesError) as caught:
        cloudimg.open(lacking, validate="all", **LIST)
    assert kinds(caught.value) == {"missing": 2, "empty": 1}
    with pytest.raises(BadFilesError, match="3 of 8 cells were not copied"):
        cloudimg.migrate(lacking, tmp_path / "copy.zarr", **LIST, **CELLS)


@pytest.mark.parametrize("policy", ["raise", "fill"])
def test_a_copy_of_a_list_does_all_other_cells(
    lacking: list[str], tmp_path: Path, policy: Any
) -> None:
    copy = tmp_path / "copy.zarr"
    n_left = 2 if policy == "raise" else 1
    with pytest.raises(BadFilesError, match=rf"{n_left} of 8 cells w.* not copied") as caught:
        cloudimg.migrate(lacking, copy, bad=policy, **LIST, **CELLS)
    assert kinds(caught.value) == {"missing": 1, "empty": 1}
    assert 'missing="fill"' in str(caught.value)
    assert ('bad="fill"' in str(caught.value)) == (policy == "raise")
    bad.write_file(tmp_path / "in", 1, 1)
    if policy == "raise":
        bad.write_file(tmp_path / "in", 0, 2)
    done = cloudimg.migrate(lacking, copy, bad=policy, **LIST, **CELLS)
    assert done.n_done_before == 8 - n_left
    assert cloudimg.verify(copy, against_source=True)


def test_missing_files_of_a_list_are_filled_in_a_copy(lacking: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(lacking, copy, missing="fill", bad="fill", **LIST, **CELLS)
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    assert [(file.url, file.kind) for file in proof.filled] == [
        (lacking[5], "missing"),
        (lacking[2], "empty"),
    ]
