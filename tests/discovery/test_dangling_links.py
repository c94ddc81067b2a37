"""Symbolic links that lead to nothing are missing files, or are counted beside the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import MissingFilesError, NoMatchError, UnmatchedFilesError
from cloudimg.image.facts import image_facts
from tests.support import seed


def plane(value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((2, 3), value, np.uint8)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five planes, each a link to a file elsewhere; the files of planes 1 and 4 are gone."""
    real, links = tmp_path / "real", tmp_path / "links"
    real.mkdir()
    links.mkdir()
    for z in range(5):
        (real / f"{z}.tif").write_bytes(seed.encode(plane(z + 1)))
        (links / f"z{z}.tif").symlink_to(real / f"{z}.tif")
    for z in (1, 4):
        (real / f"{z}.tif").unlink()
    return links


def test_they_are_missing_files(archive: Path) -> None:
    url = f"{archive}/z{{z}}.tif"
    with pytest.raises(MissingFilesError) as caught:
        cloudimg.open(url)
    message = str(caught.value)
    assert "2 files of the grid are missing: (z=1), (z=4)" in message
    assert "2 of them are symbolic links that lead to nothing" in message
    assert f"{archive}/z1.tif" in message
    assert caught.value.report is not None
    assert caught.value.report.count("missing") == 2
    image = cloudimg.open(url, missing="fill", fill_value=9)
    assert image.missing == ({"z": 1}, {"z": 4})
    assert image.read()[:, 0, 0].tolist() == [1, 9, 3, 4, 9]
    assert [Path(file.url).name for file in image.files] == ["z0.tif", "z2.tif", "z3.tif"]
    (note,) = image.notes
    assert (note.kind, note.n_files) == ("dangling-links", 2)
    facts = image_facts(image, url)["files"]
    assert (facts["count"], facts["missing"]) == (3, 2)


def test_a_link_that_is_mended_is_a_file(archive: Path) -> None:
    for z in (1, 4):
        (archive.parent / "real" / f"{z}.tif").write_bytes(seed.encode(plane(z + 1)))
    image = cloudimg.open(f"{archive}/z{{z}}.tif")
    assert image.read()[:, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert image.notes == ()


def test_a_glob_has_a_hole_for_each(archive: Path) -> None:
    with pytest.raises(MissingFilesError, match="2 files of the grid are missing"):
        cloudimg.open(f"{archive}/*.tif")
    image = cloudimg.open(f"{archive}/*.tif", missing="fill")
    assert image.read()[:, 0, 0].tolist() == [1, 0, 3, 4, 0]


def test_links_in_a_circle_lead_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "z0.tif").write_bytes(seed.encode(plane(1)))
    (tmp_path / "z1.tif").symlink_to(tmp_path / "z2.tif")
    (tmp_path / "z2.tif").symlink_to(tmp_path / "z1.tif")
    image = cloudimg.open(f"{tmp_path}/z{{z}}.tif", missing="fill")
    assert image.missing == ({"z": 1}, {"z": 2})


def test_others_are_counted_with_what_does_not_match(archive: Path, tmp_path: Path) -> None:
    (archive / "overview.tif").symlink_to(tmp_path / "gone.tif")
    url = f"{archive}/z{{z}}.tif"
    assert cloudimg.open(url, missing="fill").unmatched == (0, ())
    with pytest.raises(UnmatchedFilesError, match=r"leaves out 1 image file .*overview\.tif"):
        cloudimg.migrate(url, tmp_path / "copy.zarr", missing="fill")


def test_an_image_of_nothing_but_such_links(archive: Path) -> None:
    for path in (archive.parent / "real").iterdir():
        path.unlink()
    for url in (f"{archive}/z{{z}}.tif", f"{archive}/*.tif"):
        with pytest.raises(NoMatchError, match="all 5 files that match are symbolic links"):
            cloudimg.open(url, missing="fill")


def test_a_copy_records_them(archive: Path, tmp_path: Path) -> None:
    copy, url = tmp_path / "copy.zarr", f"{archive}/z{{z}}.tif"
    with pytest.raises(MissingFilesError, match="symbolic links"):
        cloudimg.migrate(url, copy)
    done = cloudimg.migrate(url, copy, missing="fill")
    assert {note.kind for note in done.notes} == {"dangling-links", "filled-missing"}  # type: ignore[attr-defined]
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    assert [Path(file.url).name for file in proof.filled] == ["z1.tif", "z4.tif"]
    described = json.loads((copy / "zarr.json").read_text())
    assert "leads to nothing" in json.dumps(described)
    # The link is mended: the copy lacks a file.
    (archive.parent / "real" / "4.tif").write_bytes(seed.encode(plane(5)))
    proof = cloudimg.verify(copy, against_source=True)
    assert "z4.tif" in str(proof)
    assert any("newer" in note for note in proof.notes)
