"""Every other store, through fsspec; and s3, gs, http where the fast path does not fit.

For the three big filesystems the answer's headers are read as well, because ``cat_file`` throws
away the size and the ETag that say which version of the object the bytes belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from cloudimg.errors import (
    AccessDeniedError,
    ArgumentError,
    NotFoundError,
    ServerError,
    StorageError,
)
from cloudimg.settings import settings
from cloudimg.storage.base import Blob, Data, Entry, NotMappableError, is_no_room, no_room
from cloudimg.storage.fsspec_writing import CannotCreateError, FsspecWriting, is_zonal
from cloudimg.storage.urls import Location, redact

Asker = Callable[[Any, str, dict[str, str]], Coroutine[Any, Any, Blob]]
"""Asks a filesystem for a path with a Range header."""
F = TypeVar("F")

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_BATCH = 1000
_LISTS_BY_PREFIX = ("s3", "gs")


class FsspecBackend:
    """Requests to one fsspec filesystem, and its errors in our words."""

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        self._location = location
        self._fs = _filesystem(location, options)
        # Members of an archive share one handle of the archive and its directory.
        archive = any(base.__name__ == "AbstractArchiveFileSystem" for base in type(self._fs).mro())
        self._one_at_a_time: Any = threading.Lock() if archive else contextlib.nullcontext()
        self._ask = _asker_of(type(self._fs))
        self._writing = FsspecWriting(self._fs, self._run)

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        path = self._path(key)
        try:
            if self._ask is not None:
                with contextlib.suppress(NotMappableError):
                    return self._run(self._ask(self._fs, path, _range_header(start, stop)))
            with self._one_at_a_time:
                data = self._fs.cat_file(path, start=start, end=stop)
                size = None if start is not None and start >= 0 else self._fs.info(path)["size"]
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, key) from None
        if start is None:
            return Blob(data, 0, len(data), None)
        return Blob(data, start if start >= 0 else max(0, (size or 0) + start), size, None)

    def _run(self, request: Coroutine[Any, Any, F]) -> F:
        import fsspec.asyn

        return fsspec.asyn.sync(  # type: ignore[no-any-return]
            self._fs.loop, _bounded, request, 60 * settings().timeout_s
        )

    def info(self, key: str) -> Entry:
        try:
            with self._one_at_a_time:
                found = self._fs.info(self._path(key))
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, key) from None
        if found.get("type") == "directory":
            url = self._location.display(key)
            raise NotFoundError(f"{url} is a folder, not a file", url=url)
        return Entry(key, found.get("size"), _etag_of(found))

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        fs, path = self._fs, self._path(folder)
        try:
            fs.invalidate_cache()
            if self._location.protocol in _LISTS_BY_PREFIX and hasattr(fs, "_lsdir"):
                path = path.rstrip("/")  # s3fs takes the slashes of keys like a//b for its own
                name = stem[len(path) + 1 :]
                found = fs.find(path, prefix=name, detail=True) if name else fs.find(path, detail=1)
            elif depth == 1:
                found = {item["name"]: item for item in fs.ls(path, detail=True)}
            else:
                found = fs.find(path, maxdepth=depth, detail=True)
        except FileNotFoundError:
            if self._location.root and not self._exists(folder):
                raise self._translate(FileNotFoundError(), folder) from None
            return
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, folder) from None
        entries = [
            Entry(key, item.get("size"), _etag_of(item))
            for name, item in found.items()
            if item.get("type") != "directory" and (key := self._key(name)).startswith(stem)
        ]
        for i in range(0, len(entries), _BATCH):
            yield entries[i : i + _BATCH]

    def put(self, key: str, data: Data) -> None:
        try:
            self._writing.put(self._path(key), data)
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, key, "write") from None

    def create(self, key: str, data: Data) -> bool:
        try:
            return self._writing.create(self._path(key), data)
        except CannotCreateError:
            url = self._location.display(key)
            raise StorageError(
                f"cannot write {url}: {self._location.protocol}:// has no way to create an object"
                " only where there is none, which keeps two migrations apart: write to s3, gs, az"
                " or a local folder",
                url=url,
            ) from None
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, key, "write") from None

    def delete(self, keys: Sequence[str]) -> None:
        try:
            self._writing.delete([self._path(key) for key in keys])
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, keys[0], "delete") from None

    def _exists(self, folder: str) -> bool:
        """Whether the bucket is there: an empty folder is no error, a missing bucket is one."""
        if self._location.protocol not in _LISTS_BY_PREFIX:
            return True
        try:
            self._fs.ls(self._location.root)
        except FileNotFoundError:
            return False
        except Exception as exc:  # noqa: BLE001
            raise self._translate(exc, folder) from None
        return True

    def _path(self, key: str) -> str:
        location = self._location
        if location.protocol in ("http", "https"):
            return f"{location.protocol}://{key}"
        if location.protocol in _LISTS_BY_PREFIX:
            return key
        return str(self._fs._strip_protocol(f"{location.protocol}://{key}"))

    def _key(self, name: str) -> str:
        location = self._location
        if location.protocol in ("http", "https"):
            return name.split("://", 1)[-1]
        if location.protocol in _LISTS_BY_PREFIX or location.protocol == "file":
            return name
        # Filesystems with a host leave it out of their paths, object stores keep the bucket.
        at_root = self._path(location.root).strip("/")
        inside = name.strip("/").removeprefix(at_root).lstrip("/") if at_root else name.lstrip("/")
        return f"{location.root}/{inside}" if location.root else inside

    def _translate(self, exc: BaseException, key: str, doing: str = "read") -> StorageError:
        url = self._location.display(key)
        if isinstance(exc, StorageError):
            return exc
        # A broken transfer is no answer, though aiohttp gives it the status 400.
        status, code = (None, None) if _is_passing(exc) else _status_and_code(exc)
        what = f" ({', '.join(str(part) for part in (status, code) if part)})".replace(" ()", "")
        name = type(exc).__name__
        if is_no_room(status, code or ""):
            return no_room(url, what)
        if isinstance(exc, FileNotFoundError) or status == 404:
            return NotFoundError(f"not found: {url}{what}", url=url)
        if (
            isinstance(exc, PermissionError)
            or status in (401, 403)
            or (type(exc) is OSError and str(exc).startswith("Forbidden: "))  # a 403 of gcsfs
            or any(mark in name for mark in ("Credential", "GoogleAuth", "RefreshError", "Auth"))
        ):
            return AccessDeniedError(
                f"access denied: cannot {doing} {url}{what}; see that storage_options or the"
                " environment hold credentials for it",
                url=url,
            )
        # 409: another request for the same object was under way.
        if status is not None and 400 <= status < 500 and status not in (408, 409, 425, 429):
            return StorageError(f"the server refused to {doing} {url}{what}", url=url)
        if status is not None or _is_passing(exc):
            return ServerError(f"the server failed to {doing} {url}{what or f' ({name})'}", url=url)
        if isinstance(exc, TypeError) or type(exc).__module__.startswith("botocore"):
            # Wrong options show only now, and are told by name. A ValueError is not: http clients
            # quote a header that they refuse, which may be a token.
            return StorageError(f"cannot {doing} {url}: {redact(str(exc))}", url=url)
        return StorageError(f"cannot {doing} {url}: {name}", url=url)


def _filesystem(location: Location, options: Mapping[str, Any]) -> Any:
    import fsspec.core

    chain = f"{location.before}{location.protocol}://{location.root}{location.after}"
    protocols = {location.protocol, *location.before.split("::"), *_protocols(location.after)}
    try:
        fs, _ = fsspec.core.url_to_fs(chain, **_with_defaults(dict(options), location))
    except (ImportError, ValueError) as exc:
        known = ", ".join(sorted(p for p in protocols if p))
        raise ArgumentError(f"cannot open {known}: {exc}") from None
    except Exception as exc:  # noqa: BLE001
        inner = FsspecBackend.__new__(FsspecBackend)
        inner._location = location
        raise inner._translate(exc, location.root) from None
    if hasattr(fs, "retries"):
        fs.retries = 1  # repeating is done above, the same way for every backend
    return fs


def _protocols(after: str) -> list[str]:
    return [link.split("://")[0] for link in after.split("::") if "://" in link]


def _with_defaults(options: dict[str, Any], location: Location) -> dict[str, Any]:
    """Options for our own instance: enough connections, and time-outs that end."""
    if location.before or location.after:
        return options
    limits = settings()
    if location.protocol == "s3":
        options["config_kwargs"] = {
            "max_pool_connections": limits.max_requests,
            "connect_timeout": limits.timeout_s,
            "read_timeout": limits.timeout_s,
            "retries": {"total_max_attempts": 1},
            **(options.get("config_kwargs") or {}),
        }
    if location.protocol in ("s3", "gs", "http", "https"):
        options["skip_instance_cache"] = True
        options.setdefault("use_listings_cache", False)
    return options


async def _bounded(request: Coroutine[Any, Any, F], timeout_s: float) -> F:
    return await asyncio.wait_for(request, timeout_s)


def _range_header(start: int | None, stop: int | None) -> dict[str, str]:
    if start is None:
        return {}
    if start < 0:
        return {"Range": f"bytes={start}"}
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def _blob(data: bytes, headers: Mapping[str, str], etag: str | None) -> Blob:
    """A blob from the answer's headers; without Content-Range it is the whole object."""
    match = _CONTENT_RANGE.match(headers.get("Content-Range") or "")
    if match is None:
        return Blob(data, 0, len(data), etag)
    size = None if match.group(2) == "*" else int(match.group(2))
    return Blob(data, int(match.group(1)), size, etag)


