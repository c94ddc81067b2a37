"""Every recipe of the documentation runs as it stands, and moves as many bytes as it says."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import cloudimg
from cloudimg.reading.header_cache import HEADER_CACHE
from tests.conftest import REPOSITORY
from tests.support import seed
from tests.support.metering import Meter

PAGE = "docs/recipes.md"
TEXT = (REPOSITORY / PAGE).read_text(encoding="utf-8")
BEGINNING, *SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
RECIPES = {section.partition("\n")[0]: section for section in SECTIONS}
BLOCK = re.compile(r"^```python\n(.*?)\n```$(?:\n\nBytes moved: ([\d.]+)\.$)?", re.DOTALL | re.M)
SHAPE = (400, 500)
KEYS = (b"key-of-the-environment", b"key-of-a-profile", b"key-that-is-passed")

NEEDED = {
    "Statistics by well, as a table": "plate/*",
    "Time series": "movie/*",
    "Flat field": "movie/*",
    "Filters of single planes": "plate/cells_A01_f0_c1_z2.tif",
    "Measuring labels with dask-image": "plate/cells_A01_f0_c1_z*",
    "Chunks of your own": "movie/*",
    "Credentials": "movie/*",
    "Small workers": "movie/*",
    "Clusters of several kinds": "movie/*",
    "The queue of a computing centre": "movie/*",
    "Versions of workers": "movie/movie_t000.tif",
}
"""The files that a recipe needs."""
QUEUE = "The queue of a computing centre"
PACKAGES = {
    "Measuring labels with dask-image": "dask_image",
    QUEUE: "dask_jobqueue",
}
"""What is not among the packages that all tests need."""


def plate() -> Any:
    """Pixels of wells, fields, channels and planes: noise, and bright spots."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 500, (2, 2, 2, 5, *SHAPE), np.uint16)
    for i in range(6):
        y, x = 20 + 60 * i, 30 + 70 * i
        pixels[..., y : y + 4, x : x + 4] += 2000
    return pixels


def movie() -> Any:
    rng = np.random.default_rng(1)
    bright = np.linspace(0.5, 1, SHAPE[1])
    return (rng.integers(500, 1000, (30, *SHAPE)) * bright).astype(np.uint16)


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    """Content by key."""
    made = {f"movie/movie_t{t:03d}.tif": seed.encode(frame) for t, frame in enumerate(movie())}
    pixels = plate()
    for w, f, c, z in np.ndindex(pixels.shape[:4]):
        key = f"plate/cells_{('A01', 'B02')[w]}_f{f}_c{c}_z{z}.tif"
        made[key] = seed.encode(pixels[w, f, c, z])
    return made


