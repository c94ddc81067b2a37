"""Plates: files named by wells become OME-Zarr HCS, and collections open at their root."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v04 import HCS as HCS04
from ome_zarr_models.v04 import Image as Image04
from ome_zarr_models.v05 import HCS as HCS05
from ome_zarr_models.v05 import Image as Image05

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.layout import PLAN, PLAN_COPY
from cloudimg.migration.journal.sealing import seal, unsealed
from cloudimg.migration.journal.state_from_json import identity_of
from cloudimg.migration.plan.check_plan import check_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import Plate

OPERA = "Images/r{row}c{col}f{field}p{z}-ch{c}sk1fk1fl1.tiff"
IMAGED = [(1, 1), (1, 10), (2, 10)]
"""Rows and columns of the wells that have files, one fewer than rows times columns."""
RECORD = ".cloudimg/cells/0/000000000.json"

Array = np.ndarray[Any, Any]


def opera(folder: Path) -> dict[tuple[int, int, int], Array]:
    """Files as an Opera names them; the pixels by row, column and field."""
    rng = np.random.default_rng(1)
    images = {}
    (folder / "Images").mkdir(parents=True)
    for (row, col), field in product(IMAGED, (1, 2)):
        images[row, col, field] = rng.integers(1, 4000, (2, 2, 20, 24), np.uint16)
        for z, c in product((1, 2), (1, 2)):
            name = f"r{row:02}c{col:02}f{field:02}p{z:02}-ch{c}sk1fk1fl1.tiff"
            tifffile.imwrite(folder / "Images" / name, images[row, col, field][c - 1, z - 1])
    return images


def files(folder: Path, *names: str) -> dict[str, Array]:
    """A file of other pixels for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    for number, name in enumerate(names):
        images[name] = np.random.default_rng(number).integers(1, 255, (30, 32), np.uint8)
        tifffile.imwrite(folder / f"{name}.tif", images[name], photometric="minisblack")
    return images


def of_group(path: Path) -> dict[str, Any]:
    """Attributes of OME-Zarr of a group, in either format."""
    attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    return attributes.get("ome", attributes)


def wells_of(copy: Path) -> list[str]:
    return [well["path"] for well in of_group(copy)["plate"]["wells"]]


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_an_opera_plate(tmp_path: Path, zarr_format: Any) -> None:
    images, copy = opera(tmp_path / "in"), tmp_path / "copy.zarr"
    done = cloudimg.migrate(
        f"{tmp_path}/in/{OPERA}", copy, missing="fill", zarr_format=zarr_format, name="screen"
    )
    group = zarr.open_group(copy, mode="r")
    plate = (HCS05 if zarr_format == 3 else HCS04).from_zarr(group)  # type: ignore[attr-defined]

    assert plate.n_wells == 3
    assert of_group(copy)["plate"] == {
        "name": "screen",
        "version": "0.5" if zarr_format == 3 else "0.4",
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "10"}],
        "wells": [
            {"path": "A/1", "rowIndex": 0, "columnIndex": 0},
            {"path": "A/10", "rowIndex": 0, "columnIndex": 1},
            {"path": "B/10", "rowIndex": 1, "columnIndex": 1},
        ],
        "field_count": 2,
    }
    assert [each["path"] for each in of_group(copy / "B/10")["well"]["images"]] == ["0", "1"]
    for (row, col, field), pixels in images.items():
        path = f"{' AB'[row]}/{col}/{field - 1}"
        np.testing.assert_array_equal(np.asarray(group[f"{path}/0"]), pixels)
        assert (
            f"row={row}, col={col}, field={field}"
            in of_group(copy / path)["multiscales"][0]["name"]
        )
    assert len(of_group(copy / "OME")["series"]) == 6
    assert "the plate does not list 1 well without any file: B/1" in done.notes
    assert cloudimg.verify(copy, against_source=True)
    cloudimg.export(copy, tmp_path / "ome", layout="ome-tiff")
    exported = {path.name for path in (tmp_path / "ome").glob("*.tif")}
    assert exported == {f"{w}_{f}.ome.tif" for w, f in product(("A_1", "A_10", "B_10"), (0, 1))}
    with tifffile.TiffFile(tmp_path / "ome/B_10_1.ome.tif") as file:
        assert 'Name="screen row=2, col=10, field=2"' in str(file.ome_metadata)


