"""From the header of a TIFF to its levels: tifffile parses, this module asks it the questions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import IO, Any, cast

import numpy as np

from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    CorruptFileError,
    FormatError,
    NotTiffError,
    UnsupportedFormatError,
)
from cloudimg.settings import DecodeLimits
from cloudimg.tiff.derived import PALETTE, Coloured, Derived, Reshaped, Transformed
from cloudimg.tiff.level import Level
from cloudimg.tiff.limits import check_description, check_ome
from cloudimg.tiff.members import Offsets, parse_member
from cloudimg.tiff.membership import find_membership
from cloudimg.tiff.metadata import describe
from cloudimg.tiff.multifile import binary_only
from cloudimg.tiff.pages import make_level, page_level
from cloudimg.tiff.parsed import ParsedImage
from cloudimg.tiff.sparse import SparseFile

# tifffile's one-letter codes; I and Q (sequences without a meaning) are pages.
_AXIS_NAMES = {"X": "x", "Y": "y", "Z": "z", "C": "c", "T": "t", "S": "s", "I": "page", "Q": "page"}
_MAX_IMAGE_BYTES = 2**62
"""Beyond it no array can even be described."""
_MAX_TEMPLATE_BYTES = 256 * 2**10


class Template:
    """A parsed header, for files whose headers are the same byte for byte.

    Parsing holds the interpreter's lock for 0.2 ms a file, and the files of an archive are mostly
    written by one program in one go. The parser is a function of what it reads: a file that has
    the same bytes in all of these places parses to the same, so comparing them is as safe.
    """

    def __init__(self, parsed: ParsedImage, file: SparseFile, kind: tuple[Any, ...]) -> None:
        self._parsed = parsed
        self._kind = kind
        reads = file.take_reads()
        small = sum(stop - start for start, stop in reads) <= _MAX_TEMPLATE_BYTES
        parts = [(start, file.have(start, stop)) for start, stop in reads] if small else []
        self._bytes = [(start, bytes(part)) for start, part in parts if part is not None]
        # Decoders that go back to the file would find the other one; a part in two fragments
        # is not worth comparing.
        self._is_usable = (
            small
            and len(self._bytes) == len(parts)
            and not parsed.depends_on_name
            and not any(level.is_bound for level in parsed.levels)
        )

    def matching(self, file: SparseFile, kind: tuple[Any, ...], url: str) -> ParsedImage | None:
        """What parsing `file` would give, or None where it must be parsed."""
        if not self._is_usable or kind != self._kind:
            return None
        for start, part in self._bytes:
            if file.have(start, start + len(part)) != part:
                return None
        return replace(self._parsed, levels=tuple(level.of(url) for level in self._parsed.levels))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseRequest:
    """What of a file to parse."""

    series: int
    """Which image of the file."""
    ignore_siblings: bool
    """The file is one of many of a grid: where its OME-XML describes pages of other files too, the
    pages that it has itself are the image."""
    palette: str
    """``"rgb"`` has palettes expanded."""
    metadata: bool
    """Whether attributes and coordinates are wanted."""
    limits: DecodeLimits
    member: Offsets | None = None
    """The file is a member of a set, and its pages are wanted by these numbers."""


def parse_tiff(file: SparseFile, request: ParseRequest, *, url: str, name: str) -> ParsedImage:
    """Parse a header, fetching what it needs of it.

    Parameters
    ----------
    file : SparseFile
    request : Request
    url : str
        For messages.
    name : str
        File name; its extension tells tifffile some vendors' formats.

    Raises
    ------
    NotTiffError, CorruptFileError, UnsupportedFormatError, LimitError, StorageError
    """
    try:
        return _parse(file, request, url, name, {})
    except CloudimgError:
        raise
    except Exception as exc:  # noqa: BLE001
        if file.error is not None:
            raise file.error from None
        raise _wrapped(exc, url) from None


def open_tiff(file: SparseFile, url: str, name: str, limits: DecodeLimits, **flags: Any) -> Any:
    """The file as a `tifffile.TiffFile`, if its descriptions can be parsed at all."""
    import tifffile

    file.seek(0)
    tiff = tifffile.TiffFile(cast(IO[bytes], file), name=name, _multifile=False, **flags)
    if tiff.pages:
        check_description(tiff.pages.first.description, url, limits)
        if tiff.is_ome and "<!DOCTYPE" in (tiff.ome_metadata or ""):
            # OME-XML never has a DTD, and one can define entities that expand without end.
            return open_tiff(file, url, name, limits, is_ome=False)
        if tiff.is_ome:
            check_ome(tiff.ome_metadata or "", url, max(2, tiff.pages.first.size))
    return tiff


def _parse(
    file: SparseFile, request: ParseRequest, url: str, name: str, flags: dict[str, Any]
) -> ParsedImage:
    tiff = open_tiff(file, url, name, request.limits, **flags)
    if request.member is not None:
        in_colour = request.palette == "rgb"
        return parse_member(
            tiff, url, request.member, metadata=request.metadata, in_colour=in_colour
        )
    membership = None if request.ignore_siblings else find_membership(tiff, name, request.series)
    if membership is not None:
        return ParsedImage((), (), {}, {}, 1, True, membership)
    found = _series(tiff, file)
    if not found:
        raise CorruptFileError(f"{url} is a TIFF without images", url=url)
    if not 0 <= request.series < len(found):
        raise ArgumentError(f"series={request.series}, but {url} has {len(found)} images", url=url)
    image = found[request.series]
    if (
        request.ignore_siblings
        and tiff.is_ome
        and not flags
        and any(page is None for page in image)
    ):
        return _parse(file, request, url, name, {"is_ome": False})
    levels = [_make_level(level, url) for level in image.levels]
    dims = _dims(image, levels[0])
    attrs, coords = describe(tiff, image, dims, request.series) if request.metadata else ({}, {})
    if request.metadata and len(found) > 1:
        attrs = {**attrs, "n_series": len(found)}
    if tiff.is_ome and (companion := binary_only(tiff.ome_metadata or "")):
        problem = f"what its pages mean is told by {companion}, which is not there"
        attrs = {**attrs, "metadata_problem": problem}
    if request.palette == "rgb" and image.keyframe.photometric == PALETTE:
        _refuse_own_palettes(image, url)
        levels = [_coloured(level, image.keyframe, url) for level in levels]
        dims = (*dims, "s")
    if file.error is not None:
        raise file.error
    depends_on_name = bool(tiff.is_ome or tiff.is_micromanager or tiff.is_ndtiff)
    return ParsedImage(dims, tuple(levels), attrs, coords, len(found), depends_on_name)


def _series(tiff: Any, file: SparseFile) -> list[Any]:
    """tifffile's series; of a chain that breaks behind its first page, that page."""
    import tifffile

    try:
        found: list[Any] = tiff.series
    except Exception:
        if file.error is not None or len(tiff.pages) > 2:
            raise
        page = tiff.pages.first
        found = [tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes)]
    if file.error is not None:
        raise file.error
    return found


