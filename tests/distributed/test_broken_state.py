"""No object of the package raises when it is unpickled, whatever another version has pickled.

Dask only logs what unpickling raises on a worker, and the task then waits for ever.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg import errors
from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import ClusterError, arrival
from cloudimg.errors.arrival import Unusable
from cloudimg.errors.notes import Note
from cloudimg.migration.encode.histogram import measure
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.pattern import compile_pattern
from cloudimg.reading.canvas import Canvas
from cloudimg.storage import Store, split_url
from tests.distributed.test_parcels import source_of
from tests.support import seed

PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)
OTHERS: tuple[Any, ...] = (
    None,
    7,
    "text",
    b"bytes",
    (),
    {},
    object,
    [1, 2],
    Ellipsis,
    {"a": 1},
    "\0{",
    -1,
)
"""What another version may send in place of what this one expects."""


def classes() -> Iterator[type]:
    """All classes of the package."""
    for module in pkgutil.walk_packages(cloudimg.__path__, "cloudimg."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    yield value


@pytest.fixture
def image(tmp_path: Path) -> cloudimg.Image:
    for z in range(3):
        (tmp_path / f"a_{z}.tif").write_bytes(seed.encode(PIXELS + z))
    return cloudimg.open(tmp_path / "a_{z}.tif")


@pytest.fixture
def samples(image: cloudimg.Image) -> dict[str, Any]:
    """An object of each class that says how it is pickled."""
    source = source_of(image.to_dask())
    made = [
        image,
        source,
        Parcel(PIXELS),
        Note("a text", kind="kind", n_files=1, urls=["a.tif"]),
        Store(split_url("memory://a/b.tif")[0]),
        compile_pattern("a_{z}.tif"),
        Canvas.unknown((0,), (3,)),
        AxesMapping(("z", "y", "x"), (3, 8, 8)),
        measure(PIXELS, None)[0],
        errors.CloudimgError("a message", url="s3://lab/a.tif", byte_range=(0, 7)),
        Unusable(_remade, (1,), "a problem"),
    ]
    return {type(each).__qualname__: each for each in made}


@arrival.raised_where_used
def _remade(*_: Any) -> None:
    raise AttributeError("not in this version")


def broken(state: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The state with parts missing, too many, and of other types."""
    yield from (state[:n] for n in range(len(state)))
    yield from ((*state, other) for other in OTHERS)
    for i in range(len(state)):
        yield from ((*state[:i], other, *state[i + 1 :]) for other in OTHERS)


def test_every_class_that_says_how_it_is_pickled_is_tried(samples: dict[str, Any]) -> None:
    named = {"__reduce__", "__reduce_ex__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"}
    own = set()
    for cls in classes():
        # Data classes with slots and named tuples have generated ones, whose content is in parcels.
        generated = hasattr(cls, "__dataclass_fields__") and "__reduce__" not in vars(cls)
        if named & vars(cls).keys() and not generated and not issubclass(cls, tuple):
            own.add(cls.__qualname__)
    senders = {"_Compressed", "_Receive", "_Sent"}  # with which the others are sent
    assert own == samples.keys() | senders


def test_what_pickle_calls_never_raises(samples: dict[str, Any]) -> None:
    for name, sample in samples.items():
        function, state, *_ = sample.__reduce__()
        assert function.__module__.startswith(("cloudimg.", __name__)), name
        for wrong in broken(state):
            arrived = function(*wrong)
            assert pickle.loads(pickle.dumps(arrived)) is not None or arrived is None, name


def test_what_cannot_be_used_says_so(samples: dict[str, Any]) -> None:
    uses: list[Any] = [
        lambda it: it[0],
        lambda it: it.shape,
        lambda it: it(),
        lambda it: len(it),
        lambda it: list(it),
        lambda it: np.asarray(it),
        lambda it: str(it),
        lambda it: it.with_traceback(None),
    ]
    for name in samples.keys() - {"CloudimgError", "Note", "Parcel"}:
        function, *_ = samples[name].__reduce__()
        arrived = function()
        for use in uses:
            with pytest.raises(ClusterError, match="cannot unpickle"):
                use(arrived)


def test_slots_take_the_state_of_other_versions() -> None:
    """More fields, fewer fields: what is missing is an error where it is used."""
    tried = 0
    for cls in classes():
        if hasattr(cls, "__dataclass_fields__") and "__setstate__" in vars(cls):
            for state in ([], [None] * 40, ["a", "b"], {"a": 1}):
                object.__new__(cls).__setstate__(state)
            tried += 1
    assert tried > 100


def test_an_image_of_another_version_can_be_passed_on(
    image: cloudimg.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(image)
    monkeypatch.setattr("cloudimg.distributed.parcel.__version__", "0.0.9")
    arrived = pickle.loads(sent)
    with pytest.raises(ClusterError, match=r"has cloudimg 0\.0\.9"):
        arrived.read()
    passed_on = pickle.dumps(arrived)
    monkeypatch.undo()
    np.testing.assert_array_equal(pickle.loads(passed_on).read()[2], PIXELS + 2)
