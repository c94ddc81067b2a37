"""``cloudimg migrate --follow``: an acquisition is copied while it is under way."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import ArgumentError, BadFilesError, OccupiedError
from tests.support import copies, seed
from tests.support.acquisition import Acquisition, plane
from tests.support.waiting import wait_until

PARTS = ["--grow", "t", "--chunks", "32", "--levels", "2"]


class Command:
    """The command in a process of its own, and what it has printed."""

    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cloudimg", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += [""]
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def says(self, text: str) -> None:
        """Wait until it has printed a line with a text."""
        is_there = lambda: any(text in line for line in self.lines)  # noqa: E731
        wait_until(lambda: is_there() or self.process.poll() is not None, text)
        assert is_there(), (text, self.lines)

    def ends(self) -> int:
        code = self.process.wait(60)
        self._reader.join()
        return code


@contextmanager
def running(*words: str) -> Iterator[Command]:
    command = Command(*words)
    try:
        yield command
    finally:
        command.process.kill()
        command.ends()
        for pipe in (command.process.stdout, command.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.slow
def test_whole_times_are_added_as_they_come(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data))
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    follow = ["migrate", source, url, *PARTS, "--follow", "--interval", "0.1", "--settle", "0.3"]
    with running(*follow) as command:
        command.says("waiting for the first file")
        acquired.take(0)
        (first, data), (second, whole) = acquired.files(1)
        (folder / first).write_bytes(data)  # now it is known which files a time has
        command.says("copied up to t=0")
        (folder / second).write_bytes(whole[: len(whole) // 2])
        command.says(f"waiting for all bytes of 1 file, such as {folder / second}")
        assert not any("t=1" in line for line in command.lines)
        (folder / second).write_bytes(whole)
        command.says("copied up to t=1")
        acquired.take(2)
        command.says("copied up to t=2")
        command.process.send_signal(signal.SIGTERM)
        assert command.ends() == 0
    assert cloudimg.verify(url, against_source=True)
    acquired.take(3)
    (folder / acquired.name_of(4, "gfp", 0)).write_bytes(whole)
    (tmp_path / "stop").touch()
    with running(*follow, "--stop-file", f"{tmp_path}/stop") as command:
        assert command.ends() == 0
        assert any("copied up to t=3" in line for line in command.lines)
        assert "left out: 1 file of indices that lack others" in command.lines
    (folder / acquired.name_of(4, "gfp", 0)).unlink()
    cloudimg.migrate(source, f"{tmp_path}/one.zarr", grow="t", chunks=32, levels=2)
    found, expected = (
        copies.image_of(copies.objects(f"{tmp_path}/{name}.zarr", {})) for name in ("copy", "one")
    )
    assert found == expected


def test_missing_files_are_filled_once_later_ones_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data))
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    follow = ["migrate", source, url, *PARTS, "--missing", "fill", "--follow"]
    at_once = ["--interval", "0", "--settle", "0", "--until-idle", "0"]
    acquired.take(0, 1, 2)
    late, last = (folder / acquired.name_of(t, "gfp", 0) for t in (0, 2))
    data = [path.read_bytes() for path in (late, last)]
    late.unlink()
    last.unlink()
    assert main([*follow, *at_once]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "copied" in line]
    assert [line.partition(":")[0] for line in told] == ["copied up to t=1", "copied up to t=2"]
    for path, each in zip((late, last), data, strict=True):
        path.write_bytes(each)
    assert main([*follow, *at_once]) == 0
    expected = f"{tmp_path}/one.zarr"
    assert main(["migrate", source, expected, *PARTS, "--missing", "fill"]) == 0
    found = [copies.image_of(copies.objects(each, {})) for each in (url, expected)]
    assert found[0] == found[1]


def test_it_finishes_what_was_interrupted_and_waits_at_gaps(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data))
    urls = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    parts: dict[str, Any] = {"grow": "t", "chunks": 32, "levels": 2}
    at_once: dict[str, Any] = {"interval": 0, "settle": 0, **parts}
    acquired.take(0)
    cloudimg.migrate(*urls, **parts)
    acquired.take(1)
    bad = folder / acquired.name_of(1, "gfp", 0)
    data = bad.read_bytes()
    bad.write_bytes(data[:100])
    with pytest.raises(BadFilesError):
        cloudimg.migrate(*urls, **parts)
    bad.write_bytes(data)
    acquired.take(3)
    lines: list[str] = []
    stop = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if "t=1 and t=3" in line:
            acquired.take(2, 5)
        elif "t=3 and t=5" in line:
            stop.set()

    cloudimg.follow(*urls, **at_once, say=say, stop=stop)
    assert [line.partition(":")[0] for line in lines] == [
        "copied up to t=1", "waiting at a gap", "copied up to t=3", "waiting at a gap",
    ]  # fmt: skip
    assert cloudimg.verify(urls[1], against_source=True)
    assert cloudimg.follow(*urls, **at_once, until_idle=0) is not None
    with pytest.raises(OccupiedError, match="codec="):  # also if there is nothing to add
        cloudimg.follow(*urls, **at_once, until_idle=0, codec="zstd:3")
    cloudimg.migrate(urls[0], f"{tmp_path}/one.zarr", **parts)
    found, expected = (
        copies.image_of(copies.objects(f"{tmp_path}/{name}.zarr", {})) for name in ("copy", "one")
    )
    assert found == expected


def test_an_interrupted_copy_is_finished_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its plan has all files that are there, so that nothing new comes; then that is said."""
    folder = tmp_path / "in"
    folder.mkdir()
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data))
    source, url = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    follow = ["migrate", source, url, *PARTS, "--follow", "--json"]
    at_once = ["--interval", "0", "--settle", "0", "--until-idle", "0"]
    acquired.take(0)
    assert main(["migrate", source, url, *PARTS]) == 0
    acquired.take(1, 2)
    bad = folder / acquired.name_of(2, "gfp", 0)
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    assert main(["migrate", source, url, *PARTS]) == 4
    capsys.readouterr()
    assert main([*follow, *at_once]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "BadFilesError"
    bad.write_bytes(whole)
    for is_unchanged in (False, True):
        assert main([*follow, *at_once]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["is_unchanged"], found["error"]) == (is_unchanged, None)
        assert cloudimg.open(url).shape[0] == 3


@pytest.mark.slow
def test_what_is_waited_for_is_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data))
    acquired.take(0, 1)
    bad = folder / acquired.name_of(1, "gfp", 0)
    bad.write_bytes(bad.read_bytes()[:200])
    said: list[str] = []
    times: Any = {"interval": 0.01, "settle": 0.0, "until_idle": 0.3}
    with pytest.raises(BadFilesError):
        cloudimg.follow(
            f"{folder}/{acquired.name}", f"{tmp_path}/out", grow="t", say=said.append, **times
        )
    assert any("waiting for all bytes" in line for line in said)
    assert max(map(said.count, said)) <= 2  # before and after the first copy


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--follow"], "--follow needs --grow AXIS"),
        (["--grow", "t", "--settle", "3"], "--settle needs --follow"),
        (["--grow", "t", "--follow", "--dry-run"], "--follow and --dry-run exclude each other"),
    ],
)
def test_options_that_do_not_fit(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["migrate", f"{tmp_path}/a_{{t}}.tif", f"{tmp_path}/copy.zarr", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("begun", [b"", b"II*\0"])
def test_it_waits_for_the_header_of_the_only_new_file(tmp_path: Path, begun: bytes) -> None:
    data = [seed.encode(plane(t, 0)) for t in range(2)]
    (tmp_path / "a_0.tif").write_bytes(data[0])
    urls = f"{tmp_path}/a_{{t}}.tif", f"{tmp_path}/copy.zarr"
    cloudimg.migrate(*urls, grow="t")
    (tmp_path / "a_1.tif").write_bytes(begun)
    stop, lines = threading.Event(), list[str]()

    def say(line: str) -> None:
        lines.append(line)
        if "waiting for all bytes of 1 file, such as" in line:
            (tmp_path / "a_1.tif").write_bytes(data[1])
        elif "copied up to t=1" in line:
            stop.set()

    cloudimg.follow(*urls, grow="t", interval=0, settle=0, stop=stop, say=say)
    assert cloudimg.verify(urls[1], against_source=True)
    assert lines[0].startswith("waiting for all bytes")


def test_files_that_were_replaced_after_they_were_copied_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    acquired = Acquisition(lambda name, data: (folder / name).write_bytes(data))
    replaced, other = (next(acquired.files(t)) for t in (0, 7))

    def say(line: str) -> None:
        if "copied up to t=1" in line:
            (folder / replaced[0]).write_bytes(other[1])

    acquired.take(0, 1)
    urls = f"{folder}/{acquired.name}", f"{tmp_path}/copy.zarr"
    with pytest.raises(OccupiedError, match=f"1 file replaced .*{replaced[0]}"):
        cloudimg.follow(*urls, grow="t", interval=0, settle=0, until_idle=0.5, say=say)


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    urls = f"{tmp_path}/a_{{t}}.tif", f"{tmp_path}/copy.zarr"
    for options, message in (
        ({}, "follow() needs grow="),
        ({"grow": "t", "part": "0/2"}, "without part="),
        ({"grow": "t", "settle": -1}, "settle=-1 must be a number of seconds"),
    ):
        given: dict[str, Any] = options
        with pytest.raises(ArgumentError, match=re.escape(message)):
            cloudimg.follow(*urls, **given)
    assert cloudimg.follow(*urls, grow="t", settle=0, until_idle=0) is None  # there are no files
