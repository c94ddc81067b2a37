"""Check copies and write TIFF files from them: `verify` and `export`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from cloudimg.api.source_of_copy import source_to_compare
from cloudimg.distributed.run import once
from cloudimg.errors import (
    ArgumentError,
    FormatError,
    GridError,
    NotFoundError,
)
from cloudimg.migration.export.result import ExportResult
from cloudimg.migration.journal.collection import is_collection
from cloudimg.migration.journal.destination import Destination, open_destination
from cloudimg.migration.journal.inspecting import load, load_any
from cloudimg.migration.journal.state import State
from cloudimg.migration.progress import AdvanceCallback, progress_callback
from cloudimg.migration.run.arguments import memory
from cloudimg.migration.verify.collection import verify_collection
from cloudimg.migration.verify.result import Verification
from cloudimg.migration.verify.verify import verify as verify_copy
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import (
    URL,
    StorageOptions,
    URLs,
)
from cloudimg.opening.selection import Selection

if TYPE_CHECKING:
    from cloudimg.api.images import Pixels
    from cloudimg.distributed.run import Client

_LOSSLESS = (None, "zlib", "zstd", "lzw", "lzma", "packbits")
"""Compressions of TIFF that keep every bit."""


@takes_keywords()
@on_cluster(urls=["url", "source"], progress=progress_callback)
def verify(
    url: URL,
    *,
    against_source: bool | Pixels = False,
    source: URLs | None = None,
    sample: int | float | None = None,
    storage_options: StorageOptions | None = None,
    source_options: StorageOptions | None = None,
    max_mem: int | str | None = None,
    client: Client | None = None,
    progress: bool | AdvanceCallback = False,
) -> Verification:
    """Verify that a copy is complete and correct, by reading all of it again.

    Every shard is compared with the checksum in its commit record, decoded, and compared with the
    level below it. The metadata is compared with what the plan and the records imply, and the list
    of objects with what should exist. What others edited or added is not a problem: attributes,
    consolidated metadata, labels, tables.

    Parameters
    ----------
    url : str or path
        A copy that `to_zarr` or `migrate` wrote, or a collection of copies (``series="all"``), of
        which all images are verified.
    against_source : bool, Image or array
        Whether to compare the pixels with the source, too. True opens the source that the plan
        names, which whoever wrote the copy chose; an image or array is compared as it is.
    source : str, path or sequence of them, optional
        URL of the source, which is then compared: as the plan names it, or where it is now.
    sample : int or float, optional
        Number or fraction of cells to compare with the source, chosen at random, of each image of a
        collection; by default all.
    storage_options, source_options : mapping, optional
        Options of fsspec for the store of the copy and for that of the source. Without
        `source_options`, those of the copy are used for the source only if both are in one store:
        of one protocol, at one endpoint.
    max_mem, client, progress
        See `to_zarr`.

    Returns
    -------
    Verification
        True if there are no problems; ``str()`` of it is a report, which names what others edited,
        repeats the notes about the source's files, and lists those that are missing or bad and
        were filled.

    Raises
    ------
    ArgumentError
        If `url` does not hold a copy that cloudimg wrote, or the source cannot be opened again.
    StorageError
        If a store fails. Problems of the copy are part of the result.

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> done = cloudimg.migrate(pattern, "s3://lab/verified.ome.zarr")
    >>> copy = "s3://lab/verified.ome.zarr"
    >>> verification = cloudimg.verify(copy, against_source=True, sample=0.1)
    >>> bool(verification), verification.problems
    (True, ())
    """
    destination = open_destination(url, storage_options)
    found = load_any(destination)
    client = once(client)
    if source is not None and not isinstance(against_source, bool):
        raise ArgumentError("source= and an image or array as against_source= exclude each other")
    compares = against_source is not False or source is not None
    if sample is not None and not compares:
        raise ArgumentError("sample= needs against_source=True")

    def verify_one(
        copy: Destination, state: State, progress: AdvanceCallback | None
    ) -> Verification:
        against, unreadable = None, ""
        if compares:
            n_sampled = _n_sampled(sample, state)
            try:
                against = source_to_compare(
                    copy, state, against_source, source, source_options, n_sampled=n_sampled
                )
            except (NotFoundError, FormatError, GridError) as exc:
                if not isinstance(against_source, bool):
                    raise
                unreadable = exc.message
        return verify_copy(
            copy,
            state,
            against,
            unreadable=unreadable,
            max_bytes=memory(max_mem, client),
            client=client,
            progress=progress,
        )

    tell = progress_callback(progress)
    if isinstance(found, State):
        return verify_one(destination, found, tell)
    if not isinstance(against_source, bool):
        raise is_collection(destination, found)
    return verify_collection(destination, found, verify_one, tell)


@takes_keywords()
@on_cluster(urls=["url", "out"])
def export(
    url: URL,
    out: URL,
    *,
    layout: Literal["originals", "ome-tiff"] = "originals",
    compression: Literal["zlib", "zstd", "lzw", "lzma", "packbits"] | None = "zlib",
    overwrite: bool = False,
    source_options: StorageOptions | None = None,
    target_options: StorageOptions | None = None,
    client: Client | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> ExportResult:
    """Write TIFF files from a copy.

    Each file is read back from the bytes made and compared with the copy, pixels and tags, before
    it is stored as a whole. After an interruption, the same call continues: files that it stored
    before are not written again (``.cloudimg-export`` in the folder lists them).

    Parameters
    ----------
    url : str or path
        A copy that `to_zarr` or `migrate` wrote.
    out : str or path
        Folder for the files.
    layout : {"originals", "ome-tiff"}
        "originals" writes the files that the copy was made of, under their names, with their
        pages, descriptions and tags, and with the levels of the copy where the original had
        levels. "ome-tiff" writes one OME-TIFF with all levels per image.
    compression : {"zlib", "zstd", "lzw", "lzma", "packbits"}, optional
        Lossless compression of the files; None writes them uncompressed.
    overwrite : bool
        Whether to replace files that this export did not write.
    source_options, target_options : mapping, optional
        Options of fsspec for the store of the copy and for that of the files.
    client : distributed.Client, optional
        Dask cluster of which a worker writes the files: only the workers need to reach the stores,
        and paths are theirs.
    progress : callable, optional
        Called with what is counted and how many files are written so far.

    Returns
    -------
    ExportResult
        How many files the folder has, and by kind what of the originals they lack.

    Raises
    ------
    ArgumentError
        If `url` does not hold a finished copy that cloudimg wrote, or if another file has the name
        of one to write.
    NotFoundError, CorruptFileError
        If an object of the copy is missing or damaged, or if a file that was made differs from what
        it should be.
    StorageError

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> done = cloudimg.migrate(pattern, "s3://lab/exported.ome.zarr")
    >>> exported = cloudimg.export("s3://lab/exported.ome.zarr", "exported")
    >>> exported.n_files, exported.not_written
    (360, ())
    """
    from cloudimg.migration.export.export import LAYOUTS, Export, export_ome, export_originals

    if layout not in LAYOUTS:
        raise ArgumentError(f"layout={layout!r} must be one of {', '.join(LAYOUTS)}")
    if compression not in _LOSSLESS:
        known = ", ".join(repr(each) for each in _LOSSLESS)
        raise ArgumentError(f"compression={compression!r} must be one of {known}")
    copy = open_destination(url, source_options)
    state = load(copy)
    if not state.is_done:
        raise ArgumentError(
            f"{copy.url} is not finished: run the same migration again to continue it"
        )
    selected = Selection.from_json(state.source.get("open", {}).get("select") or [])
    if layout == "originals" and selected.cuts_files:
        raise ArgumentError(
            f"{copy.url} has a part of the pixels of its files (select=), from which the originals"
            ' cannot be made: pass layout="ome-tiff"',
            url=copy.url,
        )
    work = Export(
        copy=copy,
        state=state,
        out=open_destination(out, target_options),
        compression=compression,
        overwrite=overwrite,
        progress=progress,
    )
    return export_originals(work) if layout == "originals" else export_ome(work)


@on_cluster(urls=["url"])
def notes_of_copy(
    url: URL, storage_options: StorageOptions | None, *, client: Client | None = None
) -> tuple[str, ...]:
    """What a copy lacks of its source, and what was noticed about the source's files."""
    return load(open_destination(url, storage_options)).notes


def _n_sampled(sample: int | float | None, state: State) -> int | None:
    if sample is None:
        return None
    n_cells = state.plan.n_cells(0)
    if isinstance(sample, float) and 0 < sample <= 1:
        return max(1, round(sample * n_cells))
    if isinstance(sample, int) and not isinstance(sample, bool) and sample > 0:
        return sample
    raise ArgumentError(f"sample={sample!r} must be a number of cells, or a fraction such as 0.1")
