"""Open the file of a single URL, or the multi-file dataset that it belongs to."""

from __future__ import annotations

from functools import partial

from cloudimg.discovery.folder import is_folder
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import FolderError, NotFoundError, NotTiffError
from cloudimg.opening.dataset_description import is_companion
from cloudimg.opening.multifile import OpenDataset, open_dataset
from cloudimg.opening.options import OpenArguments
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.reader import Reader
from cloudimg.storage import engine


def open_single(
    reader: Reader, grid: FileGrid, arguments: OpenArguments
) -> OpenDataset | tuple[Reader, OpenFile | None]:
    """Open the file of a single URL, or the multi-file dataset that it belongs to.

    For a single file, return the reader to use, and the open file if it needs no other reader.
    """
    location = reader.store.location
    key = location.key_of(grid.keys(()))
    is_web = location.protocol in ("http", "https")
    if location.root and key.rstrip("/") == location.root and not is_web:
        raise _folder_error(location.display(key))  # a bucket, which no request can read
    opened = None
    if not is_companion(key) or arguments.imread is not None:
        try:
            opened = engine().fetch(partial(reader.headers.open, key)).result()
        except NotFoundError as exc:
            if not is_folder(reader.store, key):
                raise
            raise _folder_error(location.display(key)) from exc
        except NotTiffError as exc:
            if not is_web or (key != location.root and not key.endswith("/")):
                raise
            raise _folder_error(location.display(key)) from exc  # its page
        if opened.parsed.membership is None:
            return reader, opened
    dataset = open_dataset(reader, key, opened, arguments)
    return dataset or (reader.using(ignore_siblings=True), None)


def _folder_error(url: str) -> FolderError:
    """The error for a folder where a file is expected."""
    return FolderError(
        f"{url} is a folder; cloudimg.info({url!r}) lists it and proposes patterns of its files to"
        " open",
        url=url,
    )
