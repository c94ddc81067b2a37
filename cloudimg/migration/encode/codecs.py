"""Encode chunks to bytes, decode them, and describe the codec in metadata. Pure.

A chunk is encoded as little-endian pixels in C order, which pass through a chain of compressors.
zstd and blosc run with one thread: with several threads, blosc was observed to produce different
bytes for the same pixels.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.migration.encode import bounded_decoding
from cloudimg.migration.encode.bounded_decoding import largest_encoded
from cloudimg.migration.encode.codec_argument import Configuration, parse_codec

Array = npt.NDArray[Any]
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_BLOSC_INNER = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_FROM_NUMCODECS = ("adler32", "bz2", "crc32", "crc32c", "fletcher32", "lz4", "lzma", "zlib")
"""Further lossless and deterministic codecs, by their names in numcodecs."""
_SUPPORTED = ("none", "zstd", "blosc", "gzip", *_FROM_NUMCODECS)
_IN_ZARR_3 = ("blosc", "crc32c", "gzip", "zstd")
"""Codecs that are part of the Zarr 3 specification."""
_REFUSED = {
    **dict.fromkeys(
        ("astype", "bitround", "fixedscaleoffset", "quantize", "zfpy"),
        "may return other pixels than were written",
    ),
    **dict.fromkeys(
        ("delta", "packbits", "pcodec", "shuffle", "transpose"),
        "works on pixels, but only the bytes of chunks are encoded here (blosc shuffles them)",
    ),
    "sharding_indexed": "is always used: set the shape of shards with shards=",
}


@dataclass(frozen=True, slots=True)
class _Link:
    """One codec of a chain."""

    name: str
    """Name of the codec, as in numcodecs."""
    configuration: Configuration
    """All parameters, with the defaults filled in."""
    encode: Callable[[Any], bytes | bytearray]
    """Encode a buffer."""
    decode: Callable[[Any, int], Any]
    """Decode a buffer to so many bytes at most; raises an exception of the library's own for
    corrupt input."""


class Codec:
    """A chain of compressors for chunks of one dtype, made by `make_codec`. Thread-safe."""

    def __init__(self, links: Sequence[_Link]) -> None:
        self._links = tuple(links)

    @property
    def spec(self) -> dict[str, Any]:
        """JSON from which `codec_from_spec` restores the codec."""
        return {
            "chain": [{"name": k.name, "configuration": dict(k.configuration)} for k in self._links]
        }

    def encode(self, chunk: Array) -> bytes:
        """Encode a C-contiguous little-endian chunk."""
        data: Any = chunk.reshape(-1).view(np.uint8)
        for link in self._links:
            data = link.encode(data)
        return bytes(data)

    def decode(self, data: Any, dtype: npt.DTypeLike, shape: Sequence[int]) -> Array:
        """Decode a chunk.

        Raises
        ------
        CorruptFileError
            If the bytes cannot be decoded, or do not decode to a chunk of this shape.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for link, most in reversed([*zip(self._links, self._sizes(size), strict=False)]):
            try:
                data = link.decode(data, most)
            except (AttributeError, NameError, TypeError):
                raise  # an error in the code: no codec reports corrupt input this way
            except Exception as exc:
                raise CorruptFileError(f"{link.name} cannot decode a chunk: {exc}") from exc
        flat = np.frombuffer(data, np.uint8)
        if flat.size != size:
            raise CorruptFileError(f"a chunk has {flat.size} bytes instead of {size}")
        return flat.view(dtype).reshape(shape)

    def most_encoded_bytes(self, n_bytes: int) -> int:
        """Bytes that a chunk of `n_bytes` has at most when it is encoded."""
        return self._sizes(n_bytes)[-1]

    def _sizes(self, n_bytes: int) -> list[int]:
        """Bytes that each codec of the chain is given, and that the last one returns, at most."""
        sizes = [n_bytes]
        for _ in self._links:
            sizes.append(largest_encoded(sizes[-1]))
        return sizes

    def v3_codecs(self) -> list[dict[str, Any]]:
        """The chain in the metadata of Zarr 3.

        Names and configurations follow
        https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html, or numcodecs for codecs
        that the specification lacks (https://numcodecs.readthedocs.io/en/stable/zarr3.html).
        """
        chain: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        for link in self._links:
            name = link.name if link.name in _IN_ZARR_3 else f"numcodecs.{link.name}"
            entry: dict[str, Any] = {"name": name}
            if name != "crc32c":  # the only codec without parameters
                entry["configuration"] = dict(link.configuration)
            chain.append(entry)
        return chain

    def v2_compressor(self) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None]:
        """Compressor and filters in the metadata of Zarr 2: the last codec, and those before."""
        entries = []
        for link in self._links:
            configuration = dict(link.configuration)
            if link.name == "blosc":
                configuration["shuffle"] = _SHUFFLES[configuration["shuffle"]]
                del configuration["typesize"]
            # tensorstore refuses unknown parameters, and the checksum is always off.
            configuration.pop("checksum", None)
            entries.append({"id": link.name, **configuration})
        if not entries:
            return None, None
        return entries[-1], entries[:-1] or None


