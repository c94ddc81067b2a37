"""Levels, units and places of copies by what headers state, or the user instead of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tifffile
import xarray
import zarr

import cloudimg
from cloudimg.cli.main import main as command_line
from cloudimg.errors import MismatchError
from cloudimg.migration.journal.layout import END_MARK
from tests.support import index_files, staged

MICROMETRE = "\u00b5m"


def volume(path: Path, shape: tuple[int, ...], **sizes: tuple[float, str]) -> Path:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, (size, unit) in sizes.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(path, np.zeros(shape, np.uint8), ome=True, metadata=metadata)
    return path


def copied(path: Path, **options: Any) -> tuple[list[tuple[int, ...]], dict[str, Any]]:
    """Shapes of the levels, and the multiscales."""
    copy = path.with_suffix(".zarr")
    cloudimg.migrate(path, copy, **options)
    assert cloudimg.verify(copy)
    ome = json.loads((copy / "zarr.json").read_bytes())["attributes"]["ome"]
    group: Any = zarr.open_group(copy, mode="r")
    (multiscale,) = ome["multiscales"]
    return [group[each["path"]].shape for each in multiscale["datasets"]], multiscale


def scale_of(multiscale: dict[str, Any], level: int = 0) -> dict[str, float]:
    transforms = multiscale["datasets"][level]["coordinateTransformations"]
    names = [axis["name"] for axis in multiscale["axes"]]
    return dict(zip(names, transforms[0]["scale"], strict=True))


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        # As fine as the plane: all axes are halved.
        (0.1, [(64, 64, 64), (32, 32, 32), (16, 16, 16)]),
        # Coarse: the plane is halved until its pixels are as large.
        (0.4, [(64, 64, 64), (64, 32, 32), (64, 16, 16), (32, 8, 8)]),
        (1.0, [(64, 64, 64), (64, 32, 32), (64, 16, 16)]),
        # Fine: z alone is halved first.
        (0.05, [(64, 64, 64), (32, 64, 64), (16, 32, 32)]),
    ],
)
def test_no_axis_is_halved_whose_pixels_are_coarser(
    tmp_path: Path, z: float, expected: list[tuple[int, ...]]
) -> None:
    sizes = {"X": (0.1, MICROMETRE), "Y": (0.1, MICROMETRE), "Z": (z, MICROMETRE)}
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64), **sizes)
    shapes, multiscale = copied(path, levels=len(expected))
    assert shapes == expected
    assert scale_of(multiscale)["z"] == z


def test_sizes_of_several_units_are_compared(tmp_path: Path) -> None:
    sizes = {"X": (100.0, "nm"), "Y": (100.0, "nm"), "Z": (1.0, MICROMETRE)}
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64), **sizes)
    assert copied(path, levels=2)[0][1] == (64, 32, 32)


def test_without_sizes_the_lengths_decide(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64))
    assert copied(path, levels=2)[0][1] == (32, 32, 32)
    thin = volume(tmp_path / "b.ome.tif", (8, 64, 64))
    assert copied(thin, levels=2)[0][1] == (8, 32, 32)


@pytest.mark.parametrize(
    ("sizes", "unit", "expected"),
    [
        ({"X": (325.0, "nm"), "Z": (2.0, MICROMETRE)}, "micrometer", {"x": 0.325, "z": 2}),
        ({"X": (3.0, "mm"), "Z": (2.0, "cm")}, "millimeter", {"x": 3, "z": 20}),
        ({"X": (2.0, "thou"), "Z": (2.0, "thou")}, "micrometer", {"x": 50.8, "z": 50.8}),
        ({"X": (2.0, "dm"), "Z": (3.0, "dm")}, "decimeter", {"x": 2, "z": 3}),
        ({"X": (2.0, "\u00c5"), "Z": (3.0, "nm")}, "angstrom", {"x": 2, "z": 30}),
    ],
)
def test_the_axes_of_space_have_one_unit(
    tmp_path: Path, sizes: dict[str, Any], unit: str, expected: dict[str, float]
) -> None:
    path = volume(tmp_path / "a.ome.tif", (4, 16, 16), **sizes, Y=sizes["X"])
    _, multiscale = copied(path)
    units = {axis["name"]: axis.get("unit") for axis in multiscale["axes"]}
    assert units == {"z": unit, "y": unit, "x": unit}
    found = scale_of(multiscale)
    assert found == {**expected, "y": expected["x"]}


def test_coordinates_of_arrays_get_one_unit_with_their_origin(tmp_path: Path) -> None:
    array = xarray.DataArray(
        np.zeros((4, 16), np.uint8),
        {
            "y": ("y", 100.0 + 50 * np.arange(4), {"units": "nm"}),
            "x": ("x", 0.5 + 0.25 * np.arange(16), {"units": "um"}),
        },
        ("y", "x"),
    )
    cloudimg.to_zarr(array, tmp_path / "a.zarr")
    ome = json.loads((tmp_path / "a.zarr/zarr.json").read_bytes())["attributes"]["ome"]
    (multiscale,) = ome["multiscales"]
    assert {axis["unit"] for axis in multiscale["axes"]} == {"micrometer"}
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [0.05, 0.25]
    assert translation["translation"] == [0.1, 0.5]


# ----------------------------------------------------------------------------- what is stated


def test_stated_sizes_count_before_headers(tmp_path: Path) -> None:
    """On the command line and in Python, which continue each other's copies."""
    sizes = {"X": (9.0, MICROMETRE), "Y": (9.0, MICROMETRE), "Z": (9.0, MICROMETRE)}
    path = volume(tmp_path / "a.ome.tif", (64, 64, 64), **sizes)
    copy = path.with_suffix(".zarr")
    words = ["--pixel-size", "x=100nm,y=0.1um", "--pixel-size", "z=1"]
    assert command_line(["migrate", str(path), str(copy), "--levels", "2", *words]) == 0
    shapes, multiscale = copied(path, levels=2, scale={"x": 100, "y": 0.1, "z": 1},
        units={"x": "nanometer", "y": "um", "z": "micron"})  # fmt: skip
    assert shapes[1] == (64, 32, 32)
    assert scale_of(multiscale) == {"z": 1, "y": 0.1, "x": 0.1}
    own: Any = zarr.open_group(copy, mode="r").attrs["cloudimg"]
    assert "pixel_size" not in own["attributes"]
    planned = json.loads((copy / ".cloudimg/plan.json").read_bytes())["request"]
    assert planned["pixel_size"] == {"x": "100nanometer", "y": "0.1micrometer", "z": "1micrometer"}
    plain = copied(volume(tmp_path / "b.ome.tif", (4, 16, 16)), pixel_size=0.5)[1]
    assert scale_of(plain) == {"z": 1, "y": 0.5, "x": 0.5}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--pixel-size", "x=3parrots"], "--pixel-size x=3parrots: 'parrots' is not a unit of"),
        (["--pixel-size", "-3"], "--pixel-size y=-3 must be greater than 0"),
        (["--pixel-size", "x=1e200"], "--pixel-size x=1e200 must be a number of at most 1e+100"),
        (["--pixel-size", "t=2"], "sizes of pixels along t: of the axes of the copy, z, y, x can"),
        (["--series", "all", "--pixel-size", "2"], "can be stated of one image"),
    ],
)
def test_sizes_that_cannot_be_are_errors_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 16, 16), np.uint8), metadata={"axes": "ZYX"})
    with tifffile.TiffWriter(tmp_path / "b.ome.tif") as file:
        for _ in range(2):
            file.write(np.zeros((16, 16), np.uint8))
    name = "b.ome.tif" if "--series" in words else "a.tif"
    for out in ([str(tmp_path / "a.zarr")], [str(tmp_path / "a.zarr"), "--dry-run"]):
        assert command_line(["migrate", str(tmp_path / name), *out, *words]) == 2
        assert problem in capsys.readouterr().err
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("words", ["0,325um", "x=0,325um", "z=1,5um", "x=1um,x=2um"])
def test_a_decimal_comma_or_an_axis_twice_is_not_taken_for_other_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    path, copy = str(volume(tmp_path / "a.ome.tif", (4, 16, 16))), tmp_path / "a.zarr"
    with pytest.raises(SystemExit) as stopped:
        command_line(["migrate", path, str(copy), "--pixel-size", words])
    assert stopped.value.code == 2
    assert "as in x=0.325um,z=2um" in capsys.readouterr().err
    assert not copy.exists()
    words = "2um,z=3um"
    assert command_line(["migrate", path, str(copy), "--pixel-size", words]) == 0
    multiscale: Any = zarr.open_group(copy, mode="r").attrs["ome"]["multiscales"][0]  # type: ignore[index,call-overload]
    assert scale_of(multiscale) == {"z": 3, "y": 2, "x": 2}


