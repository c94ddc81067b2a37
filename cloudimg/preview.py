"""`cloudimg preview`: a picture of one plane, from the smallest level that serves.

What is read. The level is the smallest one whose longer side has the pixels that were asked for.
Of it one plane: the middle along z (and along pages without a meaning), the first along all other
axes, the first six channels together. It is read in blocks of whole segments, each of which is
made smaller as it comes, so that a plane may be larger than memory. What would be decoded is known
before anything is read.

How it is shown. Colour samples and palettes as they are; channels in the colours that the file
gives them, else in `picture.COLOURS`, one alone in grey. What is not 8 bits is stretched.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg import api, picture
from cloudimg.coords import human
from cloudimg.errors import ArgumentError

Array = npt.NDArray[Any]
Progress = Callable[[str, int], None]

PROJECTIONS: Mapping[str, np.ufunc] = {"max": np.fmax, "mean": np.add}
"""How planes along z become one. NaN is no brightest pixel, hence fmax."""
_MAX_CHANNELS = 6
_AT_ONCE_BYTES = 64 * 2**20
"""A plane up to this size is read in one go."""
_SHOWN = ("c", "z", "y", "x", "s")
"""Dims of a block, whatever the image has of them."""
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


def make(
    url: str,
    out: str,
    *,
    size: int,
    level: int | None,
    index: Mapping[str, int],
    project: str | None,
    max_bytes: float,
    progress: Progress,
    **options: Any,
) -> str:
    """Leave a picture of what is at a URL.

    Parameters
    ----------
    url : str
        A pattern or a file.
    out : str
        The PNG to leave; one that is there is replaced.
    size : int
        Pixels of its longer side at most; it is never larger than the image.
    level : int, optional
        Resolution level instead of the one that suits `size`; -1 is the smallest.
    index : mapping
        Positions by dim, as at level 0; negative ones count from the end.
    project : {"max", "mean"}, optional
        All planes along z instead of one.
    max_bytes : float
        Refuse to decode more.
    progress : callable
    **options
        The other arguments of `cloudimg.open`.

    Returns
    -------
    str
        What was read and written, in a line.

    Raises
    ------
    CloudimgError
    """
    picture.refuse_unwritable(out)
    image = api.open(url, progress=progress, **options)
    chosen = _choose_level(image, size) if level is None else _check_level(image, level)
    view = choose_view(image, chosen, index=index, project=project)
    if view.nbytes > max_bytes:
        n_levels = len(image.levels)
        others = (choose_view(image, i, index=index, project=project) for i in range(n_levels))
        raise _too_much(image, view, max_bytes, [v for v in others if v.nbytes <= max_bytes])
    pixels = paint(read(image, view, size, progress), image, view)
    picture.write_png(out, pixels)
    return _line(image, view, pixels.shape, out)


# ------------------------------------------------------------------------------------ what to read


def choose_view(
    image: api.Image, level: int, *, index: Mapping[str, int], project: str | None
) -> View:
    """What to read at a level.

    Raises
    ------
    ArgumentError
        For positions that do not exist, and a projection without z.
    """
    fixed = {dim: _position(image, dim, i) for dim, i in index.items()}
    if project and ("z" not in image.dims or "z" in fixed):
        why = "--index fixes it" if "z" in fixed else 'there is none; --axes page=z names pages "z"'
        raise ArgumentError(f"--project {project} goes along z: {why}")
    colour = _colour(image) if "s" not in fixed else None
    channel_dim = None
    if colour is None:
        free = [dim for dim in ("c", "s") if dim in image.dims and dim not in fixed]
        channel_dim = free[0] if free else None
    info = image.levels[level]
    region = {}
    for dim, full, n in zip(image.dims, image.shape, info.shape, strict=True):
        start, count = 0, 1
        if dim in fixed:
            start = fixed[dim] * n // full  # a level may have fewer planes, too
        elif dim in ("y", "x") or (dim == "z" and project):
            count = n
        elif dim in ("z", "page"):
            start = n // 2
        elif dim == "s" and colour:
            count = _COLOUR_SAMPLES[colour]
        elif dim == channel_dim:
            count = min(n, _MAX_CHANNELS)
        region[dim] = slice(start, start + count)
    nbytes = _decoded_nbytes(image, info, region)
    return View(level, region, colour, channel_dim, project, nbytes)


def _choose_level(image: api.Image, size: int) -> int:
    serving = [i for i in range(len(image.levels)) if max(_plane(image, i)) >= size]
    return max(serving, default=0)


def _check_level(image: api.Image, level: int) -> int:
    n = len(image.levels)
    if not -n <= level < n:
        raise ArgumentError(f"--level {level}, but the levels are 0 to {n - 1}")
    return level % n


def _plane(image: api.Image, level: int) -> tuple[int, int]:
    """Width and height."""
    shape = dict(zip(image.dims, image.levels[level].shape, strict=True))
    return shape["x"], shape["y"]


def _position(image: api.Image, dim: str, i: int) -> int:
    lengths = dict(zip(image.dims, image.shape, strict=True))
    choices = [name for name in lengths if name not in ("y", "x")]
    if dim not in choices:
        raise ArgumentError(f"--index {dim}={i}: the axes to choose on are {choices}")
    if not -lengths[dim] <= i < lengths[dim]:
        raise ArgumentError(f"--index {dim}={i}: positions along {dim} are 0 to {lengths[dim] - 1}")
    return i % lengths[dim]


def _colour(image: api.Image) -> str | None:
    photometric: str = image.attrs.get("photometric", "")
    n_samples = dict(zip(image.dims, image.shape, strict=True)).get("s", 1)
    if photometric == "PALETTE" and image.attrs.get("colormap") is not None and n_samples == 1:
        return photometric
    return photometric if n_samples >= _COLOUR_SAMPLES.get(photometric, math.inf) else None


def _decoded_nbytes(image: api.Image, info: api.LevelInfo, region: Mapping[str, slice]) -> int:
    nbytes = image.dtype.itemsize
    for dim, n in zip(image.dims, info.shape, strict=True):
        part, segment = region[dim], info.segment.get(dim, 1)
        first, last = part.start // segment, -(-part.stop // segment)
        nbytes *= min(n, last * segment) - first * segment
    return nbytes


def _too_much(
    image: api.Image, view: View, max_bytes: float, fitting: Sequence[View]
) -> ArgumentError:
    advice = ["--yes reads it nevertheless"]
    if fitting:
        best = fitting[0]
        advice.insert(0, f"--level {best.level} takes {human(best.nbytes)}")
    elif len(view.channels) > 1:
        advice.insert(0, f"--index {view.channel_dim}=0 takes one channel")
    return ArgumentError(
        f"at level {view.level} ({_times(_plane(image, view.level))}) the picture takes"
        f" {human(view.nbytes)} decoded, more than {human(max_bytes)} (--max-bytes):"
        f" {', '.join(advice)}"
    )


# ----------------------------------------------------------------------------------------- reading


def read(image: api.Image, view: View, size: int, progress: Progress) -> picture.Reals:
    """The planes (channels or colour samples; y; x), made smaller; NaN where there is nothing."""
    width, height = _plane(image, view.level)
    planes: list[picture.Average] = []
    for n_done, (first, top, left, block) in enumerate(_blocks(image, view)):
        progress("blocks read", n_done)
        for i, j in np.ndindex(len(block), block.shape[-1]):
            number = (first + i) * block.shape[-1] + j
            if number == len(planes):
                planes.append(picture.Average(height, width, size))
            planes[number].add(block[i, ..., j], top, left)
    return np.stack([plane.mean() for plane in planes])


def _blocks(image: api.Image, view: View) -> Iterator[tuple[int, int, int, Array]]:
    """Blocks (c, y, x, s), with how many channels, rows and columns come before each."""
    cuts = _cuts(image, view)
    first = cuts["c"][0].start
    for c, y, x in itertools.product(cuts["c"], cuts["y"], cuts["x"]):
        parts = (_read_block(image, view, {"c": c, "z": z, "y": y, "x": x}) for z in cuts["z"])
        yield c.start - first, y.start, x.start, _project(parts, view)


def _cuts(image: api.Image, view: View) -> dict[str, list[slice]]:
    """Along the dims of a block the parts to read: whole segments, which are decoded once."""
    cuts = {dim: [view.region.get(dim, slice(0, 1))] for dim in _SHOWN}
    if view.nbytes > _AT_ONCE_BYTES:
        chunks = dict(zip(image.dims, image.to_dask(level=view.level).chunks, strict=True))
        for dim in ("z", "y", "x") if view.project else ("y", "x"):
            stops = itertools.accumulate(chunks[dim])
            cuts[dim] = [slice(b - n, b) for b, n in zip(stops, chunks[dim], strict=True)]
        if view.channel_dim == "c":
            cuts["c"] = [slice(c, c + 1) for c in view.channels]
    return cuts


def _read_block(image: api.Image, view: View, part: Mapping[str, slice]) -> Array:
    """Pixels of a block, c, z, y, x, s; palette indices as colours, moduli of complex numbers."""
    region = {**view.region, **{dim: part[dim] for dim in part if dim in view.region}}
    pixels = image.read(region, level=view.level)
    pixels = pixels.squeeze(tuple(i for i, dim in enumerate(image.dims) if dim not in _SHOWN))
    pixels = np.expand_dims(pixels, [i for i, d in enumerate(_SHOWN) if d not in view.region])
    if view.colour == "PALETTE":
        return picture.look_up(pixels[..., 0], image.attrs["colormap"])
    return np.abs(pixels) if pixels.dtype.kind == "c" else pixels


def _project(parts: Iterator[Array], view: View) -> Array:
    """One plane per channel and sample (c, y, x, s) of blocks that follow one another along z."""
    if view.project is None:
        return next(parts)[:, 0]
    ufunc = PROJECTIONS[view.project]
    wide = np.float64 if view.project == "mean" else None
    planes: Array = functools.reduce(ufunc, (ufunc.reduce(p, axis=1, dtype=wide) for p in parts))
    along_z = view.region["z"]
    return planes / (along_z.stop - along_z.start) if view.project == "mean" else planes


# ----------------------------------------------------------------------------------------- showing


def paint(planes: picture.Reals, image: api.Image, view: View) -> npt.NDArray[np.uint8]:
    """The picture (y, x, or with RGB in the end) of channels or colour samples (k, y, x)."""
    if view.colour is None:
        lights = [picture.stretch(p, *picture.contrast(p, image.dtype)) for p in planes]
        if image.attrs.get("photometric") == "MINISWHITE":
            lights = [1 - light for light in lights]
        if len(lights) == 1:
            return picture.as_bytes(lights[0])
        stored = image.attrs.get("channel_colors", ()) if view.channel_dim == "c" else ()
        colours = picture.choose_colours(view.channels, stored)
        return picture.as_bytes(picture.blend(np.stack(lights), colours))
    rgb = np.moveaxis(planes, 0, -1)
    if view.colour == "SEPARATED":
        ink = rgb / np.iinfo(image.dtype).max
        return picture.as_bytes((1 - ink[..., :3]) * (1 - ink[..., 3:]))
    is_8_bit = view.colour == "PALETTE" or image.dtype == np.uint8
    # All samples alike, or the colours would change.
    low, high = (0.0, 255.0) if is_8_bit else picture.contrast(rgb, image.dtype)
    return picture.as_bytes(picture.stretch(rgb, low, high))


def _line(image: api.Image, view: View, shape: Sequence[int], out: str) -> str:
    positions = []
    for dim, part in view.region.items():
        if dim in ("y", "x") or (dim == "s" and view.colour):
            continue
        last = f"-{part.stop - 1}" if part.stop - part.start > 1 else ""
        projected = f" ({view.project})" if dim == "z" and view.project else ""
        positions.append(f"{dim}={part.start}{last}{projected}")
    missing = f"; files missing: {image.n_missing}" if image.n_missing else ""
    at = f" at {' '.join(positions)}" if positions else ""
    return (
        f"{out}: {_times((shape[1], shape[0]))} pixels from level {view.level}"
        f" ({_times(_plane(image, view.level))}){at}; {human(view.nbytes)} of"
        f" {human(image.nbytes)} decoded{missing}"
    )


def _times(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))
