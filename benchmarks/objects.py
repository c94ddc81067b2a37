"""The objects that are read: made from a seed, so that every machine reads the same pixels."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator
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
IMAGE_PIXELS = 4096
TILE_PIXELS = 512
_FIELD_PIXELS = 2048
_NOISE = 2.3
"""Shot noise of a camera at this gain leaves deflate 58 % of the bytes, as founders measured on."""


def small_files(extent: int = FILE_PIXELS) -> Iterator[tuple[str, bytes, int]]:
    """Name, bytes and sum of the pixels of each file of the grid, uncompressed."""
    rng = np.random.default_rng(SEED)
    field = _cells(rng)
    for index in itertools.product(*(range(n) for n in GRID.values())):
        pixels = _somewhere(rng, field, extent)
        name = NAME.format(**dict(zip(GRID, index, strict=True)))
        yield name, _as_tiff(pixels), int(pixels.sum(dtype=np.uint64))


def tiny_files() -> Iterator[tuple[str, bytes, int]]:
    """10,000 uncompressed files of 64 x 64 pixels."""
    return _grid_of_files(64, {"c": 2, "t": 5, "x": 10, "y": 10, "z": 10}, {})


def compressed_files() -> Iterator[tuple[str, bytes, int]]:
    """400 deflate files of 160 x 160 pixels, each of another size."""
    sizes = {"c": 2, "t": 2, "x": 5, "y": 5, "z": 4}
    return _grid_of_files(160, sizes, {"compression": "zlib"})


def _grid_of_files(
    extent: int, sizes: dict[str, int], options: dict[str, Any]
) -> Iterator[tuple[str, bytes, int]]:
    rng = np.random.default_rng(SEED)
    field = _cells(rng)
    for index in itertools.product(*(range(n) for n in sizes.values())):
        pixels = _somewhere(rng, field, extent)
        name = NAME.format(**dict(zip(sizes, index, strict=True)))
        yield name, _as_tiff(pixels, **options), int(pixels.sum(dtype=np.uint64))


def image_file(
    folder: Path,
    name: str,
    *,
    pixels: int = IMAGE_PIXELS,
    compression: str | None = None,
    tile: int | None = TILE_PIXELS,
    bits: int = 16,
) -> tuple[bytes, Any]:
    """A TIFF of one plane and its pixels as tifffile reads them; kept in `folder`."""

    def make() -> bytes:
        plane: Any = _plane(pixels)
        if bits == 8:
            plane = (plane >> 3).clip(0, 255).astype(np.uint8)
        how: dict[str, Any] = {"rowsperstrip": 16} if tile is None else {"tile": (tile, tile)}
        return _as_tiff(plane, compression=compression, **how)

    data = _kept(folder, f"{name}-{pixels}-{compression}-{tile}-{bits}-seed-{SEED}.tif", make)
    return data, tifffile.imread(io.BytesIO(data))


def pyramid_file(folder: Path) -> tuple[bytes, list[Array]]:
    """A tiled deflate TIFF with three reduced images behind it, and the pixels of each level."""

    def make() -> bytes:
        buffer = io.BytesIO()
        plane = _plane(IMAGE_PIXELS)
        with tifffile.TiffWriter(buffer) as writer:
            for level in range(4):
                reduced = np.ascontiguousarray(plane[:: 2**level, :: 2**level])
                how: dict[str, Any] = {"tile": (256, 256), "compression": "zlib"}
                writer.write(reduced, subfiletype=min(level, 1), metadata=None, **how)
        return buffer.getvalue()

    data = _kept(folder, f"pyramid-{IMAGE_PIXELS}-seed-{SEED}.tif", make)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        return data, [page.asarray() for page in tiff.pages]


def pages_file(n_pages: int = 10_000) -> tuple[bytes, Array]:
    """Deflate pages of 32 x 32 pixels, each with its directory beside its pixels."""
    rng = np.random.default_rng(SEED)
    field = _cells(rng)
    pixels = np.stack([_somewhere(rng, field, 32) for _ in range(n_pages)])
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pixels:
            writer.write(page, compression="zlib", metadata=None, contiguous=False)
    return buffer.getvalue(), pixels


def large_file(folder: Path) -> tuple[bytes, Array]:
    """A tiled deflate TIFF and its pixels; compressed once and kept in `folder`."""

    def make() -> bytes:
        tile = (TILE_PIXELS, TILE_PIXELS)
        return _as_tiff(_plane(LARGE_PIXELS), tile=tile, compression="zlib")

    name = f"deflate-{LARGE_PIXELS}-tiles-{TILE_PIXELS}-seed-{SEED}.tif"
    data = _kept(folder, name, make)
    return data, tifffile.imread(io.BytesIO(data))


def _kept(folder: Path, name: str, make: Callable[[], bytes]) -> bytes:
    """The file of that name in a folder, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        # Renamed when whole: a run that was stopped half-way leaves no broken file to the next.
        part = path.with_suffix(".part")
        part.write_bytes(make())
        part.rename(path)
    return path.read_bytes()


def digest(pixels: npt.NDArray[Any]) -> str:
    """Equal for arrays of equal pixels, type and shape, whatever axes of length 1 they have."""
    pixels = np.ascontiguousarray(pixels.squeeze())
    checksum = hashlib.blake2b(pixels.data.cast("B"), digest_size=16).hexdigest()
    return f"{pixels.dtype}{list(pixels.shape)}:{checksum}"


def _plane(extent: int) -> Array:
    rng = np.random.default_rng(SEED)
    field = _cells(rng)
    times = max(1, extent // _FIELD_PIXELS)
    # The same cells in every field, but no noise twice: deflate looks back 32 KB, not a field.
    rows = [[_exposed(rng, field) for _ in range(times)] for _ in range(times)]
    return np.ascontiguousarray(np.block(rows)[:extent, :extent])


def _somewhere(rng: np.random.Generator, field: npt.NDArray[np.float32], extent: int) -> Array:
    """An exposure of a square of the field, at random."""
    top, left = rng.integers(0, _FIELD_PIXELS - extent, 2)
    return _exposed(rng, field[top : top + extent, left : left + extent])


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