def test_a_copy_of_other_sizes_is_another_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(volume(tmp_path / "a.ome.tif", (4, 16, 16)))
    copy = str(tmp_path / "a.zarr")
    assert command_line(["migrate", path, copy, "--pixel-size", "z=2"]) == 0
    for words, now in (
        ([], "not given now"),
        (["--pixel-size", "z=3"], "--pixel-size z=3micrometer now"),
    ):
        capsys.readouterr()
        assert command_line(["migrate", path, copy, *words]) == 7
        assert f"--pixel-size z=2micrometer before, {now}" in capsys.readouterr().err
    assert command_line(["migrate", path, copy, "--pixel-size", "z=2.0micron"]) == 0


def test_sizes_that_differ_among_files_are_replaced_by_stated_ones(tmp_path: Path) -> None:
    for z, size in enumerate([0.5, 0.7]):
        data = staged.encode(np.zeros((16, 16), np.uint8), None, None, pixel=size)
        (tmp_path / f"z{z}.tif").write_bytes(data)
    pattern = f"{tmp_path}/z{{z}}.tif"
    allowed: dict[str, Any] = {"allow_differences": ["pixel_size"]}
    cloudimg.migrate(pattern, tmp_path / "a.zarr", **allowed)
    assert scale_of(multiscale_of(tmp_path / "a.zarr")) == {"z": 1, "y": 1, "x": 1}
    cloudimg.migrate(pattern, tmp_path / "b.zarr", pixel_size={"y": 0.6, "z": 2}, **allowed)
    found = multiscale_of(tmp_path / "b.zarr")
    assert scale_of(found) == {"z": 2, "y": 0.6, "x": 1}
    assert [axis.get("unit") for axis in found["axes"]] == ["micrometer", "micrometer", None]
    with pytest.raises(MismatchError, match="pixel size is x 0"):
        cloudimg.migrate(pattern, tmp_path / "c.zarr", pixel_size=0.6)


