"""Five nights of a nightly job, of which three go wrong: what a script sees of them."""

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
    kill_at("/cells/0/0", how["killed_at"])
if "most_bytes" in how:
    resource.setrlimit(resource.RLIMIT_FSIZE, (how["most_bytes"],) * 2)
from cloudimg.cli.main import main
sys.exit(main())
"""


class Job:
    """The nightly job: a new time point arrives, and is copied."""

    def __init__(self, folder: Path) -> None:
        self.files, self.copies = folder / "in", folder / "copies"
        self.log, self.documents = folder / "job.log", folder / "nights.jsonl"
        self.files.mkdir()

    def arrive(self, t: int) -> None:
        for z in range(N_PLANES):
            (self.files / f"t{t}_z{z}.tif").write_bytes(seed.encode(PIXELS[t, z]))

    def words(self, t: int) -> list[str]:
        """The command of a night: a copy of its own for each time point."""
        shards = ",".join(f"{axis}={n}" for axis, n in SHARDS.items())
        words = ["migrate", f"{self.files}/t{t}_z{{z}}.tif", f"{self.copies}/t{t}"]
        words += ["--chunks", "32", "--shards", shards, "--levels", "1"]
        return [*words, "--allow-unmatched"]

    def shards(self, t: int) -> dict[str, bytes]:
        """What is stored of a time point, by plane."""
        folder = self.copies / f"t{t}/0/c"
        return {p.relative_to(folder).parts[0]: p.read_bytes() for p in files_below(folder)}

    def run(self, words: Sequence[str], **how: int) -> tuple[int, dict[str, Any]]:
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


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_five_nights(tmp_path: Path) -> None:
    job = Job(tmp_path)

    # A night as it should be.
    job.arrive(0)
    code, found = job.run(job.words(0))
    assert (code, found["error"], found["n_cells"]) == (0, None, N_PLANES)

    # A file broke off on its way: the job names it. Its pixels are left out, or it is sent again.
    job.arrive(1)
    bad = job.files / "t1_z4.tif"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:2000])
    code, found = job.run(job.words(1))
    assert (code, found["error"]["kind"]) == (4, "BadFilesError")
    (kind,) = found["error"]["report"]["kinds"]
    assert (kind["kind"], [each["url"] for each in kind["files"]]) == ("truncated", [str(bad)])
    code, found = job.run([*job.words(1), "--bad", "fill"])
    assert (code, found["report"]["total"]) == (0, 1)
    bad.write_bytes(whole)
    code, found = job.run([*job.words(1), "--overwrite", "--yes"])
    assert (code, found["error"]) == (0, None)

    # The machine was switched off: the same command does the rest.
    job.arrive(2)
    code, found = job.run(job.words(2), killed_at=4)
    assert (code, found) == (-9, {})
    code, found = job.run(job.words(2))
    assert (code, found["error"]) == (0, None)
    assert 0 < found["n_done_before"] < N_PLANES

    # The disk is full, and emptied on the next day.
    job.arrive(3)
    code, found = job.run(job.words(3), most_bytes=15_000)
    assert (code, found["error"]["kind"]) == (9, "NoRoomError")
    code, found = job.run(job.words(3))
    assert (code, found["error"]) == (0, None)

    job.arrive(4)
    code, found = job.run(job.words(4))
    assert (code, found["error"]) == (0, None)

    # All nights together are what one migration of all files is.
    at_once = tmp_path / "at-once"
    cloudimg.migrate(
        f"{job.files}/t{{t}}_z{{z}}.tif", at_once, chunks=32, shards={"t": 1, **SHARDS}, levels=1
    )
    for t in range(N_NIGHTS):
        folder = at_once / f"0/c/{t}"
        shards = {p.relative_to(folder).parts[0]: p.read_bytes() for p in files_below(folder)}
        assert job.shards(t) == shards
        assert len(shards) == N_PLANES
        assert t in (0, 4) or cloudimg.verify(job.copies / f"t{t}", against_source=True)

    # The log has it all: one command that was killed has no end.
    assert SECRET not in job.log.read_text()
    lines = job.logged()
    assert len(lines) == len(job.log.read_text().splitlines())
    kinds = Counter(kind for kind, _ in lines)
    assert (kinds["start"], kinds["end"]) == (9, 8)
    codes = [text.split()[2] for kind, text in lines if kind == "end"]
    assert codes == ["0", "4", "0", "0", "0", "9", "0", "0"]
    assert any(kind == "error" and str(bad) in text for kind, text in lines)
    assert any(kind == "progress" for kind, _ in lines)
    assert len(job.documents.read_text().splitlines()) == 8
