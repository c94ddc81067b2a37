"""The contenders: each reads the same objects the way that its own documentation would.

Run as a script, this is the child of `read.py`: it reads one job (JSON) from standard input, makes
one contender read, and writes what came of it (JSON) to standard output. A child does one read, so
that no contender finds anything in a cache of its own or of another.

A contender is a function that imports what it needs and returns the read itself: imports are not
timed, but everything after them is, from making the client and listing to the last pixel.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DASK_THREADS = 2
HAND_THREADS = 64
"""Threads of the hand-written readers, which only wait; more gained nothing."""
_SPAN_BYTES = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """What a child shall read, from where."""

    case: str
    contender: str
    endpoint: str
    region: str
    bucket: str
    pattern: str
    """URL pattern of the small files."""
    keys: tuple[str, ...]
    """Of the small files, for the contenders that cannot list."""
    large: str
    """Key of the large file."""
    window: tuple[int, int, int, int]
    """Of the large file: first and last row, first and last column, half-open."""

    @property
    def storage_options(self) -> dict[str, Any]:
        """For fsspec and cloudimg."""
        client = {"endpoint_url": self.endpoint, "region_name": self.region}
        return {"key": "x", "secret": "y", "client_kwargs": client}

    @property
    def url(self) -> str:
        """Of the large file."""
        return f"s3://{self.bucket}/{self.large}"

    @property
    def folder(self) -> str:
        """Of the small files, with the bucket."""
        return f"{self.bucket}/{self.keys[0].rpartition('/')[0]}"

    @property
    def region_slices(self) -> tuple[slice, slice]:
        """What is to be read of the large file."""
        if self.case == "large":
            return slice(None), slice(None)
        top, bottom, left, right = self.window
        return slice(top, bottom), slice(left, right)

    def obstore_arguments(self) -> dict[str, Any]:
        """For obstore's S3Store and the copy of it that async-tiff has."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": "x",
            "secret_access_key": "y",
            "client_options": {"allow_http": True},
        }


Read = Callable[[], int | Array]
"""Makes one read and returns the sum of the small files, or the pixels of the large one."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to read."""

    name: str
    what: str
    """For the table's legend."""
    cases: tuple[str, ...]
    packages: tuple[str, ...]
    """As pip and importlib.metadata call them."""
    prepare: Callable[[Job], Read]
    refuses: str
    """Why it cannot do this today; its own error is shown and fails nothing."""


CONTENDERS: list[Contender] = []


def contender(
    name: str, what: str, cases: str, packages: str, refuses: str = ""
) -> Callable[[Callable[[Job], Read]], Callable[[Job], Read]]:
    """Register a contender for some cases."""

    def register(prepare: Callable[[Job], Read]) -> Callable[[Job], Read]:
        CONTENDERS.append(
            Contender(name, what, tuple(cases.split()), tuple(packages.split()), prepare, refuses)
        )
        return prepare

    return register


def find(case: str, name: str) -> Contender:
    """The contender of that name in that case."""
    return next(c for c in CONTENDERS if c.name == name and case in c.cases)


# cloudimg


@contender("cloudimg", "cloudimg.imread(pattern).sum().compute()", "files", "cloudimg-dask")
def _cloudimg_files(job: Job) -> Read:
    cloudimg = _imported_cloudimg()

    def read() -> int:
        image = cloudimg.imread(job.pattern, storage_options=job.storage_options)
        return int(image.sum().compute())

    return read


@contender("cloudimg", "cloudimg.open(url).read(region)", "large window", "cloudimg-dask")
def _cloudimg_read(job: Job) -> Read:
    cloudimg = _imported_cloudimg()

    def read() -> Array:
        image = cloudimg.open(job.url, storage_options=job.storage_options)
        pixels: Array = image.read(job.region_slices)
        return pixels

    return read


@contender("cloudimg-dask", "cloudimg.imread(url)[region].compute()", "large window", "cloudimg-dask")
def _cloudimg_dask(job: Job) -> Read:
    cloudimg = _imported_cloudimg()

    def read() -> Array:
        image = cloudimg.imread(job.url, storage_options=job.storage_options)
        pixels: Array = image[job.region_slices].compute()
        return pixels

    return read


def _imported_cloudimg() -> Any:
    # Also what cloudimg imports only when it is needed: nobody's imports are timed.
    import botocore.configprovider
    import botocore.session
    import cloudimg
    import dask.array
    import imagecodecs
    import tifffile  # noqa: F401

    for module in pkgutil.walk_packages(cloudimg.__path__, "cloudimg."):
        with contextlib.suppress(ImportError):  # optional dependencies, which no case needs
            importlib.import_module(module.name)
    return cloudimg


# By hand: what somebody would write who knows the store, the format and the task


