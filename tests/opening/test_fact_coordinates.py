"""What is known of each file is a coordinate along the axes along which it varies."""

from __future__ import annotations

import itertools
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import cloudimg
from cloudimg.cli.main import main
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS
from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.opening.fact_coordinates import fact_coordinates
from cloudimg.tiff.parsed import PlaneValues
from tests.reading.test_layout import layouts
from tests.support.clusters import local_client
from tests.support.fields import PLANE, ome, ome_stack, write_dataset
from tests.support.metering import Meter

NAN = float("nan")


def facts_of(image: cloudimg.Image) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Dims and values of the coordinates that are facts of files."""
    dims, coords = image.coord_dims, image.coords
    assert dims.keys() == coords.keys()
    lengths = dict(zip(image.dims, image.shape, strict=True))
    for name, values in coords.items():
        assert values.shape == tuple(lengths[dim] for dim in dims[name])
    names = [name for name in FACTS if name in coords and name not in image.dims]
    return {name: (dims[name], coords[name].tolist()) for name in names}


def plate(folder: Path) -> str:
    """Two wells of three fields, two channels and two times."""
    for well, field, c, t in itertools.product(range(2), range(3), range(2), range(2)):
        ome(
            folder / f"{'AB'[well]}{well + 1}_f{field}_c{c}_t{t}.ome.tif",
            t,
            PositionX=100 * well + field,
            PositionY=-2,
            PositionZ=3500 + 1000 * c,
            DeltaT=30.5 * t,
            ExposureTime=0.1 * (c + 1),
        )
    return f"{folder}/{{well:[A-B]\\d}}_f{{field}}_c{{c}}_t{{t}}.ome.tif"


# -------------------------------------------------------------------- files that are stacked


def test_each_fact_lies_along_the_axes_along_which_it_varies(tmp_path: Path) -> None:
    image = cloudimg.open(plate(tmp_path), validate="all")
    assert image.dims == ("well", "field", "t", "c", "y", "x")
    assert facts_of(image) == {
        "stage_x": (("well", "field"), [[0, 1000, 2000], [100_000, 101_000, 102_000]]),
        "stage_y": ((), -2000),
        "stage_z": (("c",), pytest.approx([3.5, 4.5])),
        "stage_unit": ((), "µm"),
        "acquired": (("t",), [datetime_of(0), datetime_of(1)]),
        "elapsed_s": (("t",), [0, 30.5]),
        "exposure_s": (("c",), [0.1, 0.2]),
        "channel": ((), "GFP"),
        "objective": ((), "Plan Apo 20x"),
        "magnification": ((), 20),
    }
    assert image.coords["acquired"].dtype == "datetime64[us]"
    assert image.coords["stage_x"].dtype == np.float64
    assert image.coords["objective"].dtype.kind == "U"
    # Labels are what they were.
    assert image.coords["well"].tolist() == ["A1", "B2"]
    assert image.coord_dims["well"] == ("well",)
    # What a fact of one file is, is no attribute; what all share may be one.
    assert not {"stage_position", "acquired", "elapsed_s"} & set(image.attrs)
    assert image.attrs["magnification"] == image.coords["magnification"]


def datetime_of(second: int) -> Any:
    return np.datetime64(f"2024-05-01T10:00:{second:02d}", "us").item()


def test_headers_that_were_not_read_make_no_coordinates(tmp_path: Path) -> None:
    image = cloudimg.open(plate(tmp_path))
    assert facts_of(image) == {}
    assert set(image.coords) == {"well", "field", "c", "t"}


def test_the_order_of_dims_is_that_of_the_image(tmp_path: Path) -> None:
    dims = ("t", "c", "field", "y", "x", "well")
    image = cloudimg.open(plate(tmp_path), validate="all", dims=dims)
    assert image.coord_dims["stage_x"] == ("field", "well")
    assert image.coords["stage_x"].tolist()[1] == [1000, 101_000]


def test_files_that_do_not_say_it_have_nan_and_those_that_are_not_there_do_not_count(
    tmp_path: Path,
) -> None:
    for c, t in itertools.product(range(3), range(3)):
        place = {"PositionX": t, "PositionY": 0} if c < 2 else {}
        ome(tmp_path / f"{c}_{t}.ome.tif", t, DeltaT=t, **place)
    (tmp_path / "0_0.ome.tif").unlink()
    (tmp_path / "1_2.ome.tif").write_bytes(b"II*\0")
    image = cloudimg.open(
        f"{tmp_path}/{{c}}_{{t}}.ome.tif", validate="all", missing="fill", bad="fill"
    )
    found = facts_of(image)
    assert found["elapsed_s"] == (("t",), [0, 1, 2])
    # Not a word of the third channel's place: it is not said to be that of the others.
    np.testing.assert_equal(
        found["stage_x"][1], [[NAN, 0, NAN], [1000, 1000, NAN], [2000, NAN, NAN]]
    )
    assert found["stage_x"][0] == ("t", "c")
    assert found["stage_unit"] == (("c",), ["µm", "µm", ""])


def test_a_bad_file_does_not_make_constants_vary(tmp_path: Path) -> None:
    for i in range(4):
        ome(tmp_path / f"{i}.ome.tif", i, ExposureTime=0.5)
    (tmp_path / "2.ome.tif").write_bytes(b"II*\0")
    image = cloudimg.open(f"{tmp_path}/{{i}}.ome.tif", validate="all", bad="fill")
    found = facts_of(image)
    assert found["exposure_s"] == ((), 0.5)
    assert found["acquired"][0] == ("i",)
    assert found["acquired"][1][2] is None
    # A file that was read and is silent does.
    tifffile.imwrite(tmp_path / "2.ome.tif", PLANE, metadata=None)
    image = cloudimg.open(f"{tmp_path}/{{i}}.ome.tif", validate="all")
    found = facts_of(image)
    assert found["objective"] == (("i",), ["Plan Apo 20x", "Plan Apo 20x", "", "Plan Apo 20x"])
    np.testing.assert_equal(found["exposure_s"], (("i",), [0.5, 0.5, NAN, 0.5]))


def test_times_are_utc_where_their_zone_is_known(tmp_path: Path) -> None:
    for i, zone in enumerate(("Z", "+02:00", "-05:30")):
        ome(tmp_path / f"{i}.ome.tif", 0, date=f"2024-05-01T10:00:00{zone}")
    found = facts_of(cloudimg.open(f"{tmp_path}/{{i}}.ome.tif", validate="all"))
    hours = [f"2024-05-01T{time}" for time in ("10:00", "08:00", "15:30")]
    assert found["acquired"][1] == [np.datetime64(hour, "us").item() for hour in hours]
    assert found["acquired_offset"] == (("i",), ["+00:00", "+02:00", "-05:30"])


def channels(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        ome(folder / "one", 0)
        data = (folder / "one").read_bytes()
        (folder / f"{i}.tif").write_bytes(data.replace(b'Name="GFP"', f'Name="{name}"'.encode()))


def test_names_of_channels_beside_their_numbers(tmp_path: Path) -> None:
    channels(tmp_path, ["DAP", "GFP", "RFP"])
    image = cloudimg.open(f"{tmp_path}/{{c}}.tif", validate="all")
    assert image.coords["c"].tolist() == [0, 1, 2]
    assert facts_of(image)["channel"] == (("c",), ["DAP", "GFP", "RFP"])


def test_names_of_channels_that_are_labels_are_not_repeated(tmp_path: Path) -> None:
    channels(tmp_path, ["DAP", "GFP"])
    for i, name in enumerate(("DAP", "GFP")):
        (tmp_path / f"{i}.tif").rename(tmp_path / f"{name}.tif")
    image = cloudimg.open(f"{tmp_path}/{{c:s}}.tif", validate="all")
    assert image.coords["c"].tolist() == ["DAP", "GFP"]
    assert "channel" not in image.coords


def test_a_label_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    for channel, elapsed_s in itertools.product(range(2), range(2)):
        ome(tmp_path / f"{channel}_{elapsed_s}.tif", 0, DeltaT=7.5)
    image = cloudimg.open(f"{tmp_path}/{{channel}}_{{elapsed_s}}.tif", validate="all")
    assert image.coords["channel"].tolist() == [0, 1]
    assert image.coords["elapsed_s"].tolist() == [0, 1]
    assert image.coord_dims["channel"] == ("channel",)


# ---------------------------------------------------------------------- files that are joined


def tiles(folder: Path) -> str:
    for t, y, x in itertools.product(range(2), range(2), range(3)):
        ome(
            folder / f"t{t}_y{y}_x{x}.ome.tif",
            10 * t,
            PositionX=x,
            PositionY=2 * y + 100 * t,
            DeltaT=60 * t + 3 * y + x,
            ExposureTime=0.1 + t,
        )
    return f"{folder}/t{{t}}_y{{y}}_x{{x}}.ome.tif"


def test_tiles_of_a_mosaic(tmp_path: Path) -> None:
    """What differs between tiles is that of the first one; it is left out if nothing else does."""
    image = cloudimg.open(tiles(tmp_path), validate="all")
    assert image.dims == ("t", "y", "x")
    found = facts_of(image)
    assert "stage_x" not in found
    assert found["stage_y"] == (("t",), [0, 100_000])
    assert found["elapsed_s"] == (("t",), [0, 60])
    assert found["acquired"] == (("t",), [datetime_of(0), datetime_of(10)])
    assert found["exposure_s"] == (("t",), [0.1, 1.1])
    assert found["stage_unit"] == ((), "µm")


def test_the_first_tile_is_the_first_that_is_there(tmp_path: Path) -> None:
    pattern = tiles(tmp_path)
    (tmp_path / "t1_y0_x0.ome.tif").unlink()
    found = facts_of(cloudimg.open(pattern, validate="all", missing="fill"))
    assert found["elapsed_s"] == (("t",), [0, 61])


def test_tiles_that_are_stacked_have_their_positions(tmp_path: Path) -> None:
    image = cloudimg.open(tiles(tmp_path), validate="all", place="stack")
    found = facts_of(image)
    assert found["stage_x"] == (("tile_x",), [0, 1000, 2000])
    assert found["stage_y"] == (("tile_y", "t"), [[0, 100_000], [2000, 102_000]])
    assert found["elapsed_s"][0] == ("tile_y", "tile_x", "t")


def test_fields_on_a_canvas_are_tiles(tmp_path: Path) -> None:
    for well, field in itertools.product(range(2), range(3)):
        ome_stack(
            tmp_path / f"w{well}_f{field}.ome.tif",
            {"Z": 2},
            lambda at, well=well, field=field: {
                "PositionX": 1000 * well + 30 * field,
                "PositionY": 5,
                "PositionZ": at["Z"] + 10 * well,
                **{f"Position{axis}Unit": "µm" for axis in "XYZ"},
            },
            pixel_um=1,
        )
    pattern = f"{tmp_path}/w{{well}}_f{{field}}.ome.tif"
    image = cloudimg.open(pattern, validate="all", place="stage")
    assert image.dims == ("well", "z", "y", "x")
    found = facts_of(image)
    assert found["stage_x"] == (("well",), [0, 1000])
    assert found["stage_y"] == ((), 5)
    assert found["stage_z"] == (("well", "z"), [[0, 1], [10, 11]])


def test_the_position_of_a_canvas_is_that_of_its_edges(tmp_path: Path) -> None:
    """The first field lies in the middle, and the one at the left was not taken again."""
    places = [(30, 0), (0, 20), (60, 10)]
    in_pixels = ' PositionXUnit="pixel" PositionYUnit="pixel"'
    for c, (field, (x, y)) in itertools.product(range(2), enumerate(places)):
        for well in range(2):
            name = f"w{well}_c{c}_f{field}.ome.tif"
            ome(tmp_path / name, 0, unit=in_pixels, PositionX=x + 1000 * well, PositionY=y)
    (tmp_path / "w1_c1_f1.ome.tif").unlink()
    pattern = f"{tmp_path}/w{{well}}_c{{c}}_f{{field}}.ome.tif"
    options = {"validate": "all", "missing": "fill", "place": "stage"}
    dims, values = facts_of(cloudimg.open(pattern, **options))["stage_x"]
    assert dims == ("well", "c")
    np.testing.assert_array_equal(values, [[0, 0], [1000, NAN]])


def test_facts_of_slabs_are_repeated_as_their_labels_are(tmp_path: Path) -> None:
    """Files of several planes that say nothing of each, the last one shorter."""
    for i, length in enumerate((3, 3, 2)):
        with tifffile.TiffWriter(tmp_path / f"{i}.tif") as tiff:
            for page in range(length):
                tiff.write(
                    PLANE,
                    metadata=None,
                    contiguous=False,
                    datetime=f"2024:05:01 1{i}:00:00" if page == 0 else None,
                )
    image = cloudimg.open(f"{tmp_path}/{{z}}.tif", validate="all", axes={"page": "z"})
    assert image.coords["z_label"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert image.coord_dims["acquired"] == ("z",)
    hours = [value.hour for value in image.coords["acquired"].tolist()]
    assert hours == [10, 10, 10, 11, 11, 11, 12, 12]


# ----------------------------------------------------------------------------------- any files


@st.composite
def archives(draw: Any) -> Any:
    """A layout, its grid, and what is known of each file and, within some, of each plane."""
    layout = draw(layouts())
    shape = [0] * layout.n_fields
    names = [""] * layout.n_fields
    for axis in layout.axes:
        if axis.field is not None:
            shape[axis.field], names[axis.field] = axis.count, axis.name
    n_files = math.prod(shape)
    present = np.array(draw(st.lists(st.booleans(), min_size=n_files, max_size=n_files)), bool)
    grid = FileGrid(
        fields=tuple(names),
        labels=tuple(tuple(range(length)) for length in shape),
        keys=Keys(None, (), None, None),
        present=None if present.all() else present.reshape(shape),
        sizes=np.zeros(n_files, np.int64),
        etags=None,
        digest="",
        has_versions=False,
        n_files=int(present.sum()),
    )
    inner = [a for a in layout.axes if a.file_axis is not None and a.name not in ("y", "x")]
    depends_on = set(draw(st.lists(st.sampled_from([*names, "none"]), max_size=2)))
    facts, said = FactColumns(), {}
    for position in np.flatnonzero(present).tolist():
        if not draw(st.integers(0, 9)):
            continue  # a bad file
        index = tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()
        seed = sum(i * 10**k for k, i in enumerate(index) if names[k] in depends_on)
        value = draw(st.sampled_from([seed, seed, seed, seed + 0.5, NAN]))
        along = [a for a in inner if draw(st.booleans())] if draw(st.booleans()) else []
        lengths = [a.extents[0 if a.field is None else index[a.field]] for a in along]
        axes = tuple(sorted(a.file_axis for a in along))
        lengths = [lengths[[a.file_axis for a in along].index(n)] for n in axes]
        planes = value + np.array(draw(st.sampled_from([0.0, 0.25]))) * np.arange(
            math.prod(lengths), dtype=float
        ).reshape(lengths)
        within = {"stage_x": PlaneValues(axes, planes)} if along else {}
        scalar = float(planes.ravel()[0])
        facts.add(position, {} if scalar != scalar else {"stage_x": scalar}, within)
        said[index] = (axes, planes)
    return layout, grid, facts, said


@given(archives())
def test_a_coordinate_says_what_each_file_says_and_no_axis_too_many(archive: Any) -> None:
    layout, grid, facts, said = archive
    found = fact_coordinates(layout, grid, facts, {}).get("stage_x")
    is_mosaic = any(
        axis.name in ("y", "x") and axis.field is not None and axis.count > 1
        for axis in layout.axes
    )
    if found is None:
        known = [planes for _, planes in said.values() if not np.isnan(planes).all()]
        assert is_mosaic or not known
        return
    lengths = dict(zip(layout.dims, layout.shape, strict=True))
    assert found.values.shape == tuple(lengths[dim] for dim in found.dims)
    # Each cell of all axes with what files say there, several for tiles.
    cells: dict[tuple[int, ...], list[float]] = {}
    for index, (numbers, planes) in said.items():
        region = layout.region_of(index)
        parts = [
            range(part.start, part.stop) if dim not in ("y", "x") else range(1)
            for dim, part in zip(layout.dims, region, strict=True)
        ]
        for cell in itertools.product(*parts):
            within = [0] * layout.n_file_axes
            for axis, step, part in zip(layout.axes, cell, region, strict=True):
                if axis.file_axis is not None:
                    within[axis.file_axis] = step - (part.start if axis.field is not None else 0)
            value = planes[tuple(within[n] for n in numbers)]
            cells.setdefault(cell, []).append(float(value))
    where = [layout.dims.index(dim) for dim in found.dims]
    for cell, values in cells.items():
        got = float(found.values[tuple(cell[i] for i in where)])
        if not is_mosaic:
            np.testing.assert_equal([got], values)
    if is_mosaic or "y" in found.dims:
        return
    # Without any one of its dims it would not.
    for dim in found.dims:
        rest = [i for i in where if layout.dims[i] != dim]
        groups: dict[tuple[int, ...], set[str]] = {}
        for cell, (value,) in cells.items():
            groups.setdefault(tuple(cell[i] for i in rest), set()).add(str(value + 0.0))
        assert any(len(values) > 1 for values in groups.values())


# ------------------------------------------------------------- planes of files and of datasets


def test_planes_of_one_file(tmp_path: Path) -> None:
    ome_stack(
        tmp_path / "a.ome.tif",
        {"T": 3, "C": 2, "Z": 4},
        lambda at: {
            "DeltaT": 10 * at["T"] + at["C"],
            "ExposureTime": 50 * (at["C"] + 1),
            "ExposureTimeUnit": "ms",
            "PositionX": 1,
            "PositionY": 2 + at["T"],
            "PositionZ": at["Z"],
            "PositionXUnit": "mm",
            "PositionYUnit": "µm",
        },
        channels=["DAPI", "GFP"],
    )
    image = cloudimg.open(tmp_path / "a.ome.tif")
    found = facts_of(image)
    assert found == {
        "stage_x": ((), 1000),
        "stage_y": (("t",), [2, 3, 4]),
        "stage_unit": ((), "µm"),  # the position along z has a unit that is not a length
        "acquired": ((), datetime_of(0)),
        "elapsed_s": (("t", "c"), [[0, 1], [10, 11], [20, 21]]),
        "exposure_s": (("c",), [0.05, 0.1]),
    }
    assert image.coords["c"].tolist() == ["DAPI", "GFP"]
    assert image.attrs["stage_position"]["y"] == 2  # that of the first plane


def test_planes_of_many_files_by_the_axes_of_both(tmp_path: Path) -> None:
    for field in range(3):
        ome_stack(
            tmp_path / f"{field}.ome.tif",
            {"T": 2, "Z": 2},
            lambda at, field=field: {
                "DeltaT": 100 * at["T"] + field,
                "PositionX": field,
                "PositionY": 0,
                "PositionZ": 5 * at["Z"] + field,
                **{f"Position{axis}Unit": "µm" for axis in "XYZ"},
            },
        )
    image = cloudimg.open(f"{tmp_path}/{{field}}.ome.tif", validate="all", axes={"t": "time"})
    assert image.dims == ("field", "time", "z", "y", "x")
    found = facts_of(image)
    assert found["elapsed_s"] == (("field", "time"), [[0, 100], [1, 101], [2, 102]])
    assert found["stage_x"] == (("field",), [0, 1, 2])
    assert found["stage_z"] == (("field", "z"), [[0, 5], [1, 6], [2, 7]])


def test_planes_of_files_that_are_joined(tmp_path: Path) -> None:
    """Parts of a time series, the last one shorter; one says nothing of a plane."""
    starts = (0, 3, 6)
    for i, length in enumerate((3, 3, 2)):
        ome_stack(
            tmp_path / f"{i}.ome.tif",
            {"T": length, "C": 2},
            lambda at, start=starts[i]: {
                "DeltaT": 10 * (start + at["T"]),
                **({"ExposureTime": 1 + at["C"]} if start + at["T"] != 4 else {}),
            },
        )
    image = cloudimg.open(f"{tmp_path}/{{t}}.ome.tif", validate="all")
    assert image.shape[:2] == (8, 2)
    found = facts_of(image)
    assert found["elapsed_s"] == (("t",), [10 * t for t in range(8)])
    expected = [[NAN, NAN] if t == 4 else [1, 2] for t in range(8)]
    np.testing.assert_equal(found["exposure_s"], (("t", "c"), expected))


def series_in_parts(folder: Path) -> str:
    """Time series of three fields, each in three files, the last one shorter."""
    for field, (start, length) in itertools.product(range(3), ((0, 3), (3, 3), (6, 2))):
        ome_stack(
            folder / f"f{field}_t{start}.ome.tif",
            {"T": length, "C": 2},
            lambda at, field=field, start=start: {
                "DeltaT": 10 * (start + at["T"]) + field,
                "ExposureTime": 1 + at["C"],
                "PositionX": field,
                "PositionY": at["C"],
            },
        )
    return f"{folder}/f{{field}}_t{{t}}.ome.tif"


def test_a_selection_has_the_coordinates_of_its_part(tmp_path: Path) -> None:
    image = cloudimg.open(series_in_parts(tmp_path), validate="all")
    dims, coords = image.coord_dims, image.coords
    assert dims["elapsed_s"] == ("field", "t")
    for field, t, c in itertools.product(
        (slice(None), slice(1, 3), 2), (slice(None), slice(1, 7), slice(6, 8), 4), (slice(None), 1)
    ):
        at = {"field": field, "t": t, "c": c}
        part = image.isel(at)
        for name in ("elapsed_s", "exposure_s", "stage_x", "stage_y"):
            expected = coords[name][tuple(at[dim] for dim in dims[name])]
            left = [dim for dim in dims[name] if isinstance(at[dim], slice)]
            found = part.coords[name]
            # It lies along fewer dims where the part does not vary.
            for number, dim in enumerate(left):
                if dim not in part.coord_dims[name]:
                    found = np.expand_dims(found, number)
            np.testing.assert_array_equal(np.broadcast_to(found, expected.shape), expected)


def test_planes_of_a_file_of_another_length(tmp_path: Path) -> None:
    """A bad file, whose pixels are filled, says nothing of the planes of the image."""
    for i, length in enumerate((3, 2, 3)):
        ome_stack(tmp_path / f"{i}.ome.tif", {"T": length}, lambda at: {"DeltaT": 5 + at["T"]})
    image = cloudimg.open(f"{tmp_path}/{{i}}.ome.tif", validate="all", bad="fill")
    found = facts_of(image)
    expected = [[5, 6, 7], [NAN] * 3, [5, 6, 7]]
    np.testing.assert_equal(found["elapsed_s"], (("i", "t"), expected))


def test_rounds_with_channels_of_their_own(tmp_path: Path) -> None:
    names = [["DAPI", "CD3"], ["DAPI", "CD8"], ["DAPI", "CD20"]]
    for i, of_round in enumerate(names):
        ome_stack(tmp_path / f"{i}.ome.tif", {"C": 2}, lambda _: None, channels=of_round)
    image = cloudimg.open(f"{tmp_path}/{{cycle}}.ome.tif", validate="all")
    assert "c" not in image.coords
    assert facts_of(image)["channel"] == (("cycle", "c"), names)


def test_planes_that_are_not_named(tmp_path: Path) -> None:
    """One plane without a word does not matter; a channel of which nothing is said does."""

    def said(at: Any) -> dict[str, object] | None:
        return {"ExposureTime": 2, "DeltaT": at["T"]} if at not in ({"T": 1, "C": 0},) else None

    ome_stack(tmp_path / "a.ome.tif", {"T": 3, "C": 2}, said)
    found = facts_of(cloudimg.open(tmp_path / "a.ome.tif"))
    assert found["exposure_s"] == ((), 2)
    assert found["elapsed_s"] == (("t",), [0, 1, 2])
    ome_stack(tmp_path / "a.ome.tif", {"T": 3, "C": 2}, lambda at: said(at) if at["C"] else None)
    found = facts_of(cloudimg.open(tmp_path / "a.ome.tif"))
    np.testing.assert_equal(found["exposure_s"], (("c",), [NAN, 2]))


def test_planes_that_the_file_does_not_have(tmp_path: Path) -> None:
    """Metadata of another image: only what holds for the first plane is said."""
    ome_stack(tmp_path / "a.ome.tif", {"T": 2}, lambda at: {"TheT": 5 * at["T"], "DeltaT": at["T"]})
    data = (tmp_path / "a.ome.tif").read_bytes()
    assert data.count(b'TheT="5"') == 1
    assert facts_of(cloudimg.open(tmp_path / "a.ome.tif"))["elapsed_s"] == ((), 0)


def test_a_multi_file_dataset_says_it_of_each_plane(
    meter: Meter, bucket: str, tmp_path: Path
) -> None:
    """From the OME-XML that is read anyway: no header besides that of the first file."""
    write_dataset(tmp_path, still=False)
    for path in tmp_path.iterdir():
        meter.put(bucket, path.name, path.read_bytes())
    with meter.measure() as traffic:
        image = cloudimg.open(f"s3://{bucket}/t0.ome.tif", storage_options=meter.storage_options)
        found = facts_of(image)
    assert traffic.gets <= 2
    assert found["stage_x"] == (("t",), [0, 1, 2])
    assert found["stage_z"] == (("z",), [0, 1, 2, 3])
    assert found["elapsed_s"] == (("t", "c"), [[10 * t + c for c in range(2)] for t in range(3)])
    assert found["exposure_s"] == (("c",), pytest.approx([0.1, 0.2]))
    assert found["acquired"] == ((), np.datetime64("2024-05-01T10:00", "us").item())


# ------------------------------------------------------------------------------------ elsewhere


def test_coordinates_do_not_travel_with_an_image(tmp_path: Path) -> None:
    image = cloudimg.open(plate(tmp_path), validate="all")
    before = pickle.dumps(image)
    coords = image.coords
    assert len(pickle.dumps(image)) == len(before)
    again = pickle.loads(before)
    assert again.coord_dims == image.coord_dims
    for name, values in coords.items():
        np.testing.assert_array_equal(again.coords[name], values)


@pytest.mark.slow
def test_a_cluster_finds_the_same(tmp_path: Path) -> None:
    """Planes of more files than one block has."""
    for i in range(530):
        ome_stack(
            tmp_path / f"{i // 53}_{i % 53:02d}.ome.tif",
            {"Z": 2},
            lambda at, i=i: {"DeltaT": i + at["Z"] / 4, "ExposureTime": 1 + i // 53},
        )
    pattern = f"{tmp_path}/{{a}}_{{b:02d}}.ome.tif"
    here = cloudimg.open(pattern, validate="all")
    with local_client() as client:
        there = cloudimg.open(pattern, validate="all", client=client)
    assert facts_of(there) == facts_of(here)
    assert here.coord_dims["elapsed_s"] == ("a", "b", "z")
    assert here.coord_dims["exposure_s"] == ("a",)


def test_xarray_selects_by_them(tmp_path: Path) -> None:
    array = cloudimg.open(plate(tmp_path), validate="all").to_xarray()
    assert array.coords["stage_x"].dims == ("well", "field")
    picked = array.isel(well=1, field=2)
    assert picked.coords["stage_x"].item() == 102_000
    assert array.coords["objective"].item() == "Plan Apo 20x"
    assert array.coords["stage_x"].attrs == {"units": "µm"}
    assert array.coords["exposure_s"].attrs == {"units": "s"}
    array.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    import xarray

    with xarray.open_dataarray(tmp_path / "a.nc", engine="h5netcdf") as again:
        xarray.testing.assert_identical(again.load(), array.compute())


# ----------------------------------------------------------------------------------------- info


def test_info_has_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pattern = plate(tmp_path)
    ome(tmp_path / "B2_f2_c1_t1.ome.tif", 1, PositionX=102, PositionY=-2)
    main(["info", pattern, "--validate", "all"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    start = lines.index(next(line for line in lines if line.startswith("facts")))
    assert lines[start : start + 2] == [
        "facts stage_x (well, field) 0 ... 102000 µm",
        "stage_y -2000 µm",
    ]
    assert "elapsed_s (well, field, t, c) 0 ... 30.5 s (not known of 1 of 24)" in lines
    assert "acquired (t) 2024-05-01T10:00:00 ... 2024-05-01T10:00:01" in lines
    assert "objective Plan Apo 20x" in lines


def test_info_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", plate(tmp_path), "--validate", "all", "--json"])
    found = json.loads(capsys.readouterr().out)["coordinates"]
    assert list(found) == [name for name in FACTS if name in found]
    assert found["exposure_s"] == {
        "dims": ["c"],
        "unit": "s",
        "n_values": 2,
        "n_known": 2,
        "range": [0.1, 0.2],
        "values": [0.1, 0.2],
    }
    assert found["stage_x"]["unit"] == "µm"
    assert found["acquired"]["range"] == ["2024-05-01T10:00:00", "2024-05-01T10:00:01"]
    assert found["objective"]["values"] == ["Plan Apo 20x"]
    assert found["objective"]["range"] is None
    main(["info", plate(tmp_path), "--json"])
    assert json.loads(capsys.readouterr().out)["coordinates"] == {}


# --------------------------------------------------------------------------------- real files


def test_real_metaxpress_acquisition(corpus: Path) -> None:
    """Against the properties that the files hold, found by their names."""
    folder = corpus / "acquisitions/metaxpress/TimePoint_1"
    pattern = f"{folder}/ZStep_{{z}}/9987_{{well:[A-P]\\d{{2}}}}_s{{field}}_w{{c}}.TIF"
    image = cloudimg.open(pattern, exclude="ZStep_0/*", validate="all")
    assert image.coord_dims["stage_x"] == ("well", "field")
    assert image.coord_dims["stage_y"] == ()
    assert image.coord_dims["channel"] == ("c",)
    assert image.coords["channel"].tolist() == ["DAPI", "FITC", "Texas Red"]
    for file in image.files:
        text = Path(file.url).read_bytes().decode("latin-1")

        def said(name: str, text: str = text) -> str:
            return text.partition(f'id="{name}"')[2].partition('value="')[2].partition('"')[0]

        at = file.index
        names = {"x": "stage-position-x", "y": "stage-position-y", "z": "z-position"}
        for dim, name in names.items():
            assert at_file(image, f"stage_{dim}", at) == float(said(name))
        assert at_file(image, "channel", at) == said("_IllumSetting_")
        assert at_file(image, "exposure_s", at) * 1000 == float(said("Exposure Time")[:-3])


def at_file(image: cloudimg.Image, name: str, index: Any) -> Any:
    """The value of a coordinate at a file."""
    return image.coords[name][tuple(index[dim] for dim in image.coord_dims[name])].item()


def test_one_file_of_each_kind_that_says_something(corpus: Path) -> None:
    """A file alone has its facts as coordinates, as its attributes have them."""
    paths = [
        *sorted(corpus.glob("files/fmi-faim_faim-ipa/*_C07_s1_w2DEF08320*.tif")),
        corpus / "files/micro-manager_NDTiffStorage/ndtiffv3.0_test_NDTiffStack.tif",
        corpus / "files/openslide_openslide-python/small.svs",
        corpus / "files/python-microscopy_python-microscopy/psf_astig.tif",
    ]
    for path in paths:
        image = cloudimg.open([path])
        attrs, found = image.attrs, facts_of(image)
        assert found, path
        for name in ("elapsed_s", "exposure_s", "magnification", "objective"):
            assert found.get(name, ((), None))[1] == attrs.get(name), path
        if "acquired" in attrs:
            assert found["acquired"][1].isoformat() == attrs["acquired"]
        for dim, value in attrs.get("stage_position", {}).items():
            assert found[f"stage_{dim}"] == ((), value)
