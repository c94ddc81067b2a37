"""Describe, check and show what is at a URL: `info`, `validate` and `preview`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

from cloudimg.api.images import open
from cloudimg.discovery.folder import Folder, list_folder, parse_target
from cloudimg.discovery.listing import Tabled
from cloudimg.errors import (
    CloudimgError,
    FolderError,
    NoMatchError,
    NotFoundError,
    NotTiffError,
)
from cloudimg.image.facts import folder_facts, image_facts
from cloudimg.image.image import Image
from cloudimg.image.png import refuse_unwritable, write_png
from cloudimg.image.preview import Preview, make_preview
from cloudimg.image.validation import Validation, validating
from cloudimg.opening.keywords import takes_keywords
from cloudimg.opening.known_folder import is_web, open_files_or_folder, with_globs
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.open_files import open_sources
from cloudimg.opening.options import (
    OPEN_DEFAULTS,
    URL,
    OpenArguments,
    OpenOptions,
    OpenTableOptions,
    URLs,
)
from cloudimg.opening.tables import read_table
from cloudimg.opening.zarr_source import zarr_source
from cloudimg.storage import Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@takes_keywords(OpenOptions, OPEN_DEFAULTS)
def info(url: URL, **options: Unpack[OpenOptions]) -> dict[str, Any]:
    """Describe what is at a URL as plain JSON values: an image, or a folder and its patterns.

    Lists names and reads headers; reads no pixels.

    Parameters
    ----------
    url : str or path
        A pattern, a file, a folder or a Zarr.
    **options
        See `cloudimg.open`.

    Returns
    -------
    dict
        ``kind`` is ``"image"`` or ``"folder"``; the docstring of `cloudimg.image.facts` lists
        all keys.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError

    Examples
    --------
    >>> import cloudimg
    >>> cloudimg.info("s3://lab/exp/")["proposals"][0]["pattern"]
    's3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif'
    """
    facts = inspect_url(os.fspath(url), **options)
    if facts["kind"] == "folder" and facts["proposals"]:
        proposal = facts["proposals"][0]
        try:
            facts["image"] = image_facts(open_proposal(proposal, options), proposal["pattern"])
        except CloudimgError as error:  # a proposed pattern is a guess and may not open
            facts["image_problem"] = str(error)
    return facts


def open_proposal(proposal: Mapping[str, Any], options: Mapping[str, Any]) -> Image:
    """Open what the facts of a folder propose."""
    given: Any = {**options, "exclude": with_globs(options.get("exclude"), proposal["exclude"])}
    return open(proposal["pattern"], **given)


@on_cluster(urls=["url"])
def inspect_url(url: str, **options: Unpack[OpenOptions]) -> dict[str, Any]:
    """Facts of what is at a URL; for a folder, ``image`` is not yet filled in."""
    arguments = OpenArguments.of(options)
    tabled, arguments = read_table(url, arguments)
    if isinstance(tabled, Tabled):
        return image_facts(Image(open_sources(tabled, arguments), tabled, arguments), url)
    problem = None
    try:
        facts = _facts_of_zarr(url, arguments)
    except FolderError as error:  # which is told with what the folder has
        facts, problem = None, error.message
    if facts is not None:
        return facts
    found = _file_or_folder(url, arguments)
    if not isinstance(found, Folder):
        return found
    of_folder = folder_facts(found)
    if found.zarrs != ("",) or problem is not None:
        return {**of_folder, "image_problem": problem}
    try:
        return _facts_of_zarr(url, arguments, is_certain=True) or of_folder
    except FolderError as error:
        return {**of_folder, "image_problem": error.message}


def _file_or_folder(url: str, arguments: OpenArguments) -> dict[str, Any] | Folder:
    """Facts of the image at a URL, or the folder that it is."""
    target = parse_target(url)
    store = Store(target.location, arguments.storage_options)
    list_it = partial(list_folder, store, url, target.key, arguments.progress, arguments.exclude)
    if target.is_folder:
        return list_it()
    try:
        return image_facts(Image(open_sources(url, arguments), url, arguments), url)
    except (NotFoundError, NotTiffError) as error:
        if target.key is None or (isinstance(error, NotTiffError) and not target.may_be_page):
            raise
        facts = _facts_of_zarr(url, arguments, is_certain=True) if is_web(url) else None
        if facts is not None:
            return facts
        try:
            folder = list_it()
        except (NoMatchError, NotFoundError):
            folder = None
        if folder is None:
            raise  # not a folder either: report why the file does not open
        return folder


def _facts_of_zarr(
    url: str, arguments: OpenArguments, *, is_certain: bool = False
) -> dict[str, Any] | None:
    """Facts of the image that a Zarr is; None of anything else.

    Raises
    ------
    FolderError
        If it is a group without an image, or an unfinished copy.
    """
    found = zarr_source(url, arguments, is_certain=is_certain)
    return None if found is None else image_facts(Image(open_sources(*found), *found), url)


@takes_keywords(OpenTableOptions, OPEN_DEFAULTS)
@on_cluster(urls=["urls"])
def validate(urls: URLs, **options: Unpack[OpenTableOptions]) -> Validation:
    """Read the headers of all files of an image, and report which files are fine.

    Nothing is an error that is about a file, as long as one of them can be read: a file may be
    missing, odd (it differs from the first that can be read) or bad (it cannot be).
    `Image.validate` does the same for an image that is open.

    Parameters
    ----------
    urls : str, path, sequence of them, or table
        See `cloudimg.open`.
    **options
        See `cloudimg.open`; `validate`, `missing` and `bad` change nothing.

    Returns
    -------
    Validation
        True if all files are fine; ``str()`` of it is a table with a picture of the grid, and
        `Validation.picture` writes that as a PNG.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError

    Examples
    --------
    >>> import cloudimg
    >>> found = cloudimg.validate("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
    >>> bool(found), found.counts
    (True, {'fine': 360, 'missing': 0, 'odd': 0, 'bad': 0})
    """
    given: dict[str, Any] = dict(options)
    column = given.pop("url", None)
    if column is not None:
        given["url_column"] = column
    opened, _, _ = open_files_or_folder(urls, validating(OpenArguments.of(given)))
    return Validation.of(opened)


@takes_keywords(OpenOptions, OPEN_DEFAULTS)
def preview(
    url: URL,
    path: str | os.PathLike[str],
    *,
    size: int = 1024,
    level: int | None = None,
    index: Mapping[str, int] | None = None,
    project: Literal["max", "mean"] | None = None,
    max_bytes: float = 2**30,
    **options: Unpack[OpenOptions],
) -> Preview:
    """Write a PNG of one plane of an image, read from the smallest sufficient level.

    Colours of any space become RGB, without ICC profiles; opacity becomes that of the PNG.

    Parameters
    ----------
    url : str or path
        A pattern, a file or a Zarr.
    path : str or path
        The PNG to write. An existing file is replaced.
    size : int
        Maximum length of its longer side in pixels. Images are never enlarged.
    level : int, optional
        Resolution level to read, instead of choosing one by `size`; -1 is the smallest.
    index : mapping, optional
        Positions by dim, in pixels of level 0; negative positions count from the end. By default
        the middle of z, the first of other axes, and up to six channels in their colours.
    project : {"max", "mean"}, optional
        Project all planes along z instead of showing one.
    max_bytes : float
        Limit of decoded bytes; ``math.inf`` for no limit.
    **options
        See `cloudimg.open`.

    Returns
    -------
    Preview
        What was read and written; ``str()`` of it is one line.

    Raises
    ------
    ArgumentError, StorageError, FormatError, GridError

    Examples
    --------
    >>> import cloudimg
    >>> print(cloudimg.preview("s3://lab/slides/slide.ome.tif", "slide.png", size=48))
    slide.png: 48 x 32 pixels from level 1 (48 x 32); 3.00 kiB of 12.00 kiB decoded
    """
    target = os.fspath(path)
    refuse_unwritable(target)
    shown, pixels = _picture(
        url,
        path=target,
        size=size,
        level=level,
        index=index or {},
        project=project,
        max_bytes=max_bytes,
        **options,
    )
    write_png(target, pixels)
    return shown


@on_cluster(urls=["url"])
def _picture(
    url: URL,
    *,
    path: str,
    size: int,
    level: int | None,
    index: Mapping[str, int],
    project: str | None,
    max_bytes: float,
    **options: Unpack[OpenOptions],
) -> tuple[Preview, npt.NDArray[np.uint8]]:
    """The picture of a preview, and what it shows."""
    return make_preview(
        open(url, **options),
        path,
        size=size,
        level=level,
        index=index,
        project=project,
        max_bytes=max_bytes,
        progress=options.get("progress"),
    )
