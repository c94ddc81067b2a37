"""Errors of the operating system for local files, as errors of cloudimg."""

from __future__ import annotations

import errno

from cloudimg.errors import AccessDeniedError, NoRoomError, NotFoundError, StorageError
from cloudimg.storage.failures import storage_error

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def translate(exc: OSError | ValueError, key: str, action: str = "read") -> StorageError:
    """The error to raise for an exception about a file.

    Parameters
    ----------
    exc : OSError or ValueError
    key : str
        Path of the file.
    action : str
        What was tried: ``"read"``, ``"write"`` or ``"delete"``.
    """
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
