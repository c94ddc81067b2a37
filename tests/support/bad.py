"""An archive with a few bad files, and the pixels that it should have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import seed
from tests.support.seed import Array

SHAPE = (16, 24)
WHOLE = seed.encode(np.zeros(SHAPE, np.uint16))
KINDS = {
    "empty": b"",
    "truncated": WHOLE[: len(WHOLE) // 2],
    "not-an-image": b"<html>Service Unavailable</html>",
    "other-dtype": seed.encode(np.zeros(SHAPE, np.uint8)),
    "other-shape": seed.encode(np.zeros((16, 25), np.uint16)),
    "other-axes": seed.encode(np.zeros((3, *SHAPE), np.uint16)),
}
"""The content of a bad file of each kind."""
NINE = {
    "missing": ((3, 4), (5, 6), (19, 99)),
    "empty": ((0, 0), (7, 7)),
    "truncated": ((8, 8), (9, 9)),
    "not-an-image": ((10, 10),),
    "other-dtype": ((11, 11),),
}
"""Where the bad files of a large archive are, by kind: t and z."""


def pixels_of(t: int, z: int) -> Array:
    """The pixels of a file, which no other one has."""
    return np.arange(16 * 24, dtype=np.uint16).reshape(SHAPE) + np.uint16(400 * t + z)


def write_file(folder: Path, t: int, z: int) -> Path:
    """Write one good file."""
    path = folder / f"t{t}_z{z}.tif"
    path.write_bytes(seed.encode(pixels_of(t, z)))
    return path


def write_good(folder: Path, shape: tuple[int, int]) -> Array:
    """Write an archive without bad files; return its pixels, dims t z y x."""
    folder.mkdir(exist_ok=True)
    image = np.zeros((*shape, *SHAPE), np.uint16)
    for t, z in np.ndindex(shape):
        image[t, z] = pixels_of(t, z)
        write_file(folder, t, z)
    return image


def spoil(folder: Path, kind: str, t: int, z: int) -> None:
    """Make a file of an archive bad."""
    path = folder / f"t{t}_z{z}.tif"
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(KINDS[kind])


def write_nine(folder: Path, shape: tuple[int, int] = (20, 100), fill: int = 0) -> Array:
    """Write an archive with nine files that are missing or bad; return what should be read."""
    image = write_good(folder, shape)
    for kind, places in NINE.items():
        for t, z in places:
            spoil(folder, kind, t, z)
            image[t, z] = fill
    return image


def pattern(folder: Path) -> str:
    return f"{folder}/t{{t}}_z{{z}}.tif"
