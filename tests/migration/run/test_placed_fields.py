"""Copies of fields that were placed where the stage was: made, resumed, verified, mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.layout import END_MARK, PLAN
from tests.support import staged

pytestmark = pytest.mark.slow

PIXEL = 0.5
SHAPE = (32, 48)
PLACES = [(0, 0), (20, 30), (5, 70)]
CELLS: dict[str, Any] = {"chunks": 16, "shards": {"c": 1, "y": 32, "x": 32}, "levels": 2}


def pixels_of(field: int, c: int) -> Any:
    return np.random.default_rng(10 * field + c).integers(1, 2**16, SHAPE, np.uint16)


def put(folder: Path, field: int, c: int, place: tuple[float, float]) -> None:
    data = staged.encode(pixels_of(field, c), PIXEL * place[0], PIXEL * place[1])
    (folder / f"in/f{field}_c{c}.tif").write_bytes(data)


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    for field, place in enumerate(PLACES):
        for c in range(2):
            put(tmp_path, field, c, place)
    return f"{tmp_path}/in/f{{field}}_c{{c}}.tif"


def canvas(blend: str) -> Any:
    return np.stack(
        [
            staged.canvas(
                {place: pixels_of(field, c) for field, place in enumerate(PLACES)},
                0, blend, (52, 118),
            )
            for c in range(2)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("blend", ["last", "mean"])
def test_a_copy_of_placed_fields(tmp_path: Path, source: str, blend: str) -> None:
    """Interrupted and resumed; the plan says how its source is opened again."""
    out = tmp_path / "copy.zarr"
    options = {"place": "stage", "blend": blend, **CELLS}
    cloudimg.migrate(source, out, **options)
    (out / END_MARK).unlink()
    records = sorted((out / ".cloudimg/cells/0").rglob("*.json"))
    for path in records[::2]:
        path.unlink()
    resumed = cloudimg.migrate(source, out, **options)
    assert 0 < resumed.n_done_before < resumed.n_cells
    np.testing.assert_array_equal(zarr.open(str(out))["0"][:], canvas(blend))
    recorded = json.loads((out / PLAN).read_bytes())["source"]["open"]
    assert (recorded["place"], recorded["blend"], recorded["flip"]) == ("stage", blend, None)
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    damaged = next(path for path in sorted((out / "0").rglob("*")) if path.is_file())
    damaged.write_bytes(b"x" * 100)
    assert cloudimg.repair(out, from_source=True)
    np.testing.assert_array_equal(zarr.open(str(out))["0"][:], canvas(blend))


def test_other_places_are_another_image(tmp_path: Path, source: str) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, place="stage", **CELLS)
    for options, difference in (
        ({"blend": "mean"}, "blend='last' before, blend='mean' now"),
        ({"flip": "x"}, "flip='x' now, not given before"),
    ):
        with pytest.raises(ArgumentError, match=difference):
            cloudimg.migrate(source, out, place="stage", **options, **CELLS)
    with pytest.raises(ArgumentError, match=r"axes were .* and are now"):
        cloudimg.migrate(source, out, place="stack")


def test_a_field_that_moved(tmp_path: Path, source: str) -> None:
    """Pixels are the same, their place is not: the migration does not go on."""
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, place="stage", **CELLS)
    (out / END_MARK).unlink()
    put(tmp_path, 1, 0, (20, 31))
    with pytest.raises(ArgumentError, match=r"files changed .* 1 file replaced"):
        cloudimg.migrate(source, out, place="stage", **CELLS)
    cloudimg.migrate(source, out, place="stage", **CELLS, overwrite=True)
    assert cloudimg.verify(out, against_source=True)
    put(tmp_path, 1, 0, (20, 32))
    changed = cloudimg.verify(out, against_source=True)
    assert not changed
    assert f"1 file replaced ({tmp_path}/in/f1_c0.tif)" in str(changed)


def test_originals_of_which_parts_are_hidden(tmp_path: Path, source: str) -> None:
    """They cannot be retired, and an export says what it lacks."""
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, place="stage", **CELLS)
    with pytest.raises(ArgumentError, match='made with place="stage", so it may lack parts'):
        cloudimg.retire(out, move_to=tmp_path / "away")
    exported = cloudimg.export(out, tmp_path / "exported", layout="originals")
    assert exported.n_files == 6
    assert 'pixels of 6 files: not written (the copy was made with place="stage"' in str(exported)
    stacked = tmp_path / "stacked.zarr"
    cloudimg.migrate(source, stacked, place="stack")
    assert not cloudimg.export(stacked, tmp_path / "all", layout="originals").not_written
