"""Five nights of a job that adds to a copy, of which three go wrong: what a script sees of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import cloudimg
from tests.support import seed

REPOSITORY = Path(__file__).resolve().parents[2]
N_NIGHTS, N_PLANES, SIDE = 5, 6, 96
PIXELS = np.random.default_rng(5).integers(0, 2**16, (N_NIGHTS, N_PLANES, SIDE, SIDE), np.uint16)
SHARDS = {"z": 1, "y": SIDE, "x": SIDE}
SECRET = "c0ffee-is-no-secret"
PROGRAM = """
import json, resource, sys
how = json.loads(sys.argv.pop(1))
if "killed_at" in how:
    from tests.support.killing import kill_at
    kill_at(how["killed_at"], 1)
if "most_bytes" in how:
    resource.setrlimit(resource.RLIMIT_FSIZE, (how["most_bytes"],) * 2)
from cloudimg.cli.main import main
sys.exit(main())
"""


class Job:
    """The nightly job: a new time point arrives, and is added to the copy, by one command."""

    def __init__(self, folder: Path) -> None:
        self.files, self.copy = folder / "in", folder / "copy.zarr"
        self.pattern = f"{self.files}/t{{t}}_z{{z}}.tif"
        self.log, self.documents = folder / "job.log", folder / "nights.jsonl"
        self.files.mkdir()

    def arrive(self, t: int) -> None:
        for z in range(N_PLANES):
            (self.files / f"t{t}_z{z}.tif").write_bytes(seed.encode(PIXELS[t, z]))

    @property
    def words(self) -> list[str]:
        shards = ",".join(f"{axis}={n}" for axis, n in SHARDS.items())
        words = ["migrate", self.pattern, str(self.copy), "--grow", "t"]
        return [*words, "--chunks", "32", "--shards", shards, "--levels", "1"]

    def run(self, words: Sequence[str], **how: int | str) -> tuple[int, dict[str, Any]]:
        """The exit code and the JSON of a command in a process of its own; {} if it has none."""
        options = ["--json", "--log", str(self.log), "--heartbeat", "0.2"]
        options += ["--target-options", json.dumps({"auto_mkdir": True, "token": SECRET})]
        with self.documents.open("a") as out:
            at = out.tell()
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, json.dumps(how), *words, *options],
                stdout=out, stderr=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY,
            )  # fmt: skip
        text = self.documents.read_text()[at:]
        assert SECRET not in text + done.stderr
        return done.returncode, json.loads(text) if text else {}

    def logged(self) -> list[tuple[str, str]]:
        """The kind and the text of each line of the log, all of which are whole."""
        form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \d+ (\w+) +(.+)")
        found = [form.fullmatch(line) for line in self.log.read_text().splitlines()]
        return [(line[1], line[2]) for line in found if line]


def shards_of(copy: Path) -> dict[str, bytes]:
    """What is stored of the pixels, by key."""
    folder = copy / "0/c"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_five_nights(tmp_path: Path) -> None:
    job = Job(tmp_path)

    # A night as it should be.
    job.arrive(0)
    code, found = job.run(job.words)
    assert (code, found["error"], found["n_cells"]) == (0, None, N_PLANES)

    # A file broke off on its way: the job names it. Readers have the first night until it is there.
    job.arrive(1)
    bad = job.files / "t1_z4.tif"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:2000])
    code, found = job.run(job.words)
    assert (code, found["error"]["kind"]) == (4, "BadFilesError")
    (kind,) = found["error"]["report"]["kinds"]
    assert (kind["kind"], [each["url"] for each in kind["files"]]) == ("truncated", [str(bad)])
    assert zarr.open_array(job.copy / "0", mode="r").shape == (1, N_PLANES, SIDE, SIDE)
    bad.write_bytes(whole)
    code, found = job.run(job.words)
    assert (code, found["error"]) == (0, None)

    # The machine was switched off: the same command does the rest.
    job.arrive(2)
    code, found = job.run(job.words, killed_at=f"/cells/0/{3 * N_PLANES - 1:09d}")
    assert (code, found) == (-9, {})
    code, found = job.run(job.words)
    assert (code, found["error"]) == (0, None)
    assert 2 * N_PLANES < found["n_done_before"] < found["n_cells"] == 3 * N_PLANES

    # The disk is full, and emptied on the next day.
    job.arrive(3)
    code, found = job.run(job.words, most_bytes=15_000)
    assert (code, found["error"]["kind"]) == (9, "NoRoomError")
    code, found = job.run(job.words)
    assert (code, found["error"]) == (0, None)

    job.arrive(4)
    code, found = job.run(job.words)
    assert (code, found["error"]) == (0, None)
    assert cloudimg.verify(job.copy, against_source=True)

    # The copy is what one migration of all files is.
    at_once = tmp_path / "at-once"
    cloudimg.migrate(job.pattern, at_once, grow="t", chunks=32, shards=SHARDS, levels=1)
    assert len(shards_of(at_once)) == N_NIGHTS * N_PLANES
    assert shards_of(job.copy) == shards_of(at_once)
    assert (job.copy / "0/zarr.json").read_bytes() == (at_once / "0/zarr.json").read_bytes()

    # The log has it all: one command that was killed has no end.
    assert SECRET not in job.log.read_text()
    lines = job.logged()
    assert len(lines) == len(job.log.read_text().splitlines())
    kinds = Counter(kind for kind, _ in lines)
    assert (kinds["start"], kinds["end"]) == (8, 7)
    codes = [text.split()[2] for kind, text in lines if kind == "end"]
    assert codes == ["0", "4", "0", "0", "9", "0", "0"]
    assert any(kind == "error" and str(bad) in text for kind, text in lines)
    assert any(kind == "progress" for kind, _ in lines)
    assert len(job.documents.read_text().splitlines()) == 7
