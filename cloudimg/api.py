"""What users call: `open`, `imread` and the `Image` that they get."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cloudimg.arguments import check_arguments
from cloudimg.coords import (
    coordinate_lines,
    coordinates,
    human,
    label_name,
    labels_at,
)
from cloudimg.dask_array import Chunks, choose_chunks, to_dask
from cloudimg.errors import ArgumentError
from cloudimg.formats import Read
from cloudimg.image import Source
from cloudimg.opening import Opened, Options, URLs, open_sources

if TYPE_CHECKING:
    from cloudimg.writer.subject import Subject
    from cloudimg.writer.write import Migration


@dataclass(frozen=True, slots=True)
class File:
    """One file of an image; of a set of files that one of them tells of, one of its pages."""

    url: str
    """Without credentials."""
    index: Mapping[str, int]
    """Position in the grid by axis."""
    labels: Mapping[str, Any]
    """What the name says, by axis."""
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One resolution level."""

    shape: tuple[int, ...]
    segment: Mapping[str, int]
    """Shape of a stored segment (tile or strip) by dim of the files."""
    downsampling: tuple[float, ...]
    """Per dim, how many pixels of level 0 one pixel covers."""


class Image:
    """An N-D image made of files, none of whose pixels have been read yet.

    Made by `cloudimg.open`. Thread-safe, picklable.
    """

    def __init__(self, opened: Opened, urls: URLs, options: Options) -> None:
        self._asked = urls, replace(options, progress=None, client=None)
        self._sources = opened.sources
        self._grid = opened.grid
        self._survey = opened.found
        self._extra = opened

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return self._sources[0].dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes at level 0."""
        return self._sources[0].shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self._sources[0].dtype

    @property
    def nbytes(self) -> int:
        """Decoded size of level 0 in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Chunk lengths per dim that `to_dask` uses by default."""
        return choose_chunks(self._sources[0], "auto")

    @cached_property
    def coords(self) -> dict[str, npt.NDArray[Any]]:
        """Coordinates: what names and headers say about positions along the dims.

        A key that is a dim holds its coordinate. Along a dim on which files are concatenated,
        ``<dim>_label`` holds the label of the file that each position lies in.
        """
        return coordinates(self._sources[0].layout, self._grid, self._own_coords())

    @property
    def levels(self) -> tuple[LevelInfo, ...]:
        """Resolution levels, the full one first."""
        return tuple(_level_info(source, self._sources[0]) for source in self._sources)

    @property
    def files(self) -> Iterator[File]:
        """The files, one after another, made as they are asked for."""
        for index in self._grid.files():
            yield self._file(index)

    @property
    def n_files(self) -> int:
        """How many files there are."""
        return self._extra.n_files

    @property
    def stored_nbytes(self) -> int | None:
        """Size of all files in bytes, None where the store does not tell it."""
        headers, sizes = self._survey.headers, self._grid.sizes
        if len(headers) == self.n_files:  # a single file is opened without a listing
            return sum(header.size_bytes for header in headers)
        known = sizes[sizes >= 0]
        return int(known.sum()) if known.size == self.n_files else None

    @property
    def n_missing(self) -> int:
        """How many places of the grid have no file."""
        return self._grid.n_missing

    @property
    def missing(self) -> tuple[Mapping[str, Any], ...]:
        """Labels by axis of each place of the grid that has no file."""
        return tuple(labels_at(self._grid, index) for index in self._grid.missing())

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the first file says besides pixels.

        ``pixel_size`` and ``pixel_size_unit`` by dim, ``channel_names``, ``time_step_s``,
        ``compression`` and more, each only where the file says it; ``n_series`` where the file
        holds several images, of which ``open(..., series=)`` chooses.
        """
        return self._survey.headers[0].attrs

    @property
    def unmatched(self) -> tuple[int, tuple[str, ...]]:
        """How many objects begin like the pattern without matching it, and a few of them."""
        return self._extra.n_unmatched, self._extra.unmatched

    def read(
        self, region: Mapping[str, int | slice] | tuple[Any, ...] | None = None, *, level: int = 0
    ) -> npt.NDArray[Any]:
        """Read pixels now, without Dask.

        Parameters
        ----------
        region : tuple or mapping, optional
            Integers and slices in the order of `dims`, or by dim; everything without it.
        level : int
            Resolution level.

        Returns
        -------
        ndarray
            In the order of `dims`, without the dims that were given as integers.

        Raises
        ------
        ArgumentError, IndexError, StorageError, FormatError, GridError
        """
        source = self._source(level)
        if region is None:
            return source[...]
        if isinstance(region, Mapping):
            unknown = set(region) - set(self.dims)
            if unknown:
                raise ArgumentError(f"region names {sorted(unknown)}, the image has {self.dims}")
            region = tuple(region.get(dim, slice(None)) for dim in self.dims)
        return source[region]

    def to_dask(self, chunks: Chunks = "auto", *, level: int = 0) -> Any:
        """The image as a lazy `dask.array.Array`.

        Parameters
        ----------
        chunks : "auto", int, tuple or mapping
            As in Dask, or by dim. "auto" takes whole segments and many small files to a chunk,
            near Dask's configured ``array.chunk-size``. -1 is the whole axis.
        level : int
            Resolution level.

        Raises
        ------
        ArgumentError
        """
        return to_dask(self._source(level), chunks)

    def to_xarray(self, chunks: Chunks = "auto", *, level: int = 0) -> Any:
        """The image as an `xarray.DataArray` over a Dask array, with coordinates and attributes.

        Needs the package xarray (extra ``cloudimg-dask[xarray]``).
        """
        try:
            import xarray
        except ImportError:
            raise ArgumentError(
                'to_xarray needs the package xarray: pip install "cloudimg-dask[xarray]"'
            ) from None

        source = self._source(level)
        found = coordinates(source.layout, self._grid, self._own_coords())
        dim_of = {label_name(dim): dim for dim in self.dims} | {dim: dim for dim in self.dims}
        coords = {name: (dim_of[name], values) for name, values in found.items()}
        return xarray.DataArray(
            self.to_dask(chunks, level=level), coords, self.dims, attrs=dict(self.attrs)
        )

    def to_zarr(self, url: str | os.PathLike[str], **options: Any) -> Migration:
        """Write the image to a sharded OME-Zarr, or go on with that.

        Parameters
        ----------
        url : str or path
        **options
            See `cloudimg.to_zarr`.

        Returns
        -------
        Migration
        """
        from cloudimg.writer.calls import write_subject

        return write_subject(self.subject, url, **options)

    def subject(self, name: str | None) -> Subject:
        """What `cloudimg.to_zarr` writes of the image."""
        from cloudimg.writer.subject import subject_of_image

        return subject_of_image(self._extra, *self._asked, name=name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("reading an image always makes a new array")
        return self.read().astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        size = ", ".join(f"{d}: {n}" for d, n in zip(self.dims, self.shape, strict=True))
        lines = [f"<cloudimg.Image ({size}) {self.dtype}, {human(self.nbytes)}>"]
        lines.append(f"  {self._extra.url}")
        files = f"  files: {self.n_files}"
        files += f", {self.n_missing} missing" if self.n_missing else ""
        if self._extra.n_unmatched:
            files += f"; {self._extra.n_unmatched} more names begin like the pattern"
        lines.append(files)
        if len(self._sources) > 1:
            lines.append(f"  levels: {' '.join(str(s.shape) for s in self._sources)}")
        own = self._own_coords()
        lines += [f"  {ln}" for ln in coordinate_lines(self._sources[0].layout, self._grid, own)]
        return "\n".join(lines)

    def _own_coords(self) -> dict[str, Sequence[Any]]:
        """Coordinates that the first file gives, by dim of the image."""
        found = self._survey
        named = dict(zip(found.headers[0].dims, found.file_dims, strict=True))
        return {named[dim]: values for dim, values in found.coords.items()}

    def _source(self, level: int) -> Source:
        if not isinstance(level, int) or not -len(self._sources) <= level < len(self._sources):
            raise ArgumentError(f"level={level!r}, but there are {len(self._sources)} levels")
        return self._sources[level]

    def _file(self, index: tuple[int, ...]) -> File:
        location = self._sources[0].reader.store.location
        return File(
            location.display(location.key_of(self._grid.keys(index))),
            dict(zip(self._grid.fields, index, strict=True)),
            labels_at(self._grid, index),
            self._grid.size_of(index),
        )


def open(
    urls: URLs,
    *,
    axes: Mapping[str, str] | None = None,
    dims: Sequence[str] | None = None,
    mosaic: bool = True,
    series: int = 0,
    missing: Literal["raise", "fill"] = "raise",
    fill_value: float | int | complex = 0,
    validate: Literal["first", "all"] = "first",
    palette: Literal["index", "rgb"] = "index",
    imread: Read | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[str, int], None] | None = None,
    client: Any = None,
) -> Image:
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
    check_arguments(axes, dims, mosaic, series, missing, validate, palette, imread)
    options = Options(
        axes,
        dims,
        mosaic,
        series,
        missing,
        fill_value,
        validate,
        palette,
        imread,
        storage_options,
        progress,
        client,
    )
    return Image(open_sources(urls, options), urls, options)


def imread(urls: URLs, *, chunks: Chunks = "auto", level: int = 0, **options: Any) -> Any:
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
    return open(urls, **options).to_dask(chunks, level=level)


def _level_info(source: Source, base: Source) -> LevelInfo:
    names = (
        a.name
        for a in sorted(
            (a for a in source.layout.axes if a.file_axis is not None),
            key=lambda a: a.file_axis or 0,
        )
    )
    return LevelInfo(
        source.shape,
        dict(zip(names, source.segment, strict=True)),
        tuple(b / s for b, s in zip(base.shape, source.shape, strict=True)),
    )
