"""What users call to make copies and prove them: `to_zarr`, `migrate`, `verify`, ..."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloudimg.api import Image, open
from cloudimg.errors import ArgumentError
from cloudimg.on_cluster import once
from cloudimg.opening import URLs
from cloudimg.writer.calls import make_request, memory, told, write_subject
from cloudimg.writer.destination import open_destination
from cloudimg.writer.estimate import Estimate, estimate
from cloudimg.writer.progress import Progress
from cloudimg.writer.state import State, load
from cloudimg.writer.subject import Subject, subject_of_array
from cloudimg.writer.verify import Against, Verification
from cloudimg.writer.verify import verify as verify_copy
from cloudimg.writer.write import Migration, plan_for

URL = str | os.PathLike[str]
_LOSSLESS = (None, "zlib", "zstd", "lzw", "lzma", "packbits")
_RE_OPENED = ("axes", "dims", "mosaic", "series", "missing", "fill_value", "palette")


def to_zarr(
    x: Any,
    url: URL,
    *,
    dims: Sequence[str] | None = None,
    identity: str | None = None,
    **options: Any,
) -> Migration:
    """Write an image to a sharded OME-Zarr, or go on with that where it was interrupted.

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

    def subject(name: str | None) -> Subject:
        return subject_of_array(x, dims=dims, name=name, identity=identity)

    return write_subject(subject, url, **options)


def migrate(
    source: URLs,
    url: URL,
    *,
    open_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Migration:
    """Open files and write them to a sharded OME-Zarr.

    Unlike ``open(source).to_zarr(url)`` it finds out whether it can write before it reads.

    Parameters
    ----------
    source : str, path or sequence of them
        See `cloudimg.open`.
    url : str or path
    open_options : mapping, optional
        The other arguments of `cloudimg.open`; its `client` is that of `to_zarr` without one.
    **options
        The other arguments of `to_zarr`.

    Returns
    -------
    Migration
    """
    options["client"] = once(options.get("client"))
    asked = {"client": options["client"], **(open_options or {})}
    return write_subject(lambda name: open(source, **asked).subject(name), url, **options)


def dry_run(
    source: URLs,
    *,
    open_options: Mapping[str, Any] | None = None,
    max_mem: int | str | None = None,
    prices: Mapping[str, float] | None = None,
    zarr_format: int = 3,
    chunks: Any = None,
    shards: Any = None,
    levels: int | None = None,
    factors: Any = None,
    downsampling: str | None = None,
    codec: Any = None,
    name: str | None = None,
) -> Estimate:
    """What `migrate` would do, without doing any of it.

    Parameters
    ----------
    source, open_options
        See `migrate`.
    max_mem, zarr_format, chunks, shards, levels, factors, downsampling, codec, name
        See `to_zarr`.
    prices : mapping, optional
        Dollars for a thousand requests, by kind: put, get, list.

    Returns
    -------
    Estimate
    """
    from cloudimg.writer.codecs import make_codec

    request = make_request(zarr_format, chunks, shards, levels, factors, downsampling, codec, name)
    subject = open(source, **(open_options or {})).subject(name)
    spec = make_codec(request.codec, subject.dtype, zarr_format).spec
    plan = plan_for(subject, request, spec)
    return estimate(plan, subject, max_bytes=memory(max_mem, None), prices=prices)


def verify(
    url: URL,
    *,
    against_source: bool | Any = False,
    sample: int | float | None = None,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
    max_mem: int | str | None = None,
    client: Any = None,
    progress: bool | Progress = False,
) -> Verification:
    """Prove that a copy is whole and right: read everything again.

    Every shard is held against the checksum in its receipt, decoded, and compared with the level
    below it; the metadata with what plan and receipts make of it; what is there with what should
    be.

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
        True where nothing is wrong; prints as a report.

    Raises
    ------
    ArgumentError
        If there is no copy of ours, or no source to compare it with.
    StorageError
        If a store fails; what is wrong with the copy is told in the result.
    """
    destination = open_destination(url, storage_options)
    state = load(destination)
    client = once(client)
    against = None
    if against_source is not False:
        subject = _subject_to_compare(state, against_source, source_options)
        against = Against(subject, _n_sampled(sample, state))
    elif sample is not None:
        raise ArgumentError("sample= needs against_source=True")
    return verify_copy(
        destination,
        state,
        against,
        max_bytes=memory(max_mem, client),
        client=client,
        progress=told(progress),
    )


def export(
    url: URL,
    out: URL,
    *,
    layout: str = "originals",
    compression: str | None = "zlib",
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    out_options: Mapping[str, Any] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> int:
    """Make TIFF files of a copy again.

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
    storage_options, out_options : mappings, optional
        fsspec's options for the copy and for the files.
    progress : callable, optional
        Is told how many files are done.

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
    from cloudimg.writer.export import LAYOUTS, Exporting, export_ome, export_originals

    if layout not in LAYOUTS:
        raise ArgumentError(f"layout={layout!r} must be one of {', '.join(LAYOUTS)}")
    if compression not in _LOSSLESS:
        known = ", ".join(repr(each) for each in _LOSSLESS)
        raise ArgumentError(f"compression={compression!r} must be one of {known}")
    copy = open_destination(url, storage_options)
    state = load(copy)
    if not state.is_done:
        raise ArgumentError(f"{copy.url} is not finished: run the migration again, it goes on")
    work = Exporting(
        copy, state, open_destination(out, out_options), compression, overwrite, progress
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
    raise ArgumentError(f"sample={sample!r} must be a number of cells, or a part such as 0.1")


def _subject_to_compare(
    state: State, given: Any, source_options: Mapping[str, Any] | None
) -> Subject:
    """What a copy is compared with: given, or opened again from what the plan says."""
    name = state.request.name
    if isinstance(given, Image):
        return given.subject(name)
    if given is not True:
        return subject_of_array(
            given,
            dims=state.source["dims"],
            name=name,
            identity=state.source.get("identity"),
        )
    told_of = state.source
    if told_of["kind"] != "image":
        raise ArgumentError("the copy was made of an array: pass it as against_source=")
    if told_of["has_own_reader"]:
        raise ArgumentError(
            "the copy was made with a reader of your own: pass against_source=cloudimg.open(...)"
        )
    if any("***" in url for url in told_of["urls"]):
        raise ArgumentError(
            "the source's URL had secrets, which were not stored: pass"
            " against_source=cloudimg.open(...)"
        )
    urls = told_of["urls"] if told_of["is_list"] else told_of["urls"][0]
    options = {key: told_of["open"][key] for key in _RE_OPENED}
    options["fill_value"] = _number(options["fill_value"])
    return open(urls, storage_options=source_options, **options).subject(name)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return complex(*(float(part) for part in value))
    return float(value) if isinstance(value, str) else value
