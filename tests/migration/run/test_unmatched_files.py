"""A copy leaves no image file of the folder out silently."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, CloudimgWarning, UnmatchedFilesError
from tests.conftest import PLACES, Place
from tests.support import seed
from tests.support.metering import Meter

N_FILES = 1997
TYPO = "run_0{t:03d}.tif"
"""Matches only the files whose number is below 1,000."""
N_TYPO = 1000


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for t in range(N_FILES):
        (folder / f"run_{t:04d}.tif").write_bytes(data)
    for name in ("a.xml", "b.xml", "run.txt"):
        (folder / name).write_text("-")
    return folder


def test_a_typo_is_refused(archive: Path, tmp_path: Path) -> None:
    source, out = f"{archive}/{TYPO}", tmp_path / "copy.ome.zarr"
    for call in (lambda: cloudimg.migrate(source, out), lambda: cloudimg.dry_run(source)):
        with pytest.raises(UnmatchedFilesError) as caught:
            call()
        message = str(caught.value)
        assert f"leaves out {N_FILES - N_TYPO} image files of {archive}/" in message
        assert f"{N_FILES - N_TYPO} .tif, 2 .xml and 1 .txt" in message
        assert "allow_unmatched=True" in message
    left = [path for path in out.rglob("*") if path.is_file()]
    assert all(path.parent.name == "lease" for path in left)  # whose numbers are never used again


@pytest.mark.slow
def test_what_is_left_out_stands_in_the_copy(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = f"{archive}/{TYPO}", str(tmp_path / "copy.ome.zarr")
    where = f"{archive}/ (with subfolders)"
    numbers = f"{N_FILES - N_TYPO} .tif, 2 .xml and 1 .txt among {where} do not match"
    assert main(["migrate", source, out]) == 4
    assert "--allow-unmatched" in capsys.readouterr().err
    assert main(["migrate", source, out, "--allow-unmatched", "--dry-run"]) == 0
    assert numbers in capsys.readouterr().out
    assert main(["migrate", source, out, "--allow-unmatched"]) == 0
    assert numbers in "".join(capsys.readouterr())
    stored = json.loads((Path(out) / "zarr.json").read_text())["attributes"]["cloudimg"]
    (note,) = stored["source_notes"]
    assert note["kind"] == "unmatched-files"
    assert note["n_files"] == N_FILES - N_TYPO + 3
    for _ in range(2):
        assert main(["verify", out, "--against-source"]) == 0
        assert numbers in capsys.readouterr().out
    assert cloudimg.verify(out).notes[0].kind == "unmatched-files"  # type: ignore[attr-defined]


def test_other_files_than_images_are_noted_only(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.ome.zarr"
    done = cloudimg.migrate(f"{archive}/run_{{t}}.tif", out)
    (note,) = done.notes
    assert "2 .xml and 1 .txt among" in note
    assert cloudimg.open(f"{archive}/run_{{t}}.tif").notes == ()


def test_a_copy_of_an_open_image_tells_what_was_listed(tmp_path: Path) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in ("z1.tif", "a.tif"):
        (tmp_path / name).write_bytes(data)
    assert cloudimg.open(f"{tmp_path}/z{{z}}.tif").notes == ()  # nothing else begins like this
    (tmp_path / "z1b.tif").write_bytes(data)
    image = cloudimg.open(f"{tmp_path}/z{{z}}.tif")
    (note,) = image.notes
    assert note.kind == "unmatched-files"
    assert "1 .tif among names that begin with" in note
    assert "not looked at" in note
    assert note in image.to_zarr(tmp_path / "copy.ome.zarr").notes


def test_imread_warns_of_images_only(tmp_path: Path) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    (tmp_path / "z1.tif").write_bytes(data)
    (tmp_path / "z.xml").write_text("-")
    assert cloudimg.imread(f"{tmp_path}/z{{z}}.tif").shape == (1, 2, 3)
    (tmp_path / "z1b.tif").write_bytes(data)
    with pytest.warns(CloudimgWarning, match=r"1 \.tif and 1 \.xml among names that begin with"):
        cloudimg.imread(f"{tmp_path}/z{{z}}.tif")


def test_the_argument_is_checked(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="allow_unmatched"):
        cloudimg.migrate(f"{archive}/{TYPO}", tmp_path / "x", allow_unmatched="yes")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- subfolders


def put_deep(place: Place) -> None:
    """An archive of two planes, with other files in folders below."""
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in (
        "a/f_1.tif", "a/f_2.tif", "a/thumbs/f_1.tif", "a/thumbs/x/y.svs", "a/thumbs/notes.txt",
        "a/copy.zarr/0/1.tif", "a/sub/copy.zarr/0/2.tif", "a/.hidden/3.tif", "b/4.tif",
    ):  # fmt: skip
        place.put(name, data)


@pytest.fixture(params=["local", "memory", "s3-meter", "s3-meter by fsspec"])
def store(
    request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]
) -> Iterator[Place]:
    name, _, backend = request.param.partition(" by ")
    if backend:
        set_variable("CLOUDIMG_BACKEND", backend)
    with PLACES[name](request) as place:
        yield place


def test_images_in_subfolders_are_left_out(store: Place, tmp_path: Path) -> None:
    put_deep(store)
    url, out = f"{store.url}/a/f_{{z}}.tif", tmp_path / "copy.ome.zarr"
    options = store.storage_options
    with pytest.raises(UnmatchedFilesError) as caught:
        cloudimg.migrate(url, out, source_options=options)
    message = str(caught.value)
    assert "leaves out 2 image files" in message
    assert "1 .svs, 1 .tif and 1 .txt" in message
    assert "/a/thumbs/f_1.tif" in message
    with pytest.raises(UnmatchedFilesError):
        cloudimg.dry_run(url, storage_options=options)
    done = cloudimg.migrate(url, out, allow_unmatched=True, source_options=options)
    assert "1 .svs, 1 .tif and 1 .txt among" in done.notes[0]
    assert "/a/ (with subfolders)" in done.notes[0]
    # What is opened for reading is listed as before.
    image = cloudimg.open(url, storage_options=options)
    assert (image.unmatched, image.notes) == ((0, ()), ())
    cloudimg.migrate(url, tmp_path / "other.zarr", source_options=options, exclude=["thumbs/**"])


def test_a_pattern_that_reaches_into_folders(store: Place) -> None:
    put_deep(store)
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for t in range(2):
        store.put(f"c/T{t}/f_1.tif", data)
        store.put(f"c/T{t}/old/f_1.tif", data)
    options = store.storage_options
    with pytest.raises(UnmatchedFilesError, match="leaves out 2 image files"):
        cloudimg.dry_run(f"{store.url}/c/T{{t}}/f_{{z}}.tif", storage_options=options)
    # Everything below is part of the image.
    assert not cloudimg.dry_run(f"{store.url}/c/**/f_*.tif", storage_options=options).notes


def test_links_to_folders_are_followed_as_far_as_the_pattern_reaches(tmp_path: Path) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for t in range(2):
        (tmp_path / f"real/{t}/below").mkdir(parents=True)
        (tmp_path / f"real/{t}/f.tif").write_bytes(data)
        (tmp_path / f"in/T{t}").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/T{t}").symlink_to(tmp_path / f"real/{t}")
        (tmp_path / f"real/{t}/below/up").symlink_to(tmp_path / "real")
    assert cloudimg.dry_run(f"{tmp_path}/in/T{{t}}/f.tif")
    (tmp_path / "real/1/below/g.tif").write_bytes(data)
    with pytest.raises(UnmatchedFilesError, match=r"leaves out 1 image file .*T1/below/g\.tif"):
        cloudimg.dry_run(f"{tmp_path}/in/T{{t}}/f.tif")


def test_a_subfolder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "f_1.tif").write_bytes(seed.encode(np.zeros((2, 3), np.uint8)))
    (tmp_path / "notes.txt").write_text("-")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    try:
        if os.access(locked, os.R_OK):
            pytest.skip("this user may list any folder")
        (note,) = cloudimg.dry_run(f"{tmp_path}/f_{{z}}.tif").notes
    finally:
        locked.chmod(0o700)
    assert "(with subfolders, of which 1 cannot be listed)" in note


@pytest.mark.slow
def test_very_many_files_in_subfolders_are_listed_in_part(
    store: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.name == "memory":
        pytest.skip("what is in memory is listed as a whole")
    monkeypatch.setattr("cloudimg.discovery.scope.MOST_BELOW", 1500)
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in ("a/f_1.tif", "a/z/f_1.txt", "a/y_2.tif"):
        store.put(name, data)
    for i in range(6000):
        store.put(f"a/many/{i}.txt", b"-")
    options = store.storage_options
    # The folder itself is listed to its end.
    with pytest.raises(UnmatchedFilesError, match="leaves out 1 image file"):
        cloudimg.dry_run(f"{store.url}/a/f_{{z}}.tif", storage_options=options)
    store.delete("a/y_2.tif")
    (note,) = cloudimg.dry_run(f"{store.url}/a/f_{{z}}.tif", storage_options=options).notes
    assert re.search(r"\(with the first [12],\d{3} names in subfolders\)", note)


@pytest.mark.slow
def test_copies_below_are_not_listed(meter: Meter, bucket: str) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in ("a/f_10.tif", "a/f_11.tif", "a/f_20.tif", "f_13.tif"):
        meter.put(bucket, name, data)
    for i in range(5000):  # five pages
        meter.put(bucket, f"a/copy.zarr/0/{i}.tif", b"-")
    options = meter.storage_options
    with meter.measure() as traffic, pytest.raises(UnmatchedFilesError, match="leaves out 1 image"):
        cloudimg.dry_run(f"s3://{bucket}/a/f_1{{t}}.tif", storage_options=options)
    assert traffic.lists <= 3


# ------------------------------------------------------------------------------------ opened images


def test_a_copy_of_an_open_image_says_that_the_folder_was_not_listed(tmp_path: Path) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in ("z1.tif", "other.tif"):
        (tmp_path / name).write_bytes(data)
    image, out = cloudimg.open(f"{tmp_path}/z{{z}}.tif"), tmp_path / "copy.ome.zarr"
    assert image.notes == ()
    (note,) = image.to_zarr(out).notes
    assert f"only names that begin with {tmp_path}/z were listed" in note
    assert "cloudimg.migrate lists all of it" in note
    assert cloudimg.verify(out).notes == (note,)
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert proof.notes == (note,)
    # A single file has nothing beside it that it could leave out.
    assert cloudimg.open(tmp_path / "z1.tif").to_zarr(tmp_path / "one.zarr").notes == ()


# ------------------------------------------------------------------------------------ later images


def test_verify_tells_of_images_that_came_later(tmp_path: Path) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    source, out = tmp_path / "in", tmp_path / "copy.ome.zarr"
    source.mkdir()
    for name in ("z1.tif", "z2.tif", "overview.tif"):
        (source / name).write_bytes(data)
    (source / "notes.xml").write_text("-")
    url = f"{source}/z{{z}}.tif"
    cloudimg.migrate(url, out, allow_unmatched=True)
    (before,) = cloudimg.verify(out, against_source=True).notes
    assert "1 .tif and 1 .xml among" in before
    (source / "more.xml").write_text("-")
    assert cloudimg.verify(out, against_source=True).notes == (before,)
    for name in ("thumbs/z1.tif", "z1 (copy).tif"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(data)
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert proof.notes[0] == before
    (later,) = proof.notes[1:]
    assert "2 more image files do not match the pattern than when this copy was made" in later
    assert "(3 now, 1 then)" in later
    assert cloudimg.verify(out).notes == (before,)
    (source / "thumbs/z1.tif").unlink()
    (source / "z1 (copy).tif").unlink()
    (source / "z3.tif").write_bytes(data)
    (_, newer) = cloudimg.verify(out, against_source=True).notes
    assert "1 newer file is not in this copy" in newer
