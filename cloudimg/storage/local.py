"""Local files: reading, listing and deleting them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from cloudimg.errors import AccessDeniedError, NotFoundError, StorageError
from cloudimg.settings.operating_system import BINARY, NONBLOCK, read_at
from cloudimg.storage.base import (
    DANGLING,
    UNREADABLE,
    Blob,
    Data,
    Entry,
    Mover,
    NotMappableError,
    Page,
    Stored,
    is_aside,
)
from cloudimg.storage.local_errors import translate
from cloudimg.storage.local_mover import LocalMover
from cloudimg.storage.local_writing import PASSING, store_file
from cloudimg.storage.versions import version_of_file


class LocalBackend:
    """Opens a file for each read, so that threads need no lock."""

    lists_in_order = False
    checks_pages = True

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        try:
            handle = os.open(key, os.O_RDONLY | BINARY | NONBLOCK)
            try:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
                    raise NotFoundError(f"{key} is a {kind}, not a file", url=key)
                size = status.st_size
                first = 0 if start is None else start if start >= 0 else max(0, size + start)
                last = size if stop is None else min(stop, size)
                return Blob(_read(handle, first, last), first, size, version_of_file(status))
            finally:
                os.close(handle)
        except StorageError:
            raise
        except (OSError, ValueError) as exc:
            raise translate(exc, key) from exc

    def info(self, key: str) -> Entry:
        try:
            status = os.stat(key)  # noqa: PTH116 - a key is text, and this is a hot path
        except (OSError, ValueError) as exc:
            raise translate(exc, key) from exc
        if not stat.S_ISREG(status.st_mode):
            raise NotFoundError(f"{key} is not a file", url=key)
        return Entry(key, status.st_size, version_of_file(status))

    def list_objects(
        self,
        folder: str,
        stem: str,
        depth: int | None,
        *,
        after: str = "",
        n_below: int = 0,
    ) -> Iterator[list[Entry]]:
        return _Listing(stem, n_below).batches(folder, depth)

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        raise NotMappableError  # folders are not listed in the order of keys

    def put(self, key: str, data: Data) -> Stored:
        return store_file(key, data, replace=True)

    def create(self, key: str, data: Data) -> Stored:
        return store_file(key, data, replace=False)

    def replace(self, key: str, data: Data, version: str) -> Stored:
        return store_file(key, data, replace=True, version=version)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                os.unlink(key)  # noqa: PTH108 - a key is text
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as exc:
                raise translate(exc, key, "delete") from exc

    def mover(self) -> Mover:
        return LocalMover()


class _Listing:
    """One listing of the files whose name begins with a stem.

    Parameters
    ----------
    stem : str
    n_below : int
        Number of names deeper than is of interest that are listed.
    """

    def __init__(self, stem: str, n_below: int) -> None:
        self._stem = stem
        self._n_below_left = n_below

    def batches(self, folder: str, depth: int | None) -> Iterator[list[Entry]]:
        """Yield the files in a folder, and in those below it; see `Backend.list_objects`."""
        batch: list[Entry] = []
        is_below = depth == 0
        for item in _scan(folder):
            path = f"{folder.rstrip('/')}/{item.name}"
            if item.name.endswith(PASSING) or not path.startswith(self._stem[: len(path)]):
                continue
            status = _target_status(item, path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                yield from self._inside(item, path, depth)
            elif path.startswith(self._stem):
                batch += _listed(item, path, status)
            if is_below and len(batch) >= self._n_below_left:
                break
        if is_below:
            self._n_below_left -= len(batch)
        if batch:
            yield batch

    def _inside(
        self, item: os.DirEntry[str], folder: str, depth: int | None
    ) -> Iterator[list[Entry]]:
        """Yield the files in a folder within another one."""
        if _descends(item, depth):
            yield from self.batches(folder, None if depth is None else depth - 1)
        elif not item.is_symlink() and not is_aside(item.name):
            yield from self._below(folder)

    def _below(self, folder: str) -> Iterator[list[Entry]]:
        """Yield the files in a folder that is deeper than is of interest."""
        if self._n_below_left <= 0:
            return
        try:
            yield from self.batches(folder, 0)
        except AccessDeniedError:
            yield [Entry(f"{folder}/", None, UNREADABLE)]


def _listed(item: os.DirEntry[str], path: str, status: os.stat_result | None) -> list[Entry]:
    """What a listing has for a name that is not a folder; nothing for pipes and devices."""
    if status is None:
        return [Entry(path, None, DANGLING)] if item.is_symlink() else []
    if not stat.S_ISREG(status.st_mode):
        return []
    return [Entry(path, status.st_size, version_of_file(status))]


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """Entries of a folder, sorted by name; none if it does not exist."""
    try:
        with os.scandir(folder or "/") as items:
            return sorted(items, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise translate(exc, folder) from exc


def _target_status(item: os.DirEntry[str], path: str) -> os.stat_result | None:
    """Status of the file or folder that an entry leads to; None if there is none.

    A link may be dangling or circular, and a file may have been deleted since.
    """
    try:
        return item.stat()
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) or exc.errno == errno.ELOOP:
            return None
        raise translate(exc, path) from exc


def _descends(item: os.DirEntry[str], depth: int | None) -> bool:
    """Whether a listing includes what is in a folder."""
    if depth is None:
        return not item.is_symlink()  # a link may lead back up
    return depth > 1


def _read(handle: int, first: int, last: int) -> bytes:
    parts = []
    while first < last:
        part = read_at(handle, last - first, first)
        if not part:
            break
        parts.append(part)
        first += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
