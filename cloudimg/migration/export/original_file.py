"""`OriginalFile`: what is known of an original file that is written again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.export.original_colours import Samples
from cloudimg.tiff.ifd import Dialect

ReadRegion = Callable[[tuple[slice, ...]], npt.NDArray[Any]]
"""Returns the pixels of a region."""

BIGTIFF_BYTES = 2**32 - 2**25
"""Largest size in bytes of the pixels of a classic TIFF, whose offsets have 32 bits."""
_GROWING = ("lzw", "packbits")
"""Compressions that may make noise half as large again."""


@dataclass(frozen=True, slots=True)
class Level:
    """A further level of an image, as the copy has it."""

    read: ReadRegion
    shape: tuple[int, ...]
    """Its shape in the axes of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalFile:
    """An original file, as the table of originals describes it."""

    shape: tuple[int, ...]
    """Shape of the file's pixels."""
    dims: tuple[str, ...]
    """Axes of the file's pixels, in the file's order."""
    dtype: np.dtype[Any]
    """Type of the pixels."""
    row: Mapping[str, Any]
    """Row of the table of originals that holds the tags."""
    depth: int
    """Planes along the last axis before the plane to read together, unless they are too large."""
    levels: tuple[Level, ...] = ()
    """Further levels to write."""
    numbers: Sequence[int] | None = None
    """Number of the IFD of each plane in the original, if known."""
    series: int = 0
    """Which image of the original it is."""
    in_rgb: bool = False
    """Whether the copy holds its colours converted to RGB."""

    @property
    def plane_ndim(self) -> int:
        """How many of the last axes form a plane: y and x, with samples 3."""
        return 3 if tuple(self.dims[-3:]) in (("y", "x", "s"), ("s", "y", "x")) else 2

    @property
    def n_pages(self) -> int:
        """Number of planes."""
        return int(np.prod(self.shape[: -self.plane_ndim], dtype=np.int64))

    @property
    def plane(self) -> tuple[int, int] | None:
        """Height and width of a page; None if its axes have other names."""
        lengths = dict(zip(self.dims, self.shape, strict=True))
        return (lengths["y"], lengths["x"]) if {"y", "x"} <= lengths.keys() else None

    @property
    def known_numbers(self) -> Sequence[int] | None:
        """Number of the IFD of each plane, unless one IFD stands for several of them."""
        numbers = self.numbers
        return None if numbers is None or len(set(numbers)) != self.n_pages else numbers

    @property
    def is_planar(self) -> bool:
        """Whether each sample has a plane of its own."""
        return tuple(self.dims[-3:]) == ("s", "y", "x")

    @property
    def samples(self) -> Samples:
        """The samples of each pixel."""
        count = 1
        if self.plane_ndim == 3:
            count = self.shape[-3 if self.is_planar else -1]
        return Samples(count=count, dtype=self.dtype, in_rgb=self.in_rgb)

    def dialect(self, compression: str | None) -> Dialect:
        """Byte order and width of offsets: those of the original where they suffice."""
        shapes = [self.shape, *(level.shape for level in self.levels)]
        n_bytes = sum(math.prod(shape) for shape in shapes) * self.dtype.itemsize
        if compression in _GROWING:
            n_bytes += n_bytes // 2
        n_bytes += self.n_pages * len(self.row.get("tags") or "")
        n_bytes += len(self.row.get("further_tags") or "")
        is_big = bool(self.row.get("is_bigtiff"))
        return Dialect(self.row.get("byteorder") or "<", is_big or n_bytes > BIGTIFF_BYTES)

    def plane_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of a plane of a level."""
        return tuple(shape[-self.plane_ndim :])
