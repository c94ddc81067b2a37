"""An append, killed at fifty of its calls to the store: the same call continues it.

``CLOUDIMG_TEST_KILLS`` kills it at each of its calls.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import zarr

import cloudimg
from cloudimg.errors import ArgumentError
from tests.support import copies, killing
from tests.support.acquisition import Acquisition
from tests.support.metering import Meter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

N_KILLS = 50
LEVELS = 3
PARTS: dict[str, Any] = {
    "chunks": 32,
    "shards": {"c": 1, "y": 64, "x": 64},
    "levels": LEVELS,
    "grow": "t",
    "missing": "fill",
}
"""Two cells of each time, and one in a second stage."""


def append(source: str, url: str, options: dict[str, Any], kill_at: int = 0) -> None:
    """The call that is killed; runs in a process of its own."""
    if kill_at:
        killing.kill_at(url, kill_at)
    cloudimg.migrate(source, url, target_options=options, **PARTS)


@pytest.fixture(scope="module")
def processes() -> Any:
    return killing.processes_with(
        "cloudimg.migration.run.write",
        "tests.faults.test_kills_while_appending",
        "imagecodecs",
        "pyarrow.parquet",
    )


@pytest.fixture
def acquired(tmp_path: Path) -> Acquisition:
    (tmp_path / "in").mkdir()
    return Acquisition(lambda name, data: (tmp_path / "in" / name).write_bytes(data))


def is_whole(url: str) -> bool:
    """Whether readers find all pixels at all levels of what the finest level says that it has."""
    levels = [zarr.open_array(f"{url}/{level}", mode="r") for level in range(LEVELS)]
    n = levels[0].shape[0]
    # No pixel of the source is 0, apart from the file that is missing.
    return all(each[[0, *range(2, n)]].all() for each in levels)


def test_in_a_folder(processes: Any, acquired: Acquisition, tmp_path: Path) -> None:
    """A time is added, and a file that came late."""
    source = f"{tmp_path}/in/{acquired.name}"
    acquired.take(0, 1, 2)
    late = tmp_path / "in" / acquired.name_of(1, "gfp", 0)
    data = late.read_bytes()
    late.unlink()
    before = tmp_path / "before.zarr"
    append(source, str(before), {})
    acquired.take(3)
    late.write_bytes(data)
    append(source, f"{tmp_path}/expected.zarr", {})
    expected = copies.image_of(copies.objects(f"{tmp_path}/expected.zarr", {}))
    shutil.copytree(before, tmp_path / "counted.zarr")
    file = tmp_path / "n_calls"
    assert killing.exit_code(processes, count, source, f"{tmp_path}/counted.zarr", str(file)) == 0
    n_calls = int(file.read_text())
    n_copies = N_KILLS // 2 if killing.SHARE > 1 else n_calls
    n_killed = 0
    for i in range(n_copies):
        at = 1 + i * n_calls // n_copies
        url = f"{tmp_path}/copy-{at}.zarr"
        shutil.copytree(before, url)
        for number in (at, 1 + 13 * i % 40):  # the second time it makes fewer calls
            code = killing.exit_code(processes, append, source, url, {}, number)
            assert code in (0, -signal.SIGKILL)
            n_killed += code != 0
            assert is_whole(url), at
        if i % 5 == 2 and not (found := cloudimg.verify(url)):
            assert any("was not finished" in problem.what for problem in found.problems), at
            with pytest.raises(ArgumentError, match="is not finished: run the same migration"):
                cloudimg.repair(url)
        append(source, url, {})
        assert copies.image_of(copies.objects(url, {})) == expected, at
        if i % 10 == 5:
            assert cloudimg.verify(url, against_source=True), at
        shutil.rmtree(url)
    assert n_killed >= 2 * n_copies - 2


def count(source: str, url: str, file: str) -> None:
    """Append, and store the number of calls; runs in a process of its own."""
    n_calls = killing.count_calls(url)
    append(source, url, {})
    Path(file).write_text(str(n_calls()))


@pytest.mark.parametrize("arrives", [False, True], ids=["lost", "arrives"])
def test_in_a_bucket(
    processes: Any,
    acquired: Acquisition,
    tmp_path: Path,
    meter: Meter,
    bucket: str,
    arrives: bool,
) -> None:
    """The request that is under way is never carried out, or after the process has died."""
    options, source = meter.storage_options, f"{tmp_path}/in/{acquired.name}"
    acquired.take(0, 1)
    append(source, f"s3://{bucket}/before.zarr", options)
    before = copies.objects(f"s3://{bucket}/before.zarr", options)
    acquired.take(2)
    with meter.measure() as traffic:
        append(source, f"s3://{bucket}/before.zarr", options)
    expected = copies.image_of(copies.objects(f"s3://{bucket}/before.zarr", options))
    n_calls = len(traffic.requests)
    chosen = range(1, n_calls) if killing.SHARE == 1 else range(3, n_calls, -(-n_calls // 5))
    for number in chosen:
        url = f"s3://{bucket}/copy-{number}.zarr"
        for key, data in before.items():
            meter.put(bucket, f"copy-{number}.zarr/{key}", data)
        killing.kill_during_request(
            processes,
            append,
            (source, url, options),
            meter=meter,
            bucket=bucket,
            number=number,
            arrives=arrives,
        )
        append(source, url, options)
        assert copies.image_of(copies.objects(url, options)) == expected, number
