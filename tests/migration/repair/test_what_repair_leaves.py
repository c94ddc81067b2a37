"""What `repair` does not mend, does not touch and does not do unasked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, DamagedCopyError, LeaseError
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from cloudimg.migration.journal.sealing import seal, unsealed
from tests.support import copies
from tests.support.clusters import local_client
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # each repairs a whole copy

ARGUMENTS: dict[str, Any] = {
    "chunks": 32,
    "levels": 3,
    "shards": {"z": 1, "y": 64, "x": 64},
}
LEVEL_0 = "0/c/0/0/1"
RECORD = ".cloudimg/cells/0/000000001.json"
REGION = "level 0, z 0:1, y 0:64, x 64:128"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source and a copy that tests must not change."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for z in range(2):
        pixels = rng.integers(1, 2**16, (96, 160), np.uint16)
        tifffile.imwrite(folder / f"in/a_{z}.tif", pixels, photometric="minisblack")
    cloudimg.migrate(f"{folder}/in/a_{{z}}.tif", folder / "copy.zarr", **ARGUMENTS)
    return folder


@pytest.fixture
def source(original: Path, tmp_path: Path) -> Path:
    """The folder of a source, from which the copy beside it was made."""
    shutil.copytree(original / "in", tmp_path / "in")
    cloudimg.migrate(f"{tmp_path}/in/a_{{z}}.tif", tmp_path / "copy.zarr", **ARGUMENTS)
    return tmp_path / "in"


@pytest.fixture
def copy(source: Path) -> Path:
    return source.parent / "copy.zarr"


def flip(path: Path, at: int = 50) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def objects(copy: Path) -> dict[str, bytes]:
    found = copies.objects(str(copy), {})
    return {key: data for key, data in found.items() if "/lease/" not in key}


def left(done: cloudimg.Repair) -> list[str]:
    assert not done
    assert done.n_problems == len(done.problems)
    return [str(problem) for problem in done.problems]


# --------------------------------------------------------------------------------- beyond repair


def test_without_the_source(copy: Path, source: Path) -> None:
    """Damage at level 0 is named with its region; the rest is mended, and nothing is deleted."""
    whole = objects(copy)
    flip(copy / LEVEL_0)
    flip(copy / "1/c/1/0/0")
    (copy / "0/zarr.json").unlink()
    damaged = objects(copy)
    shutil.rmtree(source)
    (problem,) = left(cloudimg.repair(copy))
    assert problem.startswith(f"{copy}/{RECORD}: beyond repair ({REGION}): ")
    assert f"nothing matches {source}/" in problem
    now = objects(copy)
    assert now[LEVEL_0] == damaged[LEVEL_0] != whole[LEVEL_0]
    assert now[RECORD] == whole[RECORD]
    assert now[END_MARK] == whole[END_MARK]  # it still says what the copy should be
    assert now["1/c/1/0/0"] == whole["1/c/1/0/0"]
    assert now["0/zarr.json"] == whole["0/zarr.json"]
    assert not cloudimg.verify(copy)


def test_levels_above_what_is_beyond_repair(copy: Path, source: Path) -> None:
    """They are not made from what is damaged; what is whole of them stays."""
    whole = objects(copy)
    for key in [key for key in whole if key.startswith("1/c/")]:
        (copy / key).unlink()
        (copy / key.replace("1/c", "0/c", 1)).unlink()
    (copy / "2/c/0/0/0").write_bytes(b"")
    shutil.rmtree(source)
    problems = left(cloudimg.repair(copy))
    assert len(problems) == 13
    assert "beyond repair (level 2, z 0:2, y 0:24, x 0:40): level 1" in problems[-1]
    assert objects(copy)["2/c/0/0/0"] == b""


def test_a_source_that_changed(copy: Path, source: Path) -> None:
    flip(copy / LEVEL_0)
    damaged = objects(copy)
    pixels = tifffile.imread(source / "a_0.tif")
    tifffile.imwrite(source / "a_0.tif", pixels + 1, photometric="minisblack")
    (problem,) = left(cloudimg.repair(copy))
    assert f"beyond repair ({REGION}): its source has other pixels than were copied" in problem
    assert "a_0.tif" in problem
    assert objects(copy) == damaged


def test_a_lost_record_of_a_source_that_changed(copy: Path, source: Path) -> None:
    """Without the record it is not known which pixels were copied."""
    (copy / RECORD).unlink()
    damaged = objects(copy)
    os.utime(source / "a_0.tif", (1, 1))
    (problem,) = left(cloudimg.repair(copy))
    assert "beyond repair" in problem
    assert "its source changed since it was copied" in problem
    assert objects(copy) == damaged


def test_a_source_with_the_same_pixels(copy: Path, source: Path) -> None:
    """Their checksum is in the record: when the file was written does not matter, nor where."""
    whole = objects(copy)
    flip(copy / LEVEL_0)
    os.utime(source / "a_0.tif", (1, 1))
    assert cloudimg.repair(copy)
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy)
    flip(copy / LEVEL_0)
    source.rename(source.parent / "elsewhere")
    assert not cloudimg.repair(copy)
    assert cloudimg.repair(copy, source=f"{source.parent}/elsewhere/a_{{z}}.tif")
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy)


def test_a_source_of_another_shape(copy: Path, tmp_path: Path) -> None:
    flip(copy / LEVEL_0)
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((32, 32), np.uint16))
    (problem,) = left(cloudimg.repair(copy, source=tmp_path / "other.tif"))
    assert "the source has dims ['y', 'x'], but the copy was made of one with dims" in problem


def test_records_that_only_the_source_can_tell(copy: Path, source: Path) -> None:
    """A record that was written later agrees with its cell, but not with the end mark."""
    whole = objects(copy)
    content = unsealed(whole[RECORD])
    assert content is not None
    other = {**content, "filled": [["a_0.tif", "corrupt", "made up"]], "n_missing": 0}
    (copy / RECORD).write_bytes(seal(other))
    problems = left(cloudimg.repair(copy, from_source=False))
    assert any("only the source tells which commit record is wrong" in each for each in problems)
    assert objects(copy)[END_MARK] == whole[END_MARK]
    assert cloudimg.repair(copy)
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy).filled == ()


def test_two_plans_of_another_copy(copy: Path, original: Path) -> None:
    tifffile.imwrite(copy.parent / "b.tif", np.zeros((64, 64), np.uint8))
    cloudimg.migrate(copy.parent / "b.tif", copy.parent / "b.zarr")
    for key in (PLAN, PLAN_COPY):
        shutil.copy(copy.parent / "b.zarr" / key, copy / key)
    damaged = objects(copy)
    with pytest.raises(DamagedCopyError, match="nor its second copy is the plan of the image"):
        cloudimg.repair(copy, remove_orphans=True)
    assert objects(copy) == damaged


# ------------------------------------------------------------------------------- edits and orphans


def test_edits_of_others_stay(copy: Path) -> None:
    """Also in a document that is damaged, and although everything is answered with yes."""
    whole = objects(copy)
    path = copy / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"]["ome"]["multiscales"][0]["datasets"].pop()
    content["attributes"]["ome"]["omero"]["channels"][0]["label"] = "actin"
    content["attributes"]["lab"] = "7"
    path.write_text(json.dumps(content))
    (copy / "labels").mkdir()
    (copy / "labels/zarr.json").write_text("{}")
    flip(copy / "0/zarr.json", 0)
    done = cloudimg.repair(copy, remove_orphans=True, from_source=True)
    assert done, str(done)
    assert done.n_edits == 2
    now = objects(copy)
    mended = json.loads(now["zarr.json"])
    expected = json.loads(whole["zarr.json"])
    expected["attributes"]["ome"]["omero"]["channels"][0]["label"] = "actin"
    expected["attributes"]["lab"] = "7"
    assert mended == expected
    assert now["labels/zarr.json"] == b"{}"
    assert now["0/zarr.json"] == whole["0/zarr.json"]
    assert "edited: zarr.json" in str(done)


def test_orphans_are_deleted_only_if_wanted(copy: Path) -> None:
    whole = objects(copy)
    orphans = ["0/c/9/9/9", "originals/part-000000099.parquet", ".cloudimg/notes.txt"]
    for key in (*orphans, "notes.txt", "labels/0/c/0"):
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        (copy / key).write_bytes(b"12345")
    damaged = objects(copy)
    done = cloudimg.repair(copy)
    assert sorted(each.split(": ")[0] for each in left(done)) == sorted(
        f"{copy}/{key}" for key in orphans
    )
    assert (done.n_orphaned, done.n_removed) == (3, 0)
    asked: list[Any] = []
    assert not cloudimg.repair(copy, confirm=lambda about: bool(asked.append(about)))
    assert asked == [cloudimg.Deletion(str(copy), 3, 15)]
    assert objects(copy) == damaged
    done = cloudimg.repair(copy, confirm=lambda about: True)
    assert done, str(done)
    assert (done.n_removed, done.n_mended, done.n_edits) == (3, 0, 2)
    others = {"notes.txt": b"12345", "labels/0/c/0": b"12345"}
    assert objects(copy) == {**whole, **others}


def test_symbolic_links(copy: Path, tmp_path: Path) -> None:
    """In the place of an object, as a folder of chunks, and in a group of others."""
    whole = objects(copy)
    (copy / LEVEL_0).rename(tmp_path / "aside")
    (copy / LEVEL_0).symlink_to(tmp_path / "aside")
    (tmp_path / "more").mkdir()
    (copy / "1/c/9").symlink_to(tmp_path / "more")
    (copy / "labels").mkdir()
    (copy / "labels/x").symlink_to(tmp_path / "more")
    problems = {each.url for each in cloudimg.verify(copy).problems}
    assert problems == {f"{copy}/{key}" for key in (LEVEL_0, "1/c/9", "labels/x")}
    assert len(left(cloudimg.repair(copy))) == 3
    assert (copy / LEVEL_0).is_symlink()
    (problem,) = left(cloudimg.repair(copy, remove_orphans=True))
    assert problem.startswith(f"{copy}/labels/x: is a symbolic link")
    assert not (copy / LEVEL_0).is_symlink()
    assert (tmp_path / "more").is_dir()
    (copy / "labels/x").unlink()
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy)


# ------------------------------------------------------------------------------ asking, and no copy


def test_a_dry_run_changes_nothing(copy: Path) -> None:
    assert cloudimg.repair(copy, dry_run=True)
    flip(copy / LEVEL_0)
    (copy / PLAN).unlink()
    damaged = copies.objects(str(copy), {})
    done = cloudimg.repair(copy, dry_run=True, remove_orphans=True)
    assert not done
    assert done.n_found == done.n_problems >= 2
    assert copies.objects(str(copy), {}) == damaged
    assert cloudimg.repair(copy)


def test_a_source_in_another_place(source: Path, tmp_path: Path, meter: Meter, bucket: str) -> None:
    """Its URL was chosen by whoever wrote the copy: it is opened after asking only."""
    options = meter.storage_options
    fs = fsspec.filesystem("s3", **options)
    for path in source.iterdir():
        fs.put_file(str(path), f"{bucket}/{path.name}")
    copy = tmp_path / "far.zarr"
    cloudimg.migrate(f"s3://{bucket}/a_{{z}}.tif", copy, source_options=options, **ARGUMENTS)
    flip(copy / LEVEL_0)
    asked: list[Any] = []
    meter.reset()
    done = cloudimg.repair(copy, confirm=lambda about: bool(asked.append(about)))
    (about,) = asked
    assert isinstance(about, cloudimg.Opening)
    assert about.url == str(copy)
    assert f"s3://{bucket}" in about.place
    assert "pass source= with their URL" in left(done)[0]
    assert not cloudimg.repair(copy)
    assert meter.log() == []
    # Whoever passes an endpoint has named the place.
    assert cloudimg.repair(copy, source_options=options)
    assert cloudimg.verify(copy)


def test_only_finished_copies(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ArgumentError, match="was not written by cloudimg"):
        cloudimg.repair(source)
    with pytest.raises(ArgumentError, match="there is nothing at"):
        cloudimg.repair(tmp_path / "nothing")
    (source / "a_1.tif").write_bytes(b"II*\0")
    out = tmp_path / "unfinished.zarr"
    with pytest.raises(cloudimg.CloudimgError):
        cloudimg.migrate(f"{source}/a_{{z}}.tif", out, **ARGUMENTS)
    before = copies.objects(str(out), {})
    with pytest.raises(ArgumentError, match="is not finished: run the same migration again"):
        cloudimg.repair(out)
    assert copies.objects(str(out), {}) == before


def test_another_process_writes_there(copy: Path) -> None:
    flip(copy / LEVEL_0)
    with (
        acquire(open_destination(copy, None), notify=lambda _: None),
        pytest.raises(LeaseError, match="another migration is writing"),
    ):
        cloudimg.repair(copy)
    assert cloudimg.repair(copy)


def test_a_whole_copy_is_left_alone(copy: Path) -> None:
    before = objects(copy)
    done = cloudimg.repair(copy, remove_orphans=True)
    assert done
    assert (done.n_found, done.n_mended, done.n_removed) == (0, 0, 0)
    assert objects(copy) == before
    assert "nothing was changed" in str(done)


def test_a_copy_with_one_plan(copy: Path) -> None:
    """As older versions made it: it has no second plan, and its end mark no checksum of it."""
    (copy / PLAN_COPY).unlink()
    mark = unsealed((copy / END_MARK).read_bytes())
    assert mark is not None
    older = {
        name: mark[name] for name in mark if name in ("plan", "n_cells", "receipts", "inventory")
    }
    (copy / END_MARK).write_bytes(seal(older))
    assert cloudimg.verify(copy)
    whole = objects(copy)
    flip(copy / LEVEL_0)
    assert cloudimg.repair(copy)
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy)


# --------------------------------------------------------------------------------- other sources


def test_a_copy_of_an_array(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (2, 96, 160), np.uint16)
    copy = tmp_path / "array.zarr"
    cloudimg.to_zarr(pixels, copy, dims="zyx", **ARGUMENTS)
    whole = objects(copy)
    flip(copy / LEVEL_0)
    (copy / RECORD.replace("1.json", "7.json")).unlink()
    assert "made of an array" in left(cloudimg.repair(copy))[0]
    other = cloudimg.repair(copy, from_source=pixels + 1)
    assert len(left(other)) == 2
    assert "other pixels than were copied" in str(other)
    assert cloudimg.repair(copy, from_source=pixels)
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy)


@pytest.mark.slow
def test_on_a_cluster(copy: Path) -> None:
    whole = objects(copy)
    flip(copy / LEVEL_0)
    flip(copy / "2/c/0/0/0")
    (copy / RECORD.replace("1.json", "7.json")).unlink()
    with local_client(1, 2) as client:
        done = cloudimg.repair(copy, client=client)
    assert done, str(done)
    assert copies.image_of(objects(copy)) == copies.image_of(whole)
    assert cloudimg.verify(copy)


# --------------------------------------------------------------------------------- command line


def test_the_command(copy: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(copy / LEVEL_0)
    (copy / "0/c/9").write_bytes(b"")
    assert main(["repair", str(copy), "--dry-run"]) == 1
    assert "cloudimg repair without --dry-run" in capsys.readouterr().err
    assert main(["repair", str(copy)]) == 1  # no terminal, so nobody can be asked
    out, err = capsys.readouterr()
    assert f"mended: {RECORD} and its objects, from the source" in out
    assert f"left: {copy}/0/c/9: does not belong to the image" in out
    assert "1 object does not belong to the copy, and --yes deletes them" in err
    assert main(["repair", str(copy), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_repaired"] is True
    source.rename(source.parent / "moved")
    flip(copy / LEVEL_0)
    assert main(["repair", str(copy)]) == 1
    assert f"beyond repair ({REGION})" in capsys.readouterr().out
    assert main(["repair", str(copy), "--source", f"{source.parent}/moved/a_{{z}}.tif"]) == 0
    assert main(["verify", str(copy)]) == 0


# ------------------------------------------------------------------- sources that are not the one


@pytest.mark.parametrize("arguments", [{"series": 1}, {"imread": lambda *_: 0}])
def test_an_image_that_reads_the_same_files_otherwise(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    """Files and versions are those that were copied; the pixels are not."""
    rng = np.random.default_rng(0)
    both = rng.integers(1, 255, (2, 64, 64), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for image in both:
            writer.write(image, photometric="minisblack")
    if "imread" in arguments:
        arguments = {"imread": lambda *_: both[1]}
    copy, name = tmp_path / "copy.zarr", tmp_path / "a.ome.tif"
    cloudimg.migrate(name, copy, series=0)
    whole = objects(copy)
    flip(copy / "0/c/0/0")
    other = cloudimg.open(name, **arguments)
    assert other.shape == (64, 64)
    (problem,) = left(cloudimg.repair(copy, from_source=other))
    assert "its source has other pixels than were copied" in problem
    assert cloudimg.repair(copy, from_source=cloudimg.open(name, series=0))
    assert objects(copy)["0/c/0/0"] == whole["0/c/0/0"]


def test_a_source_that_was_retired(copy: Path, source: Path) -> None:
    """The list of the retired files stays, and is named."""
    whole, old = objects(copy), f"{source.parent}/old"
    assert cloudimg.retire(copy, move_to=old, execute=True)
    flip(copy / LEVEL_0)
    (copy / "0/c/junk").write_bytes(b"")
    done = cloudimg.repair(copy, remove_orphans=True)
    (problem,) = left(done)
    assert done.n_removed == 1
    assert f"the files were retired, and {copy}/.cloudimg/retired/manifest.json says how" in problem
    assert cloudimg.repair(copy, source=f"{old}/a_{{z}}.tif")
    assert objects(copy)[LEVEL_0] == whole[LEVEL_0]
    assert cloudimg.retire(copy, undo=True)
    assert cloudimg.verify(copy, against_source=True)


def test_what_to_pass_for_a_copy_of_an_array(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloudimg.to_zarr(np.ones((2, 32, 32), np.uint8), tmp_path / "array.zarr", dims="zyx")
    flip(tmp_path / "array.zarr" / "0/c/0/0/0", at=20)
    (problem,) = left(cloudimg.repair(tmp_path / "array.zarr"))
    assert "pass the array as from_source=" in problem
    assert main(["repair", str(tmp_path / "array.zarr")]) == 1
    assert "use cloudimg.repair in Python" in capsys.readouterr().out
