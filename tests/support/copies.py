"""What tests of copies share: a look at everything a destination holds, and a second opinion."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def objects(url: str, storage_options: dict[str, Any]) -> dict[str, bytes]:
    """Every object below a URL, by its relative name."""
    fs, root = fsspec.core.url_to_fs(url, **storage_options)
    fs.invalidate_cache()
    root = root.rstrip("/")
    return {name[len(root) + 1 :]: fs.cat_file(name) for name in fs.find(root)}


def names(url: str, storage_options: dict[str, Any]) -> list[str]:
    """Relative names of the objects below a URL, while somebody writes there."""
    fs, root = fsspec.core.url_to_fs(url, **storage_options)
    fs.invalidate_cache()
    return [name[len(root.rstrip("/")) + 1 :] for name in fs.find(root)]


def image_of(found: dict[str, bytes]) -> dict[str, bytes]:
    """The objects of the image, without the journal, whose leases differ between processes."""
    return {key: data for key, data in found.items() if not key.startswith(".cloudimg/")}


def to_folder(found: dict[str, bytes], folder: Path) -> Path:
    """The objects as files, for readers that want them so."""
    for key, data in found.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def mean_levels(image: Array, steps: list[tuple[int, ...]]) -> list[Array]:
    """Levels made pixel by pixel of sums over whatever pixels there are, rounded half up."""
    levels = [image]
    for factors in steps:
        below = levels[-1].astype(np.int64)
        shape = tuple(-(-n // f) for n, f in zip(below.shape, factors, strict=True))
        total, count = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for place in itertools.product(*map(range, factors)):
            part = below[tuple(slice(p, None, f) for p, f in zip(place, factors, strict=True))]
            inside = tuple(slice(0, n) for n in part.shape)
            total[inside] += part
            count[inside] += 1
        levels.append(np.floor_divide(2 * total + count, 2 * count).astype(image.dtype))
    return levels
