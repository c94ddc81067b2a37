"""`Image`: what users get of `cloudimg.open`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.migration.options import WRITE_DEFAULTS, WriteOptions
from cloudimg.opening.coordinates import coordinate_lines, coordinates, label_name
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.open_files import Opened
from cloudimg.opening.options import URL, OpenArguments, URLs
from cloudimg.reading.dask_array import Chunks, choose_chunks, to_dask
from cloudimg.reading.source import Source

if TYPE_CHECKING:
    import dask.array as da
    import xarray

    from cloudimg.migration.run.write import Migration
    from cloudimg.migration.run.write_input import WriteInput


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

    def __init__(self, opened: Opened, urls: URLs, arguments: OpenArguments) -> None:
        self._opened = opened
        self._urls = urls
        # Callbacks and clients belong to the opening and do not pickle.
        self._arguments = replace(arguments, progress=None, client=None)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return self._opened.sources[0].dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes at level 0."""
        return self._opened.sources[0].shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self._opened.sources[0].dtype

    @property
    def nbytes(self) -> int:
        """Decoded size of level 0 in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Chunk lengths per dim that `to_dask` uses by default."""
        return choose_chunks(self._opened.sources[0], "auto")

    @cached_property
    def coords(self) -> dict[str, npt.NDArray[Any]]:
        """Coordinates: what names and headers say about positions along the dims.

        A key that is a dim holds its coordinate. Along a dim on which files are concatenated,
        ``<dim>_label`` holds the label of the file that each position lies in.
        """
        return coordinates(
            self._opened.sources[0].layout, self._opened.grid, self._opened.inspection.own_coords
        )

    @property
    def levels(self) -> tuple[LevelInfo, ...]:
        """Resolution levels, the full one first."""
        return tuple(
            _level_info(source, self._opened.sources[0]) for source in self._opened.sources
        )

    @property
    def files(self) -> Iterator[File]:
        """The files, one after another, made as they are asked for."""
        for index in self._opened.grid.files():
            yield self._file(index)

    @property
    def n_files(self) -> int:
        """How many files there are."""
        return self._opened.n_files

    @property
    def stored_nbytes(self) -> int | None:
        """Size of all files in bytes, None where the store does not tell it."""
        headers, sizes = self._opened.inspection.headers, self._opened.grid.sizes
        if len(headers) == self.n_files:  # a single file is opened without a listing
            return sum(header.size_bytes for header in headers)
        known = sizes[sizes >= 0]
        return int(known.sum()) if known.size == self.n_files else None

    @property
    def n_missing(self) -> int:
        """How many places of the grid have no file."""
        return self._opened.grid.n_missing

    @property
    def missing(self) -> tuple[Mapping[str, Any], ...]:
        """Labels by axis of each place of the grid that has no file."""
        return tuple(self._opened.grid.labels_at(index) for index in self._opened.grid.missing())

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the first file says besides pixels.

        ``pixel_size`` and ``pixel_size_unit`` by dim, ``channel_names``, ``time_step_s``,
        ``compression`` and more, each only where the file says it; ``n_series`` where the file
        holds several images, of which ``open(..., series=)`` chooses.
        """
        return self._opened.inspection.headers[0].attrs

    @property
    def unmatched(self) -> tuple[int, tuple[str, ...]]:
        """How many objects begin like the pattern without matching it, and a few of them."""
        return self._opened.n_unmatched, self._opened.unmatched

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

    def to_dask(self, chunks: Chunks = "auto", *, level: int = 0) -> da.Array:
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

    def to_xarray(self, chunks: Chunks = "auto", *, level: int = 0) -> xarray.DataArray:
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
        found = coordinates(source.layout, self._opened.grid, self._opened.inspection.own_coords)
        dim_of = {label_name(dim): dim for dim in self.dims} | {dim: dim for dim in self.dims}
        coords = {name: (dim_of[name], values) for name, values in found.items()}
        return xarray.DataArray(
            self.to_dask(chunks, level=level), coords, self.dims, attrs=dict(self.attrs)
        )

    @takes_keywords(WriteOptions, WRITE_DEFAULTS)
    def to_zarr(self, url: URL, **options: Unpack[WriteOptions]) -> Migration:
        """Write the image to a sharded OME-Zarr, or continue an interrupted migration.

        Parameters
        ----------
        url : str or path
        **options
            See `cloudimg.to_zarr`.

        Returns
        -------
        Migration
        """
        from cloudimg.migration.run.arguments import write_to_url

        return write_to_url(self.write_input, url, options, options.get("storage_options"))

    def write_input(self, name: str | None) -> WriteInput:
        """What a migration of the image reads; `name` is the image's name in the copy."""
        from cloudimg.migration.run.write_input import write_input_of_image

        return write_input_of_image(self._opened, self._urls, self._arguments, name=name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("reading an image always makes a new array")
        return self.read().astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        from dask.utils import format_bytes

        size = ", ".join(f"{d}: {n}" for d, n in zip(self.dims, self.shape, strict=True))
        lines = [f"<cloudimg.Image ({size}) {self.dtype}, {format_bytes(self.nbytes)}>"]
        lines.append(f"  {self._opened.url}")
        files = f"  files: {self.n_files}"
        files += f", {self.n_missing} missing" if self.n_missing else ""
        if self._opened.n_unmatched:
            files += f"; {self._opened.n_unmatched} more names begin like the pattern"
        lines.append(files)
        if len(self._opened.sources) > 1:
            lines.append(f"  levels: {' '.join(str(s.shape) for s in self._opened.sources)}")
        own = self._opened.inspection.own_coords
        lines += [
            f"  {ln}"
            for ln in coordinate_lines(self._opened.sources[0].layout, self._opened.grid, own)
        ]
        return "\n".join(lines)

    def _source(self, level: int) -> Source:
        if not isinstance(level, int) or not -len(self._opened.sources) <= level < len(
            self._opened.sources
        ):
            raise ArgumentError(
                f"level={level!r}, but there are {len(self._opened.sources)} levels"
            )
        return self._opened.sources[level]

    def _file(self, index: tuple[int, ...]) -> File:
        location = self._opened.sources[0].reader.store.location
        return File(
            location.display(location.key_of(self._opened.grid.keys(index))),
            dict(zip(self._opened.grid.fields, index, strict=True)),
            self._opened.grid.labels_at(index),
            self._opened.grid.size_of(index),
        )


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
