"""Build an image from its pages: levels, names of axes, attributes and coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.errors.notes import Remark
from cloudimg.tiff.colours.convert import eight_bits
from cloudimg.tiff.derived import PALETTE, Coloured, Derived, Reshaped, Transformed
from cloudimg.tiff.frames import Frames
from cloudimg.tiff.in_rgb import in_rgb
from cloudimg.tiff.level import Level
from cloudimg.tiff.metadata import (
    colour_attributes,
    describe,
    metadata_remarks,
    of_converted,
    of_expanded_palette,
)
from cloudimg.tiff.multifile import binary_only
from cloudimg.tiff.pages import make_level, page_level
from cloudimg.tiff.parsed import ParsedImage, PlaneValues
from cloudimg.tiff.parser_log import ParserLog
from cloudimg.tiff.request import ParseRequest
from cloudimg.tiff.sparse import NotFetchedError, SparseFile
from cloudimg.tiff.stacks import remark_on_shape

# tifffile's one-letter codes; I and Q (sequences of unknown meaning) are pages.
_AXIS_NAMES = {"X": "x", "Y": "y", "Z": "z", "C": "c", "T": "t", "S": "s", "I": "page", "Q": "page"}
_MAX_IMAGE_BYTES = 2**62
"""No array can be larger."""


def build_image(
    tiff: Any,
    image: Any,
    frames: Frames,
    request: ParseRequest,
    file: SparseFile,
    url: str,
    *,
    n_images: int,
) -> ParsedImage:
    """Build one image of a file.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    image : tifffile.TiffPageSeries
    frames : Frames
        Compares the pages of the file.
    request : ParseRequest
    file : SparseFile
    url : str
        For messages.
    n_images : int
        Number of images in the file.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError
    """
    levels: list[Level | Derived] = [_make_level(level, frames, url) for level in image.levels]
    dims = _dims(image, levels[0])
    with ParserLog() as log:
        attrs, coords, planes = _metadata(tiff, image, dims, request, file, n_images=n_images)
    found_in_metadata = (*metadata_remarks(attrs), *log.remarks())
    remarks = _remarks(tiff)
    if remarks:
        attrs = {**attrs, "metadata_problem": remarks[0].text}
    on_shape = remark_on_shape(image, levels[0])
    if request.palette != "index" and image.keyframe.photometric == PALETTE:
        levels = _coloured(levels, image, url, in_bytes=request.palette == "all")
        dims = (*dims, "s")
        attrs = of_expanded_palette(attrs)
    elif request.palette == "all" and "s" in dims:
        of_colours = colour_attributes(tiff, image, dims)
        converted = in_rgb(levels, dims, of_colours, url)
        if converted is not None:
            levels, attrs = converted, of_converted(attrs)
            coords.pop("s", None)
    return ParsedImage(
        dims=dims,
        levels=tuple(levels),
        attrs=attrs,
        coords=coords,
        planes=planes,
        depends_on_name=bool(tiff.is_ome or tiff.is_micromanager or tiff.is_ndtiff),
        remarks=(*remarks, *on_shape),
        metadata_remarks=found_in_metadata,
    )


def _make_level(series: Any, frames: Frames, url: str) -> Level | Derived:
    """The level of a series, including the steps that turn its pages into the image."""
    shape = tuple(int(n) for n in series.shape)
    level: Level | Derived | None = make_level(series, shape, frames, url)
    if level is None:
        pages = page_level(series, frames, url)
        level = Reshaped(pages, _reshaped(shape, pages, series.keyframe.shape))
    if math.prod(level.shape) * level.dtype.itemsize > _MAX_IMAGE_BYTES:
        raise CorruptFileError(
            f"{url} declares an image of the impossible shape {level.shape}", url=url
        )
    if series.transform is not None:
        level = Transformed(level, np.dtype(series.dtype), series.transform)
    return level


def _reshaped(shape: tuple[int, ...], pages: Level, page_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that tifffile gives to an image whose metadata do not match its pages."""
    n_images, remainder = divmod(math.prod(pages.shape), math.prod(shape))
    if n_images == 1 and not remainder:
        return shape
    if not remainder:
        return (n_images, *shape)
    return (len(pages.pages), *page_shape)


def _coloured(
    levels: list[Level | Derived], image: Any, url: str, *, in_bytes: bool
) -> list[Level | Derived]:
    """Levels with the palette of the image expanded, perhaps to 8 bits."""
    n_samples = int(image.keyframe.samplesperpixel)
    if n_samples > 1:
        raise UnsupportedFormatError(
            f"{url} has {n_samples} samples a pixel; expanding the palette of one of them is not"
            ' supported, but they can be read as they are (palette="index")',
            url=url,
        )
    colormap = image.keyframe.colormap
    for page in image:
        if page is None or page is image.keyframe:
            continue
        own = page.aspage().colormap
        if own is None or not np.array_equal(own, colormap):
            raise UnsupportedFormatError(
                f"page {page.index} of {url} has a palette of its own; read the indices"
                ' (palette="index") and expand each page with its own palette',
                url=url,
            )
    if colormap is None:
        raise CorruptFileError(f"{url} has no palette for its indices", url=url)
    colours = eight_bits(colormap) if in_bytes else np.asarray(colormap)
    return [Coloured(level, colours, url) for level in levels]


def _dims(series: Any, level: Level | Derived) -> tuple[str, ...]:
    """Names of the axes; an axis that tifffile calls samples but stores as pages is ``page``."""
    letters = series.axes
    if level.shape != tuple(series.shape):
        # The metadata do not match the pages: the pages make up several such images, or none.
        is_multiple = level.shape[1:] == tuple(series.shape)
        letters = "Q" + (letters if is_multiple else series.keyframe.axes)
    paged = level.geometry.page_axes if isinstance(level, Level) else ()
    names: list[str] = []
    for axis, letter in enumerate(letters):
        name = _AXIS_NAMES.get(letter, letter.lower())
        if letter == "S" and axis in paged and level.shape[axis] > 1:
            name = "page"
        base, n = name, 2
        while name in names:
            name, n = f"{base}{n}", n + 1
        names.append(name)
    return tuple(names)


def _metadata(
    tiff: Any,
    image: Any,
    dims: tuple[str, ...],
    request: ParseRequest,
    file: SparseFile,
    *,
    n_images: int,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, PlaneValues]]:
    """Attributes and coordinates of an image, and what differs between its planes."""
    attrs: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    planes: dict[str, PlaneValues] = {}
    if request.metadata:
        file.fetches = not request.only_compared
        try:
            compared = file if request.only_compared else None
            attrs, coords, planes = describe(tiff, image, dims, request.series, compared=compared)
        except NotFetchedError:
            return {}, {}, {}
        finally:
            file.fetches = True
        if n_images > 1:
            attrs = {**attrs, "n_series": n_images}
    return attrs, coords, planes


def _remarks(tiff: Any) -> tuple[Remark, ...]:
    """A remark if the OME-XML is in another file."""
    companion = binary_only(tiff.ome_metadata or "") if tiff.is_ome else None
    if not companion:
        return ()
    problem = f"its OME-XML refers to {companion}, which is missing or not part of the image"
    return (Remark("metadata-problem", problem),)
