"""``--json``: one JSON object on stdout, and nothing else, whatever a command does or meets."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.cli import demo, exit_codes
from cloudimg.cli.main import main
from cloudimg.cli.parser import parse
from tests.support import seed

REPOSITORY = Path(__file__).resolve().parents[2]
FIRST = ["format", "command", "exit_code", "error"]
OF_ERRORS = ["kind", "message", "url", "cause", "exit_code", "advice", "report"]
COMMANDS = (
    "info", "validate", "preview", "index", "migrate", "verify", "repair", "export", "retire",
    "cluster up", "cluster status", "cluster down", "demo",
)  # fmt: skip


def write_files(folder: Path) -> str:
    folder.mkdir()
    for t in range(3):
        pixels = np.full((20, 30), t, np.uint8)
        (folder / f"t{t}.tif").write_bytes(seed.encode(pixels))
    return f"{folder}/t{{t}}.tif"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_files(tmp_path_factory.mktemp("json") / "in")


@pytest.fixture(scope="module")
def copy(source: str) -> str:
    out = str(Path(source).parents[1] / "copy.zarr")
    cloudimg.migrate(source, out)
    return out


def document(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    """What a command prints with ``--json``."""
    try:
        code = main([*map(str, words), "--json"])
    except SystemExit as stopped:
        code = int(str(stopped.code))
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out, parse_constant=lambda text: pytest.fail(text))
    assert list(found)[:4] == FIRST
    assert isinstance(found["messages"], list)
    assert isinstance(found["warnings"], list)
    assert (found["format"], found["exit_code"]) == (1, code)
    assert " ".join(map(str, words)).startswith(found["command"])
    assert (found["error"] is None) == (code == 0)
    if code:
        assert list(found["error"]) == OF_ERRORS
        assert found["error"]["exit_code"] == code
        assert found["error"]["message"] in err.replace("\n", " ") or code == 2
        assert found["error"]["advice"]
    return found


def keys_in_docs(command: str) -> set[str]:
    """The keys that the documentation lists for a command."""
    text = (REPOSITORY / "docs" / "scripts.md").read_text()
    (row,) = re.findall(rf"^\| `{command}` \| (.*) \|$", text, re.M)
    return set(re.findall(r"`(\w+)`", row))


def test_every_command_prints_one_object(
    source: str, copy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its keys are those that the documentation lists."""
    monkeypatch.setattr(demo, "STEPS", (demo.Step("Count.", "print(1 + 1)\n"),))
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    runs = {
        "info": ["info", source],
        "validate": ["validate", source],
        "preview": ["preview", source, tmp_path / "a.png"],
        "index": ["index", source, "-o", tmp_path / "a.parquet"],
        "migrate": ["migrate", source, tmp_path / "new.zarr"],
        "migrate --dry-run": ["migrate", source, tmp_path / "dry.zarr", "--dry-run"],
        "verify": ["verify", copy, "--against-source"],
        "repair": ["repair", copy, "--dry-run"],
        "export": ["export", copy, tmp_path / "out"],
        "retire": ["retire", copy, "--move-to", tmp_path / "away"],
        "demo": ["demo", "--out", tmp_path / "demo.png"],
    }
    common = {*FIRST, "messages", "warnings"}
    for name, words in runs.items():
        found = document(capsys, *words)
        assert found["exit_code"] == 0, found
        # A plan says more and more of what will be: its keys are among those that are there.
        is_plan = name == "migrate --dry-run"
        assert keys_in_docs(name) <= set(found), name
        assert is_plan or set(found) - common == keys_in_docs(name), name
    in_folder = document(capsys, "info", str(Path(source).parent))
    assert set(in_folder) - common == keys_in_docs("info FOLDER")
    assert set(document(capsys, "info", "/none/a.tif")["error"]) == keys_in_docs("error")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_option_is_json_too(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *command.split(), "--json=1" if command == "info" else "--nope")
    assert (found["command"], found["exit_code"]) == (command, 2)
    assert found["error"]["kind"] == "UsageError"


