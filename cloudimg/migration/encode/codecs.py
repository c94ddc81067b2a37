"""How chunks become bytes and back, and what the metadata says of it. Pure.

Chunks are little-endian pixels in C order, sent through a chain of compressors. zstd and blosc
are called with one thread: with several, blosc was seen to give other bytes each time.

The default, blosc with zstd at level 1 and byte shuffling, was chosen by ``benchmarks/codecs.py``:
pixels of 16 bits and floats become smaller than by zstd alone or lz4, higher levels cost a third of
the speed or more and gain a few percent, and every Zarr reader has it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CorruptFileError

Array = npt.NDArray[Any]
Configuration = Mapping[str, Any]
_DEFAULT: tuple[tuple[str, dict[str, Any]], ...] = (("blosc", {"cname": "zstd", "clevel": 1}),)
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_BLOSC_INNER = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_BLOSC_HEADER_BYTES = 16
_BY_NUMCODECS = ("adler32", "bz2", "crc32", "crc32c", "fletcher32", "lz4", "lzma", "zlib")
"""Further codecs that lose nothing and give the same bytes each time, by numcodecs' names."""
_KNOWN = ("none", "zstd", "blosc", "gzip", *_BY_NUMCODECS)
_OF_ZARR_3 = ("blosc", "crc32c", "gzip", "zstd")
"""Those that the specification of Zarr 3 names itself."""
_REFUSED = {
    **dict.fromkeys(
        ("astype", "bitround", "fixedscaleoffset", "quantize", "zfpy"),
        "may give back other pixels than were written",
    ),
    **dict.fromkeys(
        ("delta", "packbits", "pcodec", "shuffle", "transpose"),
        "works on pixels, and here only the bytes of chunks are encoded (blosc shuffles them)",
    ),
    "sharding_indexed": "is written in any case: shards= gives the shape of shards",
}


@dataclass(frozen=True, slots=True)
class _Link:
    """One codec of a chain."""

    name: str
    configuration: Configuration
    encode: Callable[[Any], bytes | bytearray]
    decode: Callable[[Any], Any]


class Codec:
    """A chain of compressors for chunks of one dtype. Thread-safe; made by `make_codec`."""

    def __init__(self, links: Sequence[_Link]) -> None:
        self._links = tuple(links)

    @property
    def spec(self) -> dict[str, Any]:
        """JSON from which `codec_from_spec` makes the codec again."""
        return {
            "chain": [{"name": k.name, "configuration": dict(k.configuration)} for k in self._links]
        }

    def encode(self, chunk: Array) -> bytes:
        """Bytes of a C-contiguous little-endian chunk."""
        data: Any = chunk.reshape(-1).view(np.uint8)
        for link in self._links:
            data = link.encode(data)
        return bytes(data)

    def decode(self, data: Any, dtype: npt.DTypeLike, shape: Sequence[int]) -> Array:
        """The chunk again.

        Raises
        ------
        CorruptFileError
            If the bytes are no such chunk.
        """
        for link in reversed(self._links):
            try:
                data = link.decode(data)
            except Exception as exc:  # noqa: BLE001
                raise CorruptFileError(f"{link.name} cannot decode a chunk: {exc}") from None
        flat = np.frombuffer(data, np.uint8)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if flat.size != size:
            raise CorruptFileError(f"a chunk of {flat.size} bytes where {size} are due")
        return flat.view(dtype).reshape(shape)

    def v3_codecs(self) -> list[dict[str, Any]]:
        """The chain as Zarr 3 writes it.

        Names and configurations are those of
        https://zarr-specs.readthedocs.io/en/latest/v3/codecs/index.html and, for others, of
        numcodecs (https://numcodecs.readthedocs.io/en/stable/zarr3.html).
        """
        chain: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        for link in self._links:
            name = link.name if link.name in _OF_ZARR_3 else f"numcodecs.{link.name}"
            entry: dict[str, Any] = {"name": name}
            if name != "crc32c":  # which alone has nothing to configure
                entry["configuration"] = dict(link.configuration)
            chain.append(entry)
        return chain

    def v2_compressor(self) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None]:
        """Compressor and filters as Zarr 2 writes them: the last of the chain, and those before."""
        found = []
        for link in self._links:
            configuration = dict(link.configuration)
            if link.name == "blosc":
                configuration["shuffle"] = _SHUFFLES[configuration["shuffle"]]
                del configuration["typesize"]
            # tensorstore refuses what it does not know; it is off in any case.
            configuration.pop("checksum", None)
            found.append({"id": link.name, **configuration})
        if not found:
            return None, None
        return found[-1], found[:-1] or None


