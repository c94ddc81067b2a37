"""Files that are not TIFFs: one chunk each, decoded whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.formats import Format, ReadFunction, decode, dims_of
from cloudimg.tiff.parsed import ParsedImage


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


def decode_whole(
    decoder: Format | ReadFunction, data: bytes | memoryview, url: str, limit_bytes: int
) -> ParsedImage:
    """Decode a file by the decoder of its format or a user's own function.

    `limit_bytes` bounds the decoded size.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError, LimitError, ArgumentError
    """
    pixels = decode(decoder, data, url, limit_bytes=limit_bytes)
    if isinstance(decoder, Format):
        dims = dims_of(pixels.shape, pixels.dtype, sample_counts=decoder.sample_counts)
        attrs = {"kind": decoder.name}
    else:
        dims, attrs = dims_of(pixels.shape, pixels.dtype), {}
    return ParsedImage(dims, (WholeLevel(pixels),), attrs, {}, 1, False)
