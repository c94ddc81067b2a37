"""Open a folder by the layout of its files, where exactly one known layout fits all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cloudimg.discovery.folder import Folder, list_folder, parse_target
from cloudimg.discovery.proposals import Proposal
from cloudimg.errors import FolderError, NotFoundError, counted
from cloudimg.opening.open_files import open_sources
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import OpenArguments, URLs
from cloudimg.opening.tables import read_table
from cloudimg.opening.zarr_source import zarr_source
from cloudimg.storage import Store, engine, redact

_SHOWN = 3
"""Number of proposals in the error about a folder without a known layout."""


def open_files_or_folder(
    urls: URLs, arguments: OpenArguments
) -> tuple[Opened, URLs, OpenArguments]:
    """Open files, or a folder by its layout; the pattern and the arguments are returned, too.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    urls, arguments = resolve(urls, arguments)
    try:
        return open_sources(urls, arguments), urls, arguments
    except FolderError:
        urls, arguments = by_layout(urls, arguments, is_folder=True)
    except NotFoundError:
        # A web server tells nothing of folders.
        found = zarr_source(urls, arguments, is_certain=True) if is_web(urls) else None
        if found is None:
            raise
        urls, arguments = found
    return open_sources(urls, arguments), urls, arguments


def resolve(urls: URLs, arguments: OpenArguments) -> tuple[URLs, OpenArguments]:
    """A table, a Zarr or the pattern of a folder, as far as the URL says that it is one.

    Raises
    ------
    ArgumentError, FormatError, GridError, StorageError
    """
    urls, arguments = read_table(urls, arguments)
    return zarr_source(urls, arguments) or by_layout(urls, arguments)


def is_web(urls: URLs) -> bool:
    """Whether files are at one URL of a web server."""
    return isinstance(urls, str) and parse_target(urls).location.protocol in ("http", "https")


def by_layout(
    urls: URLs, arguments: OpenArguments, *, is_folder: bool = False
) -> tuple[URLs, OpenArguments]:
    """The pattern of a folder, and arguments that leave out what lies beside its planes.

    What cannot be a folder is returned as it is, and so is a bucket, which may be very large.

    Parameters
    ----------
    urls : str, path or sequence of them
    arguments : OpenArguments
    is_folder : bool
        Whether this is known to be a folder; else only what the URL says counts.

    Raises
    ------
    FolderError
        If no known layout fits all image files of the folder.
    NoMatchError, StorageError
    """
    if not isinstance(urls, str | os.PathLike) or arguments.pattern is not None:
        return urls, arguments
    url = os.fspath(urls)
    target = parse_target(url)
    key = (target.key or "").rstrip("/")
    if not (is_folder or target.is_folder) or not key or key == target.location.root:
        return urls, arguments
    store = Store(target.location, arguments.storage_options)
    # In a fetching thread, so that Ctrl-C interrupts this one.
    listed = engine().fetch(
        partial(list_folder, store, url, target.key, arguments.progress, arguments.exclude)
    )
    folder = listed.result()
    if folder.zarrs == ("",):
        found = zarr_source(url, arguments, is_certain=True)
        if found is not None:
            return found
    if len(folder.proposals) != 1 or not folder.proposals[0].is_sure:
        raise _no_layout(folder)
    layout = folder.proposals[0]
    return layout.pattern, replace(
        arguments,
        exclude=with_globs(arguments.exclude, layout.exclude),
        purpose=replace(arguments.purpose, index_names=folder.index_names),
    )


def with_globs(
    exclude: str | Sequence[str] | None, globs: Sequence[str]
) -> str | Sequence[str] | None:
    """The argument `exclude` with further globs."""
    given = [exclude] if isinstance(exclude, str) else list(exclude or ())
    further = [glob for glob in globs if glob not in given]
    return [*given, *further] if further else exclude


def _no_layout(folder: Folder) -> FolderError:
    url = redact(folder.url)
    if folder.zarrs:
        shown = ", ".join(folder.zarrs[:_SHOWN])
        return FolderError(
            f"{url} is a folder with {counted(len(folder.zarrs), 'Zarr')}: open one by its own URL"
            f" ({shown})",
            url=url,
        )
    shown = "; ".join(map(_shown, folder.proposals[:_SHOWN]))
    return FolderError(
        f"{url} is a folder; cloudimg.info({url!r}) lists it and proposes patterns of its files to"
        f" open: no layout that is known fits all of them, so that you must choose: {shown}",
        url=url,
    )


def _shown(proposal: Proposal) -> str:
    what = proposal.layout or f"a {proposal.certainty}".replace("a likely", "likely")
    return f"{redact(proposal.pattern)} ({what}, {counted(proposal.n_files, 'file')})"
