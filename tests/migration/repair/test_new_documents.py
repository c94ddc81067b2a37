"""Copies of older versions: verified as they are, and given new documents by ``repair``.

``older_copies.zip`` has two that a version before facts of colours made: of an RGB image in Zarr 3,
and of an OME-TIFF in Zarr 2, whose sources were in ``memory://archive``.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
import xarray
import zarr
from ome_zarr_models.v05.image import Image as Image05

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import DamagedCopyError
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY, RECORDS
from tests.support import copies, killing
from tests.support.metering import Meter
from tests.support.older import begun_by_an_older_version

SAMPLES = Path(__file__).with_name("older_copies.zip")
PARTS: dict[str, Any] = {"chunks": 32, "levels": 2}
Y, X = np.mgrid[0:40, 0:48]
RGB = np.stack([5 * X, 60 + 0 * X, 4 * Y], -1).astype(np.uint8)
CELLS = np.stack([X + Y, X * Y]).astype(np.uint16)
OME: dict[str, Any] = {
    "axes": "CYX",
    "Name": "two dyes",
    "PhysicalSizeX": 0.5,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 500,
    "PhysicalSizeYUnit": "nm",
    "Channel": {"Name": ["DAPI", "GFP"]},
}


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The folder of the two copies, ``rgb.zarr`` and ``cells.zarr``."""
    zipfile.ZipFile(SAMPLES).extractall(tmp_path / "older")
    return tmp_path / "older"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The folder with the sources, which are not where they were."""
    folder = tmp_path / "sources"
    folder.mkdir()
    tifffile.imwrite(folder / "rgb.tif", RGB, photometric="rgb")
    tifffile.imwrite(folder / "cells.ome.tif", CELLS, photometric="minisblack", metadata=OME)
    return folder


def attributes(copy: Path) -> Any:
    if (copy / "zarr.json").exists():
        return json.loads((copy / "zarr.json").read_bytes())["attributes"]["ome"]
    return json.loads((copy / ".zattrs").read_bytes())


def pixels_of(copy: Path) -> dict[str, bytes]:
    """Every stored object of pixels, and the times at which they were written."""
    return {
        str(path): path.read_bytes() + str(path.stat().st_mtime_ns).encode()
        for path in copy.rglob("*")
        if path.is_file() and path.relative_to(copy).parts[0] in ("0", "1") and path.name.isdigit()
    }


def windows(copy: Path) -> list[tuple[str, str, int, int]]:
    return [
        (each["label"], each["color"], each["window"]["start"], each["window"]["end"])
        for each in attributes(copy)["omero"]["channels"]
    ]


@pytest.mark.parametrize("name", ["rgb", "cells"])
def test_they_are_verified_and_repaired_as_they_are(name: str, older: Path) -> None:
    copy = older / f"{name}.zarr"
    before = copies.objects(str(copy), {})
    proof = cloudimg.verify(copy)
    assert proof, str(proof)
    assert not proof.edits
    assert cloudimg.repair(copy).n_mended == 0
    assert copies.image_of(copies.objects(str(copy), {})) == copies.image_of(before)
    (copy / "1" / ("zarr.json" if name == "rgb" else ".zarray")).unlink()
    assert cloudimg.repair(copy).n_mended == 1
    assert copies.image_of(copies.objects(str(copy), {})) == copies.image_of(before)


def test_without_a_source_documents_are_made_of_what_the_copy_has(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = older / "rgb.zarr"
    before = pixels_of(copy)
    assert len({window[2:] for window in windows(copy)}) == 3  # a window for each sample
    assert main(["repair", str(copy), "--new-documents", "--dry-run"]) == 0
    assert "1 document would be written anew, nothing was changed" in capsys.readouterr().out
    assert len({window[2:] for window in windows(copy)}) == 3
    assert main(["repair", str(copy), "--new-documents"]) == 0
    out = capsys.readouterr().out
    assert "0 problems, 1 document written anew, none left" in out
    assert "written anew: zarr.json" in out
    assert "note: the source was not read (" in out
    assert windows(copy) == [
        ("red", "FF0000", 0, 255),
        ("green", "00FF00", 0, 255),
        ("blue", "0000FF", 0, 255),
    ]
    assert pixels_of(copy) == before
    proof = cloudimg.verify(copy)
    assert proof, str(proof)
    assert not proof.edits
    Image05.from_zarr(zarr.open_group(copy, mode="r"))
    assert main(["repair", str(copy), "--new-documents"]) == 0
    assert "0 documents written anew" in capsys.readouterr().out


@pytest.mark.parametrize("n", [7, 999])
def test_files_of_another_size_are_another_source(n: int, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    for folder, n_characters in (("in", 7), ("other", n)):
        (tmp_path / folder).mkdir()
        text, resolution = "x" * n_characters, (1, 2)[folder == "other"]
        for z in range(2):
            path = tmp_path / folder / f"a_{z}z.tif"
            tifffile.imwrite(
                path, pixels, description=text, resolution=(resolution, resolution),
                resolutionunit="centimeter", metadata=None,
            )  # fmt: skip
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(tmp_path / "in" / "a_{z}z.tif", copy)
    sizes = (copy / "zarr.json").read_text()
    done = cloudimg.repair(copy, new_documents=True, source=tmp_path / "other" / "a_{z}z.tif")
    (note,) = done.notes
    assert ("it has other files than were copied" in note) == (n == 999)
    assert ("pixels were not compared" in note) == (n == 7)
    assert ((copy / "zarr.json").read_text() == sizes) == (n == 999)


@pytest.mark.parametrize("name", ["rgb", "cells"])
def test_with_their_source_they_get_the_documents_of_new_copies(
    name: str, older: Path, sources: Path, tmp_path: Path
) -> None:
    copy, new = older / f"{name}.zarr", tmp_path / "new.zarr"
    (source,) = sources.glob(f"{name}*")
    before = pixels_of(copy)
    done = cloudimg.repair(copy, new_documents=True, source=source)
    assert done
    (note,) = done.notes
    assert "pixels were not compared" in note
    assert pixels_of(copy) == before
    zarr_format: Any = 3 if name == "rgb" else 2
    cloudimg.migrate(source, new, zarr_format=zarr_format, **PARTS)
    assert attributes(copy).get("omero") == attributes(new).get("omero")
    assert attributes(copy)["multiscales"] == attributes(new)["multiscales"]
    proof = cloudimg.verify(copy, source=source)
    assert proof, str(proof)
    assert not proof.edits
    if name == "cells":
        assert attributes(copy)["multiscales"][0]["name"] == "two dyes"
        scales = attributes(copy)["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert scales[0]["scale"] == [1, 0.5, 0.5]
        kept = (copy / "OME/source/0.ome.xml").read_text()
        assert 'PhysicalSizeY="500"' in kept
        assert 'PhysicalSizeY="0.5"' in (copy / "OME/METADATA.ome.xml").read_text()


def test_what_others_edited_stays_unless_it_is_to_be_replaced(older: Path) -> None:
    copy = older / "rgb.zarr"
    document = copy / "zarr.json"
    content = json.loads(document.read_bytes())
    content["attributes"]["mine"] = {"a": [1, 2]}
    channels = content["attributes"]["ome"]["omero"]["channels"]
    channels[1]["color"] = "ABCDEF"
    content["attributes"]["ome"]["multiscales"][0]["name"] = "my name"
    document.write_text(json.dumps(content))
    cloudimg.repair(copy, new_documents=True)
    found = json.loads(document.read_bytes())["attributes"]
    assert found["mine"] == {"a": [1, 2]}
    assert found["ome"]["multiscales"][0]["name"] == "my name"
    assert windows(copy)[1] == ("green", "ABCDEF", 0, 255)
    proof = cloudimg.verify(copy)
    assert proof, str(proof)
    assert [each.key for each in proof.edits] == ["zarr.json"]
    assert cloudimg.repair(copy, new_documents=True).n_renewed == 0
    assert cloudimg.repair(copy, new_documents=True, replace_edits=True).n_renewed == 1
    assert windows(copy)[1] == ("green", "00FF00", 0, 255)
    assert not cloudimg.verify(copy).edits


@pytest.mark.parametrize(
    ("unit", "size"), [("nanometer", 650.0), ("micrometer", 500.0), ("micrometer", 0.65)]
)
def test_edited_sizes_of_pixels_keep_the_unit_that_they_were_edited_in(
    older: Path, unit: str, size: float
) -> None:
    """The older version wrote nanometers along y, and this one writes micrometers."""
    copy = older / "cells.zarr"
    document = copy / ".zattrs"
    content = json.loads(document.read_bytes())
    multiscale = content["multiscales"][0]
    assert multiscale["axes"][1] == {"name": "y", "type": "space", "unit": "nanometer"}
    multiscale["axes"][1]["unit"] = unit
    multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][1] = size
    document.write_text(json.dumps(content))
    cloudimg.repair(copy, new_documents=True)
    found = json.loads(document.read_bytes())
    for name in ("axes", "datasets"):
        assert found["multiscales"][0][name] == multiscale[name]
    assert found["omero"]["name"]  # new, as in other copies
    assert [each.key for each in cloudimg.verify(copy).edits] == [".zattrs"]
    assert cloudimg.repair(copy, new_documents=True).n_renewed == 0
    cloudimg.repair(copy, new_documents=True, replace_edits=True)
    assert not cloudimg.verify(copy).edits


def test_an_array_without_its_coordinates_takes_none_from_the_copy(tmp_path: Path) -> None:
    coords = {dim: (dim, 0.5 * np.arange(8), {"units": "um"}) for dim in ("y", "x")}
    array = xarray.DataArray(np.zeros((8, 8), np.uint8), coords, ("y", "x"), name="a")
    copy = tmp_path / "stated.zarr"
    cloudimg.to_zarr(array, copy, identity="a", pixel_size={"y": 2, "x": 2})
    plan = (copy / PLAN).read_bytes()
    assert not cloudimg.repair(copy, new_documents=True, from_source=array).notes
    assert (copy / PLAN).read_bytes() == plan  # sizes that are stated have no order
    assert not cloudimg.repair(copy, new_documents=True, from_source=array.data).notes
    copy = tmp_path / "copy.zarr"
    cloudimg.to_zarr(array, copy, identity="a")
    before = attributes(copy)
    (note,) = cloudimg.repair(copy, new_documents=True, from_source=array.data).notes
    assert "has no coordinates along x, y, unlike the one that was copied" in note
    assert attributes(copy) == before


def test_damaged_copies_are_to_be_mended_first(older: Path) -> None:
    copy = older / "rgb.zarr"
    (record,) = (copy / RECORDS).rglob("*.json")
    record.unlink()
    before = copies.image_of(copies.objects(str(copy), {}))
    with pytest.raises(DamagedCopyError, match=r"Mend it first, by cloudimg[.]repair without"):
        cloudimg.repair(copy, new_documents=True)
    assert copies.image_of(copies.objects(str(copy), {})) == before


def test_no_object_of_an_array_is_read_or_stored(older: Path, meter: Meter, bucket: str) -> None:
    fs = fsspec.filesystem("s3", **meter.storage_options)
    for name in ("rgb", "cells"):
        fs.put(str(older / f"{name}.zarr"), f"{bucket}/{name}.zarr", recursive=True)
        with meter.measure() as traffic:
            url = f"s3://{bucket}/{name}.zarr"
            done = cloudimg.repair(url, storage_options=meter.storage_options, new_documents=True)
        assert done.n_renewed
        keys = [each.key.partition(".zarr/")[2] for each in traffic.requests]
        assert not [key for key in keys if key.startswith(("0/c/", "1/c/", "originals/"))]
        assert not [key for key in keys if re.match("[01]/[0-9]", key)]
        stored = {each.key for each in traffic.requests if each.method != "GET"}
        assert {f"{name}.zarr/{each}" for each in (PLAN, PLAN_COPY, END_MARK)} <= stored


def older_copy(folder: Path, zarr_format: Any) -> tuple[Path, Path]:
    """An OME-TIFF and a copy that was finished by the plan of an older version."""
    source, copy = folder / "cells.ome.tif", folder / "copy.zarr"
    tifffile.imwrite(source, CELLS, photometric="minisblack", metadata=OME)
    begun_by_an_older_version(source, copy, zarr_format=zarr_format, **PARTS)
    cloudimg.migrate(source, copy, zarr_format=zarr_format, **PARTS)
    return source, copy


def renew(copy: str, kill_at: int = 0) -> None:
    """The call that is killed; runs in a process of its own."""
    if kill_at:
        killing.kill_at(copy, kill_at)
    cloudimg.repair(copy, new_documents=True)


@pytest.mark.slow
def test_killed_at_any_call_the_next_one_completes_it(tmp_path: Path) -> None:
    """Also after a repair, or a migration, which either has nothing to do or is refused."""
    source, whole = older_copy(tmp_path, 3)
    processes = killing.processes_with("cloudimg.api.repairs", __name__)
    at, n_killed, is_done = 0, 0, False
    while not is_done:
        at = killing.next_call(at)
        copy = tmp_path / f"copy-{at}.zarr"
        shutil.copytree(whole, copy)
        before = {key.rpartition("zarr/")[2]: data for key, data in pixels_of(copy).items()}
        code = killing.exit_code(processes, partial(renew, str(copy), at))
        is_done = code == 0
        assert code in (0, -signal.SIGKILL)
        n_killed += not is_done
        group: Any = zarr.open_group(copy, mode="r")
        np.testing.assert_array_equal(group["0"][...], CELLS)
        if n_killed % 3 == 1:
            assert cloudimg.repair(copy)
            assert cloudimg.verify(copy, against_source=True)
        elif n_killed % 3 == 2:
            with suppress(DamagedCopyError):
                assert cloudimg.migrate(source, copy, **PARTS).n_objects == 0
        assert cloudimg.repair(copy, new_documents=True)
        proof = cloudimg.verify(copy, against_source=True)
        assert proof, str(proof)
        assert not proof.edits
        assert windows(copy)[0][0] == "DAPI"
        assert attributes(copy)["multiscales"][0]["name"] == "two dyes"
        assert (copy / PLAN).read_bytes() == (copy / PLAN_COPY).read_bytes()
        assert (copy / END_MARK).exists()
        after = {key.rpartition("zarr/")[2]: data for key, data in pixels_of(copy).items()}
        assert after == before
    assert n_killed >= 4
