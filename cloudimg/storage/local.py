"""Local files: no client, no session, a version made of inode, size and time of change."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from cloudimg.errors import AccessDeniedError, NotFoundError, StorageError
from cloudimg.storage.base import Blob, Entry


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


def _translate(exc: OSError | ValueError, key: str) -> StorageError:
    if isinstance(exc, StorageError):
        return exc
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return NotFoundError(f"no such file: {key}", url=key)
    if isinstance(exc, PermissionError):
        return AccessDeniedError(f"no permission to read {key}", url=key)
    reason = getattr(exc, "strerror", None) or exc
    return StorageError(f"cannot read {key}: {reason}", url=key)
