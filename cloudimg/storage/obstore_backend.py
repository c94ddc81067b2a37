"""The fast backends: obstore (Rust, outside the interpreter's lock) for S3 and plain http(s).

Its synchronous calls run in our fetching threads: a measured `get` of 1 MiB takes 0.9 ms of CPU
time there, and the response includes size and ETag. `Store` retries, so that all backends retry
in the same way.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import obstore
from obstore import exceptions
from obstore.store import HTTPStore, S3Store

from cloudimg.errors import ServerError, WrongRegionError
from cloudimg.settings import settings
from cloudimg.storage import s3_options
from cloudimg.storage.base import (
    Blob,
    Data,
    Entry,
    Mover,
    NotMappableError,
    Page,
    Stored,
    UnreadableAnswerError,
)
from cloudimg.storage.failures import not_conditional, refuses_conditions
from cloudimg.storage.network import root_certificates
from cloudimg.storage.obstore_errors import FOREIGN, status_of, translate, undeleted_path
from cloudimg.storage.obstore_puts import Mode, ObstorePuts
from cloudimg.storage.pacing import have_come, may_break_off
from cloudimg.storage.pages import is_ordered
from cloudimg.storage.put_parameters import has_put_parameters
from cloudimg.storage.s3_pages import S3Pages
from cloudimg.storage.versions import unquoted, version_text

T = TypeVar("T")

_PART_BYTES = 2**16
"""Bodies that may break off are taken in parts of at least so many bytes."""
_LARGEST_BYTES = 2**30
"""A server that states more is not believed before the bytes have come."""
# Characters that HTTPStore's own percent-encoding leaves unchanged; fsspec reads all other URLs.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/\-]*")
_PATIENCE = 15
"""Read timeouts that the upload of a large object may take, because obstore's timeout for the
response counts from the start of the request. At 0.2 MiB/s, 64 MiB take 320 s."""


class ObstoreBackend:
    """Requests to one obstore store."""

    checks_pages = False

    def __init__(self, display: Callable[[str], str], hint: str = "") -> None:
        self._display = display
        self._hint = hint
        self._store: Any = None
        self._puts: ObstorePuts | None = None
        self._reads = True
        """Whether the answers of the server to requests for bytes can be read."""

    def _path(self, key: str) -> str:
        raise NotImplementedError

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        if not self._reads:
            raise NotMappableError
        options: dict[str, Any] = {}
        if start is not None:
            if start < 0:
                options["range"] = {"suffix": -start}
            elif stop is None:
                options["range"] = {"offset": start}
            else:
                options["range"] = (start, stop)
        try:
            response = obstore.get(self._store, self._path(key), options=options)  # type: ignore[arg-type]
            start_bytes, stop_bytes = response.range
            n_bytes = stop_bytes - start_bytes
            if not (may_break_off() and 2 * _PART_BYTES <= n_bytes <= _LARGEST_BYTES):
                return self._blob(memoryview(response.bytes()), start_bytes, response.meta)
        except FOREIGN as exc:
            if status_of(exc) == 416:
                # The range begins at or past the end of the object.
                return Blob(b"", start if start and start > 0 else 0, None, None)
            failure = self._translate(exc, key)
        else:
            return self._streamed(response, key)
        raise failure

    def _blob(self, data: memoryview, start: int, meta: Any) -> Blob:
        """The answer to a request for bytes."""
        return Blob(data, start, meta["size"], version_of(meta))

    def _streamed(self, response: Any, key: str) -> Blob:
        """The bytes of an answer, taken as they come so that they are not lost if it breaks off.

        Raises
        ------
        StorageError
            With them, see `ServerError.came`.
        """
        start, stop = response.range
        data, n_came = np.empty(stop - start, np.uint8).data, 0
        try:
            for chunk in response.stream(min_chunk_size=_PART_BYTES):
                data[n_came : n_came + len(chunk)] = chunk
                n_came += len(chunk)
                have_come(len(chunk))
        except FOREIGN as exc:
            failure = self._translate(exc, key)
        else:
            return self._blob(data[:n_came], start, response.meta)
        if isinstance(failure, ServerError) and n_came:
            failure.came = self._blob(data[:n_came], start, response.meta)
        raise failure

    def info(self, key: str) -> Entry:
        if not self._reads:
            raise NotMappableError
        try:
            meta = obstore.head(self._store, self._path(key))
            return Entry(key, meta["size"], self._blob(memoryview(b""), 0, meta).etag)
        except FOREIGN as exc:
            failure = self._translate(exc, key)
        raise failure

    def put(self, key: str, data: Data) -> Stored:
        return self._put(key, data, "overwrite")

    def create(self, key: str, data: Data) -> Stored:
        return self._put(key, data, "create")

    def replace(self, key: str, data: Data, version: str) -> Stored:
        return self._put(key, data, {"e_tag": unquoted(version)})

    def _put(self, key: str, data: Data, mode: Mode) -> Stored:
        """Store an object in one request."""
        if self._puts is None:
            raise NotMappableError
        try:
            return self._puts.send(self._path(key), data, mode)
        except FOREIGN as exc:
            if mode != "overwrite" and refuses_conditions(status_of(exc), str(exc)):
                failure: Exception = not_conditional(self._display(key))
            else:
                failure = self._translate(exc, key, "write")
        raise failure

    def delete(self, keys: Sequence[str]) -> None:
        if self._puts is None:
            raise NotMappableError
        try:
            obstore.delete(self._store, [self._path(key) for key in keys])
            return
        except (FileNotFoundError, exceptions.NotFoundError):
            return  # raised only for a list of one
        except FOREIGN as exc:
            undeleted = undeleted_path(exc)
            failed = (key for key in keys if self._path(key) == undeleted)
            failure = self._translate(exc, next(failed, keys[0]), "delete")
        raise failure

    def mover(self) -> Mover:
        raise NotMappableError  # obstore has no tags, and no conditions on copies

    @property
    def lists_in_order(self) -> bool:
        return False

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, n_below: int = 0
    ) -> Iterator[Sequence[Entry]]:
        raise NotMappableError  # http only has pages of links, which fsspec parses

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        raise NotMappableError

    def _translate(self, exc: BaseException, key: str, action: str = "read") -> Exception:
        error = translate(exc, self._display(key), action, self._hint)
        if isinstance(error, UnreadableAnswerError):
            self._reads = False
        return error


class S3Backend(ObstoreBackend):
    """One bucket of S3, or of a server with its API."""

    checks_pages = True

    def __init__(
        self, options: Mapping[str, Any], bucket: str, display: Callable[[str], str]
    ) -> None:
        super().__init__(display)
        self._options = options
        self._bucket = bucket
        self._region_lock = threading.Lock()
        self._has_requested_region = False
        self._connect(None)

    def _connect(self, region: str | None) -> None:
        settings = s3_options.translate(self._options, self._bucket, region=region)
        if settings is None:
            raise NotMappableError
        if settings.looked_for_credentials:
            self._hint = (
                "; no AWS credentials were found, so the request was not signed: configure them as"
                " for the AWS command line, or pass storage_options={'key': ..., 'secret': ...}"
            )
        client = client_options(
            allow_http=settings.endpoint.startswith("http://"), ca_bundle=settings.ca_bundle
        )
        patient = {**client, "read_timeout": client["read_timeout"] * _PATIENCE}
        signing: dict[str, Any] = (
            {"skip_signature": True}
            if settings.credentials is None
            else {"skip_signature": False, "credential_provider": settings.credentials}
        )
        make = partial(
            S3Store,
            self._bucket,
            retry_config=NO_RETRIES,
            endpoint=settings.endpoint,
            # Without it, the variable of this name would be stronger than the endpoint.
            aws_endpoint_url_s3=settings.endpoint,
            region=settings.region,
            virtual_hosted_style_request=settings.virtual_hosted,
            request_payer=settings.requester_pays,
            **signing,
        )

        def make_sender(is_patient: bool, checksum: bool) -> Any:
            checksums = {"checksum_algorithm": "SHA256"} if checksum else {}
            return make(client_options=patient if is_patient else client, **checksums)  # type: ignore[arg-type]

        self._pages = S3Pages(settings, self._bucket, self._display, self._hint)
        self._store = make_sender(False, True)
        self._puts = ObstorePuts(self._store, make_sender)

    def _path(self, key: str) -> str:
        path = key[len(self._bucket) + 1 :]
        if path.startswith("/") or path.endswith("/"):
            raise NotMappableError
        return path

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        return self._in_region(lambda: super(S3Backend, self).get(key, start, stop))

    def info(self, key: str) -> Entry:
        return self._in_region(lambda: super(S3Backend, self).info(key))

    def _put(self, key: str, data: Data, mode: Mode) -> Stored:
        if has_put_parameters(self._options):
            raise NotMappableError  # s3fs sends them
        return self._in_region(lambda: super(S3Backend, self)._put(key, data, mode))

    def delete(self, keys: Sequence[str]) -> None:
        self._in_region(lambda: super(S3Backend, self).delete(keys))

    @property
    def lists_in_order(self) -> bool:
        return is_ordered(self._bucket)

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        if not self.lists_in_order:
            raise NotMappableError
        return self._in_region(lambda: self._pages.page(prefix, after, token, delimiter))

    def _in_region(self, request: Callable[[], T]) -> T:
        """Make a request, and repeat it in the bucket's own region if that is another one."""
        with contextlib.suppress(WrongRegionError):
            return request()
        with self._region_lock:
            if not self._has_requested_region:
                self._has_requested_region = True
                region = s3_options.bucket_region(self._options, self._bucket)
                if region is not None:
                    self._connect(region)
        return request()


