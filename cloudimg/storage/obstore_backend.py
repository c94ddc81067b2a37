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

import obstore
from obstore import exceptions
from obstore.store import HTTPStore, S3Store

from cloudimg.errors import WrongRegionError
from cloudimg.settings import settings
from cloudimg.storage import s3_options
from cloudimg.storage.base import Blob, Data, Entry, Mover, NotMappableError, Stored
from cloudimg.storage.failures import not_conditional, refuses_conditions
from cloudimg.storage.obstore_errors import FOREIGN, status_of, translate, undeleted_path
from cloudimg.storage.obstore_listing import S3Listing
from cloudimg.storage.obstore_puts import Mode, ObstorePuts
from cloudimg.storage.pages import is_ordered
from cloudimg.storage.put_parameters import has_put_parameters
from cloudimg.storage.versions import unquoted, version_text

T = TypeVar("T")

# Characters that HTTPStore's own percent-encoding leaves unchanged; fsspec reads all other URLs.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/\-]*")
_PATIENCE = 15
"""Read timeouts that the upload of a large object may take, because obstore's timeout for the
response counts from the start of the request. At 0.2 MiB/s, 64 MiB take 320 s."""


class _ObstoreBackend:
    """Requests to one obstore store."""

    checks_pages = False

    def __init__(self, display: Callable[[str], str], hint: str = "") -> None:
        self._display = display
        self._hint = hint
        self._store: Any = None
        self._puts: ObstorePuts | None = None

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
            response = obstore.get(self._store, self._path(key), options=options)  # type: ignore[arg-type]
            data, meta = memoryview(response.bytes()), response.meta
            return Blob(data, response.range[0], meta["size"], _version(meta))
        except FOREIGN as exc:
            if status_of(exc) == 416:
                # The range begins at or past the end of the object.
                return Blob(b"", start if start and start > 0 else 0, None, None)
            failure = self._translate(exc, key)
        raise failure

    def info(self, key: str) -> Entry:
        try:
            meta = obstore.head(self._store, self._path(key))
            return Entry(key, meta["size"], _version(meta))
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
        self,
        folder: str,
        stem: str,
        depth: int | None,
        *,
        after: str = "",
        n_below: int = 0,
    ) -> Iterator[list[Entry]]:
        raise NotMappableError  # http only has pages of links, which fsspec parses

    def _translate(self, exc: BaseException, key: str, action: str = "read") -> Exception:
        return translate(exc, self._display(key), action, self._hint)


class S3Backend(_ObstoreBackend):
    """One bucket of S3, or of a server with its API."""

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

    def list_objects(
        self,
        folder: str,
        stem: str,
        depth: int | None,
        *,
        after: str = "",
        n_below: int = 0,
    ) -> Iterator[list[Entry]]:
        yield from self._in_region(lambda: self._list_from(folder, stem, depth, after, n_below))

    def _list_from(
        self, folder: str, stem: str, depth: int | None, after: str, n_below: int
    ) -> Iterator[list[Entry]]:
        listing = S3Listing(
            self._store,
            self._bucket,
            folder,
            stem,
            depth,
            self._display,
            self._translate,
            n_below=n_below,
        )
        return listing.batches(after)

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


class HTTPBackend(_ObstoreBackend):
    """A web server that serves byte ranges."""

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


_NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}


def _client_options(*, allow_http: bool) -> dict[str, Any]:
    limits = settings()
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=limits.timeout_s),
        # A stalled connection is a failure, a slow one is not: the timeout for a whole request is
        # long, and only ensures that it ends.
        "read_timeout": timedelta(seconds=limits.timeout_s),
        "timeout": timedelta(seconds=60 * limits.timeout_s),
        "user_agent": "cloudimg",
    }


def _version(meta: Any) -> str | None:
    return version_text(meta["e_tag"], meta["last_modified"])
