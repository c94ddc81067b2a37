"""Open images: `open` and `imread`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from cloudimg.image.image import Image
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.open_files import open_sources
from cloudimg.opening.options import OPEN_DEFAULTS, OpenArguments, OpenOptions, URLs
from cloudimg.reading.dask_array import Chunks

if TYPE_CHECKING:
    import dask.array as da


@takes_keywords(OpenOptions, OPEN_DEFAULTS)
def open(urls: URLs, **options: Unpack[OpenOptions]) -> Image:
    r"""Open image files as one N-D image. Lists and reads headers; reads no pixels.

    Parameters
    ----------
    urls : str, path or sequence of them
        A URL pattern such as ``s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif``, a glob, one
        file, or a list of files. Any protocol of fsspec, chained ones too. A field names an axis:
        ``{c}`` digits, ``{c:03d}`` zero-padded, ``{well:s}`` text up to the next literal,
        ``{t:%Y%m%d}`` times, ``{v:f}`` floats, ``{well:[A-P]\d{2}}`` a regular expression. Files
        are concatenated along an axis that they have themselves, else stacked along a new one.
    axes : mapping, optional
        New names for axes of the files, such as ``{"page": "z"}``.
    dims : sequence of str, optional
        Order of the axes; by default others, t, c, z, y, x, s.
    mosaic : bool
        False stacks the fields ``{y}`` and ``{x}`` instead of joining tiles to one plane.
    series : int
        Which image of files that hold several.
    missing : {"raise", "fill"}
        What to do where the grid has no file. A list of URLs is looked through for missing files
        only with "fill"; without it a missing one is an error when it is read.
    fill_value : number
        What stands there.
    validate : {"first", "all"}
        The first header speaks for all, and each file is checked when it is read; or all headers
        are read now, and every odd file is reported.
    palette : {"index", "rgb"}
        Pixels that are indices into a palette as they are stored, the palette being
        ``attrs["colormap"]``; or as colours (uint16) along a last dim ``s``.
    imread : callable, optional
        Reads files that are no TIFFs: called with a binary file object and the URL, returns an
        array. Each file is then fetched and decoded whole. PNG, JPEG, JPEG 2000, JPEG XL, WebP,
        AVIF, BMP and others need none; `cloudimg.register_format` adds formats for good. Axes
        are y and x, or y, x and s where the last has length 3 or 4, with page, axis0, ... in
        front.
    storage_options : mapping, optional
        fsspec's options for the store: ``anon``, ``key``, ``secret``, ``endpoint_url``, ...
    progress : callable, optional
        Is told what is being counted (names listed, headers read) and how far the count is.
    client : distributed.Client, optional
        Has the workers of a Dask cluster read the headers that ``validate="all"`` asks for, where
        they are more than 512 and the files no set that tells of itself (OME-TIFF, NDTiff).

    Returns
    -------
    Image

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    arguments = OpenArguments.of(options)
    return Image(open_sources(urls, arguments), urls, arguments)


@takes_keywords(OpenOptions, OPEN_DEFAULTS)
def imread(
    urls: URLs, *, chunks: Chunks = "auto", level: int = 0, **options: Unpack[OpenOptions]
) -> da.Array:
    """Open image files as one lazy `dask.array.Array`.

    Parameters
    ----------
    urls : str, path or sequence of them
        See `open`.
    chunks : "auto", int, tuple or mapping
        See `Image.to_dask`.
    level : int
        Resolution level.
    **options
        The other arguments of `open`.

    Returns
    -------
    dask.array.Array
        Axes in the order t, c, z, y, x, s, others in front, or as `dims=` says.
    """
    arguments = OpenArguments.of(options)
    return Image(open_sources(urls, arguments), urls, arguments).to_dask(chunks, level=level)
