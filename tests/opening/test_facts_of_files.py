"""What is known of each file and may differ is a column of the table of files."""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tifffile

import cloudimg
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS
from cloudimg.discovery.facts_of_attributes import facts_in
from cloudimg.discovery.table import FileTable
from tests.support.clusters import local_client
from tests.support.fields import PLANE, ome, write_dataset
from tests.support.metering import Meter


def table_of(image: cloudimg.Image) -> FileTable:
    """The table of the files of an image, as a copy stores it, after a round trip."""
    opened = image._opened
    table = FileTable.of(opened.grid, str, opened.sources[0].files.pages, opened.inspection.facts)
    again = FileTable.from_parquet(table.to_parquet(), "table")
    assert again.to_parquet() == table.to_parquet()
    for name, column in table.facts.items():
        assert again.facts[name].type == column.type
        assert again.facts[name].to_pylist() == column.to_pylist()
    return again


def facts_of(image: cloudimg.Image) -> dict[str, list[Any]]:
    return {name: column.to_pylist() for name, column in table_of(image).facts.items()}


def test_facts_of_every_file(tmp_path: Path) -> None:
    for i in range(4):
        ome(
            tmp_path / f"a_{i}.ome.tif",
            i,
            PositionX=1.5 * i,
            PositionY=-2,
            PositionZ=3500 + i,
            DeltaT=0.25 * i,
            ExposureTime=0.02,
        )
    image = cloudimg.open(f"{tmp_path}/a_{{i}}.ome.tif", validate="all")
    found = facts_of(image)
    assert found == {
        "stage_x": [0, 1500, 3000, 4500],
        "stage_y": [-2000] * 4,
        "stage_z": [pytest.approx(3.5 + i / 1000) for i in range(4)],
        "stage_unit": ["µm"] * 4,
        "acquired": [datetime(2024, 5, 1, 10, 0, i) for i in range(4)],
        "elapsed_s": [0, 0.25, 0.5, 0.75],
        "exposure_s": [0.02] * 4,
        "channel": ["GFP"] * 4,
        "objective": ["Plan Apo 20x"] * 4,
        "magnification": [20] * 4,
    }
    types = {name: column.type for name, column in table_of(image).facts.items()}
    assert types["stage_x"] == pa.float64()
    assert types["acquired"] == pa.timestamp("us")
    assert types["channel"] == pa.dictionary(pa.int32(), pa.string())
    # What is equal in all files is an attribute, what is of one file is not.
    assert image.attrs["objective"] == "Plan Apo 20x"
    assert image.attrs["exposure_s"] == 0.02
    assert not {"stage_position", "stage_position_unit", "acquired", "elapsed_s"} & set(image.attrs)
    # The first header alone says nothing of the others.
    assert facts_of(cloudimg.open(f"{tmp_path}/a_{{i}}.ome.tif")) == {}


def test_one_file_keeps_its_facts_as_attributes(tmp_path: Path) -> None:
    place = {"PositionX": 1, "PositionY": 2, "PositionZ": 3, "DeltaT": 4, "ExposureTime": 5}
    ome(tmp_path / "a.ome.tif", 0, **place)
    attrs = cloudimg.open(tmp_path / "a.ome.tif").attrs
    assert attrs["stage_position"] == {"x": 1, "y": 2, "z": 3}
    assert attrs["stage_position_unit"] == {"x": "mm", "y": "mm", "z": "nm"}
    assert (attrs["elapsed_s"], attrs["exposure_s"]) == (4, 5)


def test_files_that_say_less_and_files_that_are_not_there(tmp_path: Path) -> None:
    """A null is what no header says: of files that are missing, bad or silent."""
    ome(tmp_path / "a_0.ome.tif", 0, ExposureTime=0.1)
    tifffile.imwrite(tmp_path / "a_1.ome.tif", PLANE, metadata=None)
    (tmp_path / "a_3.ome.tif").write_bytes(b"")
    ome(tmp_path / "a_4.ome.tif", 4, ExposureTime=0.2, PositionZ=2000, date="2024-05-01T10:00:00Z")
    ome(tmp_path / "a_6.ome.tif", 6, date="2024-05-01T10:00:00+02:00")
    pattern = f"{tmp_path}/a_{{i}}.ome.tif"
    image = cloudimg.open(pattern, validate="all", missing="fill", bad="fill")
    found = facts_of(image)
    assert len(table_of(image)) == 5
    assert found["exposure_s"] == [0.1, None, None, 0.2, None]
    assert found["stage_z"] == [None, None, None, 2, None]
    assert "stage_x" not in found
    ten, eight = datetime(2024, 5, 1, 10), datetime(2024, 5, 1, 8)
    assert found["acquired"] == [ten, None, None, ten, eight]
    assert found["acquired_offset"] == [None, None, None, "+00:00", "+02:00"]
    assert found["channel"] == ["GFP", None, None, "GFP", "GFP"]


