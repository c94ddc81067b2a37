"""All images of a source as a collection: each a copy of its own, with its own name and levels."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ngff_zarr
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from ome_zarr_models.v04.bioformats2raw import BioFormats2Raw as BioFormats2Raw04
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw as BioFormats2Raw05

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError, LeaseError
from cloudimg.migration.journal.layout import COLLECTION, COLLECTION_COPY, END_MARK, PLAN
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.state_from_json import identity_of
from tests.support import copies, killing
from tests.support.clusters import local_client
from tests.support.metering import Meter

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
LISTS = (COLLECTION, COLLECTION_COPY)


def images_of(seed: int = 0) -> dict[str, tuple[str, Array]]:
    """Axes and pixels of images of other shapes and types, by name."""
    draw = np.random.default_rng(seed)
    return {
        "overview of A": ("CYX", draw.integers(0, 255, (3, 40, 50), np.uint8)),
        "detail": ("YX", draw.integers(0, 60000, (70, 30), np.uint16)),
        "stack": ("ZYX", draw.random((2, 20, 24)).astype(np.float32)),
    }


def write(path: Path, seed: int = 0) -> list[Array]:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, (axes, pixels) in images_of(seed).items():
            metadata = {"axes": axes, "Name": name, "PhysicalSizeX": len(name)}
            writer.write(pixels, photometric="minisblack", metadata=metadata)
    return [pixels for _, pixels in images_of(seed).values()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(tmp_path / "three.ome.tif")
    return tmp_path / "three.ome.tif"


def attributes(copy: Path, zarr_format: int = 3) -> dict[str, Any]:
    if zarr_format == 2:
        return dict(json.loads((copy / ".zattrs").read_text()))
    return dict(json.loads((copy / "zarr.json").read_text())["attributes"]["ome"])


def level_0(copy: Path) -> Array:
    group = zarr.open_group(str(copy), mode="r")
    return np.squeeze(np.asarray(group["0"]))


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_all_images_by_the_command_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], zarr_format: int
) -> None:
    copy = tmp_path / "copy.zarr"
    words = ["--series", "all", "--zarr-format", str(zarr_format), "--levels", "2"]
    assert main(["migrate", str(source), str(copy), *words]) == 0
    assert f"{copy}: 3 images, 3 cells, stored " in capsys.readouterr().out
    assert attributes(copy, zarr_format)["bioformats2raw.layout"] == 3
    assert attributes(copy / "OME", zarr_format)["series"] == ["0", "1", "2"]
    for number, (name, (_, pixels)) in enumerate(images_of().items()):
        folder = copy / str(number)
        np.testing.assert_array_equal(level_0(folder), np.squeeze(pixels))
        (multiscale,) = attributes(folder, zarr_format)["multiscales"]
        assert multiscale["name"] == name
        assert len(multiscale["datasets"]) == 2
        scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale[-1] == len(name)
        read = ngff_zarr.from_ngff_zarr(str(folder), validate=True)
        assert read.images[0].name == name
    model: Any = {3: BioFormats2Raw05, 2: BioFormats2Raw04}[zarr_format]
    group = zarr.open_group(str(copy), mode="r")
    assert model.from_zarr(group)
    # Programs that do not know the layout open the first image.
    (first,) = attributes(copy, zarr_format)["multiscales"]
    assert first["name"] == "overview of A"
    pixels = np.asarray(group[first["datasets"][0]["path"]])
    np.testing.assert_array_equal(pixels, images_of()["overview of A"][1])
    root = ElementTree.parse(copy / "OME" / "METADATA.ome.xml").getroot()
    assert [each.get("Name") for each in root if each.tag.endswith("Image")] == [*images_of()]
    # The same command finds it complete, another source or one image is refused.
    assert main(["migrate", str(source), str(copy), *words]) == 0
    assert "is complete: nothing left to do" in capsys.readouterr().out
    assert main(["migrate", str(source), str(copy), "--series", "1"]) == 7
    assert "a collection of 3 images, which --series all continues" in capsys.readouterr().err
    assert main(["verify", str(copy), "--against-source"]) == 0
    printed = capsys.readouterr().out
    assert "3 cells compared with the source, no problems" in printed
    assert "further images" not in printed
    assert main(["export", str(copy), str(tmp_path / "out")]) == 2
    assert f"is a collection of 3 images, each of which is a copy of its own: name one of them," \
        f" such as {copy}/0" in capsys.readouterr().err  # fmt: skip


def test_the_dry_run_sums_up(source: Path, tmp_path: Path) -> None:
    found = cloudimg.dry_run(source, series="all")
    assert list(found.images) == ["0", "1", "2"]
    numbers = found.to_json()
    images = numbers["images"].values()
    for name in ("cells", "objects", "bytes_to_write", "list_requests"):
        assert numbers[name] == sum(each[name] for each in images) > 0
    assert numbers["put_requests"] == sum(each["put_requests"] for each in images) + 6
    assert found.bytes_to_read == pytest.approx(source.stat().st_size, abs=2)
    assert "image 1:\n  levels by mean, axes y x, <u2" in str(found)
    done = cloudimg.migrate(source, tmp_path / "copy.zarr", series="all")
    assert (done.n_cells, done.n_objects) == (found.cells, found.objects)


def test_damage_in_one_image(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(source, copy, series="all", levels=2)
    whole = copies.objects(str(copy), {})
    (shard,) = (each for each in (copy / "1" / "0" / "c").rglob("*") if each.is_file())
    shard.write_bytes(shard.read_bytes()[:-3])
    (copy / COLLECTION).unlink()
    (copy / "OME" / "zarr.json").write_text("{}")
    (copy / ".zgroup").write_text("{}")
    (copy / "notes").mkdir()
    (copy / "notes" / "mine.txt").write_text("mine")
    found = cloudimg.verify(copy)
    urls = {problem.url for problem in found.problems}
    damaged = {shard, copy / COLLECTION, copy / "OME" / "zarr.json", copy / ".zgroup"}
    assert urls == set(map(str, damaged))
    assert [str(each) for each in found.edits] == ["added: notes (1 object)"]
    assert cloudimg.repair(copy, dry_run=True).n_found == found.n_problems
    done = cloudimg.repair(copy, remove_orphans=True)
    assert done, str(done)
    assert any(each.startswith("1/.cloudimg/cells/0/") for each in done.mended)
    assert (copy / "notes" / "mine.txt").exists()
    assert cloudimg.verify(copy, against_source=True)
    now = copies.objects(str(copy), {})
    del now["notes/mine.txt"]
    assert _images(now) == _images(whole)


def _images(found: dict[str, bytes]) -> dict[str, bytes]:
    """The objects of all images and the list of them, without their journals."""
    kept = {key: data for key, data in found.items() if "/.cloudimg/" not in f"/{key}"}
    return kept | {key: found[key] for key in LISTS if key in found}


@pytest.mark.slow
def test_an_image_that_is_lost_or_in_the_place_of_another(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(source, copy, series="all")
    (copy / "1").rename(tmp_path / "one")
    found = cloudimg.verify(copy)
    assert [str(each) for each in found.problems] == [
        f"{copy}/1: there is nothing at {copy}/1, neither a copy nor other objects: check the URL"
    ]
    (copy / "0").rename(copy / "1")
    (tmp_path / "one").rename(copy / "0")
    found = cloudimg.verify(copy)
    assert [each.what.partition(" in Zarr")[0] for each in found.problems] == [
        "is a copy of image 1", "is a copy of image 0",
    ]  # fmt: skip
    assert not cloudimg.repair(copy)
    # What repair cannot make, the migration does: the images are found in other places.
    with pytest.raises(ArgumentError, match="other"):
        cloudimg.migrate(source, copy, series="all")
    done = cloudimg.migrate(source, copy, series="all", overwrite=True)
    assert done.n_done_before == 0
    assert cloudimg.verify(copy, against_source=True)


def test_an_interrupted_collection_goes_on_with_the_image(source: Path, tmp_path: Path) -> None:
    copy, told = tmp_path / "copy.zarr", list[str]()

    def stop(advance: cloudimg.Advance) -> None:
        told.append(advance.what or advance.note)
        if advance.what == "migrating image 2 of 3":
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cloudimg.migrate(source, copy, series="all", progress=stop)
    assert "migrating image 1 of 3" in told
    assert not [each for each in told if "further images" in each]
    assert not (copy / "zarr.json").exists()
    with pytest.raises(ArgumentError, match="unfinished migration"):
        cloudimg.migrate(source, copy, series="all", resume=False)
    problems = [str(each) for each in cloudimg.verify(copy).problems]
    assert any("the migration was not finished" in each for each in problems)
    assert any(f"nothing at {copy}/2" in each for each in problems)
    # Finished images stay, also where the call may overwrite.
    done = cloudimg.migrate(source, copy, series="all", overwrite=True)
    assert (done.n_cells, done.images[0].n_done_before) == (3, 1)
    assert cloudimg.verify(copy, against_source=True)
    fresh = tmp_path / "fresh.zarr"
    cloudimg.migrate(source, fresh, series="all")
    assert _images(copies.objects(str(copy), {})) == _images(copies.objects(str(fresh), {}))


@pytest.mark.slow
def test_what_may_be_overwritten(source: Path, tmp_path: Path, meter: Meter, bucket: str) -> None:
    options: dict[str, Any] = {"target_options": meter.storage_options}
    copy = f"s3://{bucket}/copy.zarr"
    meter.put(bucket, "copy.zarr/mine.txt", b"mine")
    with pytest.raises(ArgumentError, match="objects that cloudimg did not write"):
        cloudimg.migrate(source, copy, series="all", **options)
    asked: list[Any] = []

    def agree(deletion: Any) -> bool:
        asked.append(deletion)
        return True

    cloudimg.migrate(source, copy, series="all", overwrite=True, confirm=agree, **options)
    assert (len(asked), asked[0].n_objects) == (1, 1)
    cloudimg.migrate(source, copy, series=1, **options, overwrite=True)
    with pytest.raises(ArgumentError, match='a copy of one image, and series="all" writes the 3'):
        cloudimg.migrate(source, copy, series="all", **options)
    assert cloudimg.verify(copy, storage_options=meter.storage_options)
    cloudimg.migrate(source, copy, series="all", **options, overwrite=True)
    # Another file with images of the same shapes is another source.
    other = tmp_path / "other.ome.tif"
    write(other, seed=1)
    with pytest.raises(ArgumentError, match="the source's URLs were"):
        cloudimg.migrate(other, copy, series="all", **options)
    cloudimg.migrate(other, copy, series="all", **options, overwrite=True)
    assert cloudimg.verify(
        copy, against_source=True, storage_options=meter.storage_options, source_options={}
    )
    found = copies.objects(copy, meter.storage_options)
    assert not [key for key in found if key.startswith(".cloudimg/") and key not in LISTS
                and "/lease/" not in key]  # fmt: skip


def test_a_writer_of_one_image_keeps_others_from_deleting_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(source, copy, series="all")

    def overwrite(advance: cloudimg.Advance) -> None:
        if advance.what:
            with pytest.raises(LeaseError, match=r"writing to .*copy\.zarr/1"):
                cloudimg.migrate(source, copy, series="all", overwrite=True)

    cloudimg.migrate(source, copy / "1", series=1, overwrite=True, progress=overwrite)
    assert cloudimg.verify(copy)


def test_two_writers_of_one_collection(source: Path, tmp_path: Path) -> None:
    copy, refused = tmp_path / "copy.zarr", list[str]()

    def begin_again(advance: cloudimg.Advance) -> None:
        if advance.what.startswith("migrating"):
            with pytest.raises(LeaseError) as caught:
                cloudimg.migrate(source, copy, series="all")
            refused.append(caught.value.url or "")

    cloudimg.migrate(source, copy, series="all", progress=begin_again)
    assert refused == [str(copy)] * 3
    assert cloudimg.verify(copy)


@pytest.mark.slow
def test_on_a_cluster(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    with local_client(1, 2) as client:
        done = cloudimg.migrate(source, copy, series="all", client=client)
        assert len(done.images) == 3
        assert cloudimg.verify(copy, against_source=True, client=client)
        (copy / "1" / "zarr.json").unlink()
        assert cloudimg.repair(copy, client=client)
    assert cloudimg.verify(copy)


def test_files_with_several_images_each(tmp_path: Path) -> None:
    pixels = [write(tmp_path / f"position_{p}.ome.tif", seed=p) for p in range(2)]
    copy, url = tmp_path / "copy.zarr", f"{tmp_path}/position_{{t}}.ome.tif"
    done = cloudimg.migrate(url, copy, series="all")
    assert [note.kind for note in done.notes if isinstance(note, cloudimg.Note)] == []
    for number, name in enumerate(images_of()):
        expected = np.stack([each[number] for each in pixels])
        np.testing.assert_array_equal(level_0(copy / str(number)), np.squeeze(expected))
        assert attributes(copy / str(number))["multiscales"][0]["name"] == name
    assert cloudimg.verify(copy, against_source=True)


def test_bad_files_keep_no_other_image_from_being_written(tmp_path: Path) -> None:
    for t in range(2):
        write(tmp_path / f"p_{t}.ome.tif", seed=t)
    good = (tmp_path / "p_1.ome.tif").read_bytes()
    (tmp_path / "p_1.ome.tif").write_bytes(b"")
    copy, url = tmp_path / "copy.zarr", f"{tmp_path}/p_{{t}}.ome.tif"
    with pytest.raises(BadFilesError) as caught:
        cloudimg.migrate(url, copy, series="all", shards={"t": 1})
    assert caught.value.report.count("empty") == 1
    assert len([*copy.glob("?/.cloudimg/cells/0/*.json")]) == 3  # the good file, of each image
    assert not (copy / "zarr.json").exists()
    (tmp_path / "p_1.ome.tif").write_bytes(good)
    done = cloudimg.migrate(url, copy, series="all", shards={"t": 1})
    assert [each.n_done_before for each in done.images] == [1, 1, 1]
    assert cloudimg.verify(copy, against_source=True)


def test_a_source_with_one_image_is_an_ordinary_copy(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", np.ones((20, 30), np.uint8))
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(tmp_path / "one.tif", copy, series="all")
    assert attributes(copy)["multiscales"][0]["name"] == "one"
    assert cloudimg.migrate(tmp_path / "one.tif", copy).n_objects == 0
    assert not cloudimg.dry_run(tmp_path / "one.tif", series="all").images


def test_what_all_images_cannot_be_combined_with(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    with pytest.raises(ArgumentError, match="each has the name that the file gives it"):
        cloudimg.migrate(source, copy, series="all", name="cells")
    with pytest.raises(ArgumentError, match="each has the name that the file gives it"):
        cloudimg.dry_run(source, series="all", name="cells")
    with pytest.raises(ArgumentError, match="cannot be labels"):
        cloudimg.migrate(source, labels_of=copy, series="all")
    with pytest.raises(ArgumentError, match=r'series="all" is for cloudimg\.migrate'):
        cloudimg.open(source, series="all")
    # An image that cannot be opened or written keeps all from being begun.
    with pytest.raises(ArgumentError, match="chunks"):
        cloudimg.migrate(source, copy, series="all", chunks={"c": 1})
    with pytest.raises(ArgumentError, match=r'This is image 1, and series="all" copies all'):
        cloudimg.migrate(source, copy, series="all", select={"c": 0})
    assert not copy.exists()
    cloudimg.migrate(source, copy, series="all")
    with pytest.raises(ArgumentError, match="name one of them"):
        cloudimg.verify(copy, against_source=cloudimg.open(source, series=1))
    with pytest.raises(ArgumentError, match="name one of them"):
        cloudimg.repair(copy, from_source=cloudimg.open(source, series=1))
    for each in (copy, copy / "1"):
        with pytest.raises(ArgumentError, match="cannot be retired: it holds"):
            cloudimg.retire(each, tag={"a": "b"})


def test_each_image_is_asked_where_its_source_is(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(source, copy, series="all")
    plan = copy / "2" / PLAN
    content = json.loads(plan.read_text())
    del content["sha256"]
    content["source"] |= {"urls": ["s3://elsewhere/three.ome.tif"], "endpoint": None}
    content["id"] = identity_of(content["plan"], content["request"], content["source"])
    plan.write_bytes(seal(content))
    assert main(["verify", str(copy), "--against-source"]) == 2
    assert "was made of files in s3://elsewhere" in capsys.readouterr().err


def test_damaged_lists_of_images(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    cloudimg.migrate(source, copy, series="all")
    content = json.loads((copy / COLLECTION).read_text())
    del content["sha256"]
    for images in ([], content["images"][::-1], [{**content["images"][0], "series": "../x"}]):
        (copy / COLLECTION).write_bytes(seal({**content, "images": images}))
        assert [each.url for each in cloudimg.verify(copy).problems] == [str(copy / COLLECTION)]
    (copy / COLLECTION_COPY).write_bytes(b"{}")
    with pytest.raises(cloudimg.CloudimgError, match=r"collection.*json is damaged"):
        cloudimg.verify(copy)
    cloudimg.migrate(source, copy, series="all", overwrite=True)
    assert cloudimg.verify(copy)


# ------------------------------------------------------------------------------------------- kills


def migrate(source: str, copy: str, text: str = "", number: int = 0, **given: Any) -> None:
    """The call that is killed; runs in a process of its own."""
    if text:
        killing.kill_at(text, number)
    cloudimg.migrate(source, copy, series="all", levels=2, **given)


def overwrite(source: str, copy: str, text: str, number: int) -> None:
    migrate(source, copy, text, number, overwrite=True)


@pytest.fixture(scope="module")
def processes() -> Any:
    return killing.processes_with(
        "cloudimg.migration.run.collection", "tests.migration.run.test_collections"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_each_part(processes: Any, source: Path, tmp_path: Path) -> None:
    whole, copy = tmp_path / "whole.zarr", tmp_path / "copy.zarr"
    migrate(str(source), str(whole))
    expected = _images(copies.objects(str(whole), {}))
    moments = {".cloudimg/": 2, "0/": 4, "1/": 8, "1/zarr.json": 1, "OME/": 1, "zarr.json": 1}
    for part, number in moments.items():
        code = killing.exit_code(
            processes, migrate, str(source), str(copy), f"{copy}/{part}", number
        )
        assert code == -signal.SIGKILL, part
        finished = [mark.parent.parent.name for mark in copy.glob(f"?/{END_MARK}")]
        assert not (copy / "zarr.json").exists() or len(finished) == 3
        done = cloudimg.migrate(source, copy, series="all", levels=2)
        assert all(done.images[int(name)].n_objects == 0 for name in finished)
        assert cloudimg.verify(copy), part
        assert _images(copies.objects(str(copy), {})) == expected, part
        shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_while_it_overwrites_another_collection(
    processes: Any, source: Path, tmp_path: Path
) -> None:
    whole, copy = tmp_path / "whole.zarr", tmp_path / "copy.zarr"
    migrate(str(source), str(whole))
    expected = _images(copies.objects(str(whole), {}))
    write(tmp_path / "other.ome.tif", seed=1)
    for part, number in ((".cloudimg/", 12), (".cloudimg/", 18), ("1/", 2)):
        migrate(str(tmp_path / "other.ome.tif"), str(copy), overwrite=True)
        code = killing.exit_code(
            processes, overwrite, str(source), str(copy), f"{copy}/{part}", number
        )
        assert code == -signal.SIGKILL, (part, number)
        overwrite(str(source), str(copy), "", 0)
        assert cloudimg.verify(copy), (part, number)
        assert _images(copies.objects(str(copy), {})) == expected, (part, number)


# ------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    "name",
    [
        "openslide_openslide-python/small.svs",
        "TileDB-Inc_TileDB-BioImaging/rand_uint16.ome.tiff",
        "python-pillow_Pillow/child_ifd.tiff",
        "BitMiracle_libtiff.net/dummy.tif",
    ],
)
def test_real_files(corpus: Path, tmp_path: Path, name: str) -> None:
    path, copy = corpus / "files" / name, tmp_path / "copy.zarr"
    cloudimg.migrate(path, copy, series="all")
    with tifffile.TiffFile(path) as tiff:
        expected = [each.asarray() for each in tiff.series]
    assert attributes(copy / "OME")["series"] == [str(i) for i in range(len(expected))]
    for number, pixels in enumerate(expected):
        found = level_0(copy / str(number))
        if found.shape != np.squeeze(pixels).shape:  # samples are channels
            pixels = np.moveaxis(pixels, -1, 0)
        np.testing.assert_array_equal(found, np.squeeze(pixels))
    assert cloudimg.verify(copy, against_source=True)
