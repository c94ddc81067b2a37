"""Memory of a migration: bounded by max_mem, whatever the size of the archive.

``CLOUDIMG_TEST_MEMORY_GB=4 pytest -rP tests/migration/run/test_migrate_memory.py`` is the long run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import seed
from tests.support.metering import Meter

SIZE_GB = float(os.environ.get("CLOUDIMG_TEST_MEMORY_GB", "0.75"))
CHILD = """
import json, resource, sys
import botocore.session, google_crc32c, imagecodecs, numpy, obstore, pyarrow.parquet, tifffile
import cloudimg

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

source, out, options, arguments = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
before = peak()
stores = {"source_options": options, "target_options": options}
cloudimg.migrate(source, out, allow_unmatched=True, **stores, **arguments)
print(peak() - before)
"""


def peak_bytes(meter: Meter, source: str, out: str, **arguments: Any) -> int:
    """Peak memory of a migration in a new process, without the interpreter and its libraries."""
    options = json.dumps(meter.storage_options)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, source, out, options, json.dumps(arguments)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("max_mem", ["1GB", "512MB"])
def test_the_peak_is_within_max_mem(meter: Meter, bucket: str, max_mem: str) -> None:
    rng = np.random.default_rng(0)
    data = seed.encode(rng.integers(0, 4096, (2048, 2048)).astype(np.uint16))
    n_files = int(SIZE_GB * 2**30 / len(data)) // 16 * 16
    meter.fill(bucket, [f"src/a_{i // 16}_{i % 16}.tif" for i in range(n_files)], data)
    source = f"s3://{bucket}/src/a_{{t}}_{{z}}.tif"
    peak = peak_bytes(meter, source, f"s3://{bucket}/copy.zarr", max_mem=max_mem)
    print(f"{n_files * len(data) / 1e9:.2f} GB, max_mem={max_mem}: peak {peak / 1e6:.0f} MB")
    assert peak <= {"1GB": 1e9, "512MB": 512e6}[max_mem]


@pytest.mark.slow
def test_ten_times_the_files_take_no_more(meter: Meter, bucket: str) -> None:
    data = seed.encode(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    peaks = []
    for n_files in (600, 6000):
        meter.fill(bucket, [f"src/{n_files}_{i}.tif" for i in range(n_files)], data)
        source = f"s3://{bucket}/src/{n_files}_{{t}}.tif"
        shards = {"t": 50, "y": 64, "x": 64}
        out = f"s3://{bucket}/copy-{n_files}.zarr"
        peaks.append(peak_bytes(meter, source, out, max_mem="300MB", shards=shards, levels=1))
    print(f"600 files: {peaks[0] / 1e6:.0f} MB, 6000 files: {peaks[1] / 1e6:.0f} MB")
    assert peaks[1] <= peaks[0] + 30e6  # of which the listing takes a little
