"""Copy what is open already: `to_zarr`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from cloudimg.errors import ArgumentError
from cloudimg.image.image import Image
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.options import WRITE_DEFAULTS, WriteOptions
from cloudimg.migration.progress import progress_callback
from cloudimg.migration.run.arguments import write_to_url
from cloudimg.migration.run.array_input import (
    warn_of_colours,
    warn_of_no_scale,
    write_input_of_array,
)
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import URL

if TYPE_CHECKING:
    from cloudimg.api.images import Pixels


@takes_keywords(WriteOptions, WRITE_DEFAULTS)
@on_cluster(urls=["url", "labels_of"], progress=progress_callback)
def to_zarr(
    x: Pixels,
    url: URL | None = None,
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
    url : str or path, optional
        Folder for the OME-Zarr: in S3 (``s3://``), Google Cloud (``gs://``), Azure, or local.
        Left out with `labels_of`.
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
        Name of the image in viewers; of labels, also that of their folder.
    plate : bool, optional
        Whether images along further axes are the fields of a plate, or a collection. By default a
        plate if one of these axes is ``well``, or two are ``row`` and ``col``, whose labels look
        like those of wells, and the others are fields (``field``, ``fov``, ``site``) and
        acquisitions (``acquisition``, ``run``, ``cycle``).
    overview : bool, optional
        Whether to add a small image of each image to a plate or a collection, all in one array that
        is one object: the image in the folder ``overview``. Images have up to 64 pixels along y and
        x, fewer if there are many, from the middle of z and the beginning of t.
    grow : str, optional
        Axis along which the copy may grow, such as ``"t"``: a field of the URL pattern from which
        the image was opened. Chunks and shards have one index of it, and no level is smaller along
        it. The same call then adds the files that came later, and stores no object again; see the
        guide to migrating.
    labels_of : str or path, optional
        A copy, or any other image of OME-Zarr: the pixels become its labels, in its folder
        ``labels/NAME``, instead of an image of their own. They must be integers and have the
        shape of the image, whose axes t and c they may lack. They get its pixel size and its
        levels, by `downsampling` "mode" (the default) or "nearest"; pixels of one bit become
        bytes. Their group is a copy of its own, which `verify` and `repair` take; the list of
        the image's labels names it once it is finished.
    scale : mapping, optional
        Distance between neighbouring pixels by dim, as in ``{"y": 0.325, "x": 0.325}``. By default,
        and where a dim is left out, what the files say of an Image, and the coordinates of an
        `xarray.DataArray`. An array without either has the scale 1, of which a warning tells
        unless `scale` is given; ``{}`` if nobody knows it.
    units : mapping, optional
        Units by dim of `scale`, `translation` and coordinates: names or symbols of length such as
        "micrometer", "nm" or "inch", and along t of time. All axes of space get one unit, to which
        the numbers are converted; a unit that OME-Zarr lacks is left out, with a note.
    translation : mapping, optional
        Position of the centre of the first pixel by dim, in the unit of its axis. By default that
        of the coordinates, or of an Image the position of the stage, if its files state one.
    channel_names : sequence of str, optional
        Names of the channels; of an array otherwise its coordinates along c.
    pixel_size : number, str or mapping by dim, optional
        `scale` and `units` in one: ``{"x": "325 nm", "z": 2}``; one size is for y and x. Numbers
        without a unit are micrometers, and seconds along t.
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
        Options of fsspec for the store of `url`, or that of `labels_of`.

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
    ...     np.zeros((10, 512, 512), np.uint16),
    ...     "zeros.ome.zarr",
    ...     dims=("z", "y", "x"),
    ...     pixel_size={"z": 2, "y": "325 nm", "x": "325 nm"},
    ... )
    >>> bool(cloudimg.verify("zeros.ome.zarr"))
    True
    """
    if isinstance(x, Image):
        if dims is not None or identity is not None:
            raise ArgumentError("dims= and identity= are for arrays: an Image has its own")
        return x.to_zarr(url, **options)
    if options.get("grow") is not None:
        raise ArgumentError(
            f"grow={options['grow']!r} is for images in files that a URL pattern matches, which may"
            " become more: leave it out for an array"
        )

    stated = Calibration.of(options)
    write_input = write_input_of_array(x, dims=dims, identity=identity, calibration=stated)
    if all(options.get(each) is None for each in ("labels_of", "pixel_size", "scale")):
        warn_of_no_scale(write_input.facts)
    if dims is None and not hasattr(x, "dims"):
        warn_of_colours(write_input.axes_mapping)

    def array_input(name: str | None, earlier: EarlierSource | None) -> WriteInput:
        facts = write_input.facts
        return replace(write_input, facts=replace(facts, name=name or facts.name))

    return write_to_url(array_input, url, options, options.get("storage_options"))
