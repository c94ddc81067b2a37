"""Local files: no client, no session, a version made of inode, size and time of change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence

from cloudimg.errors import AccessDeniedError, NotFoundError, StorageError
from cloudimg.storage.base import Blob, Data, Entry, no_room

PASSING = ".cloudimg-part"
"""Names of files that are being written end so; no listing has them."""
_UNABLE = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EMLINK, errno.ENOSYS)
"""What file systems say that have no such files, no links or no sync of a folder."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LocalBackend:
    """Reads with ``pread``, so that threads need no lock."""

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        try:
            handle = os.open(key, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not be waited for
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
        except (OSError, ValueError) as exc:
            raise _translate(exc, key) from None

    def info(self, key: str) -> Entry:
        try:
            status = os.stat(key)  # noqa: PTH116 - a key is text, and this is a hot path
        except (OSError, ValueError) as exc:
            raise _translate(exc, key) from None
        if not stat.S_ISREG(status.st_mode):
            raise NotFoundError(f"{key} is not a file", url=key)
        return Entry(key, status.st_size, _etag(status))

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        try:
            with os.scandir(folder or "/") as items:
                found = sorted(items, key=lambda item: item.name)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            return
        except OSError as exc:
            raise _translate(exc, folder) from None
        batch = []
        for item in found:
            if item.name.endswith(PASSING):
                continue
            path = f"{folder.rstrip('/')}/{item.name}"
            if not path.startswith(stem[: len(path)]):
                continue
            try:
                status = item.stat()
            except OSError as exc:
                if isinstance(exc, FileNotFoundError) or exc.errno == errno.ELOOP:
                    continue  # a dangling or circular link, or deleted since: no file to read
                raise _translate(exc, path) from None
            if stat.S_ISDIR(status.st_mode):
                # An unbounded walk follows no links to folders, which may lead back up.
                if (depth is None or depth > 1) and (depth is not None or not item.is_symlink()):
                    below = None if depth is None else depth - 1
                    yield from self.list_objects(path, stem, below)
            elif stat.S_ISREG(status.st_mode) and path.startswith(stem):
                batch.append(Entry(path, status.st_size, _etag(status)))
        if batch:
            yield batch

    def put(self, key: str, data: Data) -> None:
        _store(key, data, replace=True)

    def create(self, key: str, data: Data) -> bool:
        return _store(key, data, replace=False)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                os.unlink(key)  # noqa: PTH108 - a key is text
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as exc:
                raise _translate(exc, key, "delete") from None


def _store(key: str, data: Data, *, replace: bool) -> bool:
    """Write a file under no name and give it its name when all of it is on the disk.

    Returns
    -------
    bool
        False where the name was taken and must not be replaced.
    """
    folder = os.path.dirname(key)  # noqa: PTH120
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        done = _store_unnamed(key, data, replace=replace)
        if done is None:
            done = _store_named(key, data, replace=replace)
        if done:
            _sync_folder(folder)
    except (OSError, ValueError) as exc:
        raise _translate(exc, key, "write") from None
    return done


def _store_unnamed(key: str, data: Data, *, replace: bool) -> bool | None:
    """Store by a file that vanishes if this process is killed; None where there is no such thing.

    See O_TMPFILE in open(2).
    """
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        handle = os.open(os.path.dirname(key), os.O_TMPFILE | os.O_WRONLY, 0o666)  # noqa: PTH120
    except OSError as exc:
        if exc.errno in _UNABLE or exc.errno == errno.EISDIR:  # the answer of old kernels
            return None
        raise
    try:
        _write(handle, data)
        try:
            _link_unnamed(handle, key)
            return True
        except FileExistsError:
            if not replace:
                return False
        except OSError as exc:
            if exc.errno in _UNABLE or exc.errno == errno.ENOENT:  # without /proc
                return None
            raise
        name = _passing_name(key)
        _link_unnamed(handle, name)
    finally:
        os.close(handle)
    _replace(name, key)
    return True


def _store_named(key: str, data: Data, *, replace: bool) -> bool:
    """Store by a file with a passing name."""
    name = _passing_name(key)
    try:
        _write_new(name, data)
        if replace:
            os.replace(name, key)  # noqa: PTH105
            return True
        try:
            os.link(name, key)
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno not in _UNABLE:
                raise
            return _create_in_place(key, data)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108


def _create_in_place(key: str, data: Data) -> bool:
    """Create a file where there are no links (exFAT, some network shares).

    Only one can, but a reader may see the first part of it for a moment.
    """
    try:
        _write_new(key, data)
    except FileExistsError:
        return False
    return True


def _write_new(name: str, data: Data) -> None:
    """Write a file that is not there yet, or leave none."""
    handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        _write(handle, data)
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise
    finally:
        os.close(handle)


def _write(handle: int, data: Data) -> None:
    """Write everything, as far as the disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def _passing_name(key: str) -> str:
    folder, name = os.path.split(key)
    # A name has up to 255 bytes, and a character up to four.
    return f"{folder}/.{name[:40]}.{uuid.uuid4().hex}{PASSING}"


def _link_unnamed(handle: int, name: str) -> None:
    # Only with a folder given does Python follow the link that /proc has for an open file; with
    # an absolute path it does not matter which.
    source = f"/proc/self/fd/{handle}"
    os.link(source, name, src_dir_fd=handle, follow_symlinks=True)


def _replace(name: str, key: str) -> None:
    try:
        os.replace(name, key)  # noqa: PTH105
    except OSError:
        os.unlink(name)  # noqa: PTH108
        raise


def _sync_folder(folder: str) -> None:
    """Have the new name on the disk too, where a folder can be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # it may be written to and not be read
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
        part = os.pread(handle, last - first, first)
        if not part:
            break
        parts.append(part)
        first += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _translate(exc: OSError | ValueError, key: str, doing: str = "read") -> StorageError:
    if isinstance(exc, StorageError):
        return exc
    if isinstance(exc, FileNotFoundError | NotADirectoryError) and doing == "read":
        return NotFoundError(f"no such file: {key}", url=key)
    number = getattr(exc, "errno", None)
    reason = getattr(exc, "strerror", None) or exc
    if isinstance(exc, PermissionError) or number == errno.EROFS:
        why = " (a read-only file system)" if number == errno.EROFS else ""
        return AccessDeniedError(f"no permission to {doing} {key}{why}", url=key)
    if number in _FULL:
        return no_room(key, f" ({reason})")
    return StorageError(f"cannot {doing} {key}: {reason}", url=key)