def _make_level(series: Any, url: str) -> Level | Derived:
    """The level of a series, whatever its pages must go through to become its image."""
    shape = tuple(int(n) for n in series.shape)
    level: Level | Derived | None = make_level(series, shape, url)
    if level is None:
        pages = page_level(series, url)
        level = Reshaped(pages, _reshaped(shape, pages, series.keyframe.shape))
    if math.prod(level.shape) * level.dtype.itemsize > _MAX_IMAGE_BYTES:
        raise CorruptFileError(f"{url} claims an image of shape {level.shape}", url=url)
    if series.transform is not None:
        level = Transformed(level, np.dtype(series.dtype), series.transform)
    return level


def _reshaped(shape: tuple[int, ...], pages: Level, page_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image whose metadata do not fit its pages, as tifffile gives it."""
    n_pixels = math.prod(pages.shape)
    rest, left_over = divmod(n_pixels, math.prod(shape))
    if rest == 1 and not left_over:
        return shape
    if not left_over:
        return (rest, *shape)
    return (len(pages.pages), *page_shape)


def _refuse_own_palettes(series: Any, url: str) -> None:
    """That all pages of an image have the palette of the first one."""
    for page in series:
        if page is None or page is series.keyframe:
            continue
        colormap = page.aspage().colormap
        if colormap is None or not np.array_equal(colormap, series.keyframe.colormap):
            raise UnsupportedFormatError(
                f"page {page.index} of {url} has a palette of its own; read the indices"
                ' (palette="index") and expand each page by its own',
                url=url,
            )


def _coloured(level: Level | Derived, keyframe: Any, url: str) -> Coloured:
    colormap = keyframe.colormap
    if colormap is None:
        raise CorruptFileError(f"{url} has no palette that its indices could mean", url=url)
    return Coloured(level, np.asarray(colormap), url)


def _dims(series: Any, level: Level | Derived) -> tuple[str, ...]:
    """Names of the axes; what tifffile calls samples but stores as pages is an axis of pages."""
    letters = series.axes
    if level.shape != tuple(series.shape):
        # The metadata do not fit the pages: as many images as they make, or just the pages.
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


def _wrapped(exc: Exception, url: str) -> FormatError:
    text = f"{type(exc).__name__}: {exc}"
    if "not a TIFF file" in str(exc) or "invalid TIFF version" in str(exc):
        return NotTiffError(f"{url} is no TIFF ({exc})", url=url)
    return CorruptFileError(f"the header of {url} cannot be read: {text}", url=url)
