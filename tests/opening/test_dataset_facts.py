"""What files of a multi-file dataset say of the whole image is compared by ``validate="all"``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import MismatchError
from tests.support.ome_set import write_dataset

INVERTED: dict[int, dict[str, Any]] = {1: {"photometric": "miniswhite"}}


def test_a_file_with_other_colours_is_refused(tmp_path: Path) -> None:
    image = write_dataset(tmp_path / "in", INVERTED)
    url = tmp_path / "in" / "t0.ome.tif"
    with pytest.raises(MismatchError) as caught:
        cloudimg.open(url, validate="all")
    message = str(caught.value)
    assert f"{tmp_path}/in/t1.ome.tif does not fit" in message
    assert f"{tmp_path}/in/t0.ome.tif" in message
    assert "photometric" in message
    assert "allow_differences=" in message
    with pytest.raises(MismatchError, match="photometric"):
        cloudimg.migrate(url, tmp_path / "copy.zarr", validate="all")
    allowed = ["photometric", "color_space"]
    opened = cloudimg.open(url, validate="all", allow_differences=allowed)
    np.testing.assert_array_equal(opened.read(), image)
    assert "photometric" not in opened.attrs
    (note,) = [note for note in opened.notes if note.kind == "facts-differ-photometric"]
    assert note.urls == (f"{tmp_path}/in/t1.ome.tif",)
    with pytest.raises(MismatchError, match="color space"):
        cloudimg.open(url, validate="all", allow_differences="photometric")


def test_the_command_names_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "in", INVERTED)
    url = str(tmp_path / "in" / "t0.ome.tif")
    assert main(["info", url, "--validate", "all"]) == 4
    assert "--allow-differences" in capsys.readouterr().err


def test_files_that_agree(tmp_path: Path) -> None:
    image = write_dataset(tmp_path / "in")
    opened = cloudimg.open(tmp_path / "in" / "t0.ome.tif", validate="all")
    np.testing.assert_array_equal(opened.read(), image)
    assert opened.notes == ()
    assert opened.attrs["photometric"]