def test_wells_with_names(tmp_path: Path) -> None:
    images, copy = files(tmp_path / "in", "B03", "B04", "AA12", "c03"), tmp_path / "copy.zarr"
    pattern = f"{tmp_path}/in/{{well:s}}.tif"
    assert "a plate of 4 wells" in str(cloudimg.dry_run(pattern))
    cloudimg.migrate(pattern, copy)
    HCS05.from_zarr(zarr.open_group(copy, mode="r"))
    assert sorted(wells_of(copy)) == ["AA/12", "B/03", "B/04", "c/03"]
    assert of_group(copy)["plate"]["field_count"] == 1
    np.testing.assert_array_equal(zarr.open_array(copy / "B/04/0/0", mode="r"), images["B04"])

    cloudimg.export(copy, tmp_path / "out")
    for name, pixels in images.items():
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"out/{name}.tif"), pixels)
    cloudimg.export(copy, tmp_path / "ome", layout="ome-tiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "ome/B_04_0.ome.tif"), images["B04"])


@pytest.mark.parametrize(
    ("names", "wells"),
    [
        (["r00c00", "r00c01", "r01c00"], ["00/00", "00/01", "01/00"]),  # not 00 and A
        (["r01c00", "r02c00"], ["A/00", "B/00"]),
        (["B03", "b04"], ["B/03", "B/04"]),
        (["B03", "B3", "C04"], None),
        (["B3", "B04", "C4"], ["B/3", "B/4", "C/4"]),
        (["b03", "r2c4"], ["B/03", "B/4"]),
    ],
)
def test_a_row_or_column_has_one_name(
    tmp_path: Path, names: list[str], wells: list[str] | None
) -> None:
    """However its wells spell it."""
    images, copy = files(tmp_path / "in", *names), tmp_path / "copy.zarr"
    done = cloudimg.migrate(f"{tmp_path}/in/{{well:s}}.tif", copy)
    if wells is None:
        assert any("two of its wells would have the same name" in note for note in done.notes)
        return
    assert sorted(wells_of(copy)) == wells
    for path, name in zip(wells, names, strict=True):
        np.testing.assert_array_equal(zarr.open_array(copy / path / "0/0", mode="r"), images[name])


def test_wells_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says which options make them axes."""
    images, copy = files(tmp_path, "a", "b", "c", "d"), tmp_path / "copy.zarr"
    wells = zip("abcd", ("A1", "A1", "B2", "B2"), "1212", strict=True)
    rows = ["url,well,field", *(f"{name}.tif,{well},{field}" for name, well, field in wells)]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    command = ["migrate", str(tmp_path / "table.csv"), str(copy)]
    assert main(command) == 4
    advised = "--axes field=field well=well"
    assert capsys.readouterr().err.strip().endswith(f"as in {advised}")
    assert main([*command, *advised.split()]) == 0
    assert wells_of(copy) == ["A/1", "B/2"]
    np.testing.assert_array_equal(zarr.open_array(copy / "B/2/0/0", mode="r"), images["c"])


def test_acquisitions_and_fields(tmp_path: Path) -> None:
    """Acquisition by acquisition, whatever the order of the axes in the names."""
    names = [f"{f}_{well}_run{r}" for f, well, r in product("123", ("A01", "A02"), "57")]
    images, copy = files(tmp_path / "in", *names), tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/in/{{site}}_{{well:s}}_run{{run}}.tif", copy)
    HCS05.from_zarr(zarr.open_group(copy, mode="r"))

    plate, well = of_group(copy)["plate"], of_group(copy / "A/02")["well"]
    assert plate["acquisitions"] == [
        {"id": 0, "name": "5", "maximumfieldcount": 3},
        {"id": 1, "name": "7", "maximumfieldcount": 3},
    ]
    assert [each["acquisition"] for each in well["images"]] == [0, 0, 0, 1, 1, 1]
    for i, (r, f) in enumerate(product("57", "123")):
        stored = zarr.open_array(copy / f"A/02/{i}/0", mode="r")
        np.testing.assert_array_equal(stored, images[f"{f}_A02_run{r}"])


@pytest.mark.parametrize(
    ("pattern", "names", "why"),
    [
        (
            "{well:s}_{f}",
            ["ctrl_1", "ctrl_2", "B03_1", "B03_2"],
            "'ctrl' is not the name of a well",
        ),
        ("{well:s}_{f}", ["B03_1", "B03_2", "B-03_1", "B-03_2"], "two of its wells"),
        ("{plate}_{well:s}", ["1_B03", "1_B04", "2_B03", "2_B04"], "the axis plate is neither"),
        ("{row:s}_{col}", ["top_1", "top_2", "low_1", "low_2"], "is not the name of a row"),
    ],
)
def test_what_is_no_plate_is_a_collection(
    tmp_path: Path, pattern: str, names: list[str], why: str
) -> None:
    files(tmp_path / "in", *names)
    source, copy = f"{tmp_path}/in/{pattern}.tif", tmp_path / "copy.zarr"
    done = cloudimg.migrate(source, copy)
    assert any(note.startswith("the copy is not a plate") and why in note for note in done.notes)
    assert of_group(copy / "OME")["series"] == list("0123")
    assert cloudimg.verify(copy, against_source=True)
    with pytest.raises(ArgumentError, match=r"plate=True, but the image is not a plate"):
        cloudimg.dry_run(source, plate=True)


def test_a_plate_only_where_it_is_wanted(tmp_path: Path) -> None:
    names = ["B03_1", "B03_2", "B04_1", "B04_2"]
    files(tmp_path / "in", *names)
    source, copy = f"{tmp_path}/in/{{well:s}}_{{f}}.tif", tmp_path / "copy.zarr"
    done = cloudimg.migrate(source, copy, plate=False)
    assert not any("plate" in note for note in done.notes)
    assert of_group(copy / "OME")["series"] == list("0123")
    main(["migrate", source, str(copy), "--no-plate"])
    with pytest.raises(ArgumentError, match=r"plate=False before, not given now"):
        cloudimg.migrate(source, copy)
    with pytest.raises(ArgumentError, match=r"plate='no' must be True or False"):
        cloudimg.migrate(source, copy, plate="no")  # type: ignore[typeddict-item]


def test_a_grid_may_be_no_plate(tmp_path: Path) -> None:
    files(tmp_path / "in", "1_1", "1_2", "2_1", "2_2")
    source = f"{tmp_path}/in/{{row}}_{{col}}.tif"
    assert any("plate=False copies" in note for note in cloudimg.dry_run(source).notes)
    assert not any("plate" in note for note in cloudimg.dry_run(source, plate=True).notes)


def test_a_collection_shows_its_first_image_at_its_root(tmp_path: Path) -> None:
    images, copy = files(tmp_path / "in", "1_a", "1_b", "2_a", "2_b"), tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/in/{{pos}}_{{kind:s}}.tif", copy)
    attributes, first = of_group(copy), of_group(copy / "0")
    path = attributes["multiscales"][0]["datasets"][0]["path"]
    np.testing.assert_array_equal(zarr.open_group(copy, mode="r")[path], images["1_a"])
    assert attributes["multiscales"][0]["name"] == first["multiscales"][0]["name"]
    assert attributes["omero"] == first["omero"]
    assert attributes["bioformats2raw.layout"] == 3


def test_a_killed_migration_of_a_plate_continues_and_is_repaired(tmp_path: Path) -> None:
    images, copy = files(tmp_path / "in", "B03_1", "B03_2", "B04_1"), tmp_path / "copy.zarr"
    source: Any = (f"{tmp_path}/in/{{well:s}}_{{f}}.tif", copy)
    cloudimg.migrate(*source, missing="fill")
    before = {
        p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and ".cloudimg" not in p.parts
    }
    for left in ("zarr.json", ".cloudimg/done.json", RECORD, "B/03/1/0/c/0/0"):
        (copy / left).unlink()
    done = cloudimg.migrate(*source, missing="fill")
    assert done.n_done_before == done.n_cells - 2
    assert before == {p: p.read_bytes() for p in before}

    (copy / "B/03/1/0/c/0/0").write_bytes(b"damage")
    (copy / "B/04/zarr.json").unlink()
    assert not cloudimg.verify(copy)
    cloudimg.repair(copy)
    assert before == {p: p.read_bytes() for p in before}
    np.testing.assert_array_equal(zarr.open_array(copy / "B/03/1/0", mode="r"), images["B03_2"])


def test_what_others_add_to_a_plate(tmp_path: Path) -> None:
    files(tmp_path / "in", "B03", "B04")
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/in/{{well:s}}.tif", copy)
    for theirs in (
        "B/03/0/labels/nuclei/zarr.json",
        "B/tables/counts/a.parquet",
        "C/05/0/zarr.json",
    ):
        (copy / theirs).parent.mkdir(parents=True)
        (copy / theirs).write_text("{}")
    found = cloudimg.verify(copy)
    assert found
    assert {edit.key for edit in found.edits} == {"B/03/0/labels/nuclei", "B/tables/counts", "C"}

    (copy / "B/04/0/0/c/7").mkdir()
    (copy / "B/04/0/0/c/7/7").write_bytes(b"a chunk")
    root = json.loads((copy / "zarr.json").read_text())
    del root["attributes"]["ome"]["plate"]["wells"][1]
    (copy / "zarr.json").write_text(json.dumps(root))
    problems = str(cloudimg.verify(copy))
    assert "B/04/0/0/c/7/7" in problems
    assert "plate does not name all wells" in problems


def test_migrations_that_began_without_plates_go_on_without(tmp_path: Path) -> None:
    """As an older version planned them: wells as an axis of one image."""
    files(tmp_path / "in", "B03", "B04")
    source, copy = f"{tmp_path}/in/{{well:s}}.tif", tmp_path / "copy.zarr"
    cloudimg.migrate(source, copy, plate=False)
    assert of_group(copy)["multiscales"][0]["axes"][0]["name"] == "well"
    plan = unsealed((copy / PLAN).read_bytes())
    assert plan is not None
    del plan["request"]["plate"]
    plan["id"] = identity_of(plan["plan"], plan["request"], plan["source"])
    for path in (PLAN, PLAN_COPY):
        (copy / path).write_bytes(seal(plan))
    shutil.rmtree(copy / ".cloudimg/cells")
    (copy / ".cloudimg/done.json").unlink()
    (copy / "zarr.json").unlink()
    cloudimg.migrate(source, copy)
    assert of_group(copy)["multiscales"][0]["axes"][0]["name"] == "well"
    assert cloudimg.verify(copy, against_source=True)


# ------------------------------------------------------------------------------ the overview


def tile(overview: Array, row: int, column: int, side: tuple[int, int]) -> Array:
    height, width = side
    return overview[..., row * height : (row + 1) * height, column * width : (column + 1) * width]


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_the_overview_of_a_plate(tmp_path: Path, zarr_format: Any) -> None:
    """Wells as on the plate, the fields of each in a row; the upper plane of two."""
    images, copy = opera(tmp_path / "in"), tmp_path / "copy.zarr"
    source = f"{tmp_path}/in/{OPERA}"
    options: dict[str, Any] = {"missing": "fill", "zarr_format": zarr_format, "overview": True}
    cloudimg.migrate(source, copy, **options)
    group = zarr.open_group(copy / "overview", mode="r")
    (Image05 if zarr_format == 3 else Image04).from_zarr(group)
    array = group["0"]
    assert array.shape == array.chunks == (2, 2 * 20, 4 * 24)
    overview = np.asarray(array)
    for (row, col, field), pixels in images.items():
        found = tile(overview, row - 1, 2 * (col == 10) + field - 1, (20, 24))
        np.testing.assert_array_equal(found, pixels[:, 1])
    assert not tile(overview, 1, 0, (20, 24)).any()  # no well B1

    assert cloudimg.verify(copy, against_source=True)
    (pixels_of_overview,) = (p for p in (copy / "overview/0").rglob("0") if p.is_file())
    before = pixels_of_overview.read_bytes()
    pixels_of_overview.write_bytes(before[::-1])
    assert "is not what was written" in str(cloudimg.verify(copy))
    cloudimg.repair(copy)
    assert pixels_of_overview.read_bytes() == before
    for left in (pixels_of_overview, copy / ".cloudimg/done.json"):  # killed before its end
        left.unlink()
    cloudimg.migrate(source, copy, **options)
    assert pixels_of_overview.read_bytes() == before
    assert cloudimg.verify(copy)


def test_an_overview_is_not_made_of_damaged_pixels(tmp_path: Path) -> None:
    """While the source is away, the pixels of the overview are the only good ones."""
    files(tmp_path / "in", "B03_1", "B03_2", "B04_1", "B04_2")
    copy = tmp_path / "copy.zarr"
    source = f"{tmp_path}/in/{{well:s}}_{{f}}.tif"
    cloudimg.migrate(source, copy, overview=True, codec="none", zarr_format=2)
    chunk, overview = copy / "B/04/1/0/0/0", copy / "overview/0/0/0"
    whole, before = chunk.read_bytes(), overview.read_bytes()
    chunk.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    (tmp_path / "in").rename(tmp_path / "away")
    assert "overview/0" not in str(cloudimg.verify(copy))
    left = cloudimg.repair(copy)
    assert left.problems
    assert "overview/0" not in str(left)
    assert overview.read_bytes() == before

    (tmp_path / "away").rename(tmp_path / "in")
    overview.write_bytes(before[::-1])
    assert not cloudimg.repair(copy).problems
    assert (chunk.read_bytes(), overview.read_bytes()) == (whole, before)


def test_the_overview_of_a_collection_is_made_of_reduced_images(tmp_path: Path) -> None:
    folder, copy = tmp_path / "in", tmp_path / "copy.zarr"
    folder.mkdir()
    for number, (pos, kind) in enumerate(product("123", "ab"), 1):
        pixels = np.full((200, 300), 10 * number, np.uint8)
        tifffile.imwrite(folder / f"{pos}_{kind}.tif", pixels, resolution=(2, 2), resolutionunit=3)
    cloudimg.migrate(f"{folder}/{{pos}}_{{kind:s}}.tif", copy, overview=True)
    overview = np.asarray(zarr.open_group(copy / "overview", mode="r")["0"])
    assert overview.shape == (2 * 25, 3 * 38)
    for number in range(6):
        assert (tile(overview, *divmod(number, 3), (25, 38)) == 10 * (number + 1)).all()
    (image,) = of_group(copy / "overview")["multiscales"]
    assert image["name"] == of_group(copy / "overview")["omero"]["name"] == "in overview"
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 5.0 * 8 * 1000
    assert cloudimg.verify(copy)


def test_an_overview_is_of_several_images(tmp_path: Path) -> None:
    files(tmp_path / "in", "a")
    with pytest.raises(ArgumentError, match=r"overview=True is for copies of several images"):
        cloudimg.dry_run(f"{tmp_path}/in/a.tif", overview=True)


# ---------------------------------------------------------------------------------- the plan


def test_each_image_has_a_path_of_its_own() -> None:
    lead = {"site": 3, "col": 12, "run": 2, "row": 8}
    plate = Plate(
        lead_dims=tuple(lead),
        lead_shape=tuple(lead.values()),
        well_dims=("row", "col"),
        acquisition_dim="run",
        wells=tuple(f"{row}/{col}" for row in "ABCDEFGH" for col in range(1, 13)),
        absent=(0, 95),
    )
    for image, (site, col, run, row) in enumerate(product(*map(range, lead.values()))):
        assert plate.path(image) == f"{'ABCDEFGH'[row]}/{col + 1}/{run * 3 + site}"
        assert plate.is_listed(image) is ((row, col) not in ((0, 0), (7, 11)))
    assert Plate.from_json(plate.to_json(), plate.lead_dims, plate.lead_shape) == plate


HOSTILE: list[Mapping[str, Any]] = [
    {"wells": ["../x", "B/04"]},
    {"wells": ["B/03", "B/03"]},
    {"wells": ["B/03", "b/03"]},
    {"wells": ["OME/1", "B/04"]},
    {"wells": ["B/03/0", "B/04"]},
    {"wells": ["B/", "B/04"]},
    {"wells": ["B/03"]},
    {"wells": "AB"},
    {"wells": [None, "B/04"]},
    {"well_dims": []},
    {"well_dims": ["z"]},
    {"well_dims": ["well", "f"]},
    {"well_dims": ["well", "well"]},
    {"acquisition_dim": "well"},
    {"acquisition_dim": ["f"]},
    {"absent": [2]},
    {"absent": [0, 1]},
    {"absent": [True]},
    {"more": 1},
]


@pytest.fixture(scope="module")
def stored_plan(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("plate")
    files(folder, "B03_1", "B03_2", "B04_1", "B04_2")
    return cloudimg.dry_run(f"{folder}/{{well:s}}_{{f}}.tif").to_json()["plan"]


def test_an_overview_that_takes_all_memory_is_refused(stored_plan: Any) -> None:
    source = {"dims": ["well", "f", "y", "x"], "shape": [2, 2, 30, 32], "dtype": "|u1"}
    check_plan(Plan.from_json({**stored_plan, "overview": 64}), source)
    for value in (0, 2000, True, "64"):
        with pytest.raises(ValueError, match=r"plan\.overview"):
            Plan.from_json({**stored_plan, "overview": value})
    many = {**stored_plan, "lead_shape": [2, 2**19], "overview": 64}
    with pytest.raises(ValueError, match=r"plan\.overview"):
        check_plan(Plan.from_json(many), {**source, "shape": [2, 2**19, 30, 32]})


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_plates_that_nobody_planned_are_refused(stored_plan: Any, change: Any) -> None:
    Plan.from_json(stored_plan)
    plan = deepcopy(stored_plan)
    plan["plate"].update(change)
    with pytest.raises(ValueError, match=r"plan\.plate"):
        Plan.from_json(plan)