def make_codec(codec: Any, dtype: npt.DTypeLike, zarr_format: int) -> Codec:
    """Make a codec from what the user passed as ``codec=``.

    Parameters
    ----------
    codec : str, mapping, codec of zarr or numcodecs, sequence of them, or None
        ``"zstd"``, ``"zstd:5"``, ``"blosc"``, ``"none"``, ``{"name": ..., "configuration": ...}``
        as in Zarr 3, or ``{"id": ...}`` as in Zarr 2. None: the default, blosc with zstd.
    dtype : dtype
    zarr_format : int

    Raises
    ------
    ArgumentError
        If a codec is unknown, lossy or not a compressor of bytes.
    """
    dtype = np.dtype(dtype)
    return Codec([_link(name, given, dtype) for name, given in parse_codec(codec)])


def codec_from_spec(spec: Configuration, dtype: npt.DTypeLike) -> Codec:
    """Restore a codec from `Codec.spec`, as a plan stores it."""
    links = [_link(each["name"], each["configuration"], np.dtype(dtype)) for each in spec["chain"]]
    return Codec(links)


def _link(name: str, given: Configuration, dtype: np.dtype[Any]) -> _Link:
    if name == "zstd":
        return _zstd(given)
    if name == "blosc":
        return _blosc(given, dtype)
    if name == "gzip":
        return _gzip(given)
    if name in _FROM_NUMCODECS:
        return _from_numcodecs(name, given)
    reason = _REFUSED.get(name, "is unknown")
    raise ArgumentError(f"codec {name!r} {reason}: use one of {', '.join(sorted(_SUPPORTED))}")


def _zstd(given: Configuration) -> _Link:
    import imagecodecs

    level = _integer(given, "level", 1, range(-131072, 23), "zstd")
    if given.get("checksum", False):
        raise ArgumentError(
            "codec zstd: checksum=True is not supported; commit records hold checksums"
        )
    _refuse_others(given, ("level", "checksum"), "zstd")
    return _Link(
        "zstd",
        {"level": level, "checksum": False},
        lambda data: imagecodecs.zstd_encode(data, level=level),
        bounded_decoding.decode_zstd,
    )


