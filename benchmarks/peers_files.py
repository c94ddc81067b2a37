"""Who reads the sum over many small files."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from contest import CLIENT_THREADS, Array, Job, Read, contender, gdal, imported_cloudimg


@contender("cloudimg", "cloudimg.imread(pattern).sum().compute()", "files", "cloudimg-dask")
def _cloudimg_files(job: Job) -> Read:
    cloudimg = imported_cloudimg()

    def read() -> int:
        image = cloudimg.imread(job.pattern, storage_options=job.storage_options)
        return int(image.sum().compute())

    return read


@contender(
    "by hand",
    "obstore in threads, one GET a file; each file is decoded as the first one's header says",
    "files",
    "obstore tifffile imagecodecs",
)
def _hand_files(job: Job) -> Read:
    import imagecodecs
    import obstore
    import tifffile
    from obstore.store import S3Store

    def read() -> int:
        store = S3Store(job.bucket, **job.obstore_arguments())
        folder = job.keys[0].rpartition("/")[0]
        keys = [meta["path"] for batch in obstore.list(store, folder) for meta in batch]
        page = tifffile.TiffFile(io.BytesIO(obstore.get(store, keys[0]).bytes())).pages.first
        counts, dtype = page.tags["StripByteCounts"], page.dtype
        start, is_deflate = page.dataoffsets[0], page.compression != 1
        width = 2 if counts.dtype == 3 else 4

        def one(key: str) -> int:
            data = memoryview(obstore.get(store, key).bytes())
            at = counts.valueoffset
            size = int.from_bytes(data[at : at + width], "little")
            strip: Any = data[start : start + size]
            if is_deflate:
                strip = imagecodecs.deflate_decode(strip)
            return int(np.frombuffer(strip, dtype).sum(dtype=np.uint64))

        with ThreadPoolExecutor(CLIENT_THREADS) as pool:
            return sum(pool.map(one, keys))

    return read


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


@contender(
    "s3fs loop", "tifffile.imread(s3fs.open(path)), one after another", "files", "s3fs tifffile"
)
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
    "s3fs cat", "s3fs.cat(all paths) over 64 connections, then tifffile", "files", "s3fs tifffile"
)
def _s3fs_cat(job: Job) -> Read:
    import s3fs
    import tifffile

    def read() -> int:
        # By default botocore keeps ten connections, and nine in ten requests wait for one.
        pool = {"max_pool_connections": CLIENT_THREADS}
        fs = s3fs.S3FileSystem(**job.storage_options, config_kwargs=pool)
        files = fs.cat(fs.ls(job.folder))
        return sum(
            int(tifffile.imread(io.BytesIO(data)).sum(dtype=np.uint64)) for data in files.values()
        )

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
        with gdal(job), rasterio.open(f"/vsis3/{job.bucket}/{key}") as image:
            return int(image.read(1).sum(dtype=np.uint64))

    def read() -> int:
        with ThreadPoolExecutor(CLIENT_THREADS) as pool:
            return sum(pool.map(one, job.keys))

    return read


@contender(
    "async-tiff",
    "TIFF.open and fetch_tile of each file",
    "files",
    "async-tiff",
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
    "dask-image",
    "dask_image.imread.imread(URL glob)",
    "files",
    "dask-image",
)
def _dask_image(job: Job) -> Read:
    import dask_image.imread

    return lambda: int(dask_image.imread.imread(f"s3://{job.folder}/*.tif").sum().compute())
