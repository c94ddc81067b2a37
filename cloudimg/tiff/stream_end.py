"""Whether all pixels of a segment come from its stored bytes.

Some decoders return grey, blank or arbitrary pixels for what is missing at the end of a stream.
Bytes are missing where a file was cut, where a byte count is too small, and where the end of a file
was allocated but never written, so that it reads as zeros. libtiff sees only the first of these;
of a JPEG that ends early libjpeg makes grey, with a warning that imagecodecs drops.

A segment may be longer than its stream, and writers declare byte counts that are a little too
large, even beyond the end of the file. So it is not the number of bytes that decides but the end of
the stream, where a codec has one, and otherwise whether decoded pixels depend on what follows the
stored bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from cloudimg.formats.sizes import UNREADABLE, jpeg_frame, jpeg_xr_tags
from cloudimg.tiff.compressions import (
    CCITT,
    JPEG,
    JPEG_2000,
    JPEG_XL,
    JPEG_XR,
    LERC,
    LZW,
    OF_BYTES,
    PNG,
    WEBP,
)
from cloudimg.tiff.ifd import Buffer

Decode = Callable[[Buffer], Any]
"""Decodes a segment as `tifffile.TiffPage.decode` does."""

_FOLLOWING = 1024
"""Number of bytes that are put in place of missing ones."""
_ZEROS = bytes(_FOLLOWING)
_NOISE = b"".join(pow(3, 99 + i, 65521).to_bytes(2, "big") for i in range(_FOLLOWING // 2))
_NOISE = b"\xb5" + _NOISE.replace(b"\xff", b"\x5a")
"""Anything that differs from zeros in its first bit, whichever comes first in a byte, and without
255, which begins the markers of JPEG."""
_EOI = b"\xff\xd9"
"""End of image of JPEG (ITU T.81, B.2.1) and of codestream of JPEG 2000 (ITU T.800, A.4.4)."""
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
"""Frames of several passes over the pixels (ITU T.81, table B.1)."""
_MOST_ZEROS = 64
"""Zeros at the end of a WebP or JPEG XR that are taken for a part of it."""
_PIXELS_PER_ZERO = 4096
"""An even WebP ends with a zero for about 10,000 pixels."""


class IncompleteError(ValueError):
    """Pixels of a segment are missing; the message says what its stored bytes do."""


def decode_all(decode: Decode, data: Buffer, n_declared: int, compression: int) -> Any:
    """Decode a segment of which all pixels must come from its bytes.

    Parameters
    ----------
    decode : callable
    data : bytes
        What exists of the segment.
    n_declared : int
        Number of bytes that the segment has by its byte count.
    compression : int
        Value of the tag Compression.

    Raises
    ------
    IncompleteError
    Exception
        Whatever `decode` raises.
    """
    check = _CHECKS.get(compression)
    if check is not None:
        return check(decode, data)
    decoded = decode(data)
    if len(data) >= n_declared or compression in _REFUSING:
        return decoded
    pixels, _, shape = decoded
    if pixels.shape != tuple(shape):
        raise IncompleteError(f"give {pixels.size} of {math.prod(shape)} samples")
    return decoded if compression in _COUNTED else decode_independently(decode, data)


def decode_independently(decode: Decode, data: Buffer, end: bytes = b"") -> Any:
    """Decode a segment whose pixels are the same whatever follows its data.

    Parameters
    ----------
    decode : callable
    data : bytes
    end : bytes
        What must follow at the very end.

    Raises
    ------
    IncompleteError
        They are not.
    """
    import numpy as np

    decoded, other = (decode(b"".join((data, more, end))) for more in (_ZEROS, _NOISE))
    if not np.array_equal(decoded[0], other[0]):
        raise IncompleteError("are followed by others on which the pixels depend")
    return decoded


def _jpeg(decode: Decode, data: Buffer) -> Any:
    """Decode a JPEG, which ends with EOI.

    libjpeg inserts a missing EOI. From there on it leaves coefficients at 0, which is medium grey
    (``jdhuff.c``: "this way, we return uniform gray for the remainder of the segment").
    """
    if bytes(data[:2]) != b"\xff\xd8":
        return decode(data)  # its header is elsewhere
    stream, has_end = _jpeg_stream(data)
    if not has_end and _is_progressive(data):
        raise IncompleteError("lack the marker EOI at the end, so that passes may be missing")
    if has_end:
        decoded = decode(data)
        if not _ends_grey(decoded[0]):
            return decoded
    try:
        return decode_independently(decode, stream, _EOI)
    except IncompleteError:
        where = "before the marker EOI" if has_end else "without the marker EOI"
        raise IncompleteError(f"end {where} and before the last block") from None


def _jpeg_stream(data: Buffer) -> tuple[bytes, bool]:
    """A JPEG without its EOI, or without zeros at the end, and whether it has an EOI."""
    stream = bytes(data)
    if stream.endswith(_EOI):
        return stream[:-2], True
    frame = jpeg_frame(stream)
    end = stream.find(_EOI, frame.offset if frame is not None else 2)
    if end >= 0:
        return stream[:end], True
    stripped = stream.rstrip(b"\0")
    # 255 is a code only with a 0 after it.
    return (stripped + b"\0" if stripped.endswith(b"\xff") else stripped), False


def _is_progressive(data: Buffer) -> bool:
    frame = jpeg_frame(data)
    return frame is not None and data[frame.offset + 1] in _PROGRESSIVE


def _ends_grey(pixels: Any) -> bool:
    """Whether the last pixel is medium grey, whatever the colour space."""
    import numpy as np

    if pixels.dtype.kind != "u" or pixels.size == 0:
        return False
    middles = (128, 127) if pixels.dtype.itemsize == 1 else (2048, 2047, 32768, 32767)
    return bool(np.isin(pixels[-1, -1, -1], middles).all())


def _jpeg2000(decode: Decode, data: Buffer) -> Any:
    """Decode a JPEG 2000; OpenJPEG leaves out coefficients whose bytes are zeros."""
    if not _has_codestream_end(bytes(data)):
        raise IncompleteError("lack the marker EOC at the end of the JPEG 2000")
    return decode(data)


def _has_codestream_end(data: bytes) -> bool:
    """Whether the tile-parts of a codestream are followed by its end (ITU T.800, A.3 and A.4.2)."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return True  # the decoder reports what is wrong
    at += 2
    try:
        while data[at : at + 2] != _EOI:
            length: int = struct.unpack_from(">H", data, at + 2)[0]
            if data[at : at + 2] == b"\xff\x90":
                length = struct.unpack_from(">L", data, at + 6)[0]
                if length == 0:  # up to the end
                    return data.find(_EOI, at) >= 0
                at -= 2
            at += 2 + max(length, 2)
            if at == len(data):
                # Only the marker itself is missing.
                return not data.endswith(b"\0")
    except struct.error:
        return False
    return True


