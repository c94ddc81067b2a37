"""Levels in RGB of 8 bits, converted from any colour space as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import UnsupportedFormatError
from cloudimg.tiff.colours.convert import Converter, converter_of
from cloudimg.tiff.derived import Derived
from cloudimg.tiff.geometry import Region
from cloudimg.tiff.level import Level

Array = npt.NDArray[Any]

_AS_THEY_ARE = ("gray", "gray-inverted", "rgb", "mask", "palette", "unknown")
"""Colour spaces that are not converted here; palettes are looked up, see `Coloured`."""
_AT_ONCE = 2**20
"""Pixels that are converted together, which bounds memory."""


class InRGB(Derived):
    """Samples of another colour space converted to RGB, perhaps with opacity."""

    def __init__(self, base: Level | Derived, convert: Converter, axis: int) -> None:
        shape = (*base.shape[:axis], convert.n_converted, *base.shape[axis + 1 :])
        super().__init__(base, shape, np.dtype(np.uint8))
        self._convert = convert
        self._axis = axis

    @property
    def segment(self) -> tuple[int, ...]:
        segment = self.base.segment
        return (*segment[: self._axis], self.shape[self._axis], *segment[self._axis + 1 :])

    def needs(self, region: Region) -> Region:
        samples = slice(0, self.base.shape[self._axis], 1)
        return (*region[: self._axis], samples, *region[self._axis + 1 :])

    def finish(self, pixels: Array, region: Region, out: Array) -> None:
        samples, target = (np.moveaxis(each, self._axis, -1) for each in (pixels, out))
        longest = int(np.argmax(samples.shape[:-1]))
        samples, target = (np.moveaxis(each, longest, 0) for each in (samples, target))
        n_at_once = max(1, _AT_ONCE * len(samples) // max(1, samples[..., 0].size))
        for start in range(0, len(samples), n_at_once):
            part = slice(start, start + n_at_once)
            target[part] = self._convert.as_bytes(samples[part])[..., region[self._axis]]


def in_rgb(
    levels: Sequence[Any],
    dims: Sequence[str],
    attrs: Mapping[str, Any],
    url: str,
) -> list[Level | Derived] | None:
    """Return levels in RGB; None if their pixels stay as they are.

    Parameters
    ----------
    levels : sequence of Level or Derived
    dims : sequence of str
        Names of their axes.
    attrs : mapping
        Those of their colours, see `cloudimg.ImageAttributes`.
    url : str
        For messages.

    Raises
    ------
    UnsupportedFormatError
        If the colours are not defined well enough to be converted.
    """
    space = attrs.get("color_space", "unknown")
    if "s" not in dims or space in _AS_THEY_ARE:
        return None
    axis = list(dims).index("s")
    n_samples = levels[0].shape[axis]
    convert = converter_of(attrs, levels[0].dtype, n_samples)
    if convert is None:
        raise UnsupportedFormatError(
            f'the pixels of {url} are {n_samples} samples in the colour space "{space}", which'
            " cannot be converted to RGB: leave out rgb=True to read them as they are",
            url=url,
        )
    return [InRGB(level, convert, axis) for level in levels]
