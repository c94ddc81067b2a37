"""Workers with another version of cloudimg, or without it, are reported at once."""

from __future__ import annotations

import os
import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ClusterError
from tests.support import clusters, seed
from tests.support.servers import REPOSITORY
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.slow  # all of them together


def another(folder: Path) -> None:
    """The package, as another version."""
    shutil.copytree(REPOSITORY / "cloudimg", folder / "cloudimg")
    path = folder / "cloudimg" / "__about__.py"
    path.write_text(re.sub(r'"[\d.]+"', '"0.0.9"', path.read_text()))


def none(folder: Path) -> None:
    """A package that hides it."""
    (folder / "cloudimg").mkdir(parents=True)
    (folder / "cloudimg" / "__init__.py").write_text("raise ImportError('not installed')")


@pytest.mark.parametrize(
    ("make", "match"), [(another, "has cloudimg 0.0.9"), (none, "has no cloudimg")]
)
def test_workers_with_other_versions(
    tmp_path: Path, make: Callable[[Path], None], match: str
) -> None:
    folder = tmp_path / "other"
    make(folder)
    for z in range(3):
        (tmp_path / f"a_{z}.tif").write_bytes(seed.encode(np.full((32, 32), z, "u2")))
    source = str(tmp_path / "a_{z}.tif")
    paths = os.pathsep.join([str(folder), str(REPOSITORY)])
    with (
        clusters.Cluster(tmp_path / "cluster", 1, settings={"PYTHONPATH": paths}) as cluster,
        cluster.client() as client,
    ):
        with pytest.raises(ClusterError, match=match) as caught:
            cloudimg.migrate(source, tmp_path / "copy.zarr", client=client)
        assert cloudimg.__version__ in str(caught.value)
        with pytest.raises((ClusterError, RuntimeError)) as refused:
            client.compute(cloudimg.imread(source)).result(HANG_S)
        shown = "".join(traceback.format_exception(refused.value))
        assert re.search(r"the process that sent the work has|not installed", shown)
    assert not (tmp_path / "copy.zarr" / "0").exists()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (another, ClusterError, r"has cloudimg 0\.0\.9"),
        (none, RuntimeError, "has no cloudimg"),  # in a process that knows no error of ours
    ],
)
def test_one_worker_of_another_version_is_named_and_others_go_on(
    tmp_path: Path, make: Callable[[Path], None], error: type[Exception], match: str
) -> None:
    """Where a worker gets the image from another worker, what unpickling raises is lost."""
    folder = tmp_path / "other"
    make(folder)
    for z in range(12):
        (tmp_path / f"a_{z:02}.tif").write_bytes(seed.encode(np.full((32, 32), z, "u2")))
    source = str(tmp_path / "a_{z}.tif")
    paths = os.pathsep.join([str(folder), str(REPOSITORY)])
    with (
        clusters.Cluster(tmp_path / "cluster", 2, n_threads=1) as cluster,
        cluster.client() as client,
    ):
        good = list(client.scheduler_info()["workers"])
        cluster.add_worker(settings={"PYTHONPATH": paths})
        client.wait_for_workers(3, HANG_S)
        (bad,) = set(client.scheduler_info()["workers"]) - set(good)
        array: Any = cloudimg.imread(source, chunks=(1, 32, 32))
        total = client.compute(array.sum(), workers=good).result(HANG_S)
        assert total == 32 * 32 * sum(range(12))
        with pytest.raises(error, match=match) as caught:
            # Not the sum, which the scheduler may still have.
            client.compute(array.max(), workers=[bad]).result(HANG_S)
        assert bad in str(caught.value)
        spread = client.compute(list(array.to_delayed().ravel()))
        with pytest.raises(error, match=match):
            client.gather(spread)
        with pytest.raises(ClusterError, match=match):
            cloudimg.migrate(source, tmp_path / "copy.zarr", client=client)

        # An image that was opened on a worker goes to the others as their input.
        def brightest(image: Any) -> int:  # sent as code: no worker can import this module
            return int(image.read().max())

        opened = client.submit(cloudimg.open, source, workers=good)
        with pytest.raises(error, match=match) as caught:
            client.submit(brightest, opened, pure=False, workers=[bad]).result(HANG_S)
        assert bad in str(caught.value)
        again = client.submit(brightest, opened, pure=False, workers=good)
        assert again.result(HANG_S) == 11
        assert client.compute(array.min(), workers=good).result(HANG_S) == 0
    assert not (tmp_path / "copy.zarr" / "0").exists()