async def _ask_s3(fs: Any, path: str, header: dict[str, str]) -> Blob:
    bucket, key, version = fs.split_path(path)
    more = {"VersionId": version} if version else {}
    try:
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, **header, **more)
    except OSError as exc:
        if _status_and_code(exc)[0] == 416:
            return Blob(b"", 0, None, None)
        raise
    async with answer["Body"] as body:
        data = await body.read()
    return _blob(data, {"Content-Range": answer.get("ContentRange", "")}, answer.get("ETag"))


async def _ask_gcs(fs: Any, path: str, header: dict[str, str]) -> Blob:
    if await is_zonal(fs, fs.split_path(path)[0]):
        raise NotMappableError  # Rapid Storage is read by gRPC, which cat_file knows
    try:
        headers, data = await fs._call("GET", fs.url(path), headers=header)
    except Exception as exc:
        if _status_and_code(exc)[0] == 416:
            return Blob(b"", 0, None, None)
        raise
    return _blob(data, headers, headers.get("X-Goog-Generation") or headers.get("ETag"))


async def _ask_http(fs: Any, path: str, header: dict[str, str]) -> Blob:
    options = dict(fs.kwargs)
    options["headers"] = {**options.get("headers", {}), **header}
    session = await fs.set_session()
    async with session.get(fs.encode_url(path), **options) as answer:
        if answer.status == 416:
            return Blob(b"", 0, None, None)
        answer.raise_for_status()
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        return _blob(await answer.read(), answer.headers, version)


