"""Copies to OME-Zarr: every pixel of every level, by several readers, with no extra objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from tests.conftest import Place
from tests.support import copies, seed
from tests.support.metering import Meter

TILE = (40, 56)
SHAPE = (2, 2, 10, 120, 168)
STEPS = [(1, 1, 1, 2, 2), (1, 1, 1, 2, 2)]


@pytest.fixture
def writable(place: Place) -> Place:
    if place.name.startswith("http"):
        pytest.skip("http cannot be written to")
    return place


def options_of(place: Place) -> dict[str, Any]:
    return {
        "source_options": place.storage_options,
        "target_options": place.storage_options,
    }


@pytest.fixture
def quiet() -> Iterator[None]:
    """Ignore the deprecation warnings of other readers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
def test_the_seed_from_store_to_store(writable: Place) -> None:
    image = seed.write(writable.put, TILE)
    url = f"{writable.url}/copy.ome.zarr"
    done = cloudimg.migrate(
        f"{writable.url}/{seed.PATTERN}",
        url,
        **options_of(writable),
        levels=3,
        chunks={"y": 32, "x": 32},
        shards={"t": 1, "c": 1, "y": 128, "x": 128},
    )
    assert (done.n_cells, done.n_done_before) == (8, 0)
    found = copies.objects(url, writable.storage_options)
    store = zarr.storage.MemoryStore(
        {key: zarr.core.buffer.cpu.Buffer.from_bytes(data) for key, data in found.items()}
    )
    group = zarr.open_group(store, mode="r")
    for level, expected in enumerate(copies.mean_levels(image, STEPS)):
        np.testing.assert_array_equal(group[str(level)][...], expected)
    proof = cloudimg.verify(
        url,
        against_source=True,
        storage_options=writable.storage_options,
        source_options=writable.storage_options,
    )
    assert proof, str(proof)
    assert proof.n_compared == 8
    again = cloudimg.migrate(
        f"{writable.url}/{seed.PATTERN}",
        url,
        **options_of(writable),
        levels=3,
        chunks={"y": 32, "x": 32},
        shards={"t": 1, "c": 1, "y": 128, "x": 128},
    )
    assert again.n_done_before == again.n_cells == 8
    assert again.n_objects == 0


