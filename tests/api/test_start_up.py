"""Modules that imports and commands load. Unlike times, they are the same on every machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

MOST_OWN_MODULES = 25
"""Modules of cloudimg that ``import cloudimg`` may load."""
HEAVY = {
    "aiohttp", "boto3", "botocore", "dask", "distributed", "fsspec", "gcsfs", "imagecodecs",
    "moto", "obstore", "pyarrow", "s3fs", "tifffile", "xarray", "zarr",
}  # fmt: skip
"""Packages that only the functions and commands that need them may import."""


def loaded_by(code: str, *args: str) -> set[str]:
    """Names of the modules that are loaded after a piece of code ran in a process of its own."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def run_command(*args: str) -> set[str]:
    """Names of the modules that are loaded after a command."""
    code = (
        "import sys\nfrom cloudimg.cli.main import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as stopped:\n"
        "    code = stopped.code\nassert not code, code"
    )
    return loaded_by(code, *args)


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "cloudimg"}


def packages(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_importing_loads_few_modules() -> None:
    modules = loaded_by("import cloudimg")
    assert 1 <= len(own(modules)) <= MOST_OWN_MODULES
    assert not packages(modules) & (HEAVY | {"numpy"})


def test_errors_can_be_caught_without_loading_more() -> None:
    modules = loaded_by("import cloudimg\ncloudimg.CloudimgError, cloudimg.errors.StorageError")
    assert len(own(modules)) <= MOST_OWN_MODULES
    assert not packages(modules) & (HEAVY | {"numpy"})


def test_help_loads_no_heavy_package() -> None:
    for args in (["--help"], ["--version"], ["migrate", "--help"], ["cluster", "up", "--help"]):
        modules = run_command(*args)
        assert not packages(modules) & (HEAVY | {"numpy"})
        assert len(own(modules)) <= MOST_OWN_MODULES


def test_a_usage_error_loads_no_heavy_package() -> None:
    code = (
        "from cloudimg.cli.main import main\n"
        "try:\n    main(['info', '--nope'])\nexcept SystemExit:\n    pass"
    )
    assert not packages(loaded_by(code)) & (HEAVY | {"numpy"})


@pytest.mark.slow
def test_info_of_a_local_file_does_without_arrays_of_dask(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint16))
    modules = run_command("info", str(tmp_path / "a.tif"))
    assert "tifffile" in modules  # it did read the file
    assert "dask.array" not in modules
    unneeded = HEAVY - {"dask", "imagecodecs", "tifffile"}
    assert not packages(modules) & unneeded


def test_reading_a_local_file_does_without_arrays_of_dask(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint16))
    modules = loaded_by(
        "import sys, cloudimg\ncloudimg.open(sys.argv[1]).read()", str(tmp_path / "a.tif")
    )
    assert "dask.array" not in modules
    assert not packages(modules) & {"distributed", "pyarrow", "zarr", "moto", "botocore"}
