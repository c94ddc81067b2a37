"""`Image`, the result of `cloudimg.open`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.unmatched import Unmatched
from cloudimg.distributed.capacity import capacity_of_dask
from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import ArgumentError, counted
from cloudimg.errors.arrival import sent_everywhere
from cloudimg.errors.file_report import FileReport
from cloudimg.errors.notes import Note
from cloudimg.image.attributes import ImageAttributes
from cloudimg.image.parts import File, LevelInfo, file_at, level_info
from cloudimg.image.summary import summary
from cloudimg.migration.options import WRITE_DEFAULTS, WriteOptions
from cloudimg.migration.progress import progress_callback
from cloudimg.opening.coordinates import coordinates, label_name
from cloudimg.opening.further_images import refuse_further_images
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.open_files import Opened, open_sources, telling_of_listing
from cloudimg.opening.options import URL, OpenArguments, URLs, as_texts
from cloudimg.pattern import Label
from cloudimg.reading.bad_files import warn_of_known
from cloudimg.reading.dask_array import Chunks, choose_chunks, to_dask
from cloudimg.reading.source import Source, make_token
from cloudimg.storage import step_of
from cloudimg.tiff import FileImage

if TYPE_CHECKING:
    import dask.array as da
    import xarray
    from distributed import Client

    from cloudimg.migration.run.earlier_source import EarlierSource
    from cloudimg.migration.run.result import Migration
    from cloudimg.migration.run.write_input import WriteInput


class Image:
    """A lazy N-D image made of files; pixels are read on request.

    Made by `cloudimg.open`. Thread-safe and picklable.
    """

    def __init__(self, opened: Opened, urls: URLs, arguments: OpenArguments) -> None:
        self._opened = opened
        self._urls = urls
        # Callbacks and clients are only for opening, and cannot be pickled.
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
        """Data type of the pixels."""
        return self._opened.sources[0].dtype

    @property
    def nbytes(self) -> int:
        """Decoded size of level 0 in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Chunk lengths per dim that `to_dask` uses by default."""
        return choose_chunks(self._opened.sources[0], "auto", capacity_of_dask())

    @cached_property
    def coords(self) -> dict[str, npt.NDArray[Any]]:
        """Coordinates by name, from the names of files and from their headers.

        The coordinate of a dim has the name of the dim. Along a dim on which files are
        concatenated, ``<dim>_label`` has the label of the file at each position.
        """
        return coordinates(
            self._opened.sources[0].layout, self._opened.grid, self._opened.inspection.own_coords
        )

    @property
    def levels(self) -> tuple[LevelInfo, ...]:
        """Resolution levels; level 0 is full resolution."""
        return tuple(level_info(source, self._opened.sources[0]) for source in self._opened.sources)

    @property
    def files(self) -> Iterator[File]:
        """Iterate over the files in C order of the grid."""
        for index in self._opened.grid.files():
            yield file_at(self._opened, index)

    @property
    def n_files(self) -> int:
        """Number of files that exist."""
        return self._opened.n_files

    @property
    def stored_nbytes(self) -> int | None:
        """Size of all files in bytes, None where the store does not list it."""
        headers, sizes = self._opened.inspection.headers, self._opened.grid.sizes
        if len(headers) == self.n_files:  # a single file is opened without a listing
            return sum(header.size_bytes for header in headers)
        known = sizes[sizes >= 0]
        return int(known.sum()) if known.size == self.n_files else None

    @property
    def n_missing(self) -> int:
        """Number of indices of the grid without a file."""
        return self._opened.grid.n_missing

    @property
    def missing(self) -> tuple[Mapping[str, Label], ...]:
        """Labels by axis of each index of the grid without a file."""
        return tuple(self._opened.grid.labels_at(index) for index in self._opened.grid.missing())

    @property
    def attrs(self) -> ImageAttributes:
        """Metadata from headers; `ImageAttributes` lists the keys.

        Of an image of several files, they are those of the first file that hold for all: without
        keys that describe a single file, such as ``acquired``, and without those that differ in
        other headers that were read; `notes` name these. Among them are ``pixel_size`` and
        ``pixel_size_unit`` by axis, ``channel_names``, ``time_step_s`` and ``compression``. Each is
        present only if the file gives it.
        """
        return cast(ImageAttributes, self._opened.inspection.attrs)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was noticed in the headers that were read when the image was opened.

        One note per kind, each a text with `kind`, `n_files` and up to three `urls`. Other files
        are not opened before their pixels are read: pass ``validate="all"`` to read all headers.
        """
        return self._opened.inspection.notes

    @property
    def images(self) -> tuple[FileImage, ...]:
        """All images of the first file, or of the multi-file dataset; empty if there is only one.

        Each has a number, by which ``series=`` opens it, a `role`, a `name`, a `shape` and a
        `dtype`. The role is ``"image"`` unless the file says that it is a thumbnail, a label, a
        macro, a map or a mask.
        """
        return self._opened.inspection.headers[0].images

    @property
    def series(self) -> int:
        """Number of this image in its file; see `images`."""
        return self._arguments.series_number

    @property
    def unmatched(self) -> tuple[int, tuple[str, ...]]:
        """Number of objects that begin like the pattern but do not match it, and some of them."""
        beside = self._opened.unmatched
        return (beside.n_objects, beside.examples) if beside is not None else (0, ())

    @property
    def beside(self) -> Unmatched | None:
        """What was listed but does not match the pattern; for the package's own use."""
        return self._opened.unmatched

    @property
    def report(self) -> FileReport:
        """Files that are missing, and those that were found to be bad when the image was opened.

        With ``validate="all"`` it has all of them; otherwise few headers are read at open.
        """
        return self._opened.report

    def read(
        self, region: Mapping[str, int | slice] | tuple[Any, ...] | None = None, *, level: int = 0
    ) -> npt.NDArray[Any]:
        """Read pixels now, without Dask.

        Parameters
        ----------
        region : tuple or mapping, optional
            Integers and slices in the order of `dims`, or by dim; by default everything.
        level : int
            Resolution level.

        Returns
        -------
        ndarray
            Pixels in the order of `dims`, without the dims indexed by integers.

        Raises
        ------
        ArgumentError, IndexError, StorageError, FormatError, GridError

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> image.read({"t": 0, "c": 1, "z": slice(2, 5)}).shape
        (3, 48, 72)
        """
        source = self._source(level)
        if region is None:
            return source[...]
        if isinstance(region, Mapping):
            unknown = set(region) - set(self.dims)
            if unknown:
                raise ArgumentError(
                    f"region names dims {sorted(unknown)}, but the image has {self.dims}"
                )
            region = tuple(region.get(dim, slice(None)) for dim in self.dims)
        return source[region]

    def to_dask(
        self,
        chunks: Chunks = "auto",
        *,
        level: int = 0,
        name: str | bool | None = None,
        client: Client | None = None,
    ) -> da.Array:
        """Return the image as a lazy `dask.array.Array`.

        Parameters
        ----------
        chunks : "auto", int, tuple or mapping
            As in Dask, or by dim. "auto" chooses whole segments, or many small files per chunk,
            near Dask's configured ``array.chunk-size``. Where Dask has a cluster, a chunk also has
            at most a sixteenth of the memory that a worker has for each of its threads (of the
            worker with the least), without the 200 MB that Python takes, and there are at least
            three chunks for each thread of the cluster, but none below 4 MiB for that alone.
            Segments larger than that are chunks as they are; files up to 16 MiB stay whole if an
            eighth of the memory of a thread holds them. -1 is the whole axis.
        level : int
            Resolution level.
        name : str or bool, optional
            As in `dask.array.from_array`: the name of the array, which tasks begin with. It must
            not be that of another array, since Dask takes arrays of one name for the same. False
            makes a random one. The default begins with ``cloudimg-read`` and the first words of
            the names of the files; it is the same for the same pixels and chunks.
        client : distributed.Client, optional
            For whose workers "auto" chooses; by default those of the client that Dask uses, if
            there is one, as of now.

        Raises
        ------
        ArgumentError

        Warns
        -----
        ChunkCostWarning
            If `chunks` cut tiles, strips or rows, so that bytes are read more than once, or if few
            threads wait for many small chunks. Never of "auto". Also if workers may be killed for
            their memory, because the chunks of all their threads take more than a third of it.
        CloudimgWarning
            Once, with ``bad="fill"``, if files were found to be bad; those that are found later
            warn when their pixels are computed.

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> image.to_dask(chunks={"z": 5}).numblocks
        (1, 1, 2, 1, 1)
        """
        source, report = self._source(level), self.report
        if source.fills_bad and report.total > report.count("missing"):
            warn_of_known(source.warning_token, report.summary, source.fill_value)
        step = step_of("read", as_texts(self._urls)[0])
        return to_dask(source, chunks, name=name, step=step, client=client)

    def to_xarray(self, chunks: Chunks = "auto", *, level: int = 0) -> xarray.DataArray:
        """Return the image as an `xarray.DataArray` with coordinates, attributes and lazy pixels.

        Requires the package xarray (extra ``cloudimg-dask[xarray]``).

        Parameters
        ----------
        chunks : "auto", int, tuple or mapping
            See `to_dask`.
        level : int
            Resolution level.

        Raises
        ------
        ArgumentError

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> image.to_xarray().isel(t=0).mean("z").sizes["c"]
        2
        """
        try:
            import xarray
        except ImportError as exc:
            raise ArgumentError(
                'to_xarray() requires the package xarray: pip install "cloudimg-dask[xarray]"'
            ) from exc

        source = self._source(level)
        arrays = coordinates(source.layout, self._opened.grid, self._opened.inspection.own_coords)
        dim_of = {label_name(dim): dim for dim in self.dims} | {dim: dim for dim in self.dims}
        coords = {name: (dim_of[name], values) for name, values in arrays.items()}
        return xarray.DataArray(
            self.to_dask(chunks, level=level), coords, self.dims, attrs=dict(self.attrs)
        )

    @takes_keywords(WriteOptions, WRITE_DEFAULTS)
    @on_cluster(urls=["url"], progress=progress_callback)
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

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> done = image.to_zarr("exp.ome.zarr", levels=2)
        >>> done.n_objects
        2
        """
        from cloudimg.migration.run.arguments import write_to_url

        return write_to_url(self.write_input, url, options, options.get("storage_options"))

    def write_input(
        self, name: str | None, earlier: EarlierSource | None = None, *, is_copied: bool = True
    ) -> WriteInput:
        """Return what a migration of the image reads.

        Parameters
        ----------
        name : str, optional
            Its name in the OME-Zarr.
        earlier : EarlierSource, optional
            The source of an earlier migration; the image is opened again with its files if it is
            of the same ones.
        is_copied : bool
            Whether it is read to be copied, rather than compared with a copy.

        Raises
        ------
        ArgumentError
            It is copied, and is one of several images of which none was chosen by ``series=``.
        """
        from cloudimg.migration.run.write_input import write_input_of_image

        opened = self._opened
        if earlier is not None:
            purpose = earlier.purpose(self._urls, self._arguments)
            if purpose.files is not None:
                opened = open_sources(self._urls, replace(self._arguments, purpose=purpose))
        if is_copied:
            refuse_further_images(opened, self._arguments)
            opened = telling_of_listing(opened)
        return write_input_of_image(opened, self._urls, self._arguments, name=name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("copy=False is impossible: reading an image makes a new array")
        return self.read().astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (Parcel(self.__dict__),)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        grid, arguments = self._opened.grid, self._arguments
        return (
            "cloudimg.Image",
            *(source.token for source in self._opened.sources),
            make_token(grid.fields, grid.labels),
            make_token(arguments.validate, arguments.allowed_differences),  # on them attrs depend
        )

    def __repr__(self) -> str:
        return summary(self._opened, self.series)

    def _source(self, level: int) -> Source:
        sources = self._opened.sources
        if not isinstance(level, int) or not -len(sources) <= level < len(sources):
            found = counted(len(sources), "level")
            raise ArgumentError(f"level={level!r}, but the image has {found}")
        return sources[level]


@sent_everywhere
def _arrived(parcel: Parcel[dict[str, Any]]) -> Image:
    image = Image.__new__(Image)
    image.__dict__.update(parcel.open())
    return image
