"""Workers with another version of cloudimg, or without it, are reported at once."""

from __future__ import annotations

import os
import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ClusterError
from tests.support import clusters, seed
from tests.support.servers import REPOSITORY

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
        # Dask reads graphs on the scheduler, and wraps our error in its own.
        with pytest.raises(RuntimeError) as refused:
            client.compute(cloudimg.imread(source)).result(timeout=60)
        shown = "".join(traceback.format_exception(refused.value))
        assert re.search(r"this process has cloudimg 0\.0\.9|not installed", shown)
    assert not (tmp_path / "copy.zarr" / "0").exists()
