"""Write a TIFF whose tags are given as bytes: segments first, then all IFDs.

tifffile's writer has no IFDs within IFDs other than further images, writes text as ASCII, and packs
samples of 1 bit only where a pixel has one of them. IFDs are last, so that they may be written
again with other tags, while the segments stay. Layouts: TIFF 6.0, section 2, and the BigTIFF design
of Aware Systems.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cloudimg.tiff.ifd import TYPE_BYTES, Dialect

Array = npt.NDArray[Any]

_STRIP_BYTES = 256 * 2**10
"""Decoded bytes of a strip, about."""
_SHORT, _LONG, _LONG8 = 3, 4, 16
_PACKBITS = "packbits"
_COMPRESSIONS = {None: 1, "lzw": 5, "zlib": 8, _PACKBITS: 32773, "lzma": 34925, "zstd": 50000}
"""Codes of the tag Compression: TIFF 6.0, and libtiff's tiff.h."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as it is stored."""

    code: int
    type: int
    """Number of the type of its values."""
    count: int
    data: bytes
    """The values, in the byte order of the file."""


@dataclass(frozen=True, slots=True)
class Directory:
    """An IFD to write."""

    tags: tuple[Tag, ...]
    subs: tuple[tuple[int, int, tuple[Directory, ...]], ...] = ()
    """Code and type of each tag that points at IFDs, and these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneFormat:
    """How the planes of an image are stored."""

    bits: int
    """Bits of each sample."""
    is_planar: bool
    """Whether each sample has segments of its own: the first axis of three."""
    compression: str | None
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class StoredPlane:
    """Where the segments of a plane are."""

    rows_per_strip: int
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Size of each segment in bytes."""


