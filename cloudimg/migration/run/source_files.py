"""What identifies the files of a source, as they were when it was opened and as they are now."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.find_files import locate
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table import FileTable
from cloudimg.opening.open_files import Opened, list_sources, open_sources
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.reading.source import make_token
from cloudimg.storage import redact, unsigned


def shown_urls(urls: URLs) -> list[str]:
    """URLs without secrets, to be stored; the image can be opened from them again."""
    location, texts = locate(as_texts(urls))
    return [redact(f"{location.before}{text}{location.after}") for text in texts]


def stored_nbytes(opened: Opened) -> int | None:
    """Size of all files in bytes; None if it is not known of every file."""
    sizes = opened.grid.sizes
    if (sizes >= 0).sum() == opened.n_files:
        return int(sizes[sizes >= 0].sum())
    return opened.inspection.headers[0].size_bytes if opened.n_files == 1 else None


def file_table(grid: FileGrid, pages: npt.NDArray[np.int64] | None) -> FileTable:
    """The table of the files in a grid, with their pages if they are a multi-file dataset."""
    return FileTable.of(grid, _shown_name, pages)


def file_table_now(urls: URLs, arguments: OpenArguments) -> FileTable:
    """Return the table of the files that opening a source would use now.

    Raises
    ------
    PatternError, ArgumentError, NoMatchError, GridError, StorageError, FormatError
    """
    if isinstance(urls, str | os.PathLike):
        listed = list_sources(urls, arguments)
        if listed.fields:
            return file_table(listed, None)
    opened = open_sources(urls, arguments)
    return file_table(opened.grid, opened.sources[0].files.pages)


def _shown_name(name: str) -> str:
    """The URL of a file without credentials or signature."""
    return redact(unsigned(name))


def fingerprint_of(opened: Opened) -> str:
    """Digest of the names, sizes and versions of all files, and of how they form the image.

    Unlike the token of a source, it is never random: if a store has no versions, it depends on
    sizes alone.
    """
    header = opened.inspection.headers[0]
    source = opened.sources[0]
    context = source.reader.headers.context
    first = unsigned(source.reader.store.location.pattern_text(header.key))
    return make_token(
        (first, header.etag, header.size_bytes, header.dtype.str),
        (context.series, context.ignore_siblings, context.palette),
        opened.grid.digest,
        source.layout,
        repr(source.fill_value),
    )


def fingerprint_now(opened: Opened, urls: URLs, arguments: OpenArguments, before: str) -> str:
    """The fingerprint of an image's files as they are now; `before` is that from opening it."""
    # If listings include versions and are equal, the files are equal: none needs to be opened.
    if opened.grid.fields and opened.grid.has_versions:
        now = list_sources(urls, arguments)
        if now.has_versions and now.digest == opened.grid.digest:
            return before
    return fingerprint_of(open_sources(urls, arguments))
