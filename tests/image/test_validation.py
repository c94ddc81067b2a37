"""Which files of an archive are fine, by all their headers: as text, PNG, JSON and exit code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import AccessDeniedError, MismatchError
from tests.support import bad, seed
from tests.support.clusters import local_client
from tests.support.metering import Meter
from tests.support.ome_set import write_dataset

SPOILT = {(0, 3): "missing", (1, 2): "empty", (2, 5): "other-shape", (3, 0): "not-an-image"}
COUNTS = {"fine": 19, "missing": 1, "odd": 2, "bad": 2}
GRID = """\
t downwards, z from 0 to 5
0 ...-..
1 ..X...
2 .o...o
3 X.....
. fine  - missing  o odd  X bad"""
BLUE, GREY, AMBER, RED = (74, 137, 190), (205, 205, 205), (240, 176, 52), (190, 32, 46)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """24 files, of which five are not fine; one of these has other pixel sizes only."""
    folder = tmp_path / "in"
    bad.write_good(folder, (4, 6))
    for (t, z), kind in SPOILT.items():
        bad.spoil(folder, kind, t, z)
    for z, per_cm in ((0, 100), (1, 250)):
        pixels = bad.pixels_of(2, z)
        data = seed.encode(pixels, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
        (folder / f"t2_z{z}.tif").write_bytes(data)
    first = seed.encode(bad.pixels_of(0, 0), resolution=(100, 100), resolutionunit="CENTIMETER")
    (folder / "t0_z0.tif").write_bytes(first)
    return bad.pattern(folder)


def check(found: cloudimg.Validation) -> None:
    assert not found
    assert (found.counts, found.grid) == (COUNTS, GRID)
    assert {each.kind: each.n_files for each in found.report.kinds} == {
        "missing": 1,
        "empty": 1,
        "not-an-image": 1,
        "other-shape": 1,
        "mismatch": 1,
    }
    lines = str(found).splitlines()
    assert lines[0].endswith("19 fine, 1 missing, 2 odd, 2 bad of 24 files")
    (odd,) = (line for line in lines if "t2_z1.tif" in line)
    assert "its pixel size is" in odd


def test_each_file_is_at_its_place(archive: str) -> None:
    with pytest.raises(MismatchError):
        cloudimg.open(archive, validate="all", missing="fill", bad="fill")
    found = cloudimg.validate(archive)
    check(found)
    check(cloudimg.open(archive, missing="fill").validate())
    check(pickle.loads(pickle.dumps(found)))
    part = cloudimg.open(archive, missing="fill").sel(t=[0, 1]).validate()
    assert part.counts == {"fine": 10, "missing": 1, "odd": 0, "bad": 1}
    allowed = cloudimg.validate(archive, allow_differences="pixel_size")
    assert allowed.counts == {**COUNTS, "fine": 20, "odd": 1}


def test_the_command(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    picture, report = tmp_path / "grid.png", tmp_path / "bad.json"
    assert main(["validate", archive, "-o", str(picture), "--report", str(report)]) == 1
    out, err = capsys.readouterr()
    assert GRID in out
    assert "5 files are missing, odd or bad" in err
    assert json.loads(report.read_text())["total"] == 5
    pixels = cloudimg.open(picture).read()
    zoom = pixels.shape[0] // 4
    assert pixels.shape == (4 * zoom, 6 * zoom, 3)
    assert zoom > 20
    colours = pixels[zoom // 2 :: zoom, zoom // 2 :: zoom].tolist()
    shown = dict(zip(".-oX", map(list, (BLUE, GREY, AMBER, RED)), strict=True))
    rows = [line.split()[1] for line in GRID.splitlines()[1:5]]
    assert colours == [[shown[sign] for sign in row] for row in rows]
    assert main(["validate", archive, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["counts"], content["axes"]) == (COUNTS, {"t": 4, "z": 6})
    assert content["grid"] == GRID.splitlines()
    good = str(Path(archive).parent / "t1_z{z:1}.tif").replace("{z:1}", "{z:[345]}")
    assert main(["validate", good]) == 0
    assert "3 fine of 3 files" in capsys.readouterr().out


def test_files_of_a_dataset(tmp_path: Path) -> None:
    """A file that cannot be read is bad at all its planes, and so is one that is missing."""
    write_dataset(tmp_path / "in")
    (tmp_path / "in/t1.ome.tif").write_bytes(b"II*\0")
    (tmp_path / "in/t2.ome.tif").unlink()
    found = cloudimg.validate(tmp_path / "in/t0.ome.tif")
    assert found.counts == {"fine": 1, "missing": 1, "odd": 0, "bad": 1}
    assert found.states.tolist() == [[0, 0], [3, 3], [1, 1]]


def test_a_file_of_a_dataset_is_odd_at_all_its_planes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "in", {1: {"photometric": "miniswhite"}})
    found = cloudimg.validate(tmp_path / "in/t0.ome.tif")
    assert found.counts == {"fine": 2, "missing": 0, "odd": 1, "bad": 0}
    assert found.states.tolist() == [[0, 0], [2, 2], [0, 0]]


def test_the_first_file_that_can_be_read_is_behind_many_others(tmp_path: Path) -> None:
    for z in range(270):
        (tmp_path / f"z{z}.tif").write_bytes(b"" if z < 265 else seed.encode(bad.pixels_of(0, z)))
    found = cloudimg.validate(f"{tmp_path}/z{{z}}.tif")
    assert (found.counts["bad"], found.counts["fine"]) == (265, 5)


def test_a_file_that_differs_twice_counts_once(tmp_path: Path) -> None:
    """A tile with another width than its neighbours, and another pixel size."""
    for y, x in np.ndindex(3, 3):
        is_odd = (y, x) == (1, 1)
        data = seed.encode(
            np.zeros((16, 27 if is_odd else 24), np.uint16),
            resolution=(250, 250) if is_odd else (100, 100),
            resolutionunit="CENTIMETER",
        )
        (tmp_path / f"x{x}_y{y}.tif").write_bytes(data)
    found = cloudimg.validate(f"{tmp_path}/x{{x}}_y{{y}}.tif")
    assert found.counts == {"fine": 8, "missing": 0, "odd": 1, "bad": 0}
    assert [(each.kind, each.n_files) for each in found.report.kinds] == [("other-shape", 1)]
    assert found.states[1, 1] == 2


def test_a_refused_request_is_an_error(meter: Meter, bucket: str) -> None:
    """A file that may not be read is not a bad file."""
    for z in range(3):
        meter.put(bucket, f"z{z}.tif", seed.encode(bad.pixels_of(0, z)))
    url, options = f"s3://{bucket}/z{{z}}.tif", meter.storage_options
    assert cloudimg.validate(url, storage_options=options)
    meter.faults([{"match": r"GET.*z1\.tif", "kind": "status", "status": 403}])
    with pytest.raises(AccessDeniedError, match=r"z1\.tif"):
        cloudimg.validate(url, storage_options=options)


@pytest.mark.slow
def test_workers_read_the_headers(tmp_path: Path) -> None:
    bad.write_good(tmp_path / "in", (30, 20))
    for z, kind in enumerate(SPOILT.values(), 3):
        bad.spoil(tmp_path / "in", kind, 7, z)
    url = bad.pattern(tmp_path / "in")
    with local_client(n_workers=2) as client:
        there = cloudimg.validate(url, client=client)
        again = cloudimg.open(url, missing="fill").validate(client=client)
    here = cloudimg.validate(url)
    assert str(here) == str(there) == str(again)
    np.testing.assert_array_equal(here.states, there.states)


# ------------------------------------------------------------------------------------------ folding


def of_one_bad(shape: tuple[int, ...], at: tuple[int, ...]) -> cloudimg.Validation:
    states = np.zeros(shape, np.uint8)
    states[at] = 3
    return cloudimg.Validation(
        url="memory://x",
        axes=tuple("abcd"[: len(shape)]),
        labels=tuple(range(n) for n in shape),
        states=states,
        report=cloudimg.FileReport(n_files=states.size),
        notes=(),
    )


@pytest.mark.parametrize(
    ("shape", "at", "line"),
    [
        ((10_000,), (9_999,), -2),
        ((200, 3, 130), (199, 1, 129), -2),
        ((3, 1_000), (1, 0), 2),
        ((1, 1, 7), (0, 0, 6), 1),
    ],
)
def test_one_bad_file_is_seen_in_a_large_grid(
    shape: tuple[int, ...], at: tuple[int, ...], line: int, tmp_path: Path
) -> None:
    found = of_one_bad(shape, at)
    lines = found.grid.splitlines()
    assert [i for i, each in enumerate(lines[:-1]) if "X" in each] == [line % len(lines)]
    assert max(map(len, lines)) < 80
    assert len(lines) <= 26
    found.picture(tmp_path / "a.png")
    pixels = cloudimg.open(tmp_path / "a.png").read()
    assert (pixels == RED).all(axis=-1).any()
    assert max(pixels.shape) <= 2048


def test_labels_that_would_break_lines() -> None:
    found = cloudimg.Validation(
        url="memory://x",
        axes=("well", "z"),
        labels=(("a\nb ..", "\x1b[31m"), ("\r", "2", "3")),
        states=np.zeros((2, 3), np.uint8),
        report=cloudimg.FileReport(n_files=6),
        notes=(),
    )
    assert found.grid.splitlines() == [
        r"well downwards, z from \r to 3",
        r" a\nb .. ...",
        r"\x1b[31m ...",
        ". fine  - missing  o odd  X bad",
    ]
