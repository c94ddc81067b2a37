"""The commands and the picture of the README, as a newcomer meets them.

`tests/test_docs.py` runs the other blocks.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

import cloudimg
from cloudimg.cli import demo, sample
from tests.conftest import REPOSITORY

COMMANDS = dict(
    re.findall(
        r"<!-- command: (\w+) -->\s*```sh\n(.*?)\n```",
        (REPOSITORY / "README.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
)
"""Commands by the name in the comment before each."""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a package index may be slow
def test_the_demo_command_in_a_fresh_copy(tmp_path: Path) -> None:
    """As a newcomer runs it: only the files under version control, no environment yet."""
    copy = tmp_path / "clone"
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    answer = subprocess.run(
        ["bash", "-c", COMMANDS["demo"]],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert (copy / "cloudimg-demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_benchmark_command() -> None:
    """With this environment's Python in place of the one that the README makes."""
    command = COMMANDS["benchmark"].split(" && ")[1]
    words = shlex.split(command.replace(".venv/bin/python", sys.executable))
    answer = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"cloudimg .*\n.*fsspec\+dask", answer.stdout)
    assert "WRONG" not in answer.stdout


def test_the_picture_is_what_the_demo_makes() -> None:
    shown = imagecodecs.png_decode((REPOSITORY / "docs" / "demo.png").read_bytes())
    made = demo.paint(sample.acquire().max(axis=2))
    np.testing.assert_array_equal(shown, made)


def test_importing_is_light() -> None:
    """Heavy packages are imported where they are first used."""
    code = (
        "import sys, cloudimg\n"
        "heavy = {'dask', 'distributed', 'fsspec', 's3fs', 'gcsfs', 'tifffile', 'imagecodecs',"
        " 'obstore', 'botocore', 'aiohttp', 'xarray', 'moto'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_version() -> None:
    assert cloudimg.__version__ == importlib.metadata.version("cloudimg-dask")