def test_positions_in_units_that_are_not_lengths(tmp_path: Path) -> None:
    """OME's default unit of positions is not one; they stay as they are, with that unit."""
    ome(tmp_path / "a_0.ome.tif", 0, unit="", PositionX=1, PositionY=2)
    ome(tmp_path / "a_1.ome.tif", 1, PositionX=1, PositionY=2)
    found = facts_of(cloudimg.open(f"{tmp_path}/a_{{i}}.ome.tif", validate="all"))
    assert found["stage_x"] == [1, 1000]
    assert found["stage_unit"] == ["reference frame", "µm"]


def test_real_metaxpress_planes(corpus: Path) -> None:
    """Against the properties that the files hold, found by their names."""
    paths = sorted((corpus / "files").glob("fmi-faim_*/*.tif"))
    planes = [path for path in paths if b"<PlaneInfo>" in path.read_bytes()]
    shapes = [cloudimg.open(path).shape for path in planes]
    planes = [path for path, shape in zip(planes, shapes, strict=True) if shape == shapes[0]]
    assert len(planes) > 5
    differing = ("pixel_size", "photometric", "color_space")
    urls = [str(path) for path in planes]
    found = facts_of(cloudimg.open(urls, validate="all", allow_differences=differing))
    for i, path in enumerate(planes):
        text = path.read_bytes().decode("latin-1")

        def said(name: str, text: str = text) -> str:
            return text.partition(f'id="{name}"')[2].partition('value="')[2].partition('"')[0]

        assert found["stage_x"][i] == float(said("stage-position-x"))
        assert found["stage_z"][i] == float(said("z-position"))
        assert found["exposure_s"][i] == pytest.approx(float(said("Exposure Time")[:-3]) / 1000)
        assert found["channel"][i] == said("_IllumSetting_")
        assert found["objective"][i] == said("_MagSetting_").strip()
        assert f"{found['acquired'][i]:%Y%m%d %H:%M:%S}" == said("acquisition-time-local")[:17]


@pytest.mark.slow
def test_a_cluster_collects_the_same(tmp_path: Path) -> None:
    """Two blocks of files, some of which are missing."""
    for i in range(530):
        if i % 100 != 7:
            ome(tmp_path / f"a_{i:03d}.ome.tif", i, PositionX=i, PositionY=2, DeltaT=i / 4)
    options = {"validate": "all", "missing": "fill"}
    pattern = f"{tmp_path}/a_{{i:03d}}.ome.tif"
    here = facts_of(cloudimg.open(pattern, **options))
    with local_client() as client:
        there = facts_of(cloudimg.open(pattern, client=client, **options))
    assert there == here
    numbers = [i for i in range(530) if i % 100 != 7]
    assert here["elapsed_s"] == [i / 4 for i in numbers]
    assert here["stage_x"] == [1000 * i for i in numbers]


def test_collecting_costs_no_request(meter: Meter, bucket: str, tmp_path: Path) -> None:
    for i in range(5):
        ome(tmp_path / "a", i, PositionX=i, PositionY=2)
        meter.put(bucket, f"a_{i}.ome.tif", (tmp_path / "a").read_bytes())
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/a_{{i}}.ome.tif",
            validate="all",
            storage_options=meter.storage_options,
        )
    assert traffic.gets == 5
    assert len(facts_of(image)["stage_x"]) == 5


# ----------------------------------------------------------------------- multi-file datasets


@pytest.mark.parametrize("modulo", [False, True])
def test_facts_of_every_plane_of_a_dataset(tmp_path: Path, modulo: bool) -> None:
    """OME-XML says them of each plane, whichever file holds it; no further header is read."""
    pixels = write_dataset(tmp_path, still=False, modulo=modulo)
    image = cloudimg.open(tmp_path / "t0.ome.tif", validate="all")
    read = image.read()
    assert image.dims == (("a", "t", "c", "z", "y", "x") if modulo else ("t", "c", "z", "y", "x"))
    by_plane = np.moveaxis(read, 0, 3) if modulo else read
    np.testing.assert_array_equal(by_plane.reshape(pixels.shape), pixels)
    table, found = table_of(image), facts_of(image)
    assert len(table) == 24
    for row, (t, c, z) in enumerate(np.ndindex(3, 2, 4)):
        is_said = (t, c, z) != (0, 0, 1)
        assert found["stage_x"][row] == (t if is_said else None)
        assert found["stage_z"][row] == (z if is_said else None)
        assert found["elapsed_s"][row] == (10 * t + c if is_said else None)
        assert found["channel"][row] == (f"c{c}" if is_said else None)
        assert found["exposure_s"][row] == (pytest.approx(0.1 * (c + 1)) if is_said else None)
        assert found["acquired"][row] == (datetime(2024, 5, 1, 10) if is_said else None)


