"""Pages that tifffile decodes by the tags of another page, and whether their own tags agree.

tifffile reads most pages of a stack as frames: it keeps only where their segments are, and takes
everything else from the first page of the image, the keyframe. A page with other samples, another
compression or other strips is then decoded wrongly. Here the entries of each IFD that decide how a
page is decoded are compared with those of its keyframe, in bytes that have been fetched already.

The IFDs of pages that one program wrote have the same layout, and differ only in offsets. An IFD is
therefore compared as one number with all bits masked that may differ, and is parsed only if the
layout changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.tiff.ifd import MOST_TAGS, TYPE_BYTES, Buffer, Dialect, Have
from cloudimg.tiff.tifffile_private import known_pages

Values = tuple[Any, ...]
"""What the tags of `_DEFAULTS` say, in this order; None for a value that is not known."""

_LENGTH, _BITS, _ROWS_PER_STRIP, _SAMPLE_FORMAT = 257, 258, 278, 339
_DEFAULTS: dict[int, tuple[int, ...]] = {
    256: (),
    _LENGTH: (),
    _BITS: (1,),
    259: (1,),  # Compression
    262: (),  # PhotometricInterpretation
    266: (1,),  # FillOrder
    277: (1,),  # SamplesPerPixel
    _ROWS_PER_STRIP: (2**32 - 1,),
    284: (1,),  # PlanarConfiguration
    292: (0,),  # T4Options
    293: (0,),  # T6Options
    317: (1,),  # Predictor
    322: (),  # TileWidth
    323: (),  # TileLength
    338: (),  # ExtraSamples
    _SAMPLE_FORMAT: (1,),
    530: (2, 2),  # YCbCrSubSampling
    32997: (1,),  # ImageDepth
    32998: (1,),  # TileDepth
    42113: (),  # GDAL_NODATA
    50674: (),  # LercParameters
}
"""Tags that decide how a page is decoded, with the value that a page without the tag has (TIFF 6.0;
32997 and 32998 by SGI, 42113 by GDAL, 50674 by Esri). JPEG tables, offsets and byte counts are not
among them: a frame has its own."""
DECIDING = _DEFAULTS.keys() - {42113}
"""Those of them without which pixels are decoded otherwise; GDAL_NODATA fills what is not stored.
"""
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Formats of the types of integers (TIFF 6.0, section 2, and BigTIFF)."""
_MOST_BYTES = 4096
"""Longer values are not compared: no tag that decides has as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The layout of an IFD, and the bits that other IFDs have to share with it."""

    n_bytes: int
    mask: int
    masked: int
    far: tuple[tuple[int, Buffer], ...]
    """Position of the offset of each value that is stored outside the IFD, and the value."""
    values: Values


