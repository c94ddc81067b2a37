"""``cloudimg demo``, from outside: what it prints and what it leaves."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from cloudimg.cli import demo, sample
from cloudimg.cli.main import main

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "cloudimg", "demo"]
# Runs the demo and reports what it left behind in its process.
DRIVER = """
import json, logging, os, sys
from cloudimg.cli.main import main
before = dict(os.environ)
code = main(sys.argv[1:])
log = logging.getLogger("werkzeug")
left = [log.handlers, log.level, log.propagate] != [[], logging.NOTSET, True]
import moto.backends
buckets = [*moto.backends.get_backend("s3")["123456789012"]["aws"].buckets]
print(json.dumps([code, dict(os.environ) == before, left, buckets]), file=sys.stderr)
"""


@dataclass(frozen=True)
class Done:
    """A demo that has ended."""

    out: str
    err: str
    png: bytes
    again: subprocess.CompletedProcess[str]
    """What it printed, run as a script while the server was there."""
    png_again: bytes
    home: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The demo, run once, with AWS settings and proxies of the user that would make it fail."""
    home = tmp_path_factory.mktemp("home")
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\nregion=x")
    (home / ".aws" / "credentials").write_text("this is no credentials file")
    env = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    env |= {"HOME": str(home), "AWS_PROFILE": "nobody", "AWS_SESSION_TOKEN": "theirs"}
    env |= {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    for name in ("NO_PROXY", "no_proxy"):
        env.pop(name, None)
    png = home / "picture.png"
    command = [
        sys.executable,
        "-c",
        DRIVER,
        "demo",
        "--keep",
        "--heartbeat",
        "0",
        "--out",
        str(png),
    ]
    with running(command, cwd=home, env=env) as child:
        out = read_until("Ctrl-C", child)
        first = png.read_bytes()
        again = subprocess.run(
            [sys.executable, "-"], input=out, text=True, capture_output=True, check=False
        )
        second = png.read_bytes() if again.returncode == 0 else b""
        child.send_signal(signal.SIGINT)
        rest, err = child.communicate(timeout=60)
    return Done(out + rest, err, first, again, second, home)


@pytest.fixture(scope="module")
def cells() -> npt.NDArray[np.uint16]:
    return sample.acquire()


@pytest.mark.slow
def test_the_picture_is_the_projection_of_the_cells(
    done: Done, cells: npt.NDArray[np.uint16]
) -> None:
    expected = []
    for t in range(2):
        rgb = np.zeros((384, 384, 3))
        for c, colour in enumerate([(1, 0.1, 0.8), (0.1, 1, 0.6)]):
            brightest = np.maximum.reduce(cells[:, c], axis=1)  # time, y, x
            low, high = np.percentile(brightest, 1), np.percentile(brightest, 99.7)
            light = np.minimum(np.maximum((brightest[t] - low) / (high - low), 0), 1)
            for sample_, strength in enumerate(colour):
                rgb[:, :, sample_] += strength * light
        expected.append(np.rint(np.minimum(rgb, 1) * 255))
    picture = imagecodecs.png_decode(done.png)
    assert picture.dtype == np.uint8
    assert picture.shape == (384, 784, 3)
    # Sums of floats in another order may round the other way.
    assert np.abs(picture[:, :384] - expected[0]).max() <= 1
    assert np.abs(picture[:, 400:] - expected[1]).max() <= 1
    assert not picture[:, 384:400].any()
    assert np.mean(picture[:, :384] == expected[0]) > 0.999


@pytest.mark.slow
def test_it_prints_what_it_does(done: Done) -> None:
    out = done.out
    assert "#   <cloudimg.Image (t: 2, c: 2, z: 10, y: 384, x: 384) uint16, 11.25 MiB>" in out
    assert "#     files: 360" in out
    assert "shape=(2, 2, 10, 384, 384)" in out
    reading = re.search(r"#   \(2, 2, 384, 384\) uint16\n#   \d+\.\d\d s, (\d+) requests\n", out)
    assert reading is not None
    assert int(reading[1]) <= 360  # each file once
    assert f"look at {done.home}/picture.png\n" in out
    opening = out.split("# 2. ")[1].split("# 3. ")[0]
    found = re.search(r"(\d+) requests", opening)
    assert found is not None
    assert int(found[1]) <= 5  # one listing, few headers


@pytest.mark.slow
def test_nothing_is_left_behind(done: Done) -> None:
    *lines, left = done.err.splitlines()
    assert lines == ["cloudimg: interrupted"]  # nothing of the server, and no warning
    code, same_environment, log_left, buckets = json.loads(left)
    assert code == 130
    assert same_environment
    assert not log_left
    assert buckets == []
    assert sorted(path.name for path in (done.home / ".aws").iterdir()) == ["config", "credentials"]
    assert sorted(path.name for path in done.home.iterdir()) == [".aws", "picture.png"]
    assert not is_listening(endpoint_in(done.out))


@pytest.mark.slow
def test_what_is_printed_is_a_script(done: Done) -> None:
    assert done.again.returncode == 0, done.again.stderr
    assert "<cloudimg.Image" in done.again.stdout
    assert done.png_again == done.png


@pytest.mark.parametrize(
    "step",
    [
        "inside this process",
        "import fsspec",
        pytest.param("a.max(axis=2)", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_on_the_way_leaves_no_server(step: str, tmp_path: Path) -> None:
    with running([*COMMAND, "--out", str(tmp_path / "x.png")]) as child:
        out = read_until(step, child)
        time.sleep(0.1)
        interrupt(child)
        assert not is_listening(endpoint_in(out))
        assert not (tmp_path / "x.png").exists()


def test_it_ends_well_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "STEPS", (demo.Step("One.", "one = 1\n"),
                                        demo.Step("Two.", "print(one + 1, OUT)\n")))  # fmt: skip
    assert main(["demo", "--out", str(tmp_path / "x.png")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"\n# 1\. One\.\none = 1\n#   \d+\.\d\d s\n\n# 2\. Two\.\n", out)
    assert f"#   2 {tmp_path}/x.png\n" in out
    assert not is_listening(endpoint_in(out))


def test_a_step_that_fails_stops_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "STEPS", (demo.Step("Fail.", "print('so far')\nopen('/none/x')\n"),))
    assert main(["demo", "--out", str(tmp_path / "x.png")]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("#   so far\n")
    assert err.startswith("cloudimg: error: step 1 of the demo failed: ")
    assert not is_listening(endpoint_in(out))


@pytest.mark.slow
def test_invalid_arguments_are_reported_before_any_work(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for args, why in (
            (["--port", port], f"cannot listen on port {port}"),
            (["--out", str(tmp_path / "none" / "x.png")], "no such folder"),
            (["--out", str(tmp_path)], "cannot write"),
        ):
            ran = subprocess.run(
                [*COMMAND, *args], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 2
            assert ran.stdout == ""
            assert ran.stderr.startswith(f"cloudimg: error: {why}") or why in ran.stderr
            assert ran.stderr.count("\n") == 1


def test_a_missing_extra_is_reported_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['moto'] = None; from cloudimg.cli.main import main;"
        "sys.exit(main(['demo']))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.endswith('pip install "cloudimg-dask[demo]"\n')


@pytest.mark.slow
def test_the_port_can_be_chosen(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running([*COMMAND, "--port", str(port), "--out", str(tmp_path / "x.png")]) as child:
        assert f"http://127.0.0.1:{port}," in read_until("listens", child)
        interrupt(child)


# The acquisition


def test_the_cells_are_the_same_each_time(cells: npt.NDArray[np.uint16]) -> None:
    assert cells.shape == sample.SHAPE
    assert cells.dtype == np.uint16
    assert np.array_equal(sample.acquire(), cells)
    assert not np.array_equal(sample.acquire(12), cells)


def test_cells_continue_across_tiles(cells: npt.NDArray[np.uint16]) -> None:
    seen = cells.max(axis=2).astype(float)
    for axis in (2, 3):
        steps = np.abs(np.diff(seen, axis=axis)).mean(axis=tuple({0, 1, 2, 3} - {axis}))
        seams = steps[sample.TILE - 1 :: sample.TILE]
        assert np.all(seams < 1.5 * np.median(steps))


def test_tiles_put_together_are_the_image(cells: npt.NDArray[np.uint16]) -> None:
    part = cells[:, :, :1]
    files = sample.write_tiles(part, "ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
    assert len(files) == 2 * 2 * 9
    for t, c, y, x in np.ndindex(2, 2, 3, 3):
        tile = tifffile.imread(io.BytesIO(files[f"ch{c}_{t}t_{x}x_{y}y_0z.tif"]))
        there = part[t, c, 0, 128 * y : 128 * y + 128, 128 * x : 128 * x + 128]
        assert np.array_equal(tile, there)


# Processes


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()


def read_until(text: str, child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    out = ""
    while text not in out:
        line = child.stdout.readline()
        assert line, out + (child.stderr.read() if child.stderr else "")
        out += line
    return out


def interrupt(child: subprocess.Popen[str]) -> None:
    """Press Ctrl-C, and see that the process ends as it should."""
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    assert child.stderr is not None
    assert child.stderr.read() == "cloudimg: interrupted\n"


def endpoint_in(out: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", out)
    assert found is not None, out
    return found[0]


def is_listening(endpoint: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(endpoint.rpartition(":")[2]))) == 0
