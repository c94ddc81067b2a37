"""Properties of `cloudimg.discovery.grid`."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.discovery.build_grid import GridBuilder
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.errors import DuplicateIndexError
from cloudimg.pattern import compile_pattern


@dataclass(frozen=True)
class Named:
    key: str
    size_bytes: int | None
    etag: str | None = "e"


def build(pattern: str, keys: list[str]) -> FileGrid:
    builder = GridBuilder(compile_pattern(pattern), UnmatchedCounter(compile_pattern(pattern), str))
    builder.add([Named(key, len(key)) for key in keys])
    return builder.build()


@given(
    places=st.sets(
        st.tuples(st.integers(0, 2000), st.sampled_from("ABC"), st.integers(0, 12)), min_size=1
    ),
    seed=st.integers(0, 2**16),
    padded=st.booleans(),
    wild=st.booleans(),
)
def test_grid_finds_every_file_again(
    places: set[tuple[int, str, int]], seed: int, padded: bool, wild: bool
) -> None:
    def name(z: int, well: str, t: int) -> str:
        guid = f"-{z * 7919 % 1000:x}" if wild else ""
        return (
            f"exp/{well}/t{t}_z{z:04d}{guid}.tif" if padded else f"exp/{well}/t{t}_z{z}{guid}.tif"
        )

    keys = [name(*place) for place in places]
    random.Random(seed).shuffle(keys)
    field = "{z:04d}" if padded else "{z}"
    grid = build(f"exp/{{well:s}}/t{{t}}_z{field}{'-*' if wild else ''}.tif", keys)
    assert grid.fields == ("well", "t", "z")
    assert grid.n_files == len(places)
    assert grid.labels[0] == tuple(sorted({p[1] for p in places}))
    assert grid.labels[1] == tuple(sorted({p[2] for p in places}))
    assert grid.labels[2] == tuple(sorted({p[0] for p in places}))
    found = set()
    for index in grid.files():
        well, t, z = (labels[i] for labels, i in zip(grid.labels, index, strict=True))
        assert grid.keys(index) == name(z, well, t)  # type: ignore[arg-type]
        assert grid.size_of(index) == len(grid.keys(index))
        assert grid.is_present(index)
        found.add((z, well, t))
    assert found == places
    holes = set(grid.missing())
    assert len(holes) == grid.n_missing == math.prod(grid.shape) - len(places)
    assert not any(grid.is_present(hole) for hole in holes)
    # Names are kept only where the pattern cannot make them.
    assert (grid.keys.names is not None) == wild
    for axis in range(3):
        last = grid.last_along(axis, grid.shape[axis] - 1)
        assert last is not None
        assert grid.is_present(last)
        assert last[axis] == grid.shape[axis] - 1


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30))
def test_grid_refuses_duplicates(numbers: list[int]) -> None:
    keys = [f"a{i}_z{z}.tif" for i, z in enumerate(numbers)]
    if len(set(numbers)) == len(numbers):
        assert build("a*_z{z}.tif", keys).n_files == len(numbers)
    else:
        with pytest.raises(DuplicateIndexError, match=r"a\d+_z(\d+)\.tif and a\d+_z\1\.tif"):
            build("a*_z{z}.tif", keys)


def test_the_digest_sees_every_change() -> None:
    def digest(*files: Named) -> str:
        builder = GridBuilder(
            compile_pattern("z{z}"), UnmatchedCounter(compile_pattern("z{z}"), str)
        )
        builder.add(files)
        return builder.build().digest

    base = digest(Named("z1", 5, "a"), Named("z2", 5, "a"))
    assert digest(Named("z1", 5, "a"), Named("z2", 5, "a")) == base
    assert digest(Named("z1", 5, "a"), Named("z2", 6, "a")) != base
    assert digest(Named("z1", 5, "a"), Named("z2", 5, "b")) != base
    assert digest(Named("z1", 5, "a"), Named("z3", 5, "a")) != base