class Frames:
    """Compares the pages of a file with their keyframes.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    look : callable
        Returns bytes that have been fetched, which then count as read.
    """

    def __init__(self, tiff: Any, look: Have) -> None:
        self._look = look
        self._dialect = Dialect(tiff.byteorder, tiff.is_bigtiff)
        self._is_known = tiff.tiff.tagsize == self._dialect.entry_bytes
        self._last: _Layout | None = None
        self._alike: Any = None

    def read_apart(self, image: Any) -> dict[int, Any]:
        """Read the pages of an image whose own tags do not agree with their keyframe.

        Parameters
        ----------
        image : tifffile.TiffPageSeries

        Returns
        -------
        dict
            Pages by number, each a `tifffile.TiffPage`, or a `tifffile.TiffFrame` whose keyframe
            has the same tags.
        """
        if image is self._alike:
            return {}
        keyframes: dict[tuple[int, Values], Any] = {}
        apart: dict[int, Any] = {}
        pages = known_pages(image)
        for number, values in self._unlike(pages):
            frame = pages[number]
            key = id(frame.keyframe), values
            apart[number] = _read(frame, keyframes.get(key))
            keyframes.setdefault(key, apart[number])
        return apart

    def are_alike(self, image: Any) -> bool:
        """Whether the tags of all pages of an image agree with those of their keyframes."""
        if next(self._unlike(known_pages(image)), None) is not None:
            return False
        self._alike = image
        return True

    def unlike(self, offsets: Sequence[int]) -> list[int]:
        """Numbers of the IFDs at offsets whose tags do not agree with those of the first one."""
        values = [self._values(start) for start in offsets] if self._is_known else []
        expected = values[0] if values else None
        return [number for number, each in enumerate(values) if not _agree(each, expected)]

    def _unlike(self, pages: Sequence[Any]) -> Iterator[tuple[int, Values]]:
        """Numbers of the pages whose tags do not agree with their keyframe, and their values."""
        if not self._is_known or len(pages) < 2:
            return
        keyframe, expected = None, None
        for number, page in enumerate(pages):
            if page is None or not page.is_frame or page.is_virtual:
                continue
            if page.keyframe is not keyframe:
                keyframe = page.keyframe
                expected = self._values(keyframe.offset)
            values = self._values(page.offset)
            if values is not None and not _agree(values, expected):
                yield number, values

    def _values(self, start: int) -> Values | None:
        """What the IFD at an offset says, None if it has not been fetched."""
        last = self._last
        if last is not None and self._is_like(start, last):
            return last.values
        layout = self._read_layout(start)
        if layout is None:
            return None
        self._last = layout
        return layout.values

    def _is_like(self, start: int, last: _Layout) -> bool:
        """Whether the IFD at an offset differs from another one only where it may."""
        data = self._look(start, start + last.n_bytes)
        if data is None or int.from_bytes(data, "little") & last.mask != last.masked:
            return False
        for at, value in last.far:
            found = self._far(data, at, len(value))
            if found is not None and found != value:
                return False
        return True

    def _read_layout(self, start: int) -> _Layout | None:
        """Parse an IFD; None if it has not been fetched or is not one."""
        dialect = self._dialect
        counted = self._look(start, start + dialect.count_bytes)
        if counted is None:
            return None
        n_tags = dialect.unpack_count(counted)
        n_bytes = dialect.count_bytes + n_tags * dialect.entry_bytes
        data = self._look(start, start + n_bytes) if 0 < n_tags <= MOST_TAGS else None
        if data is None:
            return None
        mask = bytearray(n_bytes)
        _set(mask, 0, dialect.count_bytes)
        far: list[tuple[int, Buffer]] = []
        found: dict[int, tuple[Any, ...] | None] = {}
        for at in range(dialect.count_bytes, n_bytes, dialect.entry_bytes):
            _set(mask, at, at + 2)
            code, kind = struct.unpack_from(f"{dialect.order}HH", data, at)
            if code not in _DEFAULTS:
                continue
            value_at = at + dialect.entry_bytes - dialect.offset_bytes
            _set(mask, at, value_at)
            size = TYPE_BYTES.get(kind, 0) * dialect.unpack_offset(data[at + 4 : value_at])
            if size <= dialect.offset_bytes:
                _set(mask, value_at, value_at + size)
                value: Buffer | None = data[value_at : value_at + size]
            else:
                value = self._far(data, value_at, size)
                if value is not None:
                    far.append((value_at, value))
            if size:
                found.setdefault(code, _unpacked(value, kind, dialect.order))
        number = int.from_bytes(mask, "little")
        masked = int.from_bytes(data, "little") & number
        return _Layout(
            n_bytes=n_bytes, mask=number, masked=masked, far=tuple(far), values=_comparable(found)
        )

    def _far(self, data: Buffer, at: int, size: int) -> Buffer | None:
        """The value of a tag whose offset is at a position of an IFD, None if it is not known."""
        offset = self._dialect.unpack_offset(data[at : at + self._dialect.offset_bytes])
        return self._look(offset, offset + size) if size <= _MOST_BYTES else None


def _set(mask: bytearray, start: int, stop: int) -> None:
    mask[start:stop] = b"\xff" * (stop - start)


def _unpacked(value: Buffer | None, kind: int, order: str) -> tuple[Any, ...] | None:
    """Integers, or the bytes of values of other types; None for a value that is not known."""
    if value is None:
        return None
    letter = _INTEGERS.get(kind)
    if letter is None:
        return (bytes(value),)
    return struct.unpack(f"{order}{len(value) // TYPE_BYTES[kind]}{letter}", value)


def _comparable(found: dict[int, tuple[Any, ...] | None]) -> Values:
    """Values in one order, equal where different ones mean the same."""
    values = {code: found.get(code, default) for code, default in _DEFAULTS.items()}
    for code in (_BITS, _SAMPLE_FORMAT):  # of each sample, or of all
        each = values[code]
        values[code] = tuple(dict.fromkeys(each)) if each and len(set(each)) == 1 else each
    length, rows = values[_LENGTH], values[_ROWS_PER_STRIP]
    if length and rows:  # more rows than the page has are one strip
        values[_ROWS_PER_STRIP] = (min(*length, *rows),)
    return tuple(values.values())


def _agree(values: Values | None, expected: Values | None) -> bool:
    """Whether values are the same as far as they are known."""
    if values is None or expected is None or values == expected:
        return True
    return all(
        one == other or one is None or other is None
        for one, other in zip(values, expected, strict=True)
    )


def _read(frame: Any, keyframe: Any) -> Any:
    """One of tifffile's frames as a page, or as a frame of another keyframe."""
    import tifffile

    if keyframe is not None:
        return tifffile.TiffFrame(
            frame.parent, frame.treeindex, offset=frame.offset, keyframe=keyframe
        )
    frame.parent.filehandle.seek(frame.offset)
    return tifffile.TiffPage(frame.parent, frame.treeindex)