@pytest.mark.slow
@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("codec", [None, "zstd:3", "none", "gzip"])
def test_every_reader_finds_the_same_pixels(
    tmp_path: Path, zarr_format: int, codec: str | None, quiet: None
) -> None:
    import ngff_zarr
    import tensorstore

    image = seed.write(lambda key, data: (tmp_path / key).write_bytes(data), TILE)
    out = tmp_path / "copy.ome.zarr"
    cloudimg.migrate(
        f"{tmp_path}/{seed.PATTERN}",
        out,
        zarr_format=zarr_format,
        codec=codec,
        levels=3,
        chunks={"z": 4, "y": 32, "x": 32},
    )
    expected = copies.mean_levels(image, STEPS)
    group = zarr.open_group(str(out), mode="r")
    driver = "zarr3" if zarr_format == 3 else "zarr"
    for level, pixels in enumerate(expected):
        np.testing.assert_array_equal(group[str(level)][...], pixels)
        kvstore = {"driver": "file", "path": f"{out / str(level)}/"}
        array = tensorstore.open({"driver": driver, "kvstore": kvstore}).result()
        np.testing.assert_array_equal(array.read().result(), pixels)
    found = ngff_zarr.from_ngff_zarr(str(out))
    for each, pixels in zip(found.images, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(each.data), pixels)
        assert tuple(each.dims) == ("t", "c", "z", "y", "x")


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_metadata_is_valid(tmp_path: Path, zarr_format: int, quiet: None) -> None:
    from ome_zarr_models.v04 import Image as Image04
    from ome_zarr_models.v05 import Image as Image05

    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    metadata |= {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": 2.0}
    metadata |= {"PhysicalSizeZUnit": "µm", "Channel": {"Name": ["DAPI", "GFP"]}}
    pixels = np.arange(3 * 2 * 50 * 60, dtype=np.uint16).reshape(3, 2, 50, 60)
    for t in range(2):
        tifffile.imwrite(tmp_path / f"a_{t}.ome.tif", pixels + t, metadata=metadata)
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{tmp_path}/a_{{t}}.ome.tif", out, zarr_format=zarr_format, levels=2)
    group = zarr.open_group(str(out), mode="r")
    model = (Image05 if zarr_format == 3 else Image04).from_zarr(group)
    found = (
        model.ome_attributes.multiscales[0] if zarr_format == 3 else model.attributes.multiscales[0]
    )
    assert [axis.name for axis in found.axes] == ["t", "c", "z", "y", "x"]
    assert [axis.unit for axis in found.axes][2:] == ["micrometer"] * 3
    scales = [dataset.coordinateTransformations[0].scale for dataset in found.datasets]
    assert scales == [[1, 1, 2, 0.5, 0.5], [1, 1, 2, 1, 1]]
    moved = found.datasets[1].coordinateTransformations[1].translation
    assert moved == [0, 0, 0, 0.25, 0.25]
    attributes = dict(group.attrs)
    omero = attributes["ome"]["omero"] if zarr_format == 3 else attributes["omero"]
    assert [channel["label"] for channel in omero["channels"]] == ["DAPI", "GFP"]
    for i, channel in enumerate(omero["channels"]):
        both = np.stack([pixels[:, i], pixels[:, i] + 1])
        assert channel["window"]["min"] == both.min()
        assert channel["window"]["max"] == both.max()
        assert both.min() <= channel["window"]["start"] < channel["window"]["end"] <= both.max()
    # The OME-XML of each file describes this file, that of the copy both.
    (described,) = ElementTree.parse(out / "OME/METADATA.ome.xml").iter(f"{OME}Pixels")
    assert described.get("SizeT") == "2"
    of_files = [ElementTree.parse(path) for path in (out / "OME/source").iterdir()]
    assert [next(each.iter(f"{OME}Pixels")).get("SizeT") for each in of_files] == ["1", "1"]


OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
ACQUISITIONS = {
    "cv8000": "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well:s}_T{t:04d}F{f:03d}L01A{c:02d}"
    "Z{z:02d}C{c:02d}.tif",
    "illum": "AS_09047_050428030001_O{row}f{field}d2.TIF",
    "drosophila": "DrosophilaEmbryo_GFPHistone_{t}.tif",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ACQUISITIONS)
def test_real_acquisitions_from_s3_to_s3(
    acquisitions: Path, meter: Meter, bucket: str, tmp_path: Path, name: str
) -> None:
    for path in (acquisitions / name).iterdir():
        meter.put(bucket, f"src/{path.name}", path.read_bytes())
    options = meter.storage_options
    source = f"s3://{bucket}/src/{ACQUISITIONS[name]}"
    url = f"s3://{bucket}/copy.ome.zarr"
    cloudimg.migrate(source, url, source_options=options, target_options=options)
    proof = cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )
    assert proof, str(proof)
    folder = copies.to_folder(copies.objects(url, options), tmp_path / "copy")
    image = cloudimg.open(source, storage_options=options)
    lead = [dim for dim in image.dims if dim not in ("t", "c", "z", "y", "x", "s")]
    group = zarr.open_group(str(folder), mode="r")
    lengths = [image.shape[image.dims.index(dim)] for dim in lead]
    for number, index in enumerate(np.ndindex(*lengths)):
        found = group["/".join(_path_of_image(image, lead, number, index))]
        expected = image.read(
            dict(zip(lead, map(int, index), strict=True)) if len(lead) > 1 else None
        )
        if "s" in image.dims:
            expected = np.moveaxis(expected, -1, 1)  # colours are channels: t, c, y, x
        np.testing.assert_array_equal(found[...].squeeze(), expected.squeeze())


