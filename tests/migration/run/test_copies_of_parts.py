"""Copies of a part of an image: made, continued, verified and refused as copies of all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError
from tests.conftest import Place
from tests.support import seed
from tests.support.copies import image_of, objects

PIXELS = np.random.default_rng(3).integers(0, 2**16, (4, 3, 5, 32, 48), np.uint16)
"""t, c, z, y, x: files by t and c that hold z."""
OF_PART = {"t": slice(1, 2), "c": [0, 2], "z": slice(1, 4), "x": slice(8, 40)}
PART = PIXELS[1:3][:, [0, 2]][:, :, 1:4, :, 8:40]


def encoded(t: int, c: int) -> bytes:
    metadata = {"axes": "ZYX", "spacing": 3.0, "unit": "um"}
    return seed.encode(PIXELS[t, c], imagej=True, metadata=metadata, resolution=(2, 2))


def put_all(place: Place) -> str:
    for t, c in np.ndindex(4, 3):
        place.put(f"tiffs/t{t}_c{c}.tif", encoded(t, c))
    return f"{place.url}/tiffs/t{{t}}_c{{c}}.tif"


def put_files(folder: Path) -> str:
    folder.mkdir()
    for t, c in np.ndindex(4, 3):
        (folder / f"t{t}_c{c}.tif").write_bytes(encoded(t, c))
    return str(folder / "t{t}_c{c}.tif")


def pixels_of(out: str | Path) -> npt.NDArray[Any]:
    return np.asarray(zarr.open_group(str(out), mode="r")["0"])


def scales_of(out: Path) -> tuple[Any, Any]:
    """Distances and origins of t, c, z, y and x in the metadata of a copy."""
    found: Any = zarr.open_group(str(out), mode="r").attrs["ome"]
    steps = found["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    return steps[0]["scale"], steps[1]["translation"]


def test_a_part_is_continued_and_verified(place: Place, tmp_path: Path) -> None:
    if place.name == "http":
        pytest.skip("nothing can be stored there")
    url, out = put_all(place), f"{place.url}/copy.zarr"
    stores = {"source_options": place.storage_options, "target_options": place.storage_options}

    def stop(advance: Any) -> None:
        if advance.n_done >= 1:
            raise KeyboardInterrupt

    arguments: Any = {"chunks": {"y": 16, "x": 16}, "shards": {"y": 16, "x": 16}, "levels": 1}
    with pytest.raises(KeyboardInterrupt):
        cloudimg.migrate(url, out, select=OF_PART, progress=stop, **arguments, **stores)
    # What is not selected may change and come meanwhile.
    place.put("tiffs/t0_c0.tif", encoded(1, 1))
    place.put("tiffs/t7_c1.tif", encoded(1, 1))
    with pytest.raises(ArgumentError, match="select= was for another part of the image"):
        cloudimg.migrate(
            url, out, select={**OF_PART, "c": 1}, missing="fill", **arguments, **stores
        )
    done = cloudimg.migrate(url, out, select=OF_PART, **arguments, **stores)
    assert done.n_done_before >= 1
    verified = cloudimg.verify(
        out, against_source=True, storage_options=place.storage_options, **_source(place)
    )
    assert verified, verified
    image = cloudimg.open(url, storage_options=place.storage_options, missing="fill").sel(OF_PART)
    np.testing.assert_array_equal(image.read(), PART)
    assert cloudimg.verify(out, against_source=image, storage_options=place.storage_options)
    # Another part is another image.
    other = cloudimg.open(url, storage_options=place.storage_options, missing="fill")
    other = other.sel({**OF_PART, "c": [0, 1]})
    assert not cloudimg.verify(out, against_source=other, storage_options=place.storage_options)


def _source(place: Place) -> dict[str, Any]:
    return {"source_options": place.storage_options}


def test_both_ways_to_select_make_one_copy(tmp_path: Path) -> None:
    url = put_files(tmp_path / "tiffs")
    image = cloudimg.open(url)
    image.sel(OF_PART).to_zarr(tmp_path / "a.zarr")
    cloudimg.migrate(url, tmp_path / "b.zarr", select=OF_PART)
    image.sel(t=[1, 2]).isel(c=[0, 2])  # selecting changes no image
    image.isel(x=slice(8, 40)).sel({"t": slice(1, 2), "c": [0, 2]}, z="1:4").to_zarr(
        tmp_path / "c.zarr"
    )
    words = ["--select", "t=1:2,c=0,c=2", "--select", "z=1:4,x=8:40"]
    assert main(["migrate", url, str(tmp_path / "d.zarr"), *words]) == 0
    first, *others = (image_of(objects(str(tmp_path / f"{name}.zarr"), {})) for name in "abcd")
    shards = {key: data for key, data in first.items() if key.startswith("0/c/")}
    assert shards
    for other in others:
        assert {key: data for key, data in other.items() if key.startswith("0/c/")} == shards
    np.testing.assert_array_equal(pixels_of(tmp_path / "d.zarr"), PART)
    assert cloudimg.migrate(url, tmp_path / "c.zarr", select=OF_PART).n_objects == 0


def test_a_part_lies_where_it_lay(tmp_path: Path) -> None:
    url, out = put_files(tmp_path / "tiffs"), tmp_path / "copy.zarr"
    cloudimg.migrate(url, out, select={"z": slice(1, 5, 2), "y": slice(4, 20), "c": 1})
    scale, translation = scales_of(out)
    assert scale == [1, 6, 0.5, 0.5]  # t, z, y and x
    assert translation == [0, 3, 2, 0]
    np.testing.assert_array_equal(pixels_of(out), PIXELS[:, 1, 1:5:2, 4:20])


def test_every_second_plane_of_a_long_list_of_files(tmp_path: Path) -> None:
    for z in range(9):
        (tmp_path / f"z{z}.tif").write_bytes(seed.encode(PIXELS[0, 0, 0] + z))
    image = cloudimg.open(str(tmp_path / "z{z}.tif")).isel(z=slice(1, None, 3))
    image.to_zarr(tmp_path / "copy.zarr")
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "copy.zarr")[:, 0, 0], PIXELS[0, 0, 0, 0, 0] + np.array([1, 4, 7])
    )
    # A file that lies between two of them is none of the part, if it comes later.
    (tmp_path / "z10.tif").write_bytes(seed.encode(PIXELS[0, 0, 0]))
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True)


def test_the_document_of_a_part_describes_the_part(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    (tmp_path / "one.ome.tif").write_bytes(seed.encode(PIXELS[0, 0], ome=True, metadata=metadata))
    n_planes = PIXELS.shape[2]
    for n, part in ((n_planes, {}), (2, {"z": slice(0, 2)})):
        out = tmp_path / f"{n}.zarr"
        cloudimg.migrate(tmp_path / "one.ome.tif", out, select=part)
        assert f'SizeZ="{n}"' in (out / "OME/METADATA.ome.xml").read_text("utf-8")
        assert cloudimg.verify(out, against_source=True)
        # What the file says is beside it, and in the table of originals.
        whole = (out / "OME/source/0.ome.xml").read_text("utf-8")
        assert f'SizeZ="{n_planes}"' in whole
        [row] = _rows(out)
        assert row["description"] == whole


def _rows(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    parts = sorted((out / "originals").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def test_originals_of_a_part_are_neither_exported_nor_retired(tmp_path: Path) -> None:
    url, out = put_files(tmp_path / "tiffs"), tmp_path / "copy.zarr"
    cloudimg.migrate(url, out, select=OF_PART)
    with pytest.raises(ArgumentError, match=r"a part of the pixels .*layout=\"ome-tiff\""):
        cloudimg.export(out, tmp_path / "exported")
    exported = cloudimg.export(out, tmp_path / "exported", layout="ome-tiff")
    assert exported.n_files == 1
    with pytest.raises(ArgumentError, match=r"holds a part of the image \(select=\)"):
        cloudimg.retire(out, tag={"copied": "yes"})
    # Whole files that were selected can be written again.
    some = tmp_path / "some.zarr"
    cloudimg.migrate(url, some, select={"t": 1})
    assert cloudimg.export(some, tmp_path / "files").n_files == 3
    with pytest.raises(ArgumentError, match=r"holds a part of the image \(select=\)"):
        cloudimg.retire(some, tag={"copied": "yes"})


def test_a_damaged_copy_of_a_part_is_repaired_from_its_source(tmp_path: Path) -> None:
    url, out = put_files(tmp_path / "tiffs"), tmp_path / "copy.zarr"
    cloudimg.migrate(url, out, select=OF_PART, levels=1)
    shard = next(path for path in sorted((out / "0" / "c").rglob("*")) if path.is_file())
    content = shard.read_bytes()
    shard.write_bytes(content[:-9] + bytes(9))
    assert not cloudimg.verify(out)
    cloudimg.repair(out, from_source=True)
    assert shard.read_bytes() == content
    assert cloudimg.verify(out, against_source=True)


@pytest.mark.parametrize("kind", ["list", "list with a pattern", "table"])
def test_parts_of_lists_and_tables(tmp_path: Path, kind: str) -> None:
    urls = []
    for z in (5, 3, 1, 0, 2, 4):
        (tmp_path / f"z{z}.tif").write_bytes(seed.encode(PIXELS[0, 0, 0] + z))
        urls.append(str(tmp_path / f"z{z}.tif"))
    source: Any = cloudimg.open(urls).table() if kind == "table" else urls
    given: Any = {"select": {"file": ["z3.tif", "z0.tif", "z4.tif"], "x": "8:40"}}
    values = [3, 0, 4]
    if kind == "list with a pattern":
        given = {"pattern": "z{z}.tif", "select": {"z": [0, 3, 4], "x": "8:40"}}
        values = [0, 3, 4]
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(source, out, **given)
    expected = np.stack([PIXELS[0, 0, 0, :, 8:40] + z for z in values])
    np.testing.assert_array_equal(pixels_of(out).reshape(expected.shape), expected)
    assert cloudimg.migrate(source, out, **given).n_objects == 0
    assert cloudimg.verify(out, against_source=True)
