"""`Image`, the result of `cloudimg.open`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy.typing as npt

from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import ArgumentError
from cloudimg.errors.arrival import sent_everywhere
from cloudimg.image.parts import by_dim, common_name, source_at
from cloudimg.image.selectable import SelectableImage
from cloudimg.image.validation import Validation, validating
from cloudimg.migration.options import WRITE_DEFAULTS, WriteOptions
from cloudimg.migration.progress import progress_callback
from cloudimg.opening.further_images import refuse_further_images
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.open_files import open_again, open_sources, telling_of_listing
from cloudimg.opening.options import URL, CountCallback
from cloudimg.reading.bad_files import warn_of_known
from cloudimg.reading.dask_array import Chunks, to_dask
from cloudimg.reading.source import Source
from cloudimg.storage import step_of

if TYPE_CHECKING:
    import dask.array as da
    import xarray
    from distributed import Client

    from cloudimg.migration.metadata.calibration import Calibration
    from cloudimg.migration.run.earlier_source import EarlierSource
    from cloudimg.migration.run.result import Migration
    from cloudimg.migration.run.write_input import WriteInput


class Image(SelectableImage):
    """A lazy N-D image made of files; pixels are read on request.

    Made by `cloudimg.open`. Thread-safe and picklable.
    """

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
        source = source_at(self._opened, level)
        if region is None:
            return source[...]
        return source[by_dim(region, source.dims) if isinstance(region, Mapping) else region]

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
        return self._lazy(source_at(self._opened, level), chunks, name, client)

    def _lazy(
        self, source: Source, chunks: Chunks, name: str | bool | None, client: Client | None
    ) -> da.Array:
        report = self.report
        if source.fills_bad and report.total > report.count("missing"):
            warn_of_known(source.warning_token, report.summary, source.fill_value)
        step = step_of("read", common_name(self._opened))
        return to_dask(source, chunks, name=name, step=step, client=client)

    def to_xarray(
        self,
        chunks: Chunks = "auto",
        *,
        level: int = 0,
        mask: bool = False,
        name: str | bool | None = None,
        client: Client | None = None,
    ) -> xarray.DataArray:
        """Return the image as an `xarray.DataArray` with coordinates, attributes and lazy pixels.

        Coordinates along t, z, y and x are in physical units where these are known (``units`` in
        their attributes): the centre of pixel i is at i times the size of a pixel, as in OME-Zarr.
        ``t_label`` and ``z_label`` then have the labels of the files. Other dims have their labels,
        and what is known of each file are further coordinates, as in `coords`. Attributes can be
        stored by ``to_netcdf`` and ``to_zarr``: what these do not take is JSON. Nodata, scale and
        offset are ``_FillValue``, ``scale_factor`` and ``add_offset``. The y and x of georeferenced
        images are the centres of pixels on the map, and ``spatial_ref`` has the reference system
        and the transform, as rioxarray reads them. Requires xarray (extra
        ``cloudimg-dask[xarray]``).

        Parameters
        ----------
        chunks, level, name, client
            See `to_dask`.
        mask : bool
            Whether to return values instead of pixels: NaN for nodata, multiplied by the scale,
            with the offset added; float32 of integers of up to 16 bits, float64 of larger ones.

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
        from cloudimg.image.xarray_array import data_array, masked_source

        source = source_at(self._opened, level)
        if not mask:
            pixels = self._lazy(source, chunks, name, client)
        else:
            source, masking = masked_source(self._opened, source)
            pixels = masking.lazily(self._lazy(source, chunks, name, client), source.dims)
        return data_array(self._opened, source, pixels, mask=mask)

    def to_datatree(
        self, chunks: Chunks = "auto", *, client: Client | None = None
    ) -> xarray.DataTree:
        """Return all levels as an `xarray.DataTree`, level 0 as ``tree["level0"]``.

        Each level is a dataset with the variable ``image`` and coordinates of its own pixels, so
        that one place has the same coordinates at all levels.

        Parameters
        ----------
        chunks, client
            See `to_dask`.

        Raises
        ------
        ArgumentError

        Examples
        --------
        >>> import cloudimg
        >>> tree = cloudimg.open("s3://lab/slides/slide.ome.tif").to_datatree()
        >>> [tree[level].image.sizes["y"] for level in tree.children]
        [64, 32]
        """
        from cloudimg.image.xarray_array import data_tree

        arrays = [
            self.to_dask(chunks, level=level, client=client) for level in range(len(self.levels))
        ]
        return data_tree(self._opened, arrays)

    @on_cluster(urls=[])
    def validate(
        self, *, client: Client | None = None, progress: CountCallback | None = None
    ) -> Validation:
        """Read the headers of all files again, and report which files are fine.

        The files are listed again, too. Nothing is an error that is about a file: a file may be
        missing, odd (it differs from the first file) or bad (it cannot be read).

        Parameters
        ----------
        client, progress
            See `cloudimg.open`.

        Returns
        -------
        Validation
            True if all files are fine; ``str()`` of it is a table with a picture of the grid, and
            `Validation.picture` writes that as a PNG.

        Raises
        ------
        GridError, StorageError, FormatError

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> image.validate().counts
        {'fine': 360, 'missing': 0, 'odd': 0, 'bad': 0}
        """
        given = replace(self._arguments, client=client, progress=progress)
        arguments = validating(given)
        if self._is_derived:
            return Validation.of(open_again(self._opened, self._urls, arguments))
        return Validation.of(open_sources(self._urls, arguments))

    @on_cluster(urls=[])
    def scan(self, *, client: Client | None = None, progress: CountCallback | None = None) -> Image:
        """List the files, and return the image with what is known then; see `listing` of `open`.

        Parameters
        ----------
        client, progress
            See `cloudimg.open`.

        Raises
        ------
        MissingFilesError
            If files are missing, with ``missing="raise"``.
        GridError, StorageError, FormatError

        Examples
        --------
        >>> import cloudimg
        >>> url = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
        >>> cloudimg.open(url, listing="probe").scan().n_files
        360
        """
        given = replace(self._arguments, listing="full", client=client, progress=progress)
        if self._is_derived:
            given = replace(given, select=self._opened.selection)
        image = Image(open_sources(self._urls, given), self._urls, given)
        image._is_derived = self._is_derived
        return image

    @takes_keywords(WriteOptions, WRITE_DEFAULTS)
    @on_cluster(urls=["url", "labels_of"], progress=progress_callback)
    def to_zarr(self, url: URL | None = None, **options: Unpack[WriteOptions]) -> Migration:
        """Write the image to a sharded OME-Zarr, or continue an interrupted migration.

        Parameters
        ----------
        url : str or path, optional
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
        from cloudimg.migration.metadata.calibration import Calibration
        from cloudimg.migration.run.arguments import write_to_url

        write_input = partial(
            self.write_input, calibration=Calibration.of(options), grow=options.get("grow")
        )
        return write_to_url(write_input, url, options, options.get("storage_options"), self._urls)

    def write_input(
        self,
        name: str | None,
        earlier: EarlierSource | None = None,
        *,
        is_copied: bool = True,
        calibration: Calibration | None = None,
        grow: str | None = None,
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
        calibration : Calibration, optional
            What the user states of it.
        grow : str, optional
            Field of the pattern along which its copy may grow: its files are listed again.

        Raises
        ------
        ArgumentError
            It is copied, and is one of several images of which none was chosen by ``series=``, or
            its files were not listed.
        """
        from cloudimg.migration.run.write_input import write_input_of_image

        if is_copied and self._arguments.listing == "probe":
            raise ArgumentError(
                'a copy needs all files, and listing="probe" has listed none: copy the image that'
                " scan() returns"
            )
        opened, arguments = self._opened, self._arguments
        if grow is not None:
            arguments = replace(arguments, purpose=replace(arguments.purpose, grow=grow))
        purpose = arguments.purpose
        if earlier is not None:
            purpose = earlier.purpose(self._urls, arguments)
        if purpose.files is not None or (grow is not None and self._arguments.purpose.grow != grow):
            opened = open_sources(self._urls, replace(arguments, purpose=purpose))
        elif self._is_derived:
            opened = open_again(opened, self._urls, arguments)
        if is_copied:
            refuse_further_images(opened, self._arguments)
            opened = telling_of_listing(opened)
        return write_input_of_image(
            opened, self._urls, self._arguments, name=name, calibration=calibration
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("copy=False is impossible: reading an image makes a new array")
        return self.read().astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Coordinates are made again where they are needed: there may be millions.
        state = {name: value for name, value in self.__dict__.items() if name != "_coordinates"}
        return _arrived, (Parcel(state),)


@sent_everywhere
def _arrived(parcel: Parcel[dict[str, Any]]) -> Image:
    image = Image.__new__(Image)
    image.__dict__.update(parcel.open())
    return image
