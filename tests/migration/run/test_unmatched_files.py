"""A copy leaves no image file of the folder out silently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, CloudimgWarning, UnmatchedFilesError
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
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_what_is_left_out_stands_in_the_copy(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = f"{archive}/{TYPO}", str(tmp_path / "copy.ome.zarr")
    where = f"{archive}/ (without subfolders)"
    numbers = f"{N_FILES - N_TYPO} .tif, 2 .xml and 1 .txt among {where} do not match"
    assert main(["migrate", source, out]) == 1
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


@pytest.mark.slow
def test_folders_below_are_not_listed(meter: Meter, bucket: str) -> None:
    data = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for name in ("a/f_10.tif", "a/f_11.tif", "a/f_20.tif", "f_13.tif"):
        meter.put(bucket, name, data)
    for i in range(5000):  # five pages
        meter.put(bucket, f"a/copy.zarr/0/{i}.tif", b"-")
    options = meter.storage_options
    with meter.measure() as traffic, pytest.raises(UnmatchedFilesError, match="leaves out 1 image"):
        cloudimg.dry_run(f"s3://{bucket}/a/f_1{{t}}.tif", storage_options=options)
    assert traffic.lists <= 3
