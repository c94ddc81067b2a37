"""Open images: `open` and `imread`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from cloudimg.errors import CloudimgWarning
from cloudimg.image.image import Image
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.known_folder import open_files_or_folder
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import OPEN_DEFAULTS, OpenArguments, OpenTableOptions, URLs
from cloudimg.reading.dask_array import Chunks

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt
    import xarray

    Pixels = Image | da.Array | xarray.DataArray | npt.NDArray[Any]
    """What can be written as a copy, or compared with one."""


@takes_keywords(OpenTableOptions, OPEN_DEFAULTS)
@on_cluster(urls=["urls"])
def open(urls: URLs, **options: Unpack[OpenTableOptions]) -> Image:
    r"""Open image files as one N-dimensional image.

    Lists the files and reads headers; reads no pixels.

    Parameters
    ----------
    urls : str, path, sequence of them, or table
        A URL pattern such as ``s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif``, a glob, one
        file, a folder whose files are named by an instrument that is known (see `info`), a copy or
        any other image of OME-Zarr, a plate, a plain array of Zarr, or a list of files, in any
        protocol of fsspec, including chained ones. A field of a
        pattern names an axis: ``{c}`` matches digits, ``{c:03d}`` zero-padded digits,
        ``{well:s}`` text up to the next literal, ``{t:%Y%m%d}`` times, ``{v:f}`` floats, and
        ``{well:[A-P]\d{2}}`` a regular expression. Files are concatenated along an axis that they
        contain themselves, and stacked along any other. Or a table that lists the files: a
        DataFrame of pandas or polars, a table or reader of pyarrow, or the URL of a CSV
        (``.csv``, ``.csv.gz``), a Parquet file (``.parquet``), or the ``manifest.json`` of an S3
        Inventory; nothing is then listed. Its columns are the URL (``url``, ``key``, ``href`` or
        ``path``), `size_bytes` or ``size``, ``etag``, ``page``, facts of each file (see
        `Image.table`), and axes: all others.
    pattern : str, optional
        Gives axes to a list of URLs, or to those of a table, such as ``"t{t}_z{z}.tif"``; without
        it a list is stacked along one axis. Matched with the last folders and the name of each
        file, or with the whole URL if the pattern begins with a protocol or a slash.
    url, url_column : str, optional
        The column of a table with the URLs, or the path of a value in it, such as
        ``"assets.red.href"``; two names for one argument, of which functions that have a `url` of
        their own take the second.
    axes : mapping, optional
        New names for axes of the files, such as ``{"page": "z"}``. Of a table, also the columns
        that are axes, if there are others: ``{"datetime": "t"}``.
    dims : sequence of str, optional
        Order of the axes. By default t, c, z, y, x, s, with all other axes in front.
    place : {"index", "stage", "stack"}
        Where files that are fields of view or tiles lie. "index" joins the tiles of the fields
        ``{y}`` and ``{x}`` side by side, in the order of these numbers. "stack" stacks them.
        "stage" puts all fields of view on one plane where the stage was, in whole pixels; see
        `blend` and `flip`. Positions are those at the first time, channel and z; each well, row
        and column of a plate, and each plate, has a plane of its own, as large as the largest.
        Pixels between the fields are `fill_value`. A table of the files or the instrument's index
        files give the positions, or else the headers of these fields, which are read then. The
        image has level 0 only.
    blend : {"last", "mean"}
        What is shown where fields overlap with ``place="stage"``: the last one, in the order of
        the axes of the pattern, or the mean of all, for integers rounded with halves upwards.
    flip : {"x", "y", "xy", "none"}, optional
        Axes of the stage whose positions become smaller to the right (x) or downwards (y) in the
        image, with ``place="stage"``. By default "y" for positions from index files of Yokogawa and
        Harmony, and none otherwise, as in OME-Zarr and BigStitcher; files that ashlar stitches
        without options need "y".
    align : {"outer", "inner"}, optional
        Places georeferenced files by their transforms, in whole pixels of the grid of the first
        one: scenes of other origins or sizes that are stacked, and tiles of the fields ``{y}`` and
        ``{x}`` that overlap, of which later ones are on top. "outer" has the pixels of all files,
        "inner" those that the files at each index along the other axes have. What no file has is
        `fill_value`. Reads all headers. Files of another resolution, reference system or grid are
        an error: `cloudimg` does not reproject. Tiles that do not overlap are placed by their
        transforms without it.
    series : int, optional
        Which image to open if each file, or a Zarr, holds several; by default the first, 0, of
        files. `migrate` and `to_zarr` refuse to copy one of several full images unless it is
        chosen.
    missing : {"raise", "fill"}
        What to do if files of the grid are missing: raise an error, or read `fill_value` in their
        place. Files in a list of URLs are checked for existence only with "fill" or
        ``validate="all"``; otherwise a missing one is an error when it is read.
    bad : {"raise", "fill"}
        What to do with files that are empty, truncated, not an image, corrupt or not supported, or
        whose axes, shape or dtype differ from those of the first good file: raise an error when
        they are read, or read `fill_value` in their place and warn once. A failure of the store is
        never a bad file, and neither is a file that exceeds a limit. `migrate` copies all cells
        without bad files before it raises.
    exclude : str or sequence of str, optional
        Globs of files to leave out of what the pattern, glob or list has: with a ``/`` compared
        with the last parts of the URL, as in ``"thumbs/*.tif"``, otherwise with the name of the
        file, as in ``"*_thumb.tif"``. They count as excluded, not as unmatched. Files of a
        multi-file dataset cannot be left out.
    fill_value : number, optional
        Value of pixels whose file is missing or bad; by default the nodata value of the files, or
        else 0.
    select : mapping, optional
        Part of the image to open, by axis: ``{"c": "DAPI", "z": slice(0, 10)}``; see `Image.sel`.
        Files that are left out need not exist nor be right.
    validate : {"first", "all"}
        "first" reads the header of the first file and checks every other file when its pixels are
        read. "all" reads all headers now, and raises an error with a report of every bad file
        (`BadFilesError.report`) unless ``bad="fill"``; see `Image.report`. What they say of each
        file (position, time, exposure, channel, objective) is then in `Image.coords`.
    allow_differences : str or sequence of str
        Facts that may differ from file to file, which is an error otherwise: "pixel_size",
        "photometric", "color_space", "colormap", "nodata", "crs" (the coordinate reference system)
        and "origin" (the place on Earth). `Image.attrs` of several files lacks them, unless all
        headers were read and agree; a note says which of them differ.
    palette : {"index", "rgb"}
        How to read files with a palette: as stored indices, with the palette in
        ``attrs["colormap"]``, or as colours (uint16) along a last axis ``s``.
    rgb : bool
        Whether to convert pixels of other colour spaces (CMYK, YCbCr, CIELab, palettes) to RGB of
        8 bits, with the opacity if there is one. Grey and RGB stay as they are.
    imread : callable, optional
        Reader for files of other formats. Called with a binary file object and the URL; returns an
        array. Each file is then fetched and decoded whole. PNG, JPEG, JPEG 2000, JPEG XL, WebP,
        AVIF, BMP and others need no reader; `cloudimg.register_format` adds a format permanently.
        The axes are y and x, or y, x and s if the last axis has length 3 or 4, with page, axis0,
        ... in front.
    index_files : bool
        Whether to read the index file that an instrument stores beside the images: those of
        Yokogawa (``MeasurementData.mlf``), MetaXpress (``.HTD``), Harmony (``Index.idx.xml``) and
        Micro-Manager (``metadata.txt``). What it says of channels, sizes, positions and times
        fills in what headers do not say. It is looked for where the names of the files, which were
        listed, are those of such an instrument, and is a note where it cannot be used.
    listing : {"full", "probe"}
        How to find the files of a pattern. "full" lists all names that begin as the pattern does.
        "probe" asks a store of S3 or Google for the labels of each axis only: a few requests for a
        million files. The image then has all combinations of these labels, and a file that turns
        out to be missing follows `missing` when it is read. Names that do not match are not seen,
        and neither are gaps, nor labels that neither the first nor the last label of the axes
        before has; `Image.scan` lists the files. Dask's names of such an image are random.
        Wildcards, and fields that may contain the text behind them, cannot be probed.
    storage_options : mapping, optional
        Options of fsspec for the store: ``anon``, ``key``, ``secret``, ``endpoint_url``, ...
        Besides, ``max_rate`` is the most that this process asks of the store in a second:
        ``"20MB/s"``, ``"100/s"`` (requests), or both with a comma. Each worker of a Dask cluster
        keeps to it by itself, so divide it by their number. The same key is in the options of all
        functions that have some.
    progress : callable, optional
        Called with what is counted, such as ``"names listed"``, and the count so far.
    client : distributed.Client, optional
        Dask cluster of which a worker lists the files and reads headers, so that this process
        needs no access to the store; local paths are those of the workers. With
        ``validate="all"`` all workers read the headers, if there are more than 512, except those
        of multi-file datasets (OME-TIFF, NDTiff), which describe themselves.

    Returns
    -------
    Image

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError

    Examples
    --------
    >>> import cloudimg
    >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
    >>> image.dims, image.shape
    (('t', 'c', 'z', 'y', 'x'), (2, 2, 10, 48, 72))
    >>> image.read({"t": 0, "c": 1, "z": 4}).shape
    (48, 72)
    """
    given: dict[str, Any] = dict(options)
    column = given.pop("url", None)
    if column is not None:
        given["url_column"] = column
    return open_image(urls, given)


def open_image(urls: URLs, options: Mapping[str, Any]) -> Image:
    """Open an image with the public arguments of `open`, or others of `OpenArguments`."""
    return Image(*open_files_or_folder(urls, OpenArguments.of(options)))


@takes_keywords(OpenTableOptions, OPEN_DEFAULTS)
def imread(
    urls: URLs,
    *,
    chunks: Chunks = "auto",
    level: int = 0,
    name: str | bool | None = None,
    **options: Unpack[OpenTableOptions],
) -> da.Array:
    """Open image files as one lazy `dask.array.Array`.

    Parameters
    ----------
    urls : str, path or sequence of them
        See `open`.
    chunks : "auto", int, tuple or mapping
        See `Image.to_dask`.
    level : int
        Resolution level; 0 is full resolution.
    name : str or bool, optional
        See `Image.to_dask`.
    **options
        The other arguments of `open`.

    Returns
    -------
    dask.array.Array
        Axes in the order t, c, z, y, x, s with all others in front, or in the order of `dims`.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError

    Warns
    -----
    ChunkCostWarning
        See `Image.to_dask`.
    CloudimgWarning
        If there are image files whose names begin like the pattern but do not match it, or with
        ``bad="fill"`` if files are bad.

    Examples
    --------
    >>> import cloudimg
    >>> a = cloudimg.imread("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
    >>> a[0].max(axis=1).compute().shape
    (2, 48, 72)
    """
    image = open(urls, **options)
    beside = image.beside
    if beside is not None and beside.n_images:
        warnings.warn(str(beside.note()), CloudimgWarning, stacklevel=2)
    client = options.get("client")
    # A function starts a cluster when there is work for it, of which nothing is known yet.
    known = None if callable(client) else client
    return image.to_dask(chunks, level=level, name=name, client=known)
