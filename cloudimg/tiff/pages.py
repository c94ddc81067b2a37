"""From the pages that tifffile parsed to a `Level`: where their segments lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.tiff.geometry import Geometry, PlaneShape, find_geometry
from cloudimg.tiff.level import Level, Page
from cloudimg.tiff.limits import check_layout

_PLAIN_BITS = {8, 16, 32, 64}


class PlainPages(Sequence[Page]):
    """Pages of a stack whose pixels follow one another, which may have only one directory."""

    def __init__(self, first_bytes: int, page_bytes: int, count: int) -> None:
        self._first = first_bytes
        self._page_bytes = page_bytes
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Page: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Page]: ...
    def __getitem__(self, index: int | slice) -> Page | Sequence[Page]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Page((self._first + index * self._page_bytes,), (self._page_bytes,), True)


def make_level(series: Any, shape: tuple[int, ...], url: str) -> Level | None:
    """The level whose pages a series of tifffile's lists.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
    shape : tuple of int
        Of the image.
    url : str
        For messages.

    Returns
    -------
    Level or None
        None where the pages do not make up the image axis by axis.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError
    """
    keyframe = series.keyframe
    check_decodable(keyframe, shape, url)
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    pages = _pages(series, plane, url)
    geometry = find_geometry(shape, plane)
    if geometry is None or geometry.n_pages != len(pages):
        return None
    return _level(series, geometry, pages, url)


def _level(series: Any, geometry: Geometry, pages: Sequence[Page | None], url: str) -> Level:
    """A level that decodes each page by the keyframe that tifffile decodes it by."""
    keyframe = series.keyframe
    level = Level(geometry, pages, keyframe, keyframe.dtype, url)
    if isinstance(pages, PlainPages):
        return level
    kinds = {_kind(keyframe): level}
    for number, page in enumerate(series):
        own = page.keyframe if page is not None else keyframe
        kind = _kind(own)
        if kind == _kind(keyframe):
            continue
        if kind not in kinds:
            check_decodable(own, own.shape, url)
            if own.shaped != keyframe.shaped:
                raise CorruptFileError(
                    f"page {page.index} of {url} has another shape than the first one", url=url
                )
            kinds[kind] = Level(geometry, pages, own, keyframe.dtype, url)
        level.decode_by(number, kinds[kind])
    return level


def _kind(page: Any) -> tuple[Any, ...]:
    """What decides how a page is decoded, and what stands where it stores nothing."""
    return page.hash, page.nodata


def page_level(series: Any, url: str) -> Level:
    """The pages of a series one after another, whatever image they are said to make up."""
    keyframe = series.keyframe
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    pages = _pages(series, plane, url)
    geometry = find_geometry((len(pages), *keyframe.shape), plane)
    if geometry is None:
        raise CorruptFileError(f"pages of shape {plane} in {url} are not understood", url=url)
    return _level(series, geometry, pages, url)


def check_decodable(keyframe: Any, shape: tuple[int, ...], url: str) -> None:
    """Refuse what has no decoder; prepare the decoder of the rest."""
    if keyframe.dtype is None or keyframe._dtype is None or min(shape, default=0) < 1:
        raise UnsupportedFormatError(
            f"{url} holds no image that can be decoded: shape {shape}, sample format"
            f" {keyframe.sampleformat}, {keyframe.bitspersample} bits",
            url=url,
        )
    if keyframe.is_subsampled and keyframe.is_contiguous:
        raise UnsupportedFormatError(
            f"{url} has subsampled chroma without JPEG compression, which has no decoder", url=url
        )
    check_layout(keyframe, url)
    if keyframe.compression == 1:
        # A predictor is part of LZW, Deflate and the like (TIFF 6.0, section 14); libtiff ignores
        # one that stands beside no compression, and LSM 510 wrote such.
        keyframe.predictor = 1
    # What is read late is read now: the decoder, and the fill of segments that are not stored.
    keyframe.init_decode()
    _ = keyframe.nodata


def _pages(series: Any, plane: PlaneShape, url: str) -> Sequence[Page | None]:
    if series.dataoffset:
        page_bytes = math.prod(plane) * np.dtype(series.keyframe._dtype).itemsize
        count = math.prod(int(n) for n in series.shape) // math.prod(plane)
        return PlainPages(int(series.dataoffset), page_bytes, count)
    return [page and read_page(page, page.keyframe, url) for page in series]


def read_page(page: Any, keyframe: Any, url: str) -> Page | None:
    """Where the segments of one of tifffile's pages lie."""
    if page is None:
        return None
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) == 0:
        raise CorruptFileError(f"page {page.index} of {url} has no data offsets", url=url)
    if not all(isinstance(n, int) for n in (offsets[0], *counts[:1])):
        raise CorruptFileError(
            f"page {page.index} of {url} has offsets or byte counts that are no integers", url=url
        )
    is_plain = _is_plain(offsets, counts, keyframe)
    if is_plain and offsets[0] == 0:
        if any(counts):
            raise CorruptFileError(
                f"page {page.index} of {url} places its pixels at byte 0, where the header is",
                url=url,
            )
        is_plain = False  # nothing is stored: fill
    return Page(offsets, counts, is_plain, page.jpegtables)


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
    if not keyframe.is_contiguous and len(offsets) != _n_segments(keyframe):
        return False  # that they add up is chance
    return all(
        counts[i] != 0 and offsets[i] + counts[i] == offsets[i + 1] for i in range(len(offsets) - 1)
    )


def _n_segments(keyframe: Any) -> int:
    samples, depth, height, width, _ = keyframe.shaped
    if keyframe.is_tiled:
        lengths = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
    else:
        lengths = (1, keyframe.rowsperstrip, width)
    sizes = zip((depth, height, width), lengths, strict=True)
    return int(samples * math.prod(-(-size // length) for size, length in sizes))


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
