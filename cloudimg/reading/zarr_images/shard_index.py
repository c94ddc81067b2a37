"""Where the chunks of a shard are: its index, and the byte ranges of some of them. Pure.

See https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html. The index has
an offset and a length for each chunk. Indices that are encoded otherwise than all known programs do
it are left to zarr-python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.tiff import REQUEST_BYTES

_ENTRY_BYTES, _CHECKSUM_BYTES = 16, 4
_EMPTY = 2**64 - 1
_CODECS = (["bytes"], ["bytes", "crc32c"])
_SPAN_BYTES = 8 * 2**20
"""Neighbouring chunks are fetched together up to this size."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The form of the index of each shard of an array."""

    grid: tuple[int, ...]
    """Number of chunks in a shard, by axis."""
    is_at_end: bool
    has_checksum: bool

    @classmethod
    def of(
        cls, metadata: Mapping[str, Any], stored: Sequence[int], chunk: Sequence[int]
    ) -> Self | None:
        """Take it from the metadata of an array; None if it is not known to be in the usual form.

        Parameters
        ----------
        metadata : mapping
        stored, chunk : sequence of int
            Shape of a shard, and of a chunk in it.
        """
        try:
            (sharding,) = metadata["codecs"]
            given = sharding["configuration"]
            codecs = given.get("index_codecs") or [{"name": "bytes"}, {"name": "crc32c"}]
            names = [each["name"] for each in codecs]
            endian = codecs[0].get("configuration", {}).get("endian", "little")
            location = given.get("index_location", "end")
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        if names not in _CODECS or endian != "little" or location not in ("start", "end"):
            return None
        grid = tuple(n // m for n, m in zip(stored, chunk, strict=True))
        return cls(grid, location == "end", "crc32c" in names)

    @property
    def n_bytes(self) -> int:
        """Stored size of an index."""
        entries = math.prod(self.grid) * _ENTRY_BYTES
        return entries + (_CHECKSUM_BYTES if self.has_checksum else 0)

    def chunks(self, data: bytes) -> list[tuple[int, int]]:
        """Byte range of each chunk that is stored.

        Raises
        ------
        ValueError
            If the index is shorter than it should be.
        """
        found = self._entries(data).reshape(-1, 2)
        return [(int(at), int(at) + int(size)) for at, size in found if at != _EMPTY]

    def _entries(self, data: bytes) -> npt.NDArray[np.uint64]:
        """Offset and size of each chunk."""
        if len(data) != self.n_bytes:
            raise ValueError(f"its index has {len(data)} of {self.n_bytes} bytes")
        n = math.prod(self.grid)
        return np.frombuffer(data, "<u8", 2 * n).reshape(*self.grid, 2)

    def ranges(self, data: bytes, wanted: Sequence[range]) -> list[tuple[int, int]]:
        """Byte ranges of some chunks, those that are not stored left out, neighbours joined.

        Parameters
        ----------
        data : bytes
            The index.
        wanted : sequence of range
            By axis, the numbers of the chunks in the shard.

        Raises
        ------
        ValueError
            If the index is shorter than it should be, or has impossible numbers.
        """
        found = self._entries(data)[np.ix_(*wanted)].reshape(-1, 2)
        offsets = sorted(
            (int(start), int(start) + int(size)) for start, size in found if start != _EMPTY
        )
        if any(stop > 2**62 or stop <= start for start, stop in offsets):
            raise ValueError("its index has impossible offsets")
        return _joined(offsets)


def _joined(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that are near each other as one, since a request costs as much as some KB."""
    joined: list[tuple[int, int]] = []
    for start, stop in offsets:
        if joined:
            first, last = joined[-1]
            if start - last <= REQUEST_BYTES and max(stop, last) - first <= _SPAN_BYTES:
                joined[-1] = first, max(stop, last)
                continue
        joined.append((start, stop))
    return joined
