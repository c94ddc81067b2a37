"""Make a picture of one plane, read in blocks that are downscaled as they arrive.

A plane may therefore be larger than memory. Colours of any space become RGB, see
`cloudimg.tiff.colours.convert`; channels are shown in the colours and ranges of values that the
metadata of a copy would have, see `cloudimg.tiff.colours.channels`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.image import picture
from cloudimg.image.geo_array import nodata_of
from cloudimg.image.image import Image
from cloudimg.image.view import (
    PROJECTIONS,
    View,
    check_level,
    choose_level,
    choose_view,
    plane_size,
    times,
    too_large,
)
from cloudimg.opening.options import CountCallback
from cloudimg.tiff.colours.channels import WHITE, PixelColours, ShownChannel, rrggbb
from cloudimg.tiff.colours.convert import Converter
from cloudimg.tiff.colours.window import Values, Window, colour_window, own_window

Array = npt.NDArray[Any]

_AT_ONCE_BYTES = 64 * 2**20
"""Views up to this size are read as a single block."""
_SLAB_PIXELS = 2**20
"""Number of pixels that are converted together."""
_BLOCK_DIMS = ("c", "z", "y", "x", "s")
"""Dims of a block, of length 1 where the image lacks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A picture that was written, and the part of the image that it shows."""

    path: str
    """Path of the PNG."""
    width: int
    """Width of the picture in pixels."""
    height: int
    """Height of the picture in pixels."""
    view: View
    """Part of the image that was read."""
    plane_size: tuple[int, int]
    """Width and height of the level that was read."""
    image_nbytes: int
    """Decoded size of the whole image."""
    n_missing: int
    """Number of files missing from the image."""

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

    def to_json(self) -> dict[str, Any]:
        """The preview as a JSON object; `region` has the first and last position of each dim."""
        return {
            "path": self.path,
            "width": self.width,
            "height": self.height,
            "level": self.view.level,
            "plane_size": list(self.plane_size),
            "region": {dim: [p.start, p.stop - 1] for dim, p in self.view.region.items()},
            "project": self.view.project,
            "nbytes": self.view.nbytes,
            "image_nbytes": self.image_nbytes,
            "n_missing": self.n_missing,
        }

    def _positions(self) -> Iterator[str]:
        """Yield the positions shown along each dim, such as ``z=3`` and ``c=0-2``."""
        for dim, part in self.view.region.items():
            if dim in ("y", "x") or (dim == "s" and self.view.colour):
                continue
            if dim == self.view.channel_dim and self.view.bands is not None:
                yield f"{dim}={','.join(map(str, self.view.bands))} (RGB)"
                continue
            last = f"-{part.stop - 1}" if part.stop - part.start > 1 else ""
            projected = f" ({self.view.project})" if dim == "z" and self.view.project else ""
            yield f"{dim}={part.start}{last}{projected}"


def make_preview(
    image: Image,
    path: str,
    *,
    size: int,
    level: int | None,
    index: Mapping[str, int],
    project: str | None,
    max_bytes: float,
    progress: CountCallback | None,
) -> tuple[Preview, npt.NDArray[np.uint8]]:
    """Make the picture of an image that is written to a path; see `cloudimg.preview`.

    Raises
    ------
    ArgumentError, StorageError, FormatError, GridError
    """
    chosen = choose_level(image, size) if level is None else check_level(image, level)
    view = choose_view(image, chosen, index=index, project=project)
    if view.nbytes > max_bytes:
        n_levels = len(image.levels)
        others = (choose_view(image, i, index=index, project=project) for i in range(n_levels))
        raise too_large(image, view, max_bytes, [v for v in others if v.nbytes <= max_bytes])
    pixels = paint(read_planes(image, view, size, progress), image, view)
    shown = Preview(
        path=path,
        width=pixels.shape[1],
        height=pixels.shape[0],
        view=view,
        plane_size=plane_size(image, view.level),
        image_nbytes=image.nbytes,
        n_missing=image.n_missing,
    )
    return shown, pixels


def read_planes(
    image: Image, view: View, size: int, progress: CountCallback | None
) -> picture.Reals:
    """Read the view and downscale it.

    Returns
    -------
    ndarray
        Channels or colour samples, y, x; NaN where no pixel is finite.
    """
    width, height = plane_size(image, view.level)
    planes: list[picture.Average] = []
    for n_read, (first, top, left, block) in enumerate(_blocks(image, view)):
        if progress is not None:
            progress("blocks read", n_read)
        for row, part in _slabs(block, image, view):
            for i, j in np.ndindex(len(part), part.shape[-1]):
                number = (first + i) * part.shape[-1] + j
                if number == len(planes):
                    planes.append(picture.Average(height, width, size))
                planes[number].add(part[i, ..., j], top + row, left)
    return np.stack([plane.mean() for plane in planes])


def _slabs(block: Array, image: Image, view: View) -> Iterator[tuple[int, Array]]:
    """Yield the rows of a block (c, y, x, s), each part with its first row, in RGB if in colour."""
    convert = _converter(image, view)
    if convert is None or view.project:
        yield 0, block
        return
    # Converted pixels are larger, so that only a part of them is held.
    n_rows = max(1, _SLAB_PIXELS // block.shape[2])
    for row in range(0, block.shape[1], n_rows):
        rows = block[:, row : row + n_rows]
        yield row, _without_nodata(convert(rows), rows, image)


def _converter(image: Image, view: View) -> Converter | None:
    """Return what converts the colours of a view; None if it shows channels."""
    if view.colour is None:
        return None
    return Converter(image.attrs, image.dtype, view.colour, view.alpha)


def _blocks(image: Image, view: View) -> Iterator[tuple[int, int, int, Array]]:
    """Yield the blocks (c, y, x, s) of a view, each with its first channel, row and column."""
    parts = _parts(image, view)
    # Either all channels are in one part, or each has its own.
    for (first, c), y, x in itertools.product(enumerate(parts["c"]), parts["y"], parts["x"]):
        along_z = ({"c": c, "z": z, "y": y, "x": x} for z in parts["z"])
        blocks = (_read_block(image, view, part) for part in along_z)
        yield first, y.start, x.start, _project(blocks, view)


def _parts(image: Image, view: View) -> dict[str, list[slice]]:
    """Return the slices to read along the dims of a block: whole segments, to decode each once."""
    parts = {dim: [view.region.get(dim, slice(0, 1))] for dim in _BLOCK_DIMS}
    if view.bands is not None and view.channel_dim != "s":
        parts["c"] = [slice(c, c + 1) for c in view.channels]
    if view.nbytes > _AT_ONCE_BYTES:
        chunks = dict(zip(image.dims, image.to_dask(level=view.level).chunks, strict=True))
        for dim in ("z", "y", "x") if view.project else ("y", "x"):
            stops = itertools.accumulate(chunks[dim])
            parts[dim] = [slice(b - n, b) for b, n in zip(stops, chunks[dim], strict=True)]
        if view.channel_dim == "c":
            parts["c"] = [slice(c, c + 1) for c in view.channels]
    return parts


def _read_block(image: Image, view: View, part: Mapping[str, slice]) -> Array:
    """Read a block (c, z, y, x, s); complex numbers become moduli."""
    # Files of bands may have any name for their axis.
    dims = ["c" if d == view.channel_dim and d != "s" else d for d in image.dims]
    region = {
        own: part.get(dim, view.region[own]) for own, dim in zip(image.dims, dims, strict=True)
    }
    pixels = _in_order(image.read(region, level=view.level), dims)
    if view.colour is None:
        pixels = _without_nodata(pixels, pixels, image)
    if view.project and (convert := _converter(image, view)) is not None:
        return convert(pixels)  # the brightest index or ink is not the brightest colour
    return np.abs(pixels) if pixels.dtype.kind == "c" else pixels


def _in_order(pixels: Array, dims: Sequence[str]) -> Array:
    """Return pixels in the dims of a block; all others have the length 1."""
    pixels = pixels.squeeze(tuple(i for i, dim in enumerate(dims) if dim not in _BLOCK_DIMS))
    kept = [dim for dim in dims if dim in _BLOCK_DIMS]
    pixels = pixels.transpose([kept.index(dim) for dim in _BLOCK_DIMS if dim in kept])
    return np.expand_dims(pixels, [i for i, d in enumerate(_BLOCK_DIMS) if d not in kept])


def _without_nodata(pixels: Array, stored: Array, image: Image) -> Array:
    """Return pixels with NaN for nodata; a pixel of a colour has it in all samples.

    Parameters
    ----------
    pixels : ndarray
        As they are shown.
    stored : ndarray
        The same pixels as they are stored.
    image : Image
    """
    nodata = nodata_of(image.attrs.get("nodata"), stored.dtype)
    if nodata is None or nodata != nodata:
        return pixels
    is_gap = stored == nodata
    if pixels is not stored:
        is_gap = is_gap.all(axis=-1, keepdims=True)
    if not is_gap.any():
        return pixels
    dtype = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    return np.where(is_gap, np.nan, pixels.astype(dtype))


def _project(blocks: Iterator[Array], view: View) -> Array:
    """Combine blocks along z into one plane per channel and sample (c, y, x, s)."""
    if view.project is None:
        return next(blocks)[:, 0]
    ufunc = PROJECTIONS[view.project]
    dtype = np.float64 if view.project == "mean" else None
    planes: Array = functools.reduce(ufunc, (ufunc.reduce(b, axis=1, dtype=dtype) for b in blocks))
    along_z = view.region["z"]
    return planes / (along_z.stop - along_z.start) if view.project == "mean" else planes


def paint(planes: picture.Reals, image: Image, view: View) -> npt.NDArray[np.uint8]:
    """Return the picture (y, x or y, x, samples) of channels or colours (k, y, x).

    The samples are RGB, followed by the opacity if some pixels are not opaque.
    """
    convert = _converter(image, view)
    if convert is None:
        return picture.as_bytes(_channels(planes, image, view))
    colours, opacity = convert.separate(planes)
    visible = colours if opacity is None else colours[:, opacity > 0]
    low, high = _window(visible, image, convert)
    light = np.moveaxis(picture.stretch(colours, low, high), 0, -1)
    if convert.space == "gray-inverted":
        light = 1 - light
    if opacity is None:
        return picture.as_bytes(light[..., 0] if light.shape[-1] == 1 else light)
    rgb = np.broadcast_to(light, (*opacity.shape, 3))
    return picture.as_bytes(np.concatenate([rgb, opacity[..., None].clip(0, 1)], axis=-1))


def _channels(planes: picture.Reals, image: Image, view: View) -> picture.Reals:
    """Return the light of channels, gray if there is one that is white."""
    if view.bands is not None:
        return _rgb(planes, image, view)
    lengths = dict(zip(image.dims, image.shape, strict=True))
    along = view.channel_dim or "c"
    pixels = PixelColours.of(image.attrs, image.dtype, lengths.get("s", 1) if along == "s" else 1)
    has_one = view.channel_dim is None and "s" in lengths
    stored = [] if has_one else [rrggbb(each) for each in image.attrs.get("channel_colors", ())]
    shown = pixels.channels(lengths.get(along, 1), stored)
    first = view.region[along].start if along in view.region else 0
    planes, channels = _active(planes, shown[first : first + len(planes)])
    lights = [_light(*each, pixels) for each in zip(planes, channels, strict=True)]
    if len(lights) == 1 and (channels[0].colour == WHITE or channels[0].colour not in stored):
        return lights[0]
    colours = [tuple(byte / 255 for byte in bytes.fromhex(each.colour)) for each in channels]
    return picture.blend(np.stack(lights), colours)


def _active(
    planes: picture.Reals, channels: Sequence[ShownChannel]
) -> tuple[picture.Reals, Sequence[ShownChannel]]:
    """Return the channels that are shown together: without opacity, unless it is alone."""
    active = [i for i, each in enumerate(channels) if each.is_active]
    return (planes[active], [channels[i] for i in active]) if active else (planes, channels)


def _light(plane: picture.Reals, channel: ShownChannel, pixels: PixelColours) -> picture.Reals:
    light = picture.stretch(plane, *pixels.window(channel, Values.of(plane)))
    return 1 - light if channel.is_inverted else light


def _rgb(planes: picture.Reals, image: Image, view: View) -> picture.Reals:
    """Return the light of the bands that are red, green and blue, with one contrast for all."""
    assert view.bands is not None
    first = min(view.bands)
    # Of samples, all between them were read.
    read = list(range(first, first + len(planes))) if view.channel_dim == "s" else view.channels
    colours = np.stack([planes[read.index(band)] for band in view.bands])
    n_bits = PixelColours.of(image.attrs, image.dtype, 1).n_bits
    return np.moveaxis(picture.stretch(colours, *own_window(Values.of(colours), n_bits)), 0, -1)


def _window(planes: Array, image: Image, convert: Converter) -> Window:
    """Values of gray or RGB to show as black and as white, the same for all samples."""
    if not convert.keeps_values:
        return 0.0, 255.0
    pixels = PixelColours.of(image.attrs, image.dtype, 1)
    values = [Values.of(plane) for plane in planes]
    if len(values) > 1:
        ranges = [each.range for each in values if len(each.counts)]
        return colour_window(ranges, image.dtype, pixels.n_bits)
    return own_window(values[0], pixels.n_bits)
