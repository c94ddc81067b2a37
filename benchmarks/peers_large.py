"""Who reads one file: whole, a window, a level or through Dask in chunks."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from contest import CLIENT_THREADS, Array, Job, Read, contender, gdal, imported_cloudimg

_SPAN_BYTES = 8 * 2**20
"""One request of the reader by hand; of 1, 2, 4 and 8 MiB the fastest."""


@contender("cloudimg", "cloudimg.open(url).read(region)", "image window pages", "cloudimg-dask")
def _cloudimg_read(job: Job) -> Read:
    cloudimg = imported_cloudimg()

    def read() -> Array:
        image = cloudimg.open(job.url, storage_options=job.storage_options)
        pixels: Array = image.read(None if job.kind == "pages" else job.region_slices)
        return pixels

    return read


@contender("cloudimg", "cloudimg.open(url).read(level=...)", "overview", "cloudimg-dask")
def _cloudimg_overview(job: Job) -> Read:
    cloudimg = imported_cloudimg()

    def read() -> Array:
        image = cloudimg.open(job.url, storage_options=job.storage_options)
        pixels: Array = image.read(level=job.level)
        return pixels

    return read


@contender("cloudimg", "cloudimg.imread(url, chunks=...).compute()", "chunks", "cloudimg-dask")
def _cloudimg_chunks(job: Job) -> Read:
    cloudimg = imported_cloudimg()

    def read() -> Array:
        chunks = (job.chunk, job.chunk)
        image = cloudimg.imread(job.url, chunks=chunks, storage_options=job.storage_options)
        pixels: Array = image.compute()
        return pixels

    return read


@contender(
    "cloudimg-dask", "cloudimg.imread(url)[region].compute()", "image window", "cloudimg-dask"
)
def _cloudimg_dask(job: Job) -> Read:
    cloudimg = imported_cloudimg()

    def read() -> Array:
        image = cloudimg.imread(job.url, storage_options=job.storage_options)
        pixels: Array = image[job.region_slices].compute()
        return pixels

    return read


@contender(
    "by hand",
    "one GET for the header, tifffile parses; ranges of ~8 MB in threads, imagecodecs decodes",
    "image window",
    "obstore tifffile imagecodecs",
)
def _hand_large(job: Job) -> Read:
    import imagecodecs
    import obstore
    import tifffile
    from obstore.store import S3Store

    def read() -> Array:
        store = S3Store(job.bucket, **job.obstore_arguments())
        head = obstore.get_range(store, job.image, start=0, end=32 * 2**10)
        page = tifffile.TiffFile(io.BytesIO(head)).pages.first
        rows, columns = (
            range(*part.indices(n)) for part, n in zip(job.region_slices, page.shape, strict=True)
        )
        out = np.empty((len(rows), len(columns)), page.dtype)
        tile_bytes = math.prod(_segment_shape(page)) * page.dtype.itemsize
        is_deflate = page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE and page.is_tiled
        tables = page.tags.valueof("JPEGTables")

        def decode(encoded: memoryview, tile: _Tile) -> Array:
            if is_deflate:
                decoded = imagecodecs.deflate_decode(encoded, out=tile_bytes)
                return np.frombuffer(decoded, page.dtype).reshape(_segment_shape(page))
            pixels: Array = page.decode(bytes(encoded), tile.index, jpegtables=tables)[0]
            return pixels[0, :, :, 0]

        def fetch(tiles: list[_Tile]) -> None:
            start = tiles[0].start
            data = memoryview(obstore.get_range(store, job.image, start=start, end=tiles[-1].stop))
            for tile in tiles:
                pixels = decode(data[tile.start - start : tile.stop - start], tile)
                _paste(out, pixels, (rows.start, columns.start), (tile.top, tile.left))

        with ThreadPoolExecutor(CLIENT_THREADS) as pool:
            list(pool.map(fetch, _runs(_tiles_in(page, rows, columns))))
        return out

    return read


@contender(
    "s3fs whole",
    "tifffile.imread(BytesIO(s3fs.cat_file(url)))",
    "image pages",
    "s3fs tifffile",
)
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
    "image window chunks",
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
            chunks = job.chunk if job.kind == "chunks" else "auto"
            image = da.from_zarr(zarr.open(store, mode="r"), chunks=chunks)
            pixels: Array = image[job.region_slices].compute()
            return pixels

    return read


@contender(
    "async-tiff",
    "TIFF.open, fetch_tiles a row of tiles at a time, all rows at once, decode in its thread pool",
    "image window overview",
    "async-tiff",
)
def _async_tiff(job: Job) -> Read:
    import asyncio

    from async_tiff import TIFF
    from async_tiff.store import S3Store

    async def read() -> Array:
        store = S3Store(job.bucket, **job.obstore_arguments())
        tiff = await TIFF.open(job.image, store=store)
        level = job.level if job.kind == "overview" else 0
        ifd = tiff.ifd(level)
        high, wide = ifd.tile_height or 0, ifd.tile_width or 0
        rows, columns = (
            range(*part.indices(n))
            for part, n in zip(job.region_slices, (ifd.image_height, ifd.image_width), strict=True)
        )
        dtype = np.dtype(f"u{ifd.bits_per_sample[0] // 8}")
        out = np.empty((len(rows), len(columns)), dtype)
        across = range(columns.start // wide, -(-columns.stop // wide))

        async def one(tile: Any) -> None:
            place = tile.y * high, tile.x * wide  # before decoding, which consumes the tile
            pixels = np.asarray(await tile.decode())[:, :, 0]
            _paste(out, pixels, (rows.start, columns.start), place)

        async def row(y: int) -> None:
            tiles = await tiff.fetch_tiles([(x, y) for x in across], level)
            await asyncio.gather(*(one(tile) for tile in tiles))

        await asyncio.gather(*(row(y) for y in range(rows.start // high, -(-rows.stop // high))))
        return out

    return lambda: asyncio.run(read())


@contender(
    "rasterio",
    "rasterio.open over /vsis3, read(1, window=...) with GDAL_NUM_THREADS=ALL_CPUS",
    "image window",
    "rasterio",
)
def _rasterio_large(job: Job) -> Read:
    import rasterio
    from rasterio.windows import Window

    def read() -> Array:
        with gdal(job), rasterio.open(f"/vsis3/{job.bucket}/{job.image}") as image:
            window = Window.from_slices(
                *(
                    (part.indices(n)[0], part.indices(n)[1])
                    for part, n in zip(job.region_slices, image.shape, strict=True)
                )
            )
            pixels: Array = image.read(1, window=window)
            return pixels

    return read


@contender("rasterio", "rasterio.open(overview_level=...) over /vsis3", "overview", "rasterio")
def _rasterio_overview(job: Job) -> Read:
    import rasterio

    def read() -> Array:
        name = f"/vsis3/{job.bucket}/{job.image}"
        with gdal(job), rasterio.open(name, overview_level=job.level - 1) as image:
            pixels: Array = image.read(1)
            return pixels

    return read


@contender(
    "async-geotiff",
    "GeoTIFF.open(url).read(window)",
    "image window",
    "async-geotiff async-tiff",
)
def _async_geotiff(job: Job) -> Read:
    import asyncio

    from async_geotiff import GeoTIFF
    from async_tiff.store import S3Store

    async def read() -> Array:
        store = S3Store(job.bucket, **job.obstore_arguments())
        image = await GeoTIFF.open(job.image, store=store)
        pixels: Array = (await image.read()).data[0][job.region_slices]
        return pixels

    return lambda: asyncio.run(read())


@contender(
    "tensorstore",
    "tensorstore's tiff driver over its s3 store",
    "image window",
    "tensorstore",
)
def _tensorstore(job: Job) -> Read:
    import tensorstore

    def read() -> Array:
        place = {
            "driver": "s3",
            "bucket": job.bucket,
            "path": job.image,
            "endpoint": job.endpoint,
            "aws_region": job.region,
            "aws_credentials": {"type": "environment"},
        }
        image = tensorstore.open({"driver": "tiff", "kvstore": place}).result()
        pixels: Array = image[job.region_slices].read().result()
        return pixels

    return read


@dataclass(frozen=True, slots=True)
class _Tile:
    index: int
    top: int
    left: int
    start: int
    stop: int


def _segment_shape(page: Any) -> tuple[int, int]:
    """Rows and columns of a tile or strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return page.rowsperstrip, page.imagewidth


def _tiles_in(page: Any, rows: range, columns: range) -> Iterator[_Tile]:
    """Tiles or strips that hold a region, in the order of the file."""
    high, wide = _segment_shape(page)
    across = -(-page.imagewidth // wide)
    for i, (start, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        top, left = i // across * high, i % across * wide
        if (
            top < rows.stop
            and top + high > rows.start
            and left < columns.stop
            and left + wide > columns.start
        ):
            yield _Tile(i, top, left, start, start + count)


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
