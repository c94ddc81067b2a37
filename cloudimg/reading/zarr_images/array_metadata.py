"""`StoredArray`: shape, type and chunks of an array, as its metadata state them. Pure.

Only what can be read is accepted: numbers in a regular grid of chunks whose sizes are possible.
Codecs are those of zarr-python, which says which of them it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from cloudimg.errors import CorruptFileError, LimitError, UnsupportedFormatError
from cloudimg.errors.checked_json import damage

_KINDS = "biufc"
_TYPES_3 = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64", "complex64", "complex128",
}  # fmt: skip
_MOST_DIMS = 32
_MOST_CHUNKS = 2**24
"""Most chunks along an axis: positions between them are kept in memory."""
_MOST_PIXELS_BYTES = 2**62
_SHARDING = "sharding_indexed"
_UNCOMPRESSED = "NONE"
_NO_COMPRESSION = {"bytes", "endian", "transpose", "crc32c", "vlen-utf8", "vlen-bytes"}
"""Codecs that do not make chunks smaller."""
_PLAIN_CODECS = _NO_COMPRESSION | {"gzip", "zstd", "blosc", _SHARDING}
"""Codecs before which chunks are no larger than their pixels, but for a checksum."""
_FILTERED_FACTOR, _CHECKSUMS_BYTES = 16, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """An array of numbers."""

    zarr_format: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """In native byte order."""
    chunk: tuple[int, ...]
    """What is decoded at once."""
    stored: tuple[int, ...]
    """What is stored as one object: a shard, or a chunk."""
    fill_value: int | float | complex | bool
    compression: str
    outer_codec: str
    """Name of the codec that was applied last, checksums aside."""
    has_filters: bool
    """Whether pixels may be larger before they are compressed, as other types have them."""
    dimension_names: tuple[str | None, ...] | None

    @classmethod
    def of(cls, metadata: Mapping[str, Any], zarr_format: int, url: str, limit_bytes: int) -> Self:
        """Take it from the metadata of an array.

        Parameters
        ----------
        metadata : mapping
        zarr_format : int
            2 or 3.
        url : str
            The array, for messages.
        limit_bytes : int
            Bound on the decoded size of a chunk.

        Raises
        ------
        CorruptFileError
            If they are not metadata of an array.
        UnsupportedFormatError
            If its values are not numbers, or its chunks no regular grid.
        LimitError
            If it has more chunks, or larger ones, than can be.
        """
        try:
            found = cls._of(metadata, zarr_format, url)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as exc:
            raise CorruptFileError(
                f"the metadata of the array {url} are damaged: {damage(exc)}", url=url
            ) from exc
        found._check(url, limit_bytes)
        return found

    @classmethod
    def _of(cls, metadata: Mapping[str, Any], zarr_format: int, url: str) -> Self:
        shape = _lengths(metadata["shape"], "shape", least=0)
        if zarr_format == 2:
            dtype = _dtype_2(metadata["dtype"], url)
            chunk = stored = _lengths(metadata["chunks"], "chunks")
            names = None
            compression = outer = (metadata.get("compressor") or {}).get("id", _UNCOMPRESSED)
            has_filters = bool(metadata.get("filters"))
        else:
            dtype = _dtype_3(metadata["data_type"], url)
            grid = metadata["chunk_grid"]
            if grid["name"] != "regular":
                raise UnsupportedFormatError(
                    f"{url} has a chunk grid of the kind {str(grid['name'])[:40]!r}, and only"
                    " regular ones are supported",
                    url=url,
                )
            stored = _lengths(grid["configuration"]["chunk_shape"], "chunk_shape")
            chunk, codecs = _inner(stored, list(metadata["codecs"]))
            names = _names(metadata.get("dimension_names"), len(shape))
            compression, outer = _compression(codecs), _compression(codecs[::-1])
            has_filters = any(codec["name"] not in _PLAIN_CODECS for codec in codecs)
        if not len(shape) == len(chunk) == len(stored) <= _MOST_DIMS:
            raise ValueError("shape and chunks have other numbers of axes")
        return cls(
            zarr_format=zarr_format,
            shape=shape,
            dtype=dtype.newbyteorder("="),
            chunk=chunk,
            stored=stored,
            fill_value=_fill_value(metadata.get("fill_value"), dtype),
            compression=str(compression)[:80],
            outer_codec=str(outer)[:80],
            has_filters=has_filters,
            dimension_names=names,
        )

    def _check(self, url: str, limit_bytes: int) -> None:
        if not self.shape:
            raise UnsupportedFormatError(
                f"{url} is an array without axes, a single value, and no image", url=url
            )
        if math.prod(self.shape) == 0:
            raise CorruptFileError(f"{url} has no pixels: its shape is {self.shape}", url=url)
        n_bytes = math.prod(self.shape) * self.dtype.itemsize
        n_chunks = max(-(-n // m) for n, m in zip(self.shape, self.chunk, strict=True))
        if n_bytes > _MOST_PIXELS_BYTES or n_chunks > _MOST_CHUNKS:
            raise LimitError(
                f"{url} declares the shape {self.shape} in chunks of {self.chunk}, more than"
                f" can be read: at most {_MOST_CHUNKS} chunks along an axis",
                url=url,
            )
        if self.chunk_bytes > limit_bytes:
            raise LimitError(
                f"a chunk of {url} has {self.chunk_bytes} bytes when it is decoded, more than the"
                f" limit of {limit_bytes}: set CLOUDIMG_MAX_SEGMENT_BYTES to read it",
                url=url,
            )

    @property
    def chunk_bytes(self) -> int:
        """Decoded size of a chunk."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @property
    def most_chunk_bytes(self) -> int:
        """Most bytes of a chunk that is decompressed, before filters are undone."""
        return self.chunk_bytes * (_FILTERED_FACTOR if self.has_filters else 1) + _CHECKSUMS_BYTES

    @property
    def stored_bytes(self) -> int:
        """Decoded size of what is stored as one object."""
        return math.prod(self.stored) * self.dtype.itemsize

    @property
    def is_sharded(self) -> bool:
        """Whether several chunks are stored as one object."""
        return self.stored != self.chunk


