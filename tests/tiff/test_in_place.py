"""Segments that are decoded straight into the output, beside the same ones that are not.

Every second column of a region is never decoded in place, so it says what the pixels are, and which
error a damaged segment gives.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CloudimgError

CODECS = ("zlib", "zstd", "lzw", "packbits", "lzma")
SEGMENTS: tuple[dict[str, Any], ...] = (
    {"rowsperstrip": 7},
    {"tile": (32, 32)},
    {"tile": (16, 112)},  # as wide as the image, so its rows are one behind the other
)
Array = npt.NDArray[Any]


def encoded(pixels: Array, compression: str, segments: dict[str, Any], predictor: int) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(
        file, pixels, compression=compression, predictor=predictor, metadata=None, **segments
    )
    return file.getvalue()


def pixels_of(dtype: str, samples: int = 1) -> Array:
    rows, columns, s = np.ogrid[:60, :112, :samples]
    pixels = (rows * 3 + columns * 7 + s * 11) % 199
    return (pixels if samples > 1 else pixels[:, :, 0]).astype(dtype)


@pytest.mark.parametrize("segments", SEGMENTS, ids=str)
@pytest.mark.parametrize("compression", CODECS)
def test_pixels_of_windows(tmp_path: Path, compression: str, segments: dict[str, Any]) -> None:
    rng = random.Random(f"{compression} {segments}")
    for dtype, samples, predictor in (("u1", 3, 2), ("<u2", 1, 2), ("<f4", 1, 1), (">u2", 1, 2)):
        if predictor == 2 and compression == "packbits":
            predictor = 1
        pixels = pixels_of(dtype, samples)
        path = tmp_path / f"{dtype[-2:]}{samples}.tif"
        how = {"byteorder": dtype[0]} if dtype[0] in "<>" else {}
        path.write_bytes(encoded(pixels, compression, segments | how, predictor))
        image = cloudimg.open(str(path))
        np.testing.assert_array_equal(image.read(), pixels)
        for _ in range(12):
            top, bottom = sorted(rng.sample(range(61), 2))
            left, right = sorted(rng.sample(range(113), 2))
            window = slice(top, bottom), slice(left, right, rng.choice((1, 1, 2)))
            np.testing.assert_array_equal(image.read(window), pixels[window])


def outcome(image: cloudimg.Image, step: int) -> object:
    """Every second column, or the error."""
    try:
        pixels = image.read((slice(None), slice(None, None, step)))
    except CloudimgError as error:
        return type(error), str(error)
    return pixels[:, :: 2 // step].tobytes()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file with other bytes in a segment, or with another byte count."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        counts_at = page.tags[
            "StripByteCounts" if not page.is_tiled else "TileByteCounts"
        ].valueoffset
        number = rng.randrange(len(page.dataoffsets))
        offset, count = page.dataoffsets[number], page.databytecounts[number]
    bad = bytearray(data)
    match rng.randrange(4):
        case 0:
            bad[offset + rng.randrange(count)] ^= 1 << rng.randrange(8)
        case 1:
            start = offset + rng.randrange(count)
            bad[start : offset + count] = bytes(offset + count - start)
        case 2:
            bad[counts_at + 4 * number] = rng.randrange(256)
        case _:  # the segment of another place: it may have more rows, or fewer
            other = rng.randrange(len(page.dataoffsets))
            stored = data[page.dataoffsets[other] :][: page.databytecounts[other]]
            bad[offset : offset + len(stored)] = stored
    return bytes(bad)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("segments", SEGMENTS, ids=str)
@pytest.mark.parametrize("compression", CODECS)
def test_damaged_segments_give_the_same_pixels_or_errors(
    tmp_path: Path, compression: str, segments: dict[str, Any]
) -> None:
    rng = random.Random(f"{compression} {segments}")
    predictor = 1 if compression == "packbits" else 2
    data = encoded(pixels_of("u1"), compression, segments, predictor)
    n_refused = 0
    for number in range(60):
        path = tmp_path / f"{number}.tif"
        path.write_bytes(damaged(data, rng))
        try:
            image = cloudimg.open(str(path))
        except CloudimgError:
            continue  # its header tells
        in_place, otherwise = outcome(image, 1), outcome(image, 2)
        assert in_place == otherwise
        n_refused += isinstance(in_place, tuple)
    assert n_refused
