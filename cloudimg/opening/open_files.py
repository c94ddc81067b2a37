"""From what users pass to `cloudimg.open` to the parts of an image: the steps, in order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.listing import Listing, find_files, locate, look_up
from cloudimg.errors import CloudimgError
from cloudimg.opening.inspect_headers import HeaderInspection, inspect_headers
from cloudimg.opening.multifile import OpenDataset, is_companion, open_dataset
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.opening.sources import make_sources
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader, ReadContext
from cloudimg.reading.reader import Reader
from cloudimg.reading.source import Source, missing_files
from cloudimg.storage import Store, engine, redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What an image consists of."""

    sources: tuple[Source, ...]
    """By level."""
    grid: FileGrid
    inspection: HeaderInspection
    url: str
    """Without secrets, for messages."""
    n_files: int
    n_unmatched: int = 0
    """Objects whose names begin like the pattern but do not match it."""
    unmatched: tuple[str, ...] = ()
    """URLs of a few of them."""


def open_sources(urls: URLs, arguments: OpenArguments) -> Opened:
    """List, read the headers that decide, and lay out the image.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    is_list = isinstance(urls, Sequence) and not isinstance(urls, str)
    texts = as_texts(urls)
    location, patterns = locate(texts)
    store = Store(location, arguments.storage_options)
    shown = redact(texts[0]) if not is_list else f"{len(texts)} URLs from {redact(texts[0])}"
    with _redacted():
        return _open(store, patterns, is_list, shown, arguments)


def list_sources(urls: URLs, arguments: OpenArguments) -> FileGrid:
    """The files that `open_sources` would make an image of, as the store lists them now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError
    """
    is_list = isinstance(urls, Sequence) and not isinstance(urls, str)
    location, patterns = locate(as_texts(urls))
    store = Store(location, arguments.storage_options)
    with _redacted():
        return _list(store, patterns, is_list, arguments).grid


@contextmanager
def _redacted() -> Iterator[None]:
    """Remove secrets from messages: names in them come from listings and from users."""
    try:
        yield
    except CloudimgError as exc:
        exc.message = redact(exc.message)
        exc.args = (exc.message,)
        raise


def _open(
    store: Store, patterns: Sequence[str], is_list: bool, shown: str, arguments: OpenArguments
) -> Opened:
    listing = _list(store, patterns, is_list, arguments)
    grid = listing.grid
    if arguments.missing == "raise" and grid.n_missing:
        raise missing_files(grid.n_missing, grid.missing_examples())
    context = ReadContext(
        series=arguments.series,
        ignore_siblings=bool(grid.fields),
        palette=arguments.palette,
        epoch=uuid.uuid4().hex,
        decoder=arguments.imread,
    )
    reader = Reader(HeaderReader(store, context))
    first = None
    if not grid.fields:
        found = _open_single(reader, grid, arguments)
        if isinstance(found, OpenDataset):
            return Opened(
                sources=make_sources(
                    found.grid, found.inspection, arguments.fill_value, found.pages
                ),
                grid=found.grid,
                inspection=found.inspection,
                url=shown,
                n_files=found.n_files,
            )
        reader, first = found
    inspection = inspect_headers(reader, grid, first, arguments)
    return Opened(
        sources=make_sources(grid, inspection, arguments.fill_value),
        grid=grid,
        inspection=inspection,
        url=shown,
        n_files=grid.n_files,
        n_unmatched=listing.n_unmatched,
        unmatched=listing.unmatched,
    )


def _list(
    store: Store, patterns: Sequence[str], is_list: bool, arguments: OpenArguments
) -> Listing:
    if is_list and arguments.missing == "fill":
        return look_up(store, patterns)
    find = partial(find_files, store, patterns, is_list=is_list, progress=arguments.progress)
    # In a fetching thread, so that Ctrl-C reaches this one.
    return engine().fetch(find).result()


def _open_single(
    reader: Reader, grid: FileGrid, arguments: OpenArguments
) -> OpenDataset | tuple[Reader, OpenFile | None]:
    """The header of the one file of a URL, or the multi-file dataset that it belongs to."""
    key = reader.store.location.key_of(grid.keys(()))
    opened = None
    if not is_companion(key) or arguments.imread is not None:
        opened = engine().fetch(partial(reader.headers.open, key)).result()
        if opened.parsed.membership is None:
            return reader, opened
    dataset = open_dataset(reader, key, opened, arguments)
    return dataset or (reader.using(ignore_siblings=True), None)