def _path_of_image(
    image: cloudimg.Image, lead: list[str], number: int, index: tuple[int, ...]
) -> Iterator[str]:
    """The folders to level 0 of an image of a plate, of a collection, or of a single image."""
    if lead == ["well", "f"]:
        well = str(image.coords["well"][index[0]])
        yield from (well[:1], well[1:], str(index[1]))
    elif len(lead) > 1:
        yield str(number)
    yield "0"


def test_objects_are_exactly_what_was_planned(meter: Meter, bucket: str) -> None:
    """Each shard by one PUT, each piece of metadata once, the journal, and nothing else."""
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data), TILE)
    options = meter.storage_options
    arguments: dict[str, Any] = {
        "levels": 3,
        "chunks": {"y": 30, "x": 42},
        "shards": {"t": 1, "c": 1, "z": 5, "y": 120, "x": 168},
    }
    source, url = f"s3://{bucket}/src/{seed.PATTERN}", f"s3://{bucket}/copy.zarr"
    expected = cloudimg.dry_run(source, storage_options=options, **arguments)
    with meter.measure() as traffic:
        done = cloudimg.migrate(
            source, url, source_options=options, target_options=options, **arguments
        )
    puts = [r.key.removeprefix("copy.zarr/") for r in traffic.requests if r.kind == "put"]
    shards = [key for key in puts if "/c/" in key]
    metadata = [key for key in puts if key.endswith("zarr.json")]
    records = [key for key in puts if "/cells/" in key]
    tables = [key for key in puts if key.startswith("originals/")]
    marks = {
        *(".cloudimg/plan.json", ".cloudimg/plan-copy.json", ".cloudimg/done.json"),
        *(key for key in puts if key.startswith(".cloudimg/files/")),
        ".cloudimg/lease/00000001.json",
    }
    assert len(shards) == len(set(shards)) == expected.objects == done.n_objects == 8 * 3
    assert sorted(metadata) == ["0/zarr.json", "1/zarr.json", "2/zarr.json", "zarr.json"]
    assert len(metadata) == expected.metadata_objects
    assert len(records) == len(set(records)) == expected.cells == 8
    assert len(tables) == 8
    assert set(puts) == {*shards, *metadata, *records, *tables, *marks}
    assert expected.journal_objects == len(records) + len(tables) + len(marks)
    assert [r.key for r in traffic.requests if r.method == "POST"] == []
    # The metadata of the root is stored after everything else.
    assert puts.index("zarr.json") > max(map(puts.index, [*shards, *records, *metadata[:-1]]))
    source_bytes = sum(
        r.bytes_sent for r in traffic.requests if r.kind == "get" and r.key.startswith("src/")
    )
    assert expected.amplification == 1.0
    assert expected.source_bytes is not None
    assert source_bytes <= 1.02 * expected.source_bytes


def test_segments_cut_by_cells_are_read_as_often_as_the_dry_run_estimates(
    meter: Meter, bucket: str
) -> None:
    """One large compressed strip a file, cut by shards of half of it."""
    rng = np.random.default_rng(3)
    for z in range(4):
        pixels = rng.integers(0, 2**16, (256, 4096), np.uint16)
        data = seed.encode(pixels, rowsperstrip=256, compression="zlib")
        meter.put(bucket, f"src/a_{z}.tif", data)
    options = meter.storage_options
    arguments: dict[str, Any] = {
        "levels": 1,
        "shards": {"z": 1, "y": 256, "x": 1024},
    }
    source = f"s3://{bucket}/src/a_{{z}}.tif"
    expected = cloudimg.dry_run(source, storage_options=options, **arguments)
    assert expected.amplification == 4.0
    with meter.measure() as traffic:
        cloudimg.migrate(
            source,
            f"s3://{bucket}/copy.zarr",
            source_options=options,
            target_options=options,
            **arguments,
        )
    sent = sum(
        r.bytes_sent for r in traffic.requests if r.kind == "get" and r.key.startswith("src/")
    )
    assert expected.bytes_to_read is not None
    assert 0.9 * expected.bytes_to_read <= sent <= 1.02 * expected.bytes_to_read


