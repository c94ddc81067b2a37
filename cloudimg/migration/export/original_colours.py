"""The tags that say what the samples of a page mean, from those of an original file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudimg.migration.export.original_tags import CONVERTED, Tags, same_tag, value_of, why_not
from cloudimg.migration.export.result import Lost
from cloudimg.migration.export.tiff_writer import Tag, short_tag

_PHOTOMETRIC, _EXTRA, _SUBSAMPLING = 262, 338, 530
_YCBCR, _PALETTE, _RGB = 6, 3, 2
_DECODED_TO_RGB = (6, 7, 33007, 34892, 50001, 50002, 52546)
"""Compressions whose decoders convert YCbCr: JPEG, WebP, JPEG XL."""
_NOT_CONVERTED = (0, 1, 2, 4)
"""Meanings that pixels keep where colours are converted to RGB: grey, RGB, masks."""
_LEAST_SAMPLES = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3, 32845: 3}
"""Samples that colours need, by PhotometricInterpretation (TIFF 6.0, p. 37)."""
_GREY = 1
_DEFAULTS = {_GREY: "grey", _RGB: "RGB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The samples of a page as they are written."""

    count: int
    """Samples of a pixel."""
    dtype: np.dtype[Any]
    in_rgb: bool = False
    """Whether the copy holds colours that were converted to RGB."""

    def is_converted(self, tags: Tags) -> bool:
        """Whether the original has other colours."""
        return self.in_rgb and value_of(tags, "PhotometricInterpretation") not in _NOT_CONVERTED


def stored_bits(tags: Tags, samples: Samples) -> int:
    """Bits of each sample: those of the original where it has fewer than whole bytes.

    A palette has as many colours as the bits of its indices allow.
    """
    if samples.dtype == np.bool_:
        return 1
    n_bits = samples.dtype.itemsize * 8
    if samples.is_converted(tags):
        return n_bits
    value = value_of(tags, "BitsPerSample")
    known = set(value if isinstance(value, list) else [value])
    if samples.dtype.kind == "u" and len(known) == 1:
        (bits,) = known
        if isinstance(bits, int) and (0 < bits < n_bits == 8 or 8 < bits < n_bits == 16):
            return bits
    return n_bits


def colour_tags(tags: Tags, samples: Samples, bits: int, order: str) -> tuple[list[Tag], set[Lost]]:
    """What the samples of a page mean: as in the original if the copy holds the same pixels.

    Values are those of TIFF 6.0, p. 37. YCbCr that was decoded to RGB (JPEG) is written as RGB.
    """
    original = value_of(tags, "PhotometricInterpretation")
    palette = same_tag(tags.get("ColorMap"), order)
    is_kept = _means_the_same(tags, samples, bits, palette)
    default = _RGB if samples.count in (3, 4) and original not in (0, 1) else _GREY
    meaning = original if is_kept else default
    found = [short_tag(_PHOTOMETRIC, [meaning], order)]
    lost: set[Lost] = set()
    if original not in (None, meaning):
        lost.add(("PhotometricInterpretation", f"{CONVERTED}, of which it is {_DEFAULTS[meaning]}"))
    if palette is not None and (meaning == _PALETTE or original != _PALETTE):
        found.append(palette)
    elif "ColorMap" in tags:
        lost.add(("ColorMap", CONVERTED if palette else why_not(tags["ColorMap"])))
    if meaning == _YCBCR:
        found.append(short_tag(_SUBSAMPLING, [1, 1], order))  # every pixel has its own chroma
    if is_kept:
        same = same_tag(tags.get("ExtraSamples"), order)
        return [*found, *([] if same is None else [same])], lost
    if extra := _extra_samples(tags, samples, samples.count - _LEAST_SAMPLES.get(meaning, 1)):
        found.append(short_tag(_EXTRA, extra, order))
    if "ExtraSamples" in tags:
        lost.add(("ExtraSamples", CONVERTED))
    return found, lost


def _extra_samples(tags: Tags, samples: Samples, n: int) -> list[int]:
    """ExtraSamples beside colours that are not the original's, of which only opacity is kept."""
    kinds = value_of(tags, "ExtraSamples", 0) if n == 1 and samples.is_converted(tags) else 0
    opacity = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind in (1, 2)]
    return opacity[:1] or [0] * n


def _means_the_same(tags: Tags, samples: Samples, bits: int, palette: Tag | None) -> bool:
    """Whether the samples in the copy are those that the original stores."""
    original = value_of(tags, "PhotometricInterpretation")
    if samples.is_converted(tags) or original is None:
        return False
    if value_of(tags, "SamplesPerPixel", 1) != samples.count:
        return False
    if original == _PALETTE and (palette is None or palette.count != 3 * 2**bits):
        return False
    if original == _YCBCR and value_of(tags, "Compression") in _DECODED_TO_RGB:
        return False
    return samples.count >= _LEAST_SAMPLES.get(original, 1)


def subfile_tags(tags: Tags, order: str) -> tuple[list[Tag], set[Lost]]:
    """NewSubfileType, unless it says that a page belongs to another one, which is not written."""
    tag = same_tag(tags.get("NewSubfileType"), order)
    if tag is None:
        return [], set()
    value = struct.unpack(f"{order}I", tag.data)[0] if tag.type == 4 else None
    if value in (0, 2):
        return [tag], set()
    return [], {("NewSubfileType", "the page that it refers to is not written")}
