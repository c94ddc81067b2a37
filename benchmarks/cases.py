"""What is read: the objects of each case, what must come out, and how the store behaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import objects

FOLDER = "exp"
TOP, LEFT = 3000, 5000
WINDOW = (TOP, TOP + 512, LEFT, LEFT + 512)
"""Of the large file. Not along tiles: it touches four of them."""
OVERVIEW = 3
"""The level that is read of a pyramid; each is half of the one before."""


@dataclass(frozen=True, slots=True)
class Store:
    """How the store behaves beside its latency."""

    connection_bytes_per_s: float | None = None
    link_bytes_per_s: float | None = None
    """Of all connections together."""
    requests_per_s: float | None = None
    """What is beyond is refused with 503."""

    def rules(self) -> list[dict[str, Any]]:
        """As the metering server takes them."""
        if self.requests_per_s is None:
            return []
        rate = {"per_second": self.requests_per_s, "burst": self.requests_per_s}
        return [{"kind": "status", "status": 503, "match": "GET", **rate}]


@dataclass(frozen=True, slots=True)
class Case:
    """What is read and what must come out."""

    name: str
    kind: str
    """What a contender registers for: files, image, window, overview, chunks or pages."""
    title: str
    truth: str
    stored: Mapping[str, bytes]
    """The objects by key."""
    store: Store = field(default_factory=Store)
    is_lossy: bool = False
    """Whether two right decoders may differ in the last bit."""

    @property
    def stored_bytes(self) -> int:
        return sum(map(len, self.stored.values()))


def _files(name: str, title: str, files: Any, store: Store | None = None) -> Case:
    stored, total = {}, 0
    for file_name, data, pixel_sum in files:
        stored[f"{FOLDER}-{name}/{file_name}"] = data
        total += pixel_sum
    return Case(name, "files", title, str(total), stored, store or Store())


def _image(name: str, title: str, cache: Path, **how: Any) -> Case:
    data, pixels = objects.image_file(cache, name, **how.pop("file", {}))
    key = f"{name}/image.tif"
    return Case(name, how.pop("kind", "image"), title, objects.digest(pixels), {key: data}, **how)


def _large(cache: Path, kind: str = "image") -> Case:
    data, pixels = objects.large_file(cache)
    title = "one tiled deflate file, whole"
    if kind == "window":
        top, bottom, left, right = WINDOW
        pixels, title = pixels[top:bottom, left:right], "a window of that file, cold"
    name = {"image": "large"}.get(kind, kind)
    title = "that file through Dask in chunks of 1024 x 1024" if kind == "chunks" else title
    return Case(name, kind, title, objects.digest(pixels), {"large/image.tif": data})


def _overview(cache: Path) -> Case:
    data, levels = objects.pyramid_file(cache)
    title = f"level {OVERVIEW} of a pyramid"
    truth = objects.digest(levels[OVERVIEW])
    return Case("overview", "overview", title, truth, {"overview/image.tif": data})


def _pages(_cache: Path) -> Case:
    data, pixels = objects.pages_file()
    title = f"one file of {len(pixels):,} deflate pages, whole"
    return Case("pages", "pages", title, objects.digest(pixels), {"pages/image.tif": data})


CASES: dict[str, Callable[[Path], Case]] = {
    "files": lambda _: _files("files", "sum over 360 files of 512 KB", objects.small_files()),
    "tiny": lambda _: _files("tiny", "sum over 10,000 files of 8 KB", objects.tiny_files()),
    "compressed": lambda _: _files(
        "compressed", "sum over 400 deflate files of 32 KB", objects.compressed_files()
    ),
    "refusing": lambda _: _files(
        "refusing",
        "sum over 360 files, of a store that allows 100 requests a second",
        objects.small_files(64),
        Store(requests_per_s=100),
    ),
    "large": _large,
    "window": lambda cache: _large(cache, "window"),
    "chunks": lambda cache: _large(cache, "chunks"),
    "connection": lambda cache: _image(
        "connection",
        "one uncompressed file, whole, 60 MB/s a connection",
        cache,
        store=Store(connection_bytes_per_s=60e6),
    ),
    "thin": lambda cache: _image(
        "thin",
        "one uncompressed file, whole, 0.4 MB/s for all",
        cache,
        file={"pixels": 1024},
        store=Store(link_bytes_per_s=0.4e6),
    ),
    "lzw": lambda cache: _image(
        "lzw", "one LZW file, whole", cache, file={"compression": "lzw", "tile": 256}
    ),
    "zstd": lambda cache: _image(
        "zstd", "one zstd file, whole", cache, file={"compression": "zstd", "tile": 256}
    ),
    "jpeg": lambda cache: _image(
        "jpeg",
        "one JPEG file of 256 tiles, whole",
        cache,
        file={"compression": "jpeg", "tile": 256, "bits": 8},
        is_lossy=True,
    ),
    "jpeg2000": lambda cache: _image(
        "jpeg2000",
        "one JPEG 2000 file of 256 tiles, whole",
        cache,
        file={"compression": "jpeg2000", "tile": 256, "bits": 8},
        is_lossy=True,
    ),
    "strips": lambda cache: _image(
        "strips",
        "one deflate file in strips of 16 rows, whole",
        cache,
        file={"compression": "zlib", "tile": None},
    ),
    "overview": _overview,
    "pages": _pages,
}
"""How the objects of each case are made, given a folder to keep files in."""