class HTTPBackend(ObstoreBackend):
    """A web server that serves byte ranges."""

    def __init__(self, protocol: str, host: str, display: Callable[[str], str]) -> None:
        super().__init__(display)
        if "@" in host:
            raise NotMappableError
        self._host = host
        self._store = HTTPStore.from_url(
            f"{protocol}://{host}",
            client_options=client_options(allow_http=protocol == "http"),  # type: ignore[arg-type]
            retry_config=NO_RETRIES,
        )

    def _path(self, key: str) -> str:
        path = key[len(self._host) + 1 :]
        if not _PLAIN_PATH.fullmatch(path) or "//" in path or path.endswith("/") or not path:
            raise NotMappableError
        return path


NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}


def client_options(*, allow_http: bool, ca_bundle: str | None = None) -> dict[str, Any]:
    """Options of the HTTP client of a store.

    Parameters
    ----------
    allow_http : bool
        Whether the endpoint is one without TLS.
    ca_bundle : str, optional
        A file with authorities to trust, beside those of the system and the environment.
    """
    limits = settings()
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=limits.timeout_s),
        # A stalled connection is a failure, a slow one is not: the timeout for a whole request is
        # long, and only ensures that it ends.
        "read_timeout": timedelta(seconds=limits.timeout_s),
        "timeout": timedelta(seconds=60 * limits.timeout_s),
        "user_agent": "cloudimg",
        **({} if allow_http else root_certificates(ca_bundle)),
    }


def version_of(meta: Any) -> str | None:
    """Version of an object by what obstore says of it."""
    return version_text(meta["e_tag"], meta["last_modified"])
