"""The fast backend of Google Cloud Storage: obstore reads; gcsfs lists and writes.

The version of an object is its generation, whichever library asks. obstore speaks the XML API, and
of its listings it shows the ETags only, which are other texts than those of the JSON API of gcsfs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from obstore.store import GCSStore

from cloudimg.errors import StorageError
from cloudimg.storage import gcs_options
from cloudimg.storage.base import Blob, Entry, NotMappableError
from cloudimg.storage.obstore_backend import NO_RETRIES, ObstoreBackend, client_options
from cloudimg.storage.obstore_errors import code_of
from cloudimg.storage.versions import md5_of_etag

T = TypeVar("T")
_MOST_TRIES = 4


class GCSBackend(ObstoreBackend):
    """One bucket.

    Servers at other endpoints than Google's, such as emulators, may not know the XML API. What they
    do not answer is asked for by gcsfs, until one answer has shown that they do; after a few
    requests without one, gcsfs makes all.

    Parameters
    ----------
    options : mapping
        Options of gcsfs.
    bucket : str
    display : callable
        Returns the URL of a key, for messages.

    Raises
    ------
    NotMappableError
        If obstore cannot express the options.
    """

    def __init__(
        self, options: Mapping[str, Any], bucket: str, display: Callable[[str], str]
    ) -> None:
        super().__init__(display)
        settings = gcs_options.translate(options)
        if settings is None:
            raise NotMappableError
        self._bucket = bucket
        self._credentials = settings.credentials
        self._tries_left = _MOST_TRIES
        self._has_answered = settings.endpoint == gcs_options.GOOGLE
        self._store = GCSStore(
            bucket,
            base_url=settings.endpoint,
            skip_signature=settings.credentials is None,
            credential_provider=None if settings.credentials is None else self._token,  # type: ignore[arg-type]
            client_options=client_options(allow_http=settings.endpoint.startswith("http://")),  # type: ignore[arg-type]
            retry_config=NO_RETRIES,
        )

    def _token(self) -> dict[str, Any]:
        assert self._credentials is not None
        try:
            return self._credentials()
        except Exception:
            # gcsfs can tell what is wrong with them, and whether another try may help.
            self._tries_left, self._has_answered = 0, False
            raise

    def _path(self, key: str) -> str:
        path = key[len(self._bucket) + 1 :]
        if path.startswith("/") or path.endswith("/") or "//" in path:
            raise NotMappableError
        return path

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        return self._made(lambda: super(GCSBackend, self).get(key, start, stop))

    def info(self, key: str) -> Entry:
        return self._made(lambda: super(GCSBackend, self).info(key))

    def _made(self, request: Callable[[], T]) -> T:
        """The answer to a request; raises NotMappableError where gcsfs should make it."""
        if not self._has_answered and self._tries_left <= 0:
            raise NotMappableError
        try:
            answer = request()
        except (StorageError, NotMappableError) as exc:
            failure: Exception = exc
        else:
            self._has_answered = True
            return answer
        # Google refuses requests of the XML API to buckets of Rapid Storage.
        if not self._has_answered or type(failure) is StorageError:
            self._tries_left -= 1
            failure = NotMappableError()
        raise failure

    def _translate(self, exc: BaseException, key: str, action: str = "read") -> Exception:
        if code_of(exc) is not None:
            self._has_answered = True  # a document of the XML API, although it is one of an error
        return super()._translate(exc, key, action)

    def _blob(self, data: memoryview, start: int, meta: Any) -> Blob:
        if not meta["version"]:
            raise NotMappableError
        # The ETag of an object that was stored as a whole is its MD5 in answers of this API:
        # https://cloud.google.com/storage/docs/hashes-etags
        return Blob(data, start, meta["size"], meta["version"], md5_of_etag(meta["e_tag"]))
