"""``cloudimg migrate``, ``verify`` and ``export``, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from cloudimg.cli.main import main
from tests.support import copies, seed
from tests.support.metering import Meter
from tests.support.terminal import ask

SECRET = "c0ffee-is-no-secret"


@pytest.fixture
def archive(tmp_path: Path) -> str:
    seed.write(lambda key, data: (tmp_path / key).write_bytes(data))
    return f"{tmp_path}/{seed.PATTERN}"


@pytest.mark.slow
def test_from_files_to_zarr_and_back(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "copy.zarr")
    words = ["--chunks", "y=16,x=24", "--shards", "t=1,c=1,y=48,x=72", "--levels", "2"]
    words += ["--codec", '{"name": "zstd", "configuration": {"level": 2}}', "--name", "cells"]
    assert main(["migrate", archive, out, *words, "--factors", "y=3,x=2"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 4 cells, stored 8 objects (")
    group = zarr.open_group(out, mode="r")
    expected = copies.mean_levels(seed.expected(), [(1, 1, 1, 3, 2)])
    for level, pixels in enumerate(expected):
        np.testing.assert_array_equal(group[str(level)][...], pixels)
    assert group.attrs["ome"]["multiscales"][0]["name"] == "cells"
    assert main(["migrate", archive, out, *words, "--factors", "y=3,x=2"]) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert main(["verify", out, "--against-source", "--sample", "0.5"]) == 0
    assert f"{out} is verified: " in capsys.readouterr().out
    assert main(["export", out, str(tmp_path / "files")]) == 0
    for path in tmp_path.glob("mydata*.tif"):
        again = tifffile.imread(tmp_path / "files" / path.name)
        np.testing.assert_array_equal(again, tifffile.imread(path))
    assert main(["export", out, str(tmp_path / "ome"), "--layout", "ome-tiff"]) == 0
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "ome" / "image.ome.tif"), seed.expected()
    )


def test_problems_end_with_1(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy.zarr"
    assert main(["migrate", archive, str(out)]) == 0
    (shard,) = (path for path in (out / "0" / "c").rglob("*") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    shown = capsys.readouterr()
    assert "SHA-256 differs" in shown.out
    assert shown.err.endswith(f"cloudimg: error: 2 problems in {out}\n")
    assert main(["migrate", archive, str(out), "--levels", "2"]) == 7
    assert "--levels 2 now, not given before" in capsys.readouterr().err
    overwrite = ["migrate", archive, str(out), "--levels", "2", "--overwrite"]
    assert main(overwrite) == 2
    assert "add --yes" in capsys.readouterr().err
    assert data[:100] == shard.read_bytes()[:100]
    assert main([*overwrite, "--yes"]) == 0
    assert main(["verify", str(out)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_the_number_of_objects_is_shown_before_they_are_deleted(
    archive: str, tmp_path: Path, answer: str, code: int
) -> None:
    out = tmp_path / "copy.zarr"
    (out / "notes").mkdir(parents=True)
    for name in "ab":
        (out / "notes" / name).write_text("mine")
    returned, shown = ask(["migrate", archive, str(out), "--overwrite"], answer)
    assert f"{out} holds 2 objects of 8 B in all. Delete them? [y/N]" in shown
    assert returned == code
    assert (out / "notes" / "a").exists() == bool(code)
    assert (out / "zarr.json").exists() != bool(code)


def test_a_new_destination_is_not_asked_about(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither is one that this command has begun: nothing is deleted there."""
    out = tmp_path / "copy.zarr"
    words = ["migrate", archive, str(out), "--overwrite"]
    assert main(words) == 0
    for name in ("zarr.json", ".cloudimg/done.json"):
        (out / name).unlink()
    assert main(words) == 0
    assert (out / "zarr.json").exists()
    assert "add --yes" not in capsys.readouterr().err


