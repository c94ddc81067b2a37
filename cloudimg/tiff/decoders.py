"""Which decoder reads the segments of a page: tifffile's, or one of this package."""

from __future__ import annotations

from typing import Any

from cloudimg.tiff.ccitt import CcittDecoder
from cloudimg.tiff.compressions import CCITT, JPEG, LERC, OLD_JPEG, PREDICTABLE, WEBP
from cloudimg.tiff.jpeg_samples import decoder_as_stored, has_other_samples
from cloudimg.tiff.lerc import LercDecoder
from cloudimg.tiff.pieces import PageLayout
from cloudimg.tiff.samples import (
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    SampleDecoder,
    has_unknown_order,
    is_special,
)
from cloudimg.tiff.subsampled import (
    SubsampledDecoder,
    ignore_subsampling,
    is_decodable,
    is_subsampled,
)

_FLOATING_POINT = (FLOATING_POINT, 34894, 34895)
"""The predictor of TIFF, and those of DNG 1.4 over two and four columns. imagecodecs lacks the
horizontal ones of DNG."""
_START_OF_JPEG = b"\xff\xd8"
_WITHOUT_BITS = (*JPEG, *WEBP)
"""Values of Compression whose samples have 8 bits or more."""
_REVERSED = 2
"""FillOrder of bytes whose lowest bit comes first."""
_FORMATS = {
    1: "unsigned integers",
    2: "signed integers",
    3: "floats",
    4: "undefined samples",
    5: "complex integers",
    6: "complex floats",
}


def ignore_meaningless_tags(keyframe: Any) -> None:
    """Ignore tags that mean nothing beside others of a `tifffile.TiffPage`, as libtiff does.

    A predictor belongs to LZW, Deflate and the like (TIFF 6.0, section 14). The LSM 510 wrote it in
    uncompressed files. Subsampling belongs to YCbCr.
    """
    if keyframe.compression not in PREDICTABLE:
        keyframe.predictor = 1
    ignore_subsampling(keyframe)


def refusal(keyframe: Any) -> str:
    """What of the samples of a `tifffile.TiffPage` has no decoder; empty if all of it has one.

    As in libtiff, except that integers of any length up to 32 bits have one, and that complex
    numbers of 8 bits and the like have none: GDAL returns integers for them.
    """
    bits, kind = keyframe.bitspersample, keyframe.sampleformat
    named = f"{_FORMATS.get(kind, f'samples of format {kind}')} of {bits} bits"
    if keyframe.dtype is None:
        return named
    if isinstance(bits, tuple) and keyframe.planarconfig == 2:
        return f"{named} in separate planes"
    if bits == 1 and keyframe.compression in _WITHOUT_BITS:
        # libtiff: "Improper JPEG data precision", "WEBP driver requires 8 bit unsigned data"
        return f"{named} (BitsPerSample is 1 or missing) with Compression {keyframe.compression:d}"
    if has_unknown_order(keyframe):
        return f"big-endian {named}, about whose order of bytes programs disagree,"
    if is_subsampled(keyframe) and not is_decodable(keyframe):
        return f"{named} with subsampled chroma and without JPEG"
    if keyframe.predictor == 1 or _is_predictable(keyframe):
        return ""
    return f"{named} with predictor {int(keyframe.predictor)}"


def _is_predictable(keyframe: Any) -> bool:
    """Whether samples can have the predictor of a page."""
    bits, kind, predictor = keyframe.bitspersample, keyframe.sampleformat, keyframe.predictor
    if predictor == HORIZONTAL:
        return bits in (8, 16, 32, 64)
    if predictor in _FLOATING_POINT:
        is_usual = bits in (16, 32, 64)
        return kind == FLOAT and (is_usual or (bits == 24 and predictor == FLOATING_POINT))
    return False


def find_decoder(keyframe: Any) -> Any:
    """The decoder of the segments of a `tifffile.TiffPage`, with the signature of its `decode`."""
    if keyframe.compression == LERC:
        return LercDecoder(keyframe)
    if keyframe.compression in CCITT:
        return CcittDecoder(keyframe)
    if has_other_samples(keyframe):
        return decoder_as_stored(keyframe)
    if is_special(keyframe):
        return SampleDecoder(keyframe)
    if is_subsampled(keyframe):
        return SubsampledDecoder(keyframe)
    if keyframe.compression == OLD_JPEG:
        return _whole_jpegs(keyframe.decode)
    if keyframe.compression in WEBP and keyframe.fillorder == _REVERSED:
        return _with_high_bits_first(keyframe)
    return keyframe.decode


def _with_high_bits_first(keyframe: Any) -> Any:
    """A decoder of bytes whose bits are reversed, which tifffile ignores for image codecs."""
    layout, decode = PageLayout.of(keyframe, keyframe.shaped), keyframe.decode

    def decode_reversed(data: Any, index: int, **options: Any) -> Any:
        if data is not None:
            data = layout.with_high_bits_first(data)
        return decode(data, index, **options)

    return decode_reversed


def _whole_jpegs(decode: Any) -> Any:
    """A decoder of old-style JPEG, of which only segments that are whole JPEGs are read.

    TIFF 6.0, section 22; others lack the tables, which are elsewhere in the file.
    """

    def decode_whole(data: Any, index: int, **options: Any) -> Any:
        is_whole = data is None or bytes(data[:2]) == _START_OF_JPEG
        if not (is_whole or options.get("jpegheader")):
            raise NotImplementedError(
                "old-style JPEG (Compression 6) with tables outside its segments is not supported"
            )
        return decode(data, index, **options)

    return decode_whole