def _blosc(given: Configuration, dtype: np.dtype[Any]) -> _Link:
    import imagecodecs

    _refuse_others(given, ("cname", "clevel", "shuffle", "typesize", "blocksize"), "blosc")
    inner = str(_unwrapped(given.get("cname", "zstd")))
    if inner not in _BLOSC_INNER:
        raise ArgumentError(
            f"codec blosc: cname={inner!r} must be one of {', '.join(_BLOSC_INNER)}"
        )
    level = _integer(given, "clevel", 1, range(10), "blosc")
    shuffle = _shuffle_name(given.get("shuffle", "shuffle"))
    blocksize = _integer(given, "blocksize", 0, range(2**31), "blosc")
    typesize = dtype.itemsize

    def encode(data: Any) -> bytes | bytearray:
        # imagecodecs ignores typesize= and shuffles by the item size of the buffer, so plain bytes
        # would not be shuffled at all. After another codec the bytes may not be whole pixels.
        flat = np.frombuffer(data, np.uint8)
        items: Any = flat if flat.size % typesize else flat.view(dtype)
        return imagecodecs.blosc_encode(
            items,
            level=level,
            compressor=inner,
            shuffle=_SHUFFLES[shuffle],
            blocksize=blocksize,
            numthreads=1,
        )

    return _Link(
        "blosc",
        {
            "typesize": typesize,
            "cname": inner,
            "clevel": level,
            "shuffle": shuffle,
            "blocksize": blocksize,
        },
        encode,
        bounded_decoding.decode_blosc,
    )


def _unwrapped(value: Any) -> Any:
    """The value of an enumeration member, as zarr uses them; other values as they are."""
    return getattr(value, "value", value)


def _shuffle_name(given: Any) -> str:
    """Name of a shuffle, which Zarr 2 gives as a number."""
    shuffle = _unwrapped(given)
    if isinstance(shuffle, int):
        shuffle = {number: name for name, number in _SHUFFLES.items()}.get(shuffle, shuffle)
    if not isinstance(shuffle, str) or shuffle not in _SHUFFLES:
        raise ArgumentError(
            f"codec blosc: shuffle={shuffle!r} must be one of {', '.join(_SHUFFLES)}"
        )
    return shuffle


def _gzip(given: Configuration) -> _Link:
    # numcodecs writes the current time into the header, so its bytes change every second.
    _refuse_others(given, ("level",), "gzip")
    level = _integer(given, "level", 1, range(10), "gzip")
    return _Link(
        "gzip",
        {"level": level},
        lambda data: gzip.compress(data, level, mtime=0),
        bounded_decoding.decode_gzip,
    )


def _from_numcodecs(name: str, given: Configuration) -> _Link:
    import numcodecs

    if name == "crc32c":
        _refuse_others(given, (), name)  # Zarr 3 allows the checksum at the end only
    try:
        codec = numcodecs.get_codec({**given, "id": name})
        decode = _decoder(name, codec)
        decode(codec.encode(np.zeros(8, np.uint8)), 8)
    except Exception as exc:  # numcodecs has no error of its own: often it is a TypeError
        raise ArgumentError(f"codec {name}: numcodecs refuses {dict(given)!r}: {exc}") from exc
    configuration = {key: value for key, value in codec.get_config().items() if key != "id"}
    return _Link(name, configuration, codec.encode, decode)


def _decoder(name: str, codec: Any) -> Callable[[Any, int], Any]:
    """A function that decodes what a codec of numcodecs has encoded, to a limited size."""
    if name == "lzma":
        return partial(bounded_decoding.decode_lzma, configuration=codec.get_config())
    compressors = {
        "bz2": bounded_decoding.decode_bz2,
        "lz4": bounded_decoding.decode_lz4,
        "zlib": bounded_decoding.decode_zlib,
    }
    # Checksums have no more bytes than are stored.
    return compressors.get(name, lambda data, most: codec.decode(data))


def _integer(given: Configuration, name: str, default: int, allowed: range, codec: str) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ArgumentError(
            f"codec {codec}: {name}={value!r} must be an integer from {allowed.start} to"
            f" {allowed.stop - 1}"
        )
    return value


def _refuse_others(given: Configuration, known: Sequence[str], codec: str) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise ArgumentError(f"codec {codec}: unknown parameter {', '.join(sorted(unknown))}")