@pytest.mark.slow
def test_levels_above_come_from_a_second_pass(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 2**16, (300, 700), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64))
    out = tmp_path / "copy.zarr"
    cloudimg.open(tmp_path / "a.tif").to_zarr(out, chunks=16, shards=64, levels=6)
    plan = json.loads((out / ".cloudimg/plan.json").read_text())["plan"]
    assert len(plan["stages"]) >= 2
    group = zarr.open_group(str(out), mode="r")
    for level, expected in enumerate(copies.mean_levels(pixels, [(2, 2)] * 5)):
        np.testing.assert_array_equal(group[str(level)][...], expected)
    assert cloudimg.verify(out, against_source=True)


def test_empty_chunks_and_missing_files_take_little_room(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.float32)
    pixels[40, 40] = -0.0
    for x in (0, 2):
        tifffile.imwrite(tmp_path / f"a_{x}.tif", pixels)
    out = tmp_path / "copy.zarr"
    image = cloudimg.open(f"{tmp_path}/a_{{x}}.tif", missing="fill", fill_value=np.nan)
    # Labels 0 and 2 are neighbours; a hole needs both axes.
    assert image.shape == (64, 128)
    image.to_zarr(out, chunks=32, shards=32, levels=1)
    stored = sorted(path.name for path in (out / "0" / "c").rglob("*") if path.is_file())
    assert len(stored) == 8  # zero is not the fill value here
    holed = tmp_path / "holed"
    holed.mkdir()
    for y, x in ((0, 0), (1, 1)):
        tifffile.imwrite(holed / f"b_{y}_{x}.tif", np.full((64, 64), 7, np.uint8))
    image = cloudimg.open(f"{holed}/b_{{y}}_{{x}}.tif", missing="fill", fill_value=3)
    image.to_zarr(tmp_path / "b.zarr", chunks=64, shards=64, levels=2)
    group = zarr.open_group(str(tmp_path / "b.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][...], image.read())
    assert group["0"].fill_value == 3
    # The holes are shards with an index that lists no chunk: one entry, and its checksum.
    stored_sizes = sorted(p.stat().st_size for p in (tmp_path / "b.zarr/0/c").rglob("*/*"))
    assert stored_sizes[:2] == [20, 20]
    assert stored_sizes[2] > 20
    assert len(stored_sizes) == 4
    assert cloudimg.verify(tmp_path / "b.zarr", against_source=image)


def test_samples_become_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (3, 50, 70, 3), np.uint8)
    for z in range(3):
        tifffile.imwrite(tmp_path / f"a_{z}.tif", pixels[z], photometric="rgb")
    cloudimg.open(f"{tmp_path}/a_{{z}}.tif").to_zarr(tmp_path / "a.zarr", levels=1)
    found = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["0"]
    np.testing.assert_array_equal(found[...], np.moveaxis(pixels, -1, 0))
    assert found.metadata.dimension_names == ("c", "z", "y", "x")
    assert cloudimg.verify(tmp_path / "a.zarr", against_source=True)


# ----------------------------------------------------------------------------------- arrays of Dask


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "bool", "c8"])
def test_arrays_of_dask(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(6)
    pixels = (rng.normal(size=(3, 90, 110)) * 50).astype(dtype)
    array = da.from_array(pixels, chunks=(2, 37, 55))
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(array, out, dims=("z", "y", "x"), chunks=32, shards=64, levels=2)
    group = zarr.open_group(str(out), mode="r")
    np.testing.assert_array_equal(group["0"][...], pixels)
    assert cloudimg.verify(out, against_source=array)
    pixels[1, 5, 5] += pixels.dtype.type(1)
    wrong = cloudimg.verify(out, against_source=da.from_array(pixels, chunks=-1))
    assert (not wrong) or dtype == "bool"


def test_what_xarray_knows_is_kept(tmp_path: Path) -> None:
    import xarray

    array = xarray.DataArray(
        da.zeros((2, 3, 40, 50), dtype="u2", chunks=(1, 1, 40, 50)) + 5,
        dims=("c", "t", "y", "x"),
        coords={
            "c": ["DAPI", "GFP"],
            "t": np.array(["2026-01-01T00:00", "2026-01-01T00:01", "2026-01-01T00:07"], "M8[s]"),
            "y": ("y", 10 + 0.5 * np.arange(40), {"units": "µm"}),
            "x": ("x", 0.5 * np.arange(50), {"units": "micrometer"}),
        },
        name="cells",
        attrs={"operator": "nobody"},
    )
    cloudimg.to_zarr(array, tmp_path / "a.zarr", levels=1)
    attributes = json.loads((tmp_path / "a.zarr/zarr.json").read_text())["attributes"]
    multiscale = attributes["ome"]["multiscales"][0]
    assert multiscale["name"] == "cells"
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "c", "y", "x"]
    scale, moved = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1, 1, 0.5, 0.5]
    assert moved["translation"] == [0, 0, 10, 0]
    assert [c["label"] for c in attributes["ome"]["omero"]["channels"]] == ["DAPI", "GFP"]
    assert attributes["cloudimg"]["coordinates"]["t"][2].startswith("2026-01-01T00:07")
    assert attributes["cloudimg"]["attributes"] == {"operator": "nobody"}


