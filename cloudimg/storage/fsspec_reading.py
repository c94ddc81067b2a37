"""Requests for byte ranges to the fsspec filesystems of s3, gs, az and http.

fsspec's own ``cat_file`` discards the headers of the response, whose size and ETag identify the
version of the object that the bytes belong to.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from cloudimg.storage.base import Blob, NotMappableError
from cloudimg.storage.fsspec_errors import status_and_code
from cloudimg.storage.gcsfs_private import call, is_zonal
from cloudimg.storage.lengths import part_of_whole
from cloudimg.storage.s3fs_private import call_s3
from cloudimg.storage.versions import version_of_details, version_text

RangeReader = Callable[[Any, str, dict[str, str]], Coroutine[Any, Any, Blob]]
"""Requests a path from a filesystem, with a Range header."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_GOOGLE_MD5 = re.compile(r"\bmd5=([A-Za-z0-9+/]{22}==)")
"""In the header x-goog-hash; objects that were composed of others have no MD5:
https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash"""


NOT_ENCODED = {"Accept-Encoding": "identity"}
"""A range of a compressed answer is not a range of the file (RFC 9110, section 14.2). aiohttp would
ask for compression and undo it, which fails for all but the first range."""


class EncodedError(Exception):
    """An object is stored compressed, and the server undoes that; never leaves the storage
    package."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self.encoding = encoding


def range_header(start: int | None, stop: int | None) -> dict[str, str]:
    """The header that requests bytes ``start:stop``, as `Backend.get` defines them."""
    if start is None:
        return {}
    if start < 0:
        return {"Range": f"bytes={start}"}
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def range_reader(kind: type) -> RangeReader | None:
    """The reader for a class of filesystems, or for a class that it derives from."""
    return next((_READERS[base.__name__] for base in kind.mro() if base.__name__ in _READERS), None)


def _blob(
    data: bytes, headers: Mapping[str, str], etag: str | None, md5: str | None = None
) -> Blob:
    """A blob from a response's headers; without Content-Range it is the whole object."""
    match = _CONTENT_RANGE.match(headers.get("Content-Range") or "")
    if match is None:
        return Blob(data, 0, len(data), etag, md5)
    start, n_stated = int(match[1]), int(match[2]) + 1 - int(match[1])
    if len(data) < n_stated:  # HTTP/1.0, where the end of a connection ends an answer
        raise asyncio.IncompleteReadError(data, n_stated)
    return Blob(data, start, None if match[3] == "*" else int(match[3]), etag, md5)


async def _read_s3(fs: Any, path: str, header: dict[str, str]) -> Blob:
    bucket, key, version = fs.split_path(path)
    more = {"VersionId": version} if version else {}
    try:
        response = await call_s3(fs, "get_object", Bucket=bucket, Key=key, **header, **more)
    except OSError as exc:
        if status_and_code(exc)[0] == 416:
            return Blob(b"", 0, None, None)
        raise
    version = version_text(response.get("ETag"), response.get("LastModified"))
    content_range = response.get("ContentRange", "")
    async with response["Body"] as body:
        if header and not content_range:
            size = response.get("ContentLength")
            return replace(await _part(body.read, size, header), etag=version)
        data = await body.read()
    return _blob(data, {"Content-Range": content_range}, version)


async def _read_gcs(fs: Any, path: str, header: dict[str, str]) -> Blob:
    if await is_zonal(fs, fs.split_path(path)[0]):
        raise NotMappableError  # Rapid Storage is read by gRPC, which only cat_file supports
    try:
        headers, data = await call(fs, "GET", fs.url(path), headers={**header, **NOT_ENCODED})
    except Exception as exc:
        if status_and_code(exc)[0] == 416:
            return Blob(b"", 0, None, None)
        raise
    if headers.get("X-Goog-Stored-Content-Encoding", "identity") != "identity":
        raise EncodedError(headers["X-Goog-Stored-Content-Encoding"])
    # There can be one such header for each kind of checksum.
    hashes = ",".join(text for name, text in headers.items() if name.lower() == "x-goog-hash")
    md5 = _GOOGLE_MD5.search(hashes)
    stated = None if md5 is None else base64.b64decode(md5[1]).hex()
    return _blob(data, headers, headers.get("X-Goog-Generation"), stated)


async def _read_azure(fs: Any, path: str, header: dict[str, str]) -> Blob:
    """By the client of azure-storage-blob, which sends a Range header of its own."""
    container, blob, version = fs.split_path(path)
    async with fs.service_client.get_blob_client(container, blob) as client:
        start, stop = _numbers(header)
        if start is not None and start < 0:  # which Azure does not know
            start = max(0, (await client.get_blob_properties(version_id=version)).size + start)
        length = None if start is None or stop is None else stop - start
        try:
            stream = await client.download_blob(start, length, version_id=version)
        except Exception as exc:
            if status_and_code(exc)[0] == 416:
                return Blob(b"", 0, None, None)
            raise
        properties = stream.properties  # whose size is that of the range
        size = (properties.content_range or "").rpartition("/")[2]
        data = await stream.readall()
    whole = int(size) if size.isdigit() else properties.size
    return Blob(data, start or 0, whole, version_of_details(properties))


async def _part(
    read: Callable[[int], Awaitable[bytes]], size: int | None, header: Mapping[str, str]
) -> Blob:
    start, stop = _numbers(header)
    return await part_of_whole(read, size, start or 0, stop)


def _numbers(header: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The range of a header that `range_header` made."""
    first, _, last = header.get("Range", "").removeprefix("bytes=").rpartition("-")
    if not header:
        return None, None
    if not first:
        return -int(last), None
    return int(first), int(last) + 1 if last else None


async def _read_http(fs: Any, path: str, header: dict[str, str]) -> Blob:
    options = dict(fs.kwargs)
    options["headers"] = {**NOT_ENCODED, **(options.get("headers") or {}), **header}
    session = await fs.set_session()
    async with session.get(fs.encode_url(path), **options) as response:
        if response.status == 416:
            return Blob(b"", 0, None, None)
        response.raise_for_status()
        version = version_text(response.headers.get("ETag"), response.headers.get("Last-Modified"))
        if header and response.status == 200:
            content = response.content
            return replace(await _part(content.read, response.content_length, header), etag=version)
        return _blob(await response.read(), response.headers, version)


_READERS: Mapping[str, RangeReader] = {
    "S3FileSystem": _read_s3,
    "GCSFileSystem": _read_gcs,
    "AzureBlobFileSystem": _read_azure,
    "HTTPFileSystem": _read_http,
}
