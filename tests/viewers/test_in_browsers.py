"""Viewers in a browser show of a copy what Pillow, GDAL or tifffile show of its source.

`.ci/viewers` installs Chromium and the viewers, and runs this.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import tifffile

import cloudimg
from tests.migration.metadata import test_rendered_truth as sources
from tests.migration.metadata.test_rendered_truth import Array, Source, copied
from tests.support.browser import Page, chromium, chromium_path, open_files

VIEWERS = os.environ.get("CLOUDIMG_TEST_VIEWERS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VIEWERS, reason="CLOUDIMG_TEST_VIEWERS names no folder of viewers"),
    pytest.mark.skipif(chromium_path() is None, reason="Chromium is not installed"),
]
PANELS = '[title="Close panel"]'
"""What closes Neuroglancer's panels, which leave the image less room."""
MOST = 4
"""Mean difference, of 255, that a viewer's shaders and rounding may make."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as page:
        yield page


def server_of(viewer: str, servers: ExitStack, prefix: str = "") -> str:
    folder = Path(VIEWERS, viewer)
    if not folder.exists():
        pytest.skip(f"{viewer} is not installed")
    return servers.enter_context(open_files(folder, prefix))


def difference(picture: Array, expected: Array) -> float:
    """Mean difference in the middle of a picture, give or take two pixels for a border."""
    height, width = expected.shape[:2]
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    places = itertools.product(range(-2, 3), range(-2, 3))
    parts = [picture[top + y : top + y + height, left + x : left + x + width] for y, x in places]
    return min(float(np.abs(part.astype(float) - expected).mean()) for part in parts)


def shown_at_last(look: Callable[[], Array], expected: Array) -> float:
    """The least mean difference of two looks in a row, for as long as a viewer may take."""
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=-1)
    deadline, best, last = time.monotonic() + 30, 255.0, 255.0
    while best > MOST and time.monotonic() < deadline:
        time.sleep(0.2)
        now = difference(look(), expected)
        best, last = min(best, max(now, last)), now
    return best


def served(path: Path, source: Source, servers: ExitStack, **options: int) -> tuple[str, Array]:
    expected, arguments = source(path)
    copy = copied(path, **arguments, **options)
    return f"{servers.enter_context(open_files(path.parent))}/{copy.name}", expected


@pytest.mark.parametrize(
    "source",
    [
        sources.fluorescence, sources.stained_tissue, sources.rgb, sources.red_disk,
        sources.palette_looked_up, sources.imagej_composite, sources.labels, sources.bits_12,
        sources.float_with_nan, sources.terrain,
    ],
    ids=lambda source: source.__name__,
)  # fmt: skip
def test_vizarr(tmp_path: Path, page: Page, source: Source) -> None:
    with ExitStack() as servers:
        viewer = server_of("vizarr", servers)
        url, expected = served(tmp_path / "a.tif", source, servers)
        height, width = expected.shape[:2]
        view = quote(json.dumps({"zoom": 0, "target": [width / 2, height / 2]}))
        page.go(f"{viewer}/index.html?source={url}&viewState={view}")
        assert shown_at_last(page.screenshot, expected) <= MOST


def test_vizarr_shows_all_wells_of_a_plate(tmp_path: Path, page: Page) -> None:
    shades = {"A01": 200, "A02": 150, "B01": 100}
    (tmp_path / "plate").mkdir()
    for well, shade in shades.items():
        tifffile.imwrite(tmp_path / "plate" / f"{well}.tif", np.full((60, 80), shade, np.uint8))
    pattern = tmp_path / "plate" / "{well:s}.tif"
    cloudimg.migrate(pattern, tmp_path / "plate.zarr", missing="fill")
    deadline, n_seen = time.monotonic() + 30, [0]
    with ExitStack() as servers:
        viewer, url = server_of("vizarr", servers), servers.enter_context(open_files(tmp_path))
        page.go(f"{viewer}/index.html?source={url}/plate.zarr")
        while min(n_seen) < 1000 and time.monotonic() < deadline:
            picture = page.screenshot()
            n_seen = [int((picture == shade).all(-1).sum()) for shade in shades.values()]
    assert min(n_seen) >= 1000, n_seen


@pytest.mark.parametrize(
    "source",
    [
        sources.fluorescence, sources.stained_tissue, sources.red_disk, sources.palette_looked_up,
        sources.imagej_composite,
    ],
    ids=lambda source: source.__name__,
)  # fmt: skip
def test_neuroglancer(tmp_path: Path, page: Page, source: Source) -> None:
    """It reads colours of several channels, and of OME-Zarr 0.4 only."""
    with ExitStack() as servers:
        viewer = server_of("neuroglancer", servers, "/v/1")
        url, expected = served(tmp_path / "a.tif", source, servers, zarr_format=2)
        state = {
            "layers": [{"type": "auto", "source": f"{url}/|zarr:", "name": "copy"}],
            "layout": "xy",
            "crossSectionScale": 1,
            "showAxisLines": False,
            "showScaleBar": False,
            "showDefaultAnnotations": False,
        }
        page.go(f"{viewer}/index.html#!{quote(json.dumps(state))}")

        def look() -> Array:
            page.run("viewer.uiConfiguration.showUIControls.value = false")
            page.run("viewer.uiConfiguration.showPanelBorders.value = false")
            page.run(f"document.querySelectorAll({json.dumps(PANELS)}).forEach(b => b.click())")
            return page.screenshot()

        assert shown_at_last(look, expected) <= MOST
