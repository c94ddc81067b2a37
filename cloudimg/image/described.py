"""`DescribedImage`: what is known of an image that was opened, without reading its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.unmatched import Unmatched
from cloudimg.distributed.capacity import capacity_of_dask
from cloudimg.errors.file_report import FileReport
from cloudimg.errors.notes import Note
from cloudimg.image.attributes import ImageAttributes
from cloudimg.image.parts import File, LevelInfo, file_at, level_info
from cloudimg.image.summary import summary
from cloudimg.opening.fact_coordinates import Coordinate
from cloudimg.opening.image_coordinates import image_coordinates
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.pattern import Label
from cloudimg.reading.dask_array import choose_chunks
from cloudimg.reading.source import make_token
from cloudimg.reading.zarr_images.documents import is_document
from cloudimg.tiff import FileImage


class DescribedImage:
    """Axes, files and metadata of an image; the base class of `cloudimg.Image`."""

    def __init__(self, opened: Opened, urls: URLs, arguments: OpenArguments) -> None:
        self._opened = opened
        self._urls = urls
        # Callbacks and clients are only for opening, and cannot be pickled.
        select = opened.selection
        self._arguments = replace(arguments, progress=None, client=None, select=select)

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

    @property
    def coords(self) -> dict[str, npt.NDArray[Any]]:
        """Coordinates by name, from the names of files and from their headers.

        The coordinate of a dim has the name of the dim. Along a dim on which files are
        concatenated, ``<dim>_label`` has the label of the file at each position.

        What is known of each file is a further coordinate along the dims along which it varies, see
        `coord_dims`: from headers if all were read (``validate="all"``, a single file, a multi-file
        OME-TIFF), from index files of instruments, or from a table of the files. These are
        ``stage_x``, ``stage_y``, ``stage_z``, ``stage_unit``, and ``stage_flip`` (``"y"`` where y
        grows upwards); ``acquired`` (``datetime64``, UTC where ``acquired_offset`` is known);
        ``elapsed_s``, ``exposure_s``, ``channel``, ``well``, ``objective`` and ``magnification``.
        NaN, NaT or an empty text stand for files that do not say it. Tiles of a mosaic have no
        coordinates of their own: what differs between them is that of the first tile, positions of
        the stage are those at the edge where the image begins, and they are left out if nothing
        else makes them differ. A label of the same name is never replaced.
        """
        return {name: values for name, (_, values) in self._coordinates.items()}

    @property
    def coord_dims(self) -> dict[str, tuple[str, ...]]:
        """Dims of each of `coords`: none if it is the same everywhere."""
        return {name: dims for name, (dims, _) in self._coordinates.items()}

    @cached_property
    def _coordinates(self) -> dict[str, Coordinate]:
        return image_coordinates(self._opened, self._opened.sources[0])

    @property
    def levels(self) -> tuple[LevelInfo, ...]:
        """Resolution levels; level 0 is full resolution."""
        return tuple(level_info(source, self._opened.sources[0]) for source in self._opened.sources)

    @property
    def files(self) -> Iterator[File]:
        """Iterate over the files in C order of the grid."""
        for index in self._opened.grid.files():
            yield file_at(self._opened, index)

    def table(self) -> Any:
        """Return the files as a table of pyarrow, from which `cloudimg.open` opens this image.

        One row per file (per plane in a multi-file dataset), in C order of the grid:

        ==============  ============================================================================
        ``key``         URL of the file without credentials and signature; on disks, its path
        ``size_bytes``  size, null where the store does not list it
        ``etag``        ``blake2b:`` and a digest of the ETag; null without one
        ``page``        number of the page in the file; only in multi-file datasets
        ``axis.NAME``   index along the axis ``NAME``
        ``NAME``        label along the axis ``NAME`` (``label.NAME`` if the name is taken here)
        facts           what was read of each file: ``stage_x``, ``stage_y``, ``stage_z``,
                        ``stage_unit``, ``stage_flip``, ``acquired``, ``acquired_offset``,
                        ``elapsed_s``, ``exposure_s``, ``channel``, ``objective``,
                        ``magnification``, ``well``; a column only if a file has it
        ==============  ============================================================================

        Returns
        -------
        pyarrow.Table
            ``to_pandas()`` makes a DataFrame of it, ``polars.from_arrow`` one of polars.

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> files = image.table()
        >>> cloudimg.open(files, missing="fill").shape == image.shape
        True
        """
        from cloudimg.image.table_of_files import table_of_files

        return table_of_files(self._opened)

    @property
    def n_files(self) -> int:
        """Number of files that exist."""
        return self._opened.n_files

    @property
    def stored_nbytes(self) -> int | None:
        """Size of all files in bytes, None where the store does not list it, and of Zarrs."""
        headers, sizes = self._opened.inspection.headers, self._opened.grid.sizes
        if is_document(headers[0].key):
            return None  # pixels are in other objects
        if len(headers) == self.n_files:  # a single file is opened without a listing
            return headers.n_bytes
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
    def opened(self) -> Opened:
        """Its files, headers and sources; for the package's own use."""
        return self._opened

    @property
    def report(self) -> FileReport:
        """Files that are missing, and those that were found to be bad when the image was opened.

        With ``validate="all"`` it has all of them; otherwise few headers are read at open.
        """
        return self._opened.report

    def __repr__(self) -> str:
        return summary(self._opened, self.series)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        grid, arguments = self._opened.grid, self._arguments
        return (
            "cloudimg.Image",
            *(source.token for source in self._opened.sources),
            make_token(grid.fields, grid.labels),
            make_token(arguments.validate, arguments.allowed_differences),  # attrs depend on them
        )
