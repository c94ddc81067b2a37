"""`ReadableImage`: an image whose pixels are read, now or by Dask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from cloudimg.image.parts import by_dim, common_name, source_at
from cloudimg.image.selectable import SelectableImage
from cloudimg.reading.bad_files import warn_of_known
from cloudimg.reading.dask_array import Chunks, to_dask
from cloudimg.reading.source import Source
from cloudimg.storage import step_of

if TYPE_CHECKING:
    import dask.array as da
    import xarray
    from distributed import Client


class ReadableImage(SelectableImage):
    """Adds `read`, `to_dask`, `to_xarray` and `to_datatree`; a base class of `cloudimg.Image`."""

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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("copy=False is impossible: reading an image makes a new array")
        return self.read().astype(dtype or self.dtype, copy=False)