_ASKERS: dict[str, Asker] = {
    "S3FileSystem": _ask_s3,
    "GCSFileSystem": _ask_gcs,
    "HTTPFileSystem": _ask_http,
}


def _asker_of(kind: type) -> Asker | None:
    """The asker of a class of filesystems, or of one that it derives from."""
    return next((_ASKERS[base.__name__] for base in kind.mro() if base.__name__ in _ASKERS), None)


def _etag_of(found: Mapping[str, Any]) -> str | None:
    for name in ("ETag", "etag", "generation", "md5Hash", "mtime", "created"):
        value = found.get(name)
        if value:
            return str(value)
    return None


def _status_and_code(exc: BaseException) -> tuple[int | None, str | None]:
    """HTTP status and the store's error code, wherever this filesystem's exception keeps them."""
    seen: BaseException | None = exc
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and "ResponseMetadata" in response:
            status = response["ResponseMetadata"].get("HTTPStatusCode")
            return status, (response.get("Error") or {}).get("Code")
        for name in ("status", "code"):
            value = getattr(seen, name, None)
            if isinstance(value, int) and 400 <= value < 600:
                return value, None
            if isinstance(value, str) and value.isdigit() and 400 <= int(value) < 600:
                return int(value), None
        seen = seen.__cause__
    return None, None


def _is_passing(exc: BaseException) -> bool:
    """Whether trying again may help: time-outs, resets, broken transfers."""
    if isinstance(exc, TimeoutError | ConnectionError | asyncio.IncompleteReadError):
        return True
    return type(exc).__name__ in {
        "ClientConnectorError",
        "ClientOSError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EndpointConnectionError",
        "FSTimeoutError",
        "HTTPClientError",
        "ProxyError",  # a 502 of gcsfs
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
    }
