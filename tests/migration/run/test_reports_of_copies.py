"""`migrate` gives one report on all files that are missing or bad, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import BadFilesError, MissingFilesError
from tests.support import bad
from tests.support.ome_set import write_dataset

CELLS: dict[str, Any] = {
    "chunks": {"y": 8, "x": 8},
    "shards": {"t": 1, "z": 1, "y": 16, "x": 24},
    "levels": 1,
}
"""One file a cell."""
OPTIONS = ["--shards", "t=1,z=10,y=16,x=24", "--chunks", "8", "--levels", "1"]
EMPTY = [(1, z) for z in range(3, 20)]
"""More empty files than a table shows."""
SHORT = [(0, 5), (0, 6)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    bad.write_good(folder, (2, 20))
    for place in EMPTY:
        bad.spoil(folder, "empty", *place)
    for place in SHORT:
        bad.spoil(folder, "truncated", *place)
    return folder


def urls(folder: Path, places: list[tuple[int, int]]) -> list[str]:
    return [f"{folder}/t{t}_z{z}.tif" for t, z in places]


def listed(report: dict[str, Any]) -> dict[str, list[str]]:
    return {each["kind"]: [file["url"] for file in each["files"]] for each in report["kinds"]}


def test_the_report_of_the_error_names_all(archive: Path, tmp_path: Path) -> None:
    expected = {"empty": urls(archive, EMPTY), "truncated": urls(archive, SHORT)}
    for call in (
        lambda: cloudimg.migrate(bad.pattern(archive), tmp_path / "copy.zarr", **CELLS),
        lambda: cloudimg.open(bad.pattern(archive), validate="all"),
    ):
        with pytest.raises(BadFilesError) as caught:
            call()
        report = caught.value.report
        assert {e.kind: [file.url for file in e.files] for e in report.kinds} == expected
        assert [len(each.examples) for each in report.kinds] == [5, 2]
        assert listed(report.to_json()) == expected
        again = cloudimg.FileReport.from_json(json.loads(json.dumps(report.to_json())))
        assert again == report
        table = report.table()
        assert all(table.count(f"{url}:") == 1 for each in expected.values() for url in each)
        assert "and 12 more" in str(report)
        assert "more" not in table


def test_a_finished_copy_has_the_same_report(archive: Path, tmp_path: Path) -> None:
    (archive / "t0_z0.tif").unlink()
    fill: dict[str, Any] = {"missing": "fill", "bad": "fill"}
    done = cloudimg.migrate(bad.pattern(archive), tmp_path / "copy.zarr", **CELLS, **fill)
    assert done.report is not None
    counts = {"missing": 1, "empty": 17, "truncated": 2}
    assert {each.kind: each.n_files for each in done.report.kinds} == counts
    assert len(done.report.kinds[1].files) == 17
    assert cloudimg.verify(tmp_path / "copy.zarr").report == done.report
    again = cloudimg.migrate(bad.pattern(archive), tmp_path / "copy.zarr", **CELLS, **fill)
    assert again.report is not None
    assert {each.kind: each.n_files for each in again.report.kinds} == counts
    good = cloudimg.migrate(f"{archive}/t0_z{{z:[1-4]}}.tif", tmp_path / "good.zarr", exclude="t1*",
                            allow_unmatched=True)  # fmt: skip
    assert good.report is not None
    assert not good.report
    assert good.report.n_files == 4


def test_the_command_writes_both_forms(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, copy = bad.pattern(archive), str(tmp_path / "copy.zarr")
    assert main(["migrate", source, copy, *OPTIONS]) == 4
    err = capsys.readouterr().err
    assert "19 of 40 files are missing or bad: 17 empty, 2 truncated" in err
    assert "and 12 more" in err
    assert "--report FILE writes a list of all of them" in err
    for name in ("bad.json", "bad.txt"):
        assert main(["migrate", source, copy, *OPTIONS, "--report", str(tmp_path / name)]) == 4
        assert "--report FILE" not in capsys.readouterr().err
    report = json.loads((tmp_path / "bad.json").read_text())
    assert listed(report) == {"empty": urls(archive, EMPTY), "truncated": urls(archive, SHORT)}
    assert (report["n_files"], report["total"]) == (40, 19)
    table = (tmp_path / "bad.txt").read_text()
    assert all(f"{url}: " in table for url in urls(archive, EMPTY + SHORT))
    out = str(tmp_path / "filled.json")
    assert main(["migrate", source, copy, *OPTIONS, "--bad", "fill", "--report", out]) == 0
    assert json.loads(Path(out).read_text()) == report


def test_missing_files_are_reported_before_anything_is_copied(
    archive: Path, tmp_path: Path
) -> None:
    gone = [(0, z) for z in range(7, 17)]
    for place in gone:
        bad.spoil(archive, "missing", *place)
    source, copy, out = bad.pattern(archive), str(tmp_path / "copy.zarr"), str(tmp_path / "r.json")
    with pytest.raises(MissingFilesError) as caught:
        cloudimg.migrate(source, copy)
    assert caught.value.report is not None
    assert caught.value.report.count("missing") == 10
    assert main(["migrate", source, copy, "--report", out]) == 4
    report = json.loads(Path(out).read_text())
    assert listed(report) == {"missing": [f"(t={t}, z={z})" for t, z in gone]}
    assert report["is_complete"] is False


def test_a_report_without_bad_files_and_one_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.write_good(tmp_path / "in", (1, 2))
    source, out = bad.pattern(tmp_path / "in"), str(tmp_path / "good.json")
    assert main(["migrate", source, str(tmp_path / "copy.zarr"), "--report", out]) == 0
    assert json.loads(Path(out).read_text())["kinds"] == []
    capsys.readouterr()
    there = str(tmp_path / "no/such/report.json")
    assert main(["migrate", source, str(tmp_path / "other.zarr"), "--report", there]) == 2
    assert f"the folder {tmp_path}/no/such does not exist" in capsys.readouterr().err
    assert not (tmp_path / "other.zarr").exists()


# ------------------------------------------------------------------------------------------- notes


def test_each_note_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad.write_good(tmp_path / "in", (1, 3))
    (tmp_path / "in" / "notes.txt").write_text("-")
    bad.spoil(tmp_path / "in", "empty", 0, 1)
    source, copy = bad.pattern(tmp_path / "in"), str(tmp_path / "copy.zarr")
    beside, filled = "1 .txt among", "pixels of such files are the fill value"
    # Where a copy fails, nothing else tells of them.
    assert main(["migrate", source, copy]) == 4
    said = capsys.readouterr()
    assert (said.out, said.err.count(beside)) == ("", 1)
    for _ in range(2):
        assert main(["migrate", source, copy, "--bad", "fill"]) == 0
        said = capsys.readouterr()
        assert (said.out.count(beside), said.err.count(beside)) == (1, 0)
        assert (said.out.count(filled), said.err.count(filled)) == (1, 0)


# ------------------------------------------------------------------------------ multi-file datasets


@pytest.mark.parametrize("validate", ["first", "all"])
def test_a_dataset_counts_files_and_not_planes(tmp_path: Path, validate: Any) -> None:
    write_dataset(tmp_path / "in")
    url = tmp_path / "in" / "t0.ome.tif"
    gone, short = (tmp_path / "in" / f"t{t}.ome.tif" for t in (1, 2))
    gone.unlink()
    short.write_bytes(short.read_bytes()[:60])
    with pytest.raises(MissingFilesError) as caught:
        cloudimg.open(url)
    assert caught.value.report is not None
    assert [file.url for file in caught.value.report.kinds[0].files] == [str(gone)]
    image = cloudimg.open(url, missing="fill", bad="fill", validate=validate)
    counts = {"missing": 1} | ({"truncated": 1} if validate == "all" else {})
    assert {each.kind: each.n_files for each in image.report.kinds} == counts
    assert image.report.n_files == 3
    assert image.n_missing == 2  # planes
    copy = tmp_path / "copy.zarr"
    done = cloudimg.migrate(url, copy, missing="fill", bad="fill")
    proof = cloudimg.verify(copy, against_source=True)
    assert proof, str(proof)
    for report in (done.report, proof.report):
        assert report is not None
        assert {each.kind: each.n_files for each in report.kinds} == {"missing": 1, "truncated": 1}
        assert report.n_files == 3
    assert [(file.url, file.kind) for file in proof.filled] == [
        (str(gone), "missing"),
        (str(short), "truncated"),
    ]


def test_files_of_a_dataset_are_not_excluded(tmp_path: Path) -> None:
    write_dataset(tmp_path / "in")
    url = tmp_path / "in" / "t0.ome.tif"
    with pytest.raises(cloudimg.errors.ArgumentError, match=r"exclude= leaves out .*t1\.ome\.tif"):
        cloudimg.open(url, exclude="t1*")
    with pytest.raises(cloudimg.errors.NoMatchError, match="exclude= leaves out all 1 files"):
        cloudimg.open(url, exclude="*.tif")
    assert cloudimg.open(url, exclude="other.tif").shape == (3, 2, 64, 64)
    alone = cloudimg.open([url], exclude="t1*")
    assert alone.n_files == 1
