"""Writing to fsspec filesystems: an object in one request, and deleting many objects.

fsspec's own ``pipe_file`` is not enough: above a few MB it splits an upload into parts, and its
``mode="create"`` first checks and then writes, so that two writers can both succeed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from cloudimg.storage.base import Data
from cloudimg.storage.fsspec_errors import status_and_code
from cloudimg.storage.local import LocalBackend

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
                    await self._fs._rm_file(path)
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
        # Adds s3_additional_kwargs: encryption, ACL and the like.
        await fs._call_s3("put_object", Bucket=bucket, Key=key, Body=bytes(data), **more)
    except OSError as exc:
        if create and status_and_code(exc)[0] == 412:
            raise FileExistsError(path) from exc  # which `create` handles
        raise


async def _send_gcs(fs: Any, path: str, data: Data, create: bool) -> None:
    from gcsfs.core import UnclosableBytesIO

    bucket, key, _ = fs.split_path(path)
    mode = "create" if create else "overwrite"
    if len(data) < _LARGE_BYTES or await is_zonal(fs, bucket):  # gcsfs writes to zonal ones by gRPC
        await fs._pipe_file(path, bytes(data), mode=mode)
        return
    # gcsfs itself would split it into parts, or send it as bytes, about which aiohttp warns.
    await fs._call(
        "POST",
        f"{fs._location}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="media",
        name=key,
        headers={"Content-Type": "application/octet-stream"},
        data=UnclosableBytesIO(data),
        json_out=True,
        **({"ifGenerationMatch": "0"} if create else {}),
    )


async def _send_azure(fs: Any, path: str, data: Data, create: bool) -> None:
    try:
        # `overwrite` and not fsspec's `mode`, which older versions of adlfs accept and ignore.
        await fs._pipe_file(path, bytes(data), overwrite=not create)
    except Exception as exc:
        if create and type(exc).__name__ == "ResourceExistsError":
            raise FileExistsError(path) from exc  # which `create` handles
        raise


async def is_zonal(fs: Any, bucket: str) -> bool:
    """Whether a bucket is in Rapid Storage.

    Requested once: without the permission to find out, gcsfs itself repeats it for each request.
    """
    if not hasattr(fs, "_is_zonal_bucket"):
        return False
    known: dict[str, bool] = fs.__dict__.setdefault("_cloudimg_zonal", {})
    if bucket not in known:
        known[bucket] = bool(await fs._is_zonal_bucket(bucket))
    return known[bucket]


_SENDERS: dict[str, Sender] = {
    "S3FileSystem": _send_s3,
    "GCSFileSystem": _send_gcs,
    "AzureBlobFileSystem": _send_azure,
}