# ----------------------------------------------------------------------------- the stage


WELLS = {"A01": (0.0, 0.0), "B02": (9000.0, 4500.0)}
FIELDS = [(0.0, 0.0), (10.0, 15.0), (2.5, 35.0)]


@pytest.fixture
def plate(tmp_path: Path) -> str:
    """Fields of wells with positions in millimetres, of pixels of half a micrometre."""
    for well, (row, column) in WELLS.items():
        for field, (y, x) in enumerate(FIELDS):
            for c in range(2):
                data = staged.encode(
                    np.full((32, 48), field, np.uint16),
                    (row + y) / 1000, (column + x) / 1000, unit="mm",
                )  # fmt: skip
                (tmp_path / f"w{well}_f{field}_c{c}.tif").write_bytes(data)
    return f"{tmp_path}/w{{well:s}}_f{{f}}_c{{c}}.tif"


def multiscale_of(group: Path) -> dict[str, Any]:
    (found,) = json.loads((group / "zarr.json").read_bytes())["attributes"]["ome"]["multiscales"]
    return dict(found)


def places(copy: Path) -> dict[str, list[float]]:
    """The translation along y and x of each image of a copy."""
    found = {}
    for path in sorted(copy.rglob("zarr.json")):
        ome = json.loads(path.read_bytes()).get("attributes", {}).get("ome", {})
        for multiscale in ome.get("multiscales", []):
            first = multiscale["datasets"][0]["coordinateTransformations"]
            at = first[1]["translation"][-2:] if len(first) > 1 else [0.0, 0.0]
            found[str(path.parent.relative_to(copy))] = at
    return found


@pytest.mark.parametrize("validate", ["first", "all"])
def test_each_image_of_a_collection_lies_where_the_stage_was(
    tmp_path: Path, plate: str, validate: Any
) -> None:
    """Whether all headers are read at first, or each by the cell that copies the file."""
    copy = tmp_path / "a.zarr"
    cloudimg.migrate(plate, copy, validate=validate)
    expected = {
        f"{well[0]}/{well[1:]}/{field}": [row + y, column + x]
        for well, (row, column) in WELLS.items()
        for field, (y, x) in enumerate(FIELDS)
    }
    assert places(copy) == {key: pytest.approx(at) for key, at in expected.items()}
    assert cloudimg.verify(copy)
    documents = {path: path.read_bytes() for path in copy.rglob("zarr.json")}
    (copy / END_MARK).unlink()
    (copy / ".cloudimg/cells/0/000000000.json").unlink()
    cloudimg.migrate(plate, copy, validate=validate)
    assert {path: path.read_bytes() for path in documents} == documents


