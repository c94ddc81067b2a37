"""A migration that replaces another one, killed at each of its calls to the store.

By default a tenth of the calls, chosen by seed; all of them with ``CLOUDIMG_TEST_KILLS``.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.support import copies, killing
from tests.support.metering import Meter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 3}
"""Four cells, and one in a second stage."""


def copy(source: str, url: str, options: dict[str, Any], overwrite: bool, kill_at: int = 0) -> None:
    """The call that is killed; runs in a process of its own."""
    if kill_at:
        killing.kill_at(url, kill_at)
    cloudimg.migrate(source, url, target_options=options, overwrite=overwrite, **PARTS)


@pytest.fixture(scope="module")
def processes() -> Any:
    return killing.processes_with(
        "cloudimg.migration.run.write", "tests.faults.test_kills_while_overwriting"
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for number, name in enumerate(("old", "new")):
        (tmp_path / name).mkdir()
        draw = np.random.default_rng(number)
        for z in range(4):
            plane = draw.integers(1, 255, (64, 64), np.uint8)
            tifffile.imwrite(tmp_path / name / f"a_{z}.tif", plane, photometric="minisblack")
    return tmp_path


def run(processes: Any, *arguments: Any) -> int:
    """Do a copy in a process; return its exit code."""
    return killing.exit_code(processes, copy, *arguments)


def test_in_a_folder(processes: Any, archive: Path) -> None:
    old, new = (f"{archive}/{name}/a_{{z}}.tif" for name in ("old", "new"))
    url = f"{archive}/expected.zarr"
    assert run(processes, new, url, {}, False) == 0
    expected = copies.image_of(copies.objects(url, {}))
    at, n_killed = 0, 0
    while True:
        at = killing.next_call(at)
        url = f"{archive}/copy-{at}.zarr"
        assert run(processes, old, url, {}, False) == 0
        code = run(processes, new, url, {}, True, at)
        n_killed += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        assert run(processes, new, url, {}, True) == 0
        assert copies.image_of(copies.objects(url, {})) == expected, at
        if code == 0:  # it makes fewer calls
            break
    assert n_killed >= 5
    assert cloudimg.verify(url, against_source=True)


@pytest.mark.parametrize("arrives", [False, True], ids=["lost", "arrives"])
def test_in_a_bucket(
    processes: Any, archive: Path, meter: Meter, bucket: str, arrives: bool
) -> None:
    """The request that is under way is never carried out, or after the process has died."""
    options = meter.storage_options
    old, new = (f"{archive}/{name}/a_{{z}}.tif" for name in ("old", "new"))
    url = f"s3://{bucket}/expected.zarr"
    assert run(processes, old, url, options, False) == 0
    with meter.measure() as traffic:
        assert run(processes, new, url, options, True) == 0
    expected = copies.image_of(copies.objects(url, options))
    for number in killing.chosen_calls(len(traffic.requests), 16):
        url = f"s3://{bucket}/copy-{number}.zarr"
        assert run(processes, old, url, options, False) == 0
        killing.kill_during_request(
            processes,
            copy,
            (new, url, options, True),
            meter=meter,
            bucket=bucket,
            number=number,
            arrives=arrives,
        )
        assert run(processes, new, url, options, True) == 0
        assert copies.image_of(copies.objects(url, options)) == expected, number
