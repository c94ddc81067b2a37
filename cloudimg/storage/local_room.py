"""Whether a local folder, which may not exist yet, can be written to, and how much room it has."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cloudimg.errors import StorageError
from cloudimg.settings.operating_system import free_files
from cloudimg.storage.local_errors import translate


@dataclass(frozen=True, slots=True)
class LocalRoom:
    """What the operating system says of the file system of a folder."""

    folder: str
    """The folder, or the one nearest above it that exists."""
    free_bytes: int
    """Free for this user. Quotas of users are not known."""
    n_files: int | None
    """Number of files for which there is room; None where that is not limited."""


def room_at(path: str) -> LocalRoom:
    """Find out how much room there is for a folder.

    Raises
    ------
    StorageError
        If nothing can be written there: the folder, or one above it, is a file, or does not allow
        it.
    """
    folder = Path(path)
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise StorageError(f"cannot write {path}: {folder} is not a folder", url=path)
    try:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise translate(PermissionError(), str(folder), "write")
        return LocalRoom(str(folder), shutil.disk_usage(folder).free, free_files(str(folder)))
    except OSError as exc:
        raise translate(exc, path, "write") from exc
