"""Labels of an image: ``cloudimg migrate MASKS --labels-of COPY``.

What was written is read by zarr-python, and held against the models of ome-zarr-models.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v04.labels import Labels as Labels04
from ome_zarr_models.v05.labels import Labels as Labels05

import cloudimg
from cloudimg.cli.main import main
from tests.support import killing
from tests.support.metering import Meter

Array = np.ndarray[Any, Any]
SHAPE = (2, 3, 150, 130)
"""Of an image with the axes c, z, y and x."""
IDS = np.kron(
    np.random.default_rng(3).choice([0, 7, 300, 65000], (3, 30, 26)), np.ones((1, 5, 5), int)
).astype(np.uint16)
MICROMETER = {"axes": "CZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
FORMATS = pytest.mark.parametrize("zarr_format", [3, 2], ids=["zarr 3", "zarr 2"])


def make_image(folder: Path, zarr_format: Any = 3, **options: Any) -> Path:
    """A copy of an image with three levels."""
    pixels = np.random.default_rng(1).integers(0, 4000, SHAPE, np.uint16)
    source = folder / "image.ome.tif"
    tifffile.imwrite(source, pixels, metadata=MICROMETER, photometric="minisblack")
    copy = folder / "copy.zarr"
    parts = {"chunks": 32, "levels": 3, "factors": {"y": 2, "x": 3}, **options}
    cloudimg.migrate(source, copy, zarr_format=zarr_format, **parts)
    return copy


def masks(folder: Path, planes: Array, name: str = "cells_z{z}.tif") -> str:
    """A file for each plane; returns their pattern."""
    folder.mkdir(exist_ok=True)
    for z, plane in enumerate(planes):
        tifffile.imwrite(folder / name.format(z=z), plane, photometric="minisblack")
    return f"{folder}/{name}"


def attributes(group: Path) -> Any:
    """The attributes of OME-Zarr of a group."""
    if (group / "zarr.json").exists():
        return json.loads((group / "zarr.json").read_bytes())["attributes"]["ome"]
    return json.loads((group / ".zattrs").read_bytes())


def assert_whole(copy: Path, *names: str) -> None:
    """All names are listed, and image and labels are verified."""
    assert sorted(attributes(copy / "labels")["labels"]) == sorted(names)
    for each in (copy, *(copy / "labels" / name for name in names)):
        proof = cloudimg.verify(each)
        assert proof, str(proof)


@FORMATS
def test_labels_appear_beside_their_image(
    zarr_format: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = make_image(tmp_path, zarr_format)
    assert main(["migrate", masks(tmp_path / "m", IDS), "--labels-of", str(copy)]) == 0
    out = copy / "labels/cells"
    assert capsys.readouterr().out.startswith(f"{out}: 1 cell, stored ")

    group: Any = zarr.open_group(copy, mode="r")
    found = group["labels"].attrs.asdict()
    found = found["ome"] if zarr_format == 3 else found
    assert found == {"labels": ["cells"], **({"version": "0.5"} if zarr_format == 3 else {})}
    of_image, of_labels = attributes(copy), attributes(out)
    version = "0.5" if zarr_format == 3 else "0.4"
    assert of_labels["image-label"] == {"version": version, "source": {"image": "../../"}}
    assert "omero" not in of_labels
    datasets = [each["multiscales"][0]["datasets"] for each in (of_image, of_labels)]
    assert len(datasets[0]) == len(datasets[1]) == 3
    for level, (image, labels) in enumerate(zip(*datasets, strict=True)):
        pixels = group[f"labels/cells/{labels['path']}"]
        assert pixels.shape == group[image["path"]].shape[1:]
        assert set(np.unique(pixels[...])) <= set(np.unique(IDS))
        for one, other in zip(
            image["coordinateTransformations"], labels["coordinateTransformations"], strict=True
        ):
            assert one[one["type"]][1:] == pytest.approx(other[other["type"]]), level
    assert of_labels["multiscales"][0]["axes"] == of_image["multiscales"][0]["axes"][1:]
    assert of_labels["multiscales"][0]["name"] == "cells"
    np.testing.assert_array_equal(group["labels/cells/0"][...], IDS)
    models: Any = Labels05 if zarr_format == 3 else Labels04
    models.from_zarr(group["labels"])

    assert main(["verify", str(out), "--against-source"]) == 0
    assert "1 cell compared with the source, no problems" in capsys.readouterr().out
    assert main(["verify", str(copy)]) == 0
    assert "added: labels/cells (" in capsys.readouterr().out


@FORMATS
def test_masks_of_one_bit_become_bytes_and_are_mended_from_their_source(
    zarr_format: int, tmp_path: Path
) -> None:
    copy, source = make_image(tmp_path, zarr_format), masks(tmp_path / "m", IDS > 0)
    cloudimg.migrate(source, labels_of=copy, name="nuclei", downsampling="nearest")
    out = copy / "labels/nuclei"
    group: Any = zarr.open_group(out, mode="r")
    assert all(group[str(level)].dtype == np.uint8 for level in range(3))
    np.testing.assert_array_equal(group["0"][...], IDS > 0)
    np.testing.assert_array_equal(group["1"][:, :, :43], (IDS > 0)[:, ::2, 1::3])
    assert cloudimg.verify(out, against_source=True)
    for path in (out / "0").rglob("*"):
        if path.is_file() and path.name[0].isdigit():
            path.write_bytes(b"x")
    assert not cloudimg.verify(out)
    assert cloudimg.repair(out, from_source=True)
    assert cloudimg.verify(out, against_source=True)
    cloudimg.export(out, tmp_path / "back")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "back/cells_z1.tif"), IDS[1] > 0)


def test_several_label_images_are_listed_together(tmp_path: Path) -> None:
    copy = make_image(tmp_path)
    cloudimg.migrate(masks(tmp_path / "m", IDS), labels_of=copy)
    thirds = cast(Any, da).from_array(IDS // 3)
    cloudimg.to_zarr(thirds, labels_of=copy, name="thirds")
    cloudimg.open(masks(tmp_path / "n", IDS // 2, "{z}.tif")).to_zarr(labels_of=copy)
    assert_whole(copy, "cells", "thirds", "n")


@pytest.mark.parametrize("dims", ["czyx", "tczyx"])
def test_axes_t_and_c_may_be_absent(dims: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    image = np.zeros((2, 1, 3, 40, 30)[-len(dims) :], np.uint16)
    cloudimg.to_zarr(image, copy, dims=tuple(dims))
    cloudimg.to_zarr(np.ones((3, 40, 30), np.int32), labels_of=copy, name="a")
    if "t" in dims:
        by_time = np.ones((2, 3, 40, 30), np.int32)
        cloudimg.to_zarr(by_time, labels_of=copy, name="b", dims=tuple("tzyx"))
        assert_whole(copy, "a", "b")
    else:
        assert_whole(copy, "a")


def test_labels_take_levels_and_coordinates_of_images_of_other_programs(tmp_path: Path) -> None:
    """Level 1 was rounded down, and the translation applies to all levels."""
    root: Any = zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    for path, shape in (("s0", (31, 40)), ("s1", (15, 20)), ("s2", (5, 5))):
        root.create_array(path, shape=shape, dtype="uint8")
    axes = [{"name": dim, "type": "space", "unit": "millimeter"} for dim in "yx"]
    datasets = [
        {"path": f"s{n}", "coordinateTransformations": [{"type": "scale", "scale": [s, s]}]}
        for n, s in enumerate((0.1, 0.2, 0.8))
    ]
    moved = [{"type": "scale", "scale": [1, 10]}, {"type": "translation", "translation": [5, 7]}]
    multiscale = {"axes": axes, "datasets": datasets, "coordinateTransformations": moved}
    root.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    cloudimg.to_zarr(np.ones((31, 40), np.uint8), labels_of=tmp_path / "other.zarr", name="a")
    found = attributes(tmp_path / "other.zarr/labels/a")["multiscales"][0]
    assert found["axes"] == axes
    first, _, last = (each["coordinateTransformations"] for each in found["datasets"])
    assert first[0]["scale"] == pytest.approx([0.1, 1.0])
    assert first[1]["translation"] == pytest.approx([5, 7])
    assert last[0]["scale"] == pytest.approx([0.6, 8.0])
    group: Any = zarr.open_group(tmp_path / "other.zarr/labels/a", mode="r")
    assert [group[str(n)].shape for n in range(3)] == [(31, 40), (16, 20), (6, 5)]


def test_pixel_sizes_of_the_masks_give_way_to_those_of_the_image(tmp_path: Path) -> None:
    copy = make_image(tmp_path)
    source = tmp_path / "mask.ome.tif"
    tifffile.imwrite(source, IDS, metadata={**MICROMETER, "axes": "ZYX", "PhysicalSizeX": 0.7})
    done = cloudimg.migrate(source, labels_of=copy)
    scale = attributes(copy / "labels/mask")["multiscales"][0]["datasets"][0]
    assert scale["coordinateTransformations"][0]["scale"] == [2.0, 0.5, 0.5]
    assert "x 0.7 micrometer instead of 0.5 micrometer" in str(done.notes)
    assert "y 0.5" not in str(done.notes)


@pytest.mark.parametrize(
    ("pixels", "words", "what"),
    [
        (IDS.astype(np.float32), [], "labels are integers, and the pixels are float32"),
        (IDS[:2], [], "has {'c': 2, 'z': 3, 'y': 150, 'x': 130}, and the source {'z': 2, "),
        (IDS[:, :100], [], "'x': 130}, and the source {'z': 3, 'y': 100, 'x': 130}"),
        (IDS[..., None].repeat(3, -1).astype(np.uint8), [], "the source has 3 samples"),
        (IDS, ["--downsampling", "mean"], "--downsampling mean would make labels that do not"),
        (IDS, ["--levels", "2"], "--levels is not for labels"),
        (IDS, ["--zarr-format", "2"], "--zarr-format 2, but"),
        (IDS, ["--name", "a/b"], "--name a/b cannot be that of labels"),
        (IDS, ["--name", "zarr.json"], "--name zarr.json cannot be that of labels"),
        (IDS, ["--dry-run"], "--labels-of and --dry-run exclude each other"),
    ],
    ids=["floats", "depth", "height", "samples", "mean", "levels", "format", "a/b", "doc", "plan"],
)
def test_what_cannot_be_labels_is_refused_before_anything_is_stored(
    pixels: Array,
    words: list[str],
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.to_zarr(np.zeros(SHAPE, np.uint8), copy, dims=tuple("czyx"))
    folder = tmp_path / "m"
    folder.mkdir()
    for z, plane in enumerate(pixels):
        tifffile.imwrite(folder / f"a_z{z}.tif", plane)
    assert main(["migrate", f"{folder}/a_z{{z}}.tif", "--labels-of", str(copy), *words]) == 2
    assert what in capsys.readouterr().err
    assert not (copy / "labels").exists()


def test_channels_are_refused_and_one_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.to_zarr(np.zeros((3, 150, 130), np.uint8), copy, dims=tuple("czyx")[1:])
    for c in range(2):
        masks(tmp_path / "m", IDS + c, f"c{c}_z{{z}}.tif")
    words = ["migrate", f"{tmp_path}/m/c{{c}}_z{{z}}.tif", "--labels-of", str(copy)]
    assert main(words) == 2
    assert "the source has 2 along c: choose one with --select c=0" in capsys.readouterr().err
    assert main([*words, "--select", "c=1", "--name", "second"]) == 0
    group: Any = zarr.open_group(copy, mode="r")
    np.testing.assert_array_equal(group["labels/second/0"][...], IDS + 1)


def test_where_there_is_no_image_there_are_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = masks(tmp_path / "m", IDS)
    plates = np.zeros((2, 2, 3, 150, 130), np.uint8)
    cloudimg.to_zarr(plates, tmp_path / "many.zarr", dims=("run", "site", "z", "y", "x"))
    for where, what in (
        ("nothing.zarr", "nothing.zarr is not a finished image of OME-Zarr"),
        ("many.zarr/0/0", "many.zarr/0/0 is not an image of OME-Zarr, although it is a Zarr"),
        ("many.zarr", f"name the folder of one image, such as {tmp_path}/many.zarr/0"),
    ):
        assert main(["migrate", source, "--labels-of", str(tmp_path / where)]) == 2
        assert what in capsys.readouterr().err
    assert main(["migrate", source, "--labels-of", str(tmp_path / "many.zarr/3")]) == 0
    assert cloudimg.verify(tmp_path / "many.zarr")
    for words in ([source], [source, "a.zarr", "--labels-of", str(tmp_path / "many.zarr/3")]):
        with pytest.raises(SystemExit):
            main(["migrate", *words])
    for name, problem in ((None, r"have no name.* pass name="), (5, r"name=5 cannot be that of")):
        with pytest.raises(cloudimg.CloudimgError, match=problem):
            cloudimg.to_zarr(IDS, labels_of=tmp_path / "many.zarr/2", name=cast(Any, name))


def test_the_list_keeps_what_others_wrote_and_is_completed_by_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, source = make_image(tmp_path), masks(tmp_path / "m", IDS)
    cloudimg.migrate(source, labels_of=copy)
    document = copy / "labels/zarr.json"
    content = json.loads(document.read_bytes())
    content["attributes"] = {"mine": 1, "ome": {"version": "0.5", "labels": ["theirs"]}}
    document.write_text(json.dumps(content))  # as if the name had not been added yet
    words = ["migrate", source, "--labels-of", str(copy)]
    assert main(words) == 0
    assert "nothing left to do" in capsys.readouterr().out
    content["attributes"]["ome"]["labels"] = ["theirs", "cells"]
    assert json.loads(document.read_bytes()) == content
    before = document.stat().st_mtime_ns
    assert main(words) == 0
    assert document.stat().st_mtime_ns == before
    document.write_text("no JSON")
    assert main(words) == 4
    assert "is not the metadata of a group of labels" in capsys.readouterr().err
    assert document.read_text() == "no JSON"


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_consolidated_metadata_are_mentioned(tmp_path: Path) -> None:
    copy = make_image(tmp_path)
    zarr.consolidate_metadata(copy)
    done = cloudimg.migrate(masks(tmp_path / "m", IDS), labels_of=copy)
    assert re.search("readers do not find these labels before it is consolidated", str(done))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_several_at_once_lose_none(where: str, meter: Meter, bucket: str, tmp_path: Path) -> None:
    options = meter.storage_options if where == "bucket" else {}
    copy = f"s3://{bucket}/copy.zarr" if where == "bucket" else str(tmp_path / "copy.zarr")
    cloudimg.to_zarr(np.zeros((64, 64), np.uint8), copy, storage_options=options)
    names = [f"label {n}" for n in range(12)]

    def write(name: str) -> cloudimg.Migration:
        pixels = np.full((64, 64), 3, np.uint8)
        return cloudimg.to_zarr(pixels, labels_of=copy, name=name, storage_options=options)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(write, names))
    found: Any = zarr.open_group(f"{copy}/labels", storage_options=options or None, mode="r")
    assert sorted(found.attrs["ome"]["labels"]) == sorted(names)


def write_labels(source: str, copy: str, kill_at: int = 0) -> None:
    """The call that is killed; runs in a process of its own."""
    if kill_at:
        killing.kill_at(f"{copy}/labels", kill_at)
    cloudimg.migrate(source, labels_of=copy)


@pytest.mark.slow
def test_killed_at_any_call_the_next_run_completes_it(tmp_path: Path) -> None:
    source, image = masks(tmp_path / "m", IDS), make_image(tmp_path)
    processes = killing.processes_with("cloudimg.api.migrations", __name__)
    at, n_killed, is_done = 0, 0, False
    while not is_done:
        at = killing.next_call(at)
        copy = tmp_path / f"copy-{at}.zarr"
        shutil.copytree(image, copy)
        code = killing.exit_code(processes, partial(write_labels, source, str(copy), at))
        is_done = code == 0
        assert code in (0, -signal.SIGKILL)
        n_killed += not is_done
        assert cloudimg.verify(copy)
        listed = copy / "labels/zarr.json"
        assert not listed.exists() or cloudimg.verify(copy / "labels/cells")
        cloudimg.migrate(source, labels_of=copy)
        assert_whole(copy, "cells")
    assert n_killed >= 5
