"""Encode shards and chunks to bytes, and decode them. Pure.

A shard consists of its chunks in C order, an index with the offset and size of each chunk, and the
CRC-32C of the index:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html. It is encoded
here rather than by a library so that the same pixels always give the same bytes.
"""

from __future__ import annotations

import math
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
"""A function with the interface of `map`."""

_ABSENT = 2**64 - 1
_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """A shard as bytes."""

    data: bytearray
    """The bytes to store; only the index if every chunk is empty."""
    empty: bytes
    """Packed bits, one per chunk in C order: 1 if the chunk contains only the fill value."""


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
        The part of the shard within the array; chunks are padded with the fill value.
    shard, chunk : sequences of int
        Shapes, the first a multiple of the second.
    codec : Codec
    fill_value : scalar
    each : callable
        Used in place of `map`, for example to run in threads. The result does not depend on it.
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
    table = index.tobytes()
    data += table
    data += _checksum(table)
    return EncodedShard(data, empty)


def encode_chunks(
    pixels: Array, chunk: Sequence[int], codec: Codec, fill_value: Any, *, each: Each = map
) -> Iterator[tuple[tuple[int, ...], bytes, bool]]:
    """Encode chunks that are stored as separate objects: position, bytes, and whether it is empty.

    Empty chunks contain only the fill value, and are all the same bytes.
    """
    grid = tuple(-(-n // m) for n, m in zip(pixels.shape, chunk, strict=True))
    encoded = _encoded(pixels, grid, chunk, codec, fill_value, each)
    empty: bytes | None = None
    for position, data in zip(np.ndindex(*grid), encoded, strict=True):
        if data is not None:
            yield position, data, False
            continue
        if empty is None:
            empty = codec.encode(np.full(chunk, fill_value, pixels.dtype))
        yield position, empty, True


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
    pixels: Array, chunk: tuple[int, ...], codec: Codec, fill: Array, index: tuple[int, ...]
) -> bytes | None:
    region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, chunk, strict=True))
    part = np.ascontiguousarray(pixels[region])
    if _is_all(part, fill):
        return None
    if part.shape != chunk:
        whole = np.full(chunk, fill, pixels.dtype)
        whole[tuple(slice(0, n) for n in part.shape)] = part
        part = whole
    return codec.encode(part)


def _is_all(part: Array, fill: Array) -> bool:
    """Whether every pixel has the same bits as the fill value: -0.0 is not 0.0, NaN is NaN."""
    if part.size == 0:
        return True
    width = f"V{part.itemsize}" if part.itemsize not in (1, 2, 4, 8) else f"u{part.itemsize}"
    bits, expected = part.reshape(-1).view(width), fill.reshape(1).view(width)[0]
    # Most chunks differ in their first pixels; only the others are compared in full.
    return bool((bits[:64] == expected).all() and (bits == expected).all())


def _checksum(table: bytes) -> bytes:
    import google_crc32c

    return struct.pack("<I", google_crc32c.value(table))


def most_encoded_bytes(
    shard: Sequence[int], chunk: Sequence[int], codec: Codec, dtype: npt.DTypeLike
) -> int:
    """Bytes that a shard, or a chunk that is stored as an object, can have at most."""
    n_chunks = math.prod(n // m for n, m in zip(shard, chunk, strict=True))
    n_bytes = codec.most_encoded_bytes(math.prod(chunk) * np.dtype(dtype).itemsize)
    return n_chunks * (n_bytes + _ENTRY_BYTES) + _CHECKSUM_BYTES


def decode_shard(
    data: bytes | bytearray | memoryview,
    shard: Sequence[int],
    chunk: Sequence[int],
    codec: Codec,
    dtype: npt.DTypeLike,
    fill_value: Any,
    shape: Sequence[int],
) -> Array:
    """Decode a shard.

    Parameters
    ----------
    data : bytes-like
    shard, chunk : sequences of int
        Shapes.
    codec : Codec
    dtype : dtype
    fill_value : scalar
    shape : sequence of int
        Shape of the part of the shard within the array, which is returned.

    Raises
    ------
    CorruptFileError
        If the index or a chunk is damaged, with the byte range.
    """
    grid = tuple(n // m for n, m in zip(shard, chunk, strict=True))
    index = _read_index(data, int(np.prod(grid, dtype=np.int64)))
    pixels = np.full(shape, fill_value, dtype)
    view = memoryview(data)
    for position, (offset, size) in zip(np.ndindex(*grid), index.tolist(), strict=True):
        if offset == _ABSENT:
            continue
        region = tuple(slice(i * n, (i + 1) * n) for i, n in zip(position, chunk, strict=True))
        target = pixels[region]
        try:
            decoded = codec.decode(view[offset : offset + size], dtype, chunk)
        except CorruptFileError as exc:
            raise CorruptFileError(
                f"chunk {position}: {exc.message}", byte_range=(offset, offset + size)
            ) from exc
        target[...] = decoded[tuple(slice(0, n) for n in target.shape)]
    return pixels


def _read_index(data: bytes | bytearray | memoryview, n_chunks: int) -> npt.NDArray[np.uint64]:
    begin = len(data) - n_chunks * _ENTRY_BYTES - _CHECKSUM_BYTES
    if begin < 0:
        raise CorruptFileError(f"{len(data)} bytes are too few for an index of {n_chunks} chunks")
    table = bytes(data[begin:-_CHECKSUM_BYTES])
    span = (begin, len(data))
    if _checksum(table) != bytes(data[-_CHECKSUM_BYTES:]):
        raise CorruptFileError("the checksum of the index does not match", byte_range=span)
    index = np.frombuffer(table, "<u8").reshape(-1, 2)
    stored = index[(index != _ABSENT).any(axis=1)].tolist()
    end = 0
    for offset, size in sorted(stored):
        if offset != end or offset + size > begin:
            raise CorruptFileError(
                f"the index places a chunk at bytes {offset}-{offset + size}, expected at {end}",
                byte_range=span,
            )
        end = offset + size
    if end != begin:
        raise CorruptFileError(
            f"bytes {end}-{begin} do not belong to any chunk", byte_range=(end, begin)
        )
    return index


def decode_chunk(
    data: bytes | bytearray | memoryview, chunk: Sequence[int], codec: Codec, dtype: npt.DTypeLike
) -> Array:
    """Decode a chunk that is stored as a separate object.

    Raises
    ------
    CorruptFileError
        If the bytes cannot be decoded to a chunk of this shape.
    """
    return codec.decode(data, dtype, chunk)
