"""Levels computed from the pixels of another level: reshaped, transformed, palettes expanded.

Each computes which region of its base level it needs, and converts those pixels into its own.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.tiff.geometry import Region
from cloudimg.tiff.level import Level

Array = npt.NDArray[Any]

PALETTE = 3
"""PhotometricInterpretation of indices into a palette (TIFF 6.0, section 8)."""


class Derived(ABC):
    """A level computed from another one.

    Parameters
    ----------
    base : Level or Derived
        The level that it is computed from.
    shape : tuple of int
        Shape of this level.
    dtype : numpy.dtype
        Type of the pixels of this level.
    """

    def __init__(self, base: Level | Derived, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.base = base
        self.shape = shape
        self.dtype = dtype

    @property
    @abstractmethod
    def segment(self) -> tuple[int, ...]:
        """Shape of what is read together."""

    @abstractmethod
    def needs(self, region: Region) -> Region:
        """The region of the base level from which a region of this level is computed."""

    @abstractmethod
    def finish(self, pixels: Array, region: Region, out: Array) -> None:
        """Compute the pixels of a region from those of ``needs(region)``."""

    def has(self, page: int) -> bool:
        """See `Level.has`."""
        return self.base.has(page)

    @property
    def is_bound(self) -> bool:
        """See `Level.is_bound`."""
        return self.base.is_bound

    @property
    def pixel_bytes(self) -> int | None:
        """See `AnyLevel.pixel_bytes`."""
        return self.base.pixel_bytes

    @property
    def held_bytes(self) -> int:
        """See `Level.held_bytes`."""
        return self.base.held_bytes

    def of(self, url: str) -> Self:
        """See `Level.of`."""
        twin = copy.copy(self)
        twin.base = self.base.of(url)
        return twin


class Reshaped(Derived):
    """Pages reshaped across their axes.

    A region is cut out of the contiguous run of pixels that contains it.
    """

    def __init__(self, base: Level, shape: tuple[int, ...]) -> None:
        super().__init__(base, shape, base.dtype)

    @property
    def segment(self) -> tuple[int, ...]:
        """About as many pixels as one page has, in whole trailing axes."""
        per_page = math.prod(self.base.shape[1:])
        segment = [1] * len(self.shape)
        for axis in reversed(range(len(self.shape))):
            rest = max(1, per_page // math.prod(segment))
            segment[axis] = min(self.shape[axis], rest)
            if segment[axis] < self.shape[axis]:
                break
        return tuple(segment)

    @property
    def pixel_bytes(self) -> int | None:
        return None

    def needs(self, region: Region) -> Region:
        first, last = self._run(region)
        needed = []
        rest = math.prod(self.base.shape)
        for i, length in enumerate(self.base.shape):
            rest //= length
            needed.append(slice(first // rest, last // rest + 1, 1))
            if first // rest != last // rest:
                needed += [slice(0, n, 1) for n in self.base.shape[i + 1 :]]
                break
            first, last = first % rest, last % rest
        return tuple(needed)

    def finish(self, pixels: Array, region: Region, out: Array) -> None:
        first, last = self._run(region)
        strides = _strides(self.base.shape)
        begin = sum(s.start * n for s, n in zip(self.needs(region), strides, strict=True))
        run = pixels.reshape(-1)[first - begin : last - begin + 1]
        steps = (s.step * n for s, n in zip(region, _strides(self.shape), strict=True))
        out[...] = np.lib.stride_tricks.as_strided(
            run, out.shape, tuple(step * run.itemsize for step in steps), writeable=False
        )

    def _run(self, region: Region) -> tuple[int, int]:
        """Flat positions of the first and the last pixel of a region."""
        strides = _strides(self.shape)
        first = sum(s.start * n for s, n in zip(region, strides, strict=True))
        lasts = (range(s.start, s.stop, s.step)[-1] for s in region)
        return first, sum(i * n for i, n in zip(lasts, strides, strict=True))


class Transformed(Derived):
    """Each pixel transformed as the metadata of the file define."""

    def __init__(
        self, base: Level | Derived, dtype: np.dtype[Any], transform: Callable[[Array], Array]
    ) -> None:
        super().__init__(base, base.shape, dtype)
        self._transform = transform

    @property
    def segment(self) -> tuple[int, ...]:
        return self.base.segment

    def needs(self, region: Region) -> Region:
        return region

    def finish(self, pixels: Array, region: Region, out: Array) -> None:
        out[...] = self._transform(pixels)


class Coloured(Derived):
    """Palette indices replaced by their colours, along a last axis of length 3."""

    def __init__(self, base: Level | Derived, colormap: Array, url: str) -> None:
        super().__init__(base, (*base.shape, 3), colormap.dtype)
        self._colours = np.ascontiguousarray(colormap.T)
        self._url = url

    def of(self, url: str) -> Self:
        twin = super().of(url)
        twin._url = url
        return twin

    @property
    def segment(self) -> tuple[int, ...]:
        return (*self.base.segment, 3)

    def needs(self, region: Region) -> Region:
        return region[:-1]

    def finish(self, pixels: Array, region: Region, out: Array) -> None:
        if pixels.max() >= len(self._colours):
            raise CorruptFileError(
                f"{self._url} has palette indices up to {pixels.max()}, but its palette has only"
                f" {len(self._colours)} colours",
                url=self._url,
            )
        out[...] = self._colours[:, region[-1]][pixels.astype(np.intp)]


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Distance of neighbours along each axis, in pixels, in C order."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]
