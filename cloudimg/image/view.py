"""Choose what a picture shows of an image: level, region and channels. Reads nothing.

The level is the smallest one whose longer side has the requested number of pixels. The region is
one plane of it: the middle along z (and along pages without a meaning), the first along all other
axes, and the first six channels together, or red, green and blue of what lies on Earth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.image.image import Image
from cloudimg.image.parts import LevelInfo
from cloudimg.image.rgb_bands import rgb_bands
from cloudimg.tiff.colours.convert import N_COLOURS, find_colour

PROJECTIONS: Mapping[str, np.ufunc] = {"max": np.fmax, "mean": np.add}
"""Functions that combine planes along z; `fmax` because NaN must not win."""
_MAX_CHANNELS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of an image that a picture shows."""

    level: int
    region: Mapping[str, slice]
    """Region of the level, by dim."""
    colour: str | None
    """Colour space if a pixel is one colour, a key of `N_COLOURS`; None if channels are shown."""
    alpha: int | None
    """Sample that is the opacity of a colour."""
    channel_dim: str | None
    """Dim of the channels that are shown together, None if there is one channel or a colour."""
    bands: tuple[int, int, int] | None = None
    """Positions of red, green and blue along `channel_dim`, if they are shown as such."""
    project: str | None
    """Key of `PROJECTIONS`, None to show one plane."""
    nbytes: int
    """Decoded size of all segments that hold the region."""

    @property
    def channels(self) -> Sequence[int]:
        """Positions along `channel_dim`, in increasing order."""
        if self.bands is not None:
            return sorted(self.bands)
        part = self.region[self.channel_dim] if self.channel_dim else slice(0, 1)
        return range(part.start, part.stop)


def choose_view(image: Image, level: int, *, index: Mapping[str, int], project: str | None) -> View:
    """Choose what to read at a level.

    Parameters
    ----------
    image : Image
    level : int
    index : mapping
        Positions by dim, at level 0.
    project : str, optional
        Key of `PROJECTIONS`.

    Raises
    ------
    ArgumentError
        For positions that do not exist, and a projection without z.
    """
    fixed = {dim: _position(image, dim, i) for dim, i in index.items()}
    if project:
        _check_projection(image, project, fixed)
    colour, alpha, channel_dim, bands = _shown(image, fixed)
    n_samples = 1 + max(N_COLOURS[colour] - 1, alpha or 0) if colour else 1
    info = image.levels[level]
    region: dict[str, slice] = {}
    for dim, full_length, length in zip(image.dims, image.shape, info.shape, strict=True):
        if dim in fixed:
            # A level may also have fewer planes than level 0.
            start, count = fixed[dim] * length // full_length, 1
        elif bands is not None and dim == channel_dim:
            start, count = min(bands), max(bands) - min(bands) + 1
        else:
            start, count = _default_range(dim, length, n_samples, channel_dim, project)
        region[dim] = slice(start, start + count)
    return View(
        level=level,
        region=region,
        colour=colour,
        alpha=alpha,
        channel_dim=channel_dim,
        bands=bands,
        project=project,
        nbytes=_decoded_nbytes(image, info, region),
    )


def _shown(
    image: Image, fixed: Mapping[str, int]
) -> tuple[str | None, int | None, str | None, tuple[int, int, int] | None]:
    """Return what `View` has as colour, alpha, dim of channels, and bands."""
    free = {d: n for d, n in zip(image.dims, image.shape, strict=True) if d not in fixed}
    colour, alpha = None, None
    if "s" not in fixed:
        colour, alpha = find_colour(image.attrs, free.get("s", 1))
    axis, bands = rgb_bands(image.attrs, free, image.coords, colour)
    if bands is not None:
        return None, None, axis, bands
    along = None if colour else next((dim for dim in ("c", "s") if dim in free), None)
    return colour, alpha, along, None


def _default_range(
    dim: str, length: int, n_samples: int, channel_dim: str | None, project: str | None
) -> tuple[int, int]:
    """Return start and count of the positions to show along a dim."""
    if dim in ("y", "x") or (dim == "z" and project):
        return 0, length
    if dim == channel_dim:
        return 0, min(length, _MAX_CHANNELS)
    if dim == "s":
        return 0, n_samples
    return length // 2 if dim in ("z", "page") else 0, 1


def _check_projection(image: Image, project: str, fixed: Mapping[str, int]) -> None:
    if project not in PROJECTIONS:
        raise ArgumentError(f'project="{project}" must be one of {", ".join(PROJECTIONS)}')
    if "z" in fixed:
        raise ArgumentError(f'project="{project}" combines planes along z, but index= fixes z')
    if "z" not in image.dims:
        raise ArgumentError(
            f'project="{project}" combines planes along z, which the image lacks;'
            ' axes={"page": "z"} names its pages z'
        )


def choose_level(image: Image, size: int) -> int:
    """Return the smallest level whose longer side has at least `size` pixels, else 0."""
    sufficient = [i for i in range(len(image.levels)) if max(plane_size(image, i)) >= size]
    return max(sufficient, default=0)


def check_level(image: Image, level: int) -> int:
    """Return the number of a level, which may be negative to count from the end.

    Raises
    ------
    ArgumentError
    """
    n = len(image.levels)
    if not -n <= level < n:
        raise ArgumentError(f"level={level}, but the levels are 0 to {n - 1}")
    return level % n


def plane_size(image: Image, level: int) -> tuple[int, int]:
    """Return width and height of a level."""
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


def _decoded_nbytes(image: Image, info: LevelInfo, region: Mapping[str, slice]) -> int:
    """Return the decoded size of all segments that hold a region."""
    nbytes = image.dtype.itemsize
    for dim, length in zip(image.dims, info.shape, strict=True):
        part, segment = region[dim], info.segment.get(dim, 1)
        first, last = part.start // segment, -(-part.stop // segment)
        nbytes *= min(length, last * segment) - first * segment
    return nbytes


def too_large(
    image: Image, view: View, max_bytes: float, alternatives: Sequence[View]
) -> ArgumentError:
    """Return the error for a view that decodes more than `max_bytes`.

    Parameters
    ----------
    image : Image
    view : View
    max_bytes : float
    alternatives : sequence of View
        Views at other levels that decode less.
    """
    from dask.utils import format_bytes

    advice = ["max_bytes=math.inf decodes it anyway"]
    if alternatives:
        best = alternatives[0]
        advice.insert(0, f"level={best.level} takes {format_bytes(best.nbytes)}")
    elif len(view.channels) > 1:
        advice.insert(0, f'index={{"{view.channel_dim}": 0}} takes one channel')
    return ArgumentError(
        f"at level {view.level} ({times(plane_size(image, view.level))}) the picture takes"
        f" {format_bytes(view.nbytes)} decoded, more than max_bytes={max_bytes:.0f}:"
        f" {', '.join(advice)}"
    )


def times(lengths: Sequence[int]) -> str:
    """Return lengths as text, such as 512 x 512."""
    return " x ".join(map(str, lengths))
