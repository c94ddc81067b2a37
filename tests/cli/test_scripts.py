"""``--log`` and ``--heartbeat``, and exit codes of signals: what a nightly job relies on."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.cli.progress import Progress
from tests.support.faulty_store import held
from tests.support.metering import Meter
from tests.support.waiting import wait_until

SECRET = "wJalrXUtnFEMI-K7MDENG"
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\d+) (\w+) +(.+)")


@pytest.fixture
def image(tmp_path: Path) -> str:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 24), np.uint16))
    return str(tmp_path / "a.tif")


def lines_of(log: Path) -> list[tuple[str, str]]:
    """The kind and the text of each line."""
    found = [LINE.fullmatch(line) for line in log.read_text().splitlines()]
    assert all(found)
    return [(line[3], line[4]) for line in found if line]


def test_the_log_tells_what_happened_without_secrets(
    image: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloudimg.storage.attempts._FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("cloudimg.storage.attempts._LONGEST_PAUSE_S", 0.001)
    log = tmp_path / "job.log"
    options = json.dumps(
        {"key": "me", "secret": SECRET, "headers": {"Cookie": "abc"}, "anon": False}
    )
    url = f"http://me:{SECRET}@localhost:1/a.tif?X-Amz-Signature={SECRET}"
    assert main(["preview", image, str(tmp_path / "a.png"), "--log", str(log)]) == 0
    words = [f"--storage-options={options}", "--log", str(log)]
    assert main(["info", "/none/a\nb.tif", *words]) == 3
    assert main(["info", url, "--log", str(log), "--json"]) == 6
    scheduler = f"tls://me:{SECRET}@localhost:1"  # Dask repeats it without its tls://
    assert main(["info", image, "--log", str(log), "--scheduler", scheduler]) == 12
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert SECRET not in (text := log.read_text())
    assert "abc" not in text
    assert '"me"' not in text
    kinds = [kind for kind, _ in lines_of(log)]
    assert kinds == ["start", "result", "end", *(3 * ["start", "error", "end"])]
    said = [text for _, text in lines_of(log)]
    assert said[0] == f"cloudimg preview {image} {tmp_path}/a.png --log {log}"
    assert re.fullmatch(r"exit code 0 after \d+\.\d s", said[2])
    assert "a\\nb.tif" in said[4]
    assert '"headers": {"Cookie": "***"}, "anon": false' in said[3]
    assert said[5].startswith("exit code 3 after ")
    mask = os.umask(0)
    os.umask(mask)
    assert log.stat().st_mode & 0o777 == 0o666 & ~mask
    capsys.readouterr()


def test_a_log_that_cannot_be_written_is_an_error_before_all_else(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    wrong = [str(tmp_path), str(tmp_path / "none" / "log"), "/dev/full"]
    for path in wrong:
        code = 9 if path == "/dev/full" else 2
        assert main(["preview", image, str(out), "--log", path]) == code
        err = capsys.readouterr().err
        assert err.startswith(f"cloudimg: error: --log {path} cannot be written: ")
        assert err.count("\n") == 1
    assert main(["validate", image, "--report", "/dev/full"]) == 9
    assert main(["migrate", image, str(out), "--report", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err
    assert not out.exists()


def test_a_log_that_becomes_full_stops_nothing(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of the process simulates the disk; the next command writes whole lines again."""
    log = tmp_path / "job.log"
    words = ["info", image, "--log", str(log)]
    assert main(words) == 0
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 300, hard))
    try:
        assert main(words) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    shown = capsys.readouterr()
    assert "dtype" in shown.out
    assert shown.err.count("cannot be written: File too large; the command goes on") == 1
    assert main(words) == 0
    whole = [line for line in log.read_text().splitlines() if LINE.fullmatch(line)]
    assert [line.split()[2] for line in (whole[0], whole[-1])] == ["start", "end"]
    assert sum(" start " in line for line in whole) == 3


