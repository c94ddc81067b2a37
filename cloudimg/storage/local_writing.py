"""Storing local files: a file gets its name when all of it is on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid

from cloudimg.settings.operating_system import BINARY
from cloudimg.storage.base import Data, Stored
from cloudimg.storage.local_errors import translate
from cloudimg.storage.versions import version_of_file

PASSING = ".cloudimg-part"
"""Suffix of the names of files that are being written; listings omit them."""
_UNABLE = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EMLINK, errno.ENOSYS)
"""Errors of file systems without unnamed files, links or syncing of folders."""
UNABLE_TO_LINK = (*_UNABLE, errno.EXDEV)
"""Errors of linking to another file system, or where there are no links."""
_OTHER = Stored(is_new=False)


def store_file(key: str, data: Data, *, replace: bool, version: str | None = None) -> Stored:
    """Write a file, and give it its name when all of it is on the disk.

    Parameters
    ----------
    key : str
        Path of the file.
    data : bytes-like
    replace : bool
        Whether to replace a file that exists.
    version : str, optional
        The only version of the file that is replaced.

    Raises
    ------
    StorageError
    """
    folder = os.path.dirname(key)  # noqa: PTH120
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        stored = None if version else _store_unnamed(key, data, replace=replace)
        if stored is None:
            stored = _store_named(key, data, replace=replace, version=version)
        if stored.is_new:
            sync_folder(folder)
    except (OSError, ValueError) as exc:
        raise translate(exc, key, "write") from exc
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
        stored = Stored(is_new=True, etag=version_of_file(os.fstat(handle)))
        try:
            _link_unnamed(handle, key)
            return stored
        except FileExistsError:
            if not replace:
                return _OTHER
        except OSError as exc:
            if exc.errno in _UNABLE or exc.errno == errno.ENOENT:  # without /proc
                return None
            raise
        name = temporary_name(key)
        _link_unnamed(handle, name)
    finally:
        os.close(handle)
    _replace(name, key)
    return stored


def _store_named(key: str, data: Data, *, replace: bool, version: str | None) -> Stored:
    """Store by way of a file with a temporary name.

    A process that is paused between the look at the version and the replacement replaces a later
    version, too.
    """
    name = temporary_name(key)
    try:
        stored = _write_new(name, data)
        if replace:
            if version and _version(key) != version:
                return _OTHER
            os.replace(name, key)  # noqa: PTH105
            return stored
        try:
            os.link(name, key)
        except FileExistsError:
            return _OTHER
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
        return _OTHER


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
    return Stored(is_new=True, etag=version_of_file(os.stat(name)))  # noqa: PTH116 - a key is text


def _write(handle: int, data: Data) -> None:
    """Write all of the data and sync it to the disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)


def temporary_name(key: str) -> str:
    """A name beside a file for what is to get its name, which listings omit."""
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


def sync_folder(folder: str) -> None:
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


def _version(key: str) -> str | None:
    try:
        return version_of_file(os.stat(key))  # noqa: PTH116 - a key is text
    except FileNotFoundError:
        return None