class TiffWriter:
    """Writes one TIFF.

    Parameters
    ----------
    file : binary file
        Empty, open for writing and reading.
    dialect : Dialect
        Byte order and width of offsets.
    """

    def __init__(self, file: BinaryIO, dialect: Dialect) -> None:
        self._file = file
        self._dialect = dialect
        order = b"II" if dialect.order == "<" else b"MM"
        version = (43, 8, 0) if dialect.is_big else (42,)
        header = order + struct.pack(f"{dialect.order}{len(version)}H", *version)
        self._first_link_bytes = len(header)
        file.write(header + bytes(dialect.offset_bytes))
        self._end = file.tell()

    def write_plane(self, pixels: Array, storage: PlaneFormat) -> StoredPlane:
        """Store the pixels of a plane: y, x and samples, or samples first if they are planar."""
        planes = pixels if storage.is_planar else pixels[None]
        n_rows, row_samples = planes.shape[1], int(np.prod(planes.shape[2:]))
        row_bytes = max(1, -(-row_samples * storage.bits // 8))
        stored = StoredPlane(max(1, min(n_rows, _STRIP_BYTES // row_bytes)))
        encode = _encoder(storage.compression, row_bytes)
        self._file.seek(self._end)
        for plane in planes:
            for top in range(0, n_rows, stored.rows_per_strip):
                rows = plane[top : top + stored.rows_per_strip]
                data = encode(_packed(rows.reshape(len(rows), -1), storage))
                stored.offsets.append(self._file.tell())
                stored.sizes.append(self._file.write(data))
        self._end = self._file.tell()
        return stored

    def write_directories(self, chain: Sequence[Directory]) -> None:
        """Write all IFDs of the file; those that were written before are gone."""
        self._file.seek(self._end)
        self._file.truncate()
        link = self._first_link_bytes
        for directory in chain:
            start = _aligned(self._file.seek(0, 2))
            data = _directory_bytes(directory, start, self._dialect)
            self._file.seek(start)
            self._file.write(data)
            self._file.seek(link)
            self._file.write(_offsets([start], self._dialect.offset_bytes, self._dialect))
            link = start + _link_position(directory, self._dialect)
        self._file.flush()


def storage_tags(
    stored: StoredPlane, shape: Sequence[int], storage: PlaneFormat, dtype: np.dtype[Any]
) -> list[Tag]:
    """The tags that say how a plane is stored, other than what its colours mean."""
    n_samples = 1
    if len(shape) == 3:
        n_samples = shape[0] if storage.is_planar else shape[2]
    height, width = shape[1:] if storage.is_planar else shape[:2]
    order = storage.dialect.order
    size_type = _LONG8 if storage.dialect.is_big else _LONG
    layout = f"{order}{len(stored.offsets)}{'Q' if storage.dialect.is_big else 'I'}"
    tags = [
        Tag(256, _LONG, 1, struct.pack(f"{order}I", width)),
        Tag(257, _LONG, 1, struct.pack(f"{order}I", height)),
        short_tag(258, [storage.bits] * n_samples, order),
        short_tag(259, [_COMPRESSIONS[storage.compression]], order),
        Tag(273, size_type, len(stored.offsets), struct.pack(layout, *stored.offsets)),
        short_tag(277, [n_samples], order),
        Tag(278, _LONG, 1, struct.pack(f"{order}I", stored.rows_per_strip)),
        Tag(279, size_type, len(stored.sizes), struct.pack(layout, *stored.sizes)),
    ]
    sample_format = {"i": 2, "f": 3, "c": 6}.get(dtype.kind)
    if n_samples > 1:
        tags.append(short_tag(284, [2 if storage.is_planar else 1], order))
    if sample_format is not None:
        tags.append(short_tag(339, [sample_format] * n_samples, order))
    return tags


def short_tag(code: int, values: Sequence[int], order: str) -> Tag:
    """A tag of type SHORT."""
    return Tag(code, _SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values))


def _packed(rows: Array, storage: PlaneFormat) -> bytes:
    """Rows as they are stored; each begins at a byte (TIFF 6.0, BitsPerSample)."""
    n_bits = rows.dtype.itemsize * 8
    if rows.dtype != np.bool_ and storage.bits == n_bits:
        return rows.astype(rows.dtype.newbyteorder(storage.dialect.byteorder)).tobytes()
    if storage.bits == 1:
        return np.packbits(rows.astype(np.bool_), axis=1).tobytes()
    big_endian = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">"))
    bits = np.unpackbits(big_endian.view(np.uint8).reshape(*rows.shape, -1), axis=2)
    kept = bits[:, :, n_bits - storage.bits :].reshape(len(rows), -1)
    return np.packbits(kept, axis=1).tobytes()


def _encoder(compression: str | None, row_bytes: int) -> Callable[[bytes], bytes]:
    import imagecodecs

    if compression is None:
        return bytes
    encode: Callable[[bytes], bytes] = getattr(imagecodecs, f"{compression}_encode")
    if compression != _PACKBITS:
        return encode

    def encode_rows(data: bytes) -> bytes:
        # Runs end with their row (TIFF 6.0, section 9).
        return b"".join(encode(data[i : i + row_bytes]) for i in range(0, len(data), row_bytes))

    return encode_rows


# --------------------------------------------------------------------------------------------- IFDs


def _directory_bytes(directory: Directory, start: int, dialect: Dialect) -> bytes:
    """An IFD, followed by its values and the IFDs that it points at; without the link."""
    head = dialect.count_bytes + _n_entries(directory) * dialect.entry_bytes + dialect.offset_bytes
    tail = bytearray()
    tags = [*directory.tags]
    for code, kind, subs in directory.subs:
        starts = []
        for sub in subs:
            tail += bytes(_aligned(head + len(tail)) - head - len(tail))
            starts.append(start + head + len(tail))
            tail += _directory_bytes(sub, starts[-1], dialect)
        size = TYPE_BYTES[kind]
        if max(starts) >= 2 ** (8 * size):
            kind, size = _LONG8, 8
        tags.append(Tag(code, kind, len(starts), _offsets(starts, size, dialect)))
    layout = f"{dialect.order}HH{'Q' if dialect.is_big else 'I'}"
    entries = bytearray(len(tags).to_bytes(dialect.count_bytes, dialect.byteorder))
    for tag in sorted(tags, key=lambda tag: tag.code):
        entries += struct.pack(layout, tag.code, tag.type, tag.count)
        if len(tag.data) <= dialect.offset_bytes:
            entries += tag.data.ljust(dialect.offset_bytes, b"\0")
            continue
        tail += bytes(_aligned(head + len(tail)) - head - len(tail))
        entries += _offsets([start + head + len(tail)], dialect.offset_bytes, dialect)
        tail += tag.data
    return bytes(entries) + bytes(dialect.offset_bytes) + bytes(tail)


def _n_entries(directory: Directory) -> int:
    return len(directory.tags) + len(directory.subs)


def _link_position(directory: Directory, dialect: Dialect) -> int:
    """Where in an IFD the offset of the next one is."""
    return dialect.count_bytes + _n_entries(directory) * dialect.entry_bytes


def _offsets(starts: Sequence[int], size: int, dialect: Dialect) -> bytes:
    return b"".join(start.to_bytes(size, dialect.byteorder) for start in starts)


def _aligned(position: int) -> int:
    """The next position at which an IFD or a value may begin: a word boundary."""
    return position + position % 2
