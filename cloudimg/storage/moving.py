"""Deleting from a local folder so that a process that was paused cannot delete what came later.

A request to delete names a path, and whatever lies there when the process goes on is deleted. Here
everything is first moved aside, under a name that nobody else uses (rename(2) is atomic). Then the
caller is asked again whether it may delete; if not, what was moved is put back. Only what was moved
is deleted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cloudimg.errors import AccessDeniedError, StorageError

_MOVED_AT_ONCE = 1000


def delete_by_moving(paths: Iterator[Path], aside: Path, check: Callable[[], None]) -> None:
    """Delete files and folders with all that they hold.

    What cannot be moved, such as a mounted folder, stays.

    Parameters
    ----------
    paths : iterator of Path
        On the file system of `aside`.
    aside : Path
        Folder for what is moved. It must not exist, and is deleted at the end.
    check : callable
        Called after some were moved. If it raises, they are put back.

    Raises
    ------
    StorageError
        If something that was moved cannot be deleted.
    """
    number = 0
    while batch := list(islice(paths, _MOVED_AT_ONCE)):
        moved: list[tuple[Path, Path]] = []
        try:
            aside.mkdir(parents=True, exist_ok=True)
            for path in batch:
                number += 1
                target = aside / str(number)
                if _is_moved(path, target):
                    moved.append((path, target))
            check()
        except BaseException:
            _put_back(moved)
            raise
    remove(aside)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that it holds; nothing if it does not exist.

    Raises
    ------
    StorageError
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=_raise_unless_gone)
        else:
            path.unlink(missing_ok=True)
    except OSError as exc:
        kind = AccessDeniedError if isinstance(exc, PermissionError) else StorageError
        url = str(exc.filename or path)
        failure = kind(f"cannot delete {url}: {exc.strerror}", url=url)
    else:
        return
    raise failure


def _is_moved(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except OSError:
        return False
    return True


def _put_back(moved: Sequence[tuple[Path, Path]]) -> None:
    for path, target in reversed(moved):
        _merge(target, path)


def _merge(source: Path, target: Path) -> None:
    """Move a file or folder to where it was, beside what was stored there meanwhile."""
    if not os.path.lexists(target) and _is_moved(source, target):
        return
    if source.is_dir() and not source.is_symlink():
        for child in list(source.iterdir()):
            _merge(child, target / child.name)


def _raise_unless_gone(_: Any, __: str, failure: Any) -> None:
    """Go on where another process deletes the same folder."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
