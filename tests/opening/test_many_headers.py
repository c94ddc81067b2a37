"""All headers of very many files: columns instead of an object for each, with the same report."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import BadFilesError
from cloudimg.reading.header_cache import HEADER_CACHE
from tests.support import seed

FEW, MANY = 300, 1000
MOST_BYTES = 30
"""Memory of a file beyond the columns of the listing."""


def write_equal(folder: Path, n_files: int) -> str:
    folder.mkdir()
    data = seed.encode(np.zeros((8, 8), np.uint8))
    for t in range(n_files):
        (folder / f"t{t}.tif").write_bytes(data)
    return f"{folder}/t{{t}}.tif"


def held_by(url: str, validate: str) -> tuple[int, int]:
    """Memory of an image, and the number of its objects that hold others."""
    HEADER_CACHE.forget()
    gc.collect()
    n_before = len(gc.get_objects())
    tracemalloc.start()
    try:
        image = cloudimg.open(url, validate=validate)
        HEADER_CACHE.forget()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0], len(gc.get_objects()) - n_before
        assert image.report.is_complete == (validate == "all")
        return held
    finally:
        tracemalloc.stop()


def held_in_all(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """What images of few and of many files hold, by `validate`."""
    urls = [write_equal(folder / str(n), n) for n in (FEW, MANY)]
    cloudimg.open(urls[0], validate="all")  # imports
    return {validate: [held_by(url, validate) for url in urls] for validate in ("first", "all")}


@pytest.mark.slow
def test_a_file_takes_a_few_bytes(tmp_path: Path) -> None:
    """In a process of its own, in which nothing else allocates meanwhile."""
    code = (
        "import json, pathlib, sys\n"
        "from tests.opening.test_many_headers import held_in_all\n"
        "print(json.dumps(held_in_all(pathlib.Path(sys.argv[1]))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"CLOUDIMG_MAX_REQUESTS": "4"},  # threads take memory, too
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
    )
    held = json.loads(done.stdout)
    grown = {name: few_and_many[1][0] - few_and_many[0][0] for name, few_and_many in held.items()}
    n_more = MANY - FEW
    assert grown["all"] - grown["first"] <= MOST_BYTES * n_more
    _, n_objects = held["all"][1]
    assert n_objects < MANY / 5


@pytest.mark.slow
def test_the_cache_of_headers_knows_what_it_takes(tmp_path: Path) -> None:
    url = write_equal(tmp_path / "in", FEW)
    cloudimg.open(url, validate="all")
    HEADER_CACHE.forget()
    gc.collect()
    tracemalloc.start()
    try:
        cloudimg.open(url, validate="all")
        with_cache = tracemalloc.get_traced_memory()[0]
        counted = HEADER_CACHE._used
        HEADER_CACHE.forget()
        gc.collect()
        taken = with_cache - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.7 * taken < counted < 1.5 * taken


# ------------------------------------------------------------------------------------- same report


def expected_odd(sizes: np.ndarray) -> set[tuple[int, int]]:
    """Tiles (y, x) without the most frequent height of their row, or width of their column.

    Of lengths that are equally frequent, that of the first file counts.
    """
    odd = set()
    for axis in (0, 1):
        for i in range(sizes.shape[axis]):
            lengths = np.take(sizes[..., axis], i, axis).tolist()
            usual = max(dict.fromkeys(lengths), key=lengths.count)
            odd |= {(i, k) if axis == 0 else (k, i) for k, n in enumerate(lengths) if n != usual}
    return odd


@pytest.mark.parametrize("number", range(8))
def test_odd_tiles_are_those_that_a_count_finds(tmp_path: Path, number: int) -> None:
    draw = np.random.default_rng(number)
    shape = tuple(draw.integers(2, 7, 2).tolist())
    sizes = np.empty((*shape, 2), np.int64)
    sizes[..., 0] = draw.integers(4, 4 + draw.integers(1, 4), (shape[0], 1))
    sizes[..., 1] = draw.integers(4, 4 + draw.integers(1, 4), (1, shape[1]))
    for _ in range(draw.integers(0, 4)):
        sizes[tuple(draw.integers(0, shape))] = draw.integers(4, 9, 2)
    for y, x in np.ndindex(shape):
        (tmp_path / f"y{y}_x{x}.tif").write_bytes(seed.encode(np.zeros(sizes[y, x], np.uint8)))
    odd = expected_odd(sizes)
    found = cloudimg.validate(tmp_path / "y{y}_x{x}.tif")
    assert {tuple(index) for index in np.argwhere(found.states).tolist()} == odd
    assert found.counts["odd"] == len(odd)
    if odd:
        with pytest.raises(BadFilesError) as caught:
            cloudimg.open(tmp_path / "y{y}_x{x}.tif", validate="all")
        assert caught.value.report == found.report


def test_equal_kinds_apart_from_each_other(tmp_path: Path) -> None:
    """Two kinds of headers in turns: each odd file is listed, in the order of the grid."""
    for t in range(40):
        dtype = np.uint16 if t % 3 else np.uint8
        (tmp_path / f"t{t}.tif").write_bytes(seed.encode(np.zeros((8, 8), dtype)))
    found = cloudimg.validate(tmp_path / "t{t}.tif")
    urls = [file.url for kind in found.report.kinds for file in kind.files]
    assert [url.rpartition("/t")[2] for url in urls] == [f"{t}.tif" for t in range(40) if t % 3]