def _jpeg_xr(decode: Decode, data: Buffer) -> Any:
    """Decode a JPEG XR, whose container says how long the image is (ITU T.832, A.7)."""
    try:
        end = _jpeg_xr_end(data)
    except UNREADABLE:
        return decode(data)  # the decoder reports what is wrong
    if end > len(data):
        raise IncompleteError(f"are fewer than the {end} of the JPEG XR")
    return _decode_unless_zeros(decode, data, end or len(data))


def _jpeg_xr_end(data: Buffer) -> int:
    """Where the image and its alpha end; 0 if the container does not say it."""
    values = jpeg_xr_tags(data)
    ends = (values.get(code, 0) + values.get(code + 1, 0) for code in (0xBCC0, 0xBCC2))
    return max(end if values.get(0xBCC1) else 0 for end in ends)


def _webp(decode: Decode, data: Buffer) -> Any:
    """Decode a WebP, whose container says how long it is (RFC 9649, 2.3 and 2.4)."""
    if bytes(data[:4]) != b"RIFF" or len(data) < 8:
        return decode(data)
    end = 8 + struct.unpack_from("<L", data, 4)[0]
    if end > len(data):
        raise IncompleteError(f"are fewer than the {end} of the WebP")
    return _decode_unless_zeros(decode, data, end)


def _decode_unless_zeros(decode: Decode, data: Buffer, end: int) -> Any:
    """Decode a stream that has no mark at its end, unless it ends in many zeros."""
    decoded = decode(data)
    stream = bytes(data[:end])
    n_zeros = len(stream) - len(stream.rstrip(b"\0"))
    if n_zeros > _MOST_ZEROS + decoded[0].size // _PIXELS_PER_ZERO:
        raise IncompleteError(f"end with {n_zeros} zeros, as if they had never been written")
    return decoded


_CHECKS: dict[int, Callable[[Decode, Buffer], Any]] = {
    **dict.fromkeys(JPEG, _jpeg),
    **dict.fromkeys(JPEG_2000, _jpeg2000),
    **dict.fromkeys(JPEG_XR, _jpeg_xr),
    **dict.fromkeys(WEBP, _webp),
}
_REFUSING = {*CCITT, LERC, PNG, *JPEG_XL}
"""Decoders that refuse streams that end early: see `cloudimg.tiff.ccitt`; LERC has a checksum."""
_COUNTED = {*OF_BYTES} - {LZW}
"""Streams whose decoders return as many bytes as they find. That of LZW takes bits beyond the end
for zeros."""
