"""A picture of one plane, read in blocks and made smaller as they come.

A plane may therefore be larger than memory. Colour samples and palettes are shown as they are;
channels in the colours that the file gives them, else in `picture.COLOURS`; one channel alone in
grey. What is not 8 bits is stretched to its percentiles.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.image import picture
from cloudimg.image.image import Image
from cloudimg.image.view import (
    PROJECTIONS,
    View,
    check_level,
    choose_level,
    choose_view,
    plane_size,
    times,
    too_much,
)
from cloudimg.opening.options import CountCallback

Array = npt.NDArray[Any]

_AT_ONCE_BYTES = 64 * 2**20
"""A plane up to this size is read in one go."""
_SHOWN = ("c", "z", "y", "x", "s")
"""Dims of a block, whatever the image has of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A picture that was written, and what it shows."""

    path: str
    """File of the picture."""
    width: int
    height: int
    view: View
    """What was read for it."""
    plane_size: tuple[int, int]
    """Width and height of the level that was read."""
    image_nbytes: int
    """Decoded size of the whole image."""
    n_missing: int
    """Files of the image that are missing."""

    def __str__(self) -> str:
        from dask.utils import format_bytes

        missing = f"; files missing: {self.n_missing}" if self.n_missing else ""
        positions = list(self._positions())
        at = f" at {' '.join(positions)}" if positions else ""
        return (
            f"{self.path}: {times((self.width, self.height))} pixels from level {self.view.level}"
            f" ({times(self.plane_size)}){at}; {format_bytes(self.view.nbytes)} of"
            f" {format_bytes(self.image_nbytes)} decoded{missing}"
        )

    def _positions(self) -> Iterator[str]:
        for dim, part in self.view.region.items():
            if dim in ("y", "x") or (dim == "s" and self.view.colour):
                continue
            last = f"-{part.stop - 1}" if part.stop - part.start > 1 else ""
            projected = f" ({self.view.project})" if dim == "z" and self.view.project else ""
            yield f"{dim}={part.start}{last}{projected}"


def write_preview(
    image: Image,
    path: str,
    *,
    size: int,
    level: int | None,
    index: Mapping[str, int],
    project: str | None,
    max_bytes: float,
    progress: CountCallback | None,
) -> Preview:
    """Write a picture of an image; see `cloudimg.preview`.

    Raises
    ------
    ArgumentError, StorageError, FormatError, GridError
    """
    chosen = choose_level(image, size) if level is None else check_level(image, level)
    view = choose_view(image, chosen, index=index, project=project)
    if view.nbytes > max_bytes:
        n_levels = len(image.levels)
        others = (choose_view(image, i, index=index, project=project) for i in range(n_levels))
        raise too_much(image, view, max_bytes, [v for v in others if v.nbytes <= max_bytes])
    pixels = paint(read(image, view, size, progress), image, view)
    picture.write_png(path, pixels)
    return Preview(
        path=path,
        width=pixels.shape[1],
        height=pixels.shape[0],
        view=view,
        plane_size=plane_size(image, view.level),
        image_nbytes=image.nbytes,
        n_missing=image.n_missing,
    )


def read(image: Image, view: View, size: int, progress: CountCallback | None) -> picture.Reals:
    """The planes (channels or colour samples; y; x), made smaller; NaN where there is nothing."""
    width, height = plane_size(image, view.level)
    planes: list[picture.Average] = []
    for n_done, (first, top, left, block) in enumerate(_blocks(image, view)):
        if progress is not None:
            progress("blocks read", n_done)
        for i, j in np.ndindex(len(block), block.shape[-1]):
            number = (first + i) * block.shape[-1] + j
            if number == len(planes):
                planes.append(picture.Average(height, width, size))
            planes[number].add(block[i, ..., j], top, left)
    return np.stack([plane.mean() for plane in planes])


def _blocks(image: Image, view: View) -> Iterator[tuple[int, int, int, Array]]:
    """Blocks (c, y, x, s), with how many channels, rows and columns come before each."""
    parts = _parts(image, view)
    first = parts["c"][0].start
    for c, y, x in itertools.product(parts["c"], parts["y"], parts["x"]):
        along_z = ({"c": c, "z": z, "y": y, "x": x} for z in parts["z"])
        blocks = (_read_block(image, view, place) for place in along_z)
        yield c.start - first, y.start, x.start, _project(blocks, view)


def _parts(image: Image, view: View) -> dict[str, list[slice]]:
    """Along the dims of a block the parts to read: whole segments, which are decoded once."""
    parts = {dim: [view.region.get(dim, slice(0, 1))] for dim in _SHOWN}
    if view.nbytes > _AT_ONCE_BYTES:
        chunks = dict(zip(image.dims, image.to_dask(level=view.level).chunks, strict=True))
        for dim in ("z", "y", "x") if view.project else ("y", "x"):
            stops = itertools.accumulate(chunks[dim])
            parts[dim] = [slice(b - n, b) for b, n in zip(stops, chunks[dim], strict=True)]
        if view.channel_dim == "c":
            parts["c"] = [slice(c, c + 1) for c in view.channels]
    return parts


def _read_block(image: Image, view: View, part: Mapping[str, slice]) -> Array:
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


def paint(planes: picture.Reals, image: Image, view: View) -> npt.NDArray[np.uint8]:
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