def test_missing_files_are_an_error_until_filled(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mydata_ch0_0t_0x_0y_0z.tif").unlink()
    out = str(tmp_path / "copy.zarr")
    assert main(["migrate", archive, out]) == 4
    assert "1 file of the grid is missing" in capsys.readouterr().err
    assert not (tmp_path / "copy.zarr" / "zarr.json").exists()
    assert main(["migrate", archive, out, "--missing", "fill"]) == 0
    assert (zarr.open_group(out, mode="r")["0"][0, 0, 0, :16, :24] == 0).all()


def test_a_dry_run(archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "copy.zarr")
    assert main(["migrate", archive, out, "--dry-run"]) == 0
    text = capsys.readouterr().out
    for part in ("1 cell of", "objects: ", "to read: ", "requests: ", "memory: "):
        assert part in text
    words = ["--dry-run", "--json", "--price", "put=10", "get=0", "list=0"]
    assert main(["migrate", archive, out, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dollars"] == pytest.approx(found["put_requests"] / 100)
    assert not Path(out).exists()
    assert main(["migrate", archive, out, "--price", "put=10"]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_stores_and_secrets(
    meter: Meter, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed.write(lambda key, data: meter.put(bucket, f"src/{key}", data))
    options = json.dumps({"key": "x", "secret": SECRET})
    store = ["--endpoint-url", meter.endpoint, "--storage-options", options]
    source = ["--endpoint-url", meter.endpoint, "--source-options", options]
    url = f"s3://{bucket}/copy.zarr"
    assert main(["migrate", f"s3://{bucket}/src/{seed.PATTERN}", url, *source]) == 0
    assert main(["verify", url, "--against-source", *store]) == 0
    meter.faults([{"match": "^(GET|PUT)", "status": 403}])
    assert main(["verify", url, *store]) == 5
    assert main(["export", url, str(tmp_path / "out"), *source]) == 5
    meter.faults([])
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    for name, data in copies.objects(url, meter.storage_options).items():
        assert SECRET.encode() not in data, name


@pytest.mark.parametrize(
    "words",
    [
        ["migrate", "a.tif"],
        ["migrate", "a.tif", "b.zarr", "--chunks", "y:3"],
        ["migrate", "a.tif", "b.zarr", "--zarr-format", "4"],
        ["migrate", "a.tif", "b.zarr", "--price", "put"],
        ["migrate", "a.tif", "b.zarr", "--target-options", SECRET],
        ["verify"],
        ["verify", "b.zarr", "--sample", "0"],
        ["export", "b.zarr", "out", "--layout", "png"],
        ["migrate", "a.tif", "b.zarr", "--labels-of", "c.zarr"],
        ["migrate", "a.tif", "--labels-of", "c.zarr", "b.zarr"],
    ],
)
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert SECRET not in capsys.readouterr().err


def test_options_may_stand_before_the_destination(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(seed.encode(np.zeros((8, 8), np.uint8)))
    a, copy = str(tmp_path / "a.tif"), str(tmp_path / "b.zarr")
    assert main(["migrate", a, "--levels", "1", copy]) == 0
    assert main(["migrate", a, "--labels-of", copy, "--name", "c"]) == 0
    assert (tmp_path / "b.zarr" / "labels" / "c" / "zarr.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["migrate", "a.tif", "b.zarr", "--storage-options", SECRET],
            "cloudimg migrate: error: unrecognized option --storage-options; did you mean"
            " --source-options or --target-options?",
        ),
        (
            ["export", f"--storage-options={SECRET}", "b.zarr", "out"],
            "cloudimg export: error: unrecognized option --storage-options; did you mean"
            " --source-options or --target-options?",
        ),
        (
            ["verify", "b.zarr", "-sample", "3", "--qqqq", f"-p{SECRET}"],
            "cloudimg verify: error: unrecognized options -sample (did you mean --sample?), --qqqq",
        ),
        (
            ["cluster", "down", "file", "--jbo", SECRET],
            "cloudimg cluster down: error: unrecognized option --jbo; did you mean --job?",
        ),
        (
            ["verify", "b.zarr", f"-p{SECRET}"],
            "cloudimg verify: error: 1 argument too many",
        ),
        (["verify", "b.zarr", SECRET, "-q"], "cloudimg verify: error: unrecognized option -q"),
        (
            ["verify", "b.zarr", SECRET, SECRET],
            "cloudimg verify: error: 2 arguments too many",
        ),
        (["--nope", "verify", "b.zarr"], "cloudimg: error: unrecognized option --nope"),
    ],
)
def test_unknown_options_are_answered_with_the_closest_ones(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"usage: {message.split(':')[0]} [-h]")
    assert err.endswith(f"\n{message}\n")
    assert SECRET not in err


def test_help_names_the_url_that_options_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    for command, text in (
        ("info", "for the store of URL"),
        ("migrate", "for the store of SRC"),
        ("verify", "for the store of COPY"),
        ("export", "for the store of COPY"),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert text in " ".join(capsys.readouterr().out.split())