def test_an_interrupted_migration_of_a_dask_array_is_resumed(tmp_path: Path) -> None:
    calls = []

    def block(values: Any, block_id: tuple[int, ...] = ()) -> Any:
        calls.append(block_id)
        if block_id == (0, 1) and not (tmp_path / "go").exists():
            raise RuntimeError("not yet")
        return values + 1

    base = da.zeros((64, 128), chunks=64, dtype="u1")
    array = da.map_blocks(block, base, dtype="u1", name="computed", meta=np.empty((0, 0), "u1"))
    out = tmp_path / "copy.zarr"
    arguments: dict[str, Any] = {"chunks": 64, "shards": 64, "levels": 1, "max_mem": 30_000}
    with pytest.raises(RuntimeError, match="not yet"):
        cloudimg.to_zarr(array, out, **arguments)
    assert not (out / "zarr.json").exists()
    (tmp_path / "go").touch()
    calls.clear()
    done = cloudimg.to_zarr(array, out, **arguments)
    assert done.n_done_before == 1
    assert (0, 0) not in calls
    assert cloudimg.verify(out, against_source=array)


@pytest.mark.slow
def test_one_request_at_a_time(meter: Meter, bucket: str) -> None:
    """No thread waits for another that it prevents from running."""
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data))
    code = (
        "import json, sys, cloudimg\n"
        "source, out, options = *sys.argv[1:3], json.loads(sys.argv[3])\n"
        "both = {'source_options': options, 'target_options': options}\n"
        "cloudimg.migrate(source, out, validate='all', **both)\n"
        "proof = cloudimg.verify(\n"
        "    out, against_source=True, storage_options=options, source_options=options)\n"
        "print(bool(proof), cloudimg.export(out, out + '-tiff', **both).n_files)\n"
    )
    source, out = f"s3://{bucket}/src/{seed.PATTERN}", f"s3://{bucket}/copy.zarr"
    with meter.measure() as traffic:
        done = subprocess.run(
            [sys.executable, "-c", code, source, out, json.dumps(meter.storage_options)],
            env={**os.environ, "CLOUDIMG_MAX_REQUESTS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert done.stdout.split() == ["True", "360"], done.stdout
    assert traffic.max_concurrent <= 2  # the lease is renewed meanwhile
