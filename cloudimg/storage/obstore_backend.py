"""The fast path: obstore (Rust, outside the interpreter's lock) for S3 and plain http(s).

Its synchronous calls run in our fetching threads: measured, `get` of 1 MiB costs the processor
0.9 ms there, and the answer brings size and ETag along. Retries are ours (`store`), so that every
backend has the same ones.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar

import obstore
from obstore import exceptions
from obstore.store import HTTPStore, S3Store

from cloudimg.errors import AccessDeniedError, NotFoundError, ServerError, StorageError
from cloudimg.settings import settings
from cloudimg.storage import s3_options
from cloudimg.storage.base import Blob, Data, Entry, NotMappableError, is_no_room, no_room

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})</Message>")
_ASTRAY = ("PermanentRedirect", "AuthorizationHeaderMalformed", "without LOCATION", "IllegalLoc")
# What HTTPStore's own percent-encoding leaves as it is: any other URL goes by fsspec.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/\-]*")
_LIST_CHUNK = 1000
_LARGE_BYTES = 2**20
_PATIENCE = 15
"""How many time-outs long a large object may be on its way: obstore's time-out for an answer
counts from the start of the request. 64 MiB pass in 300 s at 0.2 MiB/s."""


class _ObstoreBackend:
    """Requests to one obstore store, and its errors in our words."""

    def __init__(self, display: Callable[[str], str], hint: str = "") -> None:
        self._display = display
        self._hint = hint
        self._store: Any = None

    def _path(self, key: str) -> str:
        raise NotImplementedError

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        options: dict[str, Any] = {}
        if start is not None:
            if start < 0:
                options["range"] = {"suffix": -start}
            elif stop is None:
                options["range"] = {"offset": start}
            else:
                options["range"] = (start, stop)
        try:
            answer = obstore.get(self._store, self._path(key), options=options)  # type: ignore[arg-type]
            data = answer.bytes()
        except (*_ERRORS, ValueError, OSError) as exc:
            if _status_of(exc) == 416:
                # Nothing there: the range begins at or past the end of the object.
                return Blob(b"", start if start and start > 0 else 0, None, None)
            raise self._translate(exc, key) from None
        meta = answer.meta
        return Blob(memoryview(data), answer.range[0], meta["size"], _version(meta))

    def info(self, key: str) -> Entry:
        try:
            meta = obstore.head(self._store, self._path(key))
        except (*_ERRORS, ValueError, OSError) as exc:
            raise self._translate(exc, key) from None
        return Entry(key, meta["size"], _version(meta))

    def put(self, key: str, data: Data) -> None:
        self._put(key, data, "overwrite")

    def create(self, key: str, data: Data) -> bool:
        return self._put(key, data, "create")

    def _put(self, key: str, data: Data, mode: Literal["overwrite", "create"]) -> bool:
        """Store an object by one request; False where it should be created and was there."""
        # obstore sends a buffer as it is, without a copy.
        try:
            obstore.put(
                self._sender(len(data)), self._path(key), data, mode=mode, use_multipart=False
            )
        except (*_ERRORS, ValueError) as exc:
            # obstore says the same of a 409, by which S3 says that requests met and one should
            # come again.
            is_there = isinstance(exc, exceptions.AlreadyExistsError) and _status_of(exc) != 409
            if mode == "create" and is_there:
                return False
            raise self._translate(exc, key, "write") from None
        return True

    def _sender(self, size_bytes: int) -> Any:
        """The obstore store by which an object of that size is sent."""
        raise NotMappableError

    def delete(self, keys: Sequence[str]) -> None:
        try:
            obstore.delete(self._sender(0), [self._path(key) for key in keys])
        except (FileNotFoundError, exceptions.NotFoundError):
            return  # of one that is asked for alone
        except (*_ERRORS, ValueError) as exc:
            raise self._translate(exc, keys[0], "delete") from None

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        raise NotMappableError  # http has no listing but a page of links, which fsspec reads

    def _translate(self, exc: BaseException, key: str, doing: str = "read") -> Exception:
        if isinstance(exc, exceptions.NotSupportedError | exceptions.InvalidPathError):
            return NotMappableError()
        if isinstance(exc, ValueError):
            return NotMappableError()  # a key that obstore's paths cannot hold, like a//b
        text = str(exc)
        url = self._display(key)
        what = _reason(text)
        status = _status_of(exc)
        code = _CODE.search(text)
        if is_no_room(status, code.group(1) if code else ""):
            return no_room(url, what)
        if isinstance(exc, FileNotFoundError | exceptions.NotFoundError) or status == 404:
            return NotFoundError(f"not found: {url}{what}", url=url)
        if isinstance(exc, _REFUSALS) or status in (401, 403):
            return AccessDeniedError(
                f"access denied: cannot {doing} {url}{what}{self._hint}", url=url
            )
        if any(mark in text for mark in _ASTRAY):
            return AstrayError(f"another region or endpoint holds {url}{what}", url=url)
        if status is not None and 400 <= status < 500 and status not in (408, 409, 425, 429):
            return StorageError(f"the server refused to {doing} {url}{what}", url=url)
        return ServerError(f"the server failed to {doing} {url}{what or _failure(text)}", url=url)


class AstrayError(StorageError):
    """The bucket is in another region than the request was signed for."""


class S3Backend(_ObstoreBackend):
    """One bucket of S3 or of a server that speaks its language."""

    def __init__(
        self, options: Mapping[str, Any], bucket: str, display: Callable[[str], str]
    ) -> None:
        super().__init__(display)
        self._options = options
        self._bucket = bucket
        self._region_lock = threading.Lock()
        self._region_asked = False
        self._make_patient: Callable[[], Any]
        self._patient: Any
        self._connect(None)

    def _connect(self, region: str | None) -> None:
        settings = s3_options.translate(self._options, self._bucket, region=region)
        if settings is None:
            raise NotMappableError
        if settings.looked_for_credentials:
            self._hint = (
                "; no AWS credentials were found, so the request was not signed: set them as for"
                " the AWS command line, or pass storage_options={'key': ..., 'secret': ...}"
            )
        client = _client_options(allow_http=settings.endpoint.startswith("http://"))
        patient = {**client, "read_timeout": client["read_timeout"] * _PATIENCE}
        if settings.ca_bundle is not None:
            client["root_certificate"] = patient["root_certificate"] = settings.ca_bundle
        signing: dict[str, Any] = (
            {"skip_signature": True}
            if settings.credentials is None
            else {"skip_signature": False, "credential_provider": settings.credentials}
        )
        make = partial(
            S3Store,
            self._bucket,
            retry_config=_NO_RETRIES,
            endpoint=settings.endpoint,
            region=settings.region,
            virtual_hosted_style_request=settings.virtual_hosted,
            request_payer=settings.requester_pays,
            **signing,
        )
        self._store = make(client_options=client)  # type: ignore[arg-type]
        # A client is half a megabyte and some milliseconds, and most stores are only read.
        self._make_patient = partial(make, client_options=patient)
        self._patient = None

    def _sender(self, size_bytes: int) -> Any:
        if size_bytes < _LARGE_BYTES:
            return self._store
        if self._patient is None:
            self._patient = self._make_patient()  # two threads may make one each; either will do
        return self._patient

    def _path(self, key: str) -> str:
        path = key[len(self._bucket) + 1 :]
        if path.startswith("/") or path.endswith("/"):
            raise NotMappableError
        return path

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        return self._in_region(lambda: super(S3Backend, self).get(key, start, stop))

    def info(self, key: str) -> Entry:
        return self._in_region(lambda: super(S3Backend, self).info(key))

    def put(self, key: str, data: Data) -> None:
        self._in_region(lambda: super(S3Backend, self).put(key, data))

    def create(self, key: str, data: Data) -> bool:
        return self._in_region(lambda: super(S3Backend, self).create(key, data))

    def delete(self, keys: Sequence[str]) -> None:
        self._in_region(lambda: super(S3Backend, self).delete(keys))

    def list_objects(self, folder: str, stem: str, depth: int | None) -> Iterator[list[Entry]]:
        # `depth` does not help: a flat listing by prefix is what an object store has.
        first = self._in_region(lambda: self._list_from(folder, stem))
        yield from first

    def _list_from(self, folder: str, stem: str) -> Iterator[list[Entry]]:
        prefix = folder[len(self._bucket) + 1 :]
        wanted = stem[len(self._bucket) + 1 :]
        # obstore's prefixes are whole path segments, so the stem goes into start-after, and the
        # listing is left as soon as it is past the stem.
        offset = wanted if len(wanted) > len(prefix) + 1 else None
        try:
            stream = obstore.list(
                self._store, prefix=prefix or None, offset=offset, chunk_size=_LIST_CHUNK
            )
            chunk = next(stream, None)
        except (*_ERRORS, ValueError) as exc:
            raise self._translate(exc, folder) from None
        return self._entries(stream, chunk, wanted, folder)

    def _entries(self, stream: Any, chunk: Any, wanted: str, folder: str) -> Iterator[list[Entry]]:
        while chunk is not None:
            batch = [
                Entry(f"{self._bucket}/{meta['path']}", meta["size"], meta["e_tag"])
                for meta in chunk
                if meta["path"].startswith(wanted)
            ]
            if any(entry.size_bytes == 0 for entry in batch):
                # obstore leaves out the slash at the end of a folder's marker, which then looks
                # like an empty file.
                raise NotMappableError
            if batch:
                yield batch
            # Past the stem. A marker of a folder (exp/, told as exp) sorts before it and is no end.
            if chunk[-1]["path"] > wanted and not chunk[-1]["path"].startswith(wanted):
                return
            try:
                chunk = next(stream, None)
            except _ERRORS as exc:
                raise self._translate(exc, folder) from None

    def _in_region(self, request: Callable[[], T]) -> T:
        """Make the request again in the bucket's own region if the first went astray."""
        try:
            return request()
        except AstrayError:
            with self._region_lock:
                if not self._region_asked:
                    self._region_asked = True
                    region = s3_options.bucket_region(self._options, self._bucket)
                    if region is not None:
                        self._connect(region)
            return request()


