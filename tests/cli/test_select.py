"""``--select`` of ``cloudimg info``, ``preview`` and ``migrate``: one spelling everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr

from cloudimg.cli.main import main
from tests.support import seed

PIXELS = np.arange(3 * 4 * 16 * 24, dtype=np.uint16).reshape(3, 4, 16, 24)
"""c, z, y, x: files by c and z."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "tiffs").mkdir()
    for c, z in np.ndindex(3, 4):
        name = ("DAPI", "GFP", "Cy5")[c]
        (tmp_path / "tiffs" / f"{name}_z{z}.tif").write_bytes(seed.encode(PIXELS[c, z]))
    return str(tmp_path / "tiffs" / "{c:s}_z{z}.tif")


def facts(capsys: pytest.CaptureFixture[str], url: str, *words: str) -> Any:
    assert main(["info", "--json", url, *words]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    assert main([*words]) == code
    return capsys.readouterr().err


def test_info(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, url, "--select", "c=GFP,z=0:2")
    assert found["dims"] == ["z", "y", "x"]
    assert found["labels"]["z"] == [0, 1, 2]  # labels of files: both ends
    assert found["files"]["count"] == 3
    assert facts(capsys, url, "--select", "x=0:10")["shape"] == [3, 4, 16, 10]  # positions
    several = facts(capsys, url, "--select", "c=DAPI,c=GFP", "--select", "z=1:")
    assert several["labels"]["c"] == ["DAPI", "GFP"]
    assert several["labels"]["z"] == [1, 2, 3]
    assert facts(capsys, url, "--select", "c=DAPI,GFP")["labels"]["c"] == ["DAPI", "GFP"]
    assert main(["info", url, "--select", "c=GFP"]) == 0
    assert "z      4  0 1 2 3" in capsys.readouterr().out


def test_preview(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "picture.png"
    assert main(["preview", url, str(out), "--select", "c=GFP,z=3,x=4:20"]) == 0
    picture = imagecodecs.png_decode(out.read_bytes())
    assert picture.shape == (16, 16)
    assert "0.50 kiB of 0.50 kiB decoded" in capsys.readouterr().out.replace("512 B", "0.50 kiB")


def test_migrate(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "copy.zarr"
    words = ["--select", "c=Cy5,z=1:2"]
    assert main(["migrate", url, str(out), *words, "--dry-run"]) == 0
    assert not out.exists()
    assert main(["migrate", url, str(out), *words]) == 0
    np.testing.assert_array_equal(zarr.open_group(out, mode="r")["0"], PIXELS[2, 1:3])
    assert main(["migrate", url, str(out), *words]) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert main(["verify", str(out), "--against-source"]) == 0
    error = refused(capsys, "migrate", url, str(out), "--select", "c=DAPI,z=1:2", code=7)
    assert "--select was for another part of the image" in error


def test_errors_name_what_is_nearest(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "info", url, "--select", "c=GPF")
    assert "--select c=GPF is not there: c has Cy5, DAPI, GFP; the nearest: GFP" in error
    error = refused(capsys, "info", url, "--select", "z=9")
    assert "--select z=9 is not there: z has 0, 1, 2, 3; the nearest: 1, 2, 3" in error
    error = refused(capsys, "info", url, "--select", "ch=GFP")
    assert "the axis 'ch', but the axes of the image are c, z, y, x; did you mean c?" in error
    error = refused(capsys, "info", url, "--select", "z=2,z=0")
    assert "--select z=2,z=0 must name each position once, in the order of the image" in error
    error = refused(capsys, "info", url, "--select", "x=10:x")
    assert "--select x=10:x" in error


@pytest.mark.parametrize("text", ["GFP", "=GFP", "c=", "c =GFP"])
def test_texts_that_select_nothing(url: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info", url, "--select", text])
    assert "as in c=DAPI,z=0:10" in capsys.readouterr().err