def test_failures(
    source: str, copy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each has its exit code and class; results that were found before it are there."""

    def failed(*words: str | Path) -> tuple[int, str]:
        found = document(capsys, *words)
        return found["exit_code"], found["error"]["kind"]

    none = f"{tmp_path}/none_{{t}}.tif"
    new = tmp_path / "new.zarr"
    for words in (
        ["info", none], ["validate", none], ["preview", none, tmp_path / "a.png"],
        ["index", none, "-o", tmp_path / "a.parquet"], ["migrate", none, new],
        ["migrate", none, new, "--dry-run"],
    ):  # fmt: skip
        assert failed(*words) == (3, "NoMatchError"), words
    for words in (["verify", new], ["repair", new], ["retire", new, "--undo"]):
        assert failed(*words) == (2, "ArgumentError"), words
    assert failed("export", new, tmp_path / "out") == (2, "ArgumentError")
    for words in (["up", "--workers", "1"], ["status"], ["down"]):
        assert failed("cluster", words[0], tmp_path / "no.json", *words[1:])[0] == 2
    assert failed("demo", "--out", tmp_path / "none" / "a.png") == (2, "ArgumentError")
    assert failed("info", "s3://b/a.tif", "--storage-options", "{") == (2, "UsageError")
    assert failed("migrate", source, copy, "--levels", "2") == (7, "OccupiedError")
    assert failed("info", source, "--log", tmp_path / "no" / "log") == (2, "ArgumentError")

    bad = write_files(tmp_path / "bad")
    (tmp_path / "bad/t1.tif").write_bytes(b"")
    found = document(capsys, "migrate", bad, new)
    assert (found["exit_code"], found["error"]["kind"]) == (4, "BadFilesError")
    (kind,) = found["error"]["report"]["kinds"]
    assert [kind["kind"], *(file["url"] for file in kind["files"])] == [
        "empty", str(tmp_path / "bad/t1.tif"),
    ]  # fmt: skip
    found = document(capsys, "validate", bad)
    assert (found["exit_code"], found["error"]["kind"]) == (1, "ProblemsError")
    assert found["counts"]["bad"] == 1
    found = document(capsys, "migrate", bad, new, "--bad", "fill")
    assert found["report"]["kinds"][0]["kind"] == "empty"
    for path in (new / "0/c").rglob("0"):
        if path.is_file():
            path.unlink()
    found = document(capsys, "verify", new)
    assert (found["exit_code"], found["error"]["kind"]) == (1, "ProblemsError")
    assert found["n_problems"] == len(found["problems"]) > 0

    monkeypatch.setattr("cloudimg.image.validation.Validation.to_json", lambda _: 1 / 0)
    assert failed("validate", source) == (70, "ZeroDivisionError")


def test_prints_and_warnings_of_others_stay_off_stdout(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cloudimg.validate

    def noisy(*args: Any, **kwargs: Any) -> Any:
        print("a library prints")
        return real(*args, **kwargs)

    monkeypatch.setattr(cloudimg, "validate", noisy)
    assert document(capsys, "validate", source)["counts"]["fine"] == 3


def test_options_of_all_commands_stand_anywhere() -> None:
    words = ["--json", "--log", "a", "--heartbeat", "5", "--debug"]
    for line in ([*words, "info", "a.tif"], ["info", *words, "a.tif"]):
        args = parse(line)
        assert (args.json, args.log, args.heartbeat, args.debug) == (True, "a", 5, True)
    args = parse(["cluster", "down", "a"])
    assert (args.json, args.log, args.debug) == (False, None, False)


def test_every_class_of_errors_has_its_code() -> None:
    found = {
        name: exit_codes.code_of(each("what"))
        for name, each in vars(cloudimg.errors).items()
        if isinstance(each, type) and issubclass(each, cloudimg.CloudimgError)
    }
    groups = {
        1: "CloudimgError ProblemsError",
        2: "ArgumentError PatternError UnknownArgumentError",
        3: "NoMatchError NotFoundError FolderError",
        5: "AccessDeniedError CertificateError WrongRegionError",
        6: "StorageError ServerError ChangedError",
        7: "OccupiedError NotConditionalError",
        8: "LeaseError", 9: "NoRoomError", 10: "DamagedCopyError", 11: "ArchivedError",
        12: "ClusterError",
    }  # fmt: skip
    named = {name: code for code, names in groups.items() for name in names.split()}
    assert found == {name: named.get(name, 4) for name in found}
