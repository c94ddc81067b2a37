"""Uploads of local files that are too large for one request."""

from __future__ import annotations

import os
import posixpath
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloudimg.storage import fsspec_errors, local_errors
from cloudimg.storage.local_writing import PASSING, sync_folder
from cloudimg.storage.several_roots import HAS_SEVERAL
from cloudimg.storage.urls import Location


def upload(location: Location, options: Mapping[str, Any], key: str, path: Path) -> None:
    """Store a file, which appears as a whole under its key.

    Parameters
    ----------
    location : Location
    options : mapping
        fsspec's ``storage_options``.
    key : str
    path : Path
        The file.

    Raises
    ------
    StorageError
    """
    try:
        if location.protocol == "file":
            _copy(path, Path(key))
        else:
            _send(location, key, options, path)
        return
    except Exception as exc:  # noqa: BLE001 - each filesystem has errors of its own
        if location.protocol == "file" and isinstance(exc, OSError):
            failure = local_errors.translate(exc, key, "write")
        else:
            failure = fsspec_errors.translate(exc, location.display(key), "write")
    raise failure


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{uuid.uuid4().hex}{PASSING}")
    try:
        with path.open("rb") as source, beside.open("xb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
        sync_folder(str(target.parent))
    finally:
        beside.unlink(missing_ok=True)


def _send(location: Location, key: str, options: Mapping[str, Any], path: Path) -> None:
    """Upload in parts; object stores show an object when all of it has arrived."""
    import fsspec.core

    fs, target = fsspec.core.url_to_fs(location.url(key), **options)
    if location.protocol not in HAS_SEVERAL:  # of object stores it would make the bucket
        fs.makedirs(posixpath.dirname(target), exist_ok=True)
    fs.put_file(str(path), target)
