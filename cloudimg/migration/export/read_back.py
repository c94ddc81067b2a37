"""Read a TIFF that was just written, before it is stored: its structure, pixels and tags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.migration.export.tiff_writer import Directory, Tag
from cloudimg.tiff.ifd import TYPE_BYTES, Dialect, entries_of, read_dialect
from cloudimg.tiff.parser_log import ParserLog
from cloudimg.tiff.tifffile_private import open_alone

Array = npt.NDArray[Any]
Digest = bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """What an IFD of a file must hold."""

    digest: Digest
    """Digest of its pixels."""
    levels: tuple[Digest, ...] = ()
    """Digests of the pixels of the IFDs that SubIFDs points at."""


class PlaneDigest:
    """Digest of the pixels of a plane, in C order and little-endian."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, pixels: Array) -> None:
        """Add the next rows."""
        plain = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        self._hash.update(plain.reshape(-1).view(np.uint8).data)

    def value(self) -> Digest:
        """The digest of all rows."""
        return self._hash.digest()


def digest_of(pixels: Array) -> Digest:
    """Digest of the pixels of a whole plane."""
    digest = PlaneDigest()
    digest.add(pixels)
    return digest.value()


def order_of_pages(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> list[int] | None:
    """By plane of a file's first image, the number of its page.

    None if the pages make another image: one of another shape, apart from axes of length 1, of
    another type, or of transformed pixels.

    Parameters
    ----------
    path : Path
    shape : sequence of int
        Shape of the image.
    dtype : numpy.dtype
        Type of its pixels.
    """
    import tifffile

    try:
        with ParserLog(), open_alone(path) as tiff:
            image = tiff.series[0]
            is_same = [n for n in image.shape if n > 1] == [n for n in shape if n > 1]
            if not is_same or image.dtype != dtype or image.transform is not None:
                return None
            pages = list(image)
            return None if None in pages else [page.index for page in pages]
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # tifffile raises all of these for metadata that it cannot interpret


def check_pixels(path: Path, expected: Sequence[Expected], url: str) -> None:
    """Compare the pixels of each IFD with those that were to be written.

    Parameters
    ----------
    path : Path
    expected : sequence of Expected
        For each IFD.
    url : str
        URL that the file is to have, for messages.

    Raises
    ------
    CorruptFileError
    """
    with ParserLog(), open_alone(path) as tiff:
        if len(tiff.pages) != len(expected):
            raise _differs(url, f"{len(tiff.pages)} pages instead of {len(expected)}")
        for number, one in enumerate(expected):
            page = tiff.pages[number].aspage()
            if _digest_of_page(page) != one.digest:
                raise _differs(url, f"other pixels in page {number}")
            for level, digest in enumerate(one.levels):
                if _digest_of_page(page.pages[level].aspage()) != digest:
                    raise _differs(url, f"other pixels in level {level + 1} of page {number}")


def check_levels(path: Path, expected: Sequence[Sequence[Digest]], url: str) -> None:
    """Compare the pixels of all planes of the first image, by level; see `check_pixels`."""
    with ParserLog(), open_alone(path) as tiff:
        levels = tiff.series[0].levels
        if len(levels) != len(expected):
            raise _differs(url, f"{len(levels)} levels instead of {len(expected)}")
        for number, (level, digests) in enumerate(zip(levels, expected, strict=True)):
            found = [_digest_of_page(page.aspage()) for page in level]
            if found != list(digests):
                raise _differs(url, f"other pixels in level {number}")


def _digest_of_page(page: Any) -> Digest:
    digest = PlaneDigest()
    for rows in _bands(page):
        digest.add(rows)
    return digest.value()


def _bands(page: Any) -> Iterator[Array]:
    """The pixels of a page in C order: a strip, or a row of tiles, at a time."""
    height, width = page.imagelength, page.imagewidth
    band: Array | None = None
    for pixels, (_, _, top, left, _), (_, _, n_columns, n_samples) in page.segments(maxworkers=1):
        if pixels is None:
            return  # not stored, which this package never writes
        part = pixels[0, : height - top, : width - left]
        if not page.is_tiled:
            yield part
            continue
        if left == 0:
            band = np.empty((part.shape[0], width, n_samples), pixels.dtype)
        if band is not None:
            band[:, left : left + n_columns] = part
            if left + n_columns >= width:
                yield band


def check_tags(file: BinaryIO, chain: Sequence[Directory], url: str) -> None:
    """Compare the tags of all IFDs of a file with those that were to be written.

    Raises
    ------
    CorruptFileError
    """

    def read(start: int, n_bytes: int) -> bytes:
        file.seek(start)
        data = file.read(n_bytes)
        if len(data) < n_bytes:
            raise _differs(url, f"only {start + len(data)} bytes")
        return data

    found = read_dialect(read(0, 16))
    if found is None:
        raise _differs(url, "no header of a TIFF")
    dialect, start = found
    for number, directory in enumerate(chain):
        _check_directory(read, dialect, start, directory, f"{url}: IFD {number}")
        n_tags = dialect.unpack_count(read(start, dialect.count_bytes))
        link = start + dialect.count_bytes + n_tags * dialect.entry_bytes
        start = dialect.unpack_offset(read(link, dialect.offset_bytes))
    if start:
        raise _differs(url, "further IFDs")


def _check_directory(
    read: Any, dialect: Dialect, start: int, expected: Directory, where: str
) -> None:
    stored = {
        code: Tag(code, kind, count, read(at, TYPE_BYTES.get(kind, 0) * count))
        for code, kind, count, at in entries_of(read, dialect, start) or ()
    }
    subs = {code: directories for code, _, directories in expected.subs}
    wanted = {tag.code: tag for tag in expected.tags}
    if stored.keys() != wanted.keys() | subs.keys():
        raise _differs(
            where, f"other tags: {sorted(stored.keys() ^ (wanted.keys() | subs.keys()))}"
        )
    for code, tag in stored.items():
        if code in wanted and wanted[code] != tag:
            raise _differs(where, f"another value of tag {code}")
        width = TYPE_BYTES[tag.type]
        for i, directory in enumerate(subs.get(code, ())):
            at = int.from_bytes(tag.data[i * width : (i + 1) * width], dialect.byteorder)
            _check_directory(read, dialect, at, directory, f"{where}, tag {code}")


def _differs(url: str, what: str) -> CorruptFileError:
    return CorruptFileError(
        f"{url} was written and read back with {what}, so it was not stored: please report this",
        url=url,
    )
