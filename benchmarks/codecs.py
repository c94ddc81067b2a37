"""Which codec to write chunks with by default: ratio and speed on real pixels, one thread.

``python benchmarks/codecs.py FOLDER...`` takes every TIFF in the folders that tifffile reads,
cut into chunks of at most 256 x 256, and the acquisition that ``cloudimg demo`` synthesises.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from cloudimg import sample

EXTENT = 256
MOST_CHUNKS = 300


def chunks_of(image: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Chunks of the planes of an image."""
    planes = image.reshape(-1, *image.shape[-2:])
    return [
        np.ascontiguousarray(plane[y : y + EXTENT, x : x + EXTENT])
        for plane in planes
        for y in range(0, plane.shape[0], EXTENT)
        for x in range(0, plane.shape[1], EXTENT)
    ][:MOST_CHUNKS]


def codecs(itemsize: int) -> dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]]:
    """Encoders and decoders by name."""
    found: dict[str, Any] = {}
    for level in (1, 3):
        found[f"zstd {level}"] = (
            lambda c, level=level: imagecodecs.zstd_encode(c, level=level),
            imagecodecs.zstd_decode,
        )
    for inner in ("lz4", "zstd"):
        for number, shuffle in ((1, "shuffle"), (2, "bitshuffle")):
            for level in (1, 3, 5):
                found[f"blosc {inner} {shuffle} {level}"] = (
                    lambda c, inner=inner, number=number, level=level: imagecodecs.blosc_encode(
                        c,
                        level=level,
                        compressor=inner,
                        shuffle=number,
                        typesize=itemsize,
                        numthreads=1,
                    ),
                    lambda data: imagecodecs.blosc_decode(data, numthreads=1),
                )
    return found


def measure(name: str, chunks: list[np.ndarray[Any, Any]]) -> None:
    """Print a table for some chunks."""
    size = sum(chunk.nbytes for chunk in chunks)
    print(f"{name}: {size / 1e6:.1f} MB of {chunks[0].dtype} in {len(chunks)} chunks")
    for label, (encode, decode) in codecs(chunks[0].dtype.itemsize).items():
        begin = time.perf_counter()
        encoded = [encode(chunk) for chunk in chunks]
        middle = time.perf_counter()
        for data in encoded:
            decode(data)
        end = time.perf_counter()
        print(
            f"  {label:24} ratio {size / sum(map(len, encoded)):6.2f}"
            f"  encode {size / 1e6 / (middle - begin):6.0f} MB/s"
            f"  decode {size / 1e6 / (end - middle):6.0f} MB/s"
        )


def main() -> None:
    measure("demo", chunks_of(sample.acquire()))
    for folder in sys.argv[1:]:
        by_dtype: dict[str, list[Any]] = {}
        for path in sorted(Path(folder).iterdir()):
            try:
                image = tifffile.imread(path)
            except Exception as exc:  # noqa: BLE001 - hostile files lie among them
                print(f"  without {path.name}: {type(exc).__name__}")
                continue
            if image.ndim >= 2 and min(image.shape[-2:]) > 3 and image.std() > 0:
                by_dtype.setdefault(image.dtype.str, []).extend(chunks_of(image)[:20])
        for dtype, chunks in by_dtype.items():
            measure(f"{Path(folder).name} {dtype}", chunks[:MOST_CHUNKS])


if __name__ == "__main__":
    main()
