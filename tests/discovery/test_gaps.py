"""Numbers that no file has, although the others follow each other, are a note."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cloudimg
from tests.support import seed

TIFF = seed.encode(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([0, 1, 2, 4, 5], "z has no 3: the image has no place for them"),
        ([*range(1, 60), *range(70, 101)], "z has no 60, 61, 62 and 7 more: the"),
        ([0, 10, 20, 40, 50], "z has no 30:"),
        ([0, 1, 2, 3], ""),
        ([5, 6, 7, 8, 9], ""),
        ([2, 76, 218, 300, 411], ""),  # positions
        ([0, 1, 2], ""),
        ([0, 1, 2, 3, 4, 1000], ""),  # more are missing than there are
        ([0, 1, 1000, 1001], ""),
    ],
)
def test_gaps(numbers: list[int], text: str, tmp_path: Path) -> None:
    for z in numbers:
        (tmp_path / f"f_{z}.tif").write_bytes(TIFF)
    image = cloudimg.open(f"{tmp_path}/f_{{z}}.tif")
    notes = [note for note in image.notes if note.kind == "gaps-in-labels"]
    assert len(notes) == bool(text)
    if text:
        assert text in notes[0]
        assert text in repr(image)
        assert image.shape[0] == len(numbers)


def test_a_gap_stands_in_the_copy(tmp_path: Path) -> None:
    for z in (0, 1, 2, 4, 5):
        (tmp_path / f"f_{z}.tif").write_bytes(TIFF)
    out = tmp_path / "copy.ome.zarr"
    assert "z has no 3" in str(cloudimg.migrate(f"{tmp_path}/f_{{z}}.tif", out))
    assert "z has no 3" in str(cloudimg.verify(out))


def test_texts_have_no_gaps(tmp_path: Path) -> None:
    for z in ("a", "b", "d", "e", "f"):
        (tmp_path / f"f_{z}.tif").write_bytes(TIFF)
    assert cloudimg.open(f"{tmp_path}/f_{{z:s}}.tif").notes == ()


@pytest.mark.parametrize(
    ("names", "pattern", "text"),
    [
        (
            ["00d06h", "00d12h", "01d00h", "01d06h", "01d12h"],
            "{t:elapsed %dd%Hh}",
            "t has no 18:00:00:",
        ),
        (
            ["20200101", "20200102", "20200104", "20200105", "20200106"],
            "{t:%Y%m%d}",
            "t has no 2020-01-03 00:00:00",
        ),
        (["-0.2", "-0.1", "0.1", "0.2", "0.3"], "{z:f}", "z has no 0.0:"),
        (["0.1", "0.2", "0.3", "0.4"], "{z:f}", ""),
        (["20200101", "20200117", "20200218", "20200301"], "{t:%Y%m%d}", ""),
        (["1e300", "2e300", "4e300", "5e300"], "{z:g}", ""),
    ],
)
def test_gaps_in_times_and_fractions(
    names: list[str], pattern: str, text: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / f"f_{name}.tif").write_bytes(TIFF)
    image = cloudimg.open(f"{tmp_path}/f_{pattern}.tif")
    notes = [note for note in image.notes if note.kind == "gaps-in-labels"]
    assert len(notes) == bool(text)
    assert all(text in note for note in notes)