class HTTPBackend(_ObstoreBackend):
    """A web server that answers byte ranges."""

    def __init__(self, protocol: str, host: str, display: Callable[[str], str]) -> None:
        super().__init__(display)
        if "@" in host:
            raise NotMappableError
        self._host = host
        self._store = HTTPStore.from_url(
            f"{protocol}://{host}",
            client_options=_client_options(allow_http=protocol == "http"),  # type: ignore[arg-type]
            retry_config=_NO_RETRIES,
        )

    def _path(self, key: str) -> str:
        path = key[len(self._host) + 1 :]
        if not _PLAIN_PATH.fullmatch(path) or "//" in path or path.endswith("/") or not path:
            raise NotMappableError
        return path


_REFUSALS = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    PermissionError,
)
_NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
_ERRORS = (exceptions.BaseError, OSError)


def _client_options(*, allow_http: bool) -> dict[str, Any]:
    limits = settings()
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=limits.timeout_s),
        # A stalled connection is a failure, a slow one is not: no bound on the whole request but
        # one that keeps it from lasting for ever.
        "read_timeout": timedelta(seconds=limits.timeout_s),
        "timeout": timedelta(seconds=60 * limits.timeout_s),
        "user_agent": "cloudimg",
    }


def _version(meta: Any) -> str | None:
    """The ETag, or the time of the last change where a server has none."""
    etag: str | None = meta["e_tag"]
    if etag is None and meta["last_modified"] is not None:
        return str(meta["last_modified"].isoformat())
    return etag


def _status_of(exc: BaseException) -> int | None:
    match = _STATUS.search(str(exc))
    return int(match.group(1)) if match else None


def _reason(text: str) -> str:
    """The server's own words, without the rest of the answer, which may hold key ids."""
    status, code, message = _STATUS.search(text), _CODE.search(text), _MESSAGE.search(text)
    parts = [m.group(1) for m in (status, code, message) if m]
    return f" ({', '.join(parts)})" if parts else ""


def _failure(text: str) -> str:
    lowered = text.lower().rpartition("retry_timeout")[2]  # obstore tells its settings first
    for mark, meaning in (
        ("refused", "connection refused"),
        ("dns", "no such host"),
        ("timed out", "no answer in time"),
        ("timeout", "no answer in time"),
        ("connect", "no connection"),
        ("decoding response body", "the answer broke off"),
        ("incomplete", "the answer broke off"),
        ("certificate", "the server's certificate is not trusted"),
    ):
        if mark in lowered:
            return f" ({meaning})"
    return " (the transfer failed)"