def make_codec(codec: Any, dtype: npt.DTypeLike, zarr_format: int) -> Codec:
    """A codec from what users write.

    Parameters
    ----------
    codec : str, mapping, codec of zarr or numcodecs, sequence of them, or None
        ``"zstd"``, ``"zstd:5"``, ``"blosc"``, ``"none"``, ``{"name": ..., "configuration": ...}``
        as in Zarr 3, ``{"id": ...}`` as in Zarr 2. None is the measured default.
    dtype : dtype
    zarr_format : int

    Raises
    ------
    ArgumentError
        For codecs that are unknown, lose something or are no compressors of bytes.
    """
    dtype = np.dtype(dtype)
    return Codec([_link(name, found, dtype) for name, found in as_chain(codec)])


def codec_from_spec(spec: Configuration, dtype: npt.DTypeLike) -> Codec:
    """The codec of a plan."""
    links = [_link(each["name"], each["configuration"], np.dtype(dtype)) for each in spec["chain"]]
    return Codec(links)


def as_chain(codec: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and configurations, as given; `_link` completes them.

    Raises
    ------
    ArgumentError
    """
    if codec is None:
        return list(_DEFAULT)
    if isinstance(codec, str):
        return _from_text(codec)
    if isinstance(codec, list | tuple):
        return [link for each in codec for link in as_chain(each)]
    if isinstance(codec, type):
        raise ArgumentError(f"codec={codec.__name__} is a class: write {codec.__name__}(...)")
    if not isinstance(codec, Mapping):
        to_json = getattr(codec, "to_dict", None) or getattr(codec, "get_config", None)
        codec = to_json() if to_json is not None else codec
    if not isinstance(codec, Mapping):
        raise ArgumentError(f"codec={codec!r} is no name, no mapping and no codec of zarr")
    if "id" in codec:
        configuration = {name: each for name, each in codec.items() if name != "id"}
        return [(str(codec["id"]), configuration)]
    if "name" not in codec:
        raise ArgumentError(f"codec={dict(codec)!r} has no name")
    name = str(codec["name"]).removeprefix("numcodecs.")
    configuration = codec.get("configuration") or {}
    if not isinstance(configuration, Mapping):
        raise ArgumentError(f"codec {name}: configuration={configuration!r} is no mapping")
    if name == "bytes":
        if configuration.get("endian", "little") != "little":
            raise ArgumentError("codec bytes: pixels are written little-endian only, leave it out")
        return []  # written in any case
    return [(name, dict(configuration))]


def _from_text(text: str) -> list[tuple[str, dict[str, Any]]]:
    name, colon, level = text.partition(":")
    if not colon:
        return [] if name == "none" else [(name, {})]
    option = "clevel" if name == "blosc" else "level"
    if not re.fullmatch("-?[0-9]{1,9}", level):
        raise ArgumentError(f"codec={text!r}: after the colon comes a level, a whole number")
    return [(name, {option: int(level)})]


def _link(name: str, given: Configuration, dtype: np.dtype[Any]) -> _Link:
    if name == "zstd":
        return _zstd(given)
    if name == "blosc":
        return _blosc(given, dtype)
    if name == "gzip":
        return _gzip(given)
    if name in _BY_NUMCODECS:
        return _by_numcodecs(name, given)
    reason = _REFUSED.get(name, "is unknown")
    raise ArgumentError(f"codec {name!r} {reason}: take one of {', '.join(sorted(_KNOWN))}")


def _zstd(given: Configuration) -> _Link:
    import imagecodecs

    level = _number(given, "level", 1, range(-131072, 23), "zstd")
    checksum = bool(given.get("checksum", False))
    if checksum:
        raise ArgumentError("codec zstd: checksum=True is not written; receipts hold checksums")
    _refuse_others(given, ("level", "checksum"), "zstd")
    return _Link(
        "zstd",
        {"level": level, "checksum": False},
        lambda data: imagecodecs.zstd_encode(data, level=level),
        imagecodecs.zstd_decode,
    )


def _blosc(given: Configuration, dtype: np.dtype[Any]) -> _Link:
    import imagecodecs

    _refuse_others(given, ("cname", "clevel", "shuffle", "typesize", "blocksize"), "blosc")
    inner = str(getattr(given.get("cname", "zstd"), "value", given.get("cname", "zstd")))
    if inner not in _BLOSC_INNER:
        raise ArgumentError(f"codec blosc: cname={inner!r} is none of {', '.join(_BLOSC_INNER)}")
    level = _number(given, "clevel", 1, range(10), "blosc")
    shuffle = given.get("shuffle", "shuffle")
    shuffle = getattr(shuffle, "value", shuffle)
    names: dict[Any, str] = {number: name for name, number in _SHUFFLES.items()}
    if isinstance(shuffle, int):
        shuffle = names.get(shuffle, shuffle)
    if not isinstance(shuffle, str) or shuffle not in _SHUFFLES:
        raise ArgumentError(f"codec blosc: shuffle={shuffle!r} is none of {', '.join(_SHUFFLES)}")
    blocksize = _number(given, "blocksize", 0, range(2**31), "blosc")
    typesize = dtype.itemsize

    def encode(data: Any) -> bytes | bytearray:
        # imagecodecs shuffles by the size of the buffer's items, whatever typesize= says: of plain
        # bytes nothing would be shuffled. After another codec they may be no whole pixels.
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
        _decode_blosc,
    )


def _decode_blosc(data: Any) -> Any:
    import imagecodecs

    # blosc believes its header, and would read on past bytes that were cut off.
    # https://www.blosc.org/c-blosc/format.html: bytes 12 to 16 are the compressed size.
    size = int.from_bytes(bytes(data[12:16]), "little")
    if len(data) < _BLOSC_HEADER_BYTES or size != len(data):
        raise ValueError(f"{len(data)} bytes instead of {size}")
    return imagecodecs.blosc_decode(data, numthreads=1)


def _gzip(given: Configuration) -> _Link:
    # numcodecs puts the time of day into the header: other bytes each second.
    _refuse_others(given, ("level",), "gzip")
    level = _number(given, "level", 1, range(10), "gzip")
    return _Link(
        "gzip",
        {"level": level},
        lambda data: gzip.compress(data, level, mtime=0),
        gzip.decompress,
    )


def _by_numcodecs(name: str, given: Configuration) -> _Link:
    import numcodecs

    if name == "crc32c":
        _refuse_others(given, (), name)  # Zarr 3 has it at the end only
    try:
        codec = numcodecs.get_codec({**given, "id": name})
        codec.encode(np.zeros(8, np.uint8))
    except Exception as exc:  # noqa: BLE001
        raise ArgumentError(f"codec {name}: {dict(given)!r} is refused: {exc}") from None
    configuration = {key: value for key, value in codec.get_config().items() if key != "id"}
    return _Link(name, configuration, codec.encode, codec.decode)


def _number(given: Configuration, name: str, default: int, allowed: range, of: str) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ArgumentError(
            f"codec {of}: {name}={value!r} is no number from {allowed.start} to {allowed.stop - 1}"
        )
    return value


def _refuse_others(given: Configuration, known: Sequence[str], of: str) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise ArgumentError(f"codec {of}: {', '.join(sorted(unknown))} is unknown")
