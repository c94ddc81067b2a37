"""From the header of a TIFF to its levels: tifffile parses, this module asks it the questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from cloudimg.tiff.geometry import Geometry, PlaneShape, find_geometry
from cloudimg.tiff.level import Level, Page
from cloudimg.tiff.metadata import describe, other_ome_files
from cloudimg.tiff.sparse import SparseFile

# tifffile's one-letter codes; I and Q (sequences without a meaning) are pages.
_AXIS_NAMES = {"X": "x", "Y": "y", "Z": "z", "C": "c", "T": "t", "S": "s", "I": "page", "Q": "page"}
_PLAIN_BITS = {8, 16, 32, 64}
_MAX_TEMPLATE_BYTES = 256 * 2**10


@dataclass(frozen=True, slots=True)
class ParsedTiff:
    """One image of a TIFF."""

    dims: tuple[str, ...]
    levels: tuple[Level, ...]
    """By decreasing resolution; the first is the image itself."""
    attrs: Mapping[str, Any]
    coords: Mapping[str, Sequence[Any]]
    """Coordinates that the file itself gives, by dim."""
    n_series: int
    depends_on_name: bool
    """Whether the name of the file took part: OME and Micro-Manager metadata tell files apart."""


class Template:
    """A parsed header, for files whose headers are the same byte for byte.

    Parsing holds the interpreter's lock for 0.2 ms a file, and the files of an archive are mostly
    written by one program in one go. The parser is a function of what it reads: a file that has
    the same bytes in all of these places parses to the same, so comparing them is as safe.
    """

    def __init__(self, parsed: ParsedTiff, file: SparseFile, kind: tuple[Any, ...]) -> None:
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

    def matching(self, file: SparseFile, kind: tuple[Any, ...], url: str) -> ParsedTiff | None:
        """What parsing `file` would give, or None where it must be parsed."""
        if not self._is_usable or kind != self._kind:
            return None
        for start, part in self._bytes:
            if file.have(start, start + len(part)) != part:
                return None
        return replace(self._parsed, levels=tuple(level.of(url) for level in self._parsed.levels))


def parse_tiff(file: SparseFile, *, url: str, name: str, series: int, alone: bool) -> ParsedTiff:
    """Parse a header, fetching what it needs of it.

    Parameters
    ----------
    file : SparseFile
    url : str
        For messages.
    name : str
        File name; its extension tells tifffile some vendors' formats.
    series : int
        Which image of the file.
    alone : bool
        The file is one of many of a grid: where its OME-XML describes pages of other files too,
        the pages that it has itself are the image.

    Raises
    ------
    NotTiffError, CorruptFileError, UnsupportedFormatError, LimitError, StorageError
    """
    try:
        return _parse(file, url, name, series, alone, {})
    except CloudimgError:
        raise
    except Exception as exc:  # noqa: BLE001 - a hostile header can raise anything inside a parser
        if file.error is not None:
            raise file.error from None
        raise _wrapped(exc, url) from None


def _parse(
    file: SparseFile, url: str, name: str, series: int, alone: bool, flags: dict[str, Any]
) -> ParsedTiff:
    import tifffile

    file.seek(0)
    tiff = tifffile.TiffFile(cast(IO[bytes], file), name=name, _multifile=False, **flags)
    found = tiff.series
    if file.error is not None:
        raise file.error
    if not found:
        raise CorruptFileError(f"{url} is a TIFF without images", url=url)
    if not 0 <= series < len(found):
        raise ArgumentError(f"series={series}, but {url} has {len(found)} images", url=url)
    image = found[series]
    if not alone and tiff.is_ome:
        _refuse_part_of_a_set(tiff.ome_metadata or "", name, url)
    if alone and tiff.is_ome and not flags and any(page is None for page in image):
        return _parse(file, url, name, series, alone, {"is_ome": False})
    levels = tuple(_make_level(level, url) for level in image.levels)
    if file.error is not None:
        raise file.error
    dims = _dims(image, levels[0])
    attrs, coords = describe(tiff, image, dims, series)
    depends_on_name = bool(tiff.is_ome or tiff.is_micromanager or tiff.is_ndtiff)
    return ParsedTiff(dims, levels, attrs, coords, len(found), depends_on_name)


def _refuse_part_of_a_set(ome_xml: str, name: str, url: str) -> None:
    """One file of an OME set must not pass for the whole image."""
    others = other_ome_files(ome_xml, name)
    if others:
        shown = ", ".join(sorted(others)[:3])
        raise UnsupportedFormatError(
            f"{url} is one of {len(others) + 1} files of an OME-TIFF set (others: {shown}); open"
            " the set by a pattern or a list, or [url] alone in a list to read just this file",
            url=url,
        )


def _make_level(series: Any, url: str) -> Level:
    keyframe = series.keyframe
    shape = tuple(int(n) for n in series.shape)
    if series.dtype is None or keyframe._dtype is None or not shape or 0 in shape:
        raise UnsupportedFormatError(
            f"{url} holds no image that can be decoded: shape {shape}, sample format"
            f" {keyframe.sampleformat}, {keyframe.bitspersample} bits",
            url=url,
        )
    if keyframe.is_subsampled and keyframe.is_contiguous:
        raise UnsupportedFormatError(
            f"{url} has subsampled chroma without JPEG compression, which has no decoder", url=url
        )
    if series.transform is not None:
        raise UnsupportedFormatError(f"{url}: the {series.kind} transform is not read", url=url)
    # What is read late is read now: the decoder, and the fill of segments that are not stored.
    keyframe.init_decode()
    _ = keyframe.nodata
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    pages: list[Page | None]
    if series.dataoffset is not None:
        pages = _plain_pages(series, plane)
    else:
        pages = [_page(page, keyframe) for page in series]
    geometry = find_geometry(shape, plane)
    if geometry is None or geometry.n_pages != len(pages):
        raise CorruptFileError(
            f"{url}: {len(pages)} pages of shape {tuple(n for n in plane if n > 1)} do not make"
            f" up the image of shape {shape} that its metadata describes",
            url=url,
        )
    return Level(geometry, pages, keyframe, np.dtype(series.dtype), url)


def _plain_pages(series: Any, plane: PlaneShape) -> list[Page | None]:
    """Pages of a stack whose pixels follow one another, which may have only one directory."""
    page_bytes = math.prod(plane) * series.dtype.itemsize
    count = math.prod(series.shape) * series.dtype.itemsize // page_bytes
    first = int(series.dataoffset)
    return [Page((first + i * page_bytes,), (page_bytes,), True) for i in range(count)]


def _page(page: Any, keyframe: Any) -> Page | None:
    if page is None:
        return None
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) == 0:
        raise CorruptFileError(f"page {page.index} has no data offsets")
    return Page(offsets, counts, _is_plain(offsets, counts, keyframe), page.jpegtables)


def _is_plain(offsets: Sequence[int], counts: Sequence[int], keyframe: Any) -> bool:
    """Whether a page is one uncompressed array: tifffile's rule, applied to each page's offsets.

    tifffile asks the keyframe alone, and would misread a page that is laid out otherwise.
    """
    if (
        keyframe.compression != 1
        or keyframe.sampleformat == 5
        or keyframe.bitspersample not in _PLAIN_BITS
        or keyframe.is_subsampled
    ):
        return False
    if keyframe.is_tiled and not _tiles_are_rows(keyframe):
        return False
    if len(offsets) == 1 or keyframe.is_stk or keyframe.is_lsm:
        return True
    if sum(counts) != keyframe.nbytes:
        return False
    return all(
        counts[i] != 0 and offsets[i] + counts[i] == offsets[i + 1] for i in range(len(offsets) - 1)
    )


def _tiles_are_rows(keyframe: Any) -> bool:
    """Whether tiles as wide as the image follow one another like rows."""
    whole_width = (
        keyframe.imagewidth == keyframe.tilewidth
        and keyframe.imagelength % keyframe.tilelength == 0
        and keyframe.tilewidth % 16 == 0
        and keyframe.tilelength % 16 == 0
    )
    if keyframe.tiledepth > 1 or keyframe.imagedepth > 1:
        return bool(
            whole_width
            and keyframe.imagelength == keyframe.tilelength
            and keyframe.imagedepth % keyframe.tiledepth == 0
        )
    return bool(whole_width)


def _dims(series: Any, level: Level) -> tuple[str, ...]:
    """Names of the axes; what tifffile calls samples but stores as pages is an axis of pages."""
    names: list[str] = []
    geometry: Geometry = level.geometry
    for axis, letter in enumerate(series.axes):
        name = _AXIS_NAMES.get(letter, letter.lower())
        if letter == "S" and axis in geometry.page_axes and geometry.shape[axis] > 1:
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
