"""Which codec to write chunks with by default: ratio and speed on real pixels, one thread.

``python benchmarks/codecs.py FOLDER...`` takes every TIFF below the folders that tifffile reads,
cut into chunks of at most 256 x 256, and the acquisition that ``cloudimg demo`` synthesises. Speeds
are of processor time, the best of several runs: others on the machine disturb them least so. What
was left out is counted, by reason: constant images compress without bound and say nothing.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cloudimg.cli import sample
from cloudimg.migration.encode.codecs import make_codec

EXTENT = 256
MOST_CHUNKS = 300
MOST_CHUNKS_OF_A_FILE = 20
LEAST_EXTENT = 128
MOST_BYTES = 2**28
RUNS = 5


def chunks_of(image: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Chunks of the planes of an image."""
    planes = image.reshape(-1, *image.shape[-2:])
    return [
        np.ascontiguousarray(plane[y : y + EXTENT, x : x + EXTENT])
        for plane in planes
        for y in range(0, plane.shape[0], EXTENT)
        for x in range(0, plane.shape[1], EXTENT)
    ][:MOST_CHUNKS]


def codecs() -> dict[str, Any]:
    """Codecs as users of cloudimg write them, by name."""
    found: dict[str, Any] = {f"zstd {level}": f"zstd:{level}" for level in (1, 3)}
    for inner in ("lz4", "zstd"):
        for shuffle in ("shuffle", "bitshuffle"):
            for level in (1, 3, 5):
                found[f"blosc {inner} {shuffle} {level}"] = {
                    "name": "blosc",
                    "configuration": {"cname": inner, "clevel": level, "shuffle": shuffle},
                }
    return found


def seconds(work: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """Processor time for all items."""
    found = []
    for _ in range(RUNS):
        begin = time.thread_time()
        for item in items:
            work(item)
        found.append(time.thread_time() - begin)
    return min(found)


def measure(name: str, chunks: list[np.ndarray[Any, Any]]) -> None:
    """Print a table for some chunks."""
    size = sum(chunk.nbytes for chunk in chunks)
    print(f"{name}: {size / 1e6:.1f} MB of {chunks[0].dtype} in {len(chunks)} chunks", flush=True)
    dtype, shapes = chunks[0].dtype, [chunk.shape for chunk in chunks]
    for label, asked in codecs().items():
        # What the writer writes, not what its library could: they have differed.
        codec = make_codec(asked, dtype, 3)
        encoded = list(map(codec.encode, chunks))
        encoding = seconds(codec.encode, chunks)
        decoding = seconds(
            lambda pair, codec=codec: codec.decode(pair[0], dtype, pair[1]),
            list(zip(encoded, shapes, strict=True)),
        )
        print(
            f"  {label:24} ratio {size / sum(map(len, encoded)):6.2f}"
            f"  encode {size / 1e6 / encoding:6.0f} MB/s"
            f"  decode {size / 1e6 / decoding:6.0f} MB/s",
            flush=True,
        )


def pixels_of(path: Path) -> np.ndarray[Any, Any] | str:
    """The image of a file as the writer stores it, samples apart; or why it is not measured."""
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            if series.nbytes > MOST_BYTES:
                return "too large"
            image = series.asarray()
            axes = series.axes
    except Exception as exc:  # noqa: BLE001
        return f"not read ({type(exc).__name__})"
    if axes.endswith("S"):
        image = np.moveaxis(image, -1, 0)
    if image.ndim < 2 or min(image.shape[-2:]) < LEAST_EXTENT:
        return "smaller than a chunk"
    if image.dtype.kind not in "iuf":
        return f"pixels of {image.dtype}"
    return "constant" if (image == image.flat[0]).all() else image


def main() -> None:
    measure("demo", chunks_of(sample.acquire()))
    for folder in sys.argv[1:]:
        by_dtype: dict[str, list[Any]] = {}
        left_out: Counter[str] = Counter()
        for path in sorted(each for each in Path(folder).rglob("*") if each.is_file()):
            found = pixels_of(path)
            if isinstance(found, str):
                left_out[found] += 1
                continue
            image = np.asarray(found, found.dtype.newbyteorder("<"))
            some = chunks_of(image)[:MOST_CHUNKS_OF_A_FILE]
            by_dtype.setdefault(image.dtype.str, []).extend(some)
        for reason, number in left_out.most_common():
            print(f"{Path(folder).name}: without {number} files: {reason}")
        for dtype, chunks in by_dtype.items():
            measure(f"{Path(folder).name} {dtype}", chunks[:MOST_CHUNKS])


if __name__ == "__main__":
    main()
