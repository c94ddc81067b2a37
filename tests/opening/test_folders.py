"""Folders of files that instruments named: opened, shown and copied by their layout."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import MissingFilesError, NotFoundError
from tests.conftest import Place
from tests.support import seed
from tests.support.metering import Meter

SHAPE = (16, 24)


def plane(i: int) -> npt.NDArray[np.uint16]:
    return np.full(SHAPE, i, np.uint16)


def put(place: Place, names: list[str]) -> None:
    for i, name in enumerate(names):
        place.put(name, seed.encode(plane(i)))


@pytest.fixture
def local(tmp_path: Path) -> Place:
    folder = tmp_path / "archive"

    def store(key: str, data: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return Place("local", str(folder), {}, store, lambda key: (folder / key).unlink())


PHENIX = [
    f"Images/r{row:02d}c01f0{field}p01-ch{c}sk{t}fk1fl1.tiff"
    for row in (1, 2)
    for field in (1, 2)
    for c in (1, 2)
    for t in (1, 2)
]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_plate_is_opened_by_its_folder(place: Place, end: str) -> None:
    if place.name == "http":
        pytest.skip("a web server has no folders below a page")
    put(place, [f"plate/{name}" for name in PHENIX])
    place.put("plate/Images/Index.idx.xml", b"<x/>")
    options = {"storage_options": place.storage_options}
    image = cloudimg.open(f"{place.url}/plate{end}", **options)
    assert image.dims == ("row", "field", "t", "c", "y", "x")
    assert image.shape == (2, 2, 2, 2, *SHAPE)
    for i in range(len(PHENIX)):
        row, field, c, t = np.unravel_index(i, (2, 2, 2, 2))
        index = {"row": int(row), "field": int(field), "c": int(c), "t": int(t)}
        assert (image.read(index) == i).all()
    assert cloudimg.imread(f"{place.url}/plate{end}", **options).shape == image.shape
    facts = cloudimg.info(f"{place.url}/plate{end}", **options)
    assert facts["kind"] == "folder"
    [proposal] = facts["proposals"]
    assert proposal["layout"] == "Opera Phenix, Operetta (Harmony)"
    assert facts["image"]["shape"] == list(image.shape)


def test_what_lies_beside_planes_is_left_out_and_said(local: Place) -> None:
    guid = "0F8FAD5B-D9CB-469F-A165-70867728950"
    planes = [f"p_A0{well}_s1_w{c}{guid}{c}.tif" for well in (1, 2) for c in (1, 2)]
    put(local, planes + [name.replace(guid, f"_thumb{guid}") for name in planes])
    image = cloudimg.open(local.url)
    assert (image.dims[:2], image.shape[:2]) == (("well", "c"), (2, 2))
    [note] = [each for each in image.notes if each.kind == "excluded-files"]
    assert (note.n_files, "*_thumb*" in note.text) == (4, True)
    with pytest.raises(NotFoundError, match="p_A01"):  # the user's own globs count as well
        cloudimg.open(f"{local.url}/p_A01_s1_w1{guid}0.tif")
    assert cloudimg.open(local.url, exclude="p_A02*").shape == (2, *SHAPE)


def test_holes_are_told(local: Place, capsys: pytest.CaptureFixture[str]) -> None:
    times = {"T10SEG": ("2020275T184911", "2020280T184911"), "T11SKU": ("2020280T184911",)}
    put(
        local,
        [
            f"HLS.S30.{tile}.{time}.v2.0/HLS.S30.{tile}.{time}.v2.0.{band}.tif"
            for tile, each in times.items()
            for time in each
            for band in ("B04", "B8A", "Fmask")
        ],
    )
    with pytest.raises(MissingFilesError, match="3 files"):
        cloudimg.open(local.url)
    image = cloudimg.open(local.url, missing="fill")
    assert image.dims == ("tile", "band", "t", "y", "x")
    assert image.shape == (2, 3, 2, *SHAPE)
    assert image.coords["t"].dtype.kind == "M"
    assert main(["info", local.url]) == 0
    assert "tile 2, t 2, band 3; 3 files are missing" in capsys.readouterr().out


def test_a_folder_without_a_known_layout_asks(local: Place) -> None:
    put(local, [f"ch{c}_{n}.tif" for c in range(2) for n in range(3)])
    local.put("overview.tif", seed.encode(plane(0)))
    with pytest.raises(NotFoundError) as info:
        cloudimg.open(local.url)
    text = str(info.value)
    assert f"{local.url} is a folder; cloudimg.info(" in text
    assert f"{local.url}/ch{{c}}_{{n}}.tif (a guess, 6 files)" in text
    assert "overview.tif" in text


def test_a_layout_that_does_not_fit_all_files_asks(local: Place) -> None:
    put(local, PHENIX)
    local.put("stitched.tif", seed.encode(plane(0)))
    with pytest.raises(NotFoundError, match=r"no layout that is known fits all .* \(Opera Phenix"):
        cloudimg.open(local.url)
    assert cloudimg.open(local.url, exclude="stitched.tif").ndim == 6


def test_the_requests_of_a_folder(meter: Meter, bucket: str) -> None:
    for i, name in enumerate(PHENIX):
        meter.put(bucket, f"plate/{name}", seed.encode(plane(i)))
    with meter.measure() as traffic:
        cloudimg.open(f"s3://{bucket}/plate/", storage_options=meter.storage_options)
    # The folder and its end, then the pattern, its end and the first header.
    assert (traffic.lists, traffic.gets, traffic.heads) == (4, 1, 0)


def test_a_copy_of_a_folder_continues_and_is_verified(local: Place, tmp_path: Path) -> None:
    put(local, [f"plate/{name}" for name in PHENIX])
    local.put("plate/Images/flat_thumb.txt", b"-")
    source, target = f"{local.url}/plate/", str(tmp_path / "copy.zarr")
    done = cloudimg.migrate(source, target)
    assert done.n_cells > 0
    again = cloudimg.migrate(source, target)
    assert again.n_objects == 0 or again.n_cells == done.n_cells
    result = cloudimg.verify(target, against_source=True)
    assert result
    assert all(_holds(target, plane(i)) for i in range(len(PHENIX)))


# ------------------------------------------------------------------------------ real acquisitions


@pytest.mark.parametrize(
    ("acquisition", "dims", "shape", "name", "index"),
    [
        (
            "cv8000",
            ("well", "field", "c", "z", "y", "x"),
            (3, 4, 2, 4),
            "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_E03_T0001F002L01A02Z03C02.tif",
            {"well": 1, "field": 1, "c": 1, "z": 2},
        ),
        (
            "metaxpress",
            ("well", "field", "c", "z", "y", "x"),
            (2, 2, 3, 2),
            "TimePoint_1/ZStep_2/9987_B03_s2_w3.TIF",
            {"well": 1, "field": 1, "c": 2, "z": 1},
        ),
        (
            "illum",
            ("well", "field", "y", "x"),
            (24, 3),
            "AS_09047_050428030001_O14f01d2.TIF",
            {"well": 13, "field": 1},
        ),
    ],
)
@pytest.mark.slow
def test_real_folders(
    acquisition: str,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    name: str,
    index: dict[str, int],
    corpus: Path,
    tmp_path: Path,
) -> None:
    folder = corpus / "acquisitions" / acquisition
    image = cloudimg.open(folder)
    assert image.dims == dims
    assert image.shape[:-2] == shape
    expected = tifffile.imread(folder / name)
    assert np.array_equal(image.read(index), expected)

    shown = cloudimg.preview(folder, tmp_path / "plane.png", size=64)
    assert (tmp_path / "plane.png").stat().st_size > 0
    assert "plane.png" in str(shown)

    target = str(tmp_path / "copy.zarr")
    cloudimg.migrate(folder, target)
    assert cloudimg.verify(target, against_source=True)
    assert _holds(target, expected)


def _holds(target: str, plane: npt.NDArray[Any]) -> bool:
    """Whether some plane of the copy is this one; a copy may be a group of images."""
    arrays = [
        np.asarray(zarr.open_array(str(path.parent), mode="r"))
        for path in Path(target).rglob("zarr.json")
        if path.parent.name == "0" and json.loads(path.read_text())["node_type"] == "array"
    ]
    return any(
        np.array_equal(each, plane)
        for array in arrays
        for each in array.reshape(-1, *array.shape[-2:])
        if each.shape == plane.shape
    )


# ------------------------------------------------------------------------------------------- Zarr


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_is_called_so(
    version: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some" / "copy"  # its name need not say so
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = group.create_array("0", shape=(40, 40), chunks=(10, 10), dtype="u2")
    array[:] = 7
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "a Zarr group without an image" in out
    assert "proposed" not in out
    facts = cloudimg.info(path)
    assert (facts["zarrs"], facts["proposals"], facts["image"]) == ([""], [], None)
    assert "what it has is 0" in facts["image_problem"]
    with pytest.raises(NotFoundError, match="is a Zarr group, and no image"):
        cloudimg.open(path)
    assert main(["info", str(path / "0")]) == 0
    assert "40" in capsys.readouterr().out
    assert cloudimg.open(path / "0").shape == (40, 40)


def test_zarrs_beside_files_are_not_proposed(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    put(local, [f"z{z}.tif" for z in range(3)])
    zarr.create_array(f"{local.url}/a.zarr/0", shape=(8, 8), chunks=(4, 4), dtype="u1")[:] = 1
    zarr.create_array(f"{local.url}/b", shape=(8, 8), chunks=(4, 4), dtype="u1")[:] = 1
    facts = cloudimg.info(local.url)
    assert facts["zarrs"] == ["a.zarr", "b"]
    assert [each["files"] for each in facts["proposals"]] == [3]
    assert main(["info", local.url]) == 0
    assert "2 Zarr groups or arrays: a.zarr, b" in capsys.readouterr().out


def test_a_large_zarr_is_not_listed_whole(
    meter: Meter, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudimg.discovery.folder._NAMES_WITHOUT_IMAGE", 5)
    for i in range(8):
        meter.put(bucket, f"big/c/{i}", b"chunk")
    meter.put(bucket, "big/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    facts = cloudimg.info(f"s3://{bucket}/big/", storage_options=meter.storage_options)
    assert (facts["zarrs"], facts["truncated"]) == ([""], True)


# --------------------------------------------------- whole archives: opened, looked at and copied


@dataclass(frozen=True, kw_only=True)
class Naming:
    """An archive with the names of an instrument, and the image that it is."""

    dims: tuple[str, ...]
    labels: dict[str, list[Any]]
    """Labels of the axes of the names, in the order of the image."""
    name: Callable[..., str]
    """Name of the file with some labels."""
    options: dict[str, Any]
    """How `tifffile` writes each file."""


DATES = [np.datetime64("2020-10-01T18:49:11"), np.datetime64("2020-10-06T18:49:11")]
GEOTIFF = [
    (33550, "d", 3, (30.0, 30.0, 0.0), False),
    (33922, "d", 6, (0.0, 0.0, 0.0, 499980.0, 4200000.0, 0.0), False),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32610), False),
]
NAMINGS = {
    "Opera Phenix": Naming(
        dims=("row", "col", "field", "c", "z", "y", "x"),
        labels={"row": [1, 2], "col": [1, 2, 11], "field": [1, 2], "c": [1, 2, 10],
                "z": [1, 2]},
        name=lambda row, col, field, c, z: (
            f"Images/r{row:02d}c{col:02d}f{field:02d}p{z:02d}-ch{c}sk1fk1fl1.tiff"
        ),
        options={"compression": "lzw"},
    ),
    "ImageXpress": Naming(
        dims=("well", "field", "c", "y", "x"),
        labels={"well": ["A01", "B02", "C24"], "field": [1, 2, 10], "c": [1, 2, 3]},
        name=lambda well, field, c: (
            f"plate_{well}_s{field}_w{c}"
            f"{uuid.uuid5(uuid.NAMESPACE_URL, f'{well}{field}{c}')!s}.tif".upper()
            .replace("PLATE", "plate").replace("_S", "_s").replace("_W", "_w").replace("TIF", "tif")
        ),
        options={},
    ),
    "HLS": Naming(
        dims=("band", "t", "y", "x"),
        labels={"band": ["B04", "B8A", "Fmask"], "t": DATES},
        name=lambda band, t: (
            f"HLS.S30.T10SEG.{t.item():%Y%jT%H%M%S}.v2.0/"
            f"HLS.S30.T10SEG.{t.item():%Y%jT%H%M%S}.v2.0.{band}.tif"
        ),
        options={"tile": (16, 16), "compression": "deflate", "extratags": GEOTIFF},
    ),
}  # fmt: skip


@pytest.mark.parametrize("naming", NAMINGS)
def test_an_archive_is_opened_shown_and_copied_by_its_folder(tmp_path: Path, naming: str) -> None:
    """Real TIFFs: each file at the index of its labels, in a picture, and in the copy."""
    archive = NAMINGS[naming]
    folder = tmp_path / "archive"
    shape = tuple(map(len, archive.labels.values()))
    rng = np.random.default_rng(5)
    expected = rng.integers(1, 60_000, (*shape, *SHAPE), np.uint16)
    names = []
    for index in np.ndindex(shape):
        labels = {
            axis: each[i] for (axis, each), i in zip(archive.labels.items(), index, strict=True)
        }
        names.append(archive.name(**labels))
        path = folder / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, expected[index], photometric="minisblack", **archive.options)
    (folder / "readme.txt").write_text("of the archive")

    image = cloudimg.open(f"{folder}/")
    assert image.dims == archive.dims
    assert image.n_files == len(names)
    for axis, values in archive.labels.items():
        assert image.coords[axis].tolist() == np.array(values).tolist()
    np.testing.assert_array_equal(image.read(), expected)

    picture = tmp_path / "picture.png"
    cloudimg.preview(f"{folder}/", picture)
    with PIL.Image.open(picture) as shown:
        pixels = np.asarray(shown)
    assert pixels.shape[:2] == SHAPE
    assert len(np.unique(pixels)) > 50

    out = tmp_path / "copy.zarr"
    cloudimg.migrate(f"{folder}/", out, levels=1)
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    cloudimg.export(out, tmp_path / "exported", layout="originals")
    for name, index in zip(names, np.ndindex(shape), strict=True):
        found = tmp_path / "exported" / Path(name).relative_to(os.path.commonpath(names))
        np.testing.assert_array_equal(tifffile.imread(found), expected[index])
