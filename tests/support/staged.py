"""Fields of view with the positions of the stage in their headers, and where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support import seed

Array = npt.NDArray[Any]


def encode(
    pixels: Array,
    y: float | None,
    x: float | None,
    *,
    pixel: float | None = 0.5,
    unit: str = "µm",
    **options: Any,
) -> bytes:
    """An OME-TIFF of one field; positions are in `unit`, the size of a pixel in µm."""
    metadata: dict[str, Any] = {"axes": "YX"}
    if pixel is not None:
        for name in ("X", "Y"):
            metadata |= {f"PhysicalSize{name}": pixel, f"PhysicalSize{name}Unit": "µm"}
    known = [(name, value) for name, value in (("Y", y), ("X", x)) if value is not None]
    plane = {f"Position{name}": [value] for name, value in known}
    units = {f"Position{name}Unit": [unit] for name, _ in known}
    return seed.encode(pixels, ome=True, metadata=metadata | {"Plane": plane | units}, **options)


def canvas(
    fields: Mapping[tuple[int, int], Array], fill: Any, blend: str, shape: tuple[int, int]
) -> Array:
    """What fields show of a canvas, by first row and column, in this order."""
    dtype = next(iter(fields.values())).dtype
    out = np.full(shape, fill, dtype)
    layers: dict[tuple[int, int], list[Any]] = {}
    for (top, left), pixels in fields.items():
        for (row, column), value in np.ndenumerate(pixels):
            layers.setdefault((top + row, left + column), []).append(value.item())
    for at, values in layers.items():
        out[at] = values[-1] if blend == "last" else _mean(values, dtype)
    return out


def _mean(values: list[Any], dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "iub":
        return floor(Fraction(sum(values), len(values)) + Fraction(1, 2))
    return sum(values) / len(values)
