"""Small images, of which a cell and its commit record have several.

Forty files in two axes, each of which is an image: sixteen would be the fewest cells.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import BadFilesError
from cloudimg.migration.journal.layout import PLAN, PLAN_COPY
from cloudimg.migration.journal.sealing import seal, unsealed
from cloudimg.migration.journal.state_from_json import identity_of

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
N = (10, 4)
ARGUMENTS: dict[str, Any] = {"chunks": 16, "levels": 2}
N_CELLS = 20


def pixels() -> Array:
    found = np.random.default_rng(5).integers(1, 4000, (*N, 2, 24, 40), np.uint16)
    found[3, 1] = 0  # an empty image
    found[4, :, :, :16, :16] = 0  # empty chunks
    found[5, 2, 1] = 7  # a channel that is unlike those of its neighbours
    return found


@pytest.fixture
def archive(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    for a, b in np.ndindex(*N):
        axes = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
        tifffile.imwrite(tmp_path / f"in/i_{a}_{b}.ome.tif", pixels()[a, b], metadata=axes)
    return f"{tmp_path}/in/i_{{a}}_{{b}}.ome.tif"


def records(out: Path) -> list[Any]:
    return [unsealed(path.read_bytes()) for path in sorted((out / ".cloudimg/cells/0").iterdir())]


def stored(out: Path, number: int, level: int = 0) -> list[Path]:
    """What a cell stored at a level."""
    return [out / key for key, *_ in records(out)[number]["levels"][level]["objects"]]


def assert_is_copy(out: Path, expected: Array) -> None:
    for image, (a, b) in enumerate(np.ndindex(*N)):
        found = zarr.open_array(out / f"{image}/0", mode="r")
        np.testing.assert_array_equal(np.asarray(found[...]), expected[a, b])


def interrupted(source: str, out: Path, n_done: int, **arguments: Any) -> None:
    def stop(advance: Any) -> None:
        if advance.n_done == n_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cloudimg.migrate(source, out, progress=stop, **ARGUMENTS, **arguments)


@pytest.mark.parametrize("zarr_format", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_a_cell_has_several_images(archive: str, tmp_path: Path, zarr_format: int) -> None:
    out = tmp_path / "copy.zarr"
    planned = cloudimg.dry_run(archive, zarr_format=zarr_format, **ARGUMENTS)
    assert planned.cells == N_CELLS
    assert "20 cells of 2 images of" in str(planned)
    assert planned.cell_memory_bytes > 6 * pixels()[0, 0].nbytes  # 3.3 times both images
    done = cloudimg.migrate(archive, out, zarr_format=zarr_format, **ARGUMENTS)
    assert done.n_cells == N_CELLS
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == (planned.objects + planned.metadata_objects + planned.journal_objects)
    assert len(list((out / "originals").iterdir())) == len(records(out)) == N_CELLS
    assert_is_copy(out, pixels())
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert proof.n_compared == N_CELLS
    # The window of a channel is that of its image alone.
    group = zarr.open_group(out / str(5 * N[1] + 2), mode="r").attrs.asdict()
    channels = group.get("ome", group)["omero"]["channels"]
    assert [each["window"]["max"] <= 7 for each in channels] == [False, True]
    exported = tmp_path / "exported"
    cloudimg.export(out, exported)
    for a, b in np.ndindex(*N):
        found = tifffile.imread(exported / f"i_{a}_{b}.ome.tif")
        np.testing.assert_array_equal(found, pixels()[a, b])


def test_a_plate_has_three_objects_a_field(tmp_path: Path) -> None:
    """Group, array and shard; wells, and two objects for the cell of several fields."""
    n_wells, n_fields = 24, 9
    (tmp_path / "in").mkdir()
    for well, field in np.ndindex(n_wells, n_fields):
        name = f"{'AB'[well // 12]}{well % 12 + 1:02d}_f{field:02d}.tif"
        tifffile.imwrite(tmp_path / "in" / name, np.full((64, 64), well + field, np.uint16))
    out = tmp_path / "plate.zarr"
    done = cloudimg.migrate(f"{tmp_path}/in/{{well:s}}_f{{field}}.tif", out)
    assert done.n_cells == n_wells  # cells of all fields of a well
    files = [path for path in out.rglob("*") if path.is_file()]
    least = 3 * n_wells * n_fields + 2 * n_wells
    assert least <= len(files) <= least + n_wells + 12
    assert done.n_objects == n_wells * n_fields


def test_an_interrupted_copy_is_continued(archive: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    interrupted(archive, out, 3)
    n_before = len(records(out))
    assert n_before < N_CELLS
    before = {path: path.stat().st_ino for k in range(n_before) for path in stored(out, k)}
    # As if the process had been killed while it stored the objects of a cell.
    last = stored(out, 0)[-1]
    last.unlink()
    before.pop(last)
    min((out / ".cloudimg/cells/0").iterdir()).unlink()
    done = cloudimg.migrate(archive, out, **ARGUMENTS)
    assert done.n_done_before == n_before - 1
    assert before == {path: path.stat().st_ino for path in before}
    assert_is_copy(out, pixels())
    assert cloudimg.verify(out, against_source=True)


@pytest.mark.slow
def test_a_plan_of_an_older_version_is_continued(archive: str, tmp_path: Path) -> None:
    """It has a cell for each image."""
    out = tmp_path / "copy.zarr"
    interrupted(archive, out, 1)
    for path in [*out.glob("[0-9]*"), out / "originals", out / ".cloudimg/cells"]:
        shutil.rmtree(path)
    plan = unsealed((out / PLAN).read_bytes())
    assert plan is not None
    assert plan["plan"]["stages"][0].pop() == [1, 2]
    plan["id"] = identity_of(plan["plan"], plan["request"], plan["source"])
    for key in (PLAN, PLAN_COPY):
        (out / key).write_bytes(seal(plan))
    interrupted(archive, out, 5)
    done = cloudimg.migrate(archive, out, **ARGUMENTS)
    assert done.n_cells == 40
    assert 5 <= done.n_done_before < 40
    assert len(records(out)) == 40
    assert_is_copy(out, pixels())
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    stored(out, 7)[0].unlink()
    assert cloudimg.repair(out, from_source=True).mended
    assert cloudimg.verify(out)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "zarr_format"), [(0, 3), (1, 2)])
def test_one_damaged_object_is_found_and_mended(
    archive: str, tmp_path: Path, level: int, zarr_format: int
) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(archive, out, zarr_format=zarr_format, **ARGUMENTS)
    damaged = stored(out, 4, level)[-1]
    objects = [path for k in range(N_CELLS) for path in (*stored(out, k, 0), *stored(out, k, 1))]
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in objects}
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 1
    damaged.write_bytes(data)
    proof = cloudimg.verify(out)
    assert not proof
    assert any(problem.url == str(damaged) for problem in proof.problems), str(proof)
    assert {problem.cell for problem in proof.problems} == {(0, 4)}
    repaired = cloudimg.repair(out, from_source=level == 0)
    made_from = "its level 0" if level else "the source"
    assert [each for each in repaired.mended if "/cells/" in each] == [
        f".cloudimg/cells/0/000000004.json and its objects, from {made_from}"
    ]
    assert cloudimg.verify(out)
    assert damaged.read_bytes() == before.pop(damaged)[0]
    assert before == {path: (path.read_bytes(), path.stat().st_ino) for path in before}


def test_a_cell_that_cannot_be_mended_names_its_images(archive: str, tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(archive, out, **ARGUMENTS)
    stored(out, 4)[1].unlink()
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    repaired = cloudimg.repair(out, from_source=True)
    assert "images 8 to 9, level 0" in str(repaired.problems[0])


def test_bad_and_missing_files_are_filled(archive: str, tmp_path: Path) -> None:
    bad, gone = tmp_path / "in/i_2_1.ome.tif", tmp_path / "in/i_6_3.ome.tif"
    bad.write_bytes(bad.read_bytes()[:700])
    gone.unlink()
    out, expected = tmp_path / "copy.zarr", pixels()
    expected[2, 1] = expected[6, 3] = 0
    with pytest.raises(BadFilesError, match=r"1 of 20 cells was.*i_2_1\.ome\.tif"):
        cloudimg.migrate(archive, out, missing="fill", **ARGUMENTS)
    done = cloudimg.migrate(archive, out, missing="fill", bad="fill", **ARGUMENTS)
    assert done.n_done_before == N_CELLS - 1
    assert [(each.kind, each.n_files) for each in done.report.kinds] == [
        ("missing", 1), ("truncated", 1)
    ]  # fmt: skip
    assert_is_copy(out, expected)
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)


def test_only_cells_with_replaced_files_are_done_again(archive: str, tmp_path: Path) -> None:
    out, expected = tmp_path / "copy.zarr", pixels()
    interrupted(archive, out, 12)
    n_before = len(records(out))
    expected[0, 1] += 1
    axes = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "in/i_0_1.ome.tif", expected[0, 1], metadata=axes)
    done = cloudimg.migrate(archive, out, **ARGUMENTS)
    assert done.n_done_before == n_before - 1
    assert_is_copy(out, expected)


def test_arrays_of_dask(tmp_path: Path) -> None:
    out = tmp_path / "copy.zarr"
    array = da.from_array(pixels(), chunks=(3, 3, 2, 24, 40))
    done = cloudimg.to_zarr(array, out, dims=("a", "b", "c", "y", "x"), **ARGUMENTS)
    assert done.n_cells == N_CELLS
    assert_is_copy(out, pixels())
    assert cloudimg.verify(out, against_source=array)