@contender("by hand", "obstore and tifffile in threads, one GET a file", "files", "obstore tifffile")
def _hand_files(job: Job) -> Read:
    import obstore
    import tifffile
    from obstore.store import S3Store

    def read() -> int:
        store = S3Store(job.bucket, **job.obstore_arguments())

        def one(key: str) -> int:
            data = obstore.get(store, key).bytes()
            return int(tifffile.imread(io.BytesIO(data)).sum(dtype=np.uint64))

        folder = job.keys[0].rpartition("/")[0]
        keys = [meta["path"] for batch in obstore.list(store, folder) for meta in batch]
        with ThreadPoolExecutor(HAND_THREADS) as pool:
            return sum(pool.map(one, keys))

    return read


@contender(
    "by hand",
    "one GET for the header, tifffile parses; ranges of ~2 MB in threads, imagecodecs decodes",
    "large window",
    "obstore tifffile imagecodecs",
)
def _hand_large(job: Job) -> Read:
    import imagecodecs
    import obstore
    import tifffile
    from obstore.store import S3Store

    def read() -> Array:
        store = S3Store(job.bucket, **job.obstore_arguments())
        head = obstore.get_range(store, job.large, start=0, end=32 * 2**10)
        page = tifffile.TiffFile(io.BytesIO(head)).pages.first
        shape = (page.tilelength, page.tilewidth)
        rows, columns = (
            range(*part.indices(n)) for part, n in zip(job.region_slices, page.shape, strict=True)
        )
        out = np.empty((len(rows), len(columns)), page.dtype)

        def fetch(tiles: list[_Tile]) -> None:
            start = tiles[0].start
            data = memoryview(
                obstore.get_range(store, job.large, start=start, end=tiles[-1].stop)
            )
            for tile in tiles:
                decoded = imagecodecs.deflate_decode(data[tile.start - start : tile.stop - start])
                pixels = np.frombuffer(decoded, page.dtype).reshape(shape)
                _paste(out, pixels, (rows.start, columns.start), (tile.top, tile.left))

        with ThreadPoolExecutor(HAND_THREADS) as pool:
            list(pool.map(fetch, _runs(_tiles_in(page, rows, columns))))
        return out

    return read


@dataclass(frozen=True, slots=True)
class _Tile:
    top: int
    left: int
    start: int
    stop: int


