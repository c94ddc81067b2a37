"""A migration that replaces another one, killed at each of its calls to the store.

By default a tenth of the calls, chosen by seed; all of them with ``CLOUDIMG_TEST_KILLS``.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.support import copies
from tests.support.metering import Meter
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 3}
"""Four cells, and one in a second stage."""
SHARE = 1 if "CLOUDIMG_TEST_KILLS" in os.environ else 10


def copy(source: str, url: str, options: dict[str, Any], overwrite: bool, kill_at: int = 0) -> None:
    """The call that is killed; runs in a process of its own."""
    if kill_at:
        _kill_at(url, kill_at)
    cloudimg.migrate(source, url, target_options=options, overwrite=overwrite, **PARTS)


_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.rmdir", "os.mkdir")


def _kill_at(folder: str, number: int) -> None:
    """Kill this process at its n-th call that concerns files in a folder."""
    left = [number]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and any(folder in str(each) for each in arguments[:2]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that start with cloudimg imported, so that kills hit the work, not imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["cloudimg", "cloudimg.migration.run.write", "tests.faults.test_kills_while_overwriting"]
    )
    return context


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
    work = processes.Process(target=copy, args=arguments)
    work.start()
    work.join()
    return int(work.exitcode)


def chosen(n_calls: int) -> list[int]:
    numbers = range(1, n_calls + 1)
    return sorted(random.Random(16).sample(numbers, -(-n_calls // SHARE)))


def test_in_a_folder(processes: Any, archive: Path) -> None:
    old, new = (f"{archive}/{name}/a_{{z}}.tif" for name in ("old", "new"))
    url = f"{archive}/expected.zarr"
    assert run(processes, new, url, {}, False) == 0
    expected = copies.image_of(copies.objects(url, {}))
    at, n_killed = 0, 0
    while True:
        at += 1 if SHARE == 1 else random.Random(at).randint(1, 2 * SHARE - 1)
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


def _is_under_way(work: Any, meter: Meter, number: int | None) -> bool:
    """Whether a request is held, or as many were made; or the process has ended without them."""
    is_there = bool(meter.held()) if number is None else len(meter.log()) >= number
    return is_there or work.exitcode is not None


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
    for number in chosen(len(traffic.requests)):
        url = f"s3://{bucket}/copy-{number}.zarr"
        assert run(processes, old, url, options, False) == 0
        rule = {"match": f"/{bucket}/", "skip": number - 1, "times": 1}
        meter.faults([{**rule, "kind": "hold" if arrives else "stall"}])
        meter.reset()
        work = processes.Process(target=copy, args=(new, url, options, True))
        work.start()
        is_under_way = partial(_is_under_way, work, meter, None if arrives else number)
        wait_until(is_under_way, "the request")
        work.kill()
        work.join()
        meter.release()
        meter.faults([])
        assert run(processes, new, url, options, True) == 0
        assert copies.image_of(copies.objects(url, options)) == expected, number
