"""What is imported while other threads run, and what a migration does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.support.metering import Meter

pytestmark = pytest.mark.slow  # each test starts a process

WORK = """
import sys
import cloudimg

folder, copy = sys.argv[1:]
cloudimg.migrate(folder + "/a_{z:d}.tif", copy)
assert not cloudimg.verify(copy, against_source=True).problems
assert cloudimg.migrate(folder + "/a_{z:d}.tif", copy).n_done_before == 1
"""
WATCH = """
import sys, threading

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "pyarrow.lib":
            print(threading.current_thread().name, threading.active_count())

sys.meta_path.insert(0, Watch())
"""
CONFUSE = """
from collections.abc import Mapping, Sequence

class First(Mapping):
    def __init_subclass__(cls):
        isinstance((), Mapping)  # as another thread may ask while a class is made

isinstance((), Sequence)
type(First)("Both", (Sequence, First), {})
assert isinstance((), Mapping)
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for z in range(2):
        image = np.full((8, 8), z, np.uint16)
        tifffile.imwrite(tmp_path / f"a_{z}.tif", image, resolution=(1, 2), datetime=True)
    return tmp_path


def run(code: str, files: Path) -> str:
    """What a process prints that migrates files and verifies the copy."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(files), str(files / "copy.ome.zarr")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pyarrow_is_imported_before_a_migration_has_threads(files: Path) -> None:
    assert run(WATCH + WORK, files) == "MainThread 1\n"


def test_a_migration_works_where_python_takes_a_tuple_for_a_mapping(files: Path) -> None:
    run(CONFUSE + WORK, files)


def test_a_migration_does_not_import_pandas(files: Path) -> None:
    """pyarrow imports it for many of its functions, where it is installed."""
    pytest.importorskip("pandas")
    run(WORK + "assert 'pandas' not in sys.modules", files)


def test_a_migration_to_s3_does_without_s3fs(files: Path, meter: Meter, bucket: str) -> None:
    """Its import and its client take longer than ten requests."""
    code = (
        "import sys, cloudimg\n"
        f"options = {meter.storage_options!r}\n"
        f"cloudimg.migrate(sys.argv[1] + '/a_{{z:d}}.tif', 's3://{bucket}/new.zarr',"
        " target_options=options)\n"
        "assert not {'aiobotocore', 'pandas', 's3fs'} & {*sys.modules}\n"
    )
    run(code, files)
    assert cloudimg.verify(f"s3://{bucket}/new.zarr", storage_options=meter.storage_options)
