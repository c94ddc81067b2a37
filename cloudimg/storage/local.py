"""Local files; their version consists of inode, size and modification time."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence

from cloudimg.errors import AccessDeniedError, NoRoomError, NotFoundError, StorageError
from cloudimg.operating_system import BINARY, NONBLOCK, read_at
from cloudimg.storage.base import (
    DANGLING,
    UNREADABLE,
    Blob,
    Data,
    Entry,
    Stored,
    is_aside,
)
from cloudimg.storage.failures import storage_error

PASSING = ".cloudimg-part"
"""Suffix of the names of files that are being written; listings omit them."""
_UNABLE = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EMLINK, errno.ENOSYS)
"""Errors of file systems without unnamed files, links or syncing of folders."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EXISTS = Stored(is_new=False)


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
                return Blob(_read(handle, first, last), first, size, _etag(status))
            finally:
                os.close(handle)
        except StorageError:
            raise
        except (OSError, ValueError) as exc:
            raise _translate(exc, key) from exc

    def info(self, key: str) -> Entry:
        try:
            status = os.stat(key)  # noqa: PTH116 - a key is text, and this is a hot path
        except (OSError, ValueError) as exc:
            raise _translate(exc, key) from exc
        if not stat.S_ISREG(status.st_mode):
            raise NotFoundError(f"{key} is not a file", url=key)
        return Entry(key, status.st_size, _etag(status))

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

    def put(self, key: str, data: Data) -> Stored:
        return _store(key, data, replace=True)

    def create(self, key: str, data: Data) -> Stored:
        return _store(key, data, replace=False)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                os.unlink(key)  # noqa: PTH108 - a key is text
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as exc:
                raise _translate(exc, key, "delete") from exc


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
    return [Entry(path, status.st_size, _etag(status))]


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """Entries of a folder, sorted by name; none if it does not exist."""
    try:
        with os.scandir(folder or "/") as items:
            return sorted(items, key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise _translate(exc, folder) from exc


def _target_status(item: os.DirEntry[str], path: str) -> os.stat_result | None:
    """Status of the file or folder that an entry leads to; None if there is none.

    A link may be dangling or circular, and a file may have been deleted since.
    """
    try:
        return item.stat()
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) or exc.errno == errno.ELOOP:
            return None
        raise _translate(exc, path) from exc


def _descends(item: os.DirEntry[str], depth: int | None) -> bool:
    """Whether a listing includes what is in a folder."""
    if depth is None:
        return not item.is_symlink()  # a link may lead back up
    return depth > 1


def _store(key: str, data: Data, *, replace: bool) -> Stored:
    """Write a file, and give it its name when all of it is on the disk."""
    folder = os.path.dirname(key)  # noqa: PTH120
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        stored = _store_unnamed(key, data, replace=replace)
        if stored is None:
            stored = _store_named(key, data, replace=replace)
        if stored.is_new:
            _sync_folder(folder)
    except (OSError, ValueError) as exc:
        raise _translate(exc, key, "write") from exc
    return stored


def _store_unnamed(key: str, data: Data, *, replace: bool) -> Stored | None:
    """Store by way of a file without a name, which vanishes if this process is killed.

    See O_TMPFILE in open(2). Returns None where the file system does not support it.
    """
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        handle = os.open(os.path.dirname(key), os.O_TMPFILE | os.O_WRONLY, 0o666)  # noqa: PTH120
    except OSError as exc:
        if exc.errno in _UNABLE or exc.errno == errno.EISDIR:  # EISDIR: from old kernels
            return None
        raise
    try:
        _write(handle, data)
        stored = Stored(is_new=True, etag=_etag(os.fstat(handle)))
        try:
            _link_unnamed(handle, key)
            return stored
        except FileExistsError:
            if not replace:
                return _EXISTS
        except OSError as exc:
            if exc.errno in _UNABLE or exc.errno == errno.ENOENT:  # without /proc
                return None
            raise
        name = _temporary_name(key)
        _link_unnamed(handle, name)
    finally:
        os.close(handle)
    _replace(name, key)
    return stored


def _store_named(key: str, data: Data, *, replace: bool) -> Stored:
    """Store by way of a file with a temporary name."""
    name = _temporary_name(key)
    try:
        stored = _write_new(name, data)
        if replace:
            os.replace(name, key)  # noqa: PTH105
            return stored
        try:
            os.link(name, key)
        except FileExistsError:
            return _EXISTS
        except OSError as exc:
            if exc.errno not in _UNABLE:
                raise
            return _create_in_place(key, data)
        return stored
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108


def _create_in_place(key: str, data: Data) -> Stored:
    """Create a file where the file system has no links (exFAT, some network shares).

    Only one writer can succeed, but a reader may see the first part of the file for a moment.
    """
    try:
        return _write_new(key, data)
    except FileExistsError:
        return _EXISTS


def _write_new(name: str, data: Data) -> Stored:
    """Write a file that does not exist yet; leave none if that fails."""
    handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | BINARY, 0o666)
    try:
        _write(handle, data)
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise
    finally:
        os.close(handle)
    # Some network shares set the time of a file when it is closed.
    return Stored(is_new=True, etag=_etag(os.stat(name)))  # noqa: PTH116 - a key is text


def _write(handle: int, data: Data) -> None:
    """Write all of the data and sync it to the disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _temporary_name(key: str) -> str:
    folder, name = os.path.split(key)
    # A name has up to 255 bytes, and a character up to four.
    return f"{folder}/.{name[:40]}.{uuid.uuid4().hex}{PASSING}"


def _link_unnamed(handle: int, name: str) -> None:
    # Python follows the link that /proc has for an open file only if a folder is given; because
    # the path is absolute, any descriptor will do.
    source = f"/proc/self/fd/{handle}"
    os.link(source, name, src_dir_fd=handle, follow_symlinks=True)


def _replace(name: str, key: str) -> None:
    try:
        os.replace(name, key)  # noqa: PTH105
    except OSError:
        os.unlink(name)  # noqa: PTH108
        raise


def _sync_folder(folder: str) -> None:
    """Sync a folder, and so the new name in it, to the disk if the file system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # it may be writable and not readable
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _UNABLE:
            raise
    finally:
        os.close(handle)


def _read(handle: int, first: int, last: int) -> bytes:
    parts = []
    while first < last:
        part = read_at(handle, last - first, first)
        if not part:
            break
        parts.append(part)
        first += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _translate(exc: OSError | ValueError, key: str, action: str = "read") -> StorageError:
    if isinstance(exc, FileNotFoundError | NotADirectoryError) and action == "read":
        return NotFoundError(f"no such file: {key}", url=key)
    number = getattr(exc, "errno", None)
    reason = getattr(exc, "strerror", None) or exc
    if isinstance(exc, PermissionError) or number == errno.EROFS:
        why = " (a read-only file system)" if number == errno.EROFS else ""
        return AccessDeniedError(f"no permission to {action} {key}{why}", url=key)
    if number in _FULL:
        return storage_error(NoRoomError, key, action, f" ({reason})")
    return StorageError(f"cannot {action} {key}: {reason}", url=key)
