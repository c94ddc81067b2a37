"""Writing to fsspec filesystems: an object in one request, and deleting many objects.

fsspec's own ``pipe_file`` is not enough: above a few MB it splits an upload into parts, and its
``mode="create"`` first checks and then writes, so that two writers can both succeed.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from cloudimg.storage import adlfs_private, gcsfs_private
from cloudimg.storage.base import Data
from cloudimg.storage.fsspec_errors import status_and_code
from cloudimg.storage.fsspec_private import rm_file
from cloudimg.storage.local import LocalBackend
from cloudimg.storage.s3fs_private import call_s3

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine of the filesystem and returns its result."""

_DELETED_AT_ONCE = 64
_LARGE_BYTES = 2**20
_creating = threading.Lock()
"""Held while an object is created in memory, which all filesystems of a process share."""


class CannotCreateError(Exception):
    """This filesystem cannot create an object only if it does not exist."""


class FsspecWriting:
    """Writes to one filesystem; raises the exceptions of the filesystem unchanged.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
    run : callable
        Runs one of its coroutines and returns the result.
    """

    def __init__(self, fs: Any, run: Run) -> None:
        self._fs = fs
        self._run = run
        kinds = [base.__name__ for base in type(fs).mro()]
        self._send = next((_SENDERS[name] for name in kinds if name in _SENDERS), None)
        # Not for derived classes: they may interpret paths differently.
        self._local = LocalBackend() if kinds[0] == "LocalFileSystem" else None
        self._is_in_memory = kinds[0] == "MemoryFileSystem"

    def put(self, path: str, data: Data) -> None:
        """Store an object; replace an existing one."""
        if self._local is not None:
            self._local.put(path, data)
        elif self._send is not None:
            self._run(self._send(self._fs, path, data, False))
        else:
            self._fs.pipe_file(path, bytes(data))

    def create(self, path: str, data: Data) -> bool:
        """Store an object unless the path exists; return whether it was stored.

        Raises
        ------
        CannotCreateError
        """
        if self._local is not None:
            return self._local.create(path, data)
        try:
            if self._send is not None:
                self._run(self._send(self._fs, path, data, True))
            elif self._is_in_memory:
                with _creating:
                    self._fs.pipe_file(path, bytes(data), mode="create")
            else:
                raise CannotCreateError
        except FileExistsError:
            return False
        return True

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; missing ones are not an error."""
        if self._local is not None:
            self._local.delete(paths)
        elif self._send is not None:
            self._run(self._delete_concurrently(paths))
        else:
            for path in paths:
                try:
                    self._fs.rm_file(path)
                except FileNotFoundError:
                    continue

    async def _delete_concurrently(self, paths: Sequence[str]) -> None:
        # Not by bulk requests: their responses for each key have no common form.
        slots = asyncio.Semaphore(_DELETED_AT_ONCE)

        async def delete(path: str) -> None:
            async with slots:
                try:
                    await rm_file(self._fs, path)
                except FileNotFoundError:
                    return

        results = await asyncio.gather(*map(delete, paths), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


Sender = Callable[[Any, str, Data, bool], Coroutine[Any, Any, None]]
"""Stores an object in one request. If the last argument is true, raises FileExistsError where the
object exists."""


async def _send_s3(fs: Any, path: str, data: Data, create: bool) -> None:
    bucket, key, _ = fs.split_path(path)
    more = {"IfNoneMatch": "*"} if create else {}
    try:
        await call_s3(fs, "put_object", Bucket=bucket, Key=key, Body=bytes(data), **more)
    except OSError as exc:
        if create and status_and_code(exc)[0] == 412:
            raise FileExistsError(path) from exc  # which `create` handles
        raise


class _UnclosableBytes(io.BytesIO):
    """Bytes that stay open when aiohttp closes them, because gcsfs sends them again in retries."""

    def close(self) -> None:
        self.seek(0)


async def _send_gcs(fs: Any, path: str, data: Data, create: bool) -> None:
    bucket, key, _ = fs.split_path(path)
    if len(data) < _LARGE_BYTES or await gcsfs_private.is_zonal(fs, bucket):
        await gcsfs_private.pipe_file(fs, path, bytes(data), create=create)
        return
    # gcsfs itself would split it into parts, or send it as bytes, about which aiohttp warns.
    await gcsfs_private.call(
        fs,
        "POST",
        f"{fs.base.removesuffix('/storage/v1/')}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="media",
        name=key,
        headers={"Content-Type": "application/octet-stream"},
        data=_UnclosableBytes(data),
        json_out=True,
        **({"ifGenerationMatch": "0"} if create else {}),
    )


async def _send_azure(fs: Any, path: str, data: Data, create: bool) -> None:
    try:
        await adlfs_private.pipe_file(fs, path, bytes(data), create=create)
    except Exception as exc:
        if create and type(exc).__name__ == "ResourceExistsError":
            raise FileExistsError(path) from exc  # which `create` handles
        raise


_SENDERS: dict[str, Sender] = {
    "S3FileSystem": _send_s3,
    "GCSFileSystem": _send_gcs,
    "AzureBlobFileSystem": _send_azure,
}
