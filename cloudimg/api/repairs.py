"""Mend copies: `repair`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudimg.api.recorded_source import ask_for_source
from cloudimg.api.source_of_copy import files_copied, write_input_to_compare
from cloudimg.discovery.table import FileTable
from cloudimg.discovery.table_changes import has_same_rows
from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.migration.deletion import Deletion, Opening
from cloudimg.migration.journal.collection import is_collection, read_collection
from cloudimg.migration.journal.destination import Destination, as_json, open_destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.progress import AdvanceCallback, progress_callback
from cloudimg.migration.repair.collection import repair_collection
from cloudimg.migration.repair.mend_cell import OriginalSource
from cloudimg.migration.repair.options import Original, RepairOptions
from cloudimg.migration.repair.repair import repair as repair_copy
from cloudimg.migration.repair.result import Repair
from cloudimg.migration.run.arguments import memory
from cloudimg.migration.run.source_files import options_of_plan
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import URL, StorageOptions, URLs

if TYPE_CHECKING:
    from cloudimg.api.images import Pixels
    from cloudimg.distributed.run import Client


_DECIDE_PIXELS = (
    "axes", "dims", "place", "blend", "flip", "align", "index_files", "series", "missing", "bad",
    "fill_value", "palette", "rgb",
)  # fmt: skip
"""Arguments of `open` with which the same files give other pixels."""


@takes_keywords()
@on_cluster(urls=["url", "source"], progress=progress_callback)
def repair(
    url: URL,
    *,
    from_source: bool | Pixels | None = None,
    source: URLs | None = None,
    dry_run: bool = False,
    remove_orphans: bool = False,
    new_documents: bool = False,
    replace_edits: bool = False,
    confirm: Callable[[Deletion | Opening], bool] | None = None,
    storage_options: StorageOptions | None = None,
    source_options: StorageOptions | None = None,
    max_mem: int | str | None = None,
    client: Client | None = None,
    progress: bool | AdvanceCallback = False,
) -> Repair:
    """Mend a copy: verify it, and store again what is missing or damaged.

    What can be made from the copy itself needs no source: levels above level 0, metadata, the plan,
    which is stored twice, and the end mark. Damage at level 0 is mended from the source, of which
    only the files of the damaged cells are read. Where the source is gone or has changed, the
    result names what is beyond repair, and nothing of that is deleted. What others edited or added
    stays. A repair that is killed leaves a damaged copy, which the next one mends.

    Parameters
    ----------
    url : str or path
        A finished copy that `to_zarr` or `migrate` wrote, or a collection of copies
        (``series="all"``), of which all images are mended.
    from_source : bool, Image or array, optional
        Whether to open the source that the plan names. By default it is opened if it is on local
        disks or in the store of the copy, and elsewhere if `confirm` says so, since whoever wrote
        the copy chose it. An image or array is taken as it is.
    source : str, path or sequence of them, optional
        URL of the source, which may then be opened: as the plan names it, or where it is now. A
        source elsewhere counts where it has the pixels that were copied.
    dry_run : bool
        Only find the problems.
    remove_orphans : bool
        Whether to delete objects among the arrays of the copy and its journal that do not belong to
        it. By default only if `confirm` says so.
    new_documents : bool
        Write the metadata anew by the rules of this version, for a copy that an older one made:
        colours, windows, names, units, OME-XML. It is made from the headers of the source, or from
        what the copy has of them where the source is gone or is not to be opened; the result notes
        what that leaves as it was. Pixels are neither read nor stored, and the layout of the images
        stays. Problems are not mended, apart from those of a call that was killed.
    replace_edits : bool
        With `new_documents`, whether to replace what others edited in the metadata. By default it
        stays.
    confirm : callable, optional
        Called with a `Deletion` before such objects are deleted, and with an `Opening` before a
        source elsewhere is opened.
    storage_options, source_options
        See `verify`.
    max_mem, client, progress
        See `to_zarr`.

    Returns
    -------
    Repair
        True if no problems are left; ``str()`` of it is a report.

    Raises
    ------
    ArgumentError
        If `url` does not hold a finished copy that cloudimg wrote.
    CorruptFileError, DamagedCopyError
        If neither of the two copies of its plan is whole.
    LeaseError
        If another process is writing to `url`.
    StorageError
        What was mended by then stays; the same call continues.

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> done = cloudimg.migrate(pattern, "s3://lab/mended.ome.zarr")
    >>> bool(cloudimg.repair("s3://lab/mended.ome.zarr"))
    True
    """
    if source is not None and not (from_source is None or isinstance(from_source, bool)):
        raise ArgumentError("source= and an image or array as from_source= exclude each other")
    if replace_edits and not new_documents:
        raise ArgumentError("replace_edits=True needs new_documents=True")
    destination = open_destination(url, storage_options)
    client = once(client)
    asked = _asked_once(confirm)

    def open_original(copy: Destination, state: State) -> Original:
        if source is None and from_source is None:
            ask_for_source(copy, state, source_options, asked)
        if source is None and from_source is False:
            raise ArgumentError("it can be made from the source only: pass source= with its URL")
        given = True if from_source is None else from_source
        return _open_original(copy, state, given, source, source_options)

    options = RepairOptions(
        dry_run=dry_run,
        remove_orphans=remove_orphans,
        confirm=confirm,
        max_bytes=memory(max_mem, client),
        client=client,
        progress=progress_callback(progress),
        new_documents=new_documents,
        replace_edits=replace_edits,
    )

    def repair_one(copy: Destination, progress: AdvanceCallback | None) -> Repair:
        return repair_copy(copy, partial(open_original, copy), replace(options, progress=progress))

    collection = read_collection(destination)[0]
    if collection is None:
        return repair_one(destination, options.progress)
    if not (from_source is None or isinstance(from_source, bool)):
        raise is_collection(destination, collection)
    if new_documents:
        raise ArgumentError(
            f"{destination.url} is a collection of copies: new_documents=True is for one of them,"
            f" such as {destination.display(collection.paths[0])}",
            url=destination.url,
        )
    return repair_collection(destination, collection, repair_one, options)


def _asked_once(
    confirm: Callable[[Deletion | Opening], bool] | None,
) -> Callable[[Opening], bool] | None:
    """Asks about the same place once, however many images of a collection name it."""
    if confirm is None:
        return None
    answers: dict[str, bool] = {}

    def ask(opening: Opening) -> bool:
        if opening.place not in answers:
            answers[opening.place] = confirm(opening)
        return answers[opening.place]

    return ask


def _open_original(
    destination: Destination,
    state: State,
    given: bool | Pixels,
    source: URLs | None,
    source_options: StorageOptions | None,
) -> Original:
    """Open the source of a copy, and find out whether it is the one that was copied.

    Raises
    ------
    CloudimgError
    """
    if isinstance(given, bool) and state.source["kind"] != "image":
        raise ArgumentError("the copy was made of an array: pass the array as from_source=")
    if isinstance(given, bool) and state.source["has_own_reader"]:
        raise ArgumentError(
            "the copy was made with a custom reader (imread=): pass from_source=cloudimg.open(...)"
        )
    files = files_copied(destination, state)
    write_input, changes = write_input_to_compare(
        destination, state, files, given, source, source_options
    )
    now, recorded = write_input.source, state.source
    for name in ("dims", "shape", "dtype"):
        if now[name] != recorded[name]:
            raise ArgumentError(
                f"the source has {name} {now[name]}, but the copy was made of one with {name}"
                f" {recorded[name]}"
            )
    is_same = _is_same(write_input, files, recorded)
    pixels = OriginalSource.of(write_input.pixels, files, is_same=is_same)
    is_changed = changes is not None and bool(changes.n_replaced or changes.n_removed)
    # What the user names or gives is taken at their word, since files have other names elsewhere.
    is_known = is_same or source is not None or not isinstance(given, bool)
    return Original(
        write_input,
        pixels,
        is_unchanged=is_known and not is_changed,
        has_other_sizes=_has_other_sizes(write_input, files),
        is_recorded=is_same,
    )


def _is_same(write_input: WriteInput, files: FileTable | None, recorded: Mapping[str, Any]) -> bool:
    """Whether a source has the files at the places, or is the array, that was copied."""
    now = write_input.source
    if recorded["kind"] == "array":
        return bool(now["fingerprint"] == recorded["fingerprint"])
    return (
        files is not None
        and write_input.files is not None
        and has_same_rows(files, write_input.files())
        and _reads_alike(now, recorded)
        and recorded.get("arrangement", now["arrangement"]) == now["arrangement"]
    )


def _has_other_sizes(write_input: WriteInput, files: FileTable | None) -> bool:
    """Whether a file is known to have another size than the one that was copied."""
    if files is None or write_input.files is None:
        return False
    was, now = files.sizes, write_input.files().sizes
    if was.shape != now.shape:
        return True
    return bool(((was != now) & (was >= 0) & (now >= 0)).any())


def _reads_alike(now: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Whether an image reads its files as the one that was copied did, such as the same series."""
    if now["has_own_reader"] != recorded["has_own_reader"]:
        return False
    was, is_now = (options_of_plan(each["open"]) for each in (recorded, now))
    return all(as_json([was[name]]) == as_json([is_now[name]]) for name in _DECIDE_PIXELS)
