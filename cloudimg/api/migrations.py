"""Copy files: `migrate`, and `dry_run`, which only reports the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from cloudimg.api.images import open_image
from cloudimg.distributed.run import once
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.options import (
    WRITE_DEFAULTS,
    DryRunOptions,
    MigrateOptions,
)
from cloudimg.migration.progress import count_callback, progress_callback
from cloudimg.migration.run.arguments import (
    OpenNamed,
    write_all_to_url,
    write_to_url,
)
from cloudimg.migration.run.collection import images_to_copy
from cloudimg.migration.run.dry_run import dry_run_of_image, dry_run_of_images
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.estimate import Estimate
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import absolute, on_cluster
from cloudimg.opening.options import (
    ALL,
    FILE_OPTIONS,
    OPEN_DEFAULTS,
    URL,
    OpenArguments,
    OpeningPurpose,
    StorageOptions,
    URLs,
)
from cloudimg.opening.tables import read_table
from cloudimg.pattern import Label
from cloudimg.tiff import FileImage

MIGRATE_DEFAULTS = {
    **OPEN_DEFAULTS,
    **WRITE_DEFAULTS,
    "allow_unmatched": False,
    "companions": False,
}

if TYPE_CHECKING:
    from cloudimg.distributed.run import Client


@takes_keywords(MigrateOptions, MIGRATE_DEFAULTS)
@on_cluster(urls=["source", "url", "labels_of"], progress=progress_callback)
def migrate(source: URLs, url: URL | None = None, **options: Unpack[MigrateOptions]) -> Migration:
    """Open files and write them to a sharded OME-Zarr.

    Unlike ``open(source).to_zarr(url)``, checks that `url` can be written before the source is
    opened.

    Parameters
    ----------
    source : str, path, sequence of them, or table
        A URL pattern, a glob, a file, a list of files or a table; see `cloudimg.open`.
    url : str or path, optional
        Folder for the OME-Zarr; see `cloudimg.to_zarr`.
    labels_of : str or path, optional
        Image whose labels are written, instead of `url`; see `cloudimg.to_zarr`. Without `name`
        they are named after the files.
    source_options, target_options : mapping, optional
        Options of fsspec for the store of `source`, and for that of `url` or `labels_of`.
    allow_unmatched : bool
        Whether the pattern may leave out image files of its folder. All of the folder is listed,
        with up to 100,000 names in subfolders that the pattern does not reach, and a note in the
        copy names what else it holds.
    companions : bool
        Whether the copy keeps the files with metadata that the folder has beside the images, such
        as ``Index.xml``, ``metadata.txt`` or ``.csv``, as they were, in its folder
        ``companions``: up to 1,000 files and 16 MiB. A note counts those that do not fit.
    bad : {"raise", "fill"}
        With "raise", the cells without bad files are copied first, then one error lists all bad
        files by kind; the same call continues with the cells that are left: after the files were
        mended or replaced, or with ``bad="fill"``, which may follow "raise". With "fill", the copy
        records which files were filled, and `verify` lists them. "raise" cannot follow "fill".
    pattern, url_column, axes, dims, missing, exclude, fill_value, select, validate
        See `cloudimg.open`.
    palette, rgb, index_files
        See `cloudimg.open`.
    imread
        See `cloudimg.open`.
    series : int or "all", optional
        Which image to copy if each file holds several; it must be given if several of them are
        full images. "all" copies all images that `Image.images` lists, with thumbnails and labels
        of slides: `url` becomes a collection (bioformats2raw.layout) of the folders ``0``, ``1``,
        ..., each of which is a copy of its own, with the name that the file gives the image.
        `verify` and `repair` take the collection or one of its copies. A source with one image
        becomes an ordinary copy.
    place, blend, flip, align
        See `cloudimg.open`. The copy lacks what is hidden where fields overlap, and what lies
        outside with ``align="inner"``.
    allow_differences
        See `cloudimg.open`. All files are compared while they are copied.
    plate, overview, grow
        See `cloudimg.to_zarr`.
    zarr_format, chunks, shards, levels, factors, downsampling, codec, name
        See `cloudimg.to_zarr`.
    pixel_size, scale, units, translation, channel_names
        See `cloudimg.to_zarr`. They count before what the headers say, and are of the pixels of
        the copy. Sizes that differ from file to file are still an error; see `allow_differences`.
    part : str, optional
        "I/N", as in ``part="0/8"``: do a share of the cells of the first stage, and nothing else.
        The parts 0/N to N-1/N are processes of their own, such as the jobs of an array, in any
        order, at the same time or not, each as often as needed. They take no lease. The same call
        without `part` then finishes the copy, and does what parts left; a part that notices it
        stops. Parts need a store that refuses to create an object that exists, and exclude
        `overwrite`, `client` and ``resume=False``.
    max_mem, overwrite, yes, confirm, resume, client, progress
        See `cloudimg.to_zarr`.

    Returns
    -------
    Migration

    Raises
    ------
    UnmatchedFilesError
        If the pattern leaves out image files of its folder.
    BadFilesError
        If there are bad files, once all other cells are done; its `report` lists them by kind.
    ArgumentError, LeaseError, StorageError, FormatError, GridError, ChangedError
        See `cloudimg.to_zarr`.

    Examples
    --------
    >>> import cloudimg
    >>> done = cloudimg.migrate(
    ...     "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif",
    ...     "s3://lab/exp.ome.zarr",
    ... )
    >>> done.n_cells, done.n_objects
    (1, 1)
    """
    return _migrate(source, url, options)


def migrate_labels(
    labels: frozenset[Label], source: str, url: str, **options: Unpack[MigrateOptions]
) -> Migration:
    """Do `migrate` with the files of some labels of the field along which the copy grows."""
    return _migrate(source, url, options, labels)


def _migrate(
    source: URLs,
    url: URL | None,
    options: MigrateOptions,
    grow_labels: frozenset[Label] | None = None,
) -> Migration:
    # Opening and writing share one client; a function that returns one is called once.
    client = once(options.get("client"))
    calibration = Calibration.of(options)
    given = {**options, "client": client}
    opening = open_options(given, options.get("source_options"), client)
    if grow_labels is not None:
        opening["purpose"] = replace(opening["purpose"], grow_labels=grow_labels)
    opening["progress"] = count_callback(options.get("progress"))
    target_options = options.get("target_options")
    if opening.get("series") != ALL:
        image_input = _input_of(source, opening, calibration)
        return write_to_url(image_input, url, given, target_options, source)
    source, images = _all_images(source, opening)
    if len(images) < 2:
        open_only = _input_of(source, {**opening, "series": _only(images)}, calibration)
        return write_to_url(open_only, url, given, target_options, source)

    def open_one(series: int, earlier: EarlierSource | None) -> WriteInput:
        return _input_of(source, {**opening, "series": series})(None, earlier)

    return write_all_to_url(images, open_one, url, given, target_options)


@takes_keywords(DryRunOptions, MIGRATE_DEFAULTS)
@on_cluster(urls=["source", "url"])
def dry_run(source: URLs, url: URL | None = None, **options: Unpack[DryRunOptions]) -> Estimate:
    """Report what `migrate` would read, write and cost, and write nothing.

    A few chunks are read and encoded to tell how large the copy would be. With `url`, the
    destination is looked at, too: what is there, who writes to it, whether it can be written to,
    and on a local disk how much room there is. What speaks against the migration is listed as
    `problems` of the result; nothing is raised for it.

    Parameters
    ----------
    source : str, path, sequence of them, or table
        A URL pattern, a glob, a file, a list of files or a table; see `cloudimg.open`.
    url : str or path, optional
        The destination of the copy.
    storage_options, target_options : mapping, optional
        Options of fsspec for the store of `source`, and for that of `url`.
    probe : bool
        Whether to find out if objects can be stored at `url`, and if its store refuses to create
        one that exists, by an object of a few bytes that is stored and deleted. Without it, that is
        known of local disks, and of the second of some other stores.
    prices : mapping, optional
        Dollars per thousand requests, by kind: "put", "get", "list"; by default those of S3
        Standard in us-east-1. "storage" is the price of a GiB for a month, "egress" that of a GiB
        that is read from the source: without them, the result has GiB only.
    client : distributed.Client, optional
        Dask cluster of which a worker lists the files and reads headers.
    allow_unmatched, companions, series
        See `migrate`.
    pattern, url_column, axes, dims, missing, exclude, fill_value, select, validate
        See `cloudimg.open`.
    palette, rgb, index_files
        See `cloudimg.open`.
    imread
        See `cloudimg.open`.
    place, blend, flip, align, bad, allow_differences
        See `cloudimg.open`.
    plate, overview, grow
        See `cloudimg.to_zarr`.
    max_mem, zarr_format, chunks, shards, levels, factors, downsampling, codec, name
    overwrite, yes, resume
        See `cloudimg.to_zarr`. Nothing is deleted.
    pixel_size, scale, units, translation, channel_names
        See `cloudimg.to_zarr`.

    Returns
    -------
    Estimate
        ``str()`` of it is a report; `Estimate.to_json` has the numbers.

    Raises
    ------
    ArgumentError, StorageError, FormatError, GridError

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> estimate = cloudimg.dry_run(pattern, levels=2)
    >>> estimate.to_json()["get_requests"]
    360
    """
    calibration = Calibration.of(options)
    opening = open_options(options, options.get("storage_options"), None)
    if opening.get("series") != ALL:
        return dry_run_of_image(_input_of(source, opening, calibration), url, options)
    source, images = _all_images(source, opening)
    if len(images) < 2:
        open_only = _input_of(source, {**opening, "series": _only(images)}, calibration)
        return dry_run_of_image(open_only, url, options)

    def open_one(series: int, earlier: EarlierSource | None) -> WriteInput:
        return _input_of(source, {**opening, "series": series})(None, earlier)

    return dry_run_of_images(images, open_one, url, options)


def _input_of(
    source: URLs, opening: Mapping[str, Any], calibration: Calibration | None = None
) -> OpenNamed:
    """Opens the image that is written, which keeps to the files of an earlier migration."""

    def image_input(name: str | None, earlier: EarlierSource | None) -> WriteInput:
        if earlier is None:
            return open_image(source, opening).write_input(name, calibration=calibration)
        purpose = earlier.purpose(*read_table(source, OpenArguments.of(opening)))
        image = open_image(source, {**opening, "purpose": purpose})
        return image.write_input(name, calibration=calibration)

    return image_input


def _all_images(source: URLs, opening: Mapping[str, Any]) -> tuple[URLs, tuple[FileImage, ...]]:
    """The images with pixels of a source; none if it has only one image, which is not listed.

    The source is returned, too: one that can be read several times.
    """
    if hasattr(source, "__arrow_c_stream__"):
        source = absolute(source)
    return source, images_to_copy(open_image(source, {**opening, "series": None}).images)


def _only(images: Sequence[FileImage]) -> int | None:
    return images[0].series if images else None


def open_options(
    given: Mapping[str, Any], storage_options: StorageOptions | None, client: Client | None
) -> dict[str, Any]:
    """Arguments that open the source of a copy, with all that is in its folder."""
    return {
        **{name: given[name] for name in FILE_OPTIONS if name in given},
        "storage_options": storage_options,
        "client": client,
        "purpose": OpeningPurpose.copying(
            allow_unmatched=given.get("allow_unmatched", False), grow=given.get("grow")
        ),
    }
