"""Writing to fsspec filesystems: an object in one request, and deleting many objects.

fsspec's own ``pipe_file`` is not enough: above a few MB it splits an upload into parts, and its
``mode="create"`` first checks and then writes, so that two writers can both succeed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import quote

from cloudimg.storage import gcsfs_private
from cloudimg.storage.base import Data, Stored
from cloudimg.storage.failures import may_refuse_checksum
from cloudimg.storage.fsspec_errors import status_and_code
from cloudimg.storage.fsspec_private import rm_file
from cloudimg.storage.local import LocalBackend
from cloudimg.storage.s3fs_private import call_s3
from cloudimg.storage.versions import md5_of_etag, unquoted, version_of_details, version_text

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine of the filesystem and returns its result."""

_DELETED_AT_ONCE = 64
_LARGE_BYTES = 2**20
_creating = threading.Lock()
"""Held while an object is created in memory, which all filesystems of a process share."""


_ABSENT = ""
"""In place of the version of an object that does not exist."""


class NoConditionsError(Exception):
    """This filesystem cannot store an object on a condition."""


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

    def put(self, path: str, data: Data) -> Stored:
        """Store an object; replace an existing one."""
        if self._local is not None:
            return self._local.put(path, data)
        if self._send is not None:
            return cast(Stored, self._run(self._send(self._fs, path, data, None)))
        self._fs.pipe_file(path, bytes(data))
        return Stored(is_new=True, etag=self._etag_in_memory(path))

    def _etag_in_memory(self, path: str) -> str | None:
        """The version of an object in memory, which is asked for without a request."""
        return version_of_details(self._fs.info(path)) if self._is_in_memory else None

    def create(self, path: str, data: Data) -> Stored:
        """Store an object unless the path exists.

        Raises
        ------
        NoConditionsError
        """
        if self._local is not None:
            return self._local.create(path, data)
        try:
            if self._send is not None:
                return cast(Stored, self._run(self._send(self._fs, path, data, _ABSENT)))
            if not self._is_in_memory:
                raise NoConditionsError
            with _creating:
                self._fs.pipe_file(path, bytes(data), mode="create")
                return Stored(is_new=True, etag=self._etag_in_memory(path))
        except FileExistsError:
            return Stored(is_new=False)

    def replace(self, path: str, data: Data, version: str) -> Stored:
        """Store an object if the path has this version of it.

        Raises
        ------
        NoConditionsError
        """
        if self._local is not None:
            return self._local.replace(path, data, version)
        if self._send is None:
            raise NoConditionsError
        try:
            return cast(Stored, self._run(self._send(self._fs, path, data, version)))
        except FileExistsError:
            return Stored(is_new=False)

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


Sender = Callable[[Any, str, Data, str | None], Coroutine[Any, Any, Stored]]
"""Stores an object in one request. The last argument is the version of the object that it replaces,
which may be `_ABSENT`; None for any. Raises FileExistsError where there is another one."""


async def _send_s3(fs: Any, path: str, data: Data, before: str | None) -> Stored:
    bucket, key, _ = fs.split_path(path)
    condition = {}
    if before is not None:
        condition = {"IfMatch": unquoted(before)} if before else {"IfNoneMatch": "*"}
    body = bytes(data)
    put = partial(call_s3, fs, "put_object", Bucket=bucket, Key=key, Body=body, **condition)
    try:
        answer = await _with_checksum(fs, put, body)
    except OSError as exc:
        if condition and status_and_code(exc)[0] == 412:
            raise FileExistsError(path) from exc  # which the callers handle
        raise
    etag = answer.get("ETag")
    if not etag:
        # S3 states the version of what it stored, and obstore relies on that, too.
        raise ConnectionError("the answer has no ETag: nothing says that the object was stored")
    has_own_keys = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
    return Stored(True, version_text(etag), None if has_own_keys else md5_of_etag(etag))


async def _with_checksum(
    fs: Any, put: Callable[..., Coroutine[Any, Any, dict[str, Any]]], body: bytes
) -> dict[str, Any]:
    """The answer to a PUT with the SHA-256 of the bytes, or with their MD5.

    Stores that do not know the first refuse it; the second is as old as S3:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
    """
    if not fs.__dict__.get("_cloudimg_sends_md5"):
        sha256 = hashlib.sha256(body).digest()
        try:
            return await put(ChecksumSHA256=base64.b64encode(sha256).decode())
        except OSError as exc:
            if not may_refuse_checksum(*status_and_code(exc)):
                raise
    md5 = hashlib.md5(body, usedforsecurity=False).digest()
    answer = await put(ContentMD5=base64.b64encode(md5).decode())
    fs.__dict__["_cloudimg_sends_md5"] = True
    return answer


class _UnclosableBytes(io.BytesIO):
    """Bytes that stay open when aiohttp closes them, because gcsfs sends them again in retries."""

    def close(self) -> None:
        self.seek(0)


async def _send_gcs(fs: Any, path: str, data: Data, before: str | None) -> Stored:
    bucket, key, _ = fs.split_path(path)
    if not data or await gcsfs_private.is_zonal(fs, bucket):
        if before:
            raise NoConditionsError
        await gcsfs_private.pipe_file(fs, path, bytes(data), create=before == _ABSENT)
        return Stored(is_new=True)
    # gcsfs itself would drop the answer. Large objects it would split into parts, or send as bytes,
    # about which aiohttp warns.
    answer = await gcsfs_private.call(
        fs,
        "POST",
        f"{fs.base.removesuffix('/storage/v1/')}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="media",
        name=key,
        headers={"Content-Type": "application/octet-stream"},
        data=_UnclosableBytes(data) if len(data) >= _LARGE_BYTES else bytes(data),
        json_out=True,
        **({} if before is None else {"ifGenerationMatch": before or "0"}),
    )
    md5 = answer.get("md5Hash")
    return Stored(
        is_new=True,
        etag=version_of_details(answer),
        md5=base64.b64decode(md5).hex() if md5 else None,
    )


async def _send_azure(fs: Any, path: str, data: Data, before: str | None) -> Stored:
    """By the client of azure-storage-blob: adlfs's own method drops the answer and the condition.

    Azure compares the bytes with the MD5 that is sent with them, and with conditions of HTTP:
    https://learn.microsoft.com/en-us/rest/api/storageservices/put-blob
    """
    from azure.core import MatchConditions

    is_replacing = {"etag": before, "match_condition": MatchConditions.IfNotModified}
    container, blob, _ = fs.split_path(path)
    async with fs.service_client.get_blob_client(container, blob) as client:
        try:
            answer = await client.upload_blob(
                bytes(data),
                overwrite=before != _ABSENT,
                validate_content=True,
                max_concurrency=1,
                metadata={"is_directory": "false"},  # as adlfs, for accounts with folders
                **(is_replacing if before else {}),
            )
        except Exception as exc:
            code = status_and_code(exc)[1]
            if before is not None and code in _OTHER_VERSION_AT_AZURE:
                raise FileExistsError(path) from exc  # which the callers handle
            raise
    return Stored(is_new=True, etag=version_of_details(answer))


_OTHER_VERSION_AT_AZURE = ("BlobAlreadyExists", "ConditionNotMet")
"""Codes of answers to requests on a condition:
https://learn.microsoft.com/en-us/rest/api/storageservices/blob-service-error-codes"""


_SENDERS: dict[str, Sender] = {
    "S3FileSystem": _send_s3,
    "GCSFileSystem": _send_gcs,
    "AzureBlobFileSystem": _send_azure,
}
