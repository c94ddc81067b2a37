"""Parse the argument ``codec=`` into names and configurations of codecs. Pure.

The default, blosc with zstd at level 1 and byte shuffling, was chosen with
``benchmarks/codecs.py``: it compresses 16-bit and floating-point pixels better than plain zstd or
lz4, higher levels cost at least a third of the speed for a few percent of size, and every Zarr
reader supports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cloudimg.errors import ArgumentError

Configuration = Mapping[str, Any]
_DEFAULT: tuple[tuple[str, dict[str, Any]], ...] = (("blosc", {"cname": "zstd", "clevel": 1}),)


def parse_codec(codec: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and configurations of the codecs in ``codec=``, without defaults filled in.

    Raises
    ------
    ArgumentError
        If it is not a name, a mapping or a codec of a known library.
    """
    if codec is None:
        return list(_DEFAULT)
    if isinstance(codec, str):
        return _from_text(codec)
    if isinstance(codec, list | tuple):
        return [link for each in codec for link in parse_codec(each)]
    return _from_mapping(_as_mapping(codec))


def _from_text(text: str) -> list[tuple[str, dict[str, Any]]]:
    name, colon, level = text.partition(":")
    if not colon:
        return [] if name == "none" else [(name, {})]
    option = "clevel" if name == "blosc" else "level"
    if not re.fullmatch("-?[0-9]{1,9}", level):
        raise ArgumentError(f"codec={text!r}: the colon must be followed by a level, an integer")
    return [(name, {option: int(level)})]


def _as_mapping(codec: Any) -> Configuration:
    """A mapping, or the mapping that describes a codec object of zarr or numcodecs."""
    if isinstance(codec, type):
        raise ArgumentError(f"codec={codec.__name__} is a class: pass {codec.__name__}(...)")
    if not isinstance(codec, Mapping):
        describe = getattr(codec, "to_dict", None) or getattr(codec, "get_config", None)
        codec = codec if describe is None else describe()
    if not isinstance(codec, Mapping):
        raise ArgumentError(
            f"codec={codec!r} is not a name, a mapping or a codec of zarr or numcodecs"
        )
    return codec


def _from_mapping(codec: Configuration) -> list[tuple[str, dict[str, Any]]]:
    if "id" in codec:
        return [(str(codec["id"]), {key: each for key, each in codec.items() if key != "id"})]
    if "name" not in codec:
        raise ArgumentError(f"codec={dict(codec)!r} has no name")
    name = str(codec["name"]).removeprefix("numcodecs.")
    configuration = codec.get("configuration") or {}
    if not isinstance(configuration, Mapping):
        raise ArgumentError(f"codec {name}: configuration={configuration!r} is not a mapping")
    if name == "bytes":
        if configuration.get("endian", "little") != "little":
            raise ArgumentError(
                "codec bytes: pixels are always written little-endian, leave it out"
            )
        return []  # it is always written
    return [(name, dict(configuration))]
