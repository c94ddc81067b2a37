"""Make copies and prove them: `to_zarr`, `migrate`, `dry_run`, `verify`, `export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from cloudimg.api.images import open
from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.image.image import Image
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.journal.state import State, load
from cloudimg.migration.options import (
    WRITE_DEFAULTS,
    DryRunOptions,
    MigrateOptions,
    WriteOptions,
)
from cloudimg.migration.progress import AdvanceCallback
from cloudimg.migration.run.arguments import (
    make_request,
    memory,
    progress_callback,
    write_to_url,
)
from cloudimg.migration.run.estimate import Estimate, estimate
from cloudimg.migration.run.write import Migration, plan_for
from cloudimg.migration.run.write_input import WriteInput, write_input_of_array
from cloudimg.migration.verify.verify import Against, Verification
from cloudimg.migration.verify.verify import verify as verify_copy
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.options import (
    FILE_OPTIONS,
    OPEN_DEFAULTS,
    URL,
    OpenOptions,
    StorageOptions,
    URLs,
)

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt
    import xarray

    from cloudimg.opening.options import Client

    Pixels = Image | da.Array | xarray.DataArray | npt.NDArray[Any]

_LOSSLESS = (None, "zlib", "zstd", "lzw", "lzma", "packbits")
_RE_OPENED = ("axes", "dims", "mosaic", "series", "missing", "fill_value", "palette")


@takes_keywords(WriteOptions, WRITE_DEFAULTS)
def to_zarr(
    x: Pixels,
    url: URL,
    *,
    dims: Sequence[str] | None = None,
    identity: str | None = None,
    **options: Unpack[WriteOptions],
) -> Migration:
    """Write an image to a sharded OME-Zarr, or continue an interrupted migration.

    Everything that decides the stored bytes is planned from the image and the arguments alone,
    and the plan is stored first. Each cell of it is read once, and writes its shards at several
    levels, each by one request. Killed at any moment, the same call goes on from there and ends
    with the same bytes. `verify` proves the result.

    Parameters
    ----------
    x : Image, dask.array.Array, xarray.DataArray or ndarray
    url : str or path
        Of a folder, in S3 (``s3://``), Google Cloud (``gs://``), Azure or a local one.
    dims : sequence of str, optional
        Names of the axes of an array without names; by default the last of t, c, z, y, x.
    identity : str, optional
        Names the content of a Dask array whose own name differs from run to run.
    zarr_format : {3, 2}
        3 is OME-Zarr 0.5 with shards; 2 is OME-Zarr 0.4, for older programs.
    chunks : tuple, mapping by dim or int, optional
        Shape of the pieces that viewers read; a number is for y and x. Chosen from the shape
        without it: 256 x 256, or 64 x 64 x 64.
    shards : tuple, mapping by dim or int, optional
        Shape of the stored objects at level 0, multiples of `chunks`. Chosen without it so that
        they hold 32 to 64 MiB and little is read twice.
    levels : int, optional
        How many resolution levels, the full one too.
    factors : mapping by dim, or list of them, optional
        From each level to the next; by default 2 along y and x, and along z where the image is
        about as deep.
    downsampling : {"mean", "nearest", "mode"}
        "mean" for images, the others for labels.
    codec : str, mapping or codec of zarr, optional
        Such as "zstd", "zstd:9", "blosc", "none", ``{"name": ..., "configuration": ...}``.
    name : str, optional
        Of the image, for viewers.
    max_mem : int or str, optional
        Memory for cells, such as "2GB"; of each worker on a cluster.
    overwrite : bool
        Delete what is at `url` if it is something else. An overwriting that was interrupted goes
        on as any other call.
    resume : bool
        False refuses to go on with a migration that is not finished.
    client : distributed.Client, optional
        Have the workers of a Dask cluster do it. A callable that gives a client is called when
        there is work for it.
    progress : bool or callable
        True shows a line; a callable is given an `Advance`.
    storage_options : mapping, optional
        fsspec's options for `url`.

    Returns
    -------
    Migration

    Raises
    ------
    ArgumentError
        For arguments that cannot be, other arguments or another source than those of the
        migration that `url` holds, and for anything there that is not ours.
    LeaseError
        If another migration writes there.
    StorageError, FormatError, GridError, ChangedError
        What is done stays done, and the same call goes on.
    """
    if isinstance(x, Image):
        if dims is not None or identity is not None:
            raise ArgumentError("dims= and identity= are for arrays; an Image has its own")
        return x.to_zarr(url, **options)

    def array_input(name: str | None) -> WriteInput:
        return write_input_of_array(x, dims=dims, name=name, identity=identity)

    return write_to_url(array_input, url, options, options.get("storage_options"))


@takes_keywords(MigrateOptions, {**OPEN_DEFAULTS, **WRITE_DEFAULTS})
def migrate(source: URLs, url: URL, **options: Unpack[MigrateOptions]) -> Migration:
    """Open files and write them to a sharded OME-Zarr.

    Unlike ``open(source).to_zarr(url)`` it checks that it can write before it reads.

    Parameters
    ----------
    source : str, path or sequence of them
        See `cloudimg.open`.
    url : str or path
        Of a folder; see `cloudimg.to_zarr`.
    source_options, target_options : mappings, optional
        fsspec's options for the store of `source` and for that of `url`.
    axes, dims, mosaic, series, missing, fill_value, validate, palette, imread
        See `cloudimg.open`.
    zarr_format, chunks, shards, levels, factors, downsampling, codec, name
        See `cloudimg.to_zarr`.
    max_mem, overwrite, resume, client, progress
        See `cloudimg.to_zarr`.

    Returns
    -------
    Migration

    Raises
    ------
    ArgumentError, LeaseError, StorageError, FormatError, GridError, ChangedError
        See `cloudimg.to_zarr`.
    """
    # The same client opens and writes; a callable is called once.
    client = once(options.get("client"))
    given = {**options, "client": client}
    opening = _open_options(given, options.get("source_options"), client)

    def image_input(name: str | None) -> WriteInput:
        return open(source, **opening).write_input(name)

    return write_to_url(image_input, url, given, options.get("target_options"))


@takes_keywords(DryRunOptions, {**OPEN_DEFAULTS, **WRITE_DEFAULTS})
def dry_run(source: URLs, **options: Unpack[DryRunOptions]) -> Estimate:
    """Report what `migrate` would read, write and cost, and write nothing.

    Parameters
    ----------
    source : str, path or sequence of them
        See `cloudimg.open`.
    storage_options : mapping, optional
        fsspec's options for the store of `source`.
    prices : mapping, optional
        Dollars for a thousand requests, by kind: put, get, list.
    axes, dims, mosaic, series, missing, fill_value, validate, palette, imread
        See `cloudimg.open`.
    max_mem, zarr_format, chunks, shards, levels, factors, downsampling, codec, name
        See `cloudimg.to_zarr`.

    Returns
    -------
    Estimate
    """
    from cloudimg.migration.encode.codecs import make_codec

    request = make_request(options)
    opening = _open_options(options, options.get("storage_options"), None)
    write_input = open(source, **opening).write_input(request.name)
    spec = make_codec(request.codec, write_input.dtype, request.zarr_format).spec
    return estimate(
        plan_for(write_input, request, spec),
        write_input,
        max_bytes=memory(options.get("max_mem"), None),
        prices=options.get("prices"),
    )


def _open_options(
    given: Mapping[str, Any], storage_options: StorageOptions | None, client: Client | None
) -> OpenOptions:
    chosen = {name: given[name] for name in FILE_OPTIONS if name in given}
    return cast(OpenOptions, {**chosen, "storage_options": storage_options, "client": client})


@takes_keywords()
def verify(
    url: URL,
    *,
    against_source: bool | Pixels = False,
    sample: int | float | None = None,
    storage_options: StorageOptions | None = None,
    source_options: StorageOptions | None = None,
    max_mem: int | str | None = None,
    client: Client | None = None,
    progress: bool | AdvanceCallback = False,
) -> Verification:
    """Prove that a copy is complete and correct: read everything again.

    Every shard is compared with the checksum in its commit record, decoded, and compared with the
    level below it; the metadata with what follows from the plan and the records; the objects that
    exist with those that should.

    Parameters
    ----------
    url : str or path
        What `to_zarr` wrote.
    against_source : bool, Image or array
        Compare the pixels with the source's too: True opens what the copy was made of.
    sample : int or float, optional
        How many cells, or which part of them, to compare with the source, chosen at random.
    storage_options, source_options : mappings, optional
        fsspec's options for the copy and for the source.
    max_mem, client, progress
        See `to_zarr`.

    Returns
    -------
    Verification
        True where no problem was found; prints as a report.

    Raises
    ------
    ArgumentError
        If there is no copy of ours, or no source to compare it with.
    StorageError
        If a store fails. What is wrong with the copy is in the result.
    """
    destination = open_destination(url, storage_options)
    state = load(destination)
    client = once(client)
    against = None
    if against_source is not False:
        write_input = _write_input_to_compare(state, against_source, source_options)
        against = Against(write_input, _n_sampled(sample, state))
    elif sample is not None:
        raise ArgumentError("sample= needs against_source=True")
    return verify_copy(
        destination,
        state,
        against,
        max_bytes=memory(max_mem, client),
        client=client,
        progress=progress_callback(progress),
    )


@takes_keywords()
def export(
    url: URL,
    out: URL,
    *,
    layout: Literal["originals", "ome-tiff"] = "originals",
    compression: Literal["zlib", "zstd", "lzw", "lzma", "packbits"] | None = "zlib",
    overwrite: bool = False,
    source_options: StorageOptions | None = None,
    target_options: StorageOptions | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> int:
    """Make TIFF files from a copy.

    Parameters
    ----------
    url : str or path
        What `to_zarr` wrote.
    out : str or path
        Folder for the files.
    layout : {"originals", "ome-tiff"}
        The files that the copy was made of, by their names, with their pages, descriptions and
        plain tags; or one OME-TIFF with all levels for each image.
    compression : str, optional
        Of tifffile, which must lose nothing.
    overwrite : bool
        Replace files that are there.
    source_options, target_options : mappings, optional
        fsspec's options for the copy and for the files.
    progress : callable, optional
        Called with what is counted and how many files are written.

    Returns
    -------
    int
        How many files were written.

    Raises
    ------
    ArgumentError
        If there is no copy of ours, it is not finished, or was not made of files.
    StorageError
    """
    from cloudimg.migration.export.export import LAYOUTS, Exporting, export_ome, export_originals

    if layout not in LAYOUTS:
        raise ArgumentError(f"layout={layout!r} must be one of {', '.join(LAYOUTS)}")
    if compression not in _LOSSLESS:
        known = ", ".join(repr(each) for each in _LOSSLESS)
        raise ArgumentError(f"compression={compression!r} must be one of {known}")
    copy = open_destination(url, source_options)
    state = load(copy)
    if not state.is_done:
        raise ArgumentError(
            f"{copy.url} is not finished: run the same migration again, which continues it"
        )
    work = Exporting(
        copy, state, open_destination(out, target_options), compression, overwrite, progress
    )
    return export_originals(work) if layout == "originals" else export_ome(work)


def _n_sampled(sample: int | float | None, state: State) -> int | None:
    if sample is None:
        return None
    n_cells = state.plan.n_cells(0)
    if isinstance(sample, float) and 0 < sample <= 1:
        return max(1, round(sample * n_cells))
    if isinstance(sample, int) and not isinstance(sample, bool) and sample > 0:
        return sample
    raise ArgumentError(f"sample={sample!r} must be a number of cells, or a fraction such as 0.1")


def _write_input_to_compare(
    state: State, given: Any, source_options: StorageOptions | None
) -> WriteInput:
    """What a copy is compared with: given, or opened again from what the plan says."""
    name = state.request.name
    if isinstance(given, Image):
        return given.write_input(name)
    if given is not True:
        return write_input_of_array(
            given,
            dims=state.source["dims"],
            name=name,
            identity=state.source.get("identity"),
        )
    recorded = state.source
    if recorded["kind"] != "image":
        raise ArgumentError("the copy was made of an array: pass it as against_source=")
    if recorded["has_own_reader"]:
        raise ArgumentError(
            "the copy was made with a reader of your own: pass against_source=cloudimg.open(...)"
        )
    if any("***" in url for url in recorded["urls"]):
        raise ArgumentError(
            "the source's URL had secrets, which were not stored: pass"
            " against_source=cloudimg.open(...)"
        )
    urls = recorded["urls"] if recorded["is_list"] else recorded["urls"][0]
    options = {key: recorded["open"][key] for key in _RE_OPENED}
    options["fill_value"] = _number(options["fill_value"])
    return open(urls, storage_options=source_options, **options).write_input(name)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return complex(*(float(part) for part in value))
    return float(value) if isinstance(value, str) else value
