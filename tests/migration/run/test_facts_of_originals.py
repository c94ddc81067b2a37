"""Copying compares all files; what may differ is kept of each in columns, not said of all."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import tifffile
from rasterio.transform import Affine

import cloudimg
from cloudimg.discovery.fact_kinds import FACTS
from cloudimg.errors import MismatchError
from tests.support.clusters import local_client
from tests.support.differing import EQUAL, HEIGHT, SHARED, WIDTH, geotiff, moved
from tests.support.fields import PLANE, ome, write_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

EACH: dict[str, Any] = {"chunks": 16, "shards": {"t": 1, "y": 64, "x": 64}, "levels": 1}
"""A cell for each file."""
ONE: dict[str, Any] = {"levels": 1}
"""One cell for all."""


def documents_of(url: Path) -> str:
    """All metadata of a copy that readers see, without the OME-XML of the source's files."""
    texts = [path.read_text() for path in url.rglob("zarr.json")]
    return "\n".join([*texts, *(path.read_text() for path in url.glob("OME/*.xml"))])


def said_of(url: Path) -> Any:
    return json.loads((url / "zarr.json").read_bytes())["attributes"]["cloudimg"]["attributes"]


def originals_of(url: Path) -> list[dict[str, Any]]:
    table = pq.read_table(url / "originals")
    return sorted(table.to_pylist(), key=lambda row: row["index"])


# ------------------------------------------------------------------------- what may not differ


@pytest.mark.long
@pytest.mark.parametrize("cells", [EACH, ONE], ids=["a cell for each", "one cell"])
@pytest.mark.parametrize("name", SHARED)
def test_an_odd_file_in_the_middle(tmp_path: Path, name: str, cells: dict[str, Any]) -> None:
    """Opening reads the first header; the copy is refused where the odd file is read."""
    write_first, write_other, fact, first_value, other_value = SHARED[name]
    for t in range(5):
        (write_other if t == 2 else write_first)(tmp_path / f"a_{t}.tif")
    pattern, out = f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr"
    assert cloudimg.open(pattern).n_files == 5
    with pytest.raises(MismatchError) as caught:
        cloudimg.migrate(pattern, out, **cells)
    message = caught.value.message
    for part in (f"{tmp_path}/a_0.tif", f"{tmp_path}/a_2.tif", first_value, other_value):
        assert part in message
    assert not (out / "zarr.json").exists()
    named = message.partition("allow_differences=")[2].partition("]")[0] + "]"
    assert f'"{fact}"' in named
    allowed = json.loads(named)
    done = cloudimg.migrate(pattern, out, **cells, allow_differences=allowed)
    assert f"facts-differ-{fact.replace('_', '-')}" in {
        getattr(note, "kind", note) for note in done.notes
    }
    assert cloudimg.verify(out, against_source=True)
    assert fact not in said_of(out)


@pytest.mark.long
@pytest.mark.parametrize("name", EQUAL)
def test_files_that_say_the_same_are_copied(tmp_path: Path, name: str) -> None:
    write_first, write_other = EQUAL[name]
    for t in range(3):
        (write_other if t == 1 else write_first)(tmp_path / f"a_{t}.tif")
    done = cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", tmp_path / "copy.zarr", **EACH)
    kinds = {getattr(note, "kind", note) for note in done.notes}
    told = {kind for kind in kinds if kind.startswith("the pixels are indices into a palette")}
    assert kinds - told <= {"facts-differ-compression"}


def test_large_headers_are_compared_too(tmp_path: Path) -> None:
    """In a file of many strips, the place on Earth lies behind the tables of the strips."""
    height, pixels = 20_000, np.random.default_rng(1).integers(0, 255, (20_000, 64), np.uint8)
    for t in range(3):
        with rasterio.open(
            tmp_path / f"a_{t}.tif",
            "w",
            driver="GTiff",
            height=height,
            width=64,
            count=1,
            dtype="uint8",
            crs="EPSG:32633",
            transform=Affine(10, 0, 500_300 if t == 1 else 500_000, 0, -10, 4_600_000),
            blockysize=1,
            BIGTIFF="YES",
        ) as file:
            file.write(pixels, 1)
    with pytest.raises(MismatchError, match=r"a_1\.tif.*\(500300, 4600000\).*a_0\.tif"):
        cloudimg.migrate(
            f"{tmp_path}/a_{{t}}.tif",
            tmp_path / "copy.zarr",
            shards={"t": 1, "y": 512, "x": 64},
            chunks=64,
            levels=1,
        )


