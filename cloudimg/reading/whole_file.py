"""Decode a file that is not a TIFF as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.formats import Format, ReadFunction, colours_of, decode, dims_of
from cloudimg.tiff import ParsedImage
from cloudimg.tiff.colours.convert import attributes_in_rgb, converter_of


@dataclass(frozen=True, slots=True, eq=False)
class WholeLevel:
    """The one level of a file that was decoded whole: its pixels."""

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
    def pixel_bytes(self) -> int:
        return 0

    @property
    def is_bound(self) -> bool:
        return True  # other files have other pixels

    @property
    def held_bytes(self) -> int:
        return self.pixels.nbytes

    def of(self, url: str) -> Self:
        raise TypeError(f"pixels of a decoded file cannot be reused for {url}")


def decode_whole(
    decoder: Format | ReadFunction,
    data: bytes | memoryview,
    url: str,
    limit_bytes: int,
    *,
    in_rgb: bool = False,
) -> ParsedImage:
    """Decode a file with the decoder of its format or with a user's function.

    Parameters
    ----------
    decoder : Format or callable
    data : bytes
    url : str
        URL for messages, without credentials.
    limit_bytes : int
        Bound on the decoded size.
    in_rgb : bool
        Whether to convert colours that a format defines to RGB of 8 bits.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError, LimitError, ArgumentError
    """
    pixels = decode(decoder, data, url, limit_bytes=limit_bytes)
    if isinstance(decoder, Format):
        dims = dims_of(pixels.shape, pixels.dtype, sample_counts=decoder.sample_counts)
        n_samples = pixels.shape[-1] if dims[-1] == "s" else 1
        attrs = {"kind": decoder.name, **colours_of(decoder.name, n_samples, data)}
        convert = converter_of(attrs, pixels.dtype, n_samples) if in_rgb else None
        if convert is not None and not convert.keeps_values:
            pixels, attrs = convert.as_bytes(pixels), attributes_in_rgb(attrs)
    else:
        dims, attrs = dims_of(pixels.shape, pixels.dtype), {}
    return ParsedImage(
        dims=dims, levels=(WholeLevel(pixels),), attrs=attrs, coords={}, depends_on_name=False
    )
