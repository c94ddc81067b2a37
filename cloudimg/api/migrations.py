"""Make copies: `to_zarr`, `migrate`, and `dry_run`, which only reports the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from cloudimg.api.images import open_image
from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.image.image import Image
from cloudimg.migration.options import (
    WRITE_DEFAULTS,
    DryRunOptions,
    MigrateOptions,
    WriteOptions,
)
from cloudimg.migration.progress import progress_callback
from cloudimg.migration.run.advice import facts_with_advice
from cloudimg.migration.run.arguments import make_request, memory, write_to_url
from cloudimg.migration.run.array_input import write_input_of_array
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.estimate import Estimate, estimate
from cloudimg.migration.run.planning import plan_for
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import (
    FILE_OPTIONS,
    OPEN_DEFAULTS,
    URL,
    OpenArguments,
    OpeningPurpose,
    StorageOptions,
    URLs,
)
from cloudimg.opening.tables import read_table

_DEFAULTS = {**OPEN_DEFAULTS, **WRITE_DEFAULTS, "allow_unmatched": False}

if TYPE_CHECKING:
    from cloudimg.api.images import Pixels
    from cloudimg.distributed.run import Client


@takes_keywords(WriteOptions, WRITE_DEFAULTS)
@on_cluster(urls=["url"], progress=progress_callback)
def to_zarr(
    x: Pixels,
    url: URL,
    *,
    dims: Sequence[str] | None = None,
    identity: str | None = None,
    **options: Unpack[WriteOptions],
) -> Migration:
    """Write an image to a sharded OME-Zarr, or continue an interrupted migration.

    The stored bytes depend only on the image and the arguments. They are planned first, and the
    plan is stored. Each cell of the plan is then read once and writes its shards at several
    levels, one request per shard. If the process is killed, the same call continues and ends with
    the same bytes. `verify` checks the result. Concurrent migrations to one destination are
    rejected.

    Parameters
    ----------
    x : Image, dask.array.Array, xarray.DataArray or ndarray
        The image to write.
    url : str or path
        Folder for the OME-Zarr: in S3 (``s3://``), Google Cloud (``gs://``), Azure, or local.
    dims : sequence of str, optional
        Names of the axes of an array without names; by default the last ones of t, c, z, y, x.
    identity : str, optional
        A name for the content of a Dask array, if the array's own name differs between runs. An
        interrupted migration is continued only if the identity is the same.
    zarr_format : {3, 2}
        3 is OME-Zarr 0.5 with shards, 2 is OME-Zarr 0.4 for older programs.
    chunks : tuple, mapping by dim or int, optional
        Shape of the chunks that viewers read; a single number is for y and x. By default 256 x 256
        or 64 x 64 x 64, depending on the shape of the image.
    shards : tuple, mapping by dim or int, optional
        Shape of the stored objects at level 0, a multiple of `chunks`. By default chosen so that
        an object holds 32 to 64 MiB and few pixels are read twice.
    levels : int, optional
        Number of resolution levels, including level 0.
    factors : mapping by dim, or list of them, optional
        Downsampling factors from each level to the next. By default 2 along y and x, and along z
        if the image is about as deep as it is wide.
    downsampling : {"mean", "nearest", "mode"}
        "mean" is for images, "nearest" and "mode" are for labels. By default what the header says:
        "mode" for a palette, a mask, GDAL's categories, and integers that are named labels. A
        nodata value and NaN have no part in a mean.
    codec : str, mapping or codec of zarr, optional
        Compression, such as "zstd", "zstd:9", "blosc", "none" or
        ``{"name": ..., "configuration": ...}``.
    name : str, optional
        Name of the image in viewers.
    max_mem : int or str, optional
        Limit of memory for cells in flight, such as "2GB"; on a cluster, of each worker.
    overwrite : bool
        Delete what is at `url` if it is anything but this migration. An interrupted call with
        ``overwrite=True`` continues like any other.
    yes : bool
        With `overwrite`, delete even if another process may still be deleting there: one that
        cannot be seen from here, and did not end in an orderly way. Once it goes on, it may delete
        what was stored since.
    confirm : callable, optional
        Called with a `Deletion` before `overwrite` deletes anything; False stops the migration.
    resume : bool
        Whether to continue an unfinished migration. With False it is an error.
    client : distributed.Client, optional
        Dask cluster whose workers write the cells. One of them drives the migration: this process
        needs no access to the stores, and local paths are those of the workers. A function that
        returns a client is called once there are cells to write, and this process drives.
    progress : bool or callable
        True prints a progress line; a function is called with an `Advance`.
    storage_options : mapping, optional
        Options of fsspec for the store of `url`.

    Returns
    -------
    Migration

    Raises
    ------
    ArgumentError
        If an argument is invalid, or `url` holds a migration with other arguments or of another
        source, or anything that cloudimg did not write.
    LeaseError
        If another process is writing to `url`.
    DamagedCopyError
        If `url` holds a finished copy that lacks objects, or whose metadata is damaged.
    StorageError, FormatError, GridError, ChangedError
        Finished cells are kept; the same call continues from there.

    Examples
    --------
    >>> import cloudimg
    >>> import numpy as np
    >>> done = cloudimg.to_zarr(
    ...     np.zeros((10, 512, 512), np.uint16), "zeros.ome.zarr", dims=("z", "y", "x")
    ... )
    >>> bool(cloudimg.verify("zeros.ome.zarr"))
    True
    """
    if isinstance(x, Image):
        if dims is not None or identity is not None:
            raise ArgumentError("dims= and identity= are for arrays: an Image has its own")
        return x.to_zarr(url, **options)

    def array_input(name: str | None, earlier: EarlierSource | None) -> WriteInput:
        return write_input_of_array(x, dims=dims, name=name, identity=identity)

    return write_to_url(array_input, url, options, options.get("storage_options"))


@takes_keywords(MigrateOptions, _DEFAULTS)
@on_cluster(urls=["source", "url"], progress=progress_callback)
def migrate(source: URLs, url: URL, **options: Unpack[MigrateOptions]) -> Migration:
    """Open files and write them to a sharded OME-Zarr.

    Unlike ``open(source).to_zarr(url)``, checks that `url` can be written before the source is
    opened.

    Parameters
    ----------
    source : str, path, sequence of them, or table
        A URL pattern, a glob, a file, a list of files or a table; see `cloudimg.open`.
    url : str or path
        Folder for the OME-Zarr; see `cloudimg.to_zarr`.
    source_options, target_options : mapping, optional
        Options of fsspec for the store of `source` and for that of `url`.
    allow_unmatched : bool
        Whether the pattern may leave out image files of its folder. All of the folder is listed,
        with up to 100,000 names in subfolders that the pattern does not reach, and a note in the
        copy names what else it holds.
    bad : {"raise", "fill"}
        With "raise", the cells without bad files are copied first, then one error lists all bad
        files by kind; the same call continues with the cells that are left: after the files were
        mended or replaced, or with ``bad="fill"``, which may follow "raise". With "fill", the copy
        records which files were filled, and `verify` lists them. "raise" cannot follow "fill".
    pattern, url_column, axes, dims, series, missing, exclude, fill_value, select, validate
        See `cloudimg.open`.
    palette, rgb, index_files
        See `cloudimg.open`.
    imread
        See `cloudimg.open`. `series` must be given if the files have several full images.
    place, blend, flip, align
        See `cloudimg.open`. The copy lacks what is hidden where fields overlap, and what lies
        outside with ``align="inner"``.
    allow_differences
        See `cloudimg.open`. All files are compared while they are copied.
    zarr_format, chunks, shards, levels, factors, downsampling, codec, name
        See `cloudimg.to_zarr`.
    max_mem, overwrite, yes, confirm, resume, client, progress
        See `cloudimg.to_zarr`.

    Returns
    -------
    Migration

    Raises
    ------
    UnmatchedFilesError
        If the pattern leaves out image files of its folder.
    BadFilesError
        If there are bad files, once all other cells are done; its `report` lists them by kind.
    ArgumentError, LeaseError, StorageError, FormatError, GridError, ChangedError
        See `cloudimg.to_zarr`.

    Examples
    --------
    >>> import cloudimg
    >>> done = cloudimg.migrate(
    ...     "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif",
    ...     "s3://lab/exp.ome.zarr",
    ... )
    >>> done.n_cells, done.n_objects
    (1, 1)
    """
    # Opening and writing share one client; a function that returns one is called once.
    client = once(options.get("client"))
    given = {**options, "client": client}
    opening = _open_options(given, options.get("source_options"), client)

    def image_input(name: str | None, earlier: EarlierSource | None) -> WriteInput:
        if earlier is None:
            return open_image(source, opening).write_input(name)
        purpose = earlier.purpose(*read_table(source, OpenArguments.of(opening)))
        return open_image(source, {**opening, "purpose": purpose}).write_input(name)

    return write_to_url(image_input, url, given, options.get("target_options"))


@takes_keywords(DryRunOptions, _DEFAULTS)
@on_cluster(urls=["source"])
def dry_run(source: URLs, **options: Unpack[DryRunOptions]) -> Estimate:
    """Report what `migrate` would read, write and cost, and write nothing.

    Parameters
    ----------
    source : str, path, sequence of them, or table
        A URL pattern, a glob, a file, a list of files or a table; see `cloudimg.open`.
    storage_options : mapping, optional
        Options of fsspec for the store of `source`.
    prices : mapping, optional
        Dollars per thousand requests, by kind: "put", "get", "list".
    client : distributed.Client, optional
        Dask cluster of which a worker lists the files and reads headers.
    allow_unmatched : bool
        See `migrate`.
    pattern, url_column, axes, dims, series, missing, exclude, fill_value, select, validate
        See `cloudimg.open`.
    palette, rgb, index_files
        See `cloudimg.open`.
    imread
        See `cloudimg.open`.
    place, blend, flip, align, bad, allow_differences
        See `cloudimg.open`.
    max_mem, zarr_format, chunks, shards, levels, factors, downsampling, codec, name
        See `cloudimg.to_zarr`.

    Returns
    -------
    Estimate
        ``str()`` of it is a report; `Estimate.to_json` has the numbers.

    Raises
    ------
    ArgumentError, StorageError, FormatError, GridError

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> estimate = cloudimg.dry_run(pattern, levels=2)
    >>> estimate.to_json()["get_requests"]
    360
    """
    from cloudimg.migration.encode.codecs import make_codec

    request = make_request(options)
    opening = _open_options(options, options.get("storage_options"), None)
    write_input = open_image(source, opening).write_input(request.name)
    spec = make_codec(request.codec, write_input.dtype, request.zarr_format).spec
    plan = plan_for(write_input, request, spec)
    return estimate(
        plan,
        write_input,
        facts_with_advice(write_input, plan, request),
        max_bytes=memory(options.get("max_mem"), None),
        prices=options.get("prices"),
    )


def _open_options(
    given: Mapping[str, Any], storage_options: StorageOptions | None, client: Client | None
) -> dict[str, Any]:
    """Arguments that open the source of a copy, with all that is in its folder."""
    return {
        **{name: given[name] for name in FILE_OPTIONS if name in given},
        "storage_options": storage_options,
        "client": client,
        "purpose": OpeningPurpose.copying(allow_unmatched=given.get("allow_unmatched", False)),
    }