def _tiles_in(page: Any, rows: range, columns: range) -> Iterator[_Tile]:
    """Tiles that hold a region, in the order of the file."""
    across = -(-page.imagewidth // page.tilewidth)
    for i, (start, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        top, left = i // across * page.tilelength, i % across * page.tilewidth
        if (
            top < rows.stop
            and top + page.tilelength > rows.start
            and left < columns.stop
            and left + page.tilewidth > columns.start
        ):
            yield _Tile(top, left, start, start + count)


def _runs(tiles: Iterator[_Tile]) -> list[list[_Tile]]:
    """Neighbours in the file, as many as make up one request."""
    runs: list[list[_Tile]] = []
    for tile in tiles:
        near = runs and tile.start - runs[-1][-1].stop < 512
        if near and tile.stop - runs[-1][0].start <= _SPAN_BYTES:
            runs[-1].append(tile)
        else:
            runs.append([tile])
    return runs


def _paste(out: Array, tile: Array, origin: tuple[int, int], place: tuple[int, int]) -> None:
    """Copy the part of a tile at `place` that lies in `out`, which begins at `origin`."""
    inner, outer = [], []
    for n, m, first, at in zip(tile.shape, out.shape, origin, place, strict=True):
        begin, end = max(at, first), min(at + n, first + m)
        inner.append(slice(begin - at, end - at))
        outer.append(slice(begin - first, end - first))
    out[tuple(outer)] = tile[tuple(inner)]


# fsspec


@contender(
    "fsspec+dask",
    "fsspec.open and tifffile.imread in dask.delayed, a block a file, as posts on Dask show it",
    "files",
    "s3fs tifffile dask",
)
def _fsspec_dask(job: Job) -> Read:
    import dask
    import dask.array as da
    import fsspec
    import s3fs  # noqa: F401
    import tifffile

    def load(path: str) -> Array:
        with fsspec.open(f"s3://{path}", **job.storage_options) as file:
            return tifffile.imread(file)

    def read() -> int:
        # Not glob: ls leaves every size in s3fs's cache, which spares each open a request.
        paths = fsspec.filesystem("s3", **job.storage_options).ls(job.folder)
        first = load(paths[0])
        blocks = [
            da.from_delayed(dask.delayed(load)(path), first.shape, first.dtype) for path in paths
        ]
        return int(da.stack(blocks).sum().compute())

    return read


@contender("s3fs loop", "tifffile.imread(s3fs.open(path)), one after another", "files", "s3fs tifffile")
def _s3fs_loop(job: Job) -> Read:
    import s3fs
    import tifffile

    def read() -> int:
        fs = s3fs.S3FileSystem(**job.storage_options)
        total = 0
        for path in fs.ls(job.folder):
            with fs.open(path) as file:
                total += int(tifffile.imread(file).sum(dtype=np.uint64))
        return total

    return read


@contender(
    "s3fs cat", "s3fs.cat(all paths), concurrent inside s3fs, then tifffile", "files", "s3fs tifffile"
)
def _s3fs_cat(job: Job) -> Read:
    import s3fs
    import tifffile

    def read() -> int:
        fs = s3fs.S3FileSystem(**job.storage_options)
        files = fs.cat(fs.ls(job.folder))
        return sum(
            int(tifffile.imread(io.BytesIO(data)).sum(dtype=np.uint64)) for data in files.values()
        )

    return read


@contender("s3fs whole", "tifffile.imread(BytesIO(s3fs.cat_file(url)))", "large", "s3fs tifffile")
def _s3fs_whole(job: Job) -> Read:
    import s3fs
    import tifffile

    def read() -> Array:
        fs = s3fs.S3FileSystem(**job.storage_options)
        pixels: Array = tifffile.imread(io.BytesIO(fs.cat_file(job.url)), maxworkers=os.cpu_count())
        return pixels

    return read


@contender(
    "aszarr+dask",
    "dask.array.from_zarr(tifffile.imread(s3fs.open(url), aszarr=True))[region]",
    "large window",
    "s3fs tifffile zarr dask",
)
def _aszarr(job: Job) -> Read:
    import dask.array as da
    import s3fs
    import tifffile
    import zarr

    def read() -> Array:
        fs = s3fs.S3FileSystem(**job.storage_options)
        with fs.open(job.url) as file, tifffile.imread(file, aszarr=True) as store:
            image = da.from_zarr(zarr.open(store, mode="r"))
            pixels: Array = image[job.region_slices].compute()
            return pixels

    return read


@contender(
    "bioio",
    "bioio_tifffile.Reader(url).dask_data of each file, stacked",
    "files",
    "bioio bioio-tifffile s3fs",
)
def _bioio(job: Job) -> Read:
    import bioio_tifffile
    import dask.array as da
    import s3fs

    def read() -> int:
        paths = s3fs.S3FileSystem(**job.storage_options).ls(job.folder)
        images = [
            bioio_tifffile.Reader(f"s3://{path}", fs_kwargs=job.storage_options).dask_data
            for path in paths
        ]
        return int(da.stack(images).sum().compute())

    return read


# Geodata's readers


@contender(
    "async-tiff",
    "TIFF.open, fetch_tiles a row of tiles at a time, all rows at once, decode in its thread pool",
    "large window",
    "async-tiff",
)
def _async_tiff(job: Job) -> Read:
    import asyncio

    from async_tiff import TIFF
    from async_tiff.store import S3Store

    async def read() -> Array:
        store = S3Store(job.bucket, **job.obstore_arguments())
        tiff = await TIFF.open(job.large, store=store)
        ifd = tiff.ifd(0)
        high, wide = ifd.tile_height or 0, ifd.tile_width or 0
        rows, columns = (
            range(*part.indices(n))
            for part, n in zip(job.region_slices, (ifd.image_height, ifd.image_width), strict=True)
        )
        out = np.empty((len(rows), len(columns)), np.uint16)
        across = range(columns.start // wide, -(-columns.stop // wide))

        async def one(tile: Any) -> None:
            place = tile.y * high, tile.x * wide  # before decoding, which consumes the tile
            pixels = np.asarray(await tile.decode())[:, :, 0]
            _paste(out, pixels, (rows.start, columns.start), place)

        async def row(y: int) -> None:
            tiles = await tiff.fetch_tiles([(x, y) for x in across], 0)
            await asyncio.gather(*(one(tile) for tile in tiles))

        await asyncio.gather(*(row(y) for y in range(rows.start // high, -(-rows.stop // high))))
        return out

    return lambda: asyncio.run(read())


@contender(
    "async-tiff",
    "TIFF.open and fetch_tile of each file",
    "files",
    "async-tiff",
    refuses="reads tiles, these files have strips",
)
def _async_tiff_files(job: Job) -> Read:
    import asyncio

    from async_tiff import TIFF
    from async_tiff.store import S3Store

    async def one(store: Any, key: str) -> int:
        tile = await (await TIFF.open(key, store=store)).fetch_tile(0, 0, 0)
        return int(np.asarray(await tile.decode()).sum(dtype=np.uint64))

    async def read() -> int:
        store = S3Store(job.bucket, **job.obstore_arguments())
        return sum(await asyncio.gather(*(one(store, key) for key in job.keys)))

    return lambda: asyncio.run(read())


@contender(
    "async-geotiff",
    "GeoTIFF.open(url).read(window)",
    "large window",
    "async-geotiff async-tiff",
    refuses="opens only files with geographic keys",
)
def _async_geotiff(job: Job) -> Read:
    import asyncio

    from async_geotiff import GeoTIFF
    from async_tiff.store import S3Store

    async def read() -> Array:
        store = S3Store(job.bucket, **job.obstore_arguments())
        image = await GeoTIFF.open(job.large, store=store)
        pixels: Array = (await image.read()).data[0][job.region_slices]
        return pixels

    return lambda: asyncio.run(read())


@contender(
    "rasterio",
    "a dataset a file in threads over /vsis3, names given",
    "files",
    "rasterio",
)
def _rasterio_files(job: Job) -> Read:
    import rasterio

    def one(key: str) -> int:
        # The environment of GDAL belongs to a thread.
        with _gdal(job), rasterio.open(f"/vsis3/{job.bucket}/{key}") as image:
            return int(image.read(1).sum(dtype=np.uint64))

    def read() -> int:
        with ThreadPoolExecutor(HAND_THREADS) as pool:
            return sum(pool.map(one, job.keys))

    return read


@contender(
    "rasterio",
    "rasterio.open over /vsis3, read(1, window=...) with GDAL_NUM_THREADS=ALL_CPUS",
    "large window",
    "rasterio",
)
def _rasterio_large(job: Job) -> Read:
    import rasterio
    from rasterio.windows import Window

    def read() -> Array:
        with _gdal(job), rasterio.open(f"/vsis3/{job.bucket}/{job.large}") as image:
            window = Window.from_slices(
                *(
                    (part.indices(n)[0], part.indices(n)[1])
                    for part, n in zip(job.region_slices, image.shape, strict=True)
                )
            )
            pixels: Array = image.read(1, window=window)
            return pixels

    return read


def _gdal(job: Job) -> Any:
    import rasterio

    return rasterio.Env(
        AWS_S3_ENDPOINT=job.endpoint.removeprefix("http://"),
        AWS_HTTPS="NO",
        AWS_VIRTUAL_HOSTING="FALSE",
        AWS_REGION=job.region,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_NUM_THREADS="ALL_CPUS",
    )


# Others that were looked at


@contender(
    "tensorstore",
    "tensorstore's tiff driver over its s3 store",
    "large window",
    "tensorstore",
    refuses="its tiff driver reads only uint8",
)
def _tensorstore(job: Job) -> Read:
    import tensorstore

    def read() -> Array:
        place = {
            "driver": "s3",
            "bucket": job.bucket,
            "path": job.large,
            "endpoint": job.endpoint,
            "aws_region": job.region,
            "aws_credentials": {"type": "environment"},
        }
        image = tensorstore.open({"driver": "tiff", "kvstore": place}).result()
        pixels: Array = image[job.region_slices].read().result()
        return pixels

    return read


@contender(
    "dask-image", "dask_image.imread.imread(glob)", "files", "dask-image", refuses="reads local paths"
)
def _dask_image(job: Job) -> Read:
    import dask_image.imread

    return lambda: int(dask_image.imread.imread(f"s3://{job.folder}/*.tif").sum().compute())


# The child


def missing_packages(contender: Contender) -> list[str]:
    """What pip would have to install."""
    missing = []
    for package in contender.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def peak_mb() -> float | None:
    """The most memory that this process ever held, where the system tells it.

    Not getrusage's: that begins with the peak of the process that forked this one.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def main() -> None:
    from objects import digest

    given = json.load(sys.stdin)
    job = Job(**given | {"keys": tuple(given["keys"]), "window": tuple(given["window"])})
    read = find(job.case, job.contender).prepare(job)
    with contextlib.suppress(ImportError):
        import dask

        dask.config.set(scheduler="threads", num_workers=DASK_THREADS)
        import distributed  # noqa: F401 - Dask looks for it at the first compute()
    before_s, cpu_before_s = time.perf_counter(), time.process_time()
    found = read()
    seconds, cpu_s = time.perf_counter() - before_s, time.process_time() - cpu_before_s
    peak = peak_mb()
    answer = str(found) if isinstance(found, int) else digest(found)
    result = {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak, "answer": answer}
    json.dump(result, sys.stdout)
    sys.stdout.flush()
    # Not sys.exit: threads that some clients leave behind crash an interpreter that ends.
    os._exit(0)


__all__ = ["CONTENDERS", "Contender", "Job", "asdict", "find", "missing_packages"]


if __name__ == "__main__":
    main()