def test_the_line_on_a_terminal_says_how_many_there_are(image: str, tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    pattern = image.replace("a.tif", "b{z}.tif")
    for z in range(3):
        Path(pattern.format(z=z)).write_bytes(Path(image).read_bytes())
    cloudimg.migrate(pattern, tmp_path / "copy", allow_unmatched=True)
    for layout, n_files in (("originals", 3), ("ome-tiff", 1)):
        terminal = Terminal()
        cloudimg.export(
            tmp_path / "copy", tmp_path / layout, layout=layout, progress=Progress(terminal)
        )
        assert f"\rfiles: 1 of {n_files}\x1b[K" in terminal.getvalue()


@pytest.mark.slow
def test_several_processes_append_to_one_log(image: str, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    command = [sys.executable, "-m", "cloudimg", "info", image, "--log", str(log)]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    kinds = [kind for kind, _ in lines_of(log)]
    assert (kinds.count("start"), kinds.count("end")) == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_waits_shows_that_it_lives_until_a_signal_ends_it(
    number: signal.Signals, meter: Meter, bucket: str, tmp_path: Path
) -> None:
    """The server never answers; the heartbeat goes on, on stderr and in the log."""
    meter.put(bucket, "z0.tif", b"")
    meter.faults([{"match": "GET /", "kind": "stall"}])
    log = tmp_path / "job.log"
    words = ["info", f"s3://{bucket}/z{{z}}.tif", "--json", "--log", str(log)]
    words += ["--heartbeat", "0.1", "--storage-options", json.dumps(meter.storage_options)]
    with subprocess.Popen(
        [sys.executable, "-m", "cloudimg", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CLOUDIMG_TIMEOUT_S": "10000"},
    ) as child:
        try:
            is_waiting = lambda: bool(meter.log()) and log.read_text().count("progress") > 2  # noqa: E731
            wait_until(is_waiting, "a heartbeat")
            child.send_signal(number)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 128 + number
    found = json.loads(out)
    assert (found["exit_code"], found["error"]["kind"]) == (128 + number, "Interrupted")
    assert err.splitlines()[-1] == "cloudimg: interrupted"
    assert re.search(r"^cloudimg: after 0 s: running$", err, re.M)
    *_, stopped, last = lines_of(log)
    assert stopped == ("error", "Interrupted: interrupted by a signal")
    assert last[1].startswith(f"exit code {128 + number} after ")


def test_a_heartbeat_of_0_is_none(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", image, "--heartbeat", "0"]) == 0
    assert capsys.readouterr().err == ""
    for wrong in ("-1", "nan", "soon"):
        with pytest.raises(SystemExit):
            main(["info", image, "--heartbeat", wrong])
        assert "must be a number of seconds" in capsys.readouterr().err


@pytest.mark.slow
def test_a_heartbeat_says_how_far_each_phase_is(tmp_path: Path, meter: Meter, bucket: str) -> None:
    """The last header, and then the first shard, are held back until there was a heartbeat."""
    for z in range(4):
        pixels = io.BytesIO()
        tifffile.imwrite(pixels, np.full((16, 24), z, np.uint16))
        meter.put(bucket, f"in/z{z}.tif", pixels.getvalue())
    log = tmp_path / "job.log"
    words = ["migrate", f"s3://{bucket}/in/z{{z}}.tif", f"s3://{bucket}/copy", "--validate", "all"]
    words += ["--shards", "z=1,y=16,x=24", "--levels", "1", "--log", str(log)]
    words += ["--heartbeat", "0.1", "--source-options", json.dumps(meter.storage_options)]
    meter.faults(
        [held("GET", "in/z3.tif$", nth=1), held("PUT", "copy/0/c/2/0/0$", nth=1)],
    )
    with subprocess.Popen(
        [sys.executable, "-m", "cloudimg", *words], stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            for said in (r"headers read: 3 of 4, \d+/s", r"migrating: 3 of 4 cells \(75 %\), .*/s"):
                is_said = lambda said=said: log.exists() and re.search(said, log.read_text())  # noqa: E731
                wait_until(is_said, said)
                meter.release()
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 0, err
    told = [text for kind, text in lines_of(log) if kind == "progress"]
    assert [f"cloudimg: {text}" for text in told] == [
        line for line in err.splitlines() if line.startswith("cloudimg: after ")
    ]


def test_a_terminal_that_is_gone_stops_nothing(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error", text)

    monkeypatch.setattr(sys, "stderr", Gone())
    assert main(["info", str(tmp_path / "none.tif"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "NotFoundError"
    pattern = image.replace("a.tif", "{name:s}.tif")  # headers are counted on the terminal
    assert main(["validate", pattern, "--json"]) == 0


@pytest.mark.slow
def test_a_stdout_that_cannot_be_written(image: str, tmp_path: Path) -> None:
    """The exit code says so, and the log has an end; a closed one is one that nobody reads."""
    log = tmp_path / "job.log"
    python = f"{sys.executable} -m cloudimg"
    info = f"{python} info {image} --log {log}"
    for line, code, err in (
        (f"{info} --json >/dev/full", 9, "stdout cannot be written: No space left on device"),
        (f"{info} | true; exit ${{PIPESTATUS[0]}}", 141, ""),
        (f"{info} --json >&- 2>&-", 0, ""),
    ):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == code, (line, done.stderr)
        assert done.stderr == (f"cloudimg: error: {err}\n" if err else "")
        assert lines_of(log)[-1][1].startswith(f"exit code {code} after ")
    closed = f"{python} info {tmp_path}/none.tif --json 2>&-"
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 3


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_a_command(
    meter: Meter, bucket: str, tmp_path: Path
) -> None:
    """Nothing can be said any more, and yet it gives up what it holds, and ends."""
    meter.put(bucket, "z0.tif", b"")
    meter.faults([{"match": "GET /", "kind": "stall"}])
    log = tmp_path / "job.log"
    words = ["info", f"s3://{bucket}/z{{z}}.tif", "--log", str(log)]
    words += ["--storage-options", json.dumps(meter.storage_options)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "cloudimg", *words])
    try:
        wait_until(lambda: bool(meter.log()), "a request")
    finally:
        os.close(terminal)
    codes: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        codes.extend([os.waitstatus_to_exitcode(status)] if found else [])
        return bool(codes)

    wait_until(has_ended, "its end")
    assert codes == [128 + signal.SIGHUP]
    assert lines_of(log)[-1][1].startswith("exit code 129 after ")
