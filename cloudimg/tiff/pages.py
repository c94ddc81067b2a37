"""Build a `Level` from the pages that tifffile parsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.tiff.geometry import Geometry, PlaneShape, find_geometry
from cloudimg.tiff.level import Level
from cloudimg.tiff.limits import check_layout
from cloudimg.tiff.pieces import Page

_PLAIN_BITS = {8, 16, 32, 64}


class PlainPages(Sequence[Page]):
    """Pages of a stack whose pixels are contiguous; the stack may have only one IFD.

    Parameters
    ----------
    start_bytes : int
        Offset of the pixels of the first page.
    page_bytes : int
        Size of a page.
    count : int
        Number of pages.
    """

    def __init__(self, start_bytes: int, page_bytes: int, count: int) -> None:
        self._start = start_bytes
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
        return Page((self._start + index * self._page_bytes,), (self._page_bytes,), True)


def make_level(series: Any, shape: tuple[int, ...], url: str) -> Level | None:
    """Build the level of a series from its pages.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
    shape : tuple of int
        Shape of the image.
    url : str
        URL of the file, for messages.

    Returns
    -------
    Level or None
        None if each axis of the pages is not one axis of the image.

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
    """A level that decodes each page with the keyframe that tifffile assigned to it."""
    keyframe = series.keyframe
    level = Level(geometry, pages, keyframe, keyframe.dtype, url)
    if isinstance(pages, PlainPages):
        return level
    first_key = _decoding_key(keyframe)
    variants: dict[tuple[Any, ...], Level] = {}
    for number, page in enumerate(series):
        own = page.keyframe if page is not None else keyframe
        key = _decoding_key(own)
        if key == first_key:
            continue
        if key not in variants:
            check_decodable(own, own.shape, url)
            if own.shaped != keyframe.shaped:
                raise CorruptFileError(
                    f"page {page.index} of {url} has shape {own.shaped}, but the first page has"
                    f" {keyframe.shaped}",
                    url=url,
                )
            variants[key] = Level(geometry, pages, own, keyframe.dtype, url)
        level.decode_by(number, variants[key])
    return level


def _decoding_key(page: Any) -> tuple[Any, ...]:
    """Equal for pages with the same decoder and the same fill value."""
    return page.hash, page.nodata


def page_level(series: Any, url: str) -> Level:
    """The pages of a series along one axis, whatever shape the metadata give to the image."""
    keyframe = series.keyframe
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    pages = _pages(series, plane, url)
    geometry = find_geometry((len(pages), *keyframe.shape), plane)
    if geometry is None:
        raise CorruptFileError(f"{url} has pages of the unexpected shape {plane}", url=url)
    return _level(series, geometry, pages, url)


def check_decodable(keyframe: Any, shape: tuple[int, ...], url: str) -> None:
    """Check that pages can be decoded, and prepare their decoder.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError
    """
    if keyframe.dtype is None or min(shape, default=0) < 1:
        raise UnsupportedFormatError(
            f"{url} has pixels that cannot be decoded: shape {shape}, sample format"
            f" {keyframe.sampleformat}, {keyframe.bitspersample} bits",
            url=url,
        )
    if keyframe.is_subsampled and keyframe.is_contiguous:
        raise UnsupportedFormatError(
            f"{url} has subsampled chroma without JPEG compression, which has no decoder", url=url
        )
    check_layout(keyframe, url)
    if keyframe.compression == 1:
        # A predictor belongs to LZW, Deflate and the like (TIFF 6.0, section 14). Without
        # compression libtiff ignores it, and the LSM 510 wrote such files.
        keyframe.predictor = 1
    # tifffile computes the decoder and the fill value on first access; do it while header errors
    # are handled.
    _ = keyframe.decode, keyframe.nodata


def _pages(series: Any, plane: PlaneShape, url: str) -> Sequence[Page | None]:
    if series.dataoffset:
        page_bytes = math.prod(plane) * series.keyframe.dtype.itemsize
        count = math.prod(int(n) for n in series.shape) // math.prod(plane)
        return PlainPages(int(series.dataoffset), page_bytes, count)
    return [page and read_page(page, page.keyframe, url) for page in series]


def read_page(page: Any, keyframe: Any, url: str) -> Page | None:
    """Where the segments of one of tifffile's pages are stored.

    Raises
    ------
    CorruptFileError
    """
    if page is None:
        return None
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) == 0:
        raise CorruptFileError(f"page {page.index} of {url} has no data offsets", url=url)
    if not all(isinstance(n, int) for n in (offsets[0], *counts[:1])):
        raise CorruptFileError(
            f"page {page.index} of {url} has offsets or byte counts that are not integers", url=url
        )
    is_plain = _is_plain(offsets, counts, keyframe)
    if is_plain and offsets[0] == 0:
        if any(counts):
            raise CorruptFileError(
                f"page {page.index} of {url} places its pixels at byte 0, inside the header",
                url=url,
            )
        is_plain = False  # nothing is stored: fill
    return Page(offsets, counts, is_plain, page.jpegtables)


def _is_plain(offsets: Sequence[int], counts: Sequence[int], keyframe: Any) -> bool:
    """Whether a page is one uncompressed array: tifffile's rule, applied to each page's offsets.

    tifffile checks only the keyframe and would misread a page with another layout.
    """
    if not _stores_plain_samples(keyframe):
        return False
    if keyframe.is_tiled and not _tiles_are_rows(keyframe):
        return False
    if len(offsets) == 1 or keyframe.is_stk or keyframe.is_lsm:
        return True
    if sum(counts) != keyframe.nbytes:
        return False
    if not keyframe.is_contiguous and len(offsets) != _n_segments(keyframe):
        return False  # the sum is a coincidence
    return _are_adjacent(offsets, counts)


def _stores_plain_samples(keyframe: Any) -> bool:
    """Whether pixels are stored uncompressed, in samples of whole bytes."""
    return bool(
        keyframe.compression == 1
        and keyframe.sampleformat != 5
        and keyframe.bitspersample in _PLAIN_BITS
        and not keyframe.is_subsampled
    )


def _are_adjacent(offsets: Sequence[int], counts: Sequence[int]) -> bool:
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
    """Whether tiles are as wide as the image, so that their rows are contiguous."""
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
