"""Build a `Level` from the pages that tifffile parsed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, overload

from cloudimg.errors import CorruptFileError, UnsupportedFormatError
from cloudimg.tiff.byte_counts import known_counts
from cloudimg.tiff.ccitt import t4_options
from cloudimg.tiff.decoders import find_decoder, ignore_meaningless_tags, refusal
from cloudimg.tiff.extent import Beyond
from cloudimg.tiff.fill_values import fill_value
from cloudimg.tiff.frames import Frames
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

    def beyond(self, size_bytes: int) -> Beyond:
        """Pages that are beyond the end of a file of this size."""
        n_whole = max(0, size_bytes - self._start) // self._page_bytes
        if n_whole >= self._count:
            return Beyond(n_segments=self._count)
        stop = self._start + self._count * self._page_bytes
        return Beyond(stop, self._count - n_whole, 0, self._count)

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


def make_level(series: Any, shape: tuple[int, ...], frames: Frames, url: str) -> Level | None:
    """Build the level of a series from its pages.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
    shape : tuple of int
        Shape of the image.
    frames : Frames
        Compares the pages with the one by whose tags tifffile reads them.
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
    apart = frames.read_apart(series)
    pages = _pages(series, apart, plane, url)
    geometry = find_geometry(shape, plane)
    if geometry is None or geometry.n_pages != len(pages):
        return None
    return _level(series, apart, geometry, pages, url)


def _level(
    series: Any,
    apart: Mapping[int, Any],
    geometry: Geometry,
    pages: Sequence[Page | None],
    url: str,
) -> Level:
    """A level that decodes each page by the tags of its keyframe, or by its own."""
    keyframe = series.keyframe
    level = Level(geometry, pages, keyframe, keyframe.dtype, url)
    if isinstance(pages, PlainPages):
        return level
    first_key = _decoding_key(keyframe)
    variants: dict[tuple[Any, ...], Level] = {}
    for number, page in enumerate(series):
        if page is None:
            continue
        own = apart.get(number, page).keyframe
        if own is keyframe or (key := _decoding_key(own)) == first_key:
            continue
        if key not in variants:
            check_decodable(own, own.shape, url)
            _check_alike(page, own, keyframe, url)
            variants[key] = Level(geometry, pages, own, keyframe.dtype, url)
        level.decode_by(number, variants[key])
    return level


def _decoding_key(page: Any) -> tuple[Any, ...]:
    """Equal for pages with the same decoder and the same fill value."""
    return page.hash, str(fill_value(page)), page.subsampling, t4_options(page)


def _check_alike(page: Any, own: Any, keyframe: Any, url: str) -> None:
    """Check that a page has the shape and the type of the image.

    Raises
    ------
    CorruptFileError
    """
    if own.shaped == keyframe.shaped and own.dtype == keyframe.dtype:
        return
    found, expected = (f"{each.dtype} of shape {each.shape}" for each in (own, keyframe))
    raise CorruptFileError(
        f"page {page.index} of {url} is {found}, but page {keyframe.index} of the same image is"
        f" {expected}: the pages do not belong to one image, or the tags of one of them are"
        " damaged; copy the file again from where it was written",
        url=url,
    )


def page_level(series: Any, frames: Frames, url: str) -> Level:
    """The pages of a series along one axis, whatever shape the metadata give to the image."""
    keyframe = series.keyframe
    plane: PlaneShape = tuple(int(n) for n in keyframe.shaped)  # type: ignore[assignment]
    apart = frames.read_apart(series)
    pages = _pages(series, apart, plane, url)
    geometry = find_geometry((len(pages), *keyframe.shape), plane)
    if geometry is None:
        raise CorruptFileError(f"{url} has pages of the unexpected shape {plane}", url=url)
    return _level(series, apart, geometry, pages, url)


def check_decodable(keyframe: Any, shape: tuple[int, ...], url: str) -> None:
    """Check that pages can be decoded, and prepare their decoder.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError
    """
    if min(shape, default=0) < 1:
        raise UnsupportedFormatError(f"{url} has no pixels: its shape is {shape}", url=url)
    ignore_meaningless_tags(keyframe)
    refused = refusal(keyframe)
    if refused:
        raise UnsupportedFormatError(
            f"{url} cannot be decoded: {refused} are not supported", url=url
        )
    check_layout(keyframe, url)
    # tifffile computes the decoder on first access; do it while header errors are handled.
    find_decoder(keyframe)


def _pages(
    series: Any, apart: Mapping[int, Any], plane: PlaneShape, url: str
) -> Sequence[Page | None]:
    if series.dataoffset and not apart:
        page_bytes = math.prod(plane) * series.keyframe.dtype.itemsize
        count = math.prod(int(n) for n in series.shape) // math.prod(plane)
        return PlainPages(int(series.dataoffset), page_bytes, count)
    own = (apart.get(number, page) for number, page in enumerate(series))
    return [page and read_page(page, page.keyframe, url) for page in own]


def read_page(page: Any, keyframe: Any, url: str) -> Page | None:
    """Where the segments of one of tifffile's pages are stored.

    Raises
    ------
    CorruptFileError
    """
    if page is None:
        return None
    offsets = page.dataoffsets
    if len(offsets) == 0:
        raise CorruptFileError(f"page {page.index} of {url} has no data offsets", url=url)
    counts = known_counts(page, keyframe, offsets)
    if not all(isinstance(n, int) for n in (offsets[0], *counts[:1])):
        raise CorruptFileError(
            f"page {page.index} of {url} has offsets or byte counts that are not integers", url=url
        )
    is_plain = _is_plain(offsets, counts, keyframe)
    if 0 in offsets:
        at_start = [i for i, (o, n) in enumerate(zip(offsets, counts, strict=False)) if n and not o]
        if at_start:
            raise CorruptFileError(
                f"page {page.index} of {url} places segment {at_start[0]} at byte 0, inside the"
                f" header, with a byte count of {counts[at_start[0]]}",
                url=url,
            )
        is_plain = is_plain and offsets[0] != 0  # nothing is stored: fill
    if not is_plain and (page is keyframe or len(offsets) != len(keyframe.dataoffsets)):
        _check_number(page, keyframe, url)
    return Page(offsets, counts, is_plain, page.jpegtables)


def _check_number(page: Any, keyframe: Any, url: str) -> None:
    """Refuse a page with fewer offsets than segments.

    A segment that is not stored has an offset of 0 (GDAL's sparse files). A header of 400 bytes
    could promise billions of segments otherwise.
    """
    n_offsets, needed = len(page.dataoffsets), _n_segments(keyframe)
    if n_offsets < needed:
        what = "tiles" if keyframe.is_tiled else "strips"
        raise CorruptFileError(
            f"page {page.index} of {url} consists of {needed} {what} by its sizes, but has offsets"
            f" of only {n_offsets}",
            url=url,
        )


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
