"""The table of files as a Parquet object."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.discovery.build_grid import GridBuilder, short_etag
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import changes_between
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.errors import CorruptFileError
from cloudimg.pattern import compile_pattern


@dataclass(frozen=True)
class Named:
    key: str
    size_bytes: int | None
    etag: str | None


FILES = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 12)),
    st.tuples(
        st.one_of(st.none(), st.integers(0, 2**40)), st.one_of(st.none(), st.sampled_from('ab"'))
    ),
    min_size=1,
)


def table(files: dict[tuple[int, int], tuple[int | None, str | None]]) -> FileTable:
    pattern = compile_pattern("t{t}/z{z:02d}.tif")
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, str))
    builder.add(Named(f"t{t}/z{z:02d}.tif", *facts) for (t, z), facts in files.items())
    return FileTable.of(builder.build(), str)


@given(FILES)
def test_a_table_survives_parquet(
    files: dict[tuple[int, int], tuple[int | None, str | None]],
) -> None:
    made = table(files)
    again = FileTable.from_parquet(made.to_parquet(), "x")
    assert again.to_parquet() == made.to_parquet()
    assert (again.axes, again.shape, again.has_own_names) == (made.axes, made.shape, True)
    assert len(again) == len(files)
    labels = [sorted({place[axis] for place in files}) for axis in (0, 1)]
    assert again.shape == tuple(map(len, labels))
    index = np.unravel_index(again.rows, again.shape)
    for row, (t, z) in enumerate(zip(*index, strict=True)):
        place = labels[0][t], labels[1][z]
        size, etag = files[place]
        assert again.keys[row].as_py() == f"t{place[0]}/z{place[1]:02d}.tif"
        assert again.sizes[row] == (-1 if size is None else size)
        assert again.etags[row] == short_etag(etag)
    assert not changes_between(made, again)


@given(FILES, FILES)
def test_all_changes_are_found(
    before: dict[tuple[int, int], tuple[int | None, str | None]],
    now: dict[tuple[int, int], tuple[int | None, str | None]],
) -> None:
    found = changes_between(table(before), table(now))
    assert found.n_added == len(now.keys() - before.keys())
    assert found.n_removed == len(before.keys() - now.keys())

    def differ(old: object, new: object) -> bool:
        return None not in (old, new) and old != new

    def short(etag: str | None) -> str | None:
        return etag and etag.strip('"')

    replaced = [
        place
        for place in before.keys() & now.keys()
        if differ(before[place][0], now[place][0])
        or differ(short(before[place][1]), short(now[place][1]))
    ]
    assert found.n_replaced == len(replaced)
    assert bool(found) == bool(found.n_added or found.n_removed or found.n_replaced)
    for n, names in (
        (found.n_added, found.added),
        (found.n_removed, found.removed),
        (found.n_replaced, found.replaced),
    ):
        assert len(names) == min(3, n)
        assert all(name in str(found) for name in names)


def test_names_without_secrets_are_marked() -> None:
    pattern = compile_pattern("https://h/z{z}.tif?sig={k:s}")
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, str))
    builder.add([Named("https://h/z1.tif?sig=SECRET", 5, None)])
    made = FileTable.of(builder.build(), lambda name: name.partition("?")[0])
    assert not made.has_own_names
    assert b"SECRET" not in made.to_parquet()
    assert not FileTable.from_parquet(made.to_parquet(), "x").has_own_names


@pytest.mark.parametrize(
    "change", [lambda d: d[:-9], lambda d: b"", lambda d: d.replace(b"axis.z", b"axis.q")]
)
def test_damaged_tables_are_refused(change) -> None:  # type: ignore[no-untyped-def]
    data = table({(0, 0): (1, "a")}).to_parquet()
    with pytest.raises(CorruptFileError, match="memory://t is damaged"):
        FileTable.from_parquet(change(data), "memory://t")


@pytest.mark.slow
def test_a_million_rows_are_small() -> None:
    pattern = compile_pattern("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, str))
    n = 0
    for c in range(2):
        for t in range(50):
            for x in range(10):
                builder.add(
                    Named(f"s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif", 2048, None)
                    for y in range(10)
                    for z in range(100)
                )
                n += 1000
    grid = builder.build()
    assert math.prod(grid.shape) == grid.n_files == n == 10**6
    columns = sum(
        column.nbytes for column in (grid.sizes, grid.etags, grid.present) if column is not None
    )
    assert columns <= 30 * n
    assert len(FileTable.of(grid, str).to_parquet()) < 3 * n


@pytest.mark.slow
def test_building_a_table_takes_no_object_for_each_file() -> None:
    """60 MB of a million files: the names of a batch are let go before the next one."""
    n = 200_000
    pattern = compile_pattern("s3://lab/exp/mydata_{t}t_{z}z.tif")
    builder = GridBuilder(pattern, UnmatchedCounter(pattern, str))
    tracemalloc.start()
    try:
        for t in range(n // 1000):
            builder.add(
                Named(f"s3://lab/exp/mydata_{t}t_{z}z.tif", 2048, None) for z in range(1000)
            )
        grid = builder.build()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grid.n_files == n
    assert peak <= 60 * n