@pytest.mark.parametrize("still", [True, False])
def test_attributes_of_a_dataset_are_not_those_of_its_first_plane(
    tmp_path: Path, still: bool
) -> None:
    write_dataset(tmp_path, still=still)
    attrs = cloudimg.open(tmp_path / "t0.ome.tif").attrs
    assert attrs["acquired"] == "2024-05-01T10:00:00"
    assert attrs.get("stage_position") == ({"x": 1, "y": 2} if still else {"y": 2})
    assert not {"elapsed_s", "exposure_s"} & set(attrs)


def test_a_file_without_times_does_not_give_its_own_to_the_dataset(tmp_path: Path) -> None:
    """The tag DateTime of the first file is when that file was written."""
    write_dataset(tmp_path, still=True)
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        date = b"<AcquisitionDate>2024-05-01T10:00:00</AcquisitionDate>"
        path.write_bytes(data.replace(date, b" " * len(date)))
    assert "acquired" not in cloudimg.open(tmp_path / "t0.ome.tif").attrs


def micromanager_stack(folder: Path, n_files: int) -> None:
    """A Micro-Manager stack of a file for each position with two times."""
    for r in range(n_files):
        summary = json.dumps(
            {"Channels": 1, "Slices": 1, "Frames": 2, "Positions": n_files, "ChNames": ["GFP"]}
        ).encode()
        head = struct.pack("<8I", 54773648, 0, 483765892, 0, 99384722, 0, 2355492, len(summary))
        data = bytearray(struct.pack("<2sHI", b"II", 42, 8 + len(head) + len(summary)))
        data += head + summary
        rows = []
        for t in range(2):
            said = {"XPositionUm": 10.0 * r + t, "YPositionUm": 5, "ZPositionUm": -1}
            own = json.dumps({**said, "Exposure-ms": 20, "ElapsedTime-ms": 500 * t}).encode()
            at = len(data)
            rows.append([0, 0, t, r, at])
            # Pixels follow 162 bytes after an IFD of 13 entries, as Micro-Manager writes them.
            pixels, meta = at + 162, at + 162 + PLANE.nbytes
            tags = [
                (256, 4, 1, PLANE.shape[1]),
                (257, 4, 1, PLANE.shape[0]),
                (258, 3, 1, 8),
                (259, 3, 1, 1),
                (262, 3, 1, 1),
                (273, 4, 1, pixels),
                (277, 3, 1, 1),
                (278, 4, 1, PLANE.shape[0]),
                (279, 4, 1, PLANE.nbytes),
                (282, 3, 1, 1),
                (283, 3, 1, 1),
                (296, 3, 1, 1),
                (51123, 2, len(own), meta),
            ]
            following = 0 if t else meta + len(own)
            data += struct.pack("<H", len(tags))
            data += b"".join(struct.pack("<HHII", *tag) for tag in tags)
            data += struct.pack("<I", following) + PLANE.tobytes() + own
        parts = [
            (12, 3453623, len(rows), np.array(rows, "<u4").tobytes()),
            (20, 347834724, 2, b"{}"),
            (28, 84720485, 2, b"{}"),
        ]
        for place, mark, count, content in parts:
            struct.pack_into("<I", data, place, len(data))
            data += struct.pack("<II", mark, count) + content
        (folder / f"x_MMStack_Pos{r}.ome.tif").write_bytes(data)


def test_first_pages_of_a_micro_manager_stack(tmp_path: Path) -> None:
    """Only the first page of each file is read; what its metadata say is not of the others."""
    micromanager_stack(tmp_path, 3)
    image = cloudimg.open(tmp_path / "x_MMStack_Pos0.ome.tif", validate="all")
    index = np.unravel_index(table_of(image).rows, table_of(image).shape)
    place = dict(zip(table_of(image).axes, index, strict=True))
    found = facts_of(image)
    for row, (r, t) in enumerate(zip(place["r"], place["t"], strict=True)):
        assert found["stage_x"][row] == (10 * r if t == 0 else None)
        assert found["stage_z"][row] == (-1 if t == 0 else None)
        assert found["exposure_s"][row] == (0.02 if t == 0 else None)
        assert found["elapsed_s"][row] == (0 if t == 0 else None)
    assert not {"stage_position", "elapsed_s", "acquired"} & set(image.attrs)
    # Of the second time nothing is known: it is not taken for one like the first.
    assert image.coord_dims["stage_x"] == ("r", "t")
    nan = float("nan")
    np.testing.assert_equal(image.coords["stage_x"], [[0, nan], [10, nan], [20, nan]])
    np.testing.assert_equal(image.coords["elapsed_s"], [0, nan])


