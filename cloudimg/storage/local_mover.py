"""Moving local files: a file has both names before it loses the first one, and never none.

link(2) gives a file its second name only if nobody has it. On another file system, and where there
are no links, the bytes are copied and read back before the copy gets its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cloudimg.errors import StorageError
from cloudimg.storage.base import Standing
from cloudimg.storage.local_errors import translate
from cloudimg.storage.local_writing import PASSING, UNABLE_TO_LINK, sync_folder
from cloudimg.storage.versions import version_of_file


class LocalMover:
    """Moves local files; they have no tags."""

    def settle(self, key: str) -> None:
        try:
            with suppress(FileNotFoundError):
                os.unlink(_passing_name(key, "copied"))  # noqa: PTH108
            with suppress(FileNotFoundError):
                _bring_back(key, _passing_name(key, "deleted"))
        except StorageError:
            raise
        except (OSError, ValueError) as exc:
            raise translate(exc, key, "delete") from exc

    def look(self, key: str) -> Standing | None:
        try:
            if Path(key).is_symlink():
                raise StorageError(f"{key} is a symbolic link: the file is elsewhere", url=key)
            status = os.stat(key)  # noqa: PTH116 - a key is text
        except FileNotFoundError:
            return None
        except StorageError:
            raise
        except (OSError, ValueError) as exc:
            raise translate(exc, key) from exc
        digest = f"file:{status.st_size:x}-{status.st_mtime_ns:x}"
        details = {"entry": _entry(key, status), "inode": (status.st_dev, status.st_ino)}
        return Standing(status.st_size, version_of_file(status), (digest,), details)

    def tags(self, key: str) -> dict[str, str]:
        raise _no_tags(key)

    def set_tags(
        self, key: str, tags: Mapping[str, str], before: Mapping[str, str], standing: Standing
    ) -> None:
        raise _no_tags(key)

    def copy(self, key: str, target: str, standing: Standing) -> None:
        found = self.look(key)
        if found is None or found.version != standing.version:
            return
        folder = os.path.dirname(target)  # noqa: PTH120
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            with suppress(FileExistsError):  # of somebody else, which the caller finds there
                _link(key, target)
            sync_folder(folder)
        except StorageError:
            raise
        except (OSError, ValueError) as exc:
            raise translate(exc, target, "write") from exc

    def delete(self, key: str, standing: Standing) -> None:
        found = self.look(key)
        if found is None or found.version != standing.version:
            return
        try:
            _unlink(key, standing)
            sync_folder(os.path.dirname(key))  # noqa: PTH120
        except FileNotFoundError:
            return
        except StorageError:
            raise
        except (OSError, ValueError) as exc:
            raise translate(exc, key, "delete") from exc


def _entry(key: str, status: os.stat_result) -> object:
    """What paths have in common that are one name of one file, through links to folders.

    A file with one name only is found by its inode, whatever is mounted where.
    """
    return (status.st_dev, status.st_ino) if status.st_nlink == 1 else os.path.realpath(key)


def _no_tags(key: str) -> StorageError:
    return StorageError(f"{key} is a local file, which has no tags: move it instead", url=key)


def _passing_name(key: str, what: str) -> str:
    """The name that a file at a key has while it is copied or deleted; listings omit it.

    It follows from the key, so that whoever comes after a process that was killed finds it.
    """
    folder, name = os.path.split(key)
    # A name has up to 255 bytes, and a character up to four.
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f"{folder}/.{name[:40]}.{digest}-{what}{PASSING}"


def _unlink(key: str, standing: Standing) -> None:
    """Delete a file, but not one that is put in its place at the same moment.

    It first gets a name that nobody else uses, and is looked at there.
    """
    aside = _passing_name(key, "deleted")
    _rename_to_new(key, aside)
    if version_of_file(os.stat(aside)) == standing.version:  # noqa: PTH116
        os.unlink(aside)  # noqa: PTH108
    else:
        _bring_back(key, aside)


def _bring_back(key: str, aside: str) -> None:
    """Give a file its name back, which was taken from it to delete it."""
    try:
        _link(aside, key)
    except FileExistsError:
        # Another name of the file is the one to which it was moved.
        if os.stat(aside).st_nlink == 1:  # noqa: PTH116
            failure = StorageError(f"{key} was replaced: the file before it is {aside}", url=key)
        else:
            os.unlink(aside)  # noqa: PTH108
            return
    else:
        os.unlink(aside)  # noqa: PTH108
        return
    raise failure


def _link(key: str, target: str) -> None:
    try:
        os.link(key, target)
        return
    except FileExistsError:
        raise
    except OSError as exc:
        if exc.errno not in UNABLE_TO_LINK:
            raise
    _copy_bytes(key, target)


def _copy_bytes(key: str, target: str) -> None:
    """Copy a file with its times; it gets its name when all of it is on the disk and read back."""
    beside = _passing_name(target, "copied")
    try:
        shutil.copy2(key, beside)
        with open(beside, "r+b") as file:  # noqa: PTH123
            os.fsync(file.fileno())
        if _sha256(beside) != _sha256(key):
            raise StorageError(f"{target} was written and read back with other bytes", url=target)
        try:
            os.link(beside, target)
        except OSError as exc:
            if exc.errno not in UNABLE_TO_LINK:
                raise
            _rename_to_new(beside, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)  # noqa: PTH108


def _rename_to_new(beside: str, target: str) -> None:
    """Rename a file where the file system has no links, after a look whether the name is free."""
    if os.path.lexists(target):
        raise FileExistsError(target)
    os.rename(beside, target)  # noqa: PTH104


def _sha256(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()
