"""The seed's naming scheme: a small acquisition whose pixels say where they belong."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

PATTERN = "mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
SHAPE = {"t": 2, "c": 2, "z": 10, "y": 3, "x": 3}
TILE = (16, 24)

Array = npt.NDArray[Any]


def encode(pixels: Array, **options: Any) -> bytes:
    """A TIFF file in memory."""
    file = io.BytesIO()
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def expected(tile: tuple[int, int] = TILE) -> Array:
    """The whole image, dims t c z y x: every pixel differs from its neighbours."""
    height, width = tile
    shape = (2, 2, 10, 3 * height, 3 * width)
    return (np.arange(np.prod(shape)) % 65_521).astype(np.uint16).reshape(shape)


def write(put: Callable[[str, bytes], Any], tile: tuple[int, int] = TILE, **options: Any) -> Array:
    """Put the 360 files; returns the whole image."""
    image = expected(tile)
    height, width = tile
    for t, c, z, y, x in np.ndindex(2, 2, 10, 3, 3):
        part = image[t, c, z, y * height : (y + 1) * height, x * width : (x + 1) * width]
        put(f"mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif", encode(part, **options))
    return image
