"""What of an image a picture shows: level, region, channels. Reads nothing.

The level is the smallest one whose longer side has the pixels that were asked for. Of it one
plane: the middle along z (and along pages without a meaning), the first along all other axes, the
first six channels together. What would be decoded is known before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.image.image import Image, LevelInfo

PROJECTIONS: Mapping[str, np.ufunc] = {"max": np.fmax, "mean": np.add}
"""How planes along z become one; fmax, because NaN is not the brightest pixel."""
_MAX_CHANNELS = 6
_COLOUR_SAMPLES = {"RGB": 3, "YCBCR": 3, "SEPARATED": 4}
"""By photometric interpretation how many samples are one colour. More are opacity and the like."""


@dataclass(frozen=True, slots=True)
class View:
    """What is read of an image."""

    level: int
    region: Mapping[str, slice]
    """Positions in the level by dim."""
    colour: str | None
    """The photometric interpretation where a pixel is one colour."""
    channel_dim: str | None
    """Along which there are channels to show together."""
    project: str | None
    nbytes: int
    """Decoded size of all segments that hold the region."""

    @property
    def channels(self) -> range:
        """Positions along `channel_dim`."""
        part = self.region[self.channel_dim] if self.channel_dim else slice(0, 1)
        return range(part.start, part.stop)


def choose_view(image: Image, level: int, *, index: Mapping[str, int], project: str | None) -> View:
    """What to read at a level.

    Raises
    ------
    ArgumentError
        For positions that do not exist, and a projection without z.
    """
    fixed = {dim: _position(image, dim, i) for dim, i in index.items()}
    if project:
        _check_projection(image, project, fixed)
    colour = _colour(image) if "s" not in fixed else None
    channel_dim = None
    if colour is None:
        free = [dim for dim in ("c", "s") if dim in image.dims and dim not in fixed]
        channel_dim = free[0] if free else None
    whole = {"y", "x", "z"} if project else {"y", "x"}
    info = image.levels[level]
    region = {}
    for dim, full, n in zip(image.dims, image.shape, info.shape, strict=True):
        if dim in fixed:
            start, count = fixed[dim] * n // full, 1  # a level may have fewer planes, too
        elif dim in whole:
            start, count = 0, n
        elif dim == "s" and colour:
            start, count = 0, _COLOUR_SAMPLES[colour]
        elif dim == channel_dim:
            start, count = 0, min(n, _MAX_CHANNELS)
        else:
            start, count = n // 2 if dim in ("z", "page") else 0, 1
        region[dim] = slice(start, start + count)
    nbytes = _decoded_nbytes(image, info, region)
    return View(level, region, colour, channel_dim, project, nbytes)


def _check_projection(image: Image, project: str, fixed: Mapping[str, int]) -> None:
    if project not in PROJECTIONS:
        raise ArgumentError(f'project="{project}" must be one of {", ".join(PROJECTIONS)}')
    if "z" in fixed:
        raise ArgumentError(f'project="{project}" goes along z, which index= fixes')
    if "z" not in image.dims:
        raise ArgumentError(
            f'project="{project}" goes along z, which the image lacks; axes={{"page": "z"}} names'
            " its pages z"
        )


def choose_level(image: Image, size: int) -> int:
    serving = [i for i in range(len(image.levels)) if max(plane_size(image, i)) >= size]
    return max(serving, default=0)


def check_level(image: Image, level: int) -> int:
    n = len(image.levels)
    if not -n <= level < n:
        raise ArgumentError(f"level={level}, but the levels are 0 to {n - 1}")
    return level % n


def plane_size(image: Image, level: int) -> tuple[int, int]:
    """Width and height."""
    shape = dict(zip(image.dims, image.levels[level].shape, strict=True))
    return shape["x"], shape["y"]


def _position(image: Image, dim: str, i: int) -> int:
    lengths = dict(zip(image.dims, image.shape, strict=True))
    choices = [name for name in lengths if name not in ("y", "x")]
    if dim not in choices:
        raise ArgumentError(f'index={{"{dim}": {i}}}: the axes to choose on are {choices}')
    if not -lengths[dim] <= i < lengths[dim]:
        raise ArgumentError(
            f'index={{"{dim}": {i}}}: positions along {dim} are 0 to {lengths[dim] - 1}'
        )
    return i % lengths[dim]


def _colour(image: Image) -> str | None:
    photometric: str = image.attrs.get("photometric", "")
    n_samples = dict(zip(image.dims, image.shape, strict=True)).get("s", 1)
    if photometric == "PALETTE" and image.attrs.get("colormap") is not None and n_samples == 1:
        return photometric
    return photometric if n_samples >= _COLOUR_SAMPLES.get(photometric, math.inf) else None


def _decoded_nbytes(image: Image, info: LevelInfo, region: Mapping[str, slice]) -> int:
    nbytes = image.dtype.itemsize
    for dim, n in zip(image.dims, info.shape, strict=True):
        part, segment = region[dim], info.segment.get(dim, 1)
        first, last = part.start // segment, -(-part.stop // segment)
        nbytes *= min(n, last * segment) - first * segment
    return nbytes


def too_much(image: Image, view: View, max_bytes: float, fitting: Sequence[View]) -> ArgumentError:
    from dask.utils import format_bytes

    advice = ["max_bytes=math.inf decodes it anyway"]
    if fitting:
        best = fitting[0]
        advice.insert(0, f"level={best.level} takes {format_bytes(best.nbytes)}")
    elif len(view.channels) > 1:
        advice.insert(0, f'index={{"{view.channel_dim}": 0}} takes one channel')
    return ArgumentError(
        f"at level {view.level} ({times(plane_size(image, view.level))}) the picture takes"
        f" {format_bytes(view.nbytes)} decoded, more than max_bytes={max_bytes:.0f}:"
        f" {', '.join(advice)}"
    )


def times(lengths: Sequence[int]) -> str:
    """Lengths as text, such as 512 x 512."""
    return " x ".join(map(str, lengths))