def test_a_tile_half_over_its_neighbour(tmp_path: Path) -> None:
    """The edges of the mosaic, which opening reads, are right; the tile between them is not."""
    for x, columns in enumerate((0, WIDTH // 2, 2 * WIDTH)):
        geotiff(tmp_path / f"{x}.tif", moved(columns, 0))
    pattern, out = f"{tmp_path}/{{x}}.tif", tmp_path / "copy.zarr"
    assert cloudimg.open(pattern).shape == (HEIGHT, 3 * WIDTH)
    with pytest.raises(MismatchError) as caught:
        cloudimg.migrate(pattern, out)
    for part in (
        f"{tmp_path}/0.tif",
        f"{tmp_path}/1.tif",
        "its origin should be (500200, 4600000)",
        'allow_differences=["origin"]',
        'place="stack"',
    ):
        assert part in caught.value.message
    cloudimg.migrate(pattern, out, allow_differences="origin")
    assert "transform" not in said_of(out)["geo"]


# ----------------------------------------------------------------------------- what may differ


def write_fields(folder: Path, n_files: int = 5) -> str:
    for t in range(n_files):
        ome(
            folder / f"a_{t}.ome.tif",
            t,
            PositionX=1.5 * t,
            PositionY=-2,
            DeltaT=0.25 * t,
            ExposureTime=0.01 * (t + 1),
        )
    return f"{folder}/a_{{t}}.ome.tif"


@pytest.mark.parametrize("validate", ["first", "all"])
@pytest.mark.parametrize("cells", [EACH, ONE], ids=["a cell for each", "one cell"])
def test_a_copy_keeps_the_facts_of_each_file(
    tmp_path: Path, validate: str, cells: dict[str, Any]
) -> None:
    pattern, out = write_fields(tmp_path), tmp_path / "copy.zarr"
    done = cloudimg.migrate(pattern, out, validate=validate, **cells)
    assert [getattr(note, "kind", "") for note in done.notes] == ["facts-differ-exposure-s"]
    rows = originals_of(out)
    assert [row["stage_x"] for row in rows] == [1500.0 * t for t in range(5)]
    assert [row["stage_y"] for row in rows] == [-2000] * 5
    assert [row["stage_z"] for row in rows] == [None] * 5
    assert [row["stage_unit"] for row in rows] == ["µm"] * 5
    assert [row["acquired"] for row in rows] == [datetime(2024, 5, 1, 10, 0, t) for t in range(5)]
    assert [row["elapsed_s"] for row in rows] == [0.25 * t for t in range(5)]
    assert [row["exposure_s"] for row in rows] == [pytest.approx(0.01 * (t + 1)) for t in range(5)]
    assert [row["channel"] for row in rows] == ["GFP"] * 5
    assert [row["objective"] for row in rows] == ["Plan Apo 20x"] * 5
    # Once: the table of files beside the plan has only the files.
    (table,) = out.glob(".cloudimg/files/*.parquet")
    assert not set(FACTS) & set(pq.read_schema(table).names)
    assert cloudimg.verify(out, against_source=True)


def test_documents_do_not_give_the_facts_of_one_file(tmp_path: Path) -> None:
    pattern, out = write_fields(tmp_path), tmp_path / "copy.zarr"
    cloudimg.migrate(pattern, out, **EACH)
    text = documents_of(out)
    for of_first in ("2024-05-01", "stage_position", "elapsed_s", 'exposure_s"', "field 0"):
        assert of_first not in text
    assert said_of(out)["objective"] == "Plan Apo 20x"
    assert originals_of(out)[3]["description"].count("field 3") == 1
    # One file speaks for itself.
    one = tmp_path / "one.zarr"
    cloudimg.migrate(tmp_path / "a_0.ome.tif", one)
    assert "2024-05-01T10:00:00" in (one / "OME/METADATA.ome.xml").read_text()
    assert said_of(one)["stage_position"] == {"x": 0, "y": -2}


def test_the_time_when_files_were_written(tmp_path: Path) -> None:
    """Cells do not compare it, since it differs in each file, but it is kept."""
    for t in range(4):
        when = f"2024:05:0{t + 1} 10:00:00"
        tifffile.imwrite(tmp_path / f"a_{t}.tif", PLANE, datetime=when, metadata=None)
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.tif", out, **EACH)
    assert [row["acquired"] for row in originals_of(out)] == [
        datetime(2024, 5, t + 1, 10) for t in range(4)
    ]
    assert "2024" not in documents_of(out)


def test_workers_keep_the_same(tmp_path: Path) -> None:
    """The same bytes, whoever read the header of a file before."""
    pattern = write_fields(tmp_path)
    cloudimg.migrate(pattern, tmp_path / "here.zarr", **EACH)
    with local_client() as client:
        cloudimg.migrate(pattern, tmp_path / "there.zarr", **EACH, client=client)
    parts = sorted((tmp_path / "here.zarr/originals").iterdir())
    assert len(parts) == 5
    for part in parts:
        assert (tmp_path / "there.zarr/originals" / part.name).read_bytes() == part.read_bytes()


def test_the_planes_of_a_dataset(tmp_path: Path) -> None:
    """What OME-XML says of each plane is in the table of files beside the plan."""
    write_dataset(tmp_path, still=False)
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(tmp_path / "t0.ome.tif", out)
    (path,) = out.glob(".cloudimg/files/*.parquet")
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 24
    for row in rows:
        t, c, z = (row[f"axis.{name}"] for name in "tcz")
        is_said = (t, c, z) != (0, 0, 1)
        assert row["stage_x"] == (t if is_said else None)
        assert row["elapsed_s"] == (10 * t + c if is_said else None)
        assert row["channel"] == (f"c{c}" if is_said else None)
    assert {row["stage_x"] for row in originals_of(out)} == {None}
    # The set is described as a whole, but not where its first plane was.
    assert said_of(out)["acquired"] == "2024-05-01T10:00:00"
    assert said_of(out)["stage_position"] == {"y": 2}
    assert cloudimg.verify(out, against_source=True)


def test_all_parts_have_the_same_columns(tmp_path: Path) -> None:
    """So that they are one table for every reader of Parquet, whatever the files of a part say."""
    pattern, out = write_fields(tmp_path, 2), tmp_path / "copy.zarr"
    tifffile.imwrite(tmp_path / "a_2.ome.tif", PLANE, metadata=None)
    cloudimg.migrate(pattern, out, **EACH)
    first, *others = (pq.read_schema(path) for path in sorted((out / "originals").iterdir()))
    assert len(others) == 2
    assert all(schema.equals(first, check_metadata=True) for schema in others)
    assert first.names[-len(FACTS) :] == list(FACTS)
    assert first.field("acquired").type == pa.timestamp("us")
    assert first.field("stage_x").type == pa.float64()
    assert b"stage_unit" in first.field("stage_x").metadata[b"about"]
    assert {name: value for name, value in originals_of(out)[2].items() if name in FACTS} == (
        dict.fromkeys(FACTS)
    )


@pytest.mark.parametrize("validate", ["first", "all"])
def test_a_file_of_a_dataset_whose_colours_are_inverted(tmp_path: Path, validate: str) -> None:
    """The metadata of the dataset do not say so; the pages of each file do."""
    write_dataset(tmp_path, still=True)
    name, code, unit = tmp_path / "t1.ome.tif", 262, "<HHIHH"
    data = bytearray(name.read_bytes())
    with tifffile.TiffFile(name) as tiff:
        for page in tiff.pages:
            struct.pack_into(unit, data, page.tags[code].offset, code, 3, 1, 0, 0)
    name.write_bytes(data)
    out = tmp_path / "copy.zarr"
    with pytest.raises(MismatchError) as caught:
        cloudimg.migrate(tmp_path / "t0.ome.tif", out, validate=validate)
    for part in ("t0.ome.tif", "t1.ome.tif", "MINISWHITE", "MINISBLACK", "photometric"):
        assert part in caught.value.message
    assert not (out / "zarr.json").exists()
    allowed = {"allow_differences": ["photometric", "color_space"], "validate": validate}
    done = cloudimg.migrate(tmp_path / "t0.ome.tif", out, **allowed)
    kinds = {getattr(note, "kind", "") for note in done.notes}
    assert {"facts-differ-photometric", "facts-differ-color-space"} <= kinds
    assert not {"photometric", "color_space"} & said_of(out).keys()
    assert cloudimg.verify(out, against_source=True)
