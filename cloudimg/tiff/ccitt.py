"""Decoding CCITT-compressed bilevel segments with libtiff, and counting their rows.

The CCITT decoders of imagecodecs stop early without saying so: of ``testfax4.tiff`` of libtiff's
tests they decode 235 of 3,369 rows, and rows that are missing at the end of a stream stay blank.
imagecodecs contains libtiff as well, which reads whole files only. Each segment is therefore put
into a TIFF of one strip (TIFF 6.0, sections 10 and 11) that libtiff reads in memory.

libtiff fails where a stream of T.6 has too few rows. In streams of T.4 and of modified Huffman
codes it fills such rows with white and warns (``tif_fax3.h``: "Premature EOL", "Premature EOF",
"Line length mismatch", "Bad code word"); a warning about a row is an error here. Where an
application has turned warnings off, the rows of the stream are counted.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloudimg.tiff.ccitt_rows import count_rows
from cloudimg.tiff.ifd import Buffer
from cloudimg.tiff.stream_end import IncompleteError

_T4 = 3
"""Value of Compression."""
_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS = 266, 292, 293
_REVERSED = 2
"""FillOrder of bytes whose lowest bit comes first."""
_LOGGER = "imagecodecs"
_WARNINGS = 1
"""The least ``verbose`` with which `imagecodecs.tiff_decode` logs libtiff's warnings."""
_DAMAGE = re.compile(r"at (?:line|scanline) \d+")
"""Warnings about one row; others are about tags."""
_UNCOMPRESSED = 2
"""Bit of T4Options and T6Options for streams with uncompressed parts, which libtiff refuses."""
_HARMLESS = "without EOL"
"""T.4 prescribes EOL codes; libtiff reads streams without them too."""
_LONG = 4
"""TIFF type of 32-bit integers, which libtiff accepts for every one of these tags."""


def t4_options(page: Any) -> int:
    """The tag T4Options of a `tifffile.TiffPage`, or of the keyframe of a `tifffile.TiffFrame`."""
    if page.keyframe.compression != _T4:
        return 0
    tags = page.tags if hasattr(page, "tags") else page.keyframe.tags
    return int(tags.valueof(_T4_OPTIONS) or 0)


class CcittDecoder:
    """Decoder of the segments of a page, with the signature of `tifffile.TiffPage.decode`.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    """

    def __init__(self, keyframe: Any) -> None:
        self._place = keyframe.decode
        self._tags = {
            259: int(keyframe.compression),
            _FILL_ORDER: int(keyframe.fillorder),
            _T4_OPTIONS: t4_options(keyframe),
        }
        options = self._tags[_T4_OPTIONS] | int(keyframe.tags.valueof(_T6_OPTIONS) or 0)
        self._may_be_uncompressed = bool(options & _UNCOMPRESSED)
        self._is_bilevel = keyframe.bitspersample == 1 and keyframe.shaped[4] == 1

    def __call__(self, data: Buffer | None, index: int) -> Any:
        """See `tifffile.TiffPage.decode`.

        Raises
        ------
        IncompleteError
            Rows are missing or damaged.
        ValueError
            libtiff cannot decode such segments.
        """
        _, place, shape = self._place(None, index)
        if not self._is_bilevel:
            # libtiff's decoder fails as well (tif_fax3.c, Fax3SetupState).
            raise ValueError("CCITT compression of other than bilevel samples is not supported")
        if data is None:
            return None, place, shape
        return self._rows(bytes(data), *shape[1:3]).reshape(shape), place, shape

    def _rows(self, data: bytes, height: int, width: int) -> Any:
        import imagecodecs

        with _warnings() as warnings:
            is_heard = _is_heard(warnings)
            try:
                rows = imagecodecs.tiff_decode(self._file(data, height, width), verbose=_WARNINGS)
            except imagecodecs.TiffError:
                rows = None
        if self._may_be_uncompressed and (rows is None or warnings):
            raise ValueError("the uncompressed mode of CCITT codes is not supported")
        if rows is None:
            n_rows = self._n_rows(data, height, width)
            raise IncompleteError(f"hold {n_rows} of {height} rows")
        if warnings:
            raise IncompleteError(f"do not hold {height} whole rows: {warnings[0]}")
        if not is_heard:
            self._check_unheard(data, height, width)
        return rows

    def _check_unheard(self, data: bytes, height: int, width: int) -> None:
        """Check a stream of which libtiff's warnings would not be heard."""
        n_rows = count_rows(
            data,
            compression=self._tags[259],
            t4_options=self._tags[_T4_OPTIONS],
            width=width,
            most=height,
            is_reversed=self._tags[_FILL_ORDER] == _REVERSED,
        )
        if n_rows < height:
            raise IncompleteError(f"hold {n_rows} of {height} rows")

    def _n_rows(self, data: bytes, height: int, width: int) -> int:
        """Number of rows that can be decoded, by bisection: it is asked for only in errors."""
        import imagecodecs

        low, high = 0, height
        while high - low > 1:
            middle = (low + high) // 2
            try:
                imagecodecs.tiff_decode(self._file(data, middle, width))
                low = middle
            except imagecodecs.TiffError:
                high = middle
        return low

    def _file(self, data: bytes, height: int, width: int) -> bytes:
        """A little-endian TIFF with one strip."""
        tags = {256: width, 257: height, 258: 1, **self._tags, 262: 0, 273: 0, 277: 1, 278: height}
        tags[279] = len(data)
        if tags[259] != _T4:
            del tags[_T4_OPTIONS]
        tags[273] = 8 + 2 + 12 * len(tags) + 4
        entries = (struct.pack("<HHLL", code, _LONG, 1, tags[code]) for code in sorted(tags))
        head = struct.pack("<2sHLH", b"II", 42, 8, len(tags))
        return b"".join((head, *entries, bytes(4), data))


def _is_heard(warnings: list[str]) -> bool:
    """Whether what libtiff logs now is added to these warnings."""
    logging.getLogger(_LOGGER).warning("at line 0")
    is_heard = bool(warnings)
    warnings.clear()
    return is_heard


class _Collector(logging.Filter):
    """Takes libtiff's warnings from the threads that decode; lets all others through."""

    def filter(self, record: logging.LogRecord) -> bool:
        found: list[str] | None = getattr(_of_thread, "warnings", None)
        if found is None:
            return True
        text = record.getMessage()
        if _DAMAGE.search(text) and _HARMLESS not in text and not found:
            found.append(text)
        return False


_COLLECTOR = _Collector()
_of_thread = threading.local()


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the first warning of libtiff about a row that this thread decodes."""
    logger = logging.getLogger(_LOGGER)
    if _COLLECTOR not in logger.filters:
        logger.addFilter(_COLLECTOR)
    found: list[str] = []
    _of_thread.warnings = found
    try:
        yield found
    finally:
        _of_thread.warnings = None
