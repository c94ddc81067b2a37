"""Shards and chunks as bytes. Pure.

A shard is its chunks in C order, then an index of an offset and a size for each, then the index's
CRC-32C: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html. Encoding
by hand is a few lines and gives the same bytes each time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CorruptFileError
from cloudimg.migration.encode.codecs import Codec

Array = npt.NDArray[Any]
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""A function like `map`."""

_ABSENT = 2**64 - 1
_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """A shard that can be stored."""

    data: bytearray | None
    """None where every chunk is empty: nothing is stored."""
    empty: bytes
    """Packed bits, one per chunk in C order: 1 where it is all fill value."""


def encode_shard(
    pixels: Array,
    shard: Sequence[int],
    chunk: Sequence[int],
    codec: Codec,
    fill_value: Any,
    *,
    each: Each = map,
) -> EncodedShard:
    """Encode a shard.

    Parameters
    ----------
    pixels : ndarray
        What of the shard lies within the array; chunks are filled up with the fill value.
    shard, chunk : sequences of int
        Shapes; the first a multiple of the second.
    codec : Codec
    fill_value : scalar
    each : callable
        Like `map`; the result is the same whatever it is.
    """
    grid = tuple(n // m for n, m in zip(shard, chunk, strict=True))
    index = np.full((int(np.prod(grid, dtype=np.int64)), 2), _ABSENT, "<u8")
    data = bytearray()
    encoded = _encoded(pixels, grid, chunk, codec, fill_value, each)
    for number, part in enumerate(encoded):
        if part is not None:
            index[number] = len(data), len(part)
            data += part
    empty = np.packbits(index[:, 0] == _ABSENT).tobytes()
    if not data:
        return EncodedShard(None, empty)
    table = index.tobytes()
    data += table
    data += _checksum(table)
    return EncodedShard(data, empty)


def encode_chunks(
    pixels: Array, chunk: Sequence[int], codec: Codec, fill_value: Any, *, each: Each = map
) -> Iterator[tuple[tuple[int, ...], bytes | None]]:
    """Positions and bytes of chunks that are objects of their own; None where one is empty."""
    grid = tuple(-(-n // m) for n, m in zip(pixels.shape, chunk, strict=True))
    encoded = _encoded(pixels, grid, chunk, codec, fill_value, each)
    yield from zip(np.ndindex(*grid), encoded, strict=True)


def _encoded(
    pixels: Array,
    grid: Sequence[int],
    chunk: Sequence[int],
    codec: Codec,
    fill_value: Any,
    each: Each,
) -> Iterable[bytes | None]:
    fill = np.asarray(fill_value, pixels.dtype)
    return each(partial(_encode_chunk, pixels, tuple(chunk), codec, fill), np.ndindex(*grid))


def _encode_chunk(
    pixels: Array, chunk: tuple[int, ...], codec: Codec, fill: Array, at: tuple[int, ...]
) -> bytes | None:
    region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, chunk, strict=True))
    part = np.ascontiguousarray(pixels[region])
    if _is_all(part, fill):
        return None
    if part.shape != chunk:
        whole = np.full(chunk, fill, pixels.dtype)
        whole[tuple(slice(0, n) for n in part.shape)] = part
        part = whole
    return codec.encode(part)


def _is_all(part: Array, fill: Array) -> bool:
    """Whether every pixel has the fill value's very bits: -0.0 is not 0.0, NaN is NaN."""
    if part.size == 0:
        return True
    width = f"V{part.itemsize}" if part.itemsize not in (1, 2, 4, 8) else f"u{part.itemsize}"
    bits, wanted = part.reshape(-1).view(width), fill.reshape(1).view(width)[0]
    # Most chunks differ in their first pixels: the whole is looked at only where they do not.
    return bool((bits[:64] == wanted).all() and (bits == wanted).all())


def _checksum(table: bytes) -> bytes:
    import google_crc32c

    return struct.pack("<I", google_crc32c.value(table))


def decode_shard(
    data: bytes | bytearray | memoryview,
    shard: Sequence[int],
    chunk: Sequence[int],
    codec: Codec,
    dtype: npt.DTypeLike,
    fill_value: Any,
    shape: Sequence[int],
) -> Array:
    """Pixels of a shard, of which `shape` lies within the array.

    Raises
    ------
    CorruptFileError
        If the bytes are no such shard, with the reason.
    """
    grid = tuple(n // m for n, m in zip(shard, chunk, strict=True))
    index = _read_index(data, int(np.prod(grid, dtype=np.int64)))
    pixels = np.full(shape, fill_value, dtype)
    view = memoryview(data)
    for at, (offset, size) in zip(np.ndindex(*grid), index.tolist(), strict=True):
        if offset == _ABSENT:
            continue
        region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, chunk, strict=True))
        place = pixels[region]
        try:
            found = codec.decode(view[offset : offset + size], dtype, chunk)
        except CorruptFileError as exc:
            raise CorruptFileError(
                f"chunk {at}: {exc.message}", byte_range=(offset, offset + size)
            ) from None
        place[...] = found[tuple(slice(0, n) for n in place.shape)]
    return pixels


def _read_index(data: bytes | bytearray | memoryview, n_chunks: int) -> npt.NDArray[np.uint64]:
    begin = len(data) - n_chunks * _ENTRY_BYTES - _CHECKSUM_BYTES
    if begin < 0:
        raise CorruptFileError(f"{len(data)} bytes are too few for the index of {n_chunks} chunks")
    table = bytes(data[begin:-_CHECKSUM_BYTES])
    span = (begin, len(data))
    if _checksum(table) != bytes(data[-_CHECKSUM_BYTES:]):
        raise CorruptFileError("the index does not have its checksum", byte_range=span)
    index = np.frombuffer(table, "<u8").reshape(-1, 2)
    stored = index[(index != _ABSENT).any(axis=1)].tolist()
    end = 0
    for offset, size in sorted(stored):
        if offset != end or offset + size > begin:
            raise CorruptFileError(
                f"chunk at {offset}-{offset + size} where {end} is due", byte_range=span
            )
        end = offset + size
    if end != begin:
        raise CorruptFileError(f"bytes {end}-{begin} belong to no chunk", byte_range=(end, begin))
    return index


def decode_chunk(
    data: bytes | bytearray | memoryview, chunk: Sequence[int], codec: Codec, dtype: npt.DTypeLike
) -> Array:
    """Pixels of a chunk that is an object of its own.

    Raises
    ------
    CorruptFileError
    """
    return codec.decode(data, dtype, chunk)