def test_headers_say_where_images_lie_of_which_a_table_says_something_else(
    tmp_path: Path, plate: str
) -> None:
    rows = [(well, field, 0) for well in WELLS for field in range(len(FIELDS))]
    table = pa.table(
        {
            "url": [f"{tmp_path}/w{well}_f{field}_c{c}.tif" for well, field, c in rows],
            "well": [well for well, _, _ in rows],
            "field": [field for _, field, _ in rows],
            "exposure_s": [0.5] * len(rows),
        }
    )
    cloudimg.migrate(table, tmp_path / "a.zarr", axes={"well": "well", "field": "field"})
    assert places(tmp_path / "a.zarr")["B/02/2"] == pytest.approx([9002.5, 4535])


def test_parts_lie_where_they_lie_in_their_image(tmp_path: Path, plate: str) -> None:
    part = cloudimg.open(plate, validate="all").sel(well="B02", f=1, x=slice(10, 20))
    part.sel(y=slice(4, None, 2)).to_zarr(tmp_path / "a.zarr")
    assert places(tmp_path / "a.zarr") == {".": pytest.approx([9010 + 2, 4515 + 5])}
    part.to_zarr(tmp_path / "b.zarr", pixel_size={"x": "1 um"}, translation={"y": 7})
    assert places(tmp_path / "b.zarr") == {".": pytest.approx([7, 4515 + 10])}


def test_positions_say_nothing_where_pixels_have_no_size(tmp_path: Path) -> None:
    data = staged.encode(np.zeros((16, 16), np.uint8), 5.0, 6.0, pixel=None)
    (tmp_path / "a.tif").write_bytes(data)
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert places(tmp_path / "a.zarr") == {".": [0, 0]}
    cloudimg.migrate(tmp_path / "a.tif", tmp_path / "b.zarr", pixel_size="200 nm")
    assert places(tmp_path / "b.zarr") == {".": [5000, 6000]}


@pytest.mark.parametrize(("flip", "rows"), [(None, [0, 9000]), ("y", [-10, -9010])])
def test_placed_fields_lie_where_their_corner_was(
    tmp_path: Path, plate: str, flip: Any, rows: list[float]
) -> None:
    """The corner of each well's plane, which is that of other fields along y and x."""
    cloudimg.migrate(plate, tmp_path / "a.zarr", place="stage", flip=flip)
    expected = {"A/01/0": [rows[0], 0], "B/02/0": [rows[1], 4500]}
    assert places(tmp_path / "a.zarr") == {key: pytest.approx(at) for key, at in expected.items()}


def test_the_first_file_says_where_the_planes_of_one_image_lie(tmp_path: Path) -> None:
    for t in range(2):
        for z in range(2):
            data = staged.encode(np.zeros((16, 16), np.uint8), 5.0 + t, 6.0)
            (tmp_path / f"t{t}_z{z}.tif").write_bytes(data)
    cloudimg.migrate(f"{tmp_path}/t{{t}}_z{{z}}.tif", tmp_path / "a.zarr")
    assert places(tmp_path / "a.zarr") == {".": [5, 6]}


def test_index_files_say_where_each_field_lies(tmp_path: Path) -> None:
    """Those of Harmony are in metres, and fall while rows are counted up."""
    planes = [(2, 3, field, z, 1) for field in (1, 2) for z in (1, 2)]
    for plane in planes:
        (tmp_path / index_files.harmony_name(*plane)).write_bytes(index_files.PLANE)
    index = index_files.harmony_index(planes, channels={1: "DAPI"})
    (tmp_path / "Index.idx.xml").write_bytes(index)
    pattern = f"{tmp_path}/r{{row}}c{{col}}f{{field}}p{{z}}-ch{{c}}sk1fk1fl1.tiff"
    cloudimg.migrate(pattern, tmp_path / "a.zarr")
    expected = {f"B/3/{number}": [200 * (number + 1), 100 * (number + 1)] for number in range(2)}
    assert places(tmp_path / "a.zarr") == {key: pytest.approx(at) for key, at in expected.items()}
