"""Requests for byte ranges to the fsspec filesystems of s3, gs and http.

fsspec's own ``cat_file`` discards the headers of the response, whose size and ETag identify the
version of the object that the bytes belong to.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from cloudimg.storage.base import Blob, NotMappableError
from cloudimg.storage.fsspec_errors import status_and_code
from cloudimg.storage.gcsfs_private import call, is_zonal
from cloudimg.storage.s3fs_private import call_s3
from cloudimg.storage.versions import version_text

RangeReader = Callable[[Any, str, dict[str, str]], Coroutine[Any, Any, Blob]]
"""Requests a path from a filesystem, with a Range header."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_GOOGLE_MD5 = re.compile(r"\bmd5=([A-Za-z0-9+/]{22}==)")
"""In the header x-goog-hash; objects that were composed of others have no MD5:
https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash"""


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
    size = None if match.group(2) == "*" else int(match.group(2))
    return Blob(data, int(match.group(1)), size, etag, md5)


async def _read_s3(fs: Any, path: str, header: dict[str, str]) -> Blob:
    bucket, key, version = fs.split_path(path)
    more = {"VersionId": version} if version else {}
    try:
        response = await call_s3(fs, "get_object", Bucket=bucket, Key=key, **header, **more)
    except OSError as exc:
        if status_and_code(exc)[0] == 416:
            return Blob(b"", 0, None, None)
        raise
    async with response["Body"] as body:
        data = await body.read()
    version = version_text(response.get("ETag"), response.get("LastModified"))
    return _blob(data, {"Content-Range": response.get("ContentRange", "")}, version)


async def _read_gcs(fs: Any, path: str, header: dict[str, str]) -> Blob:
    if await is_zonal(fs, fs.split_path(path)[0]):
        raise NotMappableError  # Rapid Storage is read by gRPC, which only cat_file supports
    try:
        headers, data = await call(fs, "GET", fs.url(path), headers=header)
    except Exception as exc:
        if status_and_code(exc)[0] == 416:
            return Blob(b"", 0, None, None)
        raise
    # There can be one such header for each kind of checksum.
    hashes = ",".join(text for name, text in headers.items() if name.lower() == "x-goog-hash")
    md5 = _GOOGLE_MD5.search(hashes)
    stated = None if md5 is None else base64.b64decode(md5[1]).hex()
    return _blob(data, headers, headers.get("X-Goog-Generation"), stated)


async def _read_http(fs: Any, path: str, header: dict[str, str]) -> Blob:
    options = dict(fs.kwargs)
    options["headers"] = {**options.get("headers", {}), **header}
    session = await fs.set_session()
    async with session.get(fs.encode_url(path), **options) as response:
        if response.status == 416:
            return Blob(b"", 0, None, None)
        response.raise_for_status()
        version = version_text(response.headers.get("ETag"), response.headers.get("Last-Modified"))
        return _blob(await response.read(), response.headers, version)


_READERS: Mapping[str, RangeReader] = {
    "S3FileSystem": _read_s3,
    "GCSFileSystem": _read_gcs,
    "HTTPFileSystem": _read_http,
}
