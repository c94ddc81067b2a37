"""Local files: no client, no session, a version made of inode, size and time of change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from cloudimg.errors import AccessDeniedError, NotFoundError, StorageError
from cloudimg.storage.base import Blob, Entry


class LocalBackend:
    """Reads with ``pread``, so that threads need no lock."""

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        try:
            handle = os.open(key, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                status = os.fstat(handle)
                if stat.S_ISDIR(status.st_mode):
                    raise NotFoundError(f"{key} is a folder, not a file", url=key)
                size = status.st_size
                first = 0 if start is None else start if start >= 0 else max(0, size + start)
                last = size if stop is None else min(stop, size)
                return Blob(_read(handle, first, last), first, size, _etag(status))
            finally:
                os.close(handle)
        except OSError as exc:
            raise _translate(exc, key) from None

    def info(self, key: str) -> Entry:
        try:
            status = os.stat(key)  # noqa: PTH116 - a key is text, and this is a hot path
        except OSError as exc:
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
            # An unbounded walk follows no links to folders, which may lead back up.
            if item.is_dir(follow_symlinks=depth is not None):
                if (depth is None or depth > 1) and (path + "/").startswith(stem[: len(path) + 1]):
                    yield from self.list_objects(path, stem, None if depth is None else depth - 1)
            elif path.startswith(stem) and not item.is_dir():
                try:
                    status = item.stat()
                except FileNotFoundError:
                    continue  # a dangling link, or deleted since: no file to read
                if stat.S_ISREG(status.st_mode):
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


def _translate(exc: OSError, key: str) -> StorageError:
    if isinstance(exc, StorageError):
        return exc
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return NotFoundError(f"no such file: {key}", url=key)
    if isinstance(exc, PermissionError):
        return AccessDeniedError(f"no permission to read {key}", url=key)
    return StorageError(f"cannot read {key}: {exc.strerror or exc}", url=key)
