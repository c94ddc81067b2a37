"""Retire the originals of copies: `retire`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cloudimg.api.recorded_source import ask_for_source, options_of_source, urls_of_source
from cloudimg.api.source_of_copy import source_to_compare
from cloudimg.discovery.find_files import locate
from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.migration.deletion import Opening
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import Destination, open_destination
from cloudimg.migration.journal.inspecting import load_any
from cloudimg.migration.progress import AdvanceCallback, progress_callback
from cloudimg.migration.retire.action import Tag
from cloudimg.migration.retire.refusals import refuse_array
from cloudimg.migration.retire.result import Retirement
from cloudimg.migration.retire.retire import dry_run, undo_by_list
from cloudimg.migration.retire.retire import retire as retire_originals
from cloudimg.migration.retire.work import Work
from cloudimg.migration.run.arguments import memory
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import URL, StorageOptions, URLs, as_texts
from cloudimg.storage import Location, Store, split_url

if TYPE_CHECKING:
    from cloudimg.distributed.run import Client


@takes_keywords()
@on_cluster(urls=["url", "source", "move_to"], progress=progress_callback)
def retire(
    url: URL,
    *,
    tag: Mapping[str, str] | None = None,
    move_to: URL | None = None,
    undo: bool = False,
    execute: bool = False,
    source: URLs | None = None,
    confirm: Callable[[Opening], bool] | None = None,
    storage_options: StorageOptions | None = None,
    source_options: StorageOptions | None = None,
    max_mem: int | str | None = None,
    client: Client | None = None,
    progress: bool | AdvanceCallback = False,
) -> Retirement:
    """Tag or move the files that a copy was made of, after proving that the copy holds them.

    By default a dry run. With `execute`, the copy is verified against all of its files first, a
    sample of them is read by a reader that is not cloudimg's, and a list of all files with the way
    back is stored in the copy. Only then each file is tagged or moved, if it still has the version
    that was copied. No file is deleted: that is left to a lifecycle rule on the tag or the folder.
    After an interruption, the same call continues.

    Parameters
    ----------
    url : str or path
        A finished copy that `migrate` or `to_zarr` wrote.
    tag : mapping, optional
        Name and value of the tag that each file gets: an object tag in S3, custom metadata in
        Google Cloud Storage. Other tags stay.
    move_to : str or path, optional
        Folder that the files move to, with the folders that they are in, instead of getting a tag.
        It is in the same store, which moves them itself.
    undo : bool
        Go back instead: take the tag away, or move the files to where they were, where nothing
        else has been put since.
    execute : bool
        Whether to do it.
    source : str, path or sequence of them, optional
        URL of the source as the plan names it, which may then be acted on without asking. Signed
        or with credentials, if it was so.
    confirm : callable, optional
        Called with an `Opening` where the copy says that its files are in another bucket or on
        another host, and not on a local disk.
    storage_options, source_options
        See `verify`.
    max_mem, client, progress
        See `to_zarr`.

    Returns
    -------
    Retirement
        True if no file was left as it is; ``str()`` of it is a report, which lists first what is
        not in the copy.

    Raises
    ------
    ArgumentError
        If the copy cannot take the place of its files: it is not finished, was filled
        (``missing="fill"``, ``bad="fill"``), holds a part of the files only, or its store does not
        refuse to create objects that exist; or if the files cannot be tagged or moved.
    ChangedError
        If files changed since they were copied. Nothing was done then.
    CloudimgError
        If the copy or a sample does not have the pixels of the files. Nothing was done then.
    LeaseError, StorageError

    Examples
    --------
    >>> import cloudimg
    >>> pattern = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    >>> done = cloudimg.migrate(pattern, "s3://lab/retired.ome.zarr")
    >>> planned = cloudimg.retire("s3://lab/retired.ome.zarr", tag={"retired": "yes"})
    >>> planned.n_files, planned.is_dry_run
    (360, True)
    """
    if [tag is not None, move_to is not None, undo].count(True) != 1:
        raise ArgumentError("pass one of tag=, move_to= and undo=True")
    copy = open_destination(url, storage_options)
    state = load_any(copy)
    if isinstance(state, Collection):
        raise ArgumentError(
            f"the originals of {copy.url} cannot be retired: it holds the images of files with"
            " several, each as a copy of its own",
            url=copy.url,
        )
    refuse_array(state, copy.url)
    urls, is_elsewhere = urls_of_source(state.source, source)
    if is_elsewhere:
        raise ArgumentError(
            f"source= names other files than those that {copy.url} was made of, and only those can"
            " be retired"
        )
    if source is None:
        ask_for_source(copy, state, source_options, confirm)
    location, _ = locate(as_texts(urls))
    endpoint = state.source.get("endpoint")
    options = options_of_source(copy.store, location, endpoint, source_options)
    client = once(client)

    work = Work(
        copy=copy,
        state=state,
        source=Store(location, options),
        tag=None if tag is None else _tag(tag),
        move_to=None if move_to is None else split_url(move_to),
        against=lambda: source_to_compare(copy, state, True, source, source_options),
        max_bytes=memory(max_mem, client),
        client=client,
        progress=progress_callback(progress),
    )
    if undo:
        return undo_by_list(work, may_use=lambda target: _ask_for(copy, target, confirm))
    return retire_originals(work) if execute else dry_run(work)


def _tag(given: Mapping[str, str]) -> Tag:
    texts = list(given.items()) if isinstance(given, Mapping) else []
    if len(texts) != 1 or not all(isinstance(text, str) and text for text in texts[0]):
        raise ArgumentError(f"tag={given!r} must be one name with its value, as texts")
    return Tag(*texts[0])


def _ask_for(
    copy: Destination, target: Location, confirm: Callable[[Opening], bool] | None
) -> None:
    """Ask before files are taken from where only the list in a copy says that they are."""
    place = target.display(target.root)
    if target == copy.store.location:
        return
    if confirm is None or not confirm(Opening(copy.url, place)):
        raise ArgumentError(
            f"{copy.url} says that its files were moved to {place}: confirm= must agree to that"
        )
