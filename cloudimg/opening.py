"""From what users pass to `cloudimg.open` to what an image is made of: the steps, in order."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cloudimg.arguments import as_texts
from cloudimg.assemble import make_sources
from cloudimg.coords import missing_examples
from cloudimg.errors import CloudimgError
from cloudimg.formats import Read
from cloudimg.grid import FileGrid
from cloudimg.headers import OpenFile, Selection
from cloudimg.image import Source, refuse_missing
from cloudimg.listing import Listing, find_files, locate, look_up
from cloudimg.on_cluster import Client
from cloudimg.reader import Reader
from cloudimg.sets import OpenSet, is_companion, open_set
from cloudimg.storage import Store, engine, redact
from cloudimg.survey import Survey, survey

URLs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of `cloudimg.open`."""

    axes: Mapping[str, str] | None
    dims: Sequence[str] | None
    mosaic: bool
    series: int
    missing: str
    fill_value: float | int | complex
    validate: str
    palette: str
    imread: Read | None
    storage_options: Mapping[str, Any] | None
    progress: Callable[[str, int], None] | None
    client: Client | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What an image is made of."""

    sources: tuple[Source, ...]
    """By level."""
    grid: FileGrid
    found: Survey
    url: str
    """As it may be shown."""
    n_files: int
    n_unmatched: int
    unmatched: tuple[str, ...]


def open_sources(urls: URLs, options: Options) -> Opened:
    """List, read the headers that decide, and lay out the image.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    is_list = not isinstance(urls, str | os.PathLike)
    texts = as_texts(urls)
    location, patterns = locate(texts)
    store = Store(location, options.storage_options)
    shown = redact(texts[0]) if not is_list else f"{len(texts)} URLs from {redact(texts[0])}"
    with _redacted():
        return _opened(store, patterns, is_list, shown, options)


def list_sources(urls: URLs, options: Options) -> FileGrid:
    """The files that `open_sources` would make an image of, as the store lists them now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError
    """
    is_list = not isinstance(urls, str | os.PathLike)
    location, patterns = locate(as_texts(urls))
    store = Store(location, options.storage_options)
    with _redacted():
        return _list(store, patterns, is_list, options).grid


@contextmanager
def _redacted() -> Iterator[None]:
    """Names come from listings and users: nothing of a URL's secrets may be repeated."""
    try:
        yield
    except CloudimgError as exc:
        exc.message = redact(exc.message)
        exc.args = (exc.message,)
        raise


def _opened(
    store: Store, patterns: Sequence[str], is_list: bool, shown: str, options: Options
) -> Opened:
    listing = _list(store, patterns, is_list, options)
    grid = listing.grid
    if options.missing == "raise" and grid.n_missing:
        raise refuse_missing(grid.n_missing, missing_examples(grid))
    selection = Selection(
        options.series,
        alone=bool(grid.fields),
        palette=options.palette,
        epoch=uuid.uuid4().hex,
        reader=options.imread,
    )
    reader = Reader(store, selection)
    first = None
    if not grid.fields:
        first, members = _single(reader, grid, options)
        if members is not None:
            sources = make_sources(
                members.reader, members.grid, members.found, options.fill_value, members.pages
            )
            n_files = members.n_files
            return Opened(sources, members.grid, members.found, shown, n_files, 0, ())
    found = survey(
        reader,
        grid,
        first,
        axes=options.axes or {},
        dims=options.dims,
        mosaic=options.mosaic,
        validate_all=options.validate == "all",
        progress=options.progress,
        client=options.client,
    )
    sources = make_sources(reader, grid, found, options.fill_value)
    unmatched = (listing.n_unmatched, listing.unmatched)
    return Opened(sources, grid, found, shown, grid.n_files, *unmatched)


def _list(store: Store, patterns: Sequence[str], is_list: bool, options: Options) -> Listing:
    if is_list and options.missing == "fill":
        return look_up(store, patterns)
    find = partial(find_files, store, patterns, is_list=is_list, progress=options.progress)
    # Waited for in a fetching thread, so that Ctrl-C reaches this one.
    return engine().fetch(find).result()


def _single(
    reader: Reader, grid: FileGrid, options: Options
) -> tuple[OpenFile | None, OpenSet | None]:
    """The header of the one file of a URL, or the set of files that it is a part of."""
    key = reader.store.location.key_of(grid.keys(()))
    opened = None
    if not is_companion(key) or options.imread is not None:
        opened = engine().fetch(partial(reader.headers.open, key)).result()
        if opened.parsed.spread is None:
            return opened, None
    members = open_set(
        reader,
        key,
        opened,
        axes=options.axes or {},
        dims=options.dims,
        fill=options.missing == "fill",
        validate_all=options.validate == "all",
    )
    if members is None:
        reader.headers.selection = replace(reader.headers.selection, alone=True)
    return None, members
