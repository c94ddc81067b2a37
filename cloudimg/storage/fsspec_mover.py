"""Tags, copies within the store and deletes on a condition, by the filesystems of s3 and gs.

fsspec's own ``cp_file`` and ``rm_file`` know no conditions, and the copy of s3fs drops the storage
class.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from cloudimg.errors import StorageError
from cloudimg.storage import gcsfs_private
from cloudimg.storage.base import Mover, Standing
from cloudimg.storage.failures import refuses_conditions
from cloudimg.storage.fsspec_errors import status_and_code
from cloudimg.storage.s3fs_private import call_s3
from cloudimg.storage.versions import md5_of_etag, unquoted, version_of_details, version_text

T = TypeVar("T")
Translate = Callable[[BaseException, str, str], StorageError]
_MOST_COPIED_BYTES = 5 * 2**30
"""Largest object that S3 copies with one request:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
_PART_BYTES = 2**29
"""Size of the parts in which larger ones are copied; S3 allows 10,000 of them."""
_KEPT = (
    "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType",
    "Metadata", "StorageClass", "WebsiteRedirectLocation",
)  # fmt: skip
"""What a HEAD says of an object that a copy in parts has to be given."""


class _Requests(Protocol):
    """The requests of one kind of filesystem; raise its exceptions unchanged."""

    async def look(self, path: str) -> Standing | None: ...
    async def tags(self, path: str) -> dict[str, str]: ...
    async def set_tags(
        self, path: str, tags: Mapping[str, str], before: Mapping[str, str], standing: Standing
    ) -> None: ...
    async def copy(self, path: str, target: str, standing: Standing) -> None: ...
    async def delete(self, path: str, standing: Standing) -> None: ...


class FsspecMover:
    """The requests of one filesystem, with errors of ours."""

    def __init__(
        self,
        requests: _Requests,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        translate: Translate,
    ) -> None:
        self._requests = requests
        self._run = run
        self._translate = translate

    def settle(self, key: str) -> None:
        """Nothing: these stores carry out a request as a whole."""

    def look(self, key: str) -> Standing | None:
        found: Standing | None = self._made(self._requests.look(key), key, "read")
        return found

    def tags(self, key: str) -> dict[str, str]:
        found: dict[str, str] = self._made(self._requests.tags(key), key, "read the tags of")
        return found

    def set_tags(
        self, key: str, tags: Mapping[str, str], before: Mapping[str, str], standing: Standing
    ) -> None:
        self._made(self._requests.set_tags(key, tags, before, standing), key, "tag")

    def copy(self, key: str, target: str, standing: Standing) -> None:
        self._made(self._requests.copy(key, target, standing), key, "copy")

    def delete(self, key: str, standing: Standing) -> None:
        self._made(self._requests.delete(key, standing), key, "delete")

    def _made(self, request: Coroutine[Any, Any, Any], key: str, action: str) -> Any:
        try:
            return self._run(request)
        except FileNotFoundError:
            if action in ("copy", "delete", "tag"):
                return None  # the caller looks what stands there
            raise
        except Exception as exc:  # noqa: BLE001
            if status_and_code(exc)[0] in (404, 412) and action in ("copy", "delete", "tag"):
                return None
            failure = self._translate(exc, key, action)
        raise failure


