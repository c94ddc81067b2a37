"""Parse the header of a TIFF with tifffile, and build the levels of an image from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np

from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    CorruptFileError,
    FormatError,
    NotTiffError,
    UnsupportedFormatError,
    counted,
)
from cloudimg.tiff.derived import PALETTE, Coloured, Derived, Reshaped, Transformed
from cloudimg.tiff.level import Level
from cloudimg.tiff.limits import DecodeLimits, check_description, check_ome
from cloudimg.tiff.malformed import MALFORMED, is_bug
from cloudimg.tiff.markup import has_document_type
from cloudimg.tiff.members import Offsets, parse_member
from cloudimg.tiff.membership import find_membership
from cloudimg.tiff.metadata import describe
from cloudimg.tiff.multifile import binary_only
from cloudimg.tiff.pages import make_level, page_level
from cloudimg.tiff.parsed import ParsedImage
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import open_alone

# tifffile's one-letter codes; I and Q (sequences of unknown meaning) are pages.
_AXIS_NAMES = {"X": "x", "Y": "y", "Z": "z", "C": "c", "T": "t", "S": "s", "I": "page", "Q": "page"}
_MAX_IMAGE_BYTES = 2**62
"""No array can be larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseRequest:
    """Which image of a file to parse, and how."""

    series: int
    """Number of the image in the file."""
    ignore_siblings: bool
    """The file is one of many of a grid: even if its OME-XML describes pages of other files, the
    image consists of the pages in the file itself."""
    palette: str
    """``"rgb"`` expands palettes to colours."""
    metadata: bool
    """Whether to read attributes and coordinates."""
    limits: DecodeLimits
    member: Offsets | None = None
    """For a file of a multi-file dataset: return all pages, numbered this way."""


def parse_tiff(file: SparseFile, request: ParseRequest, *, url: str, name: str) -> ParsedImage:
    """Parse a header, fetching the parts of it that are needed.

    Parameters
    ----------
    file : SparseFile
    request : ParseRequest
    url : str
        URL of the file, for messages.
    name : str
        File name; tifffile recognizes some vendors' formats by its extension.

    Raises
    ------
    NotTiffError, CorruptFileError, UnsupportedFormatError, LimitError, StorageError
    """
    try:
        return _parse(file, request, url, name)
    except CloudimgError:
        raise
    except MALFORMED as exc:
        error = file.error
        if error is None:
            if is_bug(exc):
                raise
            raise _translated(exc, url) from exc
    # Bytes that could not be fetched are the cause; what tifffile made of that is not.
    raise error


def open_tiff(
    file: SparseFile, url: str, name: str, limits: DecodeLimits, *, is_ome: bool | None = None
) -> Any:
    """Open a file as `tifffile.TiffFile`, after checking that its descriptions can be parsed.

    Parameters
    ----------
    file : SparseFile
    url, name : str
        See `parse_tiff`.
    limits : DecodeLimits
    is_ome : bool, optional
        False ignores OME-XML. None detects it.
    """
    file.seek(0)
    tiff = open_alone(cast(IO[bytes], file), name=name, is_ome=is_ome)
    if tiff.pages:
        check_description(tiff.pages.first.description, url, limits)
        if tiff.is_ome and has_document_type(tiff.ome_metadata or ""):
            return open_tiff(file, url, name, limits, is_ome=False)
        if tiff.is_ome:
            check_ome(tiff.ome_metadata or "", url, max(2, tiff.pages.first.size))
    return tiff


def _parse(
    file: SparseFile, request: ParseRequest, url: str, name: str, *, is_ome: bool | None = None
) -> ParsedImage:
    tiff = open_tiff(file, url, name, request.limits, is_ome=is_ome)
    if request.member is not None:
        in_colour = request.palette == "rgb"
        return parse_member(
            tiff, url, request.member, metadata=request.metadata, in_colour=in_colour
        )
    membership = None if request.ignore_siblings else find_membership(tiff, name, request.series)
    if membership is not None:
        return ParsedImage(
            dims=(), levels=(), attrs={}, coords={}, depends_on_name=True, membership=membership
        )
    images = _images(tiff, file, url)
    if not 0 <= request.series < len(images):
        found = counted(len(images), "image")
        raise ArgumentError(f"series={request.series}, but {url} has {found}", url=url)
    image = images[request.series]
    may_lack_pages = request.ignore_siblings and tiff.is_ome and is_ome is None
    if may_lack_pages and any(page is None for page in image):
        return _parse(file, request, url, name, is_ome=False)
    parsed = _parse_image(tiff, image, request, url, n_images=len(images))
    if file.error is not None:
        raise file.error
    return parsed


def _parse_image(
    tiff: Any, image: Any, request: ParseRequest, url: str, *, n_images: int
) -> ParsedImage:
    levels: list[Level | Derived] = [_make_level(level, url) for level in image.levels]
    dims = _dims(image, levels[0])
    attrs, coords = _metadata(tiff, image, dims, request, n_images=n_images)
    if request.palette == "rgb" and image.keyframe.photometric == PALETTE:
        levels = _coloured(levels, image, url)
        dims = (*dims, "s")
    return ParsedImage(
        dims=dims,
        levels=tuple(levels),
        attrs=attrs,
        coords=coords,
        depends_on_name=bool(tiff.is_ome or tiff.is_micromanager or tiff.is_ndtiff),
    )


def _images(tiff: Any, file: SparseFile, url: str) -> list[Any]:
    """tifffile's series; only the first page if the chain of IFDs breaks after it."""
    import tifffile

    try:
        images: list[Any] = tiff.series
    except MALFORMED as exc:
        if file.error is not None or len(tiff.pages) > 2 or is_bug(exc):
            raise
        page = tiff.pages.first
        images = [tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes)]
    if file.error is not None:
        raise file.error
    if not images:
        raise CorruptFileError(f"{url} is a TIFF without images", url=url)
    return images


def _metadata(
    tiff: Any, image: Any, dims: tuple[str, ...], request: ParseRequest, *, n_images: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and coordinates of an image."""
    attrs: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    if request.metadata:
        attrs, coords = describe(tiff, image, dims, request.series)
        if n_images > 1:
            attrs = {**attrs, "n_series": n_images}
    if tiff.is_ome and (companion := binary_only(tiff.ome_metadata or "")):
        problem = f"its OME-XML refers to {companion}, which is missing"
        attrs = {**attrs, "metadata_problem": problem}
    return attrs, coords


def _make_level(series: Any, url: str) -> Level | Derived:
    """The level of a series, including the steps that turn its pages into the image."""
    shape = tuple(int(n) for n in series.shape)
    level: Level | Derived | None = make_level(series, shape, url)
    if level is None:
        pages = page_level(series, url)
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


def _coloured(levels: list[Level | Derived], image: Any, url: str) -> list[Level | Derived]:
    """Levels with the palette of the image expanded."""
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
    return [Coloured(level, np.asarray(colormap), url) for level in levels]


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


def _translated(exc: Exception, url: str) -> FormatError:
    if "not a TIFF file" in str(exc) or "invalid TIFF version" in str(exc):
        return NotTiffError(f"{url} is not a TIFF ({exc})", url=url)
    text = f"{type(exc).__name__}: {exc}"
    return CorruptFileError(f"the header of {url} cannot be parsed: {text}", url=url)
