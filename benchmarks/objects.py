"""The objects that are read: made from a seed, so that every machine reads the same pixels."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

Array = npt.NDArray[np.uint16]

SEED = 20_240_501
GRID = {"c": 2, "t": 2, "x": 3, "y": 3, "z": 10}
NAME = "mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
FILE_PIXELS = 512
LARGE_PIXELS = 8192
TILE_PIXELS = 512
_FIELD_PIXELS = 2048
_NOISE = 2.3
"""Shot noise of a camera at this gain leaves deflate 58 % of the bytes, as founders measured on."""


def small_files() -> Iterator[tuple[str, bytes, int]]:
    """Name, bytes and sum of the pixels of each file of the grid, uncompressed."""
    rng = np.random.default_rng(SEED)
    field = _cells(rng)
    for index in itertools.product(*(range(n) for n in GRID.values())):
        top, left = rng.integers(0, _FIELD_PIXELS - FILE_PIXELS, 2)
        pixels = _exposed(rng, field[top : top + FILE_PIXELS, left : left + FILE_PIXELS])
        name = NAME.format(**dict(zip(GRID, index, strict=True)))
        yield name, _as_tiff(pixels), int(pixels.sum(dtype=np.uint64))


def large_file(folder: Path) -> tuple[bytes, Array]:
    """A tiled deflate TIFF and its pixels; compressed once and kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"deflate-{LARGE_PIXELS}-tiles-{TILE_PIXELS}-seed-{SEED}.tif"
    if not path.exists():
        data = _as_tiff(_large_pixels(), tile=(TILE_PIXELS, TILE_PIXELS), compression="zlib")
        # Renamed when whole: a run that was stopped half-way leaves no broken file to the next.
        part = path.with_suffix(".part")
        part.write_bytes(data)
        part.rename(path)
    data = path.read_bytes()
    return data, tifffile.imread(io.BytesIO(data))


def digest(pixels: npt.NDArray[Any]) -> str:
    """Equal for arrays of equal pixels, type and shape, whatever axes of length 1 they have."""
    pixels = np.ascontiguousarray(pixels.squeeze())
    checksum = hashlib.blake2b(pixels.data.cast("B"), digest_size=16).hexdigest()
    return f"{pixels.dtype}{list(pixels.shape)}:{checksum}"


def _large_pixels() -> Array:
    rng = np.random.default_rng(SEED)
    field = _cells(rng)
    times = LARGE_PIXELS // _FIELD_PIXELS
    # The same cells in every field, but no noise twice: deflate looks back 32 KB, not a field.
    rows = [[_exposed(rng, field) for _ in range(times)] for _ in range(times)]
    return np.block(rows)


def _cells(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Mean brightness: a dim background with a few hundred round cells."""
    field = np.full((_FIELD_PIXELS, _FIELD_PIXELS), 50, np.float32)
    for _ in range(200):
        radius = rng.uniform(6, 25)
        reach = int(4 * radius)
        y, x = rng.integers(reach, _FIELD_PIXELS - reach, 2)
        line = np.exp(-(np.arange(-reach, reach, dtype=np.float32) ** 2) / (2 * radius**2))
        spot = rng.uniform(50, 1500) * np.outer(line, line)
        field[y - reach : y + reach, x - reach : x + reach] += spot
    return field


def _exposed(rng: np.random.Generator, field: npt.NDArray[np.float32]) -> Array:
    noise = rng.standard_normal(field.shape, np.float32) * np.sqrt(field) * np.float32(_NOISE)
    return (100 + field + noise).clip(0, 65535).astype(np.uint16)


def _as_tiff(pixels: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()
