"""How each fsspec filesystem stores an object by one request, and deletes many.

fsspec's own ``pipe_file`` is not enough: above a few MB it cuts an upload into parts, and its
``mode="create"`` looks first and writes then, which two writers can do at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from cloudimg.storage.base import Data
from cloudimg.storage.local import LocalBackend

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Waits for a coroutine of the filesystem."""

_DELETED_AT_ONCE = 64
_LARGE_BYTES = 2**20
_creating = threading.Lock()
"""Held while something is created in memory, which all filesystems of a process share."""


class CannotCreateError(Exception):
    """This filesystem has no way to create an object only where there is none."""


class FsspecWriting:
    """Writes to one filesystem; its errors come as they are.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
    run : callable
        Waits for one of its coroutines.
    """

    def __init__(self, fs: Any, run: Run) -> None:
        self._fs = fs
        self._run = run
        kinds = [base.__name__ for base in type(fs).mro()]
        self._send = next((_SENDERS[name] for name in kinds if name in _SENDERS), None)
        # Not classes that derive from these: they may change what a path means.
        self._local = LocalBackend() if kinds[0] == "LocalFileSystem" else None
        self._is_in_memory = kinds[0] == "MemoryFileSystem"

    def put(self, path: str, data: Data) -> None:
        """Store an object, whether there is one of that name or not."""
        if self._local is not None:
            self._local.put(path, data)
        elif self._send is not None:
            self._run(self._send(self._fs, path, data, False))
        else:
            self._fs.pipe_file(path, bytes(data))

    def create(self, path: str, data: Data) -> bool:
        """Store an object where there is none; whether there was none.

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
        """Delete objects; those that are not there are fine."""
        if self._local is not None:
            self._local.delete(paths)
        elif self._send is not None:
            self._run(self._delete_side_by_side(paths))
        else:
            for path in paths:
                try:
                    self._fs.rm_file(path)
                except FileNotFoundError:
                    continue

    async def _delete_side_by_side(self, paths: Sequence[str]) -> None:
        # Not by bulk requests: what they answer for each key has no common form.
        room = asyncio.Semaphore(_DELETED_AT_ONCE)

        async def delete(path: str) -> None:
            async with room:
                try:
                    await self._fs._rm_file(path)
                except FileNotFoundError:
                    return

        answers = await asyncio.gather(*map(delete, paths), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


Sender = Callable[[Any, str, Data, bool], Coroutine[Any, Any, None]]
"""Stores an object by one request; where the last argument says so, only if there is none, or
FileExistsError."""


async def _send_s3(fs: Any, path: str, data: Data, create: bool) -> None:
    bucket, key, _ = fs.split_path(path)
    more = {"IfNoneMatch": "*"} if create else {}
    try:
        # Adds s3_additional_kwargs: encryption, ACL and the like.
        await fs._call_s3("put_object", Bucket=bucket, Key=key, Body=bytes(data), **more)
    except OSError as exc:
        if create and _status_of_boto(exc) == 412:
            raise FileExistsError(path) from None
        raise


def _status_of_boto(exc: BaseException) -> int | None:
    response = getattr(exc.__cause__, "response", None)
    if not isinstance(response, dict):
        return None
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


async def _send_gcs(fs: Any, path: str, data: Data, create: bool) -> None:
    from gcsfs.core import UnclosableBytesIO

    bucket, key, _ = fs.split_path(path)
    mode = "create" if create else "overwrite"
    if len(data) < _LARGE_BYTES or await is_zonal(fs, bucket):  # those are written by gRPC
        await fs._pipe_file(path, bytes(data), mode=mode)
        return
    # gcsfs itself cuts it into parts, or sends it as bytes that aiohttp warns of.
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
        # `overwrite` and not fsspec's `mode`, which older versions of adlfs take and ignore.
        await fs._pipe_file(path, bytes(data), overwrite=not create)
    except Exception as exc:
        if create and type(exc).__name__ == "ResourceExistsError":
            raise FileExistsError(path) from None
        raise


async def is_zonal(fs: Any, bucket: str) -> bool:
    """Whether a bucket is of Rapid Storage, asked once: gcsfs itself asks anew at each request
    where it is not allowed to know."""
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