@pytest.fixture
def lab(
    meter: Meter,
    objects: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Meter]:
    """The bucket of the page, in the store that the environment names."""
    meter.create("lab")
    for key, data in objects.items():
        meter.put("lab", key, data)
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = of-lab\naws_secret_access_key = {KEYS[1].decode()}\n"
    )
    for name, value in {
        "AWS_ENDPOINT_URL": meter.endpoint,
        "AWS_ACCESS_KEY_ID": "recipes",
        "AWS_SECRET_ACCESS_KEY": KEYS[0].decode(),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "LAB_ENDPOINT": meter.endpoint,
        "LAB_KEY": "key",
        "LAB_SECRET": KEYS[2].decode(),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield meter
    meter.drop("lab")


def run(meter: Meter, code: str, namespace: dict[str, Any]) -> int:
    """Run a block, and return the bytes of files that it fetched."""
    HEADER_CACHE.forget()
    with meter.measure() as traffic, dask.config.set(scheduler="threads", num_workers=2):
        exec(compile(code, PAGE, "exec"), namespace)
    sources = ("movie/", "plate/")
    return sum(r.bytes_sent for r in traffic.requests if r.key.startswith(sources))


def times_moved(meter: Meter, recipe: str, namespace: dict[str, Any]) -> list[tuple[float, str]]:
    """Run a recipe: bytes moved over bytes needed, and what the page says of them, by block."""
    found = []
    (beginning,) = BLOCK.findall(BEGINNING)
    run(meter, beginning[0], namespace)
    objects = namespace["objects"]
    needed = sum(len(data) for key, data in objects.items() if fnmatch(key, NEEDED[recipe]))
    for code, said in BLOCK.findall(RECIPES[recipe]):
        found.append((run(meter, code, namespace) / needed, said))
    return found


def of_queue() -> Any:
    """Its package leaves processes to the garbage collector."""
    leaves = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return pytest.param(QUEUE, marks=leaves)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Port 8787", "ignore:unclosed <socket")  # of Dask's dashboard
@pytest.mark.parametrize("recipe", [*(each for each in RECIPES if each != QUEUE), of_queue()])
def test_a_recipe_moves_what_it_says(lab: Meter, objects: dict[str, bytes], recipe: str) -> None:
    if recipe in PACKAGES:
        pytest.importorskip(PACKAGES[recipe])
    namespace: dict[str, Any] = {"__name__": "recipe", "objects": objects}
    figures = times_moved(lab, recipe, namespace)
    assert any(said for _, said in figures)
    for counted, said in figures:
        print(f"{recipe}: {counted:.2f}, the page says {said or 'nothing'}")
        if said:
            assert counted == pytest.approx(float(said), abs=0.09)
    CHECKS[recipe](namespace)


def test_each_recipe_has_a_figure() -> None:
    assert RECIPES.keys() == NEEDED.keys() == CHECKS.keys()
    assert all("Bytes moved: " in section for section in SECTIONS)


@pytest.mark.slow
def test_labels_that_are_not_kept_are_read_for_each(lab: Meter, objects: dict[str, bytes]) -> None:
    """What the page warns of."""
    pytest.importorskip("dask_image")
    recipe = "Measuring labels with dask-image"
    ((code, _),) = BLOCK.findall(RECIPES[recipe])
    careless = code.replace(".persist()", "").replace(
        "labels, n_labels = dask.persist(labels, n_labels)\n", ""
    )
    assert careless.count("persist") == 0
    namespace: dict[str, Any] = {"cloudimg": cloudimg, "dask": dask, "np": np}
    namespace["plate"] = "s3://lab/plate/cells_{well:s}_f{f}_c{c}_z{z}.tif"
    needed = sum(len(data) for key, data in objects.items() if fnmatch(key, NEEDED[recipe]))
    moved = run(lab, careless, namespace) / needed
    print(f"{moved:.1f} times for {int(namespace['n_labels'])} labels")
    ((said, of),) = re.findall(r"(\d+) times for (\d+) labels", RECIPES[recipe])
    assert int(of) == int(namespace["n_labels"])
    assert moved == pytest.approx(int(said), rel=0.1)


@pytest.mark.slow
def test_planes_in_chunks_of_many_are_all_read(lab: Meter, objects: dict[str, bytes]) -> None:
    """What the page warns of."""
    recipe = "Filters of single planes"
    ((code, _),) = BLOCK.findall(RECIPES[recipe])
    default, n = re.subn(r", chunks=\{.*?\}", "", code)
    assert n == 1
    namespace: dict[str, Any] = {"cloudimg": cloudimg, "np": np}
    namespace["plate"] = "s3://lab/plate/cells_{well:s}_f{f}_c{c}_z{z}.tif"
    needed = len(objects[NEEDED[recipe]])
    assert run(lab, default, namespace) / needed == pytest.approx(40, rel=0.01)


# ---------------------------------------------------------------------------------- their results


def check_table(made: dict[str, Any]) -> None:
    pixels, table = plate(), made["table"]
    assert list(table.index) == ["A01", "B02"]
    np.testing.assert_allclose(table["mean of c=1"], pixels[:, :, 1].mean(axis=(1, 2, 3, 4)))
    np.testing.assert_array_equal(table["maximum of c=0"], pixels[:, :, 0].max(axis=(1, 2, 3, 4)))


def check_series(made: dict[str, Any]) -> None:
    pixels = movie()
    np.testing.assert_allclose(made["trace"], pixels.mean(axis=(1, 2)))
    expected = abs(pixels - np.median(pixels, axis=0)).max(axis=0)
    np.testing.assert_allclose(made["restless"], expected)


def check_flat(made: dict[str, Any]) -> None:
    copy = cloudimg.verify("s3://lab/corrected.ome.zarr")
    assert copy, str(copy)
    across = np.asarray(made["corrected"]).mean(axis=(0, 1))
    assert across.max() / across.min() < 1.05 < movie().mean(axis=(0, 1)).max() / 500


def check_plane(made: dict[str, Any]) -> None:
    pixels = plate()[0, 0, 1, 2].astype(float)
    around = sum(np.roll(pixels, shift, axis) for shift in (-1, 1) for axis in (0, 1))
    expected = (pixels + around) / 5
    np.testing.assert_allclose(made["plane"][1:-1, 1:-1], expected[1:-1, 1:-1])


def check_labels(made: dict[str, Any]) -> None:
    assert len(made["means"]) == int(made["n_labels"]) >= 3
    assert (made["means"] > 1000).all()


def check_columns(made: dict[str, Any]) -> None:
    np.testing.assert_array_equal(made["brightest"], movie().max(axis=(0, 1)))


def check_credentials(made: dict[str, Any]) -> None:
    assert made["total"] == movie().sum()
    for name in ("anonymous", "by_profile", "elsewhere", "with_keys"):
        np.testing.assert_array_equal(made[name][3], movie()[3])
    # What the page says of keys: only those that were passed travel.
    sent = {name: pickle.dumps(made[name].dask) for name in ("by_profile", "with_keys")}
    own = cloudimg.open(made["movie"])
    sent["from the environment"] = pickle.dumps((own, own.to_dask().dask))
    keys = {name: [key in data for key in KEYS] for name, data in sent.items()}
    assert keys.pop("with_keys") == [False, False, True]
    assert not any(map(any, keys.values())), keys


def _equal(made: Any, expected: Any) -> None:
    assert made == expected


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "Statistics by well, as a table": check_table,
    "Time series": check_series,
    "Flat field": check_flat,
    "Filters of single planes": check_plane,
    "Measuring labels with dask-image": check_labels,
    "Chunks of your own": check_columns,
    "Credentials": check_credentials,
    "Small workers": lambda made: np.testing.assert_allclose(made["mean"], movie().mean()),
    "Clusters of several kinds": lambda made: _equal(made["brightest"], movie().max()),
    "The queue of a computing centre": lambda made: _equal(made["dimmest"], movie().min()),
    "Versions of workers": lambda made: _equal(made["versions"], {cloudimg.__version__}),
}
