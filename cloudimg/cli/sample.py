"""A synthetic acquisition: living cells in two channels, at two times, in nine tiles.

Pure and seeded, so that a reader of the files can compare every pixel. Cells cross the borders of
tiles: tiles that are joined wrongly show as cut cells.
"""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]

SHAPE = (2, 2, 10, 384, 384)
"""Lengths of time, channel (nuclei, cytoskeleton), z, y, x."""
TILE = 128
"""Side length in pixels of the tile in a file."""
PIXEL_UM = 0.325
_DEPTH, _SIDE = SHAPE[2], SHAPE[-1]


def acquire(seed: int = 11) -> npt.NDArray[np.uint16]:
    """Synthesise the whole image, with the axes of `SHAPE`."""
    rng = np.random.default_rng(seed)
    textures = _Textures(*(_texture(rng, scale) for scale in (16, 9, 2, 18)))
    light = np.zeros(SHAPE, np.float32)
    for time, cells in enumerate(_grow(rng)):
        for cell in cells:
            _draw(light[time], cell, textures)
    light *= np.reshape([2600, 1900], (2, 1, 1, 1))
    light += 150  # the offset of the camera
    noise = rng.standard_normal(SHAPE, np.float32) * 0.8 * np.sqrt(light)
    return (light + noise).clip(0, 65535).astype(np.uint16)


def write_tiles(image: npt.NDArray[np.uint16], pattern: str) -> dict[str, bytes]:
    """Cut an image into TIFF files, one per plane of each tile.

    Parameters
    ----------
    image : ndarray
        With the axes of `SHAPE`.
    pattern : str
        Name of a file, with the fields ``{c}``, ``{t}``, ``{z}``, ``{y}`` and ``{x}``.

    Returns
    -------
    dict
        Contents of the files by name.
    """
    n_tiles = image.shape[-1] // TILE
    indices = [*itertools.product(*map(range, (*image.shape[:3], n_tiles, n_tiles)))]

    def encode(index: tuple[int, ...]) -> bytes:
        t, c, z, y, x = index
        return _tiff(image[t, c, z, y * TILE :, x * TILE :][:TILE, :TILE])

    names = [pattern.format(**dict(zip("tczyx", index, strict=True))) for index in indices]
    with ThreadPoolExecutor() as threads:
        return dict(zip(names, threads.map(encode, indices), strict=True))


def _tiff(tile: npt.NDArray[Any]) -> bytes:
    import tifffile

    file = io.BytesIO()
    per_cm = 10_000 / PIXEL_UM
    tifffile.imwrite(
        file,
        tile,
        compression="zlib",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    return file.getvalue()


# ------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True, slots=True)
class _Textures:
    fibres: Plane
    """Bends the fibres of the cytoskeleton."""
    wiggles: Plane
    """Bends them at a smaller scale."""
    grain: Plane
    outline: Plane
    """Makes cells irregular."""


def _texture(rng: np.random.Generator, scale: float) -> Plane:
    """Noise of mean 0 and deviation 1 without detail smaller than `scale` pixels."""
    spectrum = np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE)))
    frequency = np.hypot(np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE))
    spectrum *= np.exp(-2 * (np.pi * scale * frequency) ** 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (_SIDE, _SIDE))
    noise /= noise.std()
    return noise.astype(np.float32)


def _grow(rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Cells at two times: y, x, angle, size, brightness, phase. Some divide in between."""
    points = np.full((1, 2), -1e9)
    for point in rng.uniform(-20, _SIDE + 20, (3000, 2)):
        if np.hypot(*(points - point).T).min() > 54:
            points = np.vstack([points, point])
    low, high = np.transpose([(0, np.pi), (13.5, 17), (0.55, 1), (0, 6)])
    before = np.hstack([points[1:], rng.uniform(low, high, (len(points) - 1, 4))])
    after = before + rng.normal(0, [4, 4, 0.25, 0, 0, 0], before.shape)
    divides = rng.random(len(after)) < 0.14
    apart = 14 * np.column_stack([np.sin(after[:, 2]), np.cos(after[:, 2])])
    daughters = after + np.array([0, 0, np.pi / 2, 0, 0.1, 0])
    daughters[:, 3] *= 0.72
    left, right = daughters[divides], daughters[divides]
    left[:, :2] -= apart[divides]
    right[:, :2] += apart[divides]
    return before.astype(np.float32), np.vstack([after[~divides], left, right]).astype(np.float32)


def _draw(light: npt.NDArray[np.float32], cell: Plane, textures: _Textures) -> None:
    """Draw one cell into both channels of one time, as the maximum with what was drawn before."""
    y, x, angle, size, brightness, phase = cell
    reach = 4.2 * size
    window = tuple(slice(max(0, int(at - reach)), max(0, int(at + reach))) for at in (y, x))
    rows, columns = (np.arange(_SIDE, dtype=np.float32)[part] for part in window)
    down, right = rows[:, None] - y, columns - x
    along = right * np.cos(angle) + down * np.sin(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    z = np.arange(_DEPTH, dtype=np.float32)[:, None, None]
    fibres, wiggles, grain, outline = (
        texture[window]
        for texture in (textures.fibres, textures.wiggles, textures.grain, textures.outline)
    )

    from_nucleus = np.hypot(along, across / 0.76) / size
    nucleus = _inside(np.hypot(from_nucleus, (z - 4.2) / 3) - 1, 0.06)
    nucleus = nucleus * (1 + 0.22 * grain + 0.12 * wiggles)

    far = np.hypot(along / 1.15, across)
    body = _inside(far - size * (2.35 + 0.5 * outline), 1.6)
    height = 1.6 + 4.5 * np.exp(-((far / size / 1.6) ** 2))
    body = body * np.exp(-(((z - height) / 1.7) ** 2))  # thick in the middle, flat at the edge
    body *= 1 - 0.85 * _inside(from_nucleus - 1.1, 0.1)
    turn, twist = np.arctan2(across, along), phase + 0.22 * z
    bend = 0.5 + 0.45 * far / size
    web = _ridge(5 * turn + 1.7 * fibres * bend + twist)
    web = web + _ridge(-8 * turn + (1.38 * wiggles + 1.5 * fibres) * bend + twist)
    web *= 0.55 + 0.45 * _inside(far - size * 2.2, 4)
    skeleton = body * (0.2 * (1 + 0.25 * grain) + 0.5 * web)

    for channel, drawn in enumerate((nucleus, skeleton)):
        part = light[channel][:, *window]
        np.maximum(part, brightness * drawn, out=part)


def _inside(distance: Any, softness: float) -> Any:
    """1 where a distance is negative, 0 where it is positive, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(distance / softness, -50, 50)))


def _ridge(angle: Any) -> Any:
    return np.exp(-((np.sin(angle) / 0.2) ** 2))