def _lengths(value: Any, what: str, *, least: int = 1) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what} is not a list")
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int) or each < least:
            raise ValueError(f"{what} has something else than integers from {least}")
    return tuple(value)


def _dtype_2(value: Any, url: str) -> np.dtype[Any]:
    dtype = np.dtype(value) if isinstance(value, str) else np.dtype("O")
    if dtype.kind not in _KINDS or dtype.itemsize > 16:
        raise _unsupported(url, value)
    return dtype


def _dtype_3(value: Any, url: str) -> np.dtype[Any]:
    if not isinstance(value, str) or value not in _TYPES_3:
        raise _unsupported(url, value)
    return np.dtype(value)


def _unsupported(url: str, value: Any) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"{url} has values of the type {str(value)[:80]}, and pixels are integers, floats, complex"
        " numbers or booleans",
        url=url,
    )


def _inner(stored: tuple[int, ...], codecs: Sequence[Any]) -> tuple[tuple[int, ...], Sequence[Any]]:
    """Shape of the chunks in a shard, and their codecs.

    Shards whose pixels were rearranged before count as one chunk.
    """
    if not codecs or codecs[0]["name"] != _SHARDING:
        return stored, codecs
    given = codecs[0]["configuration"]
    inner = _lengths(given["chunk_shape"], "chunk_shape")
    if len(inner) != len(stored) or any(n % m for n, m in zip(stored, inner, strict=True)):
        raise ValueError("shards are not multiples of their chunks")
    return inner, list(given["codecs"])


def _compression(codecs: Sequence[Any]) -> str:
    names = (str(codec["name"]) for codec in codecs)
    return next((name for name in names if name not in _NO_COMPRESSION), _UNCOMPRESSED)


def _names(value: Any, n_dims: int) -> tuple[str | None, ...] | None:
    if not isinstance(value, list) or len(value) != n_dims:
        return None
    return tuple(each if isinstance(each, str) and each else None for each in value)


def _fill_value(value: Any, dtype: np.dtype[Any]) -> int | float | complex | bool:
    """The value of what is not stored, 0 where none is stated.

    Zarr writes floats that JSON lacks as texts, and their bits in hexadecimal.
    """
    if value is None or value == "":
        value = 0
    elif dtype.kind == "c" and isinstance(value, list):
        value = complex(*(_float(part, np.dtype(f"f{dtype.itemsize // 2}")) for part in value))
    elif dtype.kind == "f":
        value = _float(value, dtype)
    elif isinstance(value, str | list):
        raise ValueError("fill_value is not a number")
    filled = np.asarray(value)
    if dtype.kind in "iu" and (filled.dtype.kind not in "iub" or int(value) != _as(value, dtype)):
        raise ValueError("fill_value does not fit the type of the values")
    return _as(value, dtype)  # type: ignore[no-any-return]


def _as(value: Any, dtype: np.dtype[Any]) -> Any:
    return np.asarray(value).astype(dtype.newbyteorder("=")).item()


def _float(value: Any, dtype: np.dtype[Any]) -> float:
    if isinstance(value, str) and value.startswith("0x"):
        bits = int(value, 16).to_bytes(dtype.itemsize, "big")
        return float(np.frombuffer(bits, dtype.newbyteorder(">"))[0])
    return float(value)