# ----------------------------------------------------------------------------------- columns


def attrs_of_field(i: int) -> Mapping[str, Any]:
    return {
        "stage_position": {"x": float(i), "y": 2.0, "z": 3.0},
        "stage_position_unit": dict.fromkeys("xyz", "µm"),
        "acquired": "2024-05-01T10:00:00Z",
        "elapsed_s": i / 4,
        "exposure_s": 0.1,
        "channel_names": [f"channel {i % 5}"],
        "objective": "Plan Apo 20x",
        "magnification": 20.0,
    }


def test_columns_that_begin_late_and_rows_that_come_again() -> None:
    columns = FactColumns()
    columns.add(2, {"exposure_s": 1.0})
    columns.add(0, {"channel": "GFP", "exposure_s": 3.0})
    columns.add(7, {})
    columns.add(2, {"objective": "lens", "exposure_s": 2.0})
    more = FactColumns()
    more.add(1, {"channel": "RFP"})
    more.add(0, {"channel": "GFP", "elapsed_s": 4.0})
    columns.extend(more, np.array([5, 4]))
    found = {k: v.to_pylist() for k, v in columns.to_arrow(np.array([0, 1, 2, 4, 5])).items()}
    assert found == {
        "elapsed_s": [None, None, None, None, 4],
        "exposure_s": [3, None, 2, None, None],
        "channel": ["GFP", None, None, "RFP", "GFP"],
        "objective": [None, None, "lens", None, None],
    }


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2024-05-01T10:00:00", None),
        ("2024-05-01T10:00:00.250000Z", "+00:00"),
        ("2024-05-01T10:00:00-05:30", "-05:30"),
        ("0001-01-01T00:00:00+10:00", "no time"),
        ("yesterday", "no time"),
    ],
)
def test_times(text: str, offset: str | None) -> None:
    facts = facts_in({"acquired": text})
    if offset == "no time":
        assert facts == {}
        return
    assert facts.get("acquired_offset") == offset
    own = datetime.fromisoformat(text.removesuffix("Z").removesuffix("-05:30"))
    shift = 5.5 * 3600 if offset == "-05:30" else 0
    assert int(facts["acquired"]) / 1e6 == (own - datetime(1970, 1, 1)).total_seconds() + shift


@pytest.mark.slow
def test_a_file_and_fact_takes_little_memory() -> None:
    n_files = 10_000
    tracemalloc.start()
    columns = FactColumns()
    for i in range(n_files):
        columns.add(i, facts_in(attrs_of_field(i)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    n_facts = len(columns.to_arrow(np.arange(n_files)))
    assert n_facts == len(FACTS) - 2  # headers say no well, and no direction
    assert peak / n_files / n_facts < 16


@pytest.mark.slow
def test_ten_thousand_fields(tmp_path: Path) -> None:
    """What the image keeps of all headers is less than 100 bytes for each file and fact."""
    place = {"PositionZ": 3, "ExposureTime": 4}
    n_files = 10_000
    for i in range(100):
        ome(tmp_path / f"m{i}", i, DeltaT=i, PositionX=i, PositionY=2 * i, **place)
    for i in range(n_files):
        (tmp_path / f"a_{i // 100:02d}_{i % 100:02d}.ome.tif").hardlink_to(tmp_path / f"m{i % 100}")
    pattern = f"{tmp_path}/a_{{well:02d}}_{{field:02d}}.ome.tif"
    few = cloudimg.open(f"{tmp_path}/a_00_{{i:02d}}.ome.tif", validate="all")
    image = cloudimg.open(pattern, validate="all")
    data = pickle.dumps(image)
    tracemalloc.start()
    again = pickle.loads(data)
    tracemalloc.reset_peak()
    coords = again.coords
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again.n_files == n_files
    found = facts_of(image)
    assert len(found) == len(facts_of(few)) == 10
    assert found["elapsed_s"] == [i % 100 for i in range(n_files)]
    assert again.coord_dims["stage_x"] == ("field",)
    assert coords["stage_y"].tolist() == [2000 * i for i in range(100)]
    print(f"{len(data)} bytes pickled")
    print(f"{kept / n_files / len(found):.0f} bytes for each file and fact")
    print(f"{peak / n_files / len(found):.0f} while coordinates are made")
    assert kept / n_files / len(found) < 100
    assert peak / n_files / len(found) < 100