class _S3Requests:
    """Requests to S3."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._conditions = True

    async def look(self, path: str) -> Standing | None:
        try:
            head = await self._call("head_object", path)
        except FileNotFoundError:
            return None
        has_own_keys = str(head.get("ServerSideEncryption", "")).startswith("aws:kms") or (
            "SSECustomerAlgorithm" in head
        )
        md5 = None if has_own_keys else md5_of_etag(head.get("ETag"))
        version = version_text(head.get("ETag"), head.get("LastModified"))
        digests = () if md5 is None else (f"md5:{md5}",)
        return Standing(head["ContentLength"], version, digests, head)

    async def tags(self, path: str) -> dict[str, str]:
        answer = await self._call("get_object_tagging", path)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    async def set_tags(
        self, path: str, tags: Mapping[str, str], before: Mapping[str, str], standing: Standing
    ) -> None:
        # In a bucket with versions, the one that was looked at. There is no other condition.
        number = standing.details.get("VersionId")
        which = {} if number in (None, "null") else {"VersionId": number}
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        try:
            await self._call("put_object_tagging", path, Tagging={"TagSet": tag_set}, **which)
        except OSError as exc:
            if tags or status_and_code(exc)[0] in (None, 403, 404):
                raise
            # The store knows no empty set. Where it does, that is better: Ceph forgets the ETag in
            # its listings when tags are deleted.
            await self._call("delete_object_tagging", path, **which)

    async def copy(self, path: str, target: str, standing: Standing) -> None:
        bucket, key, _ = self._fs.split_path(path)
        source: dict[str, Any] = {"CopySource": {"Bucket": bucket, "Key": key}}
        if standing.version is not None:
            source["CopySourceIfMatch"] = unquoted(standing.version)
        if standing.size_bytes > _MOST_COPIED_BYTES:
            await self._copy_parts(path, target, standing, source)
            return
        kept = {name: standing.details[name] for name in ("StorageClass",)
                if name in standing.details}  # fmt: skip
        await self._on_condition("copy_object", target, {"IfNoneMatch": "*"}, **source, **kept)

    async def _copy_parts(
        self, path: str, target: str, standing: Standing, source: Mapping[str, Any]
    ) -> None:
        kept = {name: standing.details[name] for name in _KEPT if name in standing.details}
        tags = await self.tags(path)
        if tags:
            kept["Tagging"] = urlencode(tags)
        upload = (await self._call("create_multipart_upload", target, **kept))["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            for start in range(0, standing.size_bytes, _PART_BYTES):
                stop = min(start + _PART_BYTES, standing.size_bytes)
                answer = await self._call(
                    "upload_part_copy",
                    target,
                    UploadId=upload,
                    PartNumber=len(parts) + 1,
                    CopySourceRange=f"bytes={start}-{stop - 1}",
                    **source,
                )
                etag = answer["CopyPartResult"]["ETag"]
                parts.append({"ETag": etag, "PartNumber": len(parts) + 1})
            await self._on_condition(
                "complete_multipart_upload",
                target,
                {"IfNoneMatch": "*"},
                UploadId=upload,
                MultipartUpload={"Parts": parts},
            )
        except BaseException:
            await self._call("abort_multipart_upload", target, UploadId=upload)
            raise

    async def delete(self, path: str, standing: Standing) -> None:
        condition = {} if standing.version is None else {"IfMatch": unquoted(standing.version)}
        await self._on_condition("delete_object", path, condition)

    async def _on_condition(
        self, method: str, path: str, condition: Mapping[str, str], **arguments: Any
    ) -> None:
        """Make a request on a condition, and without it where the store refuses to know it.

        s3fs leaves out what the installed botocore cannot send.
        """
        if self._conditions:
            try:
                await self._call(method, path, **condition, **arguments)
                return
            except OSError as exc:
                status, code = status_and_code(exc)
                if not refuses_conditions(status, f"{code} {exc}"):
                    raise
        await self._call(method, path, **arguments)
        self._conditions = False

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        bucket, key, _ = self._fs.split_path(path)
        return await call_s3(self._fs, method, Bucket=bucket, Key=key, **arguments)


class _GcsRequests:
    """Requests to Google Cloud Storage, whose conditions are generations:
    https://cloud.google.com/storage/docs/request-preconditions
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    async def look(self, path: str) -> Standing | None:
        try:
            details = await self._call("GET", self._url(path), json_out=True)
        except FileNotFoundError:
            return None
        digests = []
        if details.get("md5Hash"):
            digests.append(f"md5:{base64.b64decode(details['md5Hash']).hex()}")
        if details.get("crc32c"):  # of objects that were composed, too
            digests.append(f"crc32c:{details['crc32c']}")
        return Standing(int(details["size"]), version_of_details(details), tuple(digests), details)

    async def tags(self, path: str) -> dict[str, str]:
        details = await self._call("GET", self._url(path), json_out=True)
        metadata = details.get("metadata") or {}
        return {name: value for name, value in metadata.items() if value is not None}

    async def set_tags(
        self, path: str, tags: Mapping[str, str], before: Mapping[str, str], standing: Standing
    ) -> None:
        # A patch changes what it names; null removes it.
        metadata = {**dict.fromkeys(before), **tags}
        await self._call(
            "PATCH", self._url(path), json={"metadata": metadata}, json_out=True,
            ifGenerationMatch=standing.version,
        )  # fmt: skip

    async def copy(self, path: str, target: str, standing: Standing) -> None:
        url = f"{self._url(path)}/rewriteTo/{self._url(target).removeprefix(self._fs.base)}"
        more: dict[str, str] = {}
        while True:  # large objects take several requests, all of which are on the condition
            answer = await self._call(
                "POST", url, json={}, json_out=True, ifGenerationMatch="0",
                ifSourceGenerationMatch=standing.version, **more,
            )  # fmt: skip
            if answer.get("done", True):
                return
            more = {"rewriteToken": answer["rewriteToken"]}

    async def delete(self, path: str, standing: Standing) -> None:
        await self._call("DELETE", self._url(path), ifGenerationMatch=standing.version)

    def _url(self, path: str) -> str:
        bucket, key, _ = self._fs.split_path(path)
        return f"{self._fs.base}b/{quote(bucket, safe='')}/o/{quote(key, safe='')}"

    async def _call(self, method: str, url: str, **arguments: Any) -> Any:
        try:
            return await gcsfs_private.call(self._fs, method, url, **arguments)
        except FileExistsError as exc:  # gcsfs's name for 412, whatever the condition was
            raise FileNotFoundError(url) from exc


_KINDS: Mapping[str, Callable[[Any], _Requests]] = {
    "S3FileSystem": _S3Requests,
    "GCSFileSystem": _GcsRequests,
}


def mover_for(
    fs: Any, run: Callable[[Coroutine[Any, Any, Any]], Any], translate: Translate
) -> Mover | None:
    """The mover of a filesystem; None if it is of another kind."""
    for base in type(fs).mro():
        if base.__name__ in _KINDS:
            return FsspecMover(_KINDS[base.__name__](fs), run, translate)
    return None
