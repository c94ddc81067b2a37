"""What lies beside the files of a pattern is counted by kind, with advice on the pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import NoMatchError, UnmatchedFilesError
from cloudimg.image.facts import image_facts
from tests.support import seed

TIFF = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TIFF)


def files_of(folder: Path, pattern: str) -> dict[str, object]:
    url = f"{folder}/{pattern}"
    facts = image_facts(cloudimg.open(url), url)["files"]
    assert isinstance(facts, dict)
    return facts


def test_kinds_are_counted(tmp_path: Path) -> None:
    put(tmp_path, *(f"f_{t}.tif" for t in range(3)), *(f"f_{t}b.tif" for t in range(7)))
    put(tmp_path, "f_notes", "f_.xml", "f_a.TIF", "f_x.png", "f_3.tar.gz", "other.tif")
    files = files_of(tmp_path, "f_{t}.tif")
    assert files["count"] == 3
    assert files["unmatched"] == 12
    assert files["unmatched_images"] == 8
    assert files["unmatched_kinds"] == {
        ".tif": 7, "without extension": 1, ".xml": 1, ".TIF": 1, ".png": 1, ".gz": 1,
    }  # fmt: skip
    assert [Path(str(url)).suffix for url in files["unmatched_examples"]] == [".tif"] * 5  # type: ignore[attr-defined]
    assert files["listed"] == (
        f"names that begin with {tmp_path}/f_; the rest of the folder was not looked at"
    )
    shown = repr(cloudimg.open(f"{tmp_path}/f_{{t}}.tif"))
    assert "  unmatched: 7 .tif, 1 .TIF, 1 .gz, 1 .png and 2 others among" in shown


def test_a_stem_that_is_a_folder_is_listed_as_a_whole(tmp_path: Path) -> None:
    put(tmp_path, "1.tif", "2.tif", "x.tif")
    files = files_of(tmp_path, "{z}.tif")
    assert (files["unmatched"], files["listed"]) == (1, f"{tmp_path}/ (without subfolders)")


def test_brackets_in_the_name_of_a_folder_do_not_change_the_depth(tmp_path: Path) -> None:
    put(tmp_path / "run[12]", "1.tif", "x.tif", "thumbs/2.tif")
    files = files_of(tmp_path / "run[12]", "{z}.tif")
    assert files["listed"] == f"{tmp_path}/run[12]/ (without subfolders)"
    assert files["unmatched"] == 1


def test_the_extension_of_the_pattern_is_that_of_an_image(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a_1.png", "a_x.png"):
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / name)
    put(tmp_path, "a_.txt")
    files = files_of(tmp_path, "a_{z}.png")
    assert (files["unmatched"], files["unmatched_images"]) == (2, 1)


def test_hidden_files_are_not_images(tmp_path: Path) -> None:
    put(tmp_path, "1.tif", "._1.tif", ".DS_Store")
    files = files_of(tmp_path, "{z}.tif")
    assert (files["unmatched"], files["unmatched_images"]) == (2, 0)
    files = files_of(tmp_path, "*.tif")
    assert (files["count"], files["unmatched_images"]) == (1, 0)


def test_one_file_and_a_list_are_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path, "1.tif", "2.tif")
    assert files_of(tmp_path, "1.tif")["listed"] is None
    image = cloudimg.open([f"{tmp_path}/1.tif"])
    assert image.unmatched == (0, ())


@pytest.mark.parametrize(
    ("pattern", "name", "advice"),
    [
        ("z_{z}.tif", "z_-2.tif", "write {z:d} instead of {z} to match 'z_-2.tif'"),
        ("z_{z}.tif", "z_1.5.tif", "write {z:f} instead of {z} to match 'z_1.5.tif'"),
        ("z_{z:03d}.tif", "z_7.tif", "write {z:d} instead of {z:03d} to match 'z_7.tif'"),
        ("z_{z}.tif", "z_a.tif", "write {z:s} instead of {z} to match 'z_a.tif'"),
        ("z_{z:f}.tif", "z_1e3.tif", "write {z:g} instead of {z:f} to match 'z_1e3.tif'"),
        ("z_{z}.tif", "z_1.TIF", "write .[tT][iI][fF] at the end to match 'z_1.TIF'"),
        ("{z}/z_{z}.tif", "-2/z_-2.tif", "write {z:d} instead of {z} to match 'z_-2.tif'"),
        (
            "z_{t:%dd%Hh%Mm}.tif",
            "z_00d03h00m.tif",
            "write {t:elapsed %dd%Hh%Mm} instead of {t:%dd%Hh%Mm} to match 'z_00d03h00m.tif'",
        ),
        ("z_{z}.tif", "z_1_thumb.jpg", ""),
    ],
)
def test_advice_on_the_pattern(tmp_path: Path, pattern: str, name: str, advice: str) -> None:
    good = {"{z:03d}": "001", "{t:%dd%Hh%Mm}": "01d02h03m"}
    matching = pattern
    for source in ("{z:03d}", "{z:f}", "{z}", "{t:%dd%Hh%Mm}"):
        matching = matching.replace(source, good.get(source, "1"))
    put(tmp_path, matching, name)
    assert files_of(tmp_path, pattern)["advice"] == advice
    # The advice works.
    if advice.startswith("write {"):
        wider, _, narrow = (
            advice.removeprefix("write ").partition(" to match ")[0].partition(" instead of ")
        )
        assert files_of(tmp_path, pattern.replace(narrow, wider))["count"] == 2
    (tmp_path / matching).unlink()
    if advice:
        with pytest.raises(NoMatchError) as caught:
            cloudimg.open(f"{tmp_path}/{pattern}")
        assert advice in str(caught.value)
    if " at the end" in advice:
        ending = advice.removeprefix("write ").partition(" at the end")[0]
        assert files_of(tmp_path, pattern.rpartition(".")[0] + ending)["count"] == 1


def test_a_copy_that_leaves_out_images_is_refused_with_three_ways_out(tmp_path: Path) -> None:
    put(tmp_path, "f_1.tif", "f_2.tif", "thumbs/f_1.tif")
    pattern, out = f"{tmp_path}/f_{{z}}.tif", tmp_path / "copy.zarr"
    with pytest.raises(UnmatchedFilesError, match="exclude=, or pass allow_unmatched=True"):
        cloudimg.migrate(pattern, out)
    copied = cloudimg.migrate(pattern, out, exclude="thumbs/*")
    assert [note.kind for note in copied.notes] == ["excluded-files"]


@pytest.mark.parametrize("typo", ["exp_t{t}.tiff", "ex_t{t}.tif"])
def test_the_nearest_names_are_shown_whatever_else_is_in_the_folder(
    tmp_path: Path, typo: str
) -> None:
    put(tmp_path, *(f"a/{n}.tif" for n in range(9)), "exp_t1.tif", *(f"b_{n}.tif" for n in "pqrst"))
    with pytest.raises(NoMatchError, match=r"exp_t1\.tif"):
        cloudimg.migrate(f"{tmp_path}/{typo}", tmp_path / "copy.zarr")


def test_the_advice_is_for_as_many_names_as_possible(tmp_path: Path) -> None:
    put(tmp_path, "z_1.tif", "z_-2.tif", "z_+0.5.tif", "z_-1.5.tif", "z_thumb.tif")
    advice = "write {z:f} instead of {z} to match 'z_+0.5.tif'"
    assert files_of(tmp_path, "z_{z}.tif")["advice"] == advice


def test_what_lies_in_hidden_folders_is_hidden(tmp_path: Path) -> None:
    folder = tmp_path / ".data"  # the pattern names it
    put(folder, "run/f_1.tif", ".trash/f_2.tif", "run/.cache/f_3.tif")
    files = files_of(folder, "**/f_*.tif")
    assert (files["count"], files["unmatched"], files["unmatched_images"]) == (1, 2, 0)
    put(folder, "run/g_1.tif")
    assert files_of(folder, "**/f_*.tif")["unmatched_images"] == 1


def test_the_advice_may_be_about_several_fields(tmp_path: Path) -> None:
    put(tmp_path, "p_0_0.tif", "p_-1_0.tif", "p_0_-1.tif", "p_-1_-1.tif")
    advice = files_of(tmp_path, "p_{x}_{y}.tif")["advice"]
    assert advice == ("write {x:d} instead of {x} and {y:d} instead of {y} to match 'p_-1_-1.tif'")
    assert files_of(tmp_path, "p_{x:d}_{y:d}.tif")["count"] == 4
