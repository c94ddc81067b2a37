"""The command ``cloudimg info``, from outside: arguments in, text and exit codes out."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cloudimg.cli.main import main
from tests.conftest import Place, WebServer
from tests.support.metering import Meter
from tests.support.waiting import wait_until

PATTERN = "mydata_ch{c}_{t:02d}t_{x}x_{y}y_{z}z.tif"
SECRET = "wJalrXUtnFEMI-K7MDENG"
OF_ALL_COMMANDS = {"format", "command", "exit_code", "error", "messages", "warnings"}
IMAGE_KEYS = {
    "kind", "url", "dims", "shape", "dtype", "labels", "nbytes", "stored_nbytes", "chunks",
    "levels", "compression", "files", "pixel_size", "channel_names", "time_step_s",
    "color_space", "samples", "series", "images", "notes", "coordinates", "canvas",
    "on_earth", "values",
}  # fmt: skip
FOLDER_KEYS = {
    "kind", "url", "objects", "truncated", "images", "proposals", "zarrs", "image",
    "image_problem",
}  # fmt: skip
PROPOSAL_KEYS = {
    "pattern", "files", "layout", "source", "certainty", "roles", "axes", "missing", "left_out",
    "exclude", "excluded", "problem",
}  # fmt: skip


def tiff(shape: tuple[int, ...] = (16, 24), **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"metadata": None, "compression": "zlib"} | options
    tifffile.imwrite(file, np.zeros(shape, np.uint16), **options)
    return file.getvalue()


def put_grid(place: Place, *, without: str = "") -> int:
    """2 channels, times 4 to 6, 2 x 2 tiles, 2 planes; the number of bytes that were put."""
    data = tiff(resolution=(40000, 20000), resolutionunit="CENTIMETER")
    names = [
        PATTERN.format(c=c, t=t, x=x, y=y, z=z)
        for c, t, x, y, z in itertools.product((0, 1), (4, 5, 6), (0, 1), (0, 1), (0, 1))
    ]
    for name in names:
        if name != without:
            place.put(name, data)
    return len(data) * (len(names) - bool(without))


def options_of(place: Place) -> list[str]:
    return ["--storage-options", json.dumps(place.storage_options)] if place.storage_options else []


def run(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudimg", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.fixture
def local(tmp_path: Path) -> Place:
    def put(key: str, data: bytes) -> None:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return Place("local", str(tmp_path), {}, put, lambda key: (tmp_path / key).unlink())


# Images


def test_json_holds_everything_on_every_store(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    size = put_grid(place, without="mydata_ch1_05t_0x_1y_0z.tif")
    place.put("mydata_ch0_README.txt", b"not a tile")
    url = f"{place.url}/{PATTERN}"

    assert main(["info", "--json", url, *options_of(place)]) == 0

    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert err == ""
    assert set(facts) == IMAGE_KEYS | OF_ALL_COMMANDS
    assert facts["url"] == url
    assert facts["dims"] == ["t", "c", "z", "y", "x"]
    assert facts["shape"] == [3, 2, 2, 32, 48]
    assert facts["dtype"] == "uint16"
    assert facts["labels"] == {"t": [4, 5, 6], "c": [0, 1], "z": [0, 1], "y": [0, 1], "x": [0, 1]}
    assert facts["nbytes"] == 3 * 2 * 2 * 32 * 48 * 2
    # A web server's page of links has no sizes.
    assert facts["stored_nbytes"] == (None if place.name == "http" else size)
    assert facts["chunks"] == {"shape": [3, 2, 2, 32, 48], "count": 1}
    (level,) = facts["levels"]
    assert level["shape"] == facts["shape"]
    assert level["downsampling"] == [1] * 5
    assert level["segment"] == {"y": 16, "x": 24}
    assert facts["compression"] == "ADOBE_DEFLATE"
    files = facts["files"]
    assert files["count"] == 47
    assert files["missing"] == 1
    assert files["missing_examples"] == [{"c": 1, "t": 5, "x": 0, "y": 1, "z": 0}]
    assert files["unmatched"] == 1
    assert files["unmatched_examples"] == [
        f"{place.url}/mydata_ch0_README.txt".removeprefix("file://")
    ]
    assert facts["pixel_size"]["x"] == {"value": pytest.approx(0.25), "unit": "µm"}
    assert facts["pixel_size"]["y"] == {"value": pytest.approx(0.5), "unit": "µm"}
    assert facts["channel_names"] == []
    assert facts["time_step_s"] is None
    assert facts["notes"] == []


def test_text_holds_the_same(local: Place, capsys: pytest.CaptureFixture[str]) -> None:
    size = put_grid(local, without="mydata_ch1_05t_0x_1y_0z.tif")
    local.put("mydata_chX.tif", b"")
    assert main(["info", f"{local.url}/{PATTERN}"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        f"{local.url}/{PATTERN}",
        "axes t 3 4 5 6",
        "c 2 0 1",
        "z 2 0 1",
        "y 32 0 1 (2 files)",
        "x 48 0 1 (2 files)",
        "shape 3 x 2 x 2 x 32 x 48",
        "dtype uint16",
        f"bytes 36.00 kiB decoded, {size / 1024:.2f} kiB stored",
        "chunks 1 of 3 x 2 x 2 x 32 x 48",
        "segment y 16, x 24",
        "compressed ADOBE_DEFLATE",
        "colours gray",
        "files 47",
        "missing 1",
        "c=1 t=5 x=0 y=1 z=0",
        f"listed names that begin with {local.url}/mydata_ch; the rest of the folder was not"
        " looked at",
        "unmatched 1: 1 .tif",
        f"{local.url}/mydata_chX.tif",
        "pixel size x 0.25 µm, y 0.5 µm",
    ]


def test_one_file_with_levels_tiles_and_channel_names(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(local.url) / "image.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "TimeIncrement": 2.5}
        options: dict[str, Any] = {"tile": (64, 64), "compression": "zstd"}
        writer.write(np.zeros((2, 256, 256), "u1"), subifds=1, metadata=metadata, **options)
        writer.write(np.zeros((2, 128, 128), "u1"), subfiletype=1, **options)
    assert main(["info", "--json", str(path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [level["shape"] for level in facts["levels"]] == [[2, 256, 256], [2, 128, 128]]
    assert [level["downsampling"] for level in facts["levels"]] == [[1, 1, 1], [1, 2, 2]]
    assert facts["levels"][0]["segment"] == {"c": 1, "y": 64, "x": 64}
    assert facts["labels"]["c"] == facts["channel_names"] == ["DAPI", "GFP"]
    assert facts["time_step_s"] == 2.5
    assert facts["files"]["count"] == 1
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"levels +2 x 256 x 256\n +2 x 128 x 128\n", text)
    assert re.search(r"channels +DAPI GFP\n", text)
    assert re.search(r"time step +2.5 s\n", text)


def test_options_of_open(local: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for x in range(2):
        local.put(f"a_{x}.tif", tiff((5, 16, 24)))
    url = f"{local.url}/a_{{x}}.tif"

    def shape(*options: str) -> dict[str, int]:
        assert main(["info", "--json", url, *options]) == 0
        facts = json.loads(capsys.readouterr().out)
        return dict(zip(facts["dims"], facts["shape"], strict=True))

    assert shape() == {"page": 5, "y": 16, "x": 48}
    assert shape("--axes", "page=z") == {"z": 5, "y": 16, "x": 48}
    assert shape("--place=stack")["page"] == 5
    assert 48 not in shape("--place=stack").values()
    assert main(["info", url, "--series", "7"]) == 2
    assert "--series 7" in capsys.readouterr().err
    local.put("a_2.tif", tiff((6, 16, 24)))
    assert main(["info", url, "--validate", "all"]) == 4
    assert "a_2.tif" in capsys.readouterr().err


def test_labels_are_abridged_in_text_and_complete_in_json(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiff((8, 8))
    for t in range(60):
        local.put(f"run 2024-05-01T10{t:02d}.tif", data)
    url = f"{local.url}/run {{t:%Y-%m-%dT%H%M}}.tif"
    assert main(["info", "--json", url]) == 0
    labels = json.loads(capsys.readouterr().out)["labels"]["t"]
    assert labels == [f"2024-05-01T10:{t:02d}:00" for t in range(60)]
    assert main(["info", url]) == 0
    text = capsys.readouterr().out
    assert "2024-05-01T10:00:00 ... 2024-05-01T10:59:00" in text
    assert "T10:30" not in text


def test_missing_raise_fails_for_missing_files(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    put_grid(local, without="mydata_ch1_05t_0x_1y_0z.tif")
    assert main(["info", f"{local.url}/{PATTERN}", "--missing", "raise"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("cloudimg: error: 1 file")


# Folders


@pytest.mark.parametrize("end", ["/", ""])
def test_a_folder_proposes_the_pattern_of_its_names(
    place: Place, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_grid(place)
    place.put("notes.txt", b"-")
    place.put("._mydata_ch0_04t_0x_0y_0z.tif", b"what macOS leaves")
    url = place.url.removeprefix("file://") + end

    assert main(["info", "--json", url, *options_of(place)]) == 0

    facts = json.loads(capsys.readouterr().out)
    pattern = f"{place.url.removeprefix('file://')}/{PATTERN}"
    assert set(facts) == FOLDER_KEYS | OF_ALL_COMMANDS
    assert facts["url"] == url
    assert facts["objects"] == 50
    assert facts["truncated"] is False
    assert facts["images"] == 48
    [proposal] = facts["proposals"]
    assert set(proposal) == PROPOSAL_KEYS
    assert (proposal["pattern"], proposal["files"], proposal["left_out"]) == (pattern, 48, 0)
    assert proposal["axes"] == {"c": 2, "t": 3, "x": 2, "y": 2, "z": 2}
    assert (proposal["layout"], proposal["certainty"]) == (None, "likely")
    assert facts["image_problem"] is None
    assert set(facts["image"]) == IMAGE_KEYS
    assert facts["image"]["url"] == pattern
    assert facts["image"]["shape"] == [3, 2, 2, 32, 48]


def test_a_bucket_is_a_folder(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(3):
        meter.put(bucket, f"deep/er/z{z}.TIF", tiff())
    options = ["--storage-options", json.dumps(meter.storage_options)]
    assert main(["info", f"s3://{bucket}", *options]) == 0
    out = capsys.readouterr().out
    assert f"  3 files  s3://{bucket}/deep/er/z{{z}}.TIF\n" in out
    assert "3 objects, 3 named like images" in out
    assert re.search(r"shape +3 x 16 x 24\n", out)


def test_proposals_help_even_if_the_first_does_not_open(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(3):
        local.put(f"z{z}.tif", b"not a TIFF at all" * 100)
    assert main(["info", local.url]) == 4
    out, err = capsys.readouterr()
    assert f"3 files  {local.url}/z{{z}}.tif" in out
    assert err.startswith("cloudimg: error: the first proposal does not open: ")
    assert main(["info", "--json", local.url]) == 4
    facts = json.loads(capsys.readouterr().out)
    assert facts["image"] is None
    assert facts["image_problem"]
    assert facts["proposals"][0]["files"] == 3


def test_other_names_are_proposed_if_none_are_named_like_images(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(3):
        local.put(f"plane{z}.raw", tiff())
    assert main(["info", "--json", local.url]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 0
    assert facts["proposals"][0]["files"] == 3


def test_a_large_folder_is_listed_in_part(
    local: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudimg.discovery.folder.MAX_NAMES", 10)
    put_grid(local)
    assert main(["info", "--json", local.url]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["truncated"] is True
    assert facts["objects"] == facts["proposals"][0]["files"] == 10
    assert main(["info", local.url]) == 0
    out = capsys.readouterr().out
    assert "  10 objects, 10 named like images\n  more objects follow, which the patterns" in out


def test_a_folder_whose_name_looks_like_a_pattern(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(2):
        local.put(f"exp [a] {{1}}/z{z}.tif", tiff())
    assert main(["info", "--json", f"{local.url}/exp [a] {{1}}"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["image"]["files"]["count"] == 2
    assert facts["proposals"][0]["pattern"].endswith("/exp [[]a] {{1}}/z{z}.tif")


def test_an_empty_folder_and_a_missing_one(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(local.url) / "empty").mkdir()
    assert main(["info", f"{local.url}/empty"]) == 3
    assert "is an empty folder" in capsys.readouterr().err
    assert main(["info", f"{local.url}/none"]) == 3
    assert "no such file" in capsys.readouterr().err


# What goes wrong


def test_no_match_is_one_line_with_the_nearest_names(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.put("experiment_c0_z0.tif", tiff())
    wanted = f"{place.url}/experimnet_c{{c}}_z{{z}}.tif"
    assert main(["info", wanted, *options_of(place)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("cloudimg: error: nothing matches ")
    assert "experiment_c0_z0.tif" in err


@pytest.mark.parametrize("refused", ["GET /[^/]+/$", "GET /[^/]+/."], ids=["list", "get"])
@pytest.mark.parametrize("name", ["z{z}.tif", "z0.tif", ""])
def test_access_denied_is_not_reported_as_missing(
    meter: Meter, bucket: str, refused: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(2):
        meter.put(bucket, f"dir/z{z}.tif", tiff())
    if name == "z0.tif" and refused.endswith("/$"):
        pytest.skip("a file needs no listing")
    meter.faults([{"match": refused, "status": 403}])
    options = ["--storage-options", json.dumps(meter.storage_options)]
    assert main(["info", f"s3://{bucket}/dir/{name}", *options]) == 5
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "access denied" in err
    assert "nothing" not in err


def test_a_file_that_is_missing_where_listing_is_denied(
    meter: Meter, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.faults([{"match": "GET /[^/]+/$", "status": 403}])
    options = ["--storage-options", json.dumps(meter.storage_options)]
    assert main(["info", f"s3://{bucket}/none", *options]) == 5
    assert "access denied" in capsys.readouterr().err  # it may be a folder


@pytest.mark.slow
def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for args in (["--debug", "info"], ["info", "--debug"]):
        done = run(*args, tmp_path / "none.tif")
        assert done.returncode == 3
        assert done.stderr.startswith("Traceback")
        assert done.stderr.splitlines()[-1].startswith("cloudimg: error: no such file")
    assert "Traceback" not in run("info", tmp_path / "none.tif").stderr


def test_an_unexpected_error_is_one_line_too(
    local: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("cloudimg.api.descriptions.open_sources", fail)
    assert main(["info", f"{local.url}/z{{z}}.tif"]) == 70
    err = capsys.readouterr().err
    assert err == (
        "cloudimg: error: unexpected RuntimeError: first\\nsecond (a bug; --debug shows where)\n"
    )


def test_control_characters_in_names_do_not_reach_the_terminal(
    local: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    local.put("z0.tif", tiff())
    local.put("z\x1b[2Jboo\n.tif", b"")
    assert main(["info", f"{local.url}/z{{z}}.tif"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "z\\x1b[2Jboo\\n.tif" in out
    assert main(["info", f"{local.url}/z{{z}}_.tif"]) == 3
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["info"],
        ["inof", "x.tif"],
        ["info", "x.tif", "y.tif"],
        ["info", "x.tif", "--nope"],
        ["info", "x.tif", "--series", "one"],
        ["info", "x.tif", "--missing", "zero"],
        ["info", "--axes", "page=z", "x.tif"],
        ["info", "x.tif", "--storage-options", "[1]"],
        ["info", "x.tif", "--storage-options", f'{{"secret": "{SECRET}"'],
        ["info", "x.tif", "--storage-optoins", f'{{"secret": "{SECRET}"}}'],
        ["info", "x.tif", f'--storage-optoins={{"secret": "{SECRET}"}}'],
        [f"s3://me:{SECRET}@bucket/x.tif"],
        ["demo", "--port", "99999"],
    ],
)
def test_wrong_usage_exits_with_2_and_repeats_no_secret(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: cloudimg" in err
    assert SECRET not in err


# Secrets and access


@pytest.mark.parametrize("faults", [[], [{"match": "GET", "status": 403}]], ids=["fine", "denied"])
@pytest.mark.parametrize("name", ["", "z{z}.tif", "none.tif", "q{z}.tif"])
def test_storage_options_are_in_no_output(
    meter: Meter,
    bucket: str,
    name: str,
    faults: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for z in range(2):
        meter.put(bucket, f"dir/z{z}.tif", tiff())
    meter.faults(faults)
    options = meter.storage_options | {"key": f"AKIA{SECRET}", "secret": SECRET, "token": SECRET}
    args = [f"s3://{bucket}/dir/{name}", "--storage-options", json.dumps(options), "--debug"]
    main(["info", *args])
    out, err = capsys.readouterr()
    assert out + err
    assert SECRET not in out + err


def test_unknown_options_do_not_leak_through_messages_of_libraries(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"client_kwargs": {"bogus_token": SECRET, "endpoint_url": f"nonsense {SECRET}"}}
    assert main(["info", "--debug", f"s3://{bucket}/z{{z}}.tif", "--storage-options",
                 json.dumps(options | {"password": f"nonsense {SECRET}"})]) == 6  # fmt: skip
    out, err = capsys.readouterr()
    assert SECRET not in out + err


@pytest.mark.parametrize("path", ["z{z}.tif?sig=SECRET", "z0.tif?X-Amz-Signature=SECRET", "", "no"])
def test_secrets_of_a_url_are_in_no_output(
    httpd: WebServer, bucket: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (httpd.root / bucket).mkdir()
    for z in range(2):
        (httpd.root / bucket / f"z{z}.tif").write_bytes(tiff())
    host = httpd.endpoint.removeprefix("http://")
    for user in ("", f"me:{SECRET}@"):
        url = f"http://{user}{host}/{bucket}/{path.replace('SECRET', SECRET)}"
        for flags in ([], ["--json"], ["--debug"]):
            main(["info", url, *flags])
            out, err = capsys.readouterr()
            assert out + err
            assert SECRET not in out + err


def test_anon_and_endpoint_url(
    moto: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    place: Place = request.getfixturevalue("public_place")
    place.put("z0.tif", tiff())
    url = f"{place.url}/z{{z}}.tif"
    assert main(["info", url, "--anon", "--endpoint-url", moto]) == 0
    assert "1 x 16 x 24" in capsys.readouterr().out
    for wrong in (
        [url, "--endpoint-url", moto, *options_of(place)],
        [url, "--anon", "--storage-options", '{"anon": false}'],
        ["/data/x.tif", "--anon"],
        ["http://host/x.tif", "--endpoint-url", moto],
    ):
        assert main(["info", *wrong]) == 2
        assert capsys.readouterr().err.startswith("cloudimg: error: --")


@pytest.fixture
def public_place(request: pytest.FixtureRequest) -> Any:
    from tests.conftest import PLACES

    with PLACES["s3-moto"](request) as place:
        import boto3

        options = place.storage_options
        client = boto3.client(
            "s3",
            aws_access_key_id=options["key"],
            aws_secret_access_key=options["secret"],
            **options["client_kwargs"],
        )
        client.put_bucket_acl(Bucket=place.url.split("/")[2], ACL="public-read")
        yield place


@pytest.mark.slow
def test_endpoint_and_keys_from_the_environment(meter: Meter, bucket: str, tmp_path: Path) -> None:
    meter.put(bucket, "z0.tif", tiff())
    config = tmp_path / "config"
    config.write_text(f"[profile lab]\nendpoint_url = {meter.endpoint}\nregion = us-east-1\n")
    credentials = tmp_path / "credentials"
    credentials.write_text("[lab]\naws_access_key_id = x\naws_secret_access_key = y\n")
    env = os.environ | {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "lab"}
    env |= {"AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    done = run("info", f"s3://{bucket}/z{{z}}.tif", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 x 16 x 24" in done.stdout


def test_options_of_a_chain_go_to_its_store(
    meter: Meter, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.put(bucket, "z0.tif", tiff())
    options = {"s3": {"key": "x", "secret": "y"}, "simplecache": {"cache_storage": str(tmp_path)}}
    args = [f"simplecache::s3://{bucket}/z{{z}}.tif", "--storage-options", json.dumps(options)]
    assert main(["info", *args, "--endpoint-url", meter.endpoint]) == 0
    assert "1 x 16 x 24" in capsys.readouterr().out


# The process


def test_version_and_help() -> None:
    assert re.fullmatch(r"cloudimg \d+\.\d+\S*\n", run("--version").stdout)
    done = run("info", "--help")
    assert done.returncode == 0
    assert "--storage-options JSON" in done.stdout


def test_starting_imports_nothing_heavy() -> None:
    code = "import sys, cloudimg.cli.main; print({m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: set[str] = eval(done.stdout)
    heavy = {"dask", "distributed", "moto", "boto3", "botocore", "s3fs", "gcsfs", "tifffile"}
    assert loaded & heavy == set()


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(local: Place) -> None:
    local.put("z0.tif", tiff())
    command = [sys.executable, "-m", "cloudimg", "info", "--json", f"{local.url}/z{{z}}.tif"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 141


@pytest.mark.slow
def test_ascii_terminals_get_escapes_instead_of_errors(local: Place) -> None:
    put_grid(local)
    done = run("info", f"{local.url}/{PATTERN}", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "x 0.25 \\xb5m" in done.stdout
    done = run("info", "--json", local.url, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["image"]["pixel_size"]["x"]["unit"] == "µm"


@pytest.mark.slow
def test_ctrl_c_waits_for_no_answer(meter: Meter, bucket: str) -> None:
    """The server never answers, and the time-out is hours away."""
    meter.put(bucket, "z0.tif", tiff())
    meter.faults([{"match": "GET /", "kind": "stall"}])
    options = json.dumps(meter.storage_options)
    command = [sys.executable, "-m", "cloudimg", "info", f"s3://{bucket}/z{{z}}.tif"]
    with subprocess.Popen(
        [*command, "--storage-options", options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CLOUDIMG_TIMEOUT_S": "10000"},
    ) as child:
        try:
            wait_until(lambda: bool(meter.log()), "a request")
            child.send_signal(signal.SIGINT)
            _, shown = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130
    assert shown == "cloudimg: interrupted\n"
    assert [request.status for request in meter.log()] == [0]  # unanswered, and not asked again


@pytest.mark.slow
def test_progress_is_for_terminals_only(local: Place) -> None:
    put_grid(local)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cloudimg", "info", local.url]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how a pty reports that the other end is closed
        pass
    os.close(ours)
    assert b"\rnames listed: 48" in shown
    assert shown.endswith(b"\r\x1b[K")
    assert b"\r" not in done.stdout
    assert run("info", local.url).stderr == ""


def test_a_server_that_does_not_exist(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("cloudimg.storage.attempts._FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("cloudimg.storage.attempts._LONGEST_PAUSE_S", 0.001)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert main(["info", "s3://bucket/z{z}.tif", "--anon", "--endpoint-url", endpoint]) == 6
    assert "refused" in capsys.readouterr().err
