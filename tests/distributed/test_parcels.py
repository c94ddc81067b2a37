"""Images on their way to other processes, without a cluster."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dask.base import tokenize

import cloudimg
from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import ClusterError, CorruptFileError
from cloudimg.reading.source import Source
from tests.support import seed

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)


def source_of(array: Any) -> Any:
    """What the graph of an array reads."""
    (source,) = (
        task if isinstance(task, Source) else task.value
        for task in dict(array.__dask_graph__()).values()
        if isinstance(task, Source) or isinstance(getattr(task, "value", None), Source)
    )
    return source


@pytest.fixture
def path(tmp_path: Path) -> str:
    for z in range(3):
        (tmp_path / f"a_{z}.tif").write_bytes(seed.encode(PIXELS + z))
    return str(tmp_path / "a_{z}.tif")


class Slow:
    """Counts how often it is unpickled."""

    n_unpickled = 0

    def __reduce__(self) -> Any:
        return _slowly, ()


def _slowly() -> Slow:
    Slow.n_unpickled += 1
    threading.Event().wait(0.05)
    return Slow()


def test_threads_of_a_worker_share_what_arrived() -> None:
    arrived: Parcel[Slow] = pickle.loads(pickle.dumps(Parcel(Slow())))
    with ThreadPoolExecutor(8) as threads:
        opened = set(threads.map(lambda _: arrived.open(), range(8)))
    assert len(opened) == Slow.n_unpickled == 1


def test_copies_of_a_source_read_the_same(path: str) -> None:
    image = cloudimg.imread(path, imread=lambda file, _: tifffile.imread(file))
    source = source_of(image)
    for same in (copy.copy(source), copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        np.testing.assert_array_equal(same[1:], np.stack([PIXELS + 1, PIXELS + 2]))
        assert tokenize(same) == tokenize(source)


def test_what_cannot_be_unpickled_fails_where_it_is_used(path: str) -> None:
    module: Any = types.ModuleType("module_of_a_reader")
    sys.modules["module_of_a_reader"] = module
    exec("def read(file, url): return __import__('numpy').zeros((8, 8))", module.__dict__)
    data = pickle.dumps(source_of(cloudimg.imread(path, imread=module.read)))
    del sys.modules["module_of_a_reader"]
    arrived = pickle.loads(data)
    with pytest.raises(ClusterError, match="No module named 'module_of_a_reader'"):
        arrived[0]
    passed_on = pickle.dumps(arrived)
    sys.modules["module_of_a_reader"] = module
    try:
        assert pickle.loads(passed_on)[0].shape == (8, 8)
    finally:
        del sys.modules["module_of_a_reader"]


def test_an_error_arrives_with_the_version_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(CorruptFileError) as caught:
        cloudimg.open(str(tmp_path / "a.tif"))
    assert caught.value.file_version
    arrived = pickle.loads(pickle.dumps(caught.value))
    assert arrived.file_version == caught.value.file_version
