"""`Image`, the result of `cloudimg.open`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from cloudimg.distributed.parcel import Parcel
from cloudimg.errors import ArgumentError
from cloudimg.errors.arrival import sent_everywhere
from cloudimg.image.readable import ReadableImage
from cloudimg.image.validation import Validation, validating
from cloudimg.migration.options import WRITE_DEFAULTS, WriteOptions
from cloudimg.migration.progress import progress_callback
from cloudimg.opening.further_images import refuse_further_images
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.open_files import open_again, open_sources, telling_of_listing
from cloudimg.opening.options import URL, CountCallback

if TYPE_CHECKING:
    from distributed import Client

    from cloudimg.migration.metadata.calibration import Calibration
    from cloudimg.migration.run.earlier_source import EarlierSource
    from cloudimg.migration.run.result import Migration
    from cloudimg.migration.run.write_input import WriteInput


class Image(ReadableImage):
    """A lazy N-D image made of files; pixels are read on request.

    Made by `cloudimg.open`. Thread-safe and picklable.
    """

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
        must_list = self._arguments.purpose.grow != grow and grow is not None
        if earlier is not None:
            purpose = earlier.purpose(self._urls, arguments)
            must_list = must_list or purpose.files is not None
        if must_list:
            opened = open_sources(self._urls, replace(arguments, purpose=purpose))
        elif self._is_derived:
            opened = open_again(opened, self._urls, arguments)
        if is_copied:
            refuse_further_images(opened, self._arguments)
            opened = telling_of_listing(opened)
        return write_input_of_image(
            opened, self._urls, self._arguments, name=name, calibration=calibration
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Coordinates are made again where they are needed: there may be millions.
        state = {name: value for name, value in self.__dict__.items() if name != "_coordinates"}
        return _arrived, (Parcel(state),)


@sent_everywhere
def _arrived(parcel: Parcel[dict[str, Any]]) -> Image:
    image = Image.__new__(Image)
    image.__dict__.update(parcel.open())
    return image
