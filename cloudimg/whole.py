"""Files that are no TIFF: one chunk each, decoded whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.formats import Format, Read, decode, dims_of
from cloudimg.parsed import ParsedImage
from cloudimg.tiff import max_segment_bytes


@dataclass(frozen=True, slots=True, eq=False)
class WholeLevel:
    """The pixels of a whole file."""

    pixels: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype

    @property
    def segment(self) -> tuple[int, ...]:
        return self.pixels.shape

    @property
    def is_bound(self) -> bool:
        return True  # these are the pixels of this file alone

    @property
    def held_bytes(self) -> int:
        return self.pixels.nbytes

    def of(self, url: str) -> Self:
        raise TypeError(f"the pixels of one file are not those of {url}")


def decode_whole(reader: Format | Read, data: bytes | memoryview, url: str) -> ParsedImage:
    """Decode a file by a format's reader or a user's own.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError, LimitError, ArgumentError
    """
    pixels = decode(reader, data, url, limit_bytes=max_segment_bytes())
    if isinstance(reader, Format):
        dims = dims_of(pixels.shape, pixels.dtype, sample_counts=reader.sample_counts)
        attrs = {"kind": reader.name}
    else:
        dims, attrs = dims_of(pixels.shape, pixels.dtype), {}
    return ParsedImage(dims, (WholeLevel(pixels),), attrs, {}, 1, False)
